//! Making, entering and removing cgroups, through cgroups-rs. What it is not used for, and why, stands in
//! `docs/decisions/0004-cgroups-rs.md`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use cgroups_rs::CgroupPid;
use cgroups_rs::fs::Subsystem;
use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::memory::MemController;
use quotary_common::envelope::Hierarchy;

use super::controls::Controller;
use super::error::KernelError;
use super::probe::Mount;

/// What the kernel does when a directory of the cgroup tree is made, entered or removed: the one thing that a
/// tree of plain files cannot do by itself, and therefore the one seam to the kernel besides the root path.
pub trait Groups: fmt::Debug + Send {
    /// Makes the group at `dir`, and the groups above it that are missing.
    ///
    /// # Errors
    /// [`KernelError`] when it is not there afterwards.
    fn make(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Result<(), KernelError>;

    /// Moves a process, with all its threads, into the group at `dir`.
    ///
    /// # Errors
    /// [`KernelError`]; its number is `ESRCH` when there is no such process.
    fn attach(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path, pid: u32) -> Result<(), KernelError>;

    /// Removes the group at `dir`, which has no processes and no groups below it; briefly tries again while the
    /// kernel still holds it. That it is not there is no error.
    ///
    /// # Errors
    /// [`KernelError`] when it is still there.
    fn remove(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Result<(), KernelError>;

    /// Removes the group at `dir` if nothing is below it and nothing is in it, at once or not at all.
    ///
    /// # Errors
    /// [`KernelError`] when it is still there.
    fn remove_if_unused(&self, dir: &Path) -> Result<(), KernelError>;
}

/// The kernel's cgroup tree, by cgroups-rs.
#[derive(Debug, Clone, Copy, Default)]
pub struct CgroupsRs;

impl CgroupsRs {
    /// The library's handle of a group: of one controller, since all of a mount share the directory.
    fn handle(mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Subsystem {
        let (at, base, v2) = (dir.to_path_buf(), PathBuf::new(), hierarchy == Hierarchy::V2);
        match mount.controllers.first() {
            None | Some(Controller::Cpu) => Subsystem::Cpu(CpuController::new(at, base, v2)),
            Some(Controller::CpuAccounting) => Subsystem::CpuAcct(CpuAcctController::new(at, base)),
            Some(Controller::Memory) => Subsystem::Mem(MemController::new(at, base, v2)),
            Some(Controller::Disk) => Subsystem::BlkIo(BlkIoController::new(at, base, v2)),
        }
    }
}

fn failed(step: &'static str, dir: &Path, source: cgroups_rs::fs::error::Error) -> KernelError {
    KernelError::Group { step, path: dir.to_path_buf(), source }
}

impl Groups for CgroupsRs {
    fn make(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Result<(), KernelError> {
        let handle = Self::handle(mount, hierarchy, dir);
        // Once more: another agent may remove an unused parent between its check and our step.
        let made = handle.to_controller().create().or_else(|_| handle.to_controller().create());
        made.map_err(|source| failed("make the cgroup", dir, source))
    }

    fn attach(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path, pid: u32) -> Result<(), KernelError> {
        Self::handle(mount, hierarchy, dir)
            .to_controller()
            .add_task_by_tgid(&CgroupPid::from(u64::from(pid)))
            .map_err(|source| failed("move a process into", dir, source))
    }

    fn remove(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Result<(), KernelError> {
        Self::handle(mount, hierarchy, dir)
            .to_controller()
            .delete()
            .map_err(|source| failed("remove the cgroup", dir, source))
    }

    fn remove_if_unused(&self, dir: &Path) -> Result<(), KernelError> {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(KernelError::Io { step: "remove the cgroup", path: dir.to_path_buf(), source: error })
            }
            _ => Ok(()),
        }
    }
}
