//! The straight line.

use super::transition::{Grid, Transition};

/// How much is moved at the end of each step, the start first. What shrinks is rounded down, what grows too: so lines side by side never
/// promise more than the ends of them do.
pub(super) fn straight(transition: &Transition, grid: &Grid) -> Vec<u64> {
    let (distance, window_s) = (u128::from(transition.distance()), u128::from(grid.window_s().max(1)));
    let moved = |step: usize| {
        let gone = distance * u128::from(grid.end_s(step));
        let moved = if transition.shrinks() { gone.div_ceil(window_s) } else { gone / window_s };
        u64::try_from(moved).unwrap_or(u64::MAX)
    };
    (0..=grid.steps).map(|step| if step == grid.steps { transition.distance() } else { moved(step) }).collect()
}
