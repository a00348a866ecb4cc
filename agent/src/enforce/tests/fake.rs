//! A cgroup tree of plain files, and what the kernel would do in it when a group is made, entered or removed.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quotary_common::envelope::{Hierarchy, Mode};

use crate::enforce::controls::{Controller, Device};
use crate::enforce::groups::{CgroupsRs, Groups};
use crate::enforce::probe::Mount;
use crate::enforce::{Config, Enforcer, KernelError, Outcome};
use crate::state::StateDir;

pub(super) const DISK: Device = Device { major: 254, minor: 0 };

/// A host of plain files.
pub(crate) struct Host {
    temp: tempfile::TempDir,
}

impl Host {
    pub(crate) fn version_2() -> Self {
        let host = Self { temp: in_memory() };
        host.put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        host.put("sys/fs/cgroup/cgroup.subtree_control", "memory pids\n");
        host.put("sys/fs/cgroup/cgroup.procs", "");
        host
    }

    pub(super) fn version_1() -> Self {
        let host = Self { temp: in_memory() };
        for controller in Controller::ALL {
            let name = controller.name(Hierarchy::V1).unwrap();
            fill(&host.path("sys/fs/cgroup").join(name), &[controller], Hierarchy::V1);
        }
        host
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.temp.path().join(relative)
    }

    pub(crate) fn put(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn get(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap().trim().to_owned()
    }

    /// A process that started at tick `start`, in the cgroup `cgroup` of every hierarchy.
    pub(crate) fn process(&self, pid: u32, start: u64, cgroup: &str) {
        let rest = (4..22).map(|n| if n == 4 { "1".to_owned() } else { n.to_string() }).collect::<Vec<_>>().join(" ");
        self.put(&format!("proc/{pid}/stat"), &format!("{pid} (burn) R {rest} {start} 0\n"));
        self.put(&format!("proc/{pid}/status"), &format!("Name:\tburn\nUid:\t{uid}\t0\t0\t0\n", uid = super::UID));
        let lines = format!("4:cpu:{cgroup}\n3:cpuacct:{cgroup}\n2:memory:{cgroup}\n1:blkio:{cgroup}\n0::{cgroup}\n");
        self.put(&format!("proc/{pid}/cgroup"), &lines);
        for dir in self.hierarchy_roots() {
            let dir = dir.join(cgroup.trim_start_matches('/'));
            fs::create_dir_all(&dir).unwrap();
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            fs::write(dir.join("cgroup.procs"), format!("{procs}{pid}\n")).unwrap();
        }
    }

    pub(super) fn exit(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
        for root in self.hierarchy_roots() {
            leave(&root, pid);
            refresh(&root);
        }
    }

    /// Where the process is, in each hierarchy.
    pub(super) fn places(&self, pid: u32) -> Vec<String> {
        let mut places = Vec::new();
        for root in self.hierarchy_roots() {
            for dir in dirs_below(&root) {
                if has(&dir, pid) {
                    places.push(format!("/{}", dir.strip_prefix(&root).unwrap().display()));
                }
            }
        }
        places
    }

    /// The groups of grants that are there, in any hierarchy.
    pub(crate) fn run_groups(&self) -> Vec<PathBuf> {
        let all = self.hierarchy_roots().into_iter().flat_map(|root| dirs_below(&root));
        all.filter(|dir| dir.file_name().unwrap().to_string_lossy().starts_with("run-")).collect()
    }

    pub(super) fn hierarchy_roots(&self) -> Vec<PathBuf> {
        let base = self.path("sys/fs/cgroup");
        if base.join("cgroup.controllers").exists() {
            return vec![base];
        }
        fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    pub(super) fn config(&self, mode: Mode) -> Config {
        Config {
            root: self.temp.path().to_path_buf(),
            state_dir: StateDir::open(self.path("state")).unwrap(),
            mode,
            delegated_parent: None,
            devices: vec![DISK],
        }
    }

    pub(crate) fn open(&self, mode: Mode, now_ms: u64) -> (Enforcer, Outcome) {
        self.open_on(FakeKernel::default(), mode, now_ms)
    }

    pub(super) fn open_on(&self, kernel: FakeKernel, mode: Mode, now_ms: u64) -> (Enforcer, Outcome) {
        Enforcer::open_with(self.config(mode), Box::new(kernel), super::BOOT, now_ms).unwrap()
    }
}

/// A directory where fsync costs nothing: these tests make thousands of steps and need no disk.
pub(crate) fn in_memory() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn dirs_below(root: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![root.to_path_buf()];
    let mut next = 0;
    while next < dirs.len() {
        let below = fs::read_dir(&dirs[next]).unwrap().map(|entry| entry.unwrap());
        dirs.extend(
            below.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()).collect::<Vec<_>>(),
        );
        next += 1;
    }
    dirs
}

fn has(dir: &Path, pid: u32) -> bool {
    fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines().any(|line| line == pid.to_string())
}

pub(crate) fn leave(root: &Path, pid: u32) {
    for dir in dirs_below(root) {
        if has(&dir, pid) {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap();
            let left: String =
                text.lines().filter(|line| *line != pid.to_string()).map(|line| format!("{line}\n")).collect();
            fs::write(dir.join("cgroup.procs"), left).unwrap();
        }
    }
}

/// The files that a new group has.
fn fill(dir: &Path, controllers: &[Controller], hierarchy: Hierarchy) {
    fs::create_dir_all(dir).unwrap();
    let mut files = vec![("cgroup.procs", "")];
    for controller in controllers {
        files.extend(match (controller, hierarchy) {
            (Controller::Cpu, Hierarchy::V2) => vec![("cpu.weight", "100"), ("cpu.max", "max 100000")],
            (Controller::Memory, Hierarchy::V2) => {
                vec![("memory.low", "0"), ("memory.high", "max"), ("memory.max", "max")]
            }
            (Controller::Disk, Hierarchy::V2) => vec![("io.max", "")],
            (Controller::Cpu, _) => {
                vec![("cpu.shares", "1024"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1")]
            }
            (Controller::Memory, _) => vec![("memory.soft_limit_in_bytes", "9223372036854771712")],
            (Controller::Disk, _) => {
                vec![("blkio.throttle.read_bps_device", ""), ("blkio.throttle.write_bps_device", "")]
            }
            (Controller::CpuAccounting, _) => vec![("cpuacct.usage", "0")],
        });
    }
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// When the fake kernel stops the agent dead: before or after its n-th step.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrashAt {
    pub(crate) step: Option<usize>,
    pub(crate) after: bool,
    pub(crate) steps: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
pub(crate) struct FakeKernel {
    pub(super) crash: CrashAt,
    /// A controller whose groups below our parent take no process.
    pub(super) closed: Option<Controller>,
    /// A file that changes while a process is moved.
    pub(super) meanwhile: Option<(PathBuf, String)>,
}

impl FakeKernel {
    pub(super) fn crashing(crash: CrashAt) -> Self {
        Self { crash, ..Self::default() }
    }

    fn step<T>(&self, step: impl FnOnce() -> T) -> T {
        let now = Some(self.crash.steps.fetch_add(1, Ordering::Relaxed)) == self.crash.step;
        if now && !self.crash.after {
            resume_unwind(Box::new("the agent is killed before a step"));
        }
        let done = step();
        if now {
            resume_unwind(Box::new("the agent is killed after a step"));
        }
        done
    }
}

fn fill_version_2(root: &Path, dir: &Path) {
    let mut at = root.to_path_buf();
    for part in dir.strip_prefix(root).unwrap() {
        let enabled = fs::read_to_string(at.join("cgroup.subtree_control")).unwrap().replace('+', "");
        fs::write(at.join("cgroup.subtree_control"), &enabled).unwrap();
        at.push(part);
        if !at.join("cgroup.controllers").exists() {
            let has = |controller: &Controller| {
                controller.name(Hierarchy::V2).is_some_and(|name| enabled.split_whitespace().any(|word| word == name))
            };
            let controllers: Vec<_> = Controller::ALL.into_iter().filter(has).collect();
            fill(&at, &controllers, Hierarchy::V2);
            fs::write(at.join("cgroup.controllers"), &enabled).unwrap();
            fs::write(at.join("cgroup.subtree_control"), "").unwrap();
            fs::write(at.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        }
    }
}

/// Says in every `cgroup.events` whether a process is there or below.
pub(crate) fn refresh(root: &Path) {
    for dir in dirs_below(root).into_iter().filter(|dir| dir.join("cgroup.events").exists()) {
        let inside =
            |dir: &PathBuf| !fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().trim().is_empty();
        let populated = u8::from(dirs_below(&dir).iter().any(inside));
        fs::write(dir.join("cgroup.events"), format!("populated {populated}\nfrozen 0\n")).unwrap();
    }
}

fn empty_of_files(dir: &Path) -> Result<(), KernelError> {
    if fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|text| !text.is_empty()) {
        let source = rustix::io::Errno::BUSY.into();
        return Err(KernelError::Io { step: "remove", path: dir.to_path_buf(), source });
    }
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    Ok(())
}

impl Groups for FakeKernel {
    fn make(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Result<(), KernelError> {
        self.step(|| {
            CgroupsRs.make(mount, hierarchy, dir)?;
            if hierarchy == Hierarchy::V2 {
                fill_version_2(&mount.dir, dir);
            } else if !dir.join("cgroup.procs").exists() {
                fill(dir, &mount.controllers, hierarchy);
            }
            Ok(())
        })
    }

    fn attach(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path, pid: u32) -> Result<(), KernelError> {
        self.step(|| {
            let ours = dir.to_string_lossy().contains("/run-");
            if ours && self.closed.is_some_and(|closed| mount.controllers.contains(&closed)) {
                let source = rustix::io::Errno::INVAL.into();
                return Err(KernelError::Io { step: "attach", path: dir.to_path_buf(), source });
            }
            if let Some((path, text)) = &self.meanwhile {
                fs::write(path, text).unwrap();
            }
            leave(&mount.dir, pid);
            let others = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            // The real step, through the library; a plain file then holds this pid alone.
            CgroupsRs.attach(mount, hierarchy, dir, pid)?;
            fs::write(dir.join("cgroup.procs"), format!("{others}{pid}\n")).unwrap();
            refresh(&mount.dir);
            Ok(())
        })
    }

    fn remove(&self, mount: &Mount, hierarchy: Hierarchy, dir: &Path) -> Result<(), KernelError> {
        self.step(|| {
            empty_of_files(dir)?;
            CgroupsRs.remove(mount, hierarchy, dir)
        })
    }

    fn remove_if_unused(&self, dir: &Path) -> Result<(), KernelError> {
        self.step(|| {
            if dirs_below(dir).len() == 1 {
                empty_of_files(dir)?;
            }
            CgroupsRs.remove_if_unused(dir)
        })
    }
}
