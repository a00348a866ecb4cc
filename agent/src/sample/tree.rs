//! Which cgroup hierarchies this host has, and where.

use std::path::{Path, PathBuf};

use quotary_common::envelope::Hierarchy;

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h: what `statfs` says of a unified hierarchy.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The cgroup tree under a root path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupTree {
    /// Version 2 alone, mounted here.
    Unified(PathBuf),
    /// Controllers on version 1; on a hybrid host version 2 stands beside them without controllers.
    Legacy(LegacyMounts),
    /// None that can be read.
    Absent,
}

/// Where the controllers of version 1 are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyMounts {
    /// `cpu`: shares, quota, throttling.
    pub cpu: Option<PathBuf>,
    /// `cpuacct`: CPU time used.
    pub cpuacct: Option<PathBuf>,
    /// `memory`.
    pub memory: Option<PathBuf>,
    /// `blkio`.
    pub blkio: Option<PathBuf>,
    /// `name=systemd`: no controller, only systemd's tree of units.
    pub systemd: Option<PathBuf>,
    /// Version 2 of a hybrid host: no controllers, but pressure.
    pub unified: Option<PathBuf>,
}

impl CgroupTree {
    /// Looks at `root`/sys/fs/cgroup: by file system type on the running host (`root` is `/`), else by its files.
    pub fn detect(root: &Path) -> Self {
        let base = root.join("sys/fs/cgroup");
        let is_unified = if root == Path::new("/") { is_cgroup2(&base) } else { has_controllers_file(&base) };
        if is_unified {
            return Self::Unified(base);
        }
        let mount = |names: &[&str]| names.iter().map(|name| base.join(name)).find(|path| path.is_dir());
        let mounts = LegacyMounts {
            cpu: mount(&["cpu", "cpu,cpuacct", "cpuacct,cpu"]),
            cpuacct: mount(&["cpuacct", "cpu,cpuacct", "cpuacct,cpu"]),
            memory: mount(&["memory"]),
            blkio: mount(&["blkio"]),
            systemd: mount(&["systemd"]),
            unified: mount(&["unified"]).filter(|path| has_controllers_file(path)),
        };
        if mounts == LegacyMounts::default() { Self::Absent } else { Self::Legacy(mounts) }
    }

    /// Which hierarchy carries the controllers.
    pub fn hierarchy(&self) -> Hierarchy {
        match self {
            Self::Unified(_) => Hierarchy::V2,
            Self::Legacy(mounts) if mounts.controllers().next().is_some() => Hierarchy::V1,
            Self::Legacy(_) | Self::Absent => Hierarchy::None,
        }
    }

    /// The trees in which systemd's units can be found, best first.
    pub(super) fn unit_trees(&self) -> impl Iterator<Item = &Path> {
        let (unified, legacy) = match self {
            Self::Unified(base) => (Some(base), None),
            Self::Legacy(mounts) => (None, Some(mounts)),
            Self::Absent => (None, None),
        };
        let legacy = legacy.into_iter().flat_map(|mounts| mounts.systemd.iter().chain(mounts.controllers()));
        unified.into_iter().chain(legacy).map(PathBuf::as_path)
    }
}

impl LegacyMounts {
    /// The mounted controllers.
    pub(super) fn controllers(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cpuacct, &self.memory, &self.cpu, &self.blkio].into_iter().flatten()
    }
}

fn is_cgroup2(base: &Path) -> bool {
    rustix::fs::statfs(base).is_ok_and(|statfs| u64::try_from(statfs.f_type) == Ok(CGROUP2_SUPER_MAGIC))
}

fn has_controllers_file(base: &Path) -> bool {
    base.join("cgroup.controllers").is_file()
}
