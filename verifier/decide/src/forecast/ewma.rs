//! The statistical rung: an exponentially weighted level with empirical quantiles of its own past errors.
//!
//! For each horizon the quantiles are those of the errors that this very rule made on the history, so no distribution is assumed:
//! Gaussian tails fail on bursty telemetry. A factor of 1 is the rule of the last value.

use super::past::{Past, is_demand};
use super::quantiles::{PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, Quantiles, STEPS};

/// The level's factor.
const LEVEL_FACTOR: f64 = 0.3;
/// Steps of history that errors are taken from: a day of five minutes.
const HISTORY_STEPS: usize = 288;
/// Fewest known points: two horizons, so that the farthest step has a horizon's worth of errors.
const KNOWN_MIN: usize = 24;

/// The rung's answer, or `None` where fewer than 24 points are known.
pub fn ewma(past: &Past<'_>) -> Option<Quantiles> {
    smoothed(past, LEVEL_FACTOR)
}

/// The same with another factor in 0..=1.
pub fn smoothed(past: &Past<'_>, factor: f64) -> Option<Quantiles> {
    let values = filled(past.newest(HISTORY_STEPS))?;
    let levels = levels(&values, factor);
    let level = *levels.last()?;
    let mut errors = Vec::with_capacity(values.len());
    let mut rows = [[0.0; QUANTILE_LEVELS.len()]; STEPS];
    for (row, ahead) in rows.iter_mut().zip(1..) {
        errors.clear();
        errors.extend(values.iter().skip(ahead).zip(&levels).map(|(value, level)| value - level));
        fill(row, level, &mut errors, &QUANTILE_LEVELS);
    }
    let mut peaks = [[0.0; PEAK_LEVELS.len()]; PEAK_STEPS.len()];
    for (row, length) in peaks.iter_mut().zip(PEAK_STEPS) {
        errors.clear();
        let windows = values.windows(length).skip(1);
        let highest = |window: &[f64]| window.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        errors.extend(windows.zip(&levels).map(|(window, level)| highest(window) - level));
        fill(row, level, &mut errors, &PEAK_LEVELS);
    }
    Quantiles::from_raw(rows, peaks)
}

/// The values from the first known one on, gaps filled by the value before; `None` where too few are known. What is no demand is a gap.
fn filled(values: &[Option<f64>]) -> Option<Vec<f64>> {
    let known = |value: &Option<f64>| value.filter(|value| is_demand(*value));
    if values.iter().filter_map(known).count() < KNOWN_MIN {
        return None;
    }
    let mut last = None;
    let filled = values.iter().filter_map(|value| {
        last = known(value).or(last);
        last
    });
    Some(filled.collect())
}

/// The level after each point. A point counts at most [`ABSURD`] times what is usual: one absurd value would be remembered for days.
fn levels(values: &[f64], factor: f64) -> Vec<f64> {
    let mut positive: Vec<f64> = values.iter().copied().filter(|value| *value > 0.0).collect();
    positive.sort_unstable_by(f64::total_cmp);
    let most = ABSURD * between(&positive, 0.9);
    let mut level = values.first().map_or(0.0, |value| value.min(most));
    let follow = |value: &f64| {
        level += factor * (value.min(most) - level);
        level
    };
    values.iter().map(follow).collect()
}

/// Times the 90 % quantile of what is not zero.
const ABSURD: f64 = 1000.0;

/// Level plus each quantile of the errors (linear between neighbours).
fn fill(row: &mut [f64], level: f64, errors: &mut [f64], at: &[f64]) {
    errors.sort_unstable_by(f64::total_cmp);
    for (place, quantile) in row.iter_mut().zip(at) {
        *place = level + between(errors, *quantile);
    }
}

/// The quantile of sorted values, linear between neighbours; 0 without values.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position within a slice, 0 ≤ q ≤ 1")]
#[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
pub(crate) fn between(sorted: &[f64], quantile: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = quantile.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::units::ResourceKind;

    use super::*;

    fn of(values: &[Option<f64>]) -> Option<Quantiles> {
        ewma(&Past { measure: ResourceKind::Cpu.into(), interval_s: 5, values })
    }

    #[test]
    fn a_constant_series_is_forecast_as_itself() {
        let quantiles = of(&[Some(250.0); 40]).unwrap();
        let all = quantiles.steps().iter().flatten().chain(quantiles.peaks().iter().flatten());
        assert!(all.into_iter().all(|v| (v - 250.0).abs() < 1e-9));
    }

    #[test]
    fn a_short_or_empty_history_gets_no_forecast() {
        assert!(of(&[Some(1.0); 23]).is_none());
        assert!(of(&[None; 60]).is_none());
        assert!(of(&[]).is_none());
    }

    #[test]
    fn what_is_no_demand_is_a_gap() {
        let clean: Vec<_> = (0..40).map(|i| Some(f64::from(i % 7))).collect();
        let mut dirty = clean.clone();
        for (at, bad) in [(5, f64::NAN), (11, f64::INFINITY), (20, -4.0)] {
            dirty[at] = Some(bad);
        }
        let mut gaps = clean;
        for at in [5, 11, 20] {
            gaps[at] = None;
        }
        assert_eq!(of(&dirty), of(&gaps));
    }

    #[test]
    fn bursts_raise_the_peak_above_the_median() {
        let history: Vec<_> = (0..96).map(|i| Some(if i % 8 == 0 { 900.0 } else { 100.0 })).collect();
        let quantiles = of(&history).unwrap();
        assert!(quantiles.longest_peak()[2] > 800.0);
        assert!(quantiles.steps()[0][4] < 400.0);
    }

    #[test]
    fn the_last_value_is_the_median_of_its_own_rule() {
        let history: Vec<_> = (0..288).map(|i| Some(f64::from((i * 37) % 11))).collect();
        let past = Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values: &history };
        let errors: Vec<f64> = history.windows(2).map(|pair| pair[1].unwrap() - pair[0].unwrap()).collect();
        let mut errors = errors;
        errors.sort_unstable_by(f64::total_cmp);
        let expected = (history[287].unwrap() + between(&errors, 0.5)).max(0.0);
        assert!((smoothed(&past, 1.0).unwrap().steps()[0][4] - expected).abs() < 1e-12);
    }
}
