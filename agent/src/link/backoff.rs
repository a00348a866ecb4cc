//! Pauses between tries: doubling, capped, jittered. Pure.

/// What the first pause is, ms.
const FIRST_MS: u64 = 500;

/// How often it failed in a row, and the longest pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    longest_ms: u64,
}

impl Backoff {
    /// No failure yet; pauses are at most `longest_ms`.
    pub fn new(longest_ms: u64) -> Self {
        Self { failures: 0, longest_ms }
    }

    /// It went well: the next failure begins anew.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to pause, ms, given 64 random bits. Between half the pause and the whole, so that hosts
    /// that failed together do not come back together.
    pub fn failed(&mut self, random: u64) -> u64 {
        let doubled = FIRST_MS.checked_shl(self.failures).filter(|ms| *ms >= FIRST_MS).unwrap_or(u64::MAX);
        self.failures = self.failures.saturating_add(1).min(63);
        jittered(doubled.min(self.longest_ms), random)
    }

    /// It failed in a way that time alone does not mend: the longest pause.
    pub fn failed_for_long(&mut self, random: u64) -> u64 {
        self.failures = self.failures.saturating_add(1).min(63);
        jittered(self.longest_ms, random)
    }
}

fn jittered(pause_ms: u64, random: u64) -> u64 {
    let half = pause_ms / 2;
    pause_ms - half + random % (half + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_cap_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(60_000);
        let longest: Vec<u64> = (0..10).map(|_| backoff.failed(u64::MAX - u64::MAX % 30_001)).collect();
        assert!(longest.iter().all(|ms| *ms <= 60_000));
        let mut again = Backoff::new(60_000);
        for expected in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let pause_ms = again.failed(0);
            assert_eq!(pause_ms, expected - expected / 2, "without jitter half the pause");
        }
        again.succeeded();
        assert!((250..=500).contains(&again.failed(12_345)));
        for _ in 0..200 {
            assert!((30_000..=60_000).contains(&again.failed_for_long(77)));
        }
    }

    #[test]
    fn every_random_value_stays_within_the_pause() {
        for random in [0, 1, 249, 250, 251, u64::MAX] {
            let mut backoff = Backoff::new(60_000);
            assert!((250..=500).contains(&backoff.failed(random)));
        }
    }
}
