//! The attackers of wire.md, settled question 4: outside of every program, over real TLS.
//!
//! Does: steals a host's TLS key from its files ([`StolenKey`]); sends evidence with it, or with a key of its own
//! ([`Thief`]); stands on the road between a host and the verifier with a certificate from the deployment's own CA
//! ([`Proxy`]): reads along, alters an envelope after it was quoted, puts another grant set into a reply,
//! or, with the verifier's stolen grant key ([`stolen_grant_key`]), a plan that nobody decided on: without a decision, or with one over something else.
//! May assume: what it has stolen; of the TPM and the agent's and verifier's insides, nothing.
//! Promises: it says what it was answered, and takes part in nothing else.
//! Must never: be helped by a hook in agent or verifier.

mod forge;
mod proxy;
mod stolen;
mod thief;

pub use forge::{Squeeze, altered, forged, squeezed};
pub use proxy::{Altered, Proxy, Scheme, Stolen};
pub use stolen::{StolenCa, StolenKey, stolen_grant_key};
pub use thief::{Attempt, Thief};
