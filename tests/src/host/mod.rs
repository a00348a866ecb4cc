//! A host that tests drive themselves, without the agent: real TPM (swtpm), real TLS, real routes.
//!
//! Does: makes software TPMs that a world's site CA certifies, enrols hosts with that world's verifier, builds
//! envelopes and evidence step by step, so that a test may alter any step; makes keys that no honest agent makes
//! ([`Rogue`]); speaks HTTP over TLS byte by byte where the client would not send what is to be tried ([`RawTls`]).
//! May assume: a [`World`](crate::world::World) that outlives what is made here; that we may open pseudo-terminals.
//! Promises: all files stand in the world's directory; what it starts ends with its guard.
//! Must never: reach into the verifier other than through its routes.

mod driven;
mod enrolling;
mod operator;
mod person;
mod raw;
mod rogue;
mod tls;
mod tpm;

pub use driven::{DrivenHost, backend, boottime_ms, reason_of, request};
pub use enrolling::Candidate;
pub use operator::Operator;
pub use person::as_uid;
pub use raw::{RawReply, RawTls};
pub use rogue::Rogue;
pub use tls::TlsKey;
pub use tpm::SoftTpm;
