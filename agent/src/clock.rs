//! The two clocks of the host, read here and nowhere else; everything below takes the values as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in microseconds: suspend does not stop it, and nobody sets it.
pub fn boottime_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel never gives negative values for this clock.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(now.tv_nsec / 1_000).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(microseconds)
}

/// `CLOCK_BOOTTIME` in milliseconds: what leases count on.
pub fn boottime_ms() -> u64 {
    boottime_us() / 1_000
}

/// Unix time in milliseconds: for the validity of certificates only.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn boottime_is_the_kernels_uptime() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime_s: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let boottime_s = std::time::Duration::from_micros(boottime_us()).as_secs_f64();
        assert!((boottime_s - uptime_s).abs() < 5.0, "{boottime_s} and {uptime_s}");
        assert!(unix_ms() > 1_700_000_000_000);
    }
}
