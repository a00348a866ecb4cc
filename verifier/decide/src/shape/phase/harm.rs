//! The harm that a limit does to a demand of which quantiles are known: how probably it is exceeded, and by how much.

use crate::forecast::{MEDIAN, QUANTILE_LEVELS, StepRow};

/// What the expected excess counts beside the probability of any, when it is as large as the whole way: time first, amount second.
const AMOUNT_WEIGHT: f64 = 0.1;
/// Known points of a distribution: its least value, and the quantiles.
const POINTS: usize = QUANTILE_LEVELS.len() + 1;
/// The tail above the last quantile is at least so wide, beside that quantile.
const TAIL_MIN: f64 = 0.02;

/// One stretch's demand, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Harm {
    points: [f64; POINTS],
    /// The probability of more than each point.
    above: [f64; POINTS],
    /// The expected excess over each point.
    excess: [f64; POINTS],
    /// The tail's width: there the probability of more falls with the square of the distance, as bursts do; no library's exponential.
    tail: f64,
    /// Of an excess of one unit, beside the probability.
    per_unit: f64,
}

impl Harm {
    /// Of quantiles, where the whole way is `distance` units.
    pub(super) fn new(row: &StepRow, distance: f64) -> Self {
        let last = POINTS - 1;
        let mut points = [0.0; POINTS];
        points[1..].copy_from_slice(row);
        points[0] = (row[0] - (row[MEDIAN] - row[0])).max(0.0).min(row[0]);
        let mut above = [1.0; POINTS];
        for (above, level) in above[1..].iter_mut().zip(QUANTILE_LEVELS) {
            *above = 1.0 - level;
        }
        let tail = (points[last] - points[last - 2]).max(points[last] * TAIL_MIN).max(f64::MIN_POSITIVE);
        let mut excess = [0.0; POINTS];
        excess[last] = above[last] * tail;
        for at in (0..last).rev() {
            excess[at] = excess[at + 1] + (above[at] + above[at + 1]) / 2.0 * (points[at + 1] - points[at]);
        }
        Self { points, above, excess, tail, per_unit: AMOUNT_WEIGHT / distance }
    }

    /// The harm of a limit: the probability that demand exceeds it, and a little for the expected excess. `hint` is where the last limit lay
    /// among the points; limits that follow each other are near.
    pub(super) fn of(&self, limit: f64, hint: &mut usize) -> f64 {
        let mut at = (*hint).min(POINTS);
        while at < POINTS && self.points[at] <= limit {
            at += 1;
        }
        while at > 0 && self.points[at - 1] > limit {
            at -= 1;
        }
        *hint = at;
        let (probability, excess) = match at {
            0 => (1.0, self.excess[0] + (self.points[0] - limit)),
            POINTS => {
                let far = 1.0 + (limit - self.points[POINTS - 1]) / self.tail;
                (self.above[POINTS - 1] / (far * far), self.above[POINTS - 1] * self.tail / far)
            }
            at => {
                let (low, high) = (self.points[at - 1], self.points[at]);
                let share = (limit - low) / (high - low);
                let probability = self.above[at - 1] + (self.above[at] - self.above[at - 1]) * share;
                (probability, self.excess[at] + (probability + self.above[at]) / 2.0 * (high - limit))
            }
        };
        probability + excess * self.per_unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 to 100 evenly, but for the tail.
    fn even() -> Harm {
        Harm::new(&QUANTILE_LEVELS.map(|level| level * 100.0), 100.0)
    }

    #[test]
    fn more_room_is_never_more_harm_and_where_one_looked_before_changes_nothing() {
        let mut hint = 0;
        let mut last = f64::INFINITY;
        for limit in 0..3000_u32 {
            let limit = f64::from(limit) / 10.0;
            let harm = even().of(limit, &mut hint);
            assert!(harm <= last && harm >= 0.0, "{limit}: {harm} after {last}");
            assert!((harm - even().of(limit, &mut (POINTS + 7))).abs() < 1e-15);
            last = harm;
        }
        assert!(last > 0.0, "a tail never ends");
    }

    #[test]
    fn harm_is_the_probability_and_a_little_of_the_excess() {
        let harm = even().of(50.0, &mut 0);
        // Half of the time more; the excess over 50 of what is even up to 100 is 12.5.
        assert!((harm - 0.5 - 0.0125).abs() < 0.002, "{harm}");
        assert!((even().of(-0.0, &mut 0) - 1.0 - 0.05).abs() < 0.003);
    }

    #[test]
    fn a_demand_that_is_one_number_is_exceeded_below_it_alone() {
        let point = Harm::new(&[80.0; 11], 100.0);
        assert!(point.of(79.999, &mut 0) > 1.0);
        assert!(point.of(80.0, &mut 0) < 0.02);
        let nothing = Harm::new(&[0.0; 11], 100.0);
        assert!(nothing.of(0.0, &mut 0).is_finite());
    }
}
