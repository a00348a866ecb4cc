//! What is odd at one place at about the same time is one alarm.

use std::collections::BTreeMap;

use quotary_common::anomaly::{Anomaly, AnomalyFinding};
use quotary_common::cbor::{Bounded, Text};

use super::{AlarmRecord, Finding, MERGED_STEPS, Place, subject_name, told};

/// The alarms that more may be added to.
#[derive(Debug, Default)]
pub struct Merger {
    /// The first step of each place's newest alarm.
    open: BTreeMap<Place, u64>,
}

impl Merger {
    /// Alarms of before a restart may be added to as they could before it.
    pub fn reopen<'a>(&mut self, alarms: impl Iterator<Item = &'a AlarmRecord>, step_ms: u64) {
        for alarm in alarms {
            let step = self.open.entry(alarm.place()).or_default();
            *step = (*step).max(alarm.at_ms() / step_ms.max(1));
        }
    }

    /// Makes alarms of findings: at most one new one per place in [`MERGED_STEPS`] steps, what comes within them is added.
    pub fn merge(&mut self, mut findings: Vec<Finding>, step_ms: u64) -> Vec<Anomaly> {
        findings.sort_by(|a, b| a.step.cmp(&b.step).then(b.score.total_cmp(&a.score)));
        let newest = findings.last().map(|finding| finding.step);
        let mut alarms: BTreeMap<(u64, Place), (bool, Vec<Finding>)> = BTreeMap::new();
        for finding in findings {
            let place = Place::of(&finding.key);
            let open = self.open.get(&place).copied();
            let step = match open.filter(|open| (*open..open.saturating_add(MERGED_STEPS)).contains(&finding.step)) {
                Some(open) => open,
                None => {
                    self.open.insert(place.clone(), finding.step);
                    alarms.insert((finding.step, place.clone()), (false, Vec::new()));
                    finding.step
                }
            };
            alarms.entry((step, place)).or_insert((true, Vec::new())).1.push(finding);
        }
        if let Some(newest) = newest {
            self.open.retain(|_, step| step.saturating_add(MERGED_STEPS) > newest);
        }
        let alarms = alarms.into_iter();
        alarms.filter_map(|((step, place), (continues, of))| alarm(place, step * step_ms, continues, of)).collect()
    }
}

fn alarm(place: Place, at_ms: u64, continues: bool, mut findings: Vec<Finding>) -> Option<Anomaly> {
    findings.sort_by(|a, b| b.score.total_cmp(&a.score));
    let input = findings.first()?.input;
    let (findings, beyond) = Bounded::truncating(findings.iter().map(finding).collect());
    let (host, sum) = match place {
        Place::Host(host) => (Some(host), None),
        Place::Sum(name) => (None, Some(Text::lossy(&name))),
        Place::Gauges(host, cgroup) => (Some(host), Some(Text::lossy(&cgroup))),
    };
    let beyond = u32::try_from(beyond).unwrap_or(u32::MAX);
    Some(Anomaly { host, sum, at_ms, continues, findings, beyond, input })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a score is 0 to 1; casts saturate")]
fn finding(finding: &Finding) -> AnomalyFinding {
    AnomalyFinding {
        subject: Text::lossy(&subject_name(&finding.key.subject)),
        resource: Text::lossy(finding.key.measure.unit_name()),
        kind: told(finding.kind),
        at_ms: finding.at_ms,
        score_permille: (finding.score * 1_000.0) as u16,
        expected_milli: (finding.figures.expected * 1_000.0) as i64,
        came_milli: (finding.figures.came * 1_000.0) as i64,
        points: finding.figures.points,
    }
}
