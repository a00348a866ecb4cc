//! Shape: drafts shaping plans, and keeps track of where they stand.
//!
//! Does: makes a plan of what an operator asks for ([`draft`]), makes those that lead to what a change says ([`plans_of`]), keeps each plan with what its host told of it
//! ([`PlanRecord`]), decides when one is over, and what follows
//! while one runs ([`Steered`]).
//! May assume: that a caller had the right to ask; that evidence it is told of was accepted.
//! Promises: every plan that it gives has passed [`quotary_common::plan::check`]; one target has one plan at most; a
//! plan's generation is greater than that of every plan before it for the same target.
//! Must never: sign, or name a value that the host did not find, and that no operator and no policy asked for.

mod again;
mod book;
mod draft;
mod frame;
mod of_change;
pub mod phase;
mod record;
pub mod rollout;
mod settle;
mod steer;
#[cfg(test)]
mod tests;
mod unenforced;

pub use again::{plan_again, plan_still};
pub use book::PlanBook;
pub use draft::{Asked, draft};
pub use of_change::{HostNow, Planned, Scene, UnitPlan, Wanted, Way, Without, plans_of};
pub use record::{PlanRecord, PlanTold, PlanWrite};
pub use settle::{Behind, Ruling, Settled, settle};
pub use steer::{Steered, Steps};
pub use unenforced::unenforced;
