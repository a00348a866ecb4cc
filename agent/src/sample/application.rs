//! An application as the kernel shows it: a cgroup, and what is counted there.

use std::sync::Arc;

use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::GrantId;

use super::host::Pressure;

/// What is known of a cgroup besides its counters. Which application it is, only the verifier says (design §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its path, relative to the root of the hierarchy, such as `/quotary/run-1`; on version 1 the same path in
    /// each controller's mount.
    pub cgroup: CgroupPath,
    /// The grant that it runs under.
    pub grant: Option<GrantId>,
    /// The uid that asked for the grant.
    pub uid: Option<u32>,
    /// The systemd unit that owns the cgroup.
    pub unit: Option<Name>,
}

impl Application {
    /// The path if it stays inside the hierarchy: `/`, or `/a/b` without `.` and `..`.
    pub(super) fn inside(&self) -> Option<&str> {
        let path = self.cgroup.as_str();
        let stays = path.starts_with('/') && !path.split('/').any(|part| part == "." || part == "..");
        stays.then_some(path)
    }
}

/// One application's counters at one instant. What the kernel does not have is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationSample {
    /// Whose.
    pub application: Arc<Application>,
    /// When it was read, `CLOCK_BOOTTIME`, ms: of a service up to some seconds before the sample was taken.
    pub at_ms: u64,
    /// Inode of the cgroup: another one under the same path is another group, whose counters start anew.
    pub instance: Option<u64>,
    /// CPU time used, microseconds (`cpu.stat`, `cpuacct.usage`).
    pub cpu_usage_microseconds: Option<u64>,
    /// Quota periods that have passed.
    pub cpu_periods: Option<u64>,
    /// Quota periods in which the group was throttled.
    pub cpu_throttled_periods: Option<u64>,
    /// Memory charged now, bytes (`memory.current`, `memory.usage_in_bytes`).
    pub memory_current_bytes: Option<u64>,
    /// How often the group went over `memory.high` (version 2 only).
    pub memory_high_count: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kill_count: Option<u64>,
    /// Read from whole disks, bytes.
    pub disk_read_bytes: Option<u64>,
    /// Written to whole disks, bytes.
    pub disk_written_bytes: Option<u64>,
    /// Time lost by waiting (version 2, or the version 2 side of a hybrid host).
    pub pressure: Pressure,
}

impl ApplicationSample {
    /// Nothing known yet.
    pub(super) fn empty(application: Arc<Application>, at_ms: u64, instance: Option<u64>) -> Self {
        Self {
            application,
            at_ms,
            instance,
            cpu_usage_microseconds: None,
            cpu_periods: None,
            cpu_throttled_periods: None,
            memory_current_bytes: None,
            memory_high_count: None,
            oom_kill_count: None,
            disk_read_bytes: None,
            disk_written_bytes: None,
            pressure: Pressure::default(),
        }
    }
}
