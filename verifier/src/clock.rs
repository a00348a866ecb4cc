//! The clock: Unix time that only moves forward while the process runs.
//!
//! It is read once at the start and carried on by the monotonic clock, so that nobody who sets the wall clock
//! ends a trust or a lease early or late.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Unix time in ms, never going back within one process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix_ms: u64,
}

impl Clock {
    /// Starts from the wall clock.
    pub fn system() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }
    /// Now, Unix ms.
    pub fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_unix_ms.saturating_add(elapsed)
    }
    /// When it was started, Unix ms.
    pub fn started_ms(&self) -> u64 {
        self.started_unix_ms
    }
}
