//! A paired moving-block bootstrap of a ratio of sums.

use super::record::mixed;

/// Times that the hours are drawn again.
const DRAWS: usize = 1000;
/// Hours of a block: long enough that blocks hardly depend on each other within a day's course.
const BLOCK_HOURS: usize = 6;

/// Where a ratio lies with 95 % certainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The ratio of the whole sums.
    pub ratio: f64,
    /// The 2.5 % quantile of the ratios drawn.
    pub low: f64,
    /// The 97.5 % quantile.
    pub high: f64,
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.ratio, self.low, self.high)
    }
}

/// The ratio of the sums of the first over those of the second of each pair, hour by hour, with its interval; `None` for fewer than four blocks
/// or where the second is nothing.
///
/// Blocks of [`BLOCK_HOURS`] hours are drawn with both of a pair (Künsch 1989), so that what hits both models alike cancels.
pub fn ratio_interval(hours: &[(f64, f64)], seed: u64) -> Option<Interval> {
    if hours.len() < 4 * BLOCK_HOURS {
        return None;
    }
    let ratio = ratio(hours.iter())?;
    let starts = hours.len() - BLOCK_HOURS + 1;
    let blocks = hours.len().div_ceil(BLOCK_HOURS);
    let mut chance = Chance(seed);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let (mut first, mut second) = (0.0, 0.0);
            for _ in 0..blocks {
                let start = chance.below(starts);
                for (one, other) in hours.iter().skip(start).take(BLOCK_HOURS) {
                    first += one;
                    second += other;
                }
            }
            (second > 0.0).then(|| first / second)
        })
        .collect();
    drawn.sort_unstable_by(f64::total_cmp);
    let at = |per_thousand: usize| drawn.get(drawn.len() * per_thousand / 1000).copied();
    Some(Interval { ratio, low: at(25)?, high: at(975)? })
}

fn ratio<'a>(hours: impl Iterator<Item = &'a (f64, f64)>) -> Option<f64> {
    let (first, second) = hours.fold((0.0, 0.0), |(first, second), (one, other)| (first + one, second + other));
    (second > 0.0).then(|| first / second)
}

/// `SplitMix64` (Steele, Lea and Flood 2014): enough to draw blocks, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        let mixed = mixed(self.0);
        // The high half of a product: bias below 2^-40 for so few starts.
        usize::try_from((u128::from(mixed) * bound as u128) >> 64).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn noisy(better: f64) -> Vec<(f64, f64)> {
        let mut chance = Chance(7);
        let mut share = || chance.below(1000) as f64 / 1000.0;
        (0..240)
            .map(|_| {
                let hour = 1.0 + 4.0 * share();
                (hour * better * (0.9 + 0.2 * share()), hour * (0.9 + 0.2 * share()))
            })
            .collect()
    }

    #[test]
    fn a_model_that_is_better_is_seen_to_be_and_one_alike_is_not() {
        let better = ratio_interval(&noisy(0.9), 1).unwrap();
        assert!(better.high < 1.0 && (better.ratio - 0.9).abs() < 0.03, "{better:?}");
        let alike = ratio_interval(&noisy(1.0), 1).unwrap();
        assert!(alike.low < 1.0 && alike.high > 1.0, "{alike:?}");
        let worse = ratio_interval(&noisy(1.1), 1).unwrap();
        assert!(worse.low > 1.0, "{worse:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_another_another() {
        let hours = noisy(0.97);
        assert_eq!(ratio_interval(&hours, 3), ratio_interval(&hours, 3));
        assert_ne!(ratio_interval(&hours, 3), ratio_interval(&hours, 4));
    }

    #[test]
    fn too_few_hours_or_nothing_to_divide_by_prove_nothing() {
        assert!(ratio_interval(&noisy(0.5)[..23], 1).is_none());
        assert!(ratio_interval(&[(1.0, 0.0); 100], 1).is_none());
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        // Two models alike: the interval holds 1 about 95 times of 100.
        let mut chance = Chance(99);
        let held = (0..200)
            .filter(|_| {
                let hours: Vec<(f64, f64)> = (0..240)
                    .map(|_| (1.0 + chance.below(1000) as f64 / 1000.0, 1.0 + chance.below(1000) as f64 / 1000.0))
                    .collect();
                let interval = ratio_interval(&hours, 5).unwrap();
                interval.low <= 1.0 && 1.0 <= interval.high
            })
            .count();
        assert!((180..=198).contains(&held), "{held}");
    }
}
