//! From surprise to a score: what a series' own surprises are worth, refractory time, and the line of a stated alarm rate.

/// A series whose surprises go beyond so many nats more than others do is believed less (as a threshold that follows the tail of its
/// own scores: Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017): by this much per nat of mean excess.
const OWN_FROM: f64 = 2.0;
const OWN_WORTH: f64 = 0.3;
const OWN_MOST: f64 = 10.0;
const OWN_WEIGHT: f64 = 1.0 / 500.0;
/// A tail knows no rarity that it has not had the time to see: until so many points, surprise counts for more, by this much per e-fold.
const GROWN: f64 = 4_000.0;
const YOUNG_WORTH: f64 = 0.18;
/// Refractory time: how much of the last alarm's surprise is forgotten per point. Less than what is left is part of it.
const FORGOTTEN: f32 = 1.0 / 140.0;

/// The surprise, nats, whose score is one half. Measured: noise that does not change reaches it once in [`LINE_POINTS`] points, as the mean of
/// ten kinds of noise (hardly ever with light tails on a daily course, 3 times as often where it is mostly zero with Pareto spikes).
const LINE_NATS: f64 = 10.5;
/// A month of points five minutes apart.
const LINE_POINTS: f64 = 8_928.0;
/// How many nats make alarms of such noise an e-fold rarer; measured from 5 to 14 nats.
const NATS_PER_E_FOLD: f64 = 1.5;

/// The state of one series' line.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Line {
    points: u32,
    excess: f32,
    last: f32,
}

/// What became of a surprise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weighed {
    /// What it is worth, nats.
    pub(super) nats: f64,
    /// Whether it is part of what was told before.
    pub(super) is_old: bool,
}

impl Line {
    /// Weighs the surprise of the next point; one that `is_apart` is part of nothing before.
    #[expect(clippy::cast_possible_truncation, reason = "f32 is precise enough for nats")]
    pub(super) fn weigh(&mut self, nats: f64, is_apart: bool) -> Weighed {
        self.points = self.points.saturating_add(1);
        let points = f64::from(self.points);
        let raw = nats * (1.0 + YOUNG_WORTH * (GROWN / points).max(1.0).ln());
        let nats = raw / (1.0 + OWN_WORTH * f64::from(self.excess));
        let weight = (1.0 / points).max(OWN_WEIGHT);
        self.excess += (weight * ((raw - OWN_FROM).clamp(0.0, OWN_MOST) - f64::from(self.excess))) as f32;
        let is_old = nats <= f64::from(self.last) && !is_apart;
        self.last = (self.last * (1.0 - FORGOTTEN)).max(nats as f32);
        Weighed { nats, is_old }
    }

    /// Points so far.
    pub(super) fn points(&self) -> u32 {
        self.points
    }
}

/// The score of a surprise: 0 for none, one half on the line, towards 1.
pub(super) fn score(nats: f64) -> f64 {
    1.0 - (-nats.max(0.0) / LINE_NATS).exp2()
}

/// The score that noise which does not change reaches once in so many points: the threshold of a stated alarm rate.
///
/// 8,928 points, a month at five minutes, give 0.5. More points between alarms give a higher threshold.
pub fn threshold(points_per_alarm: f64) -> f64 {
    let points = if points_per_alarm.is_finite() { points_per_alarm.max(1.0) } else { LINE_POINTS };
    score(LINE_NATS + NATS_PER_E_FOLD * (points / LINE_POINTS).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_an_alarm_covers_lesser_ones_for_a_while() {
        let mut line = Line::default();
        for _ in 0..5_000 {
            line.weigh(0.5, false);
        }
        let alarm = line.weigh(20.0, false);
        assert!(!alarm.is_old && score(alarm.nats) > 0.5);
        assert!(
            line.weigh(19.0, false).is_old
                && !line.clone().weigh(19.0, true).is_old
                && !line.clone().weigh(21.0, false).is_old
        );
        for _ in 0..100 {
            line.weigh(0.5, false);
        }
        // e^(-100/140) of twenty nats is ten.
        assert!(line.clone().weigh(9.0, false).is_old && !line.weigh(12.0, false).is_old);
    }

    #[test]
    fn a_series_that_always_surprises_is_believed_less_and_a_young_one_more() {
        let after = |usual: f64, points: u32| {
            let mut line = Line::default();
            for _ in 0..points {
                line.weigh(usual, false);
            }
            line.weigh(12.0, false).nats
        };
        assert!(after(6.0, 5_000) < 0.6 * after(0.5, 5_000), "{} and {}", after(6.0, 5_000), after(0.5, 5_000));
        assert!(after(0.5, 200) > 1.4 * after(0.5, 5_000), "{} and {}", after(0.5, 200), after(0.5, 5_000));
    }
}
