//! What a forecast is made from: the past of one series.

use crate::history::Measure;

/// One series' closed steps, oldest first, the newest last; `None` where nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// What it measures.
    pub measure: Measure,
    /// One step's length, seconds; more than 0.
    pub interval_s: u64,
    /// Mean demand per step, in any unit: forecasts are in the same.
    pub values: &'a [Option<f64>],
}

impl<'a> Past<'a> {
    /// How many steps hold a value that is a demand: finite and not negative.
    pub fn known(&self) -> usize {
        self.values.iter().flatten().filter(|value| is_demand(**value)).count()
    }

    /// The same past, seen so many steps earlier; `None` if it does not reach that far back.
    pub fn earlier(&self, steps: usize) -> Option<Self> {
        let values = self.values.get(..self.values.len().checked_sub(steps)?)?;
        Some(Self { values, ..*self })
    }

    /// The newest steps, at most `count`.
    pub fn newest(&self, count: usize) -> &'a [Option<f64>] {
        self.values.get(self.values.len().saturating_sub(count)..).unwrap_or_default()
    }

    /// How many steps make a day, where they make one exactly.
    pub fn day_steps(&self) -> Option<usize> {
        let whole = self.interval_s > 0 && DAY_S.is_multiple_of(self.interval_s);
        whole.then(|| usize::try_from(DAY_S / self.interval_s).ok()).flatten()
    }
}

const DAY_S: u64 = 86_400;

/// Whether a number can be a demand.
pub fn is_demand(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
