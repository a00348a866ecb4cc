//! TPM 2.0 structures as they come from outside, and signature checks over their raw bytes.
//!
//! Does: reads `TPMS_ATTEST` of a quote, `TPMT_SIGNATURE` and `TPMT_PUBLIC` (TPM 2.0 Library, Part 2: Structures),
//! computes names and the qualified signer, checks a quote's signature under a prepared attestation key.
//! May assume: nothing; every byte is hostile.
//! Promises: every reader is total and bounded: no panic, no recursion, no memory beyond the input's own size;
//! trailing bytes, unknown algorithms and SHA-1 are refused, each with the structure and the offset.
//! Must never: trust a value because it parsed. What a quote states holds only after [`AkKey::verify`] over the
//! very bytes it was read from.

mod attest;
mod cursor;
mod error;
mod hash;
mod name;
mod public;
mod selection;
mod signature;
mod spki;
mod verify;

#[cfg(test)]
mod tests;

pub use attest::{ClockInfo, GENERATED_VALUE, Quote, TYPE_QUOTE};
pub use cursor::Cursor;
pub use error::TpmError;
pub use hash::HashAlg;
pub use name::{TpmName, qualified_signer};
pub use public::{Attributes, Curve, KeyParameters, Scheme, Symmetric, TpmPublic};
pub use selection::{PcrBank, PcrSelection};
pub use signature::Signature;
pub use verify::{AkKey, SignatureFault};
