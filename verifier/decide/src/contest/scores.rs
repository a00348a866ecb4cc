//! How good forecasts were, once their time had come: hour by hour, for a week.

use std::collections::{BTreeMap, VecDeque};

use crate::forecast::{Came, QUANTILE_LEVELS, Quantiles};
use crate::history::Measure;

/// Hours that are kept: a week.
pub const SCORED_HOURS_MAX: usize = 168;
/// The columns of the levels whose coverage is told: .90, .95 and .99.
pub(super) const COVERED_COLUMNS: [usize; 3] = [8, 9, 10];
/// The columns of .1 to .9: what a weighted quantile loss is over.
const LOSS_COLUMNS: usize = 9;
/// A forecast's loss counts at most so many times what is usual: one absurd hour must decide nothing.
const LOSS_MAX: f64 = 20.0;

/// Of the forecasts of some hours.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Forecasts that were scored: at least one of their steps came.
    pub forecasts: u64,
    /// Steps that came.
    pub steps: u64,
    /// Of them, at or below the .90, .95 and .99 lines.
    pub covered: [u64; 3],
    /// Pinball losses over the levels .1 to .9, each over what the statistical rung usually loses on that series; without a unit.
    pub loss: f64,
    /// The same of what the statistical rung said of the same steps.
    pub ewma_loss: f64,
    /// Forecasts that losses were compared of.
    pub compared: u64,
    /// Steps by which the model is judged: it had a share in the answer, and the series moves.
    pub judged: u64,
    /// Of them, at or below the .95 line.
    pub judged_covered: u64,
}

impl Score {
    /// The share of steps at or below the .90, .95 and .99 lines; `None` before any step came.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn coverage(&self) -> Option<[f64; 3]> {
        (self.steps > 0).then(|| self.covered.map(|covered| covered as f64 / self.steps as f64))
    }

    /// The loss over the statistical rung's: below 1 the forecasts were worth their model. `None` where nothing was compared.
    pub fn loss_ratio(&self) -> Option<f64> {
        (self.compared > 0 && self.ewma_loss > 0.0).then(|| self.loss / self.ewma_loss)
    }

    fn add(&mut self, other: &Self) {
        self.forecasts += other.forecasts;
        self.steps += other.steps;
        self.covered.iter_mut().zip(other.covered).for_each(|(sum, more)| *sum += more);
        self.loss += other.loss;
        self.ewma_loss += other.ewma_loss;
        self.compared += other.compared;
        self.judged += other.judged;
        self.judged_covered += other.judged_covered;
    }
}

/// The loss of a forecast over the levels .1 to .9, in the series' unit.
pub(super) fn loss_of(told: &Quantiles, came: &Came) -> f64 {
    came.losses(told).iter().take(LOSS_COLUMNS).sum()
}

/// How many of the steps that came lay at or below each line.
pub(super) fn covered_of(told: &Quantiles, came: &Came) -> [u64; QUANTILE_LEVELS.len()] {
    let mut covered = [0; QUANTILE_LEVELS.len()];
    for (ahead, value) in came.known() {
        for (count, line) in covered.iter_mut().zip(told.steps()[ahead]) {
            *count += u64::from(value <= line);
        }
    }
    covered
}

/// The scores of one model's forecasts, by measure. Bounded: a week of hours of each.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    hours: BTreeMap<Measure, VecDeque<(u64, Score)>>,
}

impl Scores {
    /// Scores what was told of a series in the hour `hour` (Unix hours) against what came. `ewma` is what the statistical rung said of the
    /// same steps, and `usual` what it usually loses on that series (in its unit); without both, losses are not compared. `is_judged`: the
    /// model is judged by it.
    pub fn add(
        &mut self,
        (measure, hour): (Measure, u64),
        told: &Quantiles,
        came: &Came,
        ewma: Option<(&Quantiles, f64)>,
        is_judged: bool,
    ) {
        let steps = came.known().count() as u64;
        let Some(sums) = self.of_hour(measure, hour).filter(|_| steps > 0) else { return };
        let covered = covered_of(told, came);
        let mut score =
            Score { forecasts: 1, steps, covered: COVERED_COLUMNS.map(|column| covered[column]), ..Score::default() };
        // What stands still lies below every line: it says nothing of them.
        if is_judged && moves(came) {
            (score.judged, score.judged_covered) = (steps, covered[COVERED_COLUMNS[1]]);
        }
        if let Some((ewma, usual)) = ewma.filter(|(_, usual)| *usual > 0.0) {
            score.loss = (loss_of(told, came) / usual).min(LOSS_MAX);
            score.ewma_loss = (loss_of(ewma, came) / usual).min(LOSS_MAX);
            score.compared = 1;
        }
        sums.add(&score);
    }

    /// The score of a measure's forecasts in the `count` hours up to and with `hour`.
    pub fn of(&self, measure: Measure, hour: u64, count: u64) -> Score {
        let mut sum = Score::default();
        for (number, score) in self.hours.get(&measure).into_iter().flatten() {
            if *number <= hour && hour - number < count {
                sum.add(score);
            }
        }
        sum
    }

    /// The same of all measures that a model is asked about.
    pub fn of_models(&self, hour: u64, count: u64) -> Score {
        let mut sum = Score::default();
        for measure in Measure::ALL.into_iter().filter(|measure| is_a_models(*measure)) {
            sum.add(&self.of(measure, hour, count));
        }
        sum
    }

    /// How many of the hours up to `hour` within `count` the model was judged by.
    fn judged_hours(&self, hour: u64, count: u64) -> usize {
        let of_models = self.hours.iter().filter(|(measure, _)| is_a_models(**measure));
        let judged = of_models.flat_map(|(_, hours)| hours).filter(|(_, score)| score.judged > 0);
        let within = judged.map(|(number, _)| *number).filter(|number| *number <= hour && hour - number < count);
        within.collect::<std::collections::BTreeSet<u64>>().len()
    }

    /// The measures that anything was scored of.
    pub fn measures(&self) -> impl Iterator<Item = Measure> {
        self.hours.keys().copied()
    }

    fn of_hour(&mut self, measure: Measure, hour: u64) -> Option<&mut Score> {
        let hours = self.hours.entry(measure).or_default();
        let at = hours.partition_point(|(number, _)| *number < hour);
        if hours.get(at).is_none_or(|(number, _)| *number != hour) {
            if at == 0 && hours.len() >= SCORED_HOURS_MAX {
                return None;
            }
            hours.insert(at, (hour, Score::default()));
            if hours.len() > SCORED_HOURS_MAX {
                hours.pop_front();
                return hours.get_mut(at - 1).map(|(_, score)| score);
            }
        }
        hours.get_mut(at).map(|(_, score)| score)
    }
}

fn moves(came: &Came) -> bool {
    let mut values = came.known().map(|(_, value)| value);
    let first = values.next();
    values.any(|value| Some(value) != first)
}

/// Whether models forecast it: a resource, but for storage, which the simple rungs do.
fn is_a_models(measure: Measure) -> bool {
    use quotary_common::units::ResourceKind::{Cpu, Disk, Memory, Network};
    measure.resource().is_some_and(|resource| matches!(resource, Cpu | Memory | Disk | Network))
}

/// The share that the 95 % line may cover over a day; and the steps that this must rest on.
const LINES: (f64, f64) = (0.90, 0.99);
const DAY_HOURS: u64 = 24;
const LINES_STEPS_MIN: u64 = 1200;
/// Hours of the day that anything must have come in.
const LINES_HOURS_MIN: usize = 20;

/// The share of steps that the 95 % line covered over the day up to `hour`, where it lies outside of 90 to 99 % and enough came to say so:
/// the forecasts drift. Only steps count by which the model is judged.
pub fn drift(scores: &Scores, hour: u64) -> Option<f64> {
    let day = scores.of_models(hour, DAY_HOURS);
    if day.judged < LINES_STEPS_MIN || scores.judged_hours(hour, DAY_HOURS) < LINES_HOURS_MIN {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let covered = day.judged_covered as f64 / day.judged as f64;
    (!(LINES.0..=LINES.1).contains(&covered)).then_some(covered)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::units::ResourceKind;

    use super::*;
    use crate::forecast::STEPS;

    const CPU: Measure = Measure::Resource(ResourceKind::Cpu);

    fn told(lines: [f64; 11]) -> Quantiles {
        Quantiles::from_raw([lines; STEPS], [[lines[10]; 5]; 3]).unwrap()
    }

    const LINES_OF: [f64; 11] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 20.0];

    fn came(value: f64, steps: usize) -> Came {
        Came::from_steps(&vec![Some(value); steps])
    }

    #[test]
    fn a_forecast_is_scored_by_what_came_of_it() {
        let mut scores = Scores::default();
        scores.add((CPU, 5), &told(LINES_OF), &came(9.5, 12), Some((&told([5.0; 11]), 100.0)), true);
        scores.add((CPU, 5), &told(LINES_OF), &came(4.0, 3), None, true);
        let score = scores.of(CPU, 5, 1);
        assert_eq!((score.forecasts, score.steps, score.covered, score.compared), (2, 15, [3, 15, 15], 1));
        // Twelve steps of sum(level (9.5 - line)) over .1 to .9, over 100; EWMA's of 4.5 each.
        let loss: f64 = (1..=9).map(|level| f64::from(level) / 10.0 * (9.5 - f64::from(level))).sum::<f64>() * 0.12;
        assert!((score.loss - loss).abs() < 1e-9 && (score.ewma_loss - 0.12 * 4.5 * 4.5).abs() < 1e-9, "{score:?}");
        assert!(score.loss_ratio().is_some_and(|ratio| (ratio - loss / (0.12 * 4.5 * 4.5)).abs() < 1e-9));
    }

    #[test]
    fn what_has_not_come_scores_nothing() {
        let mut scores = Scores::default();
        scores.add((CPU, 5), &told(LINES_OF), &came(f64::NAN, 12), None, true);
        assert_eq!(scores.of(CPU, 5, 1), Score::default());
        assert!(scores.of(CPU, 5, 1).coverage().is_none() && scores.of(CPU, 5, 1).loss_ratio().is_none());
    }

    #[test]
    fn a_week_is_kept_whatever_the_order_of_hours() {
        let mut scores = Scores::default();
        for hour in (0..1000).rev().chain(0..1000) {
            scores.add((CPU, hour), &told(LINES_OF), &came(1.0, 1), None, true);
        }
        assert_eq!(scores.hours[&CPU].len(), SCORED_HOURS_MAX);
        assert_eq!(scores.of(CPU, 999, 24).forecasts, 48);
        assert_eq!(scores.of(CPU, 999, 10_000).forecasts, scores.of(CPU, 999, 168).forecasts);
        assert_eq!(scores.of(CPU, 100, 24).forecasts, 0);
    }

    /// 2,400 forecasts of two steps over `hours`, every twentieth with other values.
    fn told_over(hours: u64, values: [f64; 2], others: [f64; 2], is_judged: bool) -> Scores {
        let mut scores = Scores::default();
        for step in 0..2400_u64 {
            let came = Came::from_steps(&(if step % 20 == 0 { others } else { values }).map(Some));
            scores.add((CPU, 100 + step % hours), &told(LINES_OF), &came, None, is_judged);
        }
        scores
    }

    #[test]
    fn forecasts_drift_when_a_days_line_covers_too_little_or_too_much() {
        let over_a_day = |values, others| drift(&told_over(24, values, others, true), 123);
        assert_eq!(over_a_day([5.0, 6.0], [15.0, 16.0]), None);
        assert!(over_a_day([15.0, 16.0], [5.0, 6.0]).is_some_and(|covered| covered < 0.1));
        assert!(over_a_day([5.0, 6.0], [5.0, 6.0]).is_some_and(|covered| covered > 0.99));
        // A day later nothing of it counts, and one hour is no day.
        assert_eq!(drift(&told_over(24, [15.0, 16.0], [5.0, 6.0], true), 150), None);
        assert_eq!(drift(&told_over(1, [15.0, 16.0], [5.0, 6.0], true), 100), None);
    }

    #[test]
    fn what_stands_still_and_what_the_model_did_not_say_is_no_drift() {
        assert_eq!(drift(&told_over(24, [5.0, 5.0], [5.0, 5.0], true), 123), None);
        assert_eq!(drift(&told_over(24, [15.0, 16.0], [5.0, 6.0], false), 123), None);
    }

    #[test]
    fn one_absurd_hour_decides_nothing() {
        let mut scores = Scores::default();
        scores.add((CPU, 1), &told(LINES_OF), &came(1e12, 12), Some((&told([5.0; 11]), 1.0)), true);
        assert!((scores.of(CPU, 1, 1).loss - LOSS_MAX).abs() < 1e-9);
    }
}
