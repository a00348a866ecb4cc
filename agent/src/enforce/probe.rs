//! What this host's cgroup tree can do: which hierarchy, which controls, and whether we may write.

use std::fs;
use std::path::{Path, PathBuf};

use quotary_common::cbor::Text;
use quotary_common::envelope::{ControlState, Hierarchy, Support};
use rustix::fs::{Access, access};

use super::controls::{Control, Controller};
use super::group::GroupPath;
use crate::state::durable;

/// Most bytes read of a kernel file that lists controllers.
const LIST_BYTES_MAX: usize = 4096;

/// What enforcement can do on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Which hierarchy carries the controllers; [`Hierarchy::None`] when none is mounted.
    pub hierarchy: Hierarchy,
    /// What each control can do here.
    pub controls: Vec<ControlState>,
    /// Whether groups can be made and controls written.
    pub writable: bool,
    /// Why not, in a sentence, when not.
    pub why_not: Option<String>,
}

impl Capabilities {
    /// What one control can do here.
    pub fn support(&self, control: Control) -> Support {
        let found = self.controls.iter().find(|state| state.control.as_str() == control.file_name());
        found.map_or(Support::Unsupported, |state| state.support)
    }
}

/// A mounted hierarchy that carries controllers of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which of ours; on version 2 all, on version 1 those mounted together.
    pub controllers: Vec<Controller>,
    /// Its root directory, without symbolic links.
    pub dir: PathBuf,
}

/// A look at the tree: what it can do, and where.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What it can do.
    pub capabilities: Capabilities,
    /// Where the controllers are.
    pub mounts: Vec<Mount>,
}

/// Looks at the cgroup tree under `root` (`/` on a host) and says what can be done in groups below `parent`.
///
/// A hybrid host, whose controllers are on version 1, counts as version 1. Changes nothing.
pub fn probe(root: &Path, parent: &GroupPath) -> Survey {
    let base = root.join("sys/fs/cgroup");
    let Ok(base) = fs::canonicalize(&base) else {
        return nothing(format!("{} is not there: no cgroup tree is mounted", base.display()));
    };
    let (hierarchy, mounts) = if base.join("cgroup.controllers").is_file() {
        (Hierarchy::V2, version_2(&base, parent))
    } else {
        (Hierarchy::V1, version_1(&base))
    };
    if mounts.is_empty() {
        return nothing(format!("no controller (cpu, memory, io) is available in {}", base.display()));
    }
    let controls = Control::ALL
        .into_iter()
        .filter(|control| control.hierarchy() == hierarchy)
        .map(|control| ControlState { control: Text::lossy(control.file_name()), support: supported(control, &mounts) })
        .collect();
    let why_not = mounts.iter().find_map(|mount| unwritable(mount, parent));
    let capabilities = Capabilities { hierarchy, controls, writable: why_not.is_none(), why_not };
    Survey { capabilities, mounts }
}

fn nothing(why_not: String) -> Survey {
    let capabilities =
        Capabilities { hierarchy: Hierarchy::None, controls: Vec::new(), writable: false, why_not: Some(why_not) };
    Survey { capabilities, mounts: Vec::new() }
}

/// One mount per directory: `cpu` and `cpuacct` are often links to the same one.
fn version_1(base: &Path) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for controller in Controller::ALL {
        let Some(name) = controller.name(Hierarchy::V1) else { continue };
        let Ok(dir) = fs::canonicalize(base.join(name)) else { continue };
        // A link must not lead out of the tree, and a directory without processes is no hierarchy.
        if !dir.starts_with(base) || !dir.join("cgroup.procs").is_file() {
            continue;
        }
        match mounts.iter_mut().find(|mount| mount.dir == dir) {
            Some(mount) => mount.controllers.push(controller),
            None => mounts.push(Mount { controllers: vec![controller], dir }),
        }
    }
    mounts
}

/// The controllers that groups below `parent` can have: what the nearest existing group above them offers.
fn version_2(base: &Path, parent: &GroupPath) -> Vec<Mount> {
    let offering = if base.join(parent.relative()).is_dir() && parent.parent().is_some() {
        base.join(parent.relative())
    } else {
        // A parent right below the root gets what the root has: we enable it there.
        base.to_path_buf()
    };
    let offered = list(&offering.join("cgroup.controllers"));
    let controllers: Vec<_> = Controller::ALL
        .into_iter()
        .filter(|controller| controller.name(Hierarchy::V2).is_some_and(|name| offered.iter().any(|word| word == name)))
        .collect();
    if controllers.is_empty() { Vec::new() } else { vec![Mount { controllers, dir: base.to_path_buf() }] }
}

/// The words of a kernel file; none when it cannot be read.
pub(crate) fn list(path: &Path) -> Vec<String> {
    let bytes = durable::read(path, LIST_BYTES_MAX).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).split_ascii_whitespace().map(str::to_owned).collect()
}

fn supported(control: Control, mounts: &[Mount]) -> Support {
    let Some(mount) = mounts.iter().find(|mount| mount.controllers.contains(&control.controller())) else {
        return Support::Unsupported;
    };
    // On version 1 the root group shows every control's file. On version 2 it shows none of them.
    let there = control.hierarchy() == Hierarchy::V2 || mount.dir.join(control.file_name()).is_file();
    if there { control.support() } else { Support::Unsupported }
}

fn unwritable(mount: &Mount, parent: &GroupPath) -> Option<String> {
    let nearest = [mount.dir.join(parent.relative()), mount.dir.clone()].into_iter().find(|dir| dir.is_dir())?;
    match access(&nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(errno) => Some(format!(
            "cannot make groups in {}: {}; run the agent as root, or delegate a group to it",
            nearest.display(),
            std::io::Error::from(errno)
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn parent() -> GroupPath {
        GroupPath::parse("/quotary").unwrap()
    }

    fn file(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_unified_tree_is_version_2_with_the_controllers_that_it_has() {
        let temp = tempfile::tempdir().unwrap();
        file(temp.path().join("sys/fs/cgroup/cgroup.controllers"), "cpuset cpu memory pids\n");
        let found = probe(temp.path(), &parent());
        assert_eq!(found.capabilities.hierarchy, Hierarchy::V2);
        assert!(found.capabilities.writable);
        assert_eq!(found.capabilities.support(Control::CpuMax), Support::Effective);
        assert_eq!(found.capabilities.support(Control::DiskMax), Support::Unsupported);
        assert_eq!(found.mounts[0].controllers, [Controller::Cpu, Controller::Memory]);
    }

    #[test]
    fn controllers_mounted_together_are_one_mount_and_a_link_out_of_the_tree_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("sys/fs/cgroup");
        file(base.join("cpu,cpuacct/cgroup.procs"), "");
        file(base.join("cpu,cpuacct/cpu.shares"), "1024");
        symlink("cpu,cpuacct", base.join("cpu")).unwrap();
        symlink("cpu,cpuacct", base.join("cpuacct")).unwrap();
        file(temp.path().join("elsewhere/cgroup.procs"), "");
        symlink(temp.path().join("elsewhere"), base.join("memory")).unwrap();
        let found = probe(temp.path(), &parent());
        assert_eq!(found.capabilities.hierarchy, Hierarchy::V1);
        assert_eq!(found.mounts.len(), 1);
        assert_eq!(found.mounts[0].controllers, [Controller::Cpu, Controller::CpuAccounting]);
        assert_eq!(found.capabilities.support(Control::CpuShares), Support::Effective);
        assert_eq!(found.capabilities.support(Control::CpuQuota), Support::Unsupported);
    }

    #[test]
    fn a_host_without_controllers_says_so() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(probe(temp.path(), &parent()).capabilities.hierarchy, Hierarchy::None);
        fs::create_dir_all(temp.path().join("sys/fs/cgroup/unified")).unwrap();
        let found = probe(temp.path(), &parent()).capabilities;
        assert_eq!((found.hierarchy, found.writable), (Hierarchy::None, false));
        assert!(found.why_not.unwrap().contains("no controller"));
    }
}
