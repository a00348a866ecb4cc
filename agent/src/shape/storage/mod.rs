//! Storage of targets: the soft limit of the project that a directory's files belong to.
//!
//! Does: moves the soft limit of directories that the configuration gives to units, and puts back what it was; reads it, and
//! what is used, from the file system's own word on the directory (statfs(2)), which needs no capability.
//! May assume: an administrator has given the directory its project; ext4, f2fs or xfs, mounted with project quotas.
//! Promises: of a project nothing but its soft limit for space is changed, and put back only where ours still stands; that needs
//! the file system, and nothing of the directory. A limit outlives a boot, and so does what is known of it: it is put back by the
//! next start of the agent. A hand that is slow or silent delays nothing else.
//! Must never: set a hard limit; give files or directories a project.
//!
//! Why so: docs/decisions/0013-storage-project-quota.md.

mod form;
mod host;
mod note;
mod parse;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use quotary_common::plan::{ShapedControl, Target};

use self::form::Mounted;
pub use self::form::{Directory, Limits, PROJECTS, PutBack, is_directory};
pub(super) use self::host::{bring, look, put_back};
use self::note::Note;
pub use self::note::prior_with;
use super::ShapeError;
use super::backend::{Override, Place, Prior};
use super::controller::{Actual, Value};
use super::hand::{Duty, Hand, HandError, Patience, Reply, Request, Work, hand_for};
use crate::clock;
use crate::enforce::group::GroupPath;

const CONTROL: ShapedControl = ShapedControl::Storage;
/// What the hand says is asked for at most so often, where statfs does not say it, ms.
const ASK_MS: u64 = 10_000;
/// So long after the control of a target was last read nobody asks for what it uses, ms.
const WANTED_MS: u64 = 30_000;
/// Most directories whose fault is told in one sentence.
const TOLD_MAX: usize = 8;

/// Directories that belong to a unit's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The unit.
    pub unit: Target,
    /// Its directory.
    pub directory: Directory,
}

/// One directory.
#[derive(Debug)]
struct Entry {
    assigned: Assigned,
    mounted: Option<Mounted>,
    /// Why its storage cannot be moved, if it is known.
    why_not: Option<String>,
    cgroup: Option<GroupPath>,
    /// What the hand said last, as long as nothing was written since.
    limits: Option<Limits>,
    asked_at_ms: Option<u64>,
    /// Whether the file system knew nothing of the project before the first write.
    was_new: bool,
    /// When somebody last wanted to know of it.
    wanted_at_ms: Cell<Option<u64>>,
}

/// The control.
#[derive(Debug)]
pub struct Storage {
    root: PathBuf,
    hand: Option<Box<dyn Hand>>,
    entries: Vec<Entry>,
    patience: Patience,
    /// When the hand was asked last.
    asked_at_ms: u64,
}

impl Storage {
    /// The control for these directories. Nobody is asked before [`Storage::look_around`].
    pub fn open(root: &Path, assigned: &[Assigned]) -> Self {
        Self::with(root, assigned, None)
    }

    fn with(root: &Path, assigned: &[Assigned], hand: Option<Box<dyn Hand>>) -> Self {
        let entry = |assigned: &Assigned| Entry {
            assigned: assigned.clone(),
            mounted: None,
            why_not: Some("it was not looked at yet".to_owned()),
            cgroup: None,
            limits: None,
            asked_at_ms: None,
            was_new: false,
            wanted_at_ms: Cell::new(None),
        };
        let entries = assigned.iter().map(entry).collect();
        Self { root: root.to_path_buf(), hand, entries, patience: Patience::default(), asked_at_ms: 0 }
    }

    /// Finds out which directories can have it; what keeps the others from it is told in the log.
    pub(super) fn look_around(&mut self) {
        for index in 0..self.entries.len() {
            self.probe(index);
            let Some(Entry { assigned, why_not, limits, .. }) = self.entries.get(index) else { continue };
            let (unit, directory) = (&assigned.unit, &assigned.directory.path);
            match why_not {
                Some(why) => tracing::warn!(%unit, directory, %why, "its storage cannot be moved"),
                None if limits.is_none() => {
                    tracing::warn!(%unit, directory, "the hand for storage is slow: it is asked again when a plan wants it");
                }
                None => {}
            }
        }
        self.rest();
    }

    /// Looks at one directory, and asks for the limits of its project. A hand that is silent says nothing against a directory:
    /// it is asked again when a plan wants it.
    fn probe(&mut self, index: usize) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let directory = entry.assigned.directory.clone();
        match host::mounted(&self.root, &directory.path) {
            Ok(mounted) => entry.mounted = Some(mounted),
            Err(why) => {
                entry.why_not = Some(why);
                return;
            }
        }
        entry.asked_at_ms = Some(clock::boottime_ms());
        let (why_not, limits) = match self.ask_limits(Work::Write, &directory) {
            Ok(limits) => (None, Some(limits)),
            Err(error) if error.is_timeout() => (None, None),
            Err(_) if !self.patience.may(Work::Write, clock::boottime_ms()) => (None, None),
            Err(error) => (Some(error.told()), None),
        };
        if let Some(entry) = self.entries.get_mut(index) {
            (entry.why_not, entry.limits) = (why_not, limits);
        }
    }

    /// Whether any directory has it.
    pub(super) fn is_there(&self) -> bool {
        self.entries.iter().any(|entry| entry.why_not.is_none())
    }

    /// Which directories have it not, and why; `None` where all have.
    pub(super) fn why_not(&self) -> Option<String> {
        if self.entries.is_empty() {
            return Some("no [[shape.storage]] names a directory".to_owned());
        }
        let mut off = self.entries.iter().filter_map(|entry| Some((&entry.assigned.unit, entry.why_not.as_ref()?)));
        let mut told: Vec<String> =
            off.by_ref().take(TOLD_MAX).map(|(unit, why)| format!("not for {unit}: {why}")).collect();
        let more = off.count();
        if more > 0 {
            told.push(format!("not for {more} more"));
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Whether a target has a directory that can have it.
    pub(super) fn has(&self, target: &Target) -> bool {
        self.entries.iter().any(|entry| entry.assigned.unit == *target && entry.why_not.is_none())
    }

    /// What a second brings: new time for the hand.
    pub(super) fn tick(&mut self) {
        self.patience.tick();
        if clock::boottime_ms().saturating_sub(self.asked_at_ms) >= ASK_MS {
            self.rest();
        }
    }

    /// Takes up what the journal knows of a target.
    pub(super) fn recall(&mut self, target: &Target, prior: &Prior) {
        let was_new = Note::in_prior(prior).and_then(|note| note.was_new).unwrap_or(false);
        if let Some(entry) = self.entry_mut(target) {
            entry.was_new = was_new;
        }
    }

    fn ask(&mut self, work: Work, request: &Request) -> Result<Reply, HandError> {
        let from_ms = clock::boottime_ms();
        if !self.patience.may(work, from_ms) {
            return Err(HandError::Refused(
                "the hand for storage is slow: it is asked again a little later".to_owned(),
            ));
        }
        if self.hand.is_none() {
            self.hand = Some(hand_for(&self.root, Duty::Storage).map_err(HandError::Refused)?);
        }
        let reply = self.hand.as_mut().ok_or(HandError::Form)?.ask(request);
        let is_timeout = reply.as_ref().is_err_and(HandError::is_timeout);
        self.asked_at_ms = clock::boottime_ms();
        self.patience.asked(work, from_ms, self.asked_at_ms, is_timeout);
        reply
    }

    fn ask_limits(&mut self, work: Work, directory: &Directory) -> Result<Limits, HandError> {
        match self.ask(work, &Request::LookAtStorage(directory.clone()))? {
            Reply::Storage(limits) => Ok(limits),
            _ => Err(HandError::Form),
        }
    }

    fn rest(&mut self) {
        if let Some(hand) = &mut self.hand {
            hand.rest();
        }
    }

    fn entry_mut(&mut self, target: &Target) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.assigned.unit == *target)
    }

    /// Notes where a target is. Where a plan reads its storage, what it uses is asked for, where statfs cannot say it; and one
    /// that could not have it is looked at again. One target at a time: see [`Patience`].
    pub(super) fn follow(&mut self, target: &Target, place: Option<&Place>) {
        let Some(index) = self.entries.iter().position(|entry| entry.assigned.unit == *target) else { return };
        let now_ms = clock::boottime_ms();
        let is_limited =
            self.entries.get(index).is_some_and(|entry| self.shown(entry).is_some_and(|shown| shown.is_limited));
        let may = self.patience.may(Work::Look, now_ms);
        let Some(entry) = self.entries.get_mut(index) else { return };
        entry.cgroup = place.map(|place| place.cgroup.clone());
        let is_past = |at_ms: Option<u64>, ms: u64| at_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= ms);
        let is_due = !is_past(entry.wanted_at_ms.get(), WANTED_MS) && is_past(entry.asked_at_ms, ASK_MS);
        if !is_due || !may || place.is_none() || (is_limited && entry.why_not.is_none()) {
            return;
        }
        self.probe(index);
        self.rest();
    }

    fn in_cgroup(&self, cgroup: &GroupPath) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.cgroup.as_ref() == Some(cgroup))
    }

    /// What the control of the target in a cgroup shows.
    pub(super) fn actual(&self, cgroup: &GroupPath) -> Actual {
        let Some(entry) = self.in_cgroup(cgroup) else { return Actual::Absent };
        entry.wanted_at_ms.set(Some(clock::boottime_ms()));
        match self.shown(entry) {
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
            Shown { .. } => entry.limits.map(|limits| limits.used_kib.saturating_mul(1024)),
        }
    }

    /// The most that the target in a cgroup may be given, bytes: its own file system's.
    pub(super) fn most_bytes(&self, cgroup: &GroupPath) -> Option<u64> {
        self.in_cgroup(cgroup).and_then(|entry| self.most_of(entry))
    }

    fn most_of(&self, entry: &Entry) -> Option<u64> {
        whole_bytes(&self.root, entry.mounted.as_ref()?).map(|(bytes, _)| below(bytes))
    }

    /// A directory whose project has a limit shows that as its size, where it is less than the file system's.
    fn shown(&self, entry: &Entry) -> Option<Shown> {
        if entry.why_not.is_some() {
            return None;
        }
        let directory = self.root.join(entry.assigned.directory.path.trim_start_matches('/'));
        let (size_bytes, used_bytes) = size_and_use(&directory)?;
        let (whole_bytes, _) = whole_bytes(&self.root, entry.mounted.as_ref()?)?;
        Some(Shown { is_limited: size_bytes < whole_bytes, size_bytes, used_bytes })
    }

    /// Whether an administrator's own soft limit stands there. It is asked for as seldom as what is used.
    pub(super) fn overridden(&mut self, target: &Target) -> Result<Override, ShapeError> {
        let Some(entry) = self.entry_mut(target).filter(|entry| entry.why_not.is_none()) else {
            return Ok(Override::None);
        };
        let (directory, known) = (entry.assigned.directory.clone(), entry.limits);
        let now_ms = clock::boottime_ms();
        let is_fresh = entry.asked_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < ASK_MS);
        let limits = match known.filter(|_| is_fresh) {
            Some(limits) => limits,
            None => {
                let asked = self.ask_limits(Work::Write, &directory);
                self.rest();
                let limits = asked?;
                if let Some(entry) = self.entry_mut(target) {
                    (entry.limits, entry.asked_at_ms) = (Some(limits), Some(now_ms));
                }
                limits
            }
        };
        Ok(if limits.soft_kib == 0 { Override::None } else { Override::Runtime })
    }

    /// What an undo puts back.
    pub(super) fn prior(&mut self, target: &Target) -> Result<Prior, ShapeError> {
        let entry = self.entry_mut(target).ok_or(ShapeError::Unsupported(CONTROL))?;
        let directory = entry.assigned.directory.clone();
        let mounted = entry.mounted.clone().ok_or(ShapeError::Unsupported(CONTROL))?;
        let limits = self.ask_limits(Work::Write, &directory)?;
        if let Some(entry) = self.entry_mut(target) {
            entry.was_new = limits.is_new;
        }
        let value = match limits.soft_kib {
            0 => Value::Unlimited,
            soft_kib => Value::Value(soft_kib.saturating_mul(1024)),
        };
        let note = Some(Note::of(directory, &limits, &mounted).to_bytes());
        Ok(Prior { value, drop_in: None, drop_in_path: None, note })
    }

    /// Sets the soft limit, never to more than shows on its file system.
    pub(super) fn write(&mut self, target: &Target, value: Value) -> Result<(), ShapeError> {
        let entry = self.entries.iter().find(|entry| entry.assigned.unit == *target);
        let entry = entry.ok_or(ShapeError::Unsupported(CONTROL))?;
        let value = match (value, self.most_of(entry)) {
            (Value::Value(bytes), Some(most)) => Value::Value(bytes.min(most)),
            (value, _) => value,
        };
        let request = Request::BringStorage(entry.assigned.directory.clone(), note::soft_kib(value), entry.was_new);
        if let Some(entry) = self.entry_mut(target) {
            // What is known of its limits is old from here on.
            entry.asked_at_ms = None;
        }
        self.ask(Work::Write, &request)?;
        Ok(())
    }

    /// Puts a soft limit back, whatever the configuration says by now, and whatever became of the directory; not where another
    /// writer's stands.
    pub(super) fn undo(&mut self, target: &Target, prior: &Prior) -> Result<(), ShapeError> {
        let wanted = Note::in_prior(prior).ok_or(ShapeError::Unsupported(CONTROL))?.put_back();
        let (soft_kib, directory) = (wanted.soft_kib, wanted.directory.path.clone());
        if let Some(entry) = self.entry_mut(target) {
            (entry.limits, entry.asked_at_ms) = (None, None);
        }
        let reply = self.ask(Work::Undo, &Request::PutBackStorage(wanted));
        self.rest();
        let stands = match reply? {
            Reply::Storage(limits) => limits.soft_kib,
            _ => return Err(HandError::Form.into()),
        };
        if stands != soft_kib {
            tracing::warn!(%target, directory, stands_kib = stands, before_kib = soft_kib,
                "the soft limit is another writer's by now, and is left to them");
        }
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

fn whole_bytes(root: &Path, mounted: &Mounted) -> Option<(u64, u64)> {
    size_and_use(&root.join(mounted.point.trim_start_matches('/')))
}

/// A little less than the whole: a limit of a file system's whole size does not show.
const fn below(bytes: u64) -> u64 {
    bytes / 100 * 99
}

/// What "unlimited" is worth: a little less than the largest of the file systems. Each target has its own beside it
/// ([`Storage::most_bytes`]).
pub fn ceiling_bytes(root: &Path, assigned: &[Assigned]) -> Option<u64> {
    let sizes = assigned.iter().filter_map(|one| {
        let mounted = host::mounted(root, &one.directory.path).ok()?;
        whole_bytes(root, &mounted).map(|(bytes, _)| below(bytes))
    });
    sizes.max()
}
