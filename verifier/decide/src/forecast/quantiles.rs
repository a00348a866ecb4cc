//! Quantiles of demand: what every forecast consists of.

/// Steps ahead.
pub const STEPS: usize = 12;
/// Quantile levels of each step.
pub const QUANTILE_LEVELS: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Quantile levels of the peaks.
pub const PEAK_LEVELS: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.995];
/// The peaks are over so many steps.
pub const PEAK_STEPS: [usize; 3] = [3, 6, 12];

/// One step's quantiles, one for each of [`QUANTILE_LEVELS`].
pub type StepRow = [f64; QUANTILE_LEVELS.len()];
/// One peak's quantiles, one for each of [`PEAK_LEVELS`].
pub type PeakRow = [f64; PEAK_LEVELS.len()];

/// The column of the median in [`QUANTILE_LEVELS`].
pub const MEDIAN: usize = 4;

/// Where each peak level stands among the quantile levels, if it is one of them.
const SHARED: [Option<usize>; PEAK_LEVELS.len()] = [Some(MEDIAN), Some(8), Some(9), Some(10), None];

/// Quantiles of demand per step ahead and of the highest demand within the next steps, in the series' own unit.
///
/// Only [`Quantiles::from_raw`] makes them: finite, at least 0, ascending in the level; a longer peak is never below a shorter
/// one, and a peak never below its steps at a common level, as a maximum is.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantiles {
    steps: [StepRow; STEPS],
    peaks: [PeakRow; PEAK_STEPS.len()],
}

impl Quantiles {
    /// Takes raw rows and puts them in order; negative values become 0. `None` if a value is not finite.
    pub fn from_raw(mut steps: [StepRow; STEPS], mut peaks: [PeakRow; PEAK_STEPS.len()]) -> Option<Self> {
        if !(are_finite(&steps) && are_finite(&peaks)) {
            return None;
        }
        for row in &mut steps {
            raise_to_running_maximum(row);
        }
        let (mut from, mut highest) = (0, [0.0; QUANTILE_LEVELS.len()]);
        let mut shorter = [0.0; PEAK_LEVELS.len()];
        for (row, until) in peaks.iter_mut().zip(PEAK_STEPS) {
            for step in steps.iter().take(until).skip(from) {
                raise_each(&mut highest, step);
            }
            from = until;
            let at_least = SHARED.map(|shared| shared.map_or(0.0, |column| highest[column]));
            raise_each(row, &at_least);
            raise_each(row, &shorter);
            raise_to_running_maximum(row);
            shorter = *row;
        }
        Some(Self { steps, peaks })
    }

    /// The same value at every level: what is said where nothing is known but one number.
    pub fn point(value: f64) -> Option<Self> {
        Self::from_raw([[value; QUANTILE_LEVELS.len()]; STEPS], [[value; PEAK_LEVELS.len()]; PEAK_STEPS.len()])
    }

    /// One row per step ahead, the next step first.
    pub fn steps(&self) -> &[StepRow; STEPS] {
        &self.steps
    }

    /// One row for each of [`PEAK_STEPS`].
    pub fn peaks(&self) -> &[PeakRow; PEAK_STEPS.len()] {
        &self.peaks
    }

    /// The longest peak's row.
    pub fn longest_peak(&self) -> &PeakRow {
        &self.peaks[PEAK_STEPS.len() - 1]
    }
}

/// Whether all are. Times 0 a finite number is 0, and all else is NaN: sums tell, without a branch for each.
fn are_finite<const LEVELS: usize>(rows: &[[f64; LEVELS]]) -> bool {
    let mut sums = [0.0; LEVELS];
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * 0.0);
    }
    !sums.iter().sum::<f64>().is_nan()
}

fn raise_each<const LEVELS: usize>(row: &mut [f64; LEVELS], least: &[f64; LEVELS]) {
    for (value, least) in row.iter_mut().zip(least) {
        *value = if *value < *least { *least } else { *value };
    }
}

fn raise_to_running_maximum(row: &mut [f64]) {
    let mut highest = 0.0_f64;
    for value in row {
        highest = if *value > highest { *value } else { highest };
        *value = highest;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_at_least_its_steps_and_the_shorter_peak() {
        let mut steps = [[1.0; 11]; STEPS];
        steps[2] = [4.0; 11];
        steps[8] = [6.0; 11];
        let quantiles = Quantiles::from_raw(steps, [[5.0; 5], [3.0; 5], [3.0, 3.0, 9.0, 8.0, 9.5]]).unwrap();
        assert_eq!(quantiles.peaks(), &[[5.0; 5], [5.0; 5], [6.0, 6.0, 9.0, 9.0, 9.5]]);
    }

    #[test]
    fn crossed_and_negative_quantiles_are_put_in_order() {
        let mut steps = [[2.0; 11]; STEPS];
        steps[0] = [-1.0, 0.5, 0.4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 2.9];
        let quantiles = Quantiles::from_raw(steps, [[0.0; 5]; 3]).unwrap();
        assert_eq!(quantiles.steps()[0], [0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0]);
        assert_eq!(quantiles.peaks()[0], [2.0, 2.0, 3.0, 3.0, 3.0]);
    }

    #[test]
    fn what_is_not_finite_makes_no_quantiles() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut steps = [[1.0; 11]; STEPS];
            steps[11][10] = bad;
            assert!(Quantiles::from_raw(steps, [[1.0; 5]; 3]).is_none());
            assert!(Quantiles::from_raw([[1.0; 11]; STEPS], [[1.0, 1.0, bad, 1.0, 1.0]; 3]).is_none());
        }
    }

    #[test]
    fn shared_levels_are_the_same_levels() {
        for (level, shared) in PEAK_LEVELS.iter().zip(SHARED) {
            let same = QUANTILE_LEVELS.iter().position(|one| (one - level).abs() < 1e-9);
            assert_eq!(same, shared, "{level}");
        }
        assert!((QUANTILE_LEVELS[MEDIAN] - 0.5).abs() < 1e-9);
    }
}
