//! When the next tick comes: each second, and where a plan is about to be at its target neither with it nor a whole second before. Pure.

/// From tick to tick, ms: how often the enforcer sees what time brought, and how late a lease may end.
pub(super) const TICK_MS: u64 = 1_000;
/// Ticks near an effective time come so much before it, or that and whole seconds more, at least and at most, ms. What a plan brings to its target it
/// brings there in the last tick before: closer, and a busy machine makes it late; farther, and it is there a second early.
const BEFORE_MS: (u64, u64) = (100, 900);
/// A tick that would not be comes earlier by this, ms.
const SHIFT_MS: u64 = 200;
/// Near is, ms.
const NEAR_MS: u64 = 10_000;

/// How long after this tick the next one comes, ms, when a plan is to be at its target in `effective_in_ms`, if any is.
pub(super) fn until_next_ms(effective_in_ms: Option<u64>) -> u64 {
    let before_ms = effective_in_ms.filter(|left_ms| *left_ms <= NEAR_MS).map(|left_ms| left_ms % TICK_MS);
    let is_fine = before_ms.is_none_or(|before_ms| (BEFORE_MS.0..=BEFORE_MS.1).contains(&before_ms));
    if is_fine { TICK_MS } else { TICK_MS - SHIFT_MS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_before_an_effective_time_is_clearly_before_it_and_less_than_a_second() {
        for begins_ms in 20_000..21_000_u64 {
            for late_ms in [0, 3, 20] {
                let (mut left_ms, mut shifts) = (begins_ms, 0);
                let last_ms = loop {
                    let pause_ms = until_next_ms(Some(left_ms)) + late_ms;
                    shifts += u64::from(pause_ms < TICK_MS);
                    match left_ms.checked_sub(pause_ms) {
                        Some(next_ms) => left_ms = next_ms,
                        None => break left_ms,
                    }
                };
                assert!((80..=920).contains(&last_ms), "{begins_ms} {late_ms}: {last_ms}");
                assert!(shifts <= 3, "{begins_ms} {late_ms}: {shifts}");
            }
        }
    }

    #[test]
    fn far_from_any_effective_time_ticks_come_each_second() {
        assert_eq!([None, Some(10_001), Some(600_000)].map(until_next_ms), [TICK_MS; 3]);
    }
}
