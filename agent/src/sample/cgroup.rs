//! Reads one application's counters from whichever hierarchy has them.
//!
//! Forms: kernel documentation, admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/.

use std::path::Path;
use std::sync::Arc;

use super::application::{Application, ApplicationSample};
use super::error::SampleError;
use super::file::{Faults, Files};
use super::host::{DiskCounters, Pressure};
use super::parse;
use super::tree::{CgroupTree, LegacyMounts};

/// What the reading of a cgroup needs besides the cgroup.
pub(super) struct CgroupReader<'a> {
    pub(super) tree: &'a CgroupTree,
    pub(super) files: &'a mut Files,
    pub(super) faults: &'a mut Faults,
    /// `CLOCK_BOOTTIME`, ms.
    pub(super) now_ms: u64,
    /// The whole disks of the host: only their bytes count. Without them all devices count.
    pub(super) disks: Option<&'a [DiskCounters]>,
}

impl CgroupReader<'_> {
    /// The application's counters; `None` when its cgroup is gone or its path leads out of the tree.
    pub(super) fn read(&mut self, application: &Arc<Application>) -> Option<ApplicationSample> {
        let Some(inside) = application.inside() else {
            self.faults.add(SampleError::Outside { cgroup: application.cgroup.as_str().to_owned() });
            return None;
        };
        match self.tree {
            CgroupTree::Unified(base) => {
                let instance = self.files.inode(base, inside)?;
                let mut sample = ApplicationSample::empty(Arc::clone(application), self.now_ms, Some(instance));
                self.read_unified(base, inside, &mut sample);
                Some(sample)
            }
            CgroupTree::Legacy(mounts) => {
                let instance = mounts.controllers().find_map(|base| self.files.inode(base, inside))?;
                let mut sample = ApplicationSample::empty(Arc::clone(application), self.now_ms, Some(instance));
                self.read_legacy(mounts, inside, &mut sample);
                Some(sample)
            }
            CgroupTree::Absent => None,
        }
    }

    fn read_unified(&mut self, base: &Path, inside: &str, sample: &mut ApplicationSample) {
        let cpu = self.files.parse(base, inside, "cpu.stat", |text| {
            Ok((
                parse::keyed(text, "usage_usec")?,
                parse::keyed(text, "nr_periods")?,
                parse::keyed(text, "nr_throttled")?,
            ))
        });
        if let Some((usage, periods, throttled)) = self.faults.keep(cpu) {
            sample.cpu_usage_microseconds = usage;
            sample.cpu_periods = periods;
            sample.cpu_throttled_periods = throttled;
        }
        let memory = self.files.parse(base, inside, "memory.current", parse::number);
        sample.memory_current_bytes = self.faults.keep(memory);
        let events = self.files.parse(base, inside, "memory.events", |text| {
            Ok((parse::keyed(text, "high")?, parse::keyed(text, "oom_kill")?))
        });
        if let Some((high, oom_kill)) = self.faults.keep(events) {
            sample.memory_high_count = high;
            sample.oom_kill_count = oom_kill;
        }
        let disks = self.disks;
        let io = self.files.parse(base, inside, "io.stat", |text| parse::io_stat(text, |a, b| counts(disks, a, b)));
        self.set_disk(io, sample);
        sample.pressure = self.read_pressure(base, inside);
    }

    fn read_legacy(&mut self, mounts: &LegacyMounts, inside: &str, sample: &mut ApplicationSample) {
        if let Some(base) = &mounts.cpuacct {
            let usage = self.files.parse(base, inside, "cpuacct.usage", parse::number);
            sample.cpu_usage_microseconds = self.faults.keep(usage).map(|nanoseconds| nanoseconds / 1000);
        }
        if let Some(base) = &mounts.cpu {
            let cpu = self.files.parse(base, inside, "cpu.stat", |text| {
                Ok((parse::keyed(text, "nr_periods")?, parse::keyed(text, "nr_throttled")?))
            });
            if let Some((periods, throttled)) = self.faults.keep(cpu) {
                sample.cpu_periods = periods;
                sample.cpu_throttled_periods = throttled;
            }
        }
        if let Some(base) = &mounts.memory {
            let usage = self.files.parse(base, inside, "memory.usage_in_bytes", parse::number);
            sample.memory_current_bytes = self.faults.keep(usage);
            let oom = self.files.parse(base, inside, "memory.oom_control", |text| parse::keyed(text, "oom_kill"));
            sample.oom_kill_count = self.faults.keep(oom).flatten();
        }
        if let Some(base) = &mounts.blkio {
            self.read_blkio(base, inside, sample);
        }
        if let Some(base) = &mounts.unified {
            sample.pressure = self.read_pressure(base, inside);
        }
    }

    /// `_recursive` counts the groups below too, as every other counter here does; old kernels lack it.
    fn read_blkio(&mut self, base: &Path, inside: &str, sample: &mut ApplicationSample) {
        let disks = self.disks;
        for name in ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"] {
            let io =
                self.files.parse(base, inside, name, |text| parse::io_service_bytes(text, |a, b| counts(disks, a, b)));
            let is_absent = matches!(io, Ok(None));
            self.set_disk(io, sample);
            if !is_absent {
                return;
            }
        }
    }

    fn set_disk(&mut self, io: Result<Option<parse::DiskBytes>, SampleError>, sample: &mut ApplicationSample) {
        if let Some(bytes) = self.faults.keep(io) {
            sample.disk_read_bytes = Some(bytes.read);
            sample.disk_written_bytes = Some(bytes.written);
        }
    }

    fn read_pressure(&mut self, base: &Path, inside: &str) -> Pressure {
        Pressure::read(self.files, self.faults, base, inside, ["cpu.pressure", "memory.pressure", "io.pressure"])
    }
}

fn counts(disks: Option<&[DiskCounters]>, major: u32, minor: u32) -> bool {
    disks.is_none_or(|disks| disks.iter().any(|disk| (disk.major, disk.minor) == (major, minor)))
}
