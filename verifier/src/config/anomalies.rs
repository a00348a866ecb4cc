//! How often anomalies alarm, and how long they warn, checked.

use quotary_decide::alarm::Silence;
use quotary_decide::history::Measure;
use serde::Deserialize;

use super::Faults;

/// Silences at most.
const SILENCES_MAX: usize = 256;

/// `[anomalies]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAnomalies {
    /// Alarms of one series in a month of noise that does not change.
    per_series_and_month: f64,
    /// How long a host's results warn after its newest alarm, ms.
    warning_ms: u64,
    silence: Vec<RawSilence>,
}

impl Default for RawAnomalies {
    fn default() -> Self {
        Self { per_series_and_month: 1.0, warning_ms: 3_600_000, silence: Vec::new() }
    }
}

/// `[[anomalies.silence]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSilence {
    host: Option<String>,
    subject: Option<String>,
    resource: Option<String>,
}

/// How often anomalies alarm, and how long they warn.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRules {
    /// Alarms of one series in a month of noise that does not change.
    pub per_series_and_month: f64,
    /// How long a host's results warn after its newest alarm, ms.
    pub warning_ms: u64,
    /// Series that never alarm.
    pub silence: Vec<Silence>,
}

pub(super) fn check(raw: &RawAnomalies, faults: &mut Faults) -> AlarmRules {
    if !(0.001..=1_000.0).contains(&raw.per_series_and_month) {
        let given = raw.per_series_and_month;
        faults.add(format!("anomalies.per_series_and_month: {given} is not between 0.001 and 1000"));
    }
    if raw.warning_ms > 31 * 24 * 3_600_000 {
        faults.add(format!("anomalies.warning_ms: {} ms are more than a month", raw.warning_ms));
    }
    if raw.silence.len() > SILENCES_MAX {
        faults.add(format!("anomalies.silence: there are {}, at most {SILENCES_MAX} are looked at", raw.silence.len()));
    }
    let silence = raw.silence.iter().enumerate().filter_map(|(n, one)| silence(n + 1, one, faults)).collect();
    AlarmRules { per_series_and_month: raw.per_series_and_month, warning_ms: raw.warning_ms, silence }
}

fn silence(number: usize, raw: &RawSilence, faults: &mut Faults) -> Option<Silence> {
    let what = format!("anomalies.silence {number}");
    if raw.host.is_none() && raw.subject.is_none() && raw.resource.is_none() {
        faults.add(format!("{what}: names no host, subject or resource, so it would silence everything"));
        return None;
    }
    let is_subject = |subject: &str| {
        subject == "host" || ["/", "tenant:", "pool:"].iter().any(|beginning| subject.starts_with(beginning))
    };
    if let Some(subject) = raw.subject.as_deref().filter(|subject| !is_subject(subject)) {
        faults.add(format!("{what}: subject `{subject}` is none of host, a cgroup's path, tenant:NAME, pool:NAME"));
    }
    let measure = raw.resource.as_deref().map(|text| (text, Measure::named(text)));
    if let Some((text, None)) = measure {
        let known = "cpu, memory, storage, disk, network, requests, errors, latency";
        faults.add(format!("{what}: resource `{text}` is none of {known}"));
    }
    let host = match &raw.host {
        Some(text) => Some(faults.note(&format!("{what}: host must be the host's id in hexadecimal"), text.parse())?),
        None => None,
    };
    Some(Silence { host, subject: raw.subject.clone(), measure: measure.and_then(|(_, measure)| measure) })
}
