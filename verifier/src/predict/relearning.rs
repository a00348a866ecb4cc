//! What calibration had learnt before a restart, learnt again from the rings.
//!
//! A lesson is an hour's worth of steps that is over; they end at multiples of it in Unix time, whenever a verifier was
//! started. After a restart each lesson that the rings still reach back to is taken again, the oldest first and all series of
//! one lesson before the next, as they were taken when they came: some series at a time, so that evidence and questions are
//! answered meanwhile. Forecasts made meanwhile are calibrated by what is learnt so far.
//!
//! A series whose whole past is in the rings (28 hours of five-minute steps) comes out as if there had been no restart. Of an
//! older one two things are missing: lessons before that, and, in the older of the lessons that are taken, the part of the
//! past that the model and the EWMA rung saw then and the rings have let go of.

use std::time::Duration;

use quotary_decide::forecast::{LEARN_STEPS, Ladder};
use quotary_decide::history::{History, Resolution, SeriesKey};

use super::forecaster::{closed_steps, pasts};
use super::learner::Learner;

/// Series that learn at once: some milliseconds with a model.
const SERIES_AT_ONCE: usize = 128;
/// Pause between them, while there is evidence to take, ms.
const PAUSE_MS: u64 = 10;
const LESSON_STEPS: u64 = LEARN_STEPS as u64;
/// Lessons that the rings reach back to.
const LESSONS_MAX: u64 = Resolution::Step.points_max() as u64 / LESSON_STEPS;

/// How far it is.
#[derive(Debug, Default)]
pub(super) enum Relearning {
    /// Nothing is read back yet.
    #[default]
    Waiting,
    /// At this lesson (its end over its length), after this series.
    At { lesson: u64, after: Option<SeriesKey>, looked_at_ms: u64 },
    /// All is learnt that can be.
    Done,
}

impl Relearning {
    /// Whether lessons are taken as they come.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// How long it may wait for the next turn.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(if matches!(self, Self::At { .. }) { 1 } else { 250 })
    }

    /// Takes one turn, if it is time: the history is read back, `step` is the newest closed step.
    pub(super) fn go_on(
        &mut self,
        history: &History,
        ladder: &Ladder<'_>,
        learner: &mut Learner,
        (step, now_ms): (u64, u64),
    ) {
        let (lesson, after) = match self {
            Self::Done => return,
            // No step has closed yet.
            Self::Waiting if step == 0 => return,
            Self::Waiting => ((step / LESSON_STEPS).saturating_sub(LESSONS_MAX), None),
            Self::At { looked_at_ms, .. } if now_ms.abs_diff(*looked_at_ms) < PAUSE_MS => return,
            Self::At { lesson, after, .. } => (*lesson, after.take()),
        };
        if lesson > step / LESSON_STEPS {
            learner.has_taken(step / LESSON_STEPS);
            *self = Self::Done;
            return;
        }
        let end_ms = lesson.saturating_mul(LESSON_STEPS).saturating_mul(history.step_ms());
        let closed = closed_steps(history.after(after.as_ref()).take(SERIES_AT_ONCE), end_ms);
        learner.take_lesson(ladder, &closed, &pasts(&closed, history.step_ms()));
        let last = closed.last().map(|(key, _)| (*key).clone());
        *self = if closed.len() < SERIES_AT_ONCE {
            learner.pool();
            Self::At { lesson: lesson + 1, after: None, looked_at_ms: now_ms }
        } else {
            Self::At { lesson, after: last, looked_at_ms: now_ms }
        };
    }
}

#[cfg(test)]
#[path = "relearning_tests.rs"]
mod tests;
