//! Metric windows: one series over one interval, as integers in the metric's unit.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::cbor::Text;
use crate::limits::NAME_BYTES_MAX;

/// What a window measures; the unit stands in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// CPU time per wall time, in thousandths of a core.
    #[n(1)]
    CpuMillicores,
    /// Memory in use, bytes (host: total less available; application: the cgroup's current charge).
    #[n(2)]
    MemoryBytes,
    /// Storage in use on a filesystem (label: mount point), bytes.
    #[n(3)]
    StorageBytes,
    /// Read from a disk (label: device), bytes per second.
    #[n(4)]
    DiskReadBytesPerSecond,
    /// Written to a disk (label: device), bytes per second.
    #[n(5)]
    DiskWriteBytesPerSecond,
    /// Received on an interface (label), bits per second.
    #[n(6)]
    NetworkReceiveBitsPerSecond,
    /// Sent on an interface (label), bits per second.
    #[n(7)]
    NetworkTransmitBitsPerSecond,
    /// Share of time in which some task waited for CPU, parts per million (PSI `some`).
    #[n(8)]
    CpuPressureSomePpm,
    /// The same for memory.
    #[n(9)]
    MemoryPressureSomePpm,
    /// Share of time in which all tasks waited for memory, parts per million (PSI `full`).
    #[n(10)]
    MemoryPressureFullPpm,
    /// Share of time in which some task waited for I/O, parts per million.
    #[n(11)]
    IoPressureSomePpm,
    /// Share of time in which all tasks waited for I/O, parts per million.
    #[n(12)]
    IoPressureFullPpm,
    /// Share of quota periods in which the group was throttled, parts per million.
    #[n(13)]
    CpuThrottledPpm,
    /// Round trip to a peer (label), microseconds.
    #[n(14)]
    LatencyMicroseconds,
}

impl Metric {
    /// The name with its unit, as in JSON.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// One series over one interval: `start_ms` and `duration_ms` on the host's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct MetricWindow {
    /// What is measured.
    #[n(0)]
    pub metric: Metric,
    /// Start on `CLOCK_BOOTTIME`, ms.
    #[n(1)]
    pub start_ms: u64,
    /// Length, ms.
    #[n(2)]
    pub duration_ms: u64,
    /// How many samples were folded; fewer than expected means a gap.
    #[n(3)]
    pub samples: u32,
    /// Arithmetic mean of the samples, rounded down.
    #[n(4)]
    pub mean: u64,
    /// Largest sample.
    #[n(5)]
    pub max: u64,
    /// 95th percentile of the samples (nearest rank).
    #[n(6)]
    pub p95: u64,
    /// Which device, interface, mount point or peer; absent for the whole.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Text<NAME_BYTES_MAX>>,
}
