//! How rare a magnitude is among those before it: a decaying histogram of a few logarithmic bins, which follows the upper tail.
//!
//! Only great magnitudes are rare, so the bins cover the seven octaves below the greatest that are not outliers themselves; all that is
//! smaller is one bin, all that is greater is the last. Outliers alone never move the bins, nor does one of them count as more than
//! a few times their end: million-fold jumps cost no resolution.

/// Bins of a histogram, and how many make an octave.
const BINS: usize = 12;
const BINS_PER_OCTAVE: f64 = 1.7;
/// The bin of the first magnitude seen.
const FIRST_BIN: i32 = 8;
/// After so many magnitudes all counts are halved: what is long ago counts for less.
const HALVED_AFTER: u16 = 6_000;
/// Fewer than so many say nothing; fewer than so many do not move the bins down.
const LEAST: u32 = 20;
const MOVED_LEAST: u32 = 64;
/// The bins move up when this share of all is in the last, down when this share is in the first.
const UP_SHARE: f64 = 0.002;
const DOWN_SHARE: f64 = 0.98;
/// What is learned of a magnitude at most: times the end of the bins, unless as great a one is known.
const LEARNED: f32 = 4.0;
/// How much of the greatest is kept from one magnitude to the next.
const KEPT: f32 = 0.999_9;
/// Magnitudes below this are one: 2^-40.
const TINY: f64 = 9.1e-13;

/// Magnitudes of one kind, as often as they came: 32 bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Tail {
    counts: [u16; BINS],
    /// The first bin's place among all bins, which begin at 1; 0: nothing seen.
    base: i16,
    since_halved: u16,
    greatest: f32,
}

/// Place of a magnitude among all bins, with its fraction cut.
#[expect(clippy::cast_possible_truncation, reason = "at most 1.7 × 1,024 octaves")]
fn place(magnitude: f64) -> i32 {
    (magnitude.max(TINY).log2() * BINS_PER_OCTAVE).floor() as i32
}

impl Tail {
    fn total(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    fn bin(&self, magnitude: f64) -> i32 {
        place(magnitude) - i32::from(self.base)
    }

    /// Where the bins end.
    fn end(&self) -> f64 {
        ((f64::from(self.base) + BINS as f64) / BINS_PER_OCTAVE).exp2()
    }

    /// The greatest magnitude that was learned, forgotten slowly.
    pub(super) fn greatest(&self) -> f64 {
        f64::from(self.greatest)
    }

    /// -ln of the share of magnitudes that are as great, in nats; beyond the greatest, `beyond` more for each e-fold. 0 while too little is known.
    pub(super) fn surprise(&self, magnitude: f64, beyond: f64) -> f64 {
        let total = self.total();
        if total < LEAST {
            return 0.0;
        }
        let bin = usize::try_from(self.bin(magnitude)).unwrap_or(0);
        let above: u32 = self.counts.iter().skip(bin + 1).map(|count| u32::from(*count)).sum();
        let same = self.counts.get(bin).copied().unwrap_or_default();
        let share = (f64::from(above) + f64::from(same) / 2.0 + 0.5) / (f64::from(total) + 1.0);
        (magnitude / self.greatest().max(TINY)).max(1.0).ln() * beyond - share.ln()
    }

    /// Takes a magnitude: finite, not negative.
    #[expect(clippy::cast_possible_truncation, reason = "f32 is precise enough for a magnitude")]
    pub(super) fn add(&mut self, magnitude: f64) {
        let total = self.total();
        let is_known = total > LEAST && self.greatest > 0.0;
        let most = if is_known { (LEARNED * self.end() as f32).max(self.greatest) } else { f32::MAX };
        let magnitude = (magnitude.min(f64::from(f32::MAX)) as f32).min(most);
        if total == 0 {
            self.base = (place(f64::from(magnitude)) - FIRST_BIN) as i16;
        }
        self.follow(f64::from(magnitude), total);
        let bin = usize::try_from(self.bin(f64::from(magnitude))).unwrap_or(0).min(BINS - 1);
        if let Some(count) = self.counts.get_mut(bin) {
            *count = count.saturating_add(1);
        }
        self.greatest = (self.greatest * KEPT).max(magnitude);
        self.since_halved += 1;
        if self.since_halved >= HALVED_AFTER {
            self.since_halved = 0;
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// Moves the bins when a magnitude shows that they stand wrong.
    fn follow(&mut self, magnitude: f64, total: u32) {
        let [first, .., last] = self.counts;
        let bin = self.bin(magnitude);
        let beyond = usize::try_from(bin).unwrap_or(0).saturating_sub(BINS - 1);
        if beyond > 0 && (total <= LEAST || f64::from(last) >= UP_SHARE * f64::from(total)) {
            self.move_up(beyond);
        } else if bin < 0 && magnitude > TINY && total > MOVED_LEAST && f64::from(first) > DOWN_SHARE * f64::from(total)
        {
            self.move_down();
        }
    }

    /// By one bin; the last joins the one before it. How small those in the first bin were was not kept, so that all count for less.
    fn move_down(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.counts[1..].rotate_right(1);
        let old_last = std::mem::take(&mut self.counts[1]);
        self.counts[BINS - 1] = self.counts[BINS - 1].saturating_add(old_last);
        self.base = self.base.saturating_sub(1);
    }

    /// By so many bins; those that fall out join the first.
    fn move_up(&mut self, bins: usize) {
        let fallen = bins.min(BINS - 1);
        let joined = self.counts.iter().take(fallen + 1).fold(0u16, |sum, count| sum.saturating_add(*count));
        self.counts.rotate_left(fallen);
        self.counts[BINS - fallen..].fill(0);
        self.counts[0] = joined;
        self.base = self.base.saturating_add(i16::try_from(bins).unwrap_or(i16::MAX));
    }
}

/// Magnitudes of signed values: above and below are known apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Sides {
    above: Tail,
    below: Tail,
}

impl Sides {
    /// The surprise on the side of the sign.
    pub(super) fn surprise(&self, signed: f64, beyond: f64) -> f64 {
        if signed >= 0.0 { self.above.surprise(signed, beyond) } else { self.below.surprise(-signed, beyond) }
    }

    pub(super) fn add(&mut self, signed: f64) {
        if signed >= 0.0 { self.above.add(signed) } else { self.below.add(-signed) }
    }

    /// The greatest magnitude of either side.
    pub(super) fn greatest(&self) -> f64 {
        self.above.greatest().max(self.below.greatest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(magnitudes: impl IntoIterator<Item = f64>) -> Tail {
        let mut tail = Tail::default();
        magnitudes.into_iter().for_each(|magnitude| tail.add(magnitude));
        tail
    }

    /// Magnitudes of an exponential distribution with mean 1, evenly spread: -ln of the middle of each of `count` shares.
    fn exponential(count: u32) -> impl Iterator<Item = f64> {
        // A step that is coprime to the count gives them in no order.
        (0..count).map(move |at| -((f64::from(at * 7_919 % count) + 0.5) / f64::from(count)).ln())
    }

    #[test]
    fn surprise_is_the_logarithm_of_rarity() {
        let tail = of(exponential(2_000));
        for magnitude in [2.0, 3.0, 4.5, 6.0] {
            assert!(
                (tail.surprise(magnitude, 3.0) - magnitude).abs() < 0.8,
                "{magnitude}: {}",
                tail.surprise(magnitude, 3.0)
            );
        }
        let beyond = tail.surprise(80.0, 3.0) - tail.surprise(40.0, 3.0);
        assert!((beyond - 3.0 * 2f64.ln()).abs() < 1e-9, "a doubling beyond all: {beyond}");
    }

    #[test]
    fn little_knowledge_is_no_surprise() {
        assert_eq!(of(vec![1.0; 19]).surprise(1e9, 3.0).to_bits(), 0f64.to_bits());
        assert!(of(vec![1.0; 20]).surprise(1e9, 3.0) > 3.0);
    }

    #[test]
    fn one_monstrous_magnitude_hides_no_later_one() {
        let mut tail = of(exponential(2_000));
        let before = tail.surprise(12.0, 3.0);
        tail.add(1e30);
        assert!(tail.greatest() < 200.0, "{}", tail.greatest());
        assert!(tail.surprise(12.0, 3.0) > 0.6 * before, "{} of {before}", tail.surprise(12.0, 3.0));
    }

    #[test]
    fn the_bins_follow_to_any_scale_up_and_down() {
        for scale in [1e-9, 1e9] {
            let mut tail = of(exponential(1_000));
            exponential(30_000).for_each(|magnitude| tail.add(magnitude * scale));
            assert!(
                (tail.surprise(4.5 * scale, 0.0) - 4.5).abs() < 1.2,
                "{scale}: {}",
                tail.surprise(4.5 * scale, 0.0)
            );
        }
    }

    #[test]
    fn zeros_alone_make_any_departure_rare() {
        let tail = of(vec![0.0; 500]);
        assert!(tail.surprise(1.0, 3.0) > 6.0);
        assert!(tail.surprise(0.0, 3.0) < 1.0);
    }
}
