//! What the journal keeps of a project: all that an undo needs, whatever became of the directory and the configuration. Pure.

use minicbor::{Decode, Encode};
use quotary_common::cbor;

use super::form::{Directory, Limits, Mounted, PutBack, WRITTEN_MAX};
use crate::shape::backend::Prior;
use crate::shape::controller::Value;

/// Most bytes of it.
const BYTES_MAX: usize = 8192;

/// The note. One of a version before has neither mount point nor device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Note {
    #[n(0)]
    pub(super) directory: Directory,
    #[n(1)]
    pub(super) soft_kib: u64,
    /// Where its file system was mounted.
    #[n(2)]
    pub(super) mount_point: Option<String>,
    /// What was mounted there.
    #[n(3)]
    pub(super) device: Option<String>,
    /// Whether the file system knew nothing of the project.
    #[n(4)]
    pub(super) was_new: Option<bool>,
    /// What was written since, KiB: known to an undo, and not to the first journaled note.
    #[n(5)]
    pub(super) written_kib: Option<Vec<u64>>,
}

impl Note {
    pub(super) fn of(directory: Directory, limits: &Limits, mounted: &Mounted) -> Self {
        Self {
            directory,
            soft_kib: limits.soft_kib,
            mount_point: Some(mounted.point.clone()),
            device: Some(mounted.device.clone()),
            was_new: Some(limits.is_new),
            written_kib: None,
        }
    }

    pub(super) fn in_prior(prior: &Prior) -> Option<Self> {
        cbor::from_bytes(prior.note.as_deref()?, BYTES_MAX).ok()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }

    /// What the hand is asked for.
    pub(super) fn put_back(self) -> PutBack {
        let Self { directory, soft_kib, mount_point, device, was_new: _, written_kib } = self;
        PutBack { directory, soft_kib, mount_point, device, written_kib: written_kib.unwrap_or_default() }
    }
}

/// What stood there before, with what was written since: an undo takes nothing away that is another writer's.
pub fn prior_with(prior: &Prior, written: &[Value]) -> Prior {
    let Some(note) = Note::in_prior(prior) else { return prior.clone() };
    let written_kib = written.iter().map(|value| soft_kib(*value)).take(WRITTEN_MAX).collect();
    Prior { note: Some(Note { written_kib: Some(written_kib), ..note }.to_bytes()), ..prior.clone() }
}

/// Limits are set in whole blocks of file systems.
const BLOCK_BYTES: u64 = 4096;

/// A value as a soft limit, KiB; 0 is none.
pub(super) fn soft_kib(value: Value) -> u64 {
    match value {
        Value::Unlimited => 0,
        Value::Value(bytes) => (bytes / BLOCK_BYTES).max(1) * (BLOCK_BYTES / 1024),
    }
}
