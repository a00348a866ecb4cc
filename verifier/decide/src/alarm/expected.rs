//! How unlikely a forecast thought what came.

use crate::forecast::{QUANTILE_LEVELS, StepRow};

/// The probability, 0 to 1, that the forecast of a step gave to values as extreme as this one, on either side.
///
/// Between the levels it is interpolated; beyond the outermost the tail is exponential, as steep as between the two levels that bound it
/// (anchors, prediction §6). A forecast that knows but one value says nothing of others: `None`.
pub fn tail_of(row: &StepRow, value: f64) -> Option<f64> {
    let [lowest, second, .., ninetieth, _, highest] = *row;
    let [level_low, level_second, .., level_ninetieth, _, level_high] = QUANTILE_LEVELS;
    if !value.is_finite() || highest <= lowest {
        return None;
    }
    if value > highest {
        let per_e_fold = (highest - ninetieth) / ((1.0 - level_ninetieth) / (1.0 - level_high)).ln();
        return Some(2.0 * beyond(1.0 - level_high, value - highest, per_e_fold));
    }
    if value < lowest {
        let per_e_fold = (second - lowest) / (level_second / level_low).ln();
        return Some(2.0 * beyond(level_low, lowest - value, per_e_fold));
    }
    let below = interpolated(row, value);
    Some((2.0 * below.min(1.0 - below)).clamp(0.0, 1.0))
}

fn beyond(share: f64, distance: f64, per_e_fold: f64) -> f64 {
    // Levels that fall together leave no scale to measure by: what is beyond them was not expected at all.
    if per_e_fold > 0.0 { share * (-distance / per_e_fold).exp() } else { 0.0 }
}

/// The share of values below; where levels fall together on the value, the middle of them.
fn interpolated(row: &StepRow, value: f64) -> f64 {
    let first = row.partition_point(|quantile| *quantile < value);
    let after = row.partition_point(|quantile| *quantile <= value);
    let level = |at: usize| QUANTILE_LEVELS.get(at).copied();
    if after > first {
        let low = level(first).unwrap_or(1.0);
        return (low + level(after - 1).unwrap_or(1.0)) / 2.0;
    }
    match (first.checked_sub(1), row.get(first)) {
        (Some(before), Some(above)) => {
            let (low, high) = (level(before).unwrap_or(0.0), level(first).unwrap_or(1.0));
            let from = row.get(before).copied().unwrap_or(*above);
            low + (high - low) * (value - from) / (above - from)
        }
        (None, _) => level(0).unwrap_or(0.0),
        (_, None) => level(QUANTILE_LEVELS.len() - 1).unwrap_or(1.0),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Quantiles of an exponential distribution with mean 10.
    fn exponential() -> StepRow {
        QUANTILE_LEVELS.map(|level| -10.0 * (1.0 - level).ln())
    }

    #[test]
    fn the_tail_of_an_exponential_is_its_own() {
        let row = exponential();
        for value in [60.0f64, 100.0, 200.0] {
            let tail = tail_of(&row, value).unwrap();
            assert!((tail.ln() - (2.0f64.ln() - value / 10.0)).abs() < 1e-9, "{value}: {tail}");
        }
        let median = row[4];
        assert!((tail_of(&row, median).unwrap() - 1.0).abs() < 1e-9);
        assert!((tail_of(&row, (row[8] + row[9]) / 2.0).unwrap() - 0.15).abs() < 1e-9);
    }

    #[test]
    fn the_further_off_the_less_likely_and_never_no_number() {
        let row = exponential();
        let mut last = f64::INFINITY;
        for step in 0..400 {
            let tail = tail_of(&row, row[4] + f64::from(step)).unwrap();
            assert!((0.0..=1.0).contains(&tail) && tail <= last, "{step}: {tail}");
            last = tail;
        }
        for value in [0.0, -5.0, -1e300, 1e300] {
            assert!((0.0..=1.0).contains(&tail_of(&row, value).unwrap()), "{value}");
        }
        assert_eq!(tail_of(&row, f64::NAN), None);
    }

    #[test]
    fn a_forecast_of_one_value_says_nothing_and_levels_that_fall_together_bound_it() {
        assert_eq!(tail_of(&[5.0; 11], 9.0), None);
        let mut zeros = [0.0; 11];
        zeros[10] = 8.0;
        assert!(tail_of(&zeros, 0.0).unwrap() > 0.9, "{:?}", tail_of(&zeros, 0.0));
        zeros[8..].fill(8.0);
        assert_eq!(tail_of(&zeros, 9.0), Some(0.0), "no scale");
    }
}
