//! Storage of targets: the soft limit of the project that a directory's files belong to.
//!
//! Does: moves the soft limit of directories that the configuration gives to units, and puts back what it was; reads it, and
//! what is used, from the file system's own word on the directory (statfs(2)), which needs no capability.
//! May assume: an administrator has given the directory its project; ext4, f2fs or xfs, mounted with project quotas.
//! Promises: of a project nothing but its soft limit for space is changed; a limit outlives a boot, and so does what is known of
//! it: it is put back by the next start of the agent.
//! Must never: set a hard limit; give files or directories a project.
//!
//! Why so: docs/decisions/0013-storage-project-quota.md.

mod form;
mod host;
mod parse;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use quotary_common::cbor;
use quotary_common::plan::{ShapedControl, Target};

pub use self::form::{Directory, Limits, PROJECTS, is_directory};
pub(super) use self::host::{bring, look};
use super::ShapeError;
use super::backend::{Place, Prior};
use super::controller::{Actual, Value};
use super::hand::{Duty, Hand, HandError, Reply, Request, hand_for};
use crate::clock;
use crate::enforce::group::GroupPath;

const CONTROL: ShapedControl = ShapedControl::Storage;
/// Most bytes of what the journal keeps of a directory.
const NOTE_BYTES_MAX: usize = 4096;
/// What is used is asked for at most so often where statfs does not say it, ms.
const ASK_MS: u64 = 10_000;
/// Limits are set in whole blocks of file systems.
const BLOCK_BYTES: u64 = 4096;

/// Directories that belong to a unit's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The unit.
    pub unit: Target,
    /// Its directory.
    pub directory: Directory,
}

/// What the journal keeps: all that an undo needs, whatever the configuration says by then.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Note {
    #[n(0)]
    directory: Directory,
    #[n(1)]
    soft_kib: u64,
}

/// One directory.
#[derive(Debug)]
struct Entry {
    assigned: Assigned,
    mount_point: PathBuf,
    cgroup: Option<GroupPath>,
    used_bytes: Option<u64>,
    asked_at_ms: Option<u64>,
}

/// The control.
#[derive(Debug)]
pub struct Storage {
    root: PathBuf,
    hand: Option<Box<dyn Hand>>,
    entries: Vec<Entry>,
    why_not: Option<String>,
}

impl Storage {
    /// The control for the directories that can have it; what keeps the others from it is told in the log.
    pub fn open(root: &Path, assigned: &[Assigned]) -> Self {
        Self::with(root, assigned, None)
    }

    fn with(root: &Path, assigned: &[Assigned], hand: Option<Box<dyn Hand>>) -> Self {
        let mut storage = Self { root: root.to_path_buf(), hand, entries: Vec::new(), why_not: None };
        for assigned in assigned {
            match storage.entry(assigned) {
                Ok(entry) => storage.entries.push(entry),
                Err(why) => {
                    tracing::warn!(unit = %assigned.unit, directory = assigned.directory.path, %why, "its storage cannot be moved");
                    storage.why_not.get_or_insert(why);
                }
            }
        }
        if assigned.is_empty() {
            storage.why_not = Some("no [[shape.storage]] names a directory".to_owned());
        }
        storage.rest();
        storage
    }

    fn entry(&mut self, assigned: &Assigned) -> Result<Entry, String> {
        let mounted = host::mounted(&self.root, &assigned.directory.path)?;
        let limits = self.ask_limits(&assigned.directory).map_err(|error| error.told())?;
        Ok(Entry {
            assigned: assigned.clone(),
            mount_point: self.root.join(mounted.point.trim_start_matches('/')),
            cgroup: None,
            used_bytes: Some(limits.used_kib.saturating_mul(1024)),
            asked_at_ms: Some(clock::boottime_ms()),
        })
    }

    /// Why the host has it not; `None` where some directory has.
    pub(super) fn why_not(&self) -> Option<String> {
        if self.entries.is_empty() { self.why_not.clone() } else { None }
    }

    /// Whether a target has a directory.
    pub(super) fn has(&self, target: &Target) -> bool {
        self.entries.iter().any(|entry| entry.assigned.unit == *target)
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        if self.hand.is_none() {
            self.hand = Some(hand_for(&self.root, Duty::Storage).map_err(HandError::Refused)?);
        }
        self.hand.as_mut().ok_or(HandError::Form)?.ask(request)
    }

    fn ask_limits(&mut self, directory: &Directory) -> Result<Limits, HandError> {
        match self.ask(&Request::LookAtStorage(directory.clone()))? {
            Reply::Storage(limits) => Ok(limits),
            _ => Err(HandError::Form),
        }
    }

    fn rest(&mut self) {
        if let Some(hand) = &mut self.hand {
            hand.rest();
        }
    }

    fn index_of(&self, target: &Target) -> Option<usize> {
        self.entries.iter().position(|entry| entry.assigned.unit == *target)
    }

    /// Notes where a target is, and what it uses where statfs cannot say it.
    pub(super) fn follow(&mut self, target: &Target, place: Option<&Place>) {
        let Some(index) = self.index_of(target) else { return };
        let now_ms = clock::boottime_ms();
        let is_limited =
            self.entries.get(index).is_some_and(|entry| self.shown(entry).is_some_and(|shown| shown.is_limited));
        let Some(entry) = self.entries.get_mut(index) else { return };
        entry.cgroup = place.map(|place| place.cgroup.clone());
        let is_due = entry.asked_at_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= ASK_MS);
        if is_limited || !is_due || place.is_none() {
            return;
        }
        entry.asked_at_ms = Some(now_ms);
        let directory = entry.assigned.directory.clone();
        let used = self.ask_limits(&directory).ok().map(|limits| limits.used_kib.saturating_mul(1024));
        if let Some(entry) = self.entries.get_mut(index) {
            entry.used_bytes = used;
        }
        self.rest();
    }

    fn in_cgroup(&self, cgroup: &GroupPath) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.cgroup.as_ref() == Some(cgroup))
    }

    /// What the control of the target in a cgroup shows.
    pub(super) fn actual(&self, cgroup: &GroupPath) -> Actual {
        match self.in_cgroup(cgroup).and_then(|entry| self.shown(entry)) {
            None => Actual::Absent,
            Some(Shown { is_limited: false, .. }) => Actual::Unlimited,
            Some(shown) => Actual::Value(shown.size_bytes),
        }
    }

    /// What the target in a cgroup uses, bytes.
    pub(super) fn used_bytes(&self, cgroup: &GroupPath) -> Option<u64> {
        let entry = self.in_cgroup(cgroup)?;
        match self.shown(entry)? {
            Shown { is_limited: true, used_bytes, .. } => Some(used_bytes),
            Shown { .. } => entry.used_bytes,
        }
    }

    /// A directory whose project has a limit shows that as its size, where it is less than the file system's.
    fn shown(&self, entry: &Entry) -> Option<Shown> {
        let directory = self.root.join(entry.assigned.directory.path.trim_start_matches('/'));
        let (size_bytes, used_bytes) = size_and_use(&directory)?;
        let (whole_bytes, _) = size_and_use(&entry.mount_point)?;
        Some(Shown { is_limited: size_bytes < whole_bytes, size_bytes, used_bytes })
    }

    /// What an undo puts back.
    pub(super) fn prior(&mut self, target: &Target) -> Result<Prior, ShapeError> {
        let index = self.index_of(target).ok_or(ShapeError::Unsupported(CONTROL))?;
        let entry = self.entries.get(index).ok_or(ShapeError::Unsupported(CONTROL))?;
        let directory = entry.assigned.directory.clone();
        let soft_kib = self.ask_limits(&directory)?.soft_kib;
        let value = if soft_kib == 0 { Value::Unlimited } else { Value::Value(soft_kib.saturating_mul(1024)) };
        let note = Some(cbor::to_bytes(&Note { directory, soft_kib }));
        Ok(Prior { value, drop_in: None, drop_in_path: None, note })
    }

    /// Sets the soft limit.
    pub(super) fn write(&mut self, target: &Target, value: Value) -> Result<(), ShapeError> {
        let entry = self.entries.iter().find(|entry| entry.assigned.unit == *target);
        let directory = entry.ok_or(ShapeError::Unsupported(CONTROL))?.assigned.directory.clone();
        let soft_kib = match value {
            Value::Unlimited => 0,
            Value::Value(bytes) => (bytes / BLOCK_BYTES).max(1) * (BLOCK_BYTES / 1024),
        };
        self.ask(&Request::BringStorage(directory, soft_kib))?;
        Ok(())
    }

    /// Puts a soft limit back, whatever the configuration says by now.
    pub(super) fn undo(&mut self, prior: &Prior) -> Result<(), ShapeError> {
        let note = prior.note.as_deref().and_then(|note| cbor::from_bytes::<Note>(note, NOTE_BYTES_MAX).ok());
        let Note { directory, soft_kib } = note.ok_or(ShapeError::Unsupported(CONTROL))?;
        self.ask(&Request::BringStorage(directory, soft_kib))?;
        self.rest();
        Ok(())
    }
}

/// A directory by statfs.
#[derive(Debug, Clone, Copy)]
struct Shown {
    is_limited: bool,
    size_bytes: u64,
    used_bytes: u64,
}

fn size_and_use(path: &Path) -> Option<(u64, u64)> {
    let facts = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    Some((bytes(facts.f_blocks), bytes(facts.f_blocks.saturating_sub(facts.f_bfree))))
}

/// What "unlimited" is worth: a little less than the largest of the file systems, since a limit of its whole size does not show.
pub fn ceiling_bytes(root: &Path, assigned: &[Assigned]) -> Option<u64> {
    let sizes = assigned.iter().filter_map(|one| {
        let mounted = host::mounted(root, &one.directory.path).ok()?;
        size_and_use(&root.join(mounted.point.trim_start_matches('/'))).map(|(bytes, _)| bytes / 100 * 99)
    });
    sizes.max()
}
