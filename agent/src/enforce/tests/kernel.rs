//! On this machine's kernel, where it lets us: version 1 controllers, as root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quotary_common::envelope::{EnforcementWrite, Hierarchy, Mode};

use super::*;
use crate::enforce::{Config, EndReason, Enforcer, process, whole_disks};
use crate::state::StateDir;

/// Who runs the tests, and so the processes that they start.
fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

const ID: GrantId = GrantId::new([1; 32]);

/// A parent of our own in the real tree; removed when dropped, whatever happened.
struct Ground {
    temp: tempfile::TempDir,
    parent: String,
}

impl Ground {
    /// `None`, with a note, where this machine has no writable version 1 controllers.
    fn new(name: &str) -> Option<Self> {
        let ground =
            Self { temp: tempfile::tempdir().unwrap(), parent: format!("/quotary-test-{}-{name}", std::process::id()) };
        let (enforcer, _) = ground.open(0);
        if enforcer.mode() == Mode::Enforce && enforcer.backend().hierarchy == Hierarchy::V1 {
            return Some(ground);
        }
        let capabilities = enforcer.capabilities();
        println!("skipped: hierarchy {:?}, {:?}", capabilities.hierarchy, capabilities.why_not);
        None
    }

    fn open(&self, now_ms: u64) -> (Enforcer, crate::enforce::Outcome) {
        let config = Config {
            root: PathBuf::from("/"),
            state_dir: StateDir::open(self.temp.path().join("state")).unwrap(),
            mode: Mode::Enforce,
            delegated_parent: Some(self.parent.clone()),
            devices: whole_disks(Path::new("/")),
        };
        Enforcer::open(config, BOOT, now_ms).unwrap()
    }

    fn dir(&self, controller: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(controller).join(&self.parent[1..])
    }

    fn file(&self, controller: &str, name: &str) -> String {
        let group = format!("run-{}", &ID.to_string()[2..]);
        std::fs::read_to_string(self.dir(controller).join(group).join(name)).unwrap().trim().to_owned()
    }

    fn is_gone(&self) -> bool {
        ["cpu", "cpuacct", "memory", "blkio"].iter().all(|controller| !self.dir(controller).exists())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // By hand: what is tested may be what is broken. Children are dead by now; the kernel may lag a little.
        for dir in ["cpu", "cpuacct", "memory", "blkio"].map(|controller| self.dir(controller)) {
            for _ in 0..20 {
                remove_below(&dir);
                if !dir.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn remove_below(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// A child that burns CPU, killed when dropped.
struct Burner(Child);

impl Burner {
    fn new() -> Self {
        let burn = "while :; do :; done";
        Self(Command::new("sh").args(["-c", burn]).stdin(Stdio::null()).spawn().unwrap())
    }

    fn start_time_ticks(&self) -> u64 {
        process::start_time_ticks(Path::new("/"), self.0.id()).unwrap().unwrap()
    }

    fn cgroups(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/cgroup", self.0.id())).unwrap()
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn written<'a>(writes: &'a [EnforcementWrite], control: &str) -> &'a EnforcementWrite {
    writes.iter().find(|write| write.control.as_str() == control).unwrap()
}

#[test]
fn the_kernel_throttles_a_burning_process_and_forgets_us_afterwards() {
    let Some(ground) = Ground::new("throttle") else { return };
    let (mut enforcer, _) = ground.open(0);
    let outcome = enforcer.apply(&verified(vec![grant(1, 200)], 0), &std::collections::BTreeMap::new(), 1);
    for control in ["cpu.shares", "cpu.cfs_quota_us"] {
        assert!(written(&outcome.writes, control).effective, "{:?}", outcome.writes);
    }
    let soft = written(&outcome.writes, "memory.soft_limit_in_bytes");
    assert!(!soft.effective && soft.actual.as_ref() == Some(&soft.after), "accepted, and known to be advisory");
    for disk in whole_disks(Path::new("/")) {
        let line = format!("{disk} 1048576");
        assert!(ground.file("blkio", "blkio.throttle.write_bps_device").contains(&line));
        assert!(outcome.writes.iter().any(|write| write.effective && write.after.as_str() == line));
    }

    let burner = Burner::new();
    let before = burner.cgroups();
    enforcer.enter(&ID, burner.0.id(), burner.start_time_ticks(), uid(), 2).unwrap();
    assert_eq!(burner.cgroups().matches(&ground.parent).count(), 4, "{}", burner.cgroups());
    let usage_ns = || ground.file("cpuacct", "cpuacct.usage").parse::<f64>().unwrap();
    let (from, clock) = (usage_ns(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let millicores = (usage_ns() - from) / clock.elapsed().as_nanos() as f64 * 1000.0;
    assert!((20.0..=300.0).contains(&millicores), "{millicores} millicores under a quota of 200");
    let throttled = ground.file("cpu", "cpu.stat");
    let throttled = throttled.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
    assert!(throttled.parse::<u64>().unwrap() > 2, "{throttled} times throttled");

    let outcome = enforcer.release(&ID, 3).unwrap();
    assert_eq!(outcome.ended, [(ID, EndReason::Released)]);
    assert_eq!(burner.cgroups(), before, "back where it came from");
    enforcer.restore_all(4);
    assert!(ground.is_gone());
}

#[test]
fn after_a_crash_a_start_past_the_lease_frees_the_process() {
    let Some(ground) = Ground::new("expired") else { return };
    let burner = Burner::new();
    let before = burner.cgroups();
    let (mut enforcer, _) = ground.open(0);
    enforcer.apply_grants(&[grant(1, 100)], &lease(0), 1);
    enforcer.enter(&ID, burner.0.id(), burner.start_time_ticks(), uid(), 2).unwrap();
    drop(enforcer);
    assert_eq!(ground.file("cpu", "cpu.cfs_quota_us"), "10000");
    let (enforcer, outcome) = ground.open(LEASE_MS);
    assert_eq!(outcome.ended, [(ID, EndReason::LeaseExpired)]);
    assert_eq!(written(&outcome.writes, "cpu.cfs_quota_us").actual.as_ref().unwrap().as_str(), "-1");
    assert!(enforcer.held().is_empty() && ground.is_gone());
    assert_eq!(burner.cgroups(), before);
}

#[test]
fn after_a_crash_a_start_within_the_lease_keeps_the_limit() {
    let Some(ground) = Ground::new("running") else { return };
    let mut burner = Burner::new();
    let (mut enforcer, _) = ground.open(0);
    enforcer.apply_grants(&[grant(1, 100)], &lease(0), 1);
    enforcer.enter(&ID, burner.0.id(), burner.start_time_ticks(), uid(), 2).unwrap();
    drop(enforcer);
    let (mut enforcer, outcome) = ground.open(LEASE_MS - 1);
    assert_eq!(outcome, Default::default());
    assert_eq!(ground.file("cpu", "cpu.cfs_quota_us"), "10000");
    assert!(enforcer.tick(LEASE_MS - 1).ended.is_empty());
    burner.0.kill().unwrap();
    burner.0.wait().unwrap();
    assert_eq!(enforcer.tick(LEASE_MS - 1).ended, [(ID, EndReason::Empty)]);
    enforcer.restore_all(LEASE_MS - 1);
    assert!(ground.is_gone());
}

#[test]
fn processes_in_groups_that_the_application_made_below_are_freed_too() {
    let Some(ground) = Ground::new("nested") else { return };
    let burner = Burner::new();
    let (mut enforcer, _) = ground.open(0);
    enforcer.apply_grants(&[grant(1, 100)], &lease(0), 1);
    enforcer.enter(&ID, burner.0.id(), burner.start_time_ticks(), uid(), 2).unwrap();
    let nested = ground.dir("cpu").join(format!("run-{}", &ID.to_string()[2..])).join("a/b");
    std::fs::create_dir_all(&nested).unwrap();
    std::fs::write(nested.join("cgroup.procs"), burner.0.id().to_string()).unwrap();
    assert!(enforcer.tick(3).ended.is_empty());
    enforcer.restore_all(4);
    assert!(ground.is_gone());
    assert!(!burner.cgroups().contains(&ground.parent));
}
