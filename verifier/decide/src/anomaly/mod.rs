//! Anomalies of a series: points that are rare given the points before, each with its kind and the figures behind it.
//!
//! Does: gives each point a score from 0 to 1 by what came before it, and names what is odd about one that is over the line.
//! May assume: nothing of values and times; a value that is missing, or no number, is a gap.
//! Promises: causal, O(1) per point, no allocation after the first; the same points give the same scores; state within [`STATE_BYTES_MAX`]
//! beside its context (the last points, the last means, the day's means); one point, whatever its value or time, spoils nothing for long.
//! Must never: look ahead, read a clock, or know where a value comes from.
//!
//! Surprise is in nats: -ln of the share of earlier points that were as odd. Two scales look at a series: its points and the means of
//! [`BLOCK`] of them. Each looks at the step from a quick level, the distance from a slow one, and the distance of the last stretch from
//! every stretch before (`unusual-shape`; KNN-CAD, Burnaev and Ishimtsev 2016). Points are also held against what is usual at their time of
//! day, as far as that explains the series. Over a point's sum stands the likelihood stage of Lavin and Ahmad 2015 (`unusual-density`):
//! many small surprises, closer together than they used to be. Runs of one value (`flatline`) and climbs (`leak`) are told apart.

mod block;
mod density;
mod judgement;
mod line;
mod pace;
mod rhythm;
mod rows;
mod run;
mod scale;
mod shape;
mod tail;
#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests;

use self::block::{Block, Mean};
use self::density::Density;
use self::line::{Line, score};
use self::pace::{Follows, Pace};
use self::rhythm::{Day, Rhythm, Usual};
use self::run::{Climb, Flat};
use self::scale::{Form, Scale, Stand};
use self::shape::{Recent, STRETCH};
use self::tail::Sides;

pub use self::judgement::{Figures, Judgement, Kind, WARMING_UP};
pub use self::line::threshold;
pub use self::rows::{JudgedRow, Row, judge_rows};

/// Points of a mean: two hours at five minutes.
pub const BLOCK: u32 = 24;
/// Points before any alarm: half a day at five minutes.
pub const WARMING_POINTS: u32 = 160;
/// The most bytes that a series' state has, its context apart.
pub const STATE_BYTES_MAX: usize = 704;
/// The score on the line of one alarm per series and month, at five minutes.
pub const LINE_SCORE: f64 = 0.5;

const OF_POINTS: Form = Form { quick: 0.35, of_distance: 0.75, of_shape: 0.5 };
const OF_MEANS: Form = Form { quick: 0.7, of_distance: 1.5, of_shape: 0.5 };
/// What the surprise of a mean counts, of which that of a point counts 1.
const MEANS_WORTH: f64 = 1.4;
/// What a shape alone, and density alone, count: times their weight beside the rest.
const SHAPE_ALONE: f64 = 2.0;
const DENSITY_ALONE: f64 = 4.0;
/// The likelihood stage is what is told when it adds more than this share of the rest.
const DENSITY_NAMED: f64 = 0.3;
/// An e-fold beyond what was ever off the rhythm adds so many nats.
const RHYTHM_BEYOND: f64 = 3.0;
/// Values beyond this are taken as this: their squares are numbers still.
const VALUE_MOST: f64 = 1e15;

/// A surprise with what it is about.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Finding {
    nats: f64,
    /// Told once and by itself, so that it is part of no alarm before.
    is_apart: bool,
    kind: Kind,
    figures: Figures,
}

/// One series' detector.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Detector {
    state: State,
    context: Box<Context>,
}

/// The last points, the last means and the day: what a detector looks at beside its state; 2,088 bytes.
#[derive(Debug, Clone, PartialEq, Default)]
struct Context {
    points: Recent,
    means: Recent,
    day: Day,
}

/// What is known of a series.
#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    pace: Pace,
    of_points: Scale,
    rhythm: Rhythm,
    off_rhythm: Sides,
    density: Density,
    flat: Flat,
    block: Block,
    of_means: Scale,
    climb: Climb,
    line: Line,
}

impl Detector {
    /// Bytes of a series' state, and of the context beside it.
    pub const STATE_BYTES: usize = size_of::<State>();
    /// See [`Self::STATE_BYTES`].
    pub const CONTEXT_BYTES: usize = size_of::<Context>();

    /// Takes what is known at `time_ms` (Unix milliseconds; times ascend) and judges it; `None` is a gap.
    pub fn judge(&mut self, time_ms: i64, value: Option<f64>) -> Judgement {
        self.judge_beside(time_ms, value, None)
    }

    /// The same, beside a forecast: `tail` is the probability, 0 to 1, that the forecast gave to values as extreme as this one. What the
    /// forecast expected is no spike and no shift: of both surprises the lesser counts.
    pub fn judge_beside(&mut self, time_ms: i64, value: Option<f64>, tail: Option<f64>) -> Judgement {
        self.judge_over(LINE_SCORE, time_ms, value, tail)
    }

    /// The same with another line than [`LINE_SCORE`]: the score of a stated alarm rate, see [`threshold`]. The scores are the same; a kind is
    /// named from that line on.
    pub fn judge_over(&mut self, line: f64, time_ms: i64, value: Option<f64>, tail: Option<f64>) -> Judgement {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            self.state.flat.end();
            return Judgement { is_warming_up: self.is_warming_up(), ..Judgement::NOTHING };
        };
        let value = value.clamp(-VALUE_MOST, VALUE_MOST);
        match self.state.pace.follows(time_ms, self.state.line.points()) {
            Follows::InTime => {}
            Follows::AfterAGap => self.begin_again(value),
            Follows::Backwards => {
                self.begin_again(value);
                return Judgement { is_warming_up: self.is_warming_up(), ..Judgement::NOTHING };
            }
        }
        let of_point = self.judge_point(time_ms, value, tail);
        let of_mean = self.state.block.add(value, self.state.of_means.slow()).map(|mean| self.judge_mean(mean));
        let oddest = match of_mean {
            Some(of_mean) if of_mean.nats > of_point.nats => of_mean,
            _ => of_point,
        };
        self.conclude(oddest, line)
    }

    fn is_warming_up(&self) -> bool {
        self.state.line.points() < WARMING_POINTS
    }

    /// After a gap: runs end, the block and the last stretch begin anew, and the first value is no step.
    fn begin_again(&mut self, value: f64) {
        self.state.flat.end();
        self.state.climb.begin_again();
        self.state.block = Block::default();
        self.state.of_points.begin_again(value);
        self.context.points.begin_again();
    }

    fn conclude(&mut self, finding: Finding, line: f64) -> Judgement {
        let is_warming_up = self.is_warming_up();
        let weighed = self.state.line.weigh(finding.nats, finding.is_apart);
        let score = if is_warming_up || weighed.is_old { 0.0 } else { score(weighed.nats) };
        let is_odd = score > 0.0 && score >= line;
        Judgement {
            score,
            nats: weighed.nats,
            kind: is_odd.then_some(finding.kind),
            figures: is_odd.then_some(finding.figures),
            is_warming_up,
        }
    }

    fn judge_point(&mut self, time_ms: i64, value: f64, tail: Option<f64>) -> Finding {
        let Self { state, context } = self;
        let stand = state.of_points.stand(OF_POINTS, value);
        let most = 2.0 * state.of_points.greatest_distance();
        let usual = state.rhythm.add(&mut context.day, time_ms, value, stand.distance, most);
        let off = value - usual.value;
        let by_rhythm =
            if usual.has_days { usual.explains * state.off_rhythm.surprise(off, RHYTHM_BEYOND) } else { 0.0 };
        // What a rhythm explains is no step and no distance.
        let away = (1.0 - usual.explains) * stand.nats + by_rhythm;
        let apart = context.points.add(value);
        let by_forecast = tail.map_or(f64::INFINITY, |tail| -tail.clamp(f64::MIN_POSITIVE, 1.0).ln());
        let away = away.min(by_forecast);
        let by_shape = state.of_points.shape(OF_POINTS, apart).min(by_forecast);
        let (by_density, density) = state.density.add(away + by_shape, state.line.points() + 1);
        let nats = (away + by_shape + by_density).max(SHAPE_ALONE * by_shape).max(DENSITY_ALONE * by_density);
        let by_run = state.flat.add(value);
        let (kind, figures) = if by_run > nats {
            (
                Kind::Flatline,
                Figures {
                    expected: state.flat.longest(),
                    came: state.flat.length().into(),
                    points: state.flat.length(),
                },
            )
        } else if by_density > DENSITY_NAMED * (away + by_shape) {
            (Kind::UnusualDensity, density)
        } else if by_shape > away {
            (Kind::UnusualShape, of_shape(&state.of_points, apart))
        } else {
            away_from(&state.of_points, value, stand, usual)
        };
        let finding = Finding { nats: nats.max(by_run), is_apart: kind == Kind::Flatline, kind, figures };
        let is_news = state.of_points.is_news(finding.nats) || finding.is_apart;
        state.of_points.learn(OF_POINTS, value, stand, apart);
        if usual.has_day {
            state.off_rhythm.add(off);
        }
        if is_news { finding } else { Finding { nats: 0.0, ..finding } }
    }

    fn judge_mean(&mut self, mean: Mean) -> Finding {
        let Self { state, context } = self;
        let stand = state.of_means.stand(OF_MEANS, mean.value);
        let apart = context.means.add(mean.value);
        let by_shape = state.of_means.shape(OF_MEANS, apart);
        let nats = (stand.nats + by_shape).max(SHAPE_ALONE * by_shape);
        let by_climb = state.climb.add(mean.value);
        let is_alone = (mean.without_farthest - state.of_means.slow()).abs() < stand.distance.abs() / 2.0;
        let (kind, figures) = if by_climb > nats || (state.climb.is_longest() && stand.nats >= by_shape) {
            let points = state.climb.rises().saturating_add(1).saturating_mul(BLOCK);
            (Kind::Leak, Figures { expected: state.climb.from(), came: mean.value, points })
        } else if by_shape > stand.nats {
            (Kind::UnusualShape, of_shape(&state.of_means, apart))
        } else {
            let kind = if is_alone { Kind::Spike } else { Kind::LevelShift };
            (kind, Figures { expected: state.of_means.slow(), came: mean.value, points: BLOCK })
        };
        let finding = Finding { nats: nats.max(by_climb), is_apart: false, kind, figures };
        let is_news = state.of_means.is_news(finding.nats);
        state.of_means.learn(OF_MEANS, mean.value, stand, apart);
        Finding { nats: if is_news { MEANS_WORTH * finding.nats } else { 0.0 }, ..finding }
    }
}

fn of_shape(scale: &Scale, apart: Option<f64>) -> Figures {
    Figures {
        expected: scale.greatest_apart(),
        came: apart.unwrap_or_default(),
        points: u32::try_from(STRETCH).unwrap_or(u32::MAX),
    }
}

/// A point that is away: a shift when the quick level has come along, else a spike.
fn away_from(scale: &Scale, value: f64, stand: Stand, usual: Usual) -> (Kind, Figures) {
    let has_come_along = stand.step.abs() < stand.distance.abs() / 2.0 && usual.explains < 0.5;
    if has_come_along {
        let figures = Figures { expected: scale.slow(), came: scale.quick(), points: BLOCK };
        return (Kind::LevelShift, figures);
    }
    let expected = if usual.explains < 0.5 { scale.quick() } else { usual.value };
    (Kind::Spike, Figures { expected, came: value, points: 1 })
}
