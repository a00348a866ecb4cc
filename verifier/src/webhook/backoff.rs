//! How long to wait before a delivery is tried again.

/// After the first failure, ms.
const FIRST_MS: u64 = 1_000;
/// At most, ms.
const LONGEST_MS: u64 = 300_000;

/// The wait after so many failures in a row: doubled each time, up to five minutes; `chance` picks an instant in its
/// second half, so that receivers that fell together are not called together.
pub(super) fn wait_ms(failures: u64, chance: u64) -> u64 {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let whole_ms = FIRST_MS.saturating_mul(2_u64.saturating_pow(doublings)).min(LONGEST_MS);
    let half_ms = whole_ms / 2;
    half_ms + chance % (half_ms + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_spread_over_their_second_half() {
        let range = |failures| (wait_ms(failures, 0), wait_ms(failures, wait_ms(failures, 0)));
        assert_eq!(range(1), (500, 1_000));
        assert_eq!(range(2), (1_000, 2_000));
        assert_eq!(range(9), (128_000, 256_000));
        assert_eq!((range(10), range(u64::MAX)), ((150_000, 300_000), (150_000, 300_000)));
        for chance in [0, 1, 77, u64::MAX] {
            assert!((500..=1_000).contains(&wait_ms(1, chance)));
        }
    }
}
