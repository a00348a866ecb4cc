//! Points on their way to a mean.

use super::BLOCK;

/// The points of a mean that is not whole yet.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Block {
    sum: f64,
    /// The value farthest from the slow level of means.
    farthest: f64,
    points: u32,
}

/// A whole block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mean {
    pub(super) value: f64,
    /// The mean without the farthest value.
    pub(super) without_farthest: f64,
}

impl Block {
    /// Takes a value, and gives the mean when it is whole; `slow` is the slow level of means.
    pub(super) fn add(&mut self, value: f64, slow: f64) -> Option<Mean> {
        if self.points == 0 || (value - slow).abs() > (self.farthest - slow).abs() {
            self.farthest = value;
        }
        self.sum += value;
        self.points += 1;
        if self.points < BLOCK {
            return None;
        }
        let Self { sum, farthest, .. } = std::mem::take(self);
        let points = f64::from(BLOCK);
        Some(Mean { value: sum / points, without_farthest: (sum - farthest) / (points - 1.0) })
    }
}
