//! Reads the host's own counters from `/proc`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procfs::net::InterfaceDeviceStatus;
use procfs::prelude::{FromBufRead, FromBufReadSI};
use procfs::{DiskStats, KernelStats, Meminfo};
use quotary_common::envelope::Name;

use super::file::{Faults, Files, Garbled};
use super::filesystem::FilesystemUsage;
use super::parse;

/// The kernel's sector in `/proc/diskstats`, whatever the disk's own is (admin-guide/iostats.rst).
const SECTOR_BYTES: u64 = 512;

/// The host's counters at one instant. What the kernel does not have is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSample {
    /// CPU time spent on anything but idling, waiting for I/O and other guests (steal), microseconds.
    pub cpu_busy_microseconds: Option<u64>,
    /// CPUs that are online.
    pub cpus_online: Option<u64>,
    /// Memory that is not available, bytes.
    pub memory_used_bytes: Option<u64>,
    /// All memory, bytes.
    pub memory_total_bytes: Option<u64>,
    /// Time lost by waiting.
    pub pressure: Pressure,
    /// Whole disks, by name.
    pub disks: Option<Vec<DiskCounters>>,
    /// Network interfaces that carry the host's own traffic, by name.
    pub interfaces: Option<Vec<InterfaceCounters>>,
    /// Filesystems, by mount point; known on the running host only.
    pub filesystems: Option<Arc<[FilesystemUsage]>>,
}

/// Pressure stall totals, microseconds since boot or since the group was made (accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some task waited for CPU.
    pub cpu_some_microseconds: Option<u64>,
    /// Some task waited for memory.
    pub memory_some_microseconds: Option<u64>,
    /// All tasks waited for memory.
    pub memory_full_microseconds: Option<u64>,
    /// Some task waited for I/O.
    pub io_some_microseconds: Option<u64>,
    /// All tasks waited for I/O.
    pub io_full_microseconds: Option<u64>,
}

/// One whole disk's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCounters {
    /// The device, such as `sda`.
    pub device: Name,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// One interface's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The interface, such as `eth0`.
    pub interface: Name,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub transmitted_bytes: u64,
}

impl Pressure {
    /// Reads the CPU, memory and I/O pressure files; without the first one the others are not looked for.
    pub(super) fn read(
        files: &mut Files,
        faults: &mut Faults,
        base: &Path,
        inside: &str,
        [cpu, memory, io]: [&str; 3],
    ) -> Self {
        let read_cpu = files.parse(base, inside, cpu, parse::pressure);
        if matches!(read_cpu, Ok(None)) {
            return Self::default();
        }
        let cpu = faults.keep(read_cpu);
        let memory = faults.keep(files.parse(base, inside, memory, parse::pressure));
        let io = faults.keep(files.parse(base, inside, io, parse::pressure));
        Self {
            cpu_some_microseconds: cpu.map(|(some, _)| some),
            memory_some_microseconds: memory.map(|(some, _)| some),
            memory_full_microseconds: memory.and_then(|(_, full)| full),
            io_some_microseconds: io.map(|(some, _)| some),
            io_full_microseconds: io.and_then(|(_, full)| full),
        }
    }
}

/// Where the host's files are, and what need not be looked up each second.
#[derive(Debug)]
pub(super) struct HostReader {
    proc: PathBuf,
    interfaces: PathBuf,
    /// Whether an interface has a device behind it.
    has_device: BTreeMap<String, bool>,
}

impl HostReader {
    pub(super) fn new(root: &Path) -> Self {
        Self { proc: root.join("proc"), interfaces: root.join("sys/class/net"), has_device: BTreeMap::new() }
    }

    /// Everything but the filesystems.
    pub(super) fn read(&mut self, files: &mut Files, faults: &mut Faults) -> HostSample {
        let cpu = faults.keep(files.parse(&self.proc, "", "stat", parse_stat));
        let memory = faults.keep(files.parse(&self.proc, "", "meminfo", parse_meminfo));
        let interfaces = faults.keep(files.parse(&self.proc, "net", "dev", parse_interfaces));
        HostSample {
            cpu_busy_microseconds: cpu.map(|(busy, _)| busy),
            cpus_online: cpu.map(|(_, online)| online),
            memory_used_bytes: memory.map(|(used, _)| used),
            memory_total_bytes: memory.map(|(_, total)| total),
            pressure: Pressure::read(files, faults, &self.proc, "pressure", ["cpu", "memory", "io"]),
            disks: faults.keep(files.parse(&self.proc, "", "diskstats", parse_disks)),
            interfaces: interfaces.map(|all| self.own_interfaces(all)),
            filesystems: None,
        }
    }

    /// The interfaces with a device behind them, since what passes a bridge, a bond or a container's interface
    /// passes those too. Where none has one (inside a container), all of them.
    fn own_interfaces(&mut self, mut all: Vec<InterfaceCounters>) -> Vec<InterfaceCounters> {
        self.has_device.retain(|name, _| all.iter().any(|counters| counters.interface.as_str() == name));
        for counters in &all {
            let name = counters.interface.as_str();
            if !self.has_device.contains_key(name) {
                let is_name = !name.contains('/') && !name.starts_with('.');
                let has_device = is_name && self.interfaces.join(name).join("device").exists();
                self.has_device.insert(name.to_owned(), has_device);
            }
        }
        if self.has_device.values().any(|has_device| *has_device) {
            all.retain(|counters| self.has_device.get(counters.interface.as_str()) == Some(&true));
        }
        all
    }
}

/// Busy microseconds and online CPUs.
pub(super) fn parse_stat(text: &str) -> Result<(u64, u64), Garbled> {
    let stat = KernelStats::from_buf_read(text.as_bytes(), procfs::current_system_info())?;
    let total = &stat.total;
    // `guest` is in `user` already.
    let ticks = [total.user, total.nice, total.system, total.irq.unwrap_or(0), total.softirq.unwrap_or(0)]
        .iter()
        .map(|ticks| u128::from(*ticks))
        .sum::<u128>();
    let microseconds = ticks * 1_000_000 / u128::from(procfs::ticks_per_second().max(1));
    let busy = u64::try_from(microseconds).map_err(|_| Garbled::Rule("CPU times that add up to 64 bits"))?;
    Ok((busy, stat.cpu_time.len() as u64))
}

/// Used and total bytes.
pub(super) fn parse_meminfo(text: &str) -> Result<(u64, u64), Garbled> {
    // `procfs` multiplies by the unit without a check, and the kernel writes no unit but `kB`.
    let is_sound = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_small =
            words.next().and_then(|digits| digits.parse::<u64>().ok()).is_some_and(|number| number < 1 << 50);
        is_small && words.next().is_none_or(|unit| unit == "kB")
    };
    if !text.lines().filter(|line| !line.is_empty()).all(is_sound) {
        return Err(Garbled::Rule("a number under 2^50, alone or in kB, on each line"));
    }
    let memory = Meminfo::from_buf_read(text.as_bytes())?;
    // Before Linux 3.14 there is no estimate of the kernel's own.
    let available = memory.mem_available.unwrap_or_else(|| memory.mem_free + memory.buffers + memory.cached);
    Ok((memory.mem_total.saturating_sub(available), memory.mem_total))
}

fn parse_disks(text: &str) -> Result<Vec<DiskCounters>, Garbled> {
    let stats = DiskStats::from_buf_read(text.as_bytes())?.0;
    let names: HashSet<&str> = stats.iter().map(|stat| stat.name.as_str()).collect();
    let mut disks = Vec::new();
    for stat in &stats {
        if !parse::is_whole_disk(&stat.name, |name| names.contains(name)) {
            continue;
        }
        let bytes =
            |sectors: u64| sectors.checked_mul(SECTOR_BYTES).ok_or(Garbled::Rule("sectors that fit 64 bits of bytes"));
        let number = |number: i32| u32::try_from(number).map_err(|_| Garbled::Rule("device numbers above zero"));
        disks.push(DiskCounters {
            device: Name::lossy(&stat.name),
            major: number(stat.major)?,
            minor: number(stat.minor)?,
            read_bytes: bytes(stat.sectors_read)?,
            written_bytes: bytes(stat.sectors_written)?,
        });
    }
    disks.sort_by(|a, b| a.device.cmp(&b.device));
    disks.dedup_by(|a, b| a.device == b.device);
    Ok(disks)
}

/// All interfaces but the loopback.
fn parse_interfaces(text: &str) -> Result<Vec<InterfaceCounters>, Garbled> {
    let status = InterfaceDeviceStatus::from_buf_read(text.as_bytes())?.0;
    let mut interfaces: Vec<InterfaceCounters> = status
        .values()
        .filter(|device| device.name != "lo")
        .map(|device| InterfaceCounters {
            interface: Name::lossy(&device.name),
            received_bytes: device.recv_bytes,
            transmitted_bytes: device.sent_bytes,
        })
        .collect();
    interfaces.sort_by(|a, b| a.interface.cmp(&b.interface));
    interfaces.dedup_by(|a, b| a.interface == b.interface);
    Ok(interfaces)
}
