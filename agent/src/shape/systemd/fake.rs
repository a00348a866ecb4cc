//! A manager in a tree of plain files: what systemd would do there when it is asked.

use std::collections::BTreeMap;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use zbus::zvariant::Value as Variant;

use super::Systemd;
use super::calls::{Manager, UnitSeen};
use super::property::Assignment;
use crate::enforce::group::GroupPath;
use crate::enforce::probe::probe;
use crate::enforce::tests::fake::{CrashAt, leave, refresh};
use crate::enforce::{Device, Groups};
use crate::shape::ShapeError;
use crate::shape::backend::Backend;
use crate::shape::holds::SLICE;
use crate::shape::owners::Owners;

/// The manager, and how it misbehaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeManager {
    pub(crate) root: PathBuf,
    /// It cannot be reached.
    pub(crate) is_away: Arc<AtomicBool>,
    /// Calls that changed something.
    pub(crate) calls: Arc<AtomicUsize>,
    /// When the agent is stopped dead: before or after its n-th change.
    pub(crate) crash: CrashAt,
    /// A file that changes while a process is moved.
    pub(crate) meanwhile: Arc<Mutex<Option<(PathBuf, String)>>>,
    /// The drop-ins that units have besides ours.
    pub(crate) drop_in_paths: Arc<Mutex<Vec<String>>>,
    /// Other names of units.
    pub(crate) aliases: Arc<Mutex<BTreeMap<String, String>>>,
    /// What the last scope was called for people.
    pub(crate) about: Arc<Mutex<String>>,
}

impl FakeManager {
    /// That of the tree below `root`, which gets a systemd.
    pub(crate) fn of(root: &Path) -> Self {
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
        Self { root: root.to_path_buf(), ..Self::default() }
    }

    /// The door through it, with `kernel` for groups of our own.
    pub(crate) fn door(&self, devices: Vec<Device>, kernel: Box<dyn Groups>) -> Box<dyn Backend> {
        let systemd = Systemd::over(&self.root, Box::new(self.clone()), None, devices.clone()).unwrap();
        let parent = GroupPath::parse("/quotary").unwrap();
        let survey = probe(&self.root, &parent);
        let groups = crate::shape::groups::Groups::over(&self.root, survey, &parent, devices, kernel);
        Box::new(Owners::of_cgroups(&self.root, systemd, groups))
    }

    fn base(&self) -> PathBuf {
        self.root.join("sys/fs/cgroup")
    }

    fn dir(&self, unit: &str) -> PathBuf {
        self.base().join(SLICE).join(unit)
    }

    fn transient(&self, unit: &str) -> PathBuf {
        self.root.join("run/systemd/transient").join(format!("{unit}.d"))
    }

    /// The drop-ins that are there.
    pub(crate) fn drop_ins(&self) -> Vec<String> {
        let units = fs::read_dir(self.root.join("run/systemd/transient")).into_iter().flatten().flatten();
        let files = units.flat_map(|unit| fs::read_dir(unit.path()).unwrap().flatten());
        let mut names: Vec<String> = files.map(|file| file.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Scopes in which nobody is any more are gone, with all that was kept of them.
    pub(crate) fn collect(&self) {
        for dir in fs::read_dir(self.base().join(SLICE)).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|text| text.is_empty()) {
                let unit = dir.file_name().unwrap().to_str().unwrap().to_owned();
                fs::remove_dir_all(&dir).unwrap();
                let _ = fs::remove_dir_all(self.transient(&unit));
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce() -> T) -> Result<T, ShapeError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(ShapeError::Bus(Box::new(zbus::Error::Failure("nobody answers".to_owned()))));
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let now = Some(self.crash.steps.fetch_add(1, Ordering::Relaxed)) == self.crash.step;
        if now && !self.crash.after {
            resume_unwind(Box::new("the agent is killed before a call"));
        }
        let done = change();
        if now {
            resume_unwind(Box::new("the agent is killed after a call"));
        }
        Ok(done)
    }

    fn move_in(&self, unit: &str, pid: u32) {
        if let Some((path, text)) = self.meanwhile.lock().unwrap().take() {
            fs::write(path, text).unwrap();
        }
        leave(&self.base(), pid);
        let procs = self.dir(unit).join("cgroup.procs");
        let others = fs::read_to_string(&procs).unwrap_or_default();
        fs::write(procs, format!("{others}{pid}\n")).unwrap();
        refresh(&self.base());
    }

    fn put(&self, unit: &str, assignment: &Assignment) {
        let of_disk = || Vec::<(String, u64)>::try_from(assignment.value.clone()).unwrap().remove(0);
        let number = || match assignment.value {
            Variant::U64(number) => number,
            _ => 0,
        };
        let or_max = |number: u64| if number == u64::MAX { "max".to_owned() } else { number.to_string() };
        let (file, text) = match assignment.name {
            "CPUWeight" => ("cpu.weight", if number() == u64::MAX { "100".to_owned() } else { number().to_string() }),
            "CPUQuotaPerSecUSec" if number() == u64::MAX => ("cpu.max", "max 100000".to_owned()),
            "CPUQuotaPerSecUSec" => ("cpu.max", format!("{} 100000", number() / 10)),
            "MemoryHigh" => ("memory.high", or_max(number())),
            "MemoryLow" => ("memory.low", or_max(number())),
            "IOReadBandwidthMax" | "IOWriteBandwidthMax" => {
                let (path, rate) = of_disk();
                let device = path.strip_prefix("/dev/block/").unwrap();
                ("io.max", format!("{device} rbps={0} wbps={0}\n", or_max(rate)))
            }
            other => unreachable!("{other}"),
        };
        let name = if assignment.name == "CPUQuotaPerSecUSec" { "CPUQuota" } else { assignment.name };
        fs::create_dir_all(self.transient(unit)).unwrap();
        let kept = match assignment.name {
            "CPUQuotaPerSecUSec" => format!("{}%", number() / 10_000),
            "IOReadBandwidthMax" | "IOWriteBandwidthMax" => {
                let (path, rate) = of_disk();
                format!("{path} {}", or_max(rate))
            }
            _ => text.clone(),
        };
        fs::write(self.transient(unit).join(format!("50-{name}.conf")), format!("[Scope]\n{name}={kept}\n")).unwrap();
        fs::write(self.dir(unit).join(file), text).unwrap();
    }
}

impl Manager for FakeManager {
    fn unit(&self, unit: &str) -> Result<Option<UnitSeen>, ShapeError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(ShapeError::Bus(Box::new(zbus::Error::Failure("nobody answers".to_owned()))));
        }
        let control_group = format!("/{SLICE}/{unit}");
        let id = self.aliases.lock().unwrap().get(unit).cloned().unwrap_or_else(|| unit.to_owned());
        let drop_in_paths = self.drop_in_paths.lock().unwrap().clone();
        let seen = UnitSeen {
            id,
            control_group,
            drop_in_paths,
            is_transient: true,
            has_own_network: false,
            slice: SLICE.to_owned(),
            oomd: None,
        };
        Ok(self.dir(unit).is_dir().then_some(seen))
    }

    fn set(&self, unit: &str, assignments: &[Assignment]) -> Result<(), ShapeError> {
        self.change(|| assignments.iter().for_each(|assignment| self.put(unit, assignment)))
    }

    fn reload(&self) -> Result<(), ShapeError> {
        self.change(|| {})
    }

    fn start_scope(&self, scope: &str, slice: &str, pid: u32, about: &str) -> Result<(), ShapeError> {
        assert_eq!(slice, SLICE);
        self.change(|| {
            about.clone_into(&mut self.about.lock().unwrap());
            // A scope whose process is gone by then fails, later on.
            if !self.root.join(format!("proc/{pid}")).is_dir() {
                return;
            }
            fs::create_dir_all(self.dir(scope)).unwrap();
            // Only the memory controller is on before anything asks for another.
            for (name, text) in
                [("memory.high", "max"), ("memory.low", "0"), ("memory.current", "0"), ("cgroup.events", "")]
            {
                fs::write(self.dir(scope).join(name), text).unwrap();
            }
            self.move_in(scope, pid);
        })
    }

    fn attach(&self, unit: &str, pid: u32) -> Result<(), ShapeError> {
        self.change(|| self.move_in(unit, pid))
    }
}
