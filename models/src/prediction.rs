//! A forecast of demand as quantiles.

use std::sync::Arc;

/// What the rows and columns of a [`Prediction`] mean; shared by all predictions of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Levels {
    pub(crate) quantile_levels: Vec<f64>,
    pub(crate) peak_steps: Vec<usize>,
    pub(crate) peak_levels: Vec<f64>,
}

/// Levels closer than this are one level: they come from decimal text.
const SAME_LEVEL: f64 = 1e-9;

/// Quantiles of demand in the caller's unit: finite, at least 0, ascending in the level. One step is one step of the context.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    levels: Arc<Levels>,
    steps: Vec<Vec<f64>>,
    peaks: Vec<Vec<f64>>,
}

impl Prediction {
    /// Takes rows that are finite and at least 0 and makes them consistent:
    /// ascending along levels (f32 rounding may cross them by a hair); a peak at least each of its steps at the same level and at
    /// least a shorter peak, as a maximum is.
    pub(crate) fn from_rows(levels: Arc<Levels>, mut steps: Vec<Vec<f64>>, mut peaks: Vec<Vec<f64>>) -> Self {
        for row in &mut steps {
            raise_to_running_maximum(row);
        }
        let mut shorter: Vec<f64> = vec![0.0; levels.peak_levels.len()];
        for (row, length) in peaks.iter_mut().zip(&levels.peak_steps) {
            for (column, level) in levels.peak_levels.iter().enumerate() {
                let index = position(&levels.quantile_levels, *level);
                let members = steps.iter().take(*length).filter_map(|step| step.get(index?).copied());
                let floor = members.chain(shorter.get(column).copied()).fold(0.0, f64::max);
                if let Some(peak) = row.get_mut(column) {
                    *peak = peak.max(floor);
                }
            }
            raise_to_running_maximum(row);
            shorter.clone_from(row);
        }
        Self { levels, steps, peaks }
    }

    /// The levels of [`Prediction::steps`]' columns, ascending, in 0..1.
    #[must_use]
    pub fn quantile_levels(&self) -> &[f64] {
        &self.levels.quantile_levels
    }

    /// One row per step ahead, the next step first; one column per quantile level.
    #[must_use]
    pub fn steps(&self) -> &[Vec<f64>] {
        &self.steps
    }

    /// Demand at `step` ahead (0 is the next) at `level`, if the model gives both.
    #[must_use]
    pub fn step(&self, step: usize, level: f64) -> Option<f64> {
        self.steps.get(step)?.get(position(&self.levels.quantile_levels, level)?).copied()
    }

    /// How many steps each row of [`Prediction::peaks`] spans, ascending.
    #[must_use]
    pub fn peak_steps(&self) -> &[usize] {
        &self.levels.peak_steps
    }

    /// The levels of [`Prediction::peaks`]' columns, ascending, in 0..1.
    #[must_use]
    pub fn peak_levels(&self) -> &[f64] {
        &self.levels.peak_levels
    }

    /// Quantiles of the highest demand within the next steps: one row per [`Prediction::peak_steps`], one column per peak level.
    #[must_use]
    pub fn peaks(&self) -> &[Vec<f64>] {
        &self.peaks
    }

    /// The highest demand within the next `steps` steps at `level`, if the model gives both.
    #[must_use]
    pub fn peak(&self, steps: usize, level: f64) -> Option<f64> {
        let row = self.levels.peak_steps.iter().position(|length| *length == steps)?;
        self.peaks.get(row)?.get(position(&self.levels.peak_levels, level)?).copied()
    }
}

fn position(levels: &[f64], level: f64) -> Option<usize> {
    levels.iter().position(|one| (one - level).abs() < SAME_LEVEL)
}

fn raise_to_running_maximum(row: &mut [f64]) {
    let mut highest = 0.0_f64;
    for value in row {
        highest = highest.max(*value);
        *value = highest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Arc<Levels> {
        Arc::new(Levels { quantile_levels: vec![0.5, 0.9], peak_steps: vec![1, 2], peak_levels: vec![0.9, 0.99] })
    }

    #[test]
    fn a_peak_is_at_least_its_steps_and_the_shorter_peak() {
        let steps = vec![vec![1.0, 4.0], vec![2.0, 6.0]];
        let prediction = Prediction::from_rows(levels(), steps, vec![vec![3.0, 9.0], vec![5.0, 8.0]]);
        assert_eq!(prediction.peaks(), [vec![4.0, 9.0], vec![6.0, 9.0]]);
    }

    #[test]
    fn crossed_quantiles_are_put_in_order() {
        let prediction = Prediction::from_rows(levels(), vec![vec![2.0, 1.9]], vec![vec![7.0, 6.0], vec![7.0, 7.5]]);
        assert_eq!(prediction.steps(), [vec![2.0, 2.0]]);
        assert_eq!(prediction.peaks(), [vec![7.0, 7.0], vec![7.0, 7.5]]);
    }

    #[test]
    fn values_are_found_by_step_and_level() {
        let prediction = Prediction::from_rows(levels(), vec![vec![1.0, 2.0]], vec![vec![2.0, 3.0], vec![4.0, 5.0]]);
        assert_eq!(prediction.step(0, 0.9), Some(2.0));
        assert_eq!(prediction.step(1, 0.9), None);
        assert_eq!(prediction.step(0, 0.8), None);
        assert_eq!(prediction.peak(2, 0.99), Some(5.0));
        assert_eq!(prediction.peak(3, 0.99), None);
    }
}
