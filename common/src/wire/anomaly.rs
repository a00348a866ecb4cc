//! Alarms as replies and events tell them.

use serde::{Deserialize, Serialize};

use crate::anomaly::{Anomaly, AnomalyFinding, AnomalyKind};
use crate::id::HostId;

/// The reply to `GET /v1/anomalies`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomaliesView {
    /// Alarms, the newest first, at most 1,000.
    pub anomalies: Vec<AnomalyView>,
    /// How many older ones were asked for too, and are left out of the reply.
    #[serde(default)]
    pub older: u64,
    /// Series that are judged.
    pub series: u64,
    /// Of them, those too young to alarm.
    pub warming_up: u64,
    /// The stated rate: alarms of a series in a month of noise that does not change.
    pub per_series_and_month: f64,
}

/// One alarm: what was odd at one host, or in one sum, at about the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyView {
    /// The host; absent for a sum over hosts.
    pub host: Option<HostId>,
    /// Its short form, or the sum: `tenant:NAME`, `pool:NAME`.
    pub place: String,
    /// Where the first odd step began, Unix ms.
    pub at_ms: u64,
    /// When the newest finding was told, Unix ms.
    pub told_at_ms: u64,
    /// What is odd, the oddest first.
    pub findings: Vec<AnomalyFindingView>,
    /// How many more there were.
    pub beyond: u32,
}

/// What is odd about one series, with the figures behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyFindingView {
    /// Whose demand: `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`.
    pub subject: String,
    /// Of what, with its unit, as `cpu_millicores`.
    pub resource: String,
    /// What is odd.
    pub kind: AnomalyKind,
    /// Where the odd step began, Unix ms.
    pub at_ms: u64,
    /// How odd, 0 to 1.
    pub score: f64,
    /// What was to be expected.
    pub expected: f64,
    /// What came.
    pub came: f64,
    /// What `expected` and `came` are in.
    pub unit: String,
    /// Over how many steps.
    pub points: u32,
}

/// What an event tells of an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnomalyTold {
    /// Where the first odd step began, Unix ms.
    pub at_ms: u64,
    /// The oddest finding's kind.
    pub kind: AnomalyKind,
    /// Whose demand: `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`.
    pub subject: String,
    /// Of what, with its unit, as `cpu_millicores`.
    pub resource: String,
    /// How odd, thousandths.
    pub score_permille: u16,
    /// How many more series are in the alarm.
    pub more: u32,
}

impl From<&AnomalyFinding> for AnomalyFindingView {
    #[expect(clippy::cast_precision_loss, reason = "thousandths below 2^53, or their last digits do not matter")]
    fn from(finding: &AnomalyFinding) -> Self {
        Self {
            subject: finding.subject.as_str().to_owned(),
            resource: finding.resource.as_str().to_owned(),
            kind: finding.kind,
            at_ms: finding.at_ms,
            score: f64::from(finding.score_permille) / 1_000.0,
            expected: finding.expected_milli as f64 / 1_000.0,
            came: finding.came_milli as f64 / 1_000.0,
            unit: finding.kind.own_unit().unwrap_or_else(|| finding.resource.as_str()).to_owned(),
            points: finding.points,
        }
    }
}

impl AnomalyTold {
    /// What is told of an alarm; `None` of one without findings.
    pub fn of(anomaly: &Anomaly) -> Option<Self> {
        let first = anomaly.findings.first()?;
        let more = u32::try_from(anomaly.findings.len() - 1).unwrap_or(u32::MAX).saturating_add(anomaly.beyond);
        Some(Self {
            at_ms: anomaly.at_ms,
            kind: first.kind,
            subject: first.subject.as_str().to_owned(),
            resource: first.resource.as_str().to_owned(),
            score_permille: first.score_permille,
            more,
        })
    }
}
