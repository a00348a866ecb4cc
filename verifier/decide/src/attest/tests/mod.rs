//! Tests of the room: a small software TPM that signs whatever it is told, an authority that certifies whatever it is
//! told, and quotes, certificates and credentials of real TPMs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod adversarial;
mod appraisal;
pub(crate) mod authority;
mod certificate;
mod chain_bounds;
mod credential;
mod enrolment;
mod findings;
mod hostile;
mod logs;
mod order;
mod out_of_order;
mod pending;
mod recorded;
mod scene;
pub(crate) mod software_tpm;
mod stages;
mod userspace;

use std::path::Path;

/// A file of `tests/data/attestation/`.
pub(crate) fn data(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/attestation").join(path)).unwrap()
}
