//! Alarms: every closed step of every series is judged once, and what is odd about it is told at a stated rate.
//!
//! Does: keeps a detector ([`crate::anomaly`]) per series, hands it each closed step with what the forecast before expected of it, holds
//! back what is told already, and merges what is odd at one host (or in one sum) at about the same time into one alarm.
//! May assume: that the history it looks at is fed from committed evidence; nothing of the values in it.
//! Promises: causal; one series' values move no other series' detector; bounded: one detector per series of the history, one alarm per
//! place and step, [`MERGED_STEPS`] apart; what was judged before a restart is judged again silently, from the same steps.
//! Must never: lower a trust, refuse anything, or read a clock.

mod book;
mod expected;
mod merge;
mod record;
mod silence;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests"
)]
mod tests;
mod watch;

use quotary_common::anomaly::AnomalyKind;
use quotary_common::id::{Digest, HostId};

use crate::anomaly::{Figures, Kind};
use crate::history::{SeriesKey, Subject};

pub use book::{ALARMS_MAX, ALARMS_OF_ONE_MAX, AlarmBook};
pub use expected::tail_of;
pub use merge::Merger;
pub use record::AlarmRecord;
pub use silence::Silence;
pub use watch::{Counts, Watch};

/// After an alarm a series is quiet for so many steps: an hour of 5 min. Within them the detector goes on, and tells nothing.
pub const REFRACTORY_STEPS: u64 = 12;
/// What is odd at one place within so many steps after the first is one alarm: 15 min of 5 min.
pub const MERGED_STEPS: u64 = 3;
/// So many steps of a series are judged again after a restart: three days of 5 min, from which the rhythm of a day is known.
pub const RELIVED_STEPS: u64 = 864;
/// A month, ms: the stated rate is per series and this.
pub const MONTH_MS: u64 = 31 * 24 * 3_600_000;

/// What is odd about one step of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The series.
    pub key: SeriesKey,
    /// The step's number: its start over its length.
    pub step: u64,
    /// Where the step began, Unix ms.
    pub at_ms: u64,
    /// What is odd.
    pub kind: Kind,
    /// How odd, 0 to 1.
    pub score: f64,
    /// The figures behind it.
    pub figures: Figures,
    /// SHA-256 of the steps that it was judged by; see [`quotary_common::anomaly::Anomaly::input`].
    pub input: Digest,
}

/// Where alarms are merged: a host, or a sum.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A host with all that runs on it.
    Host(HostId),
    /// A tenant's or a pool's sum, by its name with its kind.
    Sum(String),
    /// What an application on a host states of itself, by its cgroup: its own word, which says nothing of the host.
    Gauges(HostId, String),
}

impl Place {
    /// Where a series is.
    pub fn of(key: &SeriesKey) -> Self {
        match (key.host, key.measure.resource()) {
            (None, _) => Self::Sum(subject_name(&key.subject)),
            (Some(host), Some(_)) => Self::Host(host),
            (Some(host), None) => Self::Gauges(host, subject_name(&key.subject)),
        }
    }
}

/// A series' subject as replies, requests and leaves name it.
pub fn subject_name(subject: &Subject) -> String {
    match subject {
        Subject::Host => "host".to_owned(),
        Subject::Cgroup(path) => path.clone(),
        Subject::Tenant(name) => format!("tenant:{name}"),
        Subject::Pool(name) => format!("pool:{name}"),
    }
}

/// The detector's word for a kind, as it is told.
pub const fn told(kind: Kind) -> AnomalyKind {
    match kind {
        Kind::Spike => AnomalyKind::Spike,
        Kind::LevelShift => AnomalyKind::LevelShift,
        Kind::Flatline => AnomalyKind::Flatline,
        Kind::Leak => AnomalyKind::Leak,
        Kind::UnusualDensity => AnomalyKind::UnusualDensity,
        Kind::UnusualShape => AnomalyKind::UnusualShape,
    }
}

/// The line of so many alarms per series and month, for steps of `step_ms`: a score.
#[expect(clippy::cast_precision_loss, reason = "steps of a month are far below 2^53")]
pub fn line_of(per_series_and_month: f64, step_ms: u64) -> f64 {
    let steps = MONTH_MS as f64 / step_ms.max(1) as f64;
    crate::anomaly::threshold(steps / per_series_and_month)
}
