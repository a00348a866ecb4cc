//! The clock: Unix time that only moves forward, while the process runs and from one run to the next.
//!
//! It is read once at the start and carried on by `CLOCK_BOOTTIME`, which counts while the machine sleeps: nobody who
//! sets the wall clock or suspends the machine ends a trust or a lease early or late. A start is never before the
//! newest leaf of the log.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Unix time in ms, never going back within one process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started_boottime_ms: u64,
    started_unix_ms: u64,
}

impl Clock {
    /// Starts from the wall clock, but not before `not_before_ms` (Unix time): a clock that was set back must not
    /// bring what has ended back to life.
    pub fn system(not_before_ms: u64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Self { started_boottime_ms: boottime_ms(), started_unix_ms: unix_ms.max(not_before_ms) }
    }
    /// Now, Unix ms.
    pub fn now_ms(&self) -> u64 {
        self.started_unix_ms.saturating_add(boottime_ms().saturating_sub(self.started_boottime_ms))
    }
    /// When it was started, Unix ms.
    pub fn started_ms(&self) -> u64 {
        self.started_unix_ms
    }
}

fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1000).saturating_add(nanoseconds.unwrap_or(0) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_never_before_what_was_logged_last() {
        let year_2100_ms = 4_102_444_800_000;
        let clock = Clock::system(year_2100_ms);
        assert!((year_2100_ms..year_2100_ms + 60_000).contains(&clock.now_ms()));
        let system = Clock::system(0);
        assert!(system.now_ms() > 1_700_000_000_000 && system.now_ms() < year_2100_ms);
    }
}
