//! What the deployment root says of a verifier's keys.
//!
//! The root is kept offline. It certifies, per verifier, one key for each purpose; whoever pins the root
//! (agents do, from their join token) accepts only keys that stand in such a certificate.

use minicbor::{Decode, Encode};

use crate::cbor::Version;
use crate::envelope::Name;
use crate::id::DeploymentId;
use crate::sign::{PublicKey, Signed, SignedError, SignedForm};

/// A verifier's key certificate, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyCertificate {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The deployment.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The verifier's name within it.
    #[n(2)]
    pub verifier: Name,
    /// Signs grant sets and plans.
    #[n(3)]
    pub grant_key: PublicKey,
    /// Signs audit checkpoints.
    #[n(4)]
    pub log_key: PublicKey,
    /// Until when it holds, Unix ms.
    #[n(5)]
    pub not_after_ms: u64,
    /// Signs attestation results.
    #[n(6)]
    pub result_key: PublicKey,
}

impl SignedForm for KeyCertificate {
    const FORM: &'static str = "keys";
}

/// A key certificate that holds under the pinned root: made only by [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedKeys(KeyCertificate);

impl VerifiedKeys {
    /// What the root certified.
    pub fn certificate(&self) -> &KeyCertificate {
        &self.0
    }
}

/// A key certificate that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not signed by the root.
    #[error("the verifier's key certificate is not the deployment root's")]
    Root(#[source] SignedError),
    /// For another deployment.
    #[error("the verifier's key certificate is for deployment {0}, not ours")]
    Deployment(DeploymentId),
    /// Too old.
    #[error(
        "the verifier's key certificate ended at {not_after_ms} ms (Unix time), now is {now_ms}: have the root sign a new one"
    )]
    Expired {
        /// Its end.
        not_after_ms: u64,
        /// Now.
        now_ms: u64,
    },
}

/// The deployment that a root key stands for: SHA-256 of the key.
pub fn deployment_of(root: &PublicKey) -> DeploymentId {
    DeploymentId::of(&[&root.0])
}

/// Checks a key certificate against the pinned root at `now_ms` (Unix time).
///
/// # Errors
/// [`KeysError`] naming what fails.
pub fn verify(signed: &Signed, root: &PublicKey, now_ms: u64) -> Result<VerifiedKeys, KeysError> {
    let certificate = signed.verify::<KeyCertificate>(root).map_err(KeysError::Root)?;
    if certificate.deployment != deployment_of(root) {
        return Err(KeysError::Deployment(certificate.deployment));
    }
    if certificate.not_after_ms < now_ms {
        return Err(KeysError::Expired { not_after_ms: certificate.not_after_ms, now_ms });
    }
    Ok(VerifiedKeys(certificate))
}
