//! Forecasts hour by hour, as operators see them.

use serde::{Deserialize, Serialize};

use crate::id::HostId;

/// One page of forecasts hour by hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourlyForecasts {
    /// One step, seconds: an hour.
    pub interval_s: u64,
    /// The start of the first hour that is told, Unix ms: of the hour that is not over yet.
    pub start_ms: u64,
    /// The same in RFC 3339, UTC.
    pub start: String,
    /// Quantile levels of the steps.
    pub quantile_levels: Vec<f64>,
    /// Of each series its hours. A series of which no hour was seen whole is left out.
    pub series: Vec<HourlySeries>,
    /// What to give as `after` for the next page; absent with the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One series' forecast hour by hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourlySeries {
    /// The host; absent for a sum over hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`.
    pub subject: String,
    /// What is forecast, as in [`ForecastView`](super::ForecastView).
    pub resource: String,
    /// `climatology`: what was used in the same hour of the days before, and in the hours beside it.
    pub method: String,
    /// Per hour, one value for each level: mean demand over the hour.
    pub steps: Vec<Vec<f64>>,
    /// Hours of history it rests on.
    pub history_rows: u64,
    /// Age of the oldest, seconds.
    pub history_age_s: u64,
}
