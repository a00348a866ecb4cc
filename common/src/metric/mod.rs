//! Metric windows: one series over one interval, as integers in the metric's unit.
//!
//! Does: fixes what a window says ([`MetricWindow`]), and the two forms in which a list of them stands in an envelope
//! ([`MetricWindows`], [`WindowForm`]).
//! May assume: nothing about its input.
//! Promises: a list of windows has exactly one encoding in each form; a claimed length alone costs nothing.
//! Must never: make a window before somebody looks at it. They are most of an envelope, so [`MetricWindows`] keeps the
//! canonical bytes that they came in, which are checked in one pass.

mod gauge;
mod scan;
#[cfg(test)]
mod tests;
mod windows;

use serde::{Deserialize, Serialize};

use crate::cbor::Text;
use crate::limits::NAME_BYTES_MAX;

pub use gauge::Gauge;
pub use windows::{MetricWindows, WindowForm};

/// What a window measures; the unit stands in the name. The numbers are those of the forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Metric {
    /// CPU time per wall time, in thousandths of a core.
    CpuMillicores = 1,
    /// Memory in use, bytes (host: total less available; application: the cgroup's current charge).
    MemoryBytes = 2,
    /// Storage in use on a filesystem (label: mount point), bytes.
    StorageBytes = 3,
    /// Read from a disk (label: device), bytes per second.
    DiskReadBytesPerSecond = 4,
    /// Written to a disk (label: device), bytes per second.
    DiskWriteBytesPerSecond = 5,
    /// Received on an interface (label), bits per second.
    NetworkReceiveBitsPerSecond = 6,
    /// Sent on an interface (label), bits per second.
    NetworkTransmitBitsPerSecond = 7,
    /// Share of time in which some task waited for CPU, parts per million (PSI `some`).
    CpuPressureSomePpm = 8,
    /// The same for memory.
    MemoryPressureSomePpm = 9,
    /// Share of time in which all tasks waited for memory, parts per million (PSI `full`).
    MemoryPressureFullPpm = 10,
    /// Share of time in which some task waited for I/O, parts per million.
    IoPressureSomePpm = 11,
    /// Share of time in which all tasks waited for I/O, parts per million.
    IoPressureFullPpm = 12,
    /// Share of quota periods in which the group was throttled, parts per million.
    CpuThrottledPpm = 13,
    /// Round trip to a peer (label), microseconds.
    LatencyMicroseconds = 14,
    /// Requests that an application says it took, per minute (docs/decisions/0016).
    RequestsPerMinute = 15,
    /// Failures that an application states, per minute.
    ErrorsPerMinute = 16,
    /// What an application says that one of its requests takes, microseconds.
    RequestLatencyMicroseconds = 17,
}

impl Metric {
    /// Every metric, in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 17] = [
        Self::CpuMillicores,
        Self::MemoryBytes,
        Self::StorageBytes,
        Self::DiskReadBytesPerSecond,
        Self::DiskWriteBytesPerSecond,
        Self::NetworkReceiveBitsPerSecond,
        Self::NetworkTransmitBitsPerSecond,
        Self::CpuPressureSomePpm,
        Self::MemoryPressureSomePpm,
        Self::MemoryPressureFullPpm,
        Self::IoPressureSomePpm,
        Self::IoPressureFullPpm,
        Self::CpuThrottledPpm,
        Self::LatencyMicroseconds,
        Self::RequestsPerMinute,
        Self::ErrorsPerMinute,
        Self::RequestLatencyMicroseconds,
    ];

    /// The greatest number.
    const NUMBER_MAX: u8 = Self::RequestLatencyMicroseconds as u8;

    const fn number(self) -> u8 {
        self as u8
    }
    fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }
    /// The name with its unit, as in JSON.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

const _: () = assert!(Metric::NUMBER_MAX < 24, "a metric's number takes one byte in the forms");

/// One series over one interval: `start_ms` and `duration_ms` on the host's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricWindow {
    /// What is measured.
    pub metric: Metric,
    /// Start on `CLOCK_BOOTTIME`, ms.
    pub start_ms: u64,
    /// Length, ms.
    pub duration_ms: u64,
    /// How many samples were folded; fewer than expected means a gap.
    pub samples: u32,
    /// Arithmetic mean of the samples, rounded down.
    pub mean: u64,
    /// Largest sample.
    pub max: u64,
    /// 95th percentile of the samples (nearest rank).
    pub p95: u64,
    /// Which device, interface, mount point or peer; absent for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Text<NAME_BYTES_MAX>>,
}
