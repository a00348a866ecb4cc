//! The kernel's cgroups, read and (below our own groups only) tidied: by ourselves, not through the agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

const TIDY_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// Set to `1` where tests that need writable cgroups may be left out.
const WITHOUT_CGROUPS: &str = "QUOTARY_WITHOUT_CGROUPS";

/// Where the kernel's cgroup hierarchies are mounted.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// Mount point per controller (version 1).
    legacy: BTreeMap<String, PathBuf>,
    /// Mount point of version 2.
    unified: Option<PathBuf>,
}

impl Kernel {
    /// As `/proc/mounts` says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find() -> Result<Self> {
        Ok(Self::of_mounts(&std::fs::read_to_string("/proc/mounts").context("/proc/mounts cannot be read")?))
    }

    fn of_mounts(text: &str) -> Self {
        let mut kernel = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, kind, options, ..] = fields[..] else { continue };
            match kind {
                "cgroup2" => kernel.unified = Some(PathBuf::from(point)),
                "cgroup" => {
                    for option in options.split(',') {
                        kernel.legacy.entry(option.to_owned()).or_insert_with(|| PathBuf::from(point));
                    }
                }
                _ => {}
            }
        }
        kernel
    }

    /// The file of a control or counter (named as the kernel does, such as `cpu.max`) of a group (`/a/b`): in the
    /// hierarchy of the controller that its name begins with.
    pub fn file(&self, group: &str, name: &str) -> Option<PathBuf> {
        let controller = name.split('.').next().unwrap_or_default();
        let base = self.legacy.get(controller).or(self.unified.as_ref())?;
        Some(base.join(group.trim_start_matches('/')).join(name))
    }

    /// What that file holds, trimmed; `None` where it does not exist.
    pub fn read(&self, group: &str, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(group, name)?).ok().map(|text| text.trim().to_owned())
    }

    /// CPU time that the group has used, microseconds.
    pub fn cpu_used_us(&self, group: &str) -> Option<u64> {
        match self.read(group, "cpuacct.usage") {
            Some(ns) => ns.parse::<u64>().ok().map(|ns| ns / 1000),
            None => self.counter(group, "cpu.stat", "usage_usec"),
        }
    }

    /// In how many periods the kernel held the group back by its CPU quota.
    pub fn times_throttled(&self, group: &str) -> Option<u64> {
        self.counter(group, "cpu.stat", "nr_throttled")
    }

    /// Memory that the group uses, bytes.
    pub fn memory_used_bytes(&self, group: &str) -> Option<u64> {
        let text = self.read(group, "memory.usage_in_bytes").or_else(|| self.read(group, "memory.current"))?;
        text.parse().ok()
    }

    fn counter(&self, group: &str, name: &str, key: &str) -> Option<u64> {
        let text = self.read(group, name)?;
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    }

    /// The directories of a group in all hierarchies, as far as they exist.
    pub fn directories(&self, group: &str) -> Vec<PathBuf> {
        let relative = group.trim_start_matches('/');
        let mut bases: Vec<&PathBuf> = self.legacy.values().chain(&self.unified).collect();
        bases.sort_unstable();
        bases.dedup();
        bases.into_iter().map(|base| base.join(relative)).filter(|path| path.is_dir()).collect()
    }

    /// Whether we may make groups here whose CPU can be limited: makes an empty group at `probe` and removes it.
    pub fn lets_us_limit(&self, probe: &str) -> bool {
        // One of the two exists: which one, the version of the hierarchy says.
        let (Some(shares), Some(weight)) = (self.file(probe, "cpu.shares"), self.file(probe, "cpu.weight")) else {
            return false;
        };
        let writable = |control: &PathBuf| std::fs::OpenOptions::new().write(true).open(control).is_ok();
        let is_made = shares.parent().is_some_and(|group| std::fs::create_dir(group).is_ok());
        let may = is_made && [shares, weight].iter().any(writable);
        if is_made {
            self.tidy(probe);
        }
        may
    }

    /// The same for a test that shows nothing without: where nothing can be limited it fails, unless `QUOTARY_WITHOUT_CGROUPS` is `1`.
    ///
    /// # Errors
    /// When nothing can be limited and nobody said that this may be left out.
    pub fn lets_us_limit_or_is_left_out(&self, probe: &str) -> Result<bool> {
        let may = self.lets_us_limit(probe);
        let is_left_out = std::env::var_os(WITHOUT_CGROUPS).is_some_and(|value| value == "1");
        ensure!(
            may || is_left_out,
            "no cgroup can be written here: run as root where the hierarchy is writable, or set {WITHOUT_CGROUPS}=1 to leave out what needs it"
        );
        if !may {
            eprintln!("note: no writable cgroups here, {WITHOUT_CGROUPS}=1: nothing is tried");
        }
        Ok(may)
    }

    /// Ends what runs in a group of ours and below it, and removes it. Called when nobody looks after it any more.
    pub fn tidy(&self, group: &str) {
        let deadline = Instant::now() + TIDY_PATIENCE;
        loop {
            for directory in self.directories(group) {
                tidy_tree(&directory);
            }
            if self.directories(group).is_empty() || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The groups of a tree, the innermost first: their processes are killed, then they are removed.
fn tidy_tree(root: &Path) {
    let mut all = vec![root.to_owned()];
    let mut next = 0;
    while let Some(directory) = all.get(next).cloned() {
        next += 1;
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        all.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    for directory in all.iter().rev() {
        let members = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse::<i32>().ok()).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = std::fs::remove_dir(directory);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_looked_for_where_its_controller_is() {
        let hybrid = "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n";
        let kernel = Kernel::of_mounts(hybrid);
        assert_eq!(kernel.file("/q/run", "cpu.shares").unwrap(), Path::new("/c/cpu,cpuacct/q/run/cpu.shares"));
        assert_eq!(kernel.file("/q", "memory.high").unwrap(), Path::new("/c/unified/q/memory.high"));
        assert!(Kernel::of_mounts("proc /proc proc rw 0 0").file("/q", "cpu.max").is_none());
    }

    #[test]
    fn without_a_cpu_controller_nothing_can_be_limited_and_no_group_stays() {
        assert!(!Kernel::default().lets_us_limit("/probe"));
        let is_left_out = std::env::var_os(WITHOUT_CGROUPS).is_some_and(|value| value == "1");
        let told = Kernel::default().lets_us_limit_or_is_left_out("/probe").map_err(|why| why.to_string());
        match told {
            Ok(may) => assert!(is_left_out && !may),
            Err(why) => assert!(!is_left_out && why.contains(WITHOUT_CGROUPS)),
        }
        let temp = tempfile::tempdir().unwrap();
        let kernel = Kernel { legacy: BTreeMap::new(), unified: Some(temp.path().to_owned()) };
        assert!(!kernel.lets_us_limit("/probe"));
        assert!(!temp.path().join("probe").exists());
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let temp = tempfile::tempdir().unwrap();
        let group = temp.path().join("q");
        std::fs::create_dir(&group).unwrap();
        std::fs::write(group.join("cpu.stat"), "usage_usec 70\nnr_throttled 3\nthrottled_usec 9\n").unwrap();
        let kernel = Kernel { legacy: BTreeMap::new(), unified: Some(temp.path().to_owned()) };
        assert_eq!((kernel.cpu_used_us("/q"), kernel.times_throttled("/q")), (Some(70), Some(3)));
        assert_eq!(kernel.memory_used_bytes("/q"), None);
        assert_eq!(kernel.directories("/q"), [group]);
    }
}
