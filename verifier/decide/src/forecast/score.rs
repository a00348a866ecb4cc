//! How good a forecast was, once its time has come.

use super::past::is_demand;
use super::quantiles::{MEDIAN, PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, Quantiles, STEPS};

/// The quantile ("pinball") loss of `quantile` at `level` when `came` came; in the series' unit (Koenker and Bassett 1978).
pub fn pinball(came: f64, quantile: f64, level: f64) -> f64 {
    let error = came - quantile;
    (level * error).max((level - 1.0) * error)
}

/// What came in the steps that a forecast was of.
#[derive(Debug, Clone, PartialEq)]
pub struct Came {
    steps: [Option<f64>; STEPS],
}

impl Came {
    /// From the steps after the origin; more than [`STEPS`] are left out, fewer are gaps. What is no demand is a gap.
    pub fn from_steps(values: &[Option<f64>]) -> Self {
        let mut steps = [None; STEPS];
        for (place, value) in steps.iter_mut().zip(values) {
            *place = value.filter(|value| is_demand(*value));
        }
        Self { steps }
    }

    /// The steps that are known, with how far ahead each was (0 is the first).
    pub fn known(&self) -> impl Iterator<Item = (usize, f64)> {
        self.steps.iter().enumerate().filter_map(|(ahead, value)| Some((ahead, (*value)?)))
    }

    /// The highest of the first [`PEAK_STEPS`] steps, of each length, where all of them are known.
    pub fn peaks(&self) -> [Option<f64>; PEAK_STEPS.len()] {
        PEAK_STEPS.map(|length| {
            let steps = self.steps.get(..length)?;
            steps.iter().try_fold(0.0_f64, |highest, value| Some(highest.max((*value)?)))
        })
    }

    /// The mean of what is known, if anything is.
    pub fn mean(&self) -> Option<f64> {
        let (sum, count) = self.known().fold((0.0, 0.0), |(sum, count), (_, value)| (sum + value, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// Sums over the known steps of the pinball loss of each quantile level.
    pub fn losses(&self, quantiles: &Quantiles) -> [f64; QUANTILE_LEVELS.len()] {
        let mut losses = [0.0; QUANTILE_LEVELS.len()];
        for (ahead, came) in self.known() {
            for ((loss, quantile), level) in losses.iter_mut().zip(quantiles.steps()[ahead]).zip(QUANTILE_LEVELS) {
                *loss += pinball(came, quantile, level);
            }
        }
        losses
    }

    /// Sum over the known peaks of the pinball losses above the median.
    pub fn peak_loss(&self, quantiles: &Quantiles) -> f64 {
        let peaks = self.peaks().into_iter().zip(quantiles.peaks());
        let known = peaks.filter_map(|(came, row)| Some((came?, row)));
        known
            .flat_map(|(came, row)| row.iter().zip(PEAK_LEVELS).skip(1).map(move |(q, level)| pinball(came, *q, level)))
            .sum()
    }

    /// Sum over the known steps of the distance from the median.
    pub fn absolute_error(&self, quantiles: &Quantiles) -> f64 {
        self.known().map(|(ahead, came)| (came - quantiles.steps()[ahead][MEDIAN]).abs()).sum()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pinball_weighs_what_lies_above_by_the_level_and_what_lies_below_by_the_rest() {
        assert!((pinball(10.0, 6.0, 0.9) - 3.6).abs() < 1e-12);
        assert!((pinball(6.0, 10.0, 0.9) - 0.4).abs() < 1e-12);
        assert!(pinball(5.0, 5.0, 0.3).abs() < 1e-12);
    }

    #[test]
    fn gaps_and_what_is_no_demand_are_left_out() {
        let came = Came::from_steps(&[Some(1.0), None, Some(f64::NAN), Some(-3.0), Some(5.0)]);
        assert_eq!(came.known().collect::<Vec<_>>(), [(0, 1.0), (4, 5.0)]);
        assert_eq!(came.peaks(), [None, None, None]);
        assert_eq!(came.mean(), Some(3.0));
        let of_three = Came::from_steps(&[Some(1.0), Some(4.0), Some(2.0)]);
        assert_eq!(of_three.peaks(), [Some(4.0), None, None]);
    }

    #[test]
    fn losses_are_sums_over_the_known_steps() {
        let quantiles = Quantiles::point(2.0).unwrap();
        let came = Came::from_steps(&[Some(3.0), None, Some(1.0)]);
        let losses = came.losses(&quantiles);
        assert!((losses[8] - (0.9 + 0.1)).abs() < 1e-12);
        assert!((came.absolute_error(&quantiles) - 2.0).abs() < 1e-12);
        let whole = Came::from_steps(&[Some(4.0); 12]);
        let expected: f64 = 3.0 * 2.0 * (0.9 + 0.95 + 0.99 + 0.995);
        assert!((whole.peak_loss(&quantiles) - expected).abs() < 1e-9);
    }
}
