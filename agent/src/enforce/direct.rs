//! The direct backend: files of our own subtree, each reached from its mount without following a link.
//!
//! Reads and writes control files itself (see `docs/decisions/0004-cgroups-rs.md`); makes, enters and removes
//! groups through [`Groups`]. Decides nothing and journals nothing: its callers do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use quotary_common::envelope::{ControlValue, Hierarchy};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::controls::{Control, Controller, Knob, PERIOD_US, limit, shown};
use super::error::KernelError;
use super::group::GroupPath;
use super::groups::Groups;
use super::probe::{Mount, list};

/// Most bytes read of a control file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most bytes read at once of `cgroup.procs`; what stands behind is read when these were moved out.
const PROCESSES_BYTES_MAX: u64 = 4 << 20;
/// Most groups looked at below one of ours.
const NESTED_MAX: usize = 4_096;
/// How often processes that keep forking are moved out before giving up for now.
const PASSES: usize = 8;

/// The cgroup tree of this host, and our part of it.
#[derive(Debug)]
pub struct Direct {
    hierarchy: Hierarchy,
    mounts: Vec<Mount>,
    groups: Box<dyn Groups>,
}

/// Controllers to be enabled for the children of one cgroup (version 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enabling {
    /// The cgroup; `None` is the root.
    pub at: Option<GroupPath>,
    /// What its `cgroup.subtree_control` shows.
    pub before: ControlValue,
    /// What is to be written there.
    pub after: ControlValue,
}

impl Direct {
    /// The tree of these mounts.
    pub fn new(hierarchy: Hierarchy, mounts: Vec<Mount>, groups: Box<dyn Groups>) -> Self {
        Self { hierarchy, mounts, groups }
    }

    /// Makes a group in every mount.
    ///
    /// # Errors
    /// [`KernelError`] of the first mount where it cannot be made; it may be there in others.
    pub fn make(&self, group: &GroupPath) -> Result<(), KernelError> {
        for mount in &self.mounts {
            self.groups.make(mount, self.hierarchy, &mount.dir.join(group.relative()))?;
            // What the library made by path is what we reach without following a link.
            directory(mount, Some(group))?;
        }
        Ok(())
    }

    /// Whether the group is there in any mount.
    pub fn exists(&self, group: &GroupPath) -> bool {
        self.mounts.iter().any(|mount| directory(mount, Some(group)).is_ok())
    }

    /// What a control shows.
    ///
    /// # Errors
    /// [`KernelError`] when it cannot be read.
    pub fn read(&self, group: &GroupPath, knob: Knob) -> Result<Option<ControlValue>, KernelError> {
        let mount = self.mount_of(group, knob.control)?;
        let raw = read_file(mount, Some(group), knob.control.file_name())?;
        Ok(shown(knob, &raw))
    }

    /// Writes a control.
    ///
    /// # Errors
    /// [`KernelError`] when the kernel refuses.
    pub fn write(&self, group: &GroupPath, knob: Knob, value: &ControlValue) -> Result<(), KernelError> {
        let mount = self.mount_of(group, knob.control)?;
        write_file(mount, Some(group), knob.control.file_name(), value.as_str())
    }

    /// Whether a group above holds a stricter limit than `value`, so that `value` is not what takes effect.
    pub fn is_bounded_above(&self, group: &GroupPath, knob: Knob, value: &ControlValue) -> bool {
        let Ok(mount) = self.mount_of(group, knob.control) else { return false };
        let own = limit(value.as_str(), PERIOD_US).unwrap_or(u64::MAX);
        let mut above = group.parent();
        while let Some(ancestor) = above {
            let period = || read_file(mount, Some(&ancestor), "cpu.cfs_period_us").ok()?.trim().parse().ok();
            let period_us = if knob.control == Control::CpuQuota { period() } else { None };
            let stricter = knob.control.bounded_by().iter().any(|file| {
                let raw = read_file(mount, Some(&ancestor), file).unwrap_or_default();
                limit(&raw, period_us.unwrap_or(PERIOD_US)).is_some_and(|bound| bound < own)
            });
            if stricter {
                return true;
            }
            above = ancestor.parent();
        }
        false
    }

    /// Controllers that must be enabled along our path, so that groups below `parent` have them. Only in the
    /// parent itself, and in the root where the parent stands right below it: what lies between belongs to others.
    pub fn to_enable(&self, parent: &GroupPath) -> Vec<Enabling> {
        let (Hierarchy::V2, Some(mount)) = (self.hierarchy, self.mounts.first()) else { return Vec::new() };
        let root = parent.parent().is_none().then_some(None);
        let places = root.into_iter().chain([Some(parent.clone())]);
        places.filter_map(|at| enabling_at(mount, at)).collect()
    }

    /// Enables controllers, and gives what `cgroup.subtree_control` shows then.
    ///
    /// # Errors
    /// [`KernelError`] when the kernel refuses, for instance because the cgroup has processes of its own.
    pub fn enable(&self, enabling: &Enabling) -> Result<Option<ControlValue>, KernelError> {
        let Some(mount) = self.mounts.first() else { return Ok(None) };
        write_file(mount, enabling.at.as_ref(), "cgroup.subtree_control", enabling.after.as_str())?;
        let raw = read_file(mount, enabling.at.as_ref(), "cgroup.subtree_control")?;
        Ok(ControlValue::new(raw.trim()))
    }

    /// Moves a process into the group, in every mount.
    ///
    /// # Errors
    /// [`KernelError`] of the first mount that refuses; the process is then in some and not in others.
    pub fn attach(&self, group: &GroupPath, pid: u32) -> Result<(), KernelError> {
        for mount in &self.mounts {
            directory(mount, Some(group))?;
            self.groups.attach(mount, self.hierarchy, &mount.dir.join(group.relative()), pid)?;
        }
        Ok(())
    }

    /// Moves a process to where `home` says that it belongs, in every mount; to the root where that fails.
    ///
    /// # Errors
    /// [`KernelError`] of the last mount where not even the root took it. A process that is gone is no error.
    pub fn attach_home(&self, pid: u32, home: impl Fn(&Mount) -> Option<GroupPath>) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        for mount in &self.mounts {
            if let Err(error) = self.send(mount, pid, home(mount).as_ref()) {
                outcome = Err(error);
            }
        }
        outcome
    }

    fn send(&self, mount: &Mount, pid: u32, home: Option<&GroupPath>) -> Result<(), KernelError> {
        let gone = |error: &KernelError| error.errno() == Some(Errno::SRCH);
        if let Some(home) = home.filter(|home| directory(mount, Some(home)).is_ok()) {
            match self.groups.attach(mount, self.hierarchy, &mount.dir.join(home.relative()), pid) {
                Err(error) if !gone(&error) => tracing::debug!(%error, %home, pid, "not taken back, to the root"),
                _ => return Ok(()),
            }
        }
        match self.groups.attach(mount, self.hierarchy, &mount.dir, pid) {
            Err(error) if !gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether no process is in the group or below it. A group that is not there is empty.
    ///
    /// # Errors
    /// [`KernelError`] when that cannot be told: then somebody may be in it.
    pub fn is_empty(&self, group: &GroupPath) -> Result<bool, KernelError> {
        if let (Hierarchy::V2, Some(mount)) = (self.hierarchy, self.mounts.first())
            && let Ok(events) = read_file(mount, Some(group), "cgroup.events")
        {
            return Ok(events.lines().any(|line| line.trim() == "populated 0"));
        }
        for mount in &self.mounts {
            if directory(mount, Some(group)).is_ok() && !inside(&mount.dir.join(group.relative()))?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves every process of the group, and of groups below it, to where `home` says that it belongs.
    ///
    /// # Errors
    /// [`KernelError`] when some are still there.
    pub fn move_out(
        &self,
        group: &GroupPath,
        home: impl Fn(u32, &Mount) -> Option<GroupPath>,
    ) -> Result<(), KernelError> {
        for mount in &self.mounts {
            if directory(mount, Some(group)).is_err() {
                continue;
            }
            self.move_out_of(mount, &mount.dir.join(group.relative()), |pid| home(pid, mount))?;
        }
        Ok(())
    }

    fn move_out_of(
        &self,
        mount: &Mount,
        dir: &Path,
        home: impl Fn(u32) -> Option<GroupPath>,
    ) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        for _ in 0..PASSES {
            let inside = inside(dir)?;
            if inside.is_empty() {
                return Ok(());
            }
            for pid in inside {
                // One that cannot be moved does not keep the others.
                if let Err(error) = self.send(mount, pid, home(pid).as_ref()) {
                    outcome = Err(error);
                }
            }
        }
        outcome.and(Err(KernelError::Busy { path: dir.to_path_buf() }))
    }

    /// Removes the group and those below it, in every mount.
    ///
    /// # Errors
    /// [`KernelError`] of the last mount where it is still there.
    pub fn remove(&self, group: &GroupPath) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        for mount in &self.mounts {
            if directory(mount, Some(group)).is_err() {
                continue;
            }
            let dirs = nested(&mount.dir.join(group.relative()));
            // Innermost first.
            for dir in dirs.iter().rev() {
                if let Err(error) = self.groups.remove(mount, self.hierarchy, dir) {
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Removes the parent of our groups where nobody uses it any more; another agent may.
    ///
    /// # Errors
    /// [`KernelError`] when it is still there in some mount.
    pub fn remove_parent(&self, parent: &GroupPath) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        for mount in &self.mounts {
            if directory(mount, Some(parent)).is_ok()
                && let Err(error) = self.groups.remove_if_unused(&mount.dir.join(parent.relative()))
            {
                outcome = Err(error);
            }
        }
        outcome
    }

    fn mount_of(&self, group: &GroupPath, control: Control) -> Result<&Mount, KernelError> {
        let found = self.mounts.iter().find(|mount| mount.controllers.contains(&control.controller()));
        found.ok_or_else(|| KernelError::Io {
            step: "find the controller of",
            path: PathBuf::from(group.as_str()).join(control.file_name()),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }
}

fn enabling_at(mount: &Mount, at: Option<GroupPath>) -> Option<Enabling> {
    let dir = mount.dir.join(at.as_ref().map_or("", GroupPath::relative));
    let (offered, enabled) = (list(&dir.join("cgroup.controllers")), list(&dir.join("cgroup.subtree_control")));
    let ours = Controller::ALL.into_iter().filter_map(|controller| controller.name(Hierarchy::V2));
    let ours: Vec<&str> = ours.filter(|name| offered.iter().any(|word| word == name)).collect();
    if ours.iter().all(|name| is_enabled(&enabled, name)) {
        return None;
    }
    let before = ControlValue::lossy(&enabled.join(" "));
    // One that is enabled already stays so.
    let after = ours.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    Some(Enabling { at, before, after: ControlValue::lossy(&after) })
}

/// Whether a controller stands in what `cgroup.subtree_control` shows.
pub(super) fn is_enabled(shown: &[String], name: &str) -> bool {
    shown.iter().any(|word| word.trim_start_matches('+') == name)
}

/// The directory of a group, reached part by part from its mount without following a link.
fn directory(mount: &Mount, group: Option<&GroupPath>) -> Result<OwnedFd, KernelError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno: Errno| KernelError::Io {
        step: "reach the cgroup",
        path: mount.dir.join(group.map_or("", GroupPath::relative)),
        source: errno.into(),
    };
    let mut at = openat(CWD, &mount.dir, flags, Mode::empty()).map_err(failed)?;
    for part in group.into_iter().flat_map(GroupPath::parts) {
        at = openat(&at, part, flags, Mode::empty()).map_err(failed)?;
    }
    Ok(at)
}

fn file_error(
    step: &'static str,
    mount: &Mount,
    group: Option<&GroupPath>,
    name: &str,
) -> impl Fn(std::io::Error) -> KernelError {
    let path = mount.dir.join(group.map_or("", GroupPath::relative)).join(name);
    move |source| KernelError::Io { step, path: path.clone(), source }
}

pub(crate) fn read_file(mount: &Mount, group: Option<&GroupPath>, name: &str) -> Result<String, KernelError> {
    let failed = file_error("read", mount, group, name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = openat(directory(mount, group)?, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let mut text = String::new();
    File::from(fd).take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

pub(crate) fn write_file(mount: &Mount, group: Option<&GroupPath>, name: &str, value: &str) -> Result<(), KernelError> {
    let failed = file_error("write", mount, group, name);
    // NONBLOCK: from Linux 6.16 on, lowering `memory.high` then returns before it has reclaimed.
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = openat(directory(mount, group)?, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    File::from(fd).write_all(value.as_bytes()).map_err(failed)
}

/// The group at `dir` and all groups below it, outermost first; links are not followed.
fn nested(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    let mut next = 0;
    while next < found.len() && found.len() < NESTED_MAX {
        for entry in fs::read_dir(&found[next]).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && found.len() < NESTED_MAX {
                found.push(entry.path());
            }
        }
        next += 1;
    }
    found
}

/// The processes in the group at `dir` and in groups below it.
fn inside(dir: &Path) -> Result<Vec<u32>, KernelError> {
    let mut all = Vec::new();
    for dir in nested(dir) {
        let path = dir.join("cgroup.procs");
        let failed = |source| KernelError::Io { step: "read", path: path.clone(), source };
        all.extend(processes(&path, PROCESSES_BYTES_MAX).map_err(failed)?);
    }
    Ok(all)
}

/// The processes in one group, the first `bytes_max` of the file's bytes. A group that is gone by now has none, nor
/// has a threaded one, whose processes stand in its domain.
fn processes(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u32>> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(bytes_max).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) => {
            let gone = [Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP].map(|errno| Some(errno.raw_os_error()));
            return if gone.contains(&error.raw_os_error()) { Ok(Vec::new()) } else { Err(error) };
        }
    }
    // A line that was cut is another pid.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let damaged = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds what is no pid");
    whole.lines().map(|line| line.trim().parse().map_err(damaged)).collect()
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
