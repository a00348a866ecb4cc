//! The way to the verifier: one exchange of evidence at a time.
//!
//! Does: asks for a nonce, has the envelope on its way quoted, sends the evidence, checks what comes back
//! ([`exchange`]); says what a refusal means for the next try ([`classify`]) and when that is ([`Backoff`]).
//! May assume: nothing about the verifier but the keys that the deployment root certified.
//! Promises: a grant set is handed on only after [`quotary_common::grant::verify`], a checkpoint only after its
//! signature and its consistency with the last one that this host witnessed; the chain moves only with a verified
//! grant set, so that a reply that was lost or altered on the way is asked for again.
//! Must never: apply anything, sleep, or try again on its own beyond a fresh nonce.

mod backoff;
mod exchange;
mod logs;
mod position;
mod refusal;
mod witness;

pub use backoff::Backoff;
pub use exchange::{Answer, Exchange, LinkError, exchange};
pub use logs::{MeasuredLogs, ReadLogs};
pub use position::{Position, position};
pub use refusal::{Reaction, classify};
pub use witness::{LogAlarm, witness};

#[cfg(test)]
mod tests;
