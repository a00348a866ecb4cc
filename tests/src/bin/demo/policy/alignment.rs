//! How well a group meets its plan, from looks at the kernel: pure.

use quotary_common::plan::{Setpoint, ShapedControl};

/// One look at a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// When, Unix ms.
    pub(super) at_ms: u64,
    /// What the kernel had.
    pub(super) value: u64,
}

/// From when on a plan is at its target for good, Unix ms: its effective time, or earlier where it has nothing left to do.
pub(super) fn arrives_at_ms(setpoints: &[Setpoint]) -> Option<u64> {
    // What the kernel's rounding takes is no way.
    let last = setpoints.last()?.value;
    let is_there = |setpoint: &&Setpoint| setpoint.value.abs_diff(last) <= ShapedControl::MemoryHigh.slack(last);
    setpoints.iter().rev().take_while(is_there).last().map(|setpoint| setpoint.at_ms)
}

/// When a control came to stand at `target` for good, ms after `due_ms` (before it: less than 0). It happened between two looks: of both, the one that is
/// farther from `due_ms`.
///
/// `None` when it does not stand there at the last look, or did at the first: then nobody saw it come.
pub(super) fn aligned_ms(looks: &[Look], target: u64, due_ms: u64) -> Option<i64> {
    let last_off = looks.iter().rposition(|look| look.value != target)?;
    let (before, first) = (looks.get(last_off)?, looks.get(last_off + 1)?);
    let late = |look: &Look| i64::try_from(i128::from(look.at_ms) - i128::from(due_ms)).ok();
    let ends = [late(before)?, late(first)?];
    ends.into_iter().max_by_key(|ms| ms.unsigned_abs())
}

/// How far off a control came to stand at `target` for good, ms: after the effective time (more than 0), or before the plan had it there (less than 0).
pub(super) fn off_ms(looks: &[Look], target: u64, (arrives_at_ms, effective_at_ms): (u64, u64)) -> Option<i64> {
    let late = aligned_ms(looks, target, effective_at_ms)?;
    let early = aligned_ms(looks, target, arrives_at_ms)?;
    Some(if late > 0 { late } else { early.min(0) })
}

/// The value at an instant: that of the last look until then.
pub(super) fn value_at(looks: &[Look], at_ms: u64) -> Option<u64> {
    looks.iter().rev().find(|look| look.at_ms <= at_ms).map(|look| look.value)
}

/// The greatest step between looks that are `apart_ms` from each other at least.
pub(super) fn largest_step(looks: &[Look], apart_ms: u64) -> u64 {
    let mut largest = 0;
    let mut before: Option<Look> = None;
    for look in looks {
        let Some(earlier) = before else {
            before = Some(*look);
            continue;
        };
        if look.at_ms - earlier.at_ms.min(look.at_ms) >= apart_ms {
            largest = largest.max(look.value.abs_diff(earlier.value));
            before = Some(*look);
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(values: &[(u64, u64)]) -> Vec<Look> {
        values.iter().map(|&(at_ms, value)| Look { at_ms, value }).collect()
    }

    #[test]
    fn a_control_is_aligned_when_it_comes_to_its_target_for_good() {
        let course = looks(&[(9_000, 12), (9_900, 11), (10_100, 10), (10_300, 10)]);
        assert_eq!(aligned_ms(&course, 10, 10_000), Some(100));
        // Whoever looks seldom knows only that it was between two looks.
        let seldom = looks(&[(9_000, 12), (10_100, 10)]);
        assert_eq!(aligned_ms(&seldom, 10, 10_000), Some(-1_000));
        let early = looks(&[(4_000, 11), (5_000, 10), (9_000, 10), (11_000, 10)]);
        assert_eq!(aligned_ms(&early, 10, 10_000), Some(-6_000));
    }

    #[test]
    fn whoever_comes_between_the_plans_arrival_and_the_effective_time_is_not_off() {
        let course = looks(&[(8_500, 11), (8_600, 10), (10_100, 10)]);
        assert_eq!(off_ms(&course, 10, (8_000, 10_000)), Some(0));
        assert_eq!(off_ms(&course, 10, (9_000, 10_000)), Some(-500));
        assert_eq!(off_ms(&course, 10, (8_000, 8_400)), Some(200));
    }

    #[test]
    fn one_that_leaves_again_or_never_comes_is_not_aligned() {
        let left = looks(&[(9_000, 12), (10_000, 10), (10_500, 11)]);
        assert_eq!(aligned_ms(&left, 10, 10_000), None);
        let back = looks(&[(9_000, 12), (10_000, 10), (10_500, 11), (13_000, 10)]);
        assert_eq!(aligned_ms(&back, 10, 10_000), Some(3_000), "only the last time counts");
        assert_eq!(aligned_ms(&looks(&[(9_000, 12), (12_000, 11)]), 10, 10_000), None);
        assert_eq!(aligned_ms(&looks(&[(9_000, 10), (12_000, 10)]), 10, 10_000), None, "nobody saw it come");
        assert_eq!(aligned_ms(&[], 10, 10_000), None);
    }

    #[test]
    fn a_plan_arrives_when_it_has_nothing_left_to_do() {
        let setpoints = |values: &[(u64, u64)]| -> Vec<Setpoint> {
            values.iter().map(|&(at_ms, value)| Setpoint { at_ms, value }).collect()
        };
        assert_eq!(arrives_at_ms(&setpoints(&[(1_000, 7 << 20), (2_000, 6 << 20), (3_000, 5 << 20)])), Some(3_000));
        assert_eq!(
            arrives_at_ms(&setpoints(&[(1_000, 5 << 20), (2_000, 6 << 20), (3_000, (5 << 20) + 9), (4_000, 5 << 20)])),
            Some(3_000)
        );
        assert_eq!(arrives_at_ms(&[]), None);
    }

    #[test]
    fn a_cliff_shows_in_the_largest_step() {
        let ramp: Vec<Look> = (0..20).map(|tick| Look { at_ms: tick * 100, value: 1_000 - tick }).collect();
        assert_eq!(largest_step(&ramp, 1_000), 10);
        assert_eq!(largest_step(&looks(&[(0, 1_000), (1_000, 1_000), (2_000, 500)]), 1_000), 500);
        assert_eq!((value_at(&ramp, 550), value_at(&ramp[1..], 50)), (Some(995), None));
    }
}
