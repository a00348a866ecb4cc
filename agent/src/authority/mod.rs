//! Who decides about policies, as this host holds it, and which plans it therefore takes.
//!
//! Does: learns who decides from the verifier, under the deployment's root ([`learn`], [`Walk`]), and pins it ([`Pin`]);
//! hears from it which quorum decisions are in force ([`hear`]), and keeps these and those that were acted on ([`Kept`]); judges plans by both and by what the host itself sees of their
//! targets ([`Judge`]).
//! May assume: plans that `common::plan` has verified; the root's key as enrolment pinned it; its own files, once they read.
//! Promises: what is pinned never goes back, and is on the disk before anything is judged by it; a decision is on the disk
//! before anything moves by it, and comes into force when it holds under whoever decides then, within its times; a file that does not
//! read is told with what to do, stays where it is, and meanwhile no plan is taken that needs it.
//! Must never: take the verifier's word for a target's unit, cgroup or uid; stand in the way of what ends or goes back to the
//! baseline: none of that is judged.

mod error;
mod hear;
mod judge;
mod kept;
mod learn;
mod pin;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

pub(crate) use self::error::in_a_line;
pub use self::error::{AuthorityError, LearnError, Objection};
pub use self::hear::{Before, Heard, Told, hear};
pub use self::judge::{Judge, Lack, Permit, Seen, Trust};
pub use self::kept::{DECISIONS_FILE, Kept};
pub use self::learn::learn;
pub use self::pin::{PIN_FILE, Pin};
pub use self::walk::Walk;
