//! Metric history as operators take it out.

use serde::{Deserialize, Serialize};

use crate::id::HostId;

/// One page of metric history. What was not seen is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    /// `minute`, `step` or `hour`.
    pub resolution: String,
    /// How long an interval is, ms.
    pub interval_ms: u64,
    /// Of each series what this page holds. A page holds series of one host, or sums.
    pub series: Vec<HistorySeries>,
    /// What to give as `after` for the next page; absent with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Some of one series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySeries {
    /// The host; absent for the sum of a tenant or a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`.
    pub subject: String,
    /// What is measured, with its unit: `cpu_millicores`, `memory_bytes`, `storage_bytes`, `disk_bytes_per_second`,
    /// `network_bits_per_second`; or what an application states: `requests_per_minute`, `errors_per_minute`,
    /// `request_latency_microseconds`.
    pub resource: String,
    /// Its points, oldest first.
    pub points: Vec<HistoryPoint>,
}

/// What was used in one interval. An interval that two pages share stands in both: means weigh by their samples, the
/// greater `max` stands, and one part that is censored censors the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// The interval's start, RFC 3339.
    pub timestamp: String,
    /// The same, Unix ms.
    pub start_ms: u64,
    /// Mean of the samples.
    pub mean: u64,
    /// Greatest sample (rounded up to 24 bits of precision).
    pub max: u64,
    /// How many samples there were.
    pub samples: u32,
    /// Whether usage was at a limit: it is a lower bound of the demand then.
    pub censored: bool,
}
