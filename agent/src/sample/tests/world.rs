//! A fake kernel tree in a temporary directory, gone when the test ends.

use std::path::{Path, PathBuf};

use quotary_common::envelope::CgroupPath;
use tempfile::TempDir;

use crate::sample::{Application, Reader, Sample};

/// A root with `/proc` of a host with two CPUs, one disk and one interface.
pub(super) struct World {
    directory: TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let world = Self { directory: TempDir::new().unwrap() };
        world.stat(0);
        world.write("proc/meminfo", &meminfo(8_000, 6_000));
        world.disks(&[("sda", 8, 0, 0, 0), ("sda1", 8, 1, 0, 0), ("dm-0", 253, 0, 0, 0), ("loop0", 7, 0, 0, 0)]);
        world.interfaces(&[("lo", 9, 9), ("eth0", 0, 0)]);
        world.pressure("proc/pressure", 0);
        world.write("proc/sys/kernel/hostname", "host-1\n");
        world.write("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
        world.write("proc/sys/kernel/random/boot_id", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n");
        world.write("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        world
    }

    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }
    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.root())
    }
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    pub(super) fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }

    /// `busy_ticks` of system time on two CPUs.
    pub(super) fn stat(&self, busy_ticks: u64) {
        let line = format!("1 2 {busy_ticks} 1000 5 3 4 99 50 0");
        self.write(
            "proc/stat",
            &format!("cpu  {line}\ncpu0 {line}\ncpu1 {line}\nintr 5 0\nctxt 1\nbtime 1700000000\nprocesses 5\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n"),
        );
    }
    /// Name, numbers, sectors read and written.
    pub(super) fn disks(&self, disks: &[(&str, u32, u32, u64, u64)]) {
        let lines: Vec<String> = disks
            .iter()
            .map(|(name, major, minor, read, written)| {
                format!("{major:4} {minor:7} {name} 1 0 {read} 0 1 0 {written} 0 0 0 0 0 0 0 0 0 0\n")
            })
            .collect();
        self.write("proc/diskstats", &lines.concat());
    }
    /// Name, bytes received and sent.
    pub(super) fn interfaces(&self, interfaces: &[(&str, u64, u64)]) {
        let lines: Vec<String> = interfaces
            .iter()
            .map(|(name, received, sent)| format!("{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"))
            .collect();
        self.write("proc/net/dev", &format!("Inter-| Receive\n face |bytes\n{}", lines.concat()));
    }
    /// All pressure files of the host (`proc/pressure`) or of a cgroup's directory.
    pub(super) fn pressure(&self, directory: &str, total: u64) {
        for kind in ["cpu", "memory", "io"] {
            let name = if directory == "proc/pressure" { kind.to_owned() } else { format!("{kind}.pressure") };
            let line = format!("avg10=0.00 avg60=0.00 avg300=0.00 total={total}");
            self.write(&format!("{directory}/{name}"), &format!("some {line}\nfull {line}\n"));
        }
    }
    /// A version 2 cgroup.
    pub(super) fn unified(&self, cgroup: &str, usage_usec: u64, periods: u64, throttled: u64) {
        let base = format!("sys/fs/cgroup{cgroup}");
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu io memory\n");
        self.write(
            &format!("{base}/cpu.stat"),
            &format!("usage_usec {usage_usec}\nuser_usec 1\nsystem_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 0\n"),
        );
        self.write(&format!("{base}/memory.current"), "4096\n");
        self.write(&format!("{base}/memory.events"), "low 0\nhigh 2\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n");
        self.write(
            &format!("{base}/io.stat"),
            "253:0 rbytes=777 wbytes=777\n8:0 rbytes=100 wbytes=200 rios=1 wios=1 dbytes=0 dios=0\n",
        );
        self.pressure(&base, 0);
    }
    /// A version 1 cgroup, in every controller.
    pub(super) fn legacy(&self, cgroup: &str, usage_nanoseconds: u64) {
        let file = |controller: &str, name: &str| format!("sys/fs/cgroup/{controller}{cgroup}/{name}");
        self.write(&file("cpu,cpuacct", "cpuacct.usage"), &format!("{usage_nanoseconds}\n"));
        self.write(&file("cpu,cpuacct", "cpu.stat"), "nr_periods 10\nnr_throttled 4\nthrottled_time 0\n");
        self.write(&file("memory", "memory.usage_in_bytes"), "8192\n");
        self.write(&file("memory", "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        self.write(
            &file("blkio", "blkio.throttle.io_service_bytes"),
            "253:0 Read 9\n8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 39\n",
        );
    }
}

fn meminfo(total_kb: u64, available_kb: u64) -> String {
    let mut text = format!("MemTotal: {total_kb} kB\nMemFree: 1000 kB\nMemAvailable: {available_kb} kB\n");
    for field in [
        "Buffers",
        "Cached",
        "SwapCached",
        "Active",
        "Inactive",
        "SwapTotal",
        "SwapFree",
        "Dirty",
        "Writeback",
        "Mapped",
        "Slab",
        "Committed_AS",
        "VmallocTotal",
        "VmallocUsed",
        "VmallocChunk",
    ] {
        text.push_str(&format!("{field}: 10 kB\n"));
    }
    text
}

/// An application without grant or unit.
pub(super) fn application(cgroup: &str) -> Application {
    Application { cgroup: CgroupPath::new(cgroup).unwrap(), grant: None, uid: Some(1000), unit: None }
}

/// A sample without any fault.
pub(super) fn clean(reader: &mut Reader, now_ms: u64, applications: &[Application]) -> Sample {
    let sample = reader.sample(now_ms, applications);
    assert!(sample.faults.is_empty(), "{:?}", sample.faults);
    sample
}
