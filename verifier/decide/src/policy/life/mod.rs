//! The life of a change: proposed, approving, approved, shaping, in force; or rejected, expired, withdrawn, revoked.
//!
//! Does: takes one record and what happened, gives the record as it is then and what follows ([`step`]).
//! May assume: that who is named did it (signatures and rights are checked before), and that a quorum's outcome is of the record's text.
//! Promises: pure; in force only after an approval of the text that is in force, again at the effective time, and never before it; an edit voids
//! what was approved; what is over stays over; time only ever denies. Whatever had begun to move is asked back.
//! Must never: count votes.

mod fault;
mod record;
mod step;

pub use fault::LifeFault;
pub use record::{Ask, Emergency, Record, Reviewed, Revision, State, Times};
pub use step::{Follows, Input, Notice, Step, propose, step};
