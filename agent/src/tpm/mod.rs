//! The TPM of this host: who it is, and quotes from it.
//!
//! **Does**: opens the TPM (a device, a running swtpm, or a software TPM that it makes and runs
//! itself), keeps an attestation key under the endorsement key, quotes PCRs over 32 bytes that the
//! caller gives, opens enrolment credentials, shuts the TPM down in order. One thread, named `tpm`,
//! owns the TPM; callers hold a [`TpmHandle`] and wait no longer than the configured deadline.
//!
//! **May assume**: that nobody else owns the state directory of a software TPM; that the endorsement
//! hierarchy has its default (empty) authorisation; libtss2 with the device or swtpm TCTI; for a
//! software TPM also swtpm, swtpm_setup, and util-linux's setpriv and setsid.
//!
//! **Promises**: sessions are flushed on every path; the AK is ECDSA P-256, restricted, a child of the
//! EK, exempt from dictionary-attack protection, and the EK is used by policy alone, so that lockout
//! never stops a quote; a quote's signature covers the very bytes that are handed out; after any
//! failure the TPM is opened anew; a request that nobody waits for never reaches the TPM; a software
//! TPM dies with the agent, however the agent dies.
//!
//! **Must never**: judge evidence (the verifier does), use a key of the owner hierarchy (its quotes
//! hide resetCount), pass `--allow-signing` to swtpm_setup (the certificate would not match), write
//! a PCR, or clear lockout.
//!
//! libtss2 prints its own errors on stderr. [`TSS_LOG`] silences it; it is read once, so it must stand
//! in the environment before the process starts (the unit file sets it): nothing here can set it, as
//! changing the environment of a running process is not sound.

mod actor;
mod ak;
mod certificates;
mod connection;
mod device;
mod ek;
mod error;
mod pty;
mod quote;
mod software;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

pub use actor::TpmHandle;
pub use connection::{TpmIdentity, TpmStatus};
pub use device::{DEFAULT_DEVICE, EkAlgorithm, RawTpm, TpmAccess, TpmConfig};
pub use error::{Step, TpmError};
pub use quote::{PcrSelection, RawQuote};

/// Environment variable and value that keep libtss2 from printing on stderr.
pub const TSS_LOG: (&str, &str) = ("TSS2_LOG", "all+NONE");
