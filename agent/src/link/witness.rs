//! Checks a checkpoint of the audit log before this host witnesses it. Pure.

use quotary_common::checkpoint::{CheckpointError, origin_of, parse_and_verify};
use quotary_common::consistency::is_prefix;
use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::id::DeploymentId;
use quotary_common::sign::PublicKey;
use quotary_common::wire::NonceReply;

/// An audit log that is not what this host witnessed: a restored or forked log, or a verifier that hides one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogAlarm {
    /// The checkpoint is not the log's.
    #[error("the verifier's audit checkpoint does not hold")]
    Note(#[from] CheckpointError),
    /// It does not follow from what this host has seen.
    #[error(
        "the audit log forked: {} leaves with root {} do not follow from the {} leaves with root {} that this host has seen; ask the operators to compare checkpoints",
        newer.size, newer.root.hex(), older.size, older.root.hex()
    )]
    Fork {
        /// What was seen.
        older: WitnessedCheckpoint,
        /// What came.
        newer: WitnessedCheckpoint,
    },
}

/// The checkpoint in `reply`, if `log_key` signed it and it follows from `base` (what the last committed envelope
/// witnessed, from which the verifier proves) and from `seen` (the newest that was checked here).
///
/// # Errors
/// [`LogAlarm`].
pub fn witness(
    reply: &NonceReply,
    deployment: &DeploymentId,
    log_key: &PublicKey,
    base: Option<WitnessedCheckpoint>,
    seen: Option<WitnessedCheckpoint>,
) -> Result<WitnessedCheckpoint, LogAlarm> {
    let newer = parse_and_verify(&reply.checkpoint, &origin_of(deployment), log_key)?.witnessed();
    if let Some(older) = base
        && !is_prefix(&older, &newer, &reply.consistency)
    {
        return Err(LogAlarm::Fork { older, newer });
    }
    // Both follow from `base`; equal sizes must then have equal roots. A smaller one is an older state of the log,
    // as a stored reply carries it, and is not adopted.
    match seen {
        Some(older) if older.size == newer.size && older.root != newer.root => Err(LogAlarm::Fork { older, newer }),
        Some(older) if older.size > newer.size => Ok(older),
        _ => Ok(newer),
    }
}
