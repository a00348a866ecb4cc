//! The statistical rung: an exponentially weighted level with empirical quantiles of its own past errors.
//!
//! Level factor 0.3. For each horizon the quantiles are those of the errors that this very rule made on the
//! history, so no distribution is assumed; Gaussian tails fail on bursty telemetry.

use std::collections::BTreeMap;

use super::forecast::{Forecast, Method, PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, STEPS};

const LEVEL_FACTOR: f64 = 0.3;
/// Fewest known points: one horizon's worth of errors.
const KNOWN_MIN: usize = 12;

/// A forecast from `history` (oldest first, gaps are `None`), or `None` where it is too short.
pub fn forecast(history: &[Option<f64>], interval_s: u64) -> Option<Forecast> {
    let known = history.iter().flatten().filter(|v| v.is_finite()).count();
    if known < KNOWN_MIN {
        return None;
    }
    let levels = levels(history);
    let level = *levels.last()?;
    let steps = (1..=STEPS)
        .map(|ahead| {
            let errors = sorted(errors(history, &levels, |at| history.get(at + ahead).copied().flatten()));
            quantiles(level, &errors, &QUANTILE_LEVELS)
        })
        .collect();
    let peaks = PEAK_STEPS
        .iter()
        .map(|&length| {
            let errors = sorted(errors(history, &levels, |at| peak(history, at, length)));
            (interval_s * length as u64, quantiles(level, &errors, &PEAK_LEVELS))
        })
        .collect::<BTreeMap<_, _>>();
    Some(Forecast {
        method: Method::Ewma,
        model: None,
        interval_s,
        steps,
        peaks,
        history_rows: known as u64,
        history_age_s: interval_s * history.len() as u64,
    })
}

/// The level after each point; a gap keeps it.
fn levels(history: &[Option<f64>]) -> Vec<f64> {
    let mut level = history.iter().flatten().copied().next().unwrap_or(0.0);
    history
        .iter()
        .map(|value| {
            if let Some(value) = value {
                level += LEVEL_FACTOR * (value - level);
            }
            level
        })
        .collect()
}

/// The largest known of the `length` points after `at`, when all of them are past.
fn peak(history: &[Option<f64>], at: usize, length: usize) -> Option<f64> {
    history.get(at + 1..=at + length)?.iter().flatten().copied().reduce(f64::max)
}

fn errors(history: &[Option<f64>], levels: &[f64], target: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
    (0..history.len()).filter_map(|at| Some(target(at)? - levels.get(at)?)).collect()
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Level plus each quantile of the sorted errors (linear between neighbours), never below zero.
fn quantiles(level: f64, errors: &[f64], at: &[f64]) -> Vec<f64> {
    at.iter()
        .map(|quantile| {
            let error = match errors {
                [] => 0.0,
                [one] => *one,
                many => between(many, *quantile),
            };
            (level + error).max(0.0)
        })
        .collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position within a slice, 0 ≤ q ≤ 1")]
fn between(sorted: &[f64], quantile: f64) -> f64 {
    let position = quantile * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_constant_series_is_forecast_as_itself() {
        let forecast = forecast(&vec![Some(250.0); 40], 5).unwrap();
        assert_eq!(forecast.steps.len(), STEPS);
        assert!(forecast.steps.iter().flatten().all(|v| (v - 250.0).abs() < 1e-9));
        assert!((forecast.peak_p95().unwrap() - 250.0).abs() < 1e-9);
        assert_eq!(forecast.peaks.keys().copied().collect::<Vec<_>>(), [15, 30, 60]);
    }

    #[test]
    fn a_short_or_empty_history_gets_no_forecast() {
        assert!(forecast(&[Some(1.0); 11], 5).is_none());
        assert!(forecast(&[None; 60], 5).is_none());
    }

    #[test]
    fn quantiles_ascend_and_bursts_raise_the_peak_above_the_median() {
        let history: Vec<_> = (0..96).map(|i| Some(if i % 8 == 0 { 900.0 } else { 100.0 })).collect();
        let forecast = forecast(&history, 300).unwrap();
        for row in forecast.steps.iter().chain(forecast.peaks.values()) {
            assert!(row.windows(2).all(|pair| pair[0] <= pair[1]), "{row:?}");
        }
        assert!(forecast.peak_p95().unwrap() > 800.0);
        assert!(forecast.steps[0][4] < 400.0);
    }
}
