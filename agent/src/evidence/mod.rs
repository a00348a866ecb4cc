//! What the agent states about its host, and the chain in which it states it.
//!
//! Does: builds an envelope from what was seen and done ([`build`]), within its bounds; keeps the chain of
//! envelopes ([`Chain`]): which was committed last, and which is on its way.
//! May assume: the clock and all contents as arguments; a state directory that nobody else writes in.
//! Promises: an envelope is on disk before a quote covers it, and stays there until the verifier has committed
//! it, so that a crash sends the same one again (wire.md, settled question 2); what did not fit is counted in the
//! envelope, and writes that did not fit stay for the next.
//! Must never: build two different envelopes on one predecessor, except where the verifier has refused the
//! first unread; state something that is not in its arguments.

mod build;
mod chain;
mod fit;

pub use build::{Contents, Frame, build};
pub(crate) use build::{add_event, count_event};
pub use chain::{CHAIN_FILE, Chain, ChainError, Place};
pub use fit::fit;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
