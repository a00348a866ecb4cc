//! Runs: of one and the same value (flatline), and of means that rise and rise (leak).

use super::tail::Tail;

/// A flatline has so many equal points at least, and is so many times the longest run before.
const FLAT_LEAST: u32 = 36;
const FLAT_TIMES: f64 = 2.0;
/// What an e-fold beyond the longest run adds to the surprise.
const FLAT_BEYOND: f64 = 1.5;
/// So many means above the level, one after the other, before a leak is thought of; and no rise is so great a part of the climb.
const RISES_LEAST: u32 = 4;
const STEP_MOST: f64 = 0.6;
const RISES_BEYOND: f64 = 3.0;
/// Weight of a mean in the level that it is held against.
const LEVEL: f64 = 0.5;

/// The run of equal values that is going on, and how long those before it were.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Flat {
    value: f64,
    length: u32,
    before: Tail,
}

impl Flat {
    /// Takes a value and gives the surprise of the run that it is in, nats: once, where the run becomes a flatline.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length, not negative")]
    pub(super) fn add(&mut self, value: f64) -> f64 {
        // Equal to the bit, but for the sign of zero: a value that hardly moves is no flatline.
        if self.length > 0 && value == self.value {
            self.length = self.length.saturating_add(1);
        } else {
            self.end();
            (self.value, self.length) = (value, 1);
        }
        let long = FLAT_LEAST.max((FLAT_TIMES * self.before.greatest()).ceil() as u32);
        if self.length == long { self.before.surprise(f64::from(self.length), FLAT_BEYOND) } else { 0.0 }
    }

    /// Nothing is known of what comes next: the run ends.
    pub(super) fn end(&mut self) {
        if self.length > 0 {
            self.before.add(f64::from(self.length));
        }
        self.length = 0;
    }

    /// The run's length, points.
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// The longest run before it, points.
    pub(super) fn longest(&self) -> f64 {
        self.before.greatest()
    }
}

/// The climb that is going on, and how long those before it were.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Climb {
    value: f64,
    level: f64,
    from: f64,
    /// The greatest rise in it.
    steepest: f64,
    rises: u32,
    has_value: bool,
    before: Tail,
}

impl Climb {
    /// Takes a mean and gives the surprise of the climb that it is in, nats: that of so many rises in a row when any order is as likely,
    /// 1 in (rises + 1)!, or that among the climbs before, whichever is less. A single step is no climb.
    pub(super) fn add(&mut self, value: f64) -> f64 {
        if self.has_value && value > self.level {
            self.rises = self.rises.saturating_add(1);
            self.steepest = self.steepest.max(value - self.value);
        } else {
            self.end();
            (self.from, self.steepest) = (value, 0.0);
        }
        self.level = if self.has_value { self.level + LEVEL * (value - self.level) } else { value };
        (self.value, self.has_value) = (value, true);
        if !self.is_climb() {
            return 0.0;
        }
        let by_chance: f64 = (2..=self.rises.min(100) + 1).map(|factor| f64::from(factor).ln()).sum();
        by_chance.min(self.before.surprise(f64::from(self.rises), RISES_BEYOND))
    }

    /// The climb is over.
    fn end(&mut self) {
        if self.rises > 0 {
            self.before.add(f64::from(self.rises));
        }
        self.rises = 0;
    }

    /// Nothing is known of what comes next: the climb is over, and the level with it.
    pub(super) fn begin_again(&mut self) {
        self.end();
        self.has_value = false;
    }

    fn is_climb(&self) -> bool {
        self.rises >= RISES_LEAST && self.steepest < STEP_MOST * (self.value - self.from)
    }

    /// Rises so far.
    pub(super) fn rises(&self) -> u32 {
        self.rises
    }

    /// Whether it is a climb, and as long as the longest that is remembered.
    pub(super) fn is_longest(&self) -> bool {
        self.is_climb() && f64::from(self.rises) >= self.before.greatest()
    }

    /// Where it began.
    pub(super) fn from(&self) -> f64 {
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_far_longer_than_those_before_surprises() {
        let mut flat = Flat::default();
        for at in 0..1_000 {
            assert_eq!(flat.add(f64::from(at / 10)).to_bits(), 0f64.to_bits(), "{at}");
        }
        let surprises: Vec<f64> = (0..40).map(|_| flat.add(-1.0)).collect();
        let told: Vec<usize> = (0..40).filter(|at| surprises[*at] > 4.0).collect();
        assert_eq!(told, [35], "{surprises:?}");
        assert_eq!(flat.length(), 40);
        flat.end();
        assert!((0..79).all(|_| flat.add(-2.0) == 0.0), "now forty are usual");
        assert!(flat.add(-2.0) > 0.0 && flat.add(-2.0) == 0.0);
    }

    #[test]
    fn a_series_that_never_moves_is_no_flatline() {
        let mut flat = Flat::default();
        assert!((0..5_000).all(|_| flat.add(7.0) == 0.0));
    }

    #[test]
    fn a_climb_beyond_chance_and_beyond_those_before_surprises() {
        let mut climb = Climb::default();
        for at in 0..200usize {
            assert_eq!(climb.add([1.0, 2.0, 0.0][at % 3]).to_bits(), 0f64.to_bits());
        }
        let surprises: Vec<f64> = (0..10).map(|at| climb.add(10.0 + f64::from(at))).collect();
        assert!(surprises[1] == 0.0 && surprises[9] > 6.0, "{surprises:?}");
        assert!(climb.is_longest() && climb.rises() >= 10);
        climb.begin_again();
        assert!(!climb.is_longest());
        let step: Vec<f64> = [0.0, 50.0, 51.0, 52.0, 53.0, 54.0, 55.0].map(|value| climb.add(value)).to_vec();
        assert!(step.iter().all(|nats| *nats == 0.0), "a step and a drift: {step:?}");
    }
}
