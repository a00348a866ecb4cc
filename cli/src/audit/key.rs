//! Whose log it is: from the deployment root key to the log's key to the checkpoint.

use quotary_common::checkpoint::{VerifiedCheckpoint, origin_of, parse_and_verify};
use quotary_common::keys;
use quotary_common::sign::{PublicKey, Signed};
use quotary_common::wire::CheckpointView;

use crate::credentials::root_key;
use crate::exit::{Code, Failure, with_causes};

/// The log's name and key, as the root certified them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogKey {
    /// The log's name.
    pub(super) origin: String,
    /// The key that signs checkpoints.
    pub(super) key: PublicKey,
    /// Until when the certificate holds, Unix ms.
    pub(super) not_after_ms: u64,
}

/// A checkpoint that holds under the log's key, which holds under this root key.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) checkpoint: VerifiedCheckpoint,
    pub(super) root: PublicKey,
}

/// Checks the key certificate. Its end is not held against it here: a log is read long after it was signed.
pub(super) fn log_key(certificate: &[u8], root: &PublicKey) -> Result<LogKey, String> {
    let signed = Signed::from_bytes(certificate).map_err(|e| with_causes(&e))?;
    let verified = keys::verify(&signed, root, 0).map_err(|e| with_causes(&e))?;
    let certificate = verified.certificate();
    let origin = origin_of(&certificate.deployment);
    Ok(LogKey { origin, key: certificate.log_key, not_after_ms: certificate.not_after_ms })
}

/// Checks what the verifier answered, under the pinned root key or, with none, under the one that it states.
pub(super) fn open(view: &CheckpointView, pinned: Option<&PublicKey>) -> Result<Opened, Failure> {
    let root = match pinned {
        Some(root) => *root,
        None => root_key(&view.root_key)?,
    };
    let refuse = |what: String| Failure::new(Code::Refused, what);
    let key = log_key(&view.keys.0, &root)
        .map_err(|why| refuse(format!("the log's key does not hold under root key {}: {why}", root.hex())))?;
    let checkpoint = parse_and_verify(&view.note, &key.origin, &key.key).map_err(|e| refuse(with_causes(&e)))?;
    Ok(Opened { checkpoint, root })
}
