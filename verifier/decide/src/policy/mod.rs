//! Policy: what applications must and may have, and what a change of it does.
//!
//! Does: reads policy documents ([`read`]), finds what holds for an application on a host ([`PolicyResourceMap`]), compares documents
//! ([`diff`]), judges what a change would do before anyone approves it ([`assess`]), leads a change through its life ([`life`]), says what a
//! change covers ([`covers`]), and watches use against thresholds ([`watch`]).
//! May assume: that what it is told of grants, use and forecasts comes from verified evidence; nothing of documents.
//! Promises: a [`Policy`] has no fault; of several policies the most specific holds, and a tie is told, never broken by chance; what cannot be
//! judged is critical; a change is in force only after it was approved, and an edit voids its approvals.
//! Must never: count votes (that is the quorum's), sign, or let a document lower the criticality of what it does.

mod covers;
mod diff;
mod document;
mod impact;
pub mod life;
mod map;
mod read;
mod running;
mod select;
mod standing;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
pub mod watch;

pub use quotary_common::quorum::criticality::Criticality;

pub use covers::{Covers, CoversFault, covers};
pub use diff::{ApplyError, FieldChange, apply, diff, differences};
pub use document::{DESCRIPTION_BYTES_MAX, DependsOn, Line, Policy, Shaping, Terms, Then, Threshold, WriteError};
pub use impact::*;
pub use map::{Candidate, Holding, PolicyResourceMap, Tie};
pub use read::{Catalogue, read};
pub use running::{Runs, runs_of, units_of};
pub use select::{HostFacts, Place, Selector, Specificity};
pub use standing::{Enforcing, Held, Standing, Unit};
