//! CPU time and memory, of this thread, this process, and others.

use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    // CPU clocks start at zero, and nanoseconds are below a second.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of the calling thread.
pub(super) fn of_this_thread() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process.
pub(super) fn of_this_process() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// What a process used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// CPU time of all its threads, also of those that ended; in steps of a clock tick (10 ms).
    pub(super) cpu: Duration,
    /// Memory that is resident, bytes.
    pub(super) resident_bytes: u64,
    /// The most that was resident, bytes.
    pub(super) resident_peak_bytes: u64,
    /// Bytes that it caused to be written to storage, where the kernel tells.
    pub(super) storage_written_bytes: Option<u64>,
}

/// What another process used so far.
pub(super) fn of_process(pid: u32) -> anyhow::Result<Usage> {
    let read = || -> procfs::ProcResult<Usage> {
        let process = procfs::process::Process::new(i32::try_from(pid).unwrap_or(i32::MAX))?;
        let (stat, status) = (process.stat()?, process.status()?);
        let ticks = (stat.utime + stat.stime) as f64;
        Ok(Usage {
            cpu: Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64),
            resident_bytes: status.vmrss.unwrap_or(0) * 1024,
            resident_peak_bytes: status.vmhwm.unwrap_or(0) * 1024,
            storage_written_bytes: process.io().ok().map(|io| io.write_bytes),
        })
    };
    read().with_context(|| format!("cannot read what process {pid} used: has it ended?"))
}
