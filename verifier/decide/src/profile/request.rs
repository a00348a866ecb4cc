//! The request that costs least: room that stays unused against demand that finds none.
//!
//! Follows the cost of Autopilot's recommenders (Rzadca et al., EuroSys 2020): an overrun costs so much, unused room its share. With
//! quantiles of the peak at hand the least expected cost is found directly: where a little more room buys much certainty, it is
//! bought; where a spike cannot be foreseen, room for it is not kept all hour.

use crate::forecast::{MEDIAN, PEAK_LEVELS, Quantiles, STEPS};

/// Levels tried: the peak's own and some between them.
const LEVELS: [f64; 14] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.99, 0.995];

/// An amount for the next hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// In the forecast's unit.
    pub amount: f64,
    /// The level of the peak's quantile that it is, 0.5 to 0.995.
    pub level: f64,
}

/// The request of least expected cost, where an hour whose peak exceeds it costs `overrun_cost` times an hour that leaves it all unused.
pub fn request(quantiles: &Quantiles, overrun_cost: f64) -> Request {
    let usage = quantiles.steps().iter().map(|row| row[MEDIAN]).sum::<f64>() / STEPS_F64;
    let tried = LEVELS.map(|level| Request { amount: at(quantiles, level), level });
    let cost = |request: &Request| {
        let unused = if request.amount > 0.0 { (1.0 - usage / request.amount).max(0.0) } else { 0.0 };
        unused + overrun_cost * (1.0 - request.level)
    };
    tried
        .into_iter()
        .min_by(|one, other| cost(one).total_cmp(&cost(other)))
        .unwrap_or(Request { amount: at(quantiles, 0.95), level: 0.95 })
}

#[expect(clippy::cast_precision_loss, reason = "twelve")]
const STEPS_F64: f64 = STEPS as f64;

/// The hour's peak at `level`, by a line between the levels that are given.
fn at(quantiles: &Quantiles, level: f64) -> f64 {
    let row = quantiles.longest_peak();
    let above = PEAK_LEVELS.iter().position(|given| *given >= level - 1e-9).unwrap_or(PEAK_LEVELS.len() - 1);
    let Some(below) = above.checked_sub(1) else { return row[0] };
    let share = (level - PEAK_LEVELS[below]) / (PEAK_LEVELS[above] - PEAK_LEVELS[below]);
    row[below] + (row[above] - row[below]) * share
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn with_peaks(peaks: [f64; 5]) -> Quantiles {
        Quantiles::from_raw([[100.0; 11]; STEPS], [[100.0; 5], [100.0; 5], peaks]).unwrap()
    }

    #[test]
    fn certainty_that_costs_little_is_bought() {
        let narrow = request(&with_peaks([100.0, 101.0, 102.0, 103.0, 104.0]), 1.0);
        assert!((narrow.level - 0.995).abs() < 1e-9 || (narrow.level - 0.99).abs() < 1e-9, "{narrow:?}");
        let spiky = request(&with_peaks([100.0, 110.0, 5000.0, 9000.0, 9500.0]), 1.0);
        assert!((spiky.level - 0.9).abs() < 1e-9 && (spiky.amount - 110.0).abs() < 1e-9, "{spiky:?}");
    }

    #[test]
    fn the_dearer_an_overrun_the_larger_the_request() {
        let quantiles = with_peaks([110.0, 180.0, 240.0, 400.0, 700.0]);
        let amounts: Vec<f64> =
            [0.1, 1.0, 5.0, 50.0, 1000.0].iter().map(|cost| request(&quantiles, *cost).amount).collect();
        assert!(amounts.is_sorted(), "{amounts:?}");
        assert!(amounts[0] < amounts[4]);
    }

    #[test]
    fn an_idle_series_asks_for_nothing() {
        let idle = Quantiles::point(0.0).unwrap();
        assert!(request(&idle, 2.0).amount.abs() < 1e-12);
    }

    #[test]
    fn levels_between_those_given_lie_on_lines() {
        let quantiles = with_peaks([100.0, 180.0, 200.0, 240.0, 250.0]);
        assert!((at(&quantiles, 0.7) - 140.0).abs() < 1e-9);
        assert!((at(&quantiles, 0.97) - 220.0).abs() < 1e-9);
        assert!((at(&quantiles, 0.995) - 250.0).abs() < 1e-9);
    }
}
