//! Against the kernel that runs the test.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use quotary_common::envelope::Hierarchy;
use quotary_common::metric::Metric;

use super::world::application;
use crate::sample::{CgroupTree, Rates, Reader, Subject, boot_id, facts};

fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1000 + u64::try_from(now.tv_nsec).unwrap() / 1_000_000
}

#[test]
fn the_running_kernels_files_are_read_without_a_fault() {
    let mut reader = Reader::new(Path::new("/"));
    let before = reader.sample(now_ms(), &[]);
    assert!(before.faults.is_empty(), "{:?}", before.faults);
    let host = &before.host;
    assert!(host.cpu_busy_microseconds.unwrap() > 0);
    assert!(host.memory_used_bytes.unwrap() < host.memory_total_bytes.unwrap());
    let filesystems = host.filesystems.as_ref().unwrap();
    assert!(filesystems.iter().all(|one| one.used_bytes <= one.total_bytes && one.mount.as_str().starts_with('/')));
    std::thread::sleep(Duration::from_millis(200));
    let rates = Rates::between(&before, &reader.sample(now_ms(), &[]));
    let metrics: Vec<Metric> = rates.readings().iter().map(|reading| reading.metric).collect();
    assert!(metrics.contains(&Metric::CpuMillicores) && metrics.contains(&Metric::MemoryBytes));
}

#[test]
fn the_running_hosts_facts_agree_with_its_files() {
    let running = facts(Path::new("/")).unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(running.kernel.as_str(), kernel.trim());
    let mut reader = Reader::new(Path::new("/"));
    let host = reader.sample(1, &[]).host;
    assert_eq!(Some(running.cpu_millicores), host.cpus_online.map(|cpus| cpus * 1000));
    assert_eq!(Some(running.memory_bytes), host.memory_total_bytes);
    assert_eq!(boot_id(Path::new("/")).unwrap(), boot_id(Path::new("/")).unwrap());
}

/// Cgroups of this test and a busy process inside, gone on drop even if the test fails.
struct Burner {
    child: Child,
    directories: Vec<PathBuf>,
}

impl Burner {
    /// `None` where this test may not make cgroups: not root, none there, or read-only as in a container.
    fn start(tree: &CgroupTree, name: &str) -> Option<Self> {
        let bases: Vec<PathBuf> = match tree {
            CgroupTree::Unified(base) => vec![base.clone()],
            CgroupTree::Legacy(mounts) => [&mounts.cpuacct, &mounts.memory].into_iter().flatten().cloned().collect(),
            CgroupTree::Absent => return None,
        };
        // `nice` becomes the shell; high priority (root's only), since the machine may be busy with other tests.
        // The limit ends the process after a minute of CPU time even if this test is killed before it can.
        let child =
            Command::new("nice").args(["-n", "-15", "sh", "-c", "ulimit -t 60; while :; do :; done"]).spawn().unwrap();
        let mut burner = Self { child, directories: Vec::new() };
        for base in bases {
            let directory = base.join(name);
            match std::fs::create_dir(&directory) {
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                    return None;
                }
                created => created.unwrap(),
            }
            burner.directories.push(directory.clone());
            std::fs::write(directory.join("cgroup.procs"), burner.child.id().to_string()).unwrap();
        }
        Some(burner)
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for directory in &self.directories {
            // A group stays busy for a moment after its last process is reaped.
            let is_gone = (0..50).any(|_| {
                let removed = std::fs::remove_dir(directory);
                if removed.is_err() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                removed.is_ok()
            });
            if !is_gone {
                eprintln!("left behind: {}", directory.display());
            }
        }
    }
}

#[test]
fn a_busy_process_shows_in_its_cgroup() {
    let mut reader = Reader::new(Path::new("/"));
    let name = format!("quotary-sample-test-{}", std::process::id());
    let Some(burner) = Burner::start(reader.tree(), &name) else {
        eprintln!("this machine lets no test make cgroups: nothing to see here");
        return;
    };
    let given = [application(&format!("/{name}"))];
    let cpu_ms = |pid: u32| {
        let stat = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap().stat().unwrap();
        (stat.utime + stat.stime) * 1000 / procfs::ticks_per_second()
    };
    let (mut best, mut is_charged) = (0, false);
    for _ in 0..10 {
        let (before, spent_before_ms) = (reader.sample(now_ms(), &given), cpu_ms(burner.child.id()));
        std::thread::sleep(Duration::from_secs(1));
        let (after, spent_after_ms) = (reader.sample(now_ms(), &given), cpu_ms(burner.child.id()));
        let rates = Rates::between(&before, &after);
        let value = |metric: Metric| {
            let mut mine = rates.readings().iter().filter(|reading| matches!(reading.subject, Subject::Application(_)));
            mine.find(|reading| reading.metric == metric).map(|reading| reading.value)
        };
        let seen = value(Metric::CpuMillicores).unwrap();
        let spent = (spent_after_ms - spent_before_ms) * 1000 / (after.at_ms - before.at_ms);
        // Both clocks are read one after the other, on a machine that may be busy.
        assert!(seen.abs_diff(spent) <= 50 + spent / 5, "{seen} millicores seen, {spent} spent by the process");
        best = best.max(seen);
        is_charged |= value(Metric::MemoryBytes).is_some();
        if best >= 500 {
            break;
        }
    }
    // A root group of version 2 need not hand the memory controller down; version 1 always has it.
    assert!(is_charged || reader.tree().hierarchy() == Hierarchy::V2, "no memory reading");
    assert!(best >= 500, "only {best} millicores were seen in any second");
}
