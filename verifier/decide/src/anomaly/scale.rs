//! One time scale: how far a point, or a mean of points, is from where the series was a moment ago and from where it was for long.

use super::tail::{Sides, Tail};

/// Beyond the greatest magnitude so far an e-fold adds so many nats.
const BEYOND: f64 = 3.0;
/// Weight in the slow level, at least.
const SLOW: f64 = 1.0 / 350.0;
/// The levels move by so many times the greatest magnitude at most, once so many points are known.
const MOVES: f64 = 2.0;
const MOVES_LEAST: u32 = 30;
/// After a surprise a lesser one is part of it: how much of it is forgotten per point of this scale.
const FORGOTTEN: f32 = 1.0 / 100.0;
/// So many nats are remembered at most: the greatest surprise is forgotten in a few days, too.
const LATELY_MOST: f64 = 15.0;

/// What differs between scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    /// Weight of a point in the quick level.
    pub(super) quick: f64,
    /// Weight of the distance from the slow level, of which the step from the quick one has 1.
    pub(super) of_distance: f64,
    /// Weight of the shape.
    pub(super) of_shape: f64,
}

/// The state of one scale.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Scale {
    points: u32,
    /// The greatest surprise lately, nats.
    lately: f32,
    quick: f64,
    slow: f64,
    steps: Sides,
    distances: Sides,
    by_shape: Tail,
}

/// Where a point stands, and how surprising that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stand {
    /// From the quick level, signed.
    pub(super) step: f64,
    /// From the slow level, signed.
    pub(super) distance: f64,
    /// The surprise of both together, nats.
    pub(super) nats: f64,
}

impl Scale {
    /// Where a point stands; nothing is learned.
    pub(super) fn stand(&self, form: Form, value: f64) -> Stand {
        if self.points == 0 {
            return Stand { step: 0.0, distance: 0.0, nats: 0.0 };
        }
        let (step, distance) = (value - self.quick, value - self.slow);
        let nats = self.steps.surprise(step, BEYOND) + form.of_distance * self.distances.surprise(distance, BEYOND);
        // The mean of both: what both see is seen once.
        Stand { step, distance, nats: nats / 2.0 }
    }

    /// The surprise of a shape that is so far from all before, nats.
    pub(super) fn shape(&self, form: Form, apart: Option<f64>) -> f64 {
        form.of_shape * apart.map_or(0.0, |apart| self.by_shape.surprise(apart, BEYOND))
    }

    /// Whether so many nats are more than what was lately, so that they are not the end of what began before.
    pub(super) fn is_news(&mut self, nats: f64) -> bool {
        let is_news = nats > f64::from(self.lately);
        #[expect(clippy::cast_possible_truncation, reason = "f32 is precise enough for nats")]
        let nats = nats.min(LATELY_MOST) as f32;
        self.lately = (self.lately * (1.0 - FORGOTTEN)).max(nats);
        is_news
    }

    /// Learns a point.
    pub(super) fn learn(&mut self, form: Form, value: f64, stand: Stand, apart: Option<f64>) {
        if self.points == 0 {
            (self.quick, self.slow) = (value, value);
        }
        self.points = self.points.saturating_add(1);
        self.steps.add(stand.step);
        self.distances.add(stand.distance);
        if let Some(apart) = apart {
            self.by_shape.add(apart);
        }
        let young = 1.0 / f64::from(self.points);
        self.quick += young.max(form.quick) * self.bounded(stand.step, &self.steps);
        self.slow += young.max(SLOW) * self.bounded(stand.distance, &self.distances);
    }

    /// A move that no single point can make too great.
    fn bounded(&self, moved: f64, known: &Sides) -> f64 {
        let most = MOVES * known.greatest();
        if self.points > MOVES_LEAST && most > 0.0 { moved.clamp(-most, most) } else { moved }
    }

    /// After a gap: where it was a moment ago is not known, so it is where it is now.
    pub(super) fn begin_again(&mut self, value: f64) {
        self.quick = value;
    }

    /// The quick level.
    pub(super) fn quick(&self) -> f64 {
        self.quick
    }

    /// The slow level.
    pub(super) fn slow(&self) -> f64 {
        self.slow
    }

    /// Greatest distance from the slow level that is remembered; infinite while little is known.
    pub(super) fn greatest_distance(&self) -> f64 {
        let greatest = self.distances.greatest();
        if self.points > MOVES_LEAST && greatest > 0.0 { greatest } else { f64::INFINITY }
    }

    /// The greatest distance of a shape that is remembered.
    pub(super) fn greatest_apart(&self) -> f64 {
        self.by_shape.greatest()
    }
}
