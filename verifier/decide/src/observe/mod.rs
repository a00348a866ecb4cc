//! Observe: what limits would have done on hosts whose agents only watch.
//!
//! Does: holds the windows of accepted evidence against the plan or grant that was in force at their time
//! ([`Observed::note`]), and adds up what would have been throttled, reclaimed or delayed, for each control of each plan and
//! grant ([`Line`]); says what cannot be told, and why ([`Untold`]).
//! May assume: a [`BoundedLoad`](crate::history::BoundedLoad) of evidence that was accepted; plans and grants as they stood
//! before it.
//! Promises: integer arithmetic; bounded memory per host; nothing is counted that no window shows: a window counts whole or
//! not at all, by its mean, so figures are as fine as windows are, and amounts are the least that a limit would have taken.
//! Must never: count on a host that enforces; take a missing window for an idle one.

mod line;
mod note;
#[cfg(test)]
mod tests;

pub use line::{Cause, Kind, Line, Sum, Untold};
pub use note::{Observation, Observed};
