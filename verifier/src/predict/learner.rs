//! Calibration of every series, hour by hour.

use std::collections::BTreeMap;

use quotary_decide::forecast::{Calibration, Came, LEARN_STEPS, Ladder, Past, Quantiles};
use quotary_decide::history::{Measure, SeriesKey};

use super::forecaster::Closed;

/// What was learnt of each series' forecasts, and of each measure's together.
///
/// Each series learns once in [`LEARN_STEPS`] steps: its newest hour is forecast again from what was known before it (same
/// model, same past, same answer) and compared with what came. No forecast need be kept until its time comes.
#[derive(Debug, Default)]
pub(super) struct Learner {
    series: BTreeMap<SeriesKey, Calibration>,
    pools: BTreeMap<Measure, Calibration>,
    /// The lesson that was taken last: its end over its length.
    lesson: u64,
    /// Whether the step in hand ends another.
    is_due: bool,
}

/// What was said of one series an hour's worth of steps ago, and what came.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) key: &'a SeriesKey,
    /// What was said, calibrated as of now: calibration may have moved by one lesson since.
    pub(super) quantiles: Quantiles,
    /// What the EWMA rung said.
    pub(super) ewma: Option<Quantiles>,
    /// Whether the model was among the rungs.
    pub(super) by_model: bool,
    pub(super) came: Came,
    /// What the EWMA rung usually loses on this series in an hour's worth of steps, in its unit.
    pub(super) usual_loss: Option<f64>,
}

impl Learner {
    /// Step `step` (its end over its length) has closed; whether all series are to learn from it: lessons end at multiples of
    /// [`LEARN_STEPS`], and one whose end was passed over is taken with the next step.
    pub(super) fn begin_step(&mut self, step: u64) -> bool {
        self.is_due = step / LEARN_STEPS as u64 > self.lesson;
        self.lesson = self.lesson.max(step / LEARN_STEPS as u64);
        self.is_due
    }

    /// What was said of these series an hour's worth of steps ago, compared with what came; they learn from it if a lesson is due.
    pub(super) fn compare<'a>(
        &mut self,
        ladder: &Ladder<'_>,
        closed: &[Closed<'a>],
        pasts: &[Past<'_>],
    ) -> Vec<Told<'a>> {
        self.compared(ladder, closed, pasts, self.is_due)
    }

    /// All series were compared.
    pub(super) fn end_step(&mut self) {
        if std::mem::take(&mut self.is_due) {
            self.pool();
        }
    }

    /// These series learn from their newest hour.
    pub(super) fn take_lesson(&mut self, ladder: &Ladder<'_>, closed: &[Closed<'_>], pasts: &[Past<'_>]) {
        self.compared(ladder, closed, pasts, true);
    }

    /// Forecasts again what was forecast an hour's worth of steps ago: same model, same past, same answer.
    fn compared<'a>(
        &mut self,
        ladder: &Ladder<'_>,
        closed: &[Closed<'a>],
        pasts: &[Past<'_>],
        is_lesson: bool,
    ) -> Vec<Told<'a>> {
        let known = closed.iter().zip(pasts);
        let (known, origins): (Vec<_>, Vec<Past<'_>>) = known
            .filter_map(|((key, values), past)| {
                let origin = past.earlier(LEARN_STEPS).filter(|origin| origin.known() > 0)?;
                Some(((*key, &values[origin.values.len()..]), origin))
            })
            .unzip();
        let mut all = Vec::with_capacity(known.len());
        for ((key, came), (rungs, _)) in known.into_iter().zip(ladder.rungs(&origins)) {
            let (came, (own, pool)) = (Came::from_steps(came), self.of(key));
            let told = own.apply(&rungs, pool).map(|quantiles| Told {
                key,
                quantiles,
                ewma: rungs.ewma.clone(),
                by_model: rungs.model.is_some(),
                came: came.clone(),
                usual_loss: own.usual_loss(),
            });
            all.extend(told);
            if is_lesson {
                let pool = pool.clone();
                self.series.entry(key.clone()).or_default().learn(&rungs, &pool, &came);
            }
        }
        all
    }

    /// All series have learnt: what young ones lean on follows.
    pub(super) fn pool(&mut self) {
        for measure in Measure::ALL {
            let of_measure = self.series.iter().filter(|(key, _)| key.measure == measure);
            self.pools.insert(measure, Calibration::pooled(of_measure.map(|(_, calibration)| calibration)));
        }
    }

    /// All lessons up to this one (its end over its length) are taken.
    pub(super) fn has_taken(&mut self, lesson: u64) {
        self.lesson = lesson;
    }

    /// A series' calibration and its measure's.
    pub(super) fn of(&self, key: &SeriesKey) -> (&Calibration, &Calibration) {
        (self.series.get(key).unwrap_or(&NONE), self.pools.get(&key.measure).unwrap_or(&NONE))
    }

    /// Lets go of series that are gone.
    pub(super) fn keep(&mut self, keep: impl Fn(&SeriesKey) -> bool) {
        self.series.retain(|key, _| keep(key));
    }
}

/// What is known of a series that has not learnt yet.
static NONE: Calibration = Calibration::NONE;
