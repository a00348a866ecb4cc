//! Whether the challenger may take over.

use std::fmt;

use super::bootstrap::{Interval, ratio_interval};
use super::record::{Hour, OfMeasure, Record, Side};
use crate::history::Measure;

/// A contest lasts so long at least, or so many series-hours of each measure that takes part.
const HOURS_MIN: u64 = 7 * 24;
const SERIES_HOURS_MIN: u64 = 500;
/// The challenger's loss over the champion's is this at most.
const RATIO_MAX: f64 = 0.99;
/// The share that the challenger's 95 % line covers.
const COVERAGE: (f64, f64) = (0.93, 0.97);
/// How much more of its requests the challenger may leave unused: what sampling alone makes of two models alike.
const SLACK_ROOM: f64 = 0.002;
/// The share of hours that may overrun when sizes are compared.
const OVERRUN: f64 = 0.05;
/// What is missing until a contest can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Hours recorded so far, of 168.
    pub hours: u64,
    /// The measure with the fewest series-hours, and how many, of 500; `None` while nothing is recorded.
    pub fewest: Option<(Measure, u64)>,
}

/// Why a challenger may not take over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objection {
    /// It is not better by enough, or not surely.
    NotBetter(Interval),
    /// Its 95 % line covers too little or too much.
    Coverage(f64),
    /// At 5 % of overruns it leaves more unused: the champion's share and the challenger's.
    Slack(f64, f64),
    /// The hours recorded do not vary: no interval follows.
    NoInterval,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((measure, series_hours)) = self.fewest else { return f.write_str("nothing was recorded yet") };
        let (hours, of) = (self.hours, measure.unit_name());
        write!(
            f,
            "{hours} hours of {HOURS_MIN} were recorded, or {series_hours} series-hours of {SERIES_HOURS_MIN} of {of}: one of both must be whole"
        )
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBetter(interval) => {
                write!(
                    f,
                    "its loss is {interval} of the champion's: at most {RATIO_MAX} is asked, and all of the interval below 1"
                )
            }
            Self::Coverage(covered) => {
                write!(f, "its 95 % line covers {covered:.3}: {} to {} is asked", COVERAGE.0, COVERAGE.1)
            }
            Self::Slack(champion, challenger) => {
                write!(f, "at 5 % of overruns it leaves {challenger:.3} unused, the champion {champion:.3}")
            }
            Self::NoInterval => f.write_str("too few hours lie side by side to tell chance from proof"),
        }
    }
}

/// What a contest came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Too early.
    Wait(Missing),
    /// The challenger may take over.
    Better {
        /// Its loss over the champion's.
        interval: Interval,
        /// The share that its 95 % line covers.
        coverage: f64,
        /// What champion and challenger leave unused at 5 % of overruns.
        slack: (f64, f64),
    },
    /// It may not; every reason.
    NotBetter(Vec<Objection>),
}

/// Judges a contest. `seed` draws the bootstrap's hours.
pub fn judge(record: &Record, seed: u64) -> Outcome {
    let fewest = record
        .measures
        .keys()
        .map(|measure| (*measure, record.series_hours(*measure)))
        .min_by_key(|(_, series_hours)| *series_hours);
    let hours = record.recorded_hours();
    let enough = hours >= HOURS_MIN || fewest.is_some_and(|(_, series_hours)| series_hours >= SERIES_HOURS_MIN);
    if fewest.is_none() || !enough {
        return Outcome::Wait(Missing { hours, fewest });
    }
    let mut objections = Vec::new();
    let all = hours_together(record);
    let pairs: Vec<(f64, f64)> = all.iter().map(|hour| (hour.losses[1], hour.losses[0])).collect();
    let interval = ratio_interval(&pairs, seed);
    match interval {
        None => objections.push(Objection::NoInterval),
        Some(found) if found.ratio > RATIO_MAX || found.high >= 1.0 => objections.push(Objection::NotBetter(found)),
        Some(_) => {}
    }
    let coverage = coverage(&all, Side::Challenger).unwrap_or_default();
    if !(COVERAGE.0..=COVERAGE.1).contains(&coverage) {
        objections.push(Objection::Coverage(coverage));
    }
    let (champion, challenger) = (slack(record, Side::Champion), slack(record, Side::Challenger));
    if challenger > champion + SLACK_ROOM {
        objections.push(Objection::Slack(champion, challenger));
    }
    match (interval, objections.is_empty()) {
        (Some(interval), true) => Outcome::Better { interval, coverage, slack: (champion, challenger) },
        _ => Outcome::NotBetter(objections),
    }
}

/// All measures' hours, added up and in order.
fn hours_together(record: &Record) -> Vec<Hour> {
    let mut all: Vec<Hour> = record.measures.values().flat_map(|of| &of.hours).copied().collect();
    all.sort_by_key(|hour| hour.number);
    let mut together: Vec<Hour> = Vec::new();
    for hour in all {
        match together.last_mut().filter(|last| last.number == hour.number) {
            None => together.push(hour),
            Some(last) => {
                for side in 0..2 {
                    last.losses[side] += hour.losses[side];
                    last.covered[side] += hour.covered[side];
                }
                last.steps += hour.steps;
                last.series_hours += hour.series_hours;
            }
        }
    }
    together
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn coverage(hours: &[Hour], side: Side) -> Option<f64> {
    let steps: u64 = hours.iter().map(|hour| hour.steps).sum();
    let covered: u64 = hours.iter().map(|hour| hour.covered[side as usize]).sum();
    (steps > 0).then(|| covered as f64 / steps as f64)
}

/// The mean share of requests that stays unused when all are multiplied so that 5 % of hours overrun.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among few thousand"
)]
fn slack(record: &Record, side: Side) -> f64 {
    let sizes: Vec<(f64, f64)> = record
        .measures
        .values()
        .flat_map(|OfMeasure { sizes, .. }| sizes)
        .map(|series_hour| series_hour[side as usize])
        .map(|(peak, mean)| (f64::from(peak), f64::from(mean)))
        .collect();
    let mut needs: Vec<f64> = sizes.iter().map(|(peak, _)| *peak).collect();
    needs.sort_unstable_by(f64::total_cmp);
    let rank = (((1.0 - OVERRUN) * needs.len() as f64).ceil() as usize).saturating_sub(1);
    let Some(factor) = needs.get(rank).copied().filter(|factor| *factor > 0.0) else { return 0.0 };
    sizes.iter().map(|(_, mean)| (1.0 - mean / factor).max(0.0)).sum::<f64>() / sizes.len() as f64
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use quotary_common::units::ResourceKind;

    use super::super::record::SeriesHour;
    use super::*;

    const CPU: Measure = Measure::Resource(ResourceKind::Cpu);

    /// 240 hours in which the challenger loses so many times as much, covers so many of 12 steps, and asks so many times as much.
    fn contest(loss: f64, covered: [u32; 2], asked: f64) -> Record {
        let mut record = Record::default();
        for hour in 0..240_u64 {
            for series in 0..4_u64 {
                let noise = 1.0 + ((hour * 31 + series * 17) % 13) as f64 / 13.0;
                let own = 1.0 + ((hour * 7 + series * 5) % 11) as f64 / 110.0;
                let one =
                    SeriesHour { loss: noise, steps: 12, covered: covered[0], peak_share: 0.8 * own, mean_share: 0.4 };
                // 11 and 12 of 12 in turn make 95 %.
                let of = if (hour + series) % 2 == 0 { covered[1] } else { covered[1].min(11) };
                let other = SeriesHour { loss: noise * own * loss, covered: of, mean_share: 0.4 / asked, ..one };
                record.add(CPU, hour, &one, &other);
            }
        }
        record
    }

    #[test]
    fn a_challenger_that_is_better_takes_over() {
        match judge(&contest(0.8, [11, 12], 1.0), 1) {
            Outcome::Better { interval, coverage, slack } => {
                assert!(interval.high < 1.0 && (0.93..=0.97).contains(&coverage), "{interval:?} {coverage}");
                assert!((slack.0 - slack.1).abs() < 1e-6);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_rule_refuses_by_itself() {
        let objections = |record: &Record| match judge(record, 1) {
            Outcome::NotBetter(objections) => objections,
            other => panic!("{other:?}"),
        };
        assert!(matches!(objections(&contest(0.95, [11, 12], 1.0))[..], [Objection::NotBetter(_)]));
        assert!(matches!(objections(&contest(0.8, [11, 10], 1.0))[..], [Objection::Coverage(_)]));
        assert!(matches!(objections(&contest(0.8, [11, 12], 1.2))[..], [Objection::Slack(..)]));
    }

    #[test]
    fn too_little_recorded_promotes_nobody() {
        assert_eq!(judge(&Record::default(), 1), Outcome::Wait(Missing { hours: 0, fewest: None }));
        let mut record = Record::default();
        let series_hour = SeriesHour { loss: 1.0, steps: 12, covered: 11, peak_share: 0.9, mean_share: 0.5 };
        for hour in 0..100 {
            record.add(CPU, hour, &series_hour, &SeriesHour { loss: 0.1, ..series_hour });
        }
        assert_eq!(judge(&record, 1), Outcome::Wait(Missing { hours: 100, fewest: Some((CPU, 100)) }));
    }
}
