//! A model with what was learnt of its forecasts, and how good they were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_decide::contest::{Record, Scores, SeriesHour};
use quotary_decide::forecast::{Ladder, Past, QuantileModel};
use quotary_decide::history::{HOUR_MS, History, Measure, SeriesKey};
use quotary_models::Model;

use super::contest::MeasureScore;
use super::forecaster::Closed;
use super::learner::{Learner, Told};
use super::relearning::Relearning;

const DAY_HOURS: u64 = 24;
const WEEK_HOURS: u64 = 7 * DAY_HOURS;

/// One side of a contest, or the only model.
#[derive(Debug, Default)]
pub(super) struct Contender {
    pub(super) model: Option<Arc<Model>>,
    pub(super) learner: Learner,
    relearning: Relearning,
    scores: Scores,
}

impl Contender {
    /// One of which nothing is known yet: it learns from the rings first.
    pub(super) fn new(model: Option<Arc<Model>>) -> Self {
        Self { model, ..Self::default() }
    }

    pub(super) fn ladder(&self) -> Ladder<'_> {
        Ladder::new(self.model.as_deref().map(|model| model as &dyn QuantileModel))
    }

    /// Learns again what a restart forgot, a little at a time. `step` is the newest closed one.
    pub(super) fn relearn(&mut self, history: &History, step: u64, now_ms: u64) {
        let ladder = Ladder::new(self.model.as_deref().map(|model| model as &dyn QuantileModel));
        self.relearning.go_on(history, &ladder, &mut self.learner, (step, now_ms));
    }

    pub(super) fn patience(&self) -> std::time::Duration {
        self.relearning.patience()
    }

    /// Step `step` (its end over its length) has closed; whether a lesson is due. `None` while it still learns what a restart forgot.
    pub(super) fn begin_step(&mut self, step: u64) -> Option<bool> {
        self.relearning.is_done().then(|| self.learner.begin_step(step))
    }

    /// What was forecast of these series an hour's worth of steps ago is scored, and learnt from if a lesson is due.
    /// The model is judged by those of `votes` that it had a share in.
    pub(super) fn score<'a>(
        &mut self,
        (closed, pasts): (&[Closed<'a>], &[Past<'_>]),
        votes: &BTreeSet<&SeriesKey>,
        now_ms: u64,
    ) -> Vec<Told<'a>> {
        let ladder = Ladder::new(self.model.as_deref().map(|model| model as &dyn QuantileModel));
        let all = self.learner.compare(&ladder, closed, pasts);
        for told in &all {
            let beside = told.ewma.as_ref().zip(told.usual_loss);
            let is_judged = told.by_model && told.usual_loss.is_some() && votes.contains(told.key);
            self.scores.add((told.key.measure, now_ms / HOUR_MS), &told.quantiles, &told.came, beside, is_judged);
        }
        all
    }

    /// All series were scored.
    pub(super) fn end_step(&mut self) {
        self.learner.end_step();
    }

    pub(super) fn scores(&self) -> &Scores {
        &self.scores
    }

    /// By measure: within a day and within a week.
    pub(super) fn measured(&self, now_ms: u64) -> Vec<MeasureScore> {
        let hour = now_ms / HOUR_MS;
        let of = |measure: Measure| MeasureScore {
            measure,
            day: self.scores.of(measure, hour, DAY_HOURS),
            week: self.scores.of(measure, hour, WEEK_HOURS),
        };
        self.scores.measures().map(of).collect()
    }
}

/// Series of one measure that one host, or all sums, have a vote with: what is on one host must not decide for all.
const VOTES_MAX: usize = 8;

/// Of these series, those that models are judged by.
pub(super) fn votes<'a>(closed: &[Closed<'a>]) -> BTreeSet<&'a SeriesKey> {
    let mut of_place: BTreeMap<_, usize> = BTreeMap::new();
    let mut has_a_vote = |key: &SeriesKey| {
        let count = of_place.entry((key.host, key.measure)).or_default();
        *count += 1;
        *count <= VOTES_MAX
    };
    closed.iter().map(|(key, _)| *key).filter(|key| has_a_vote(key)).collect()
}

/// Records what both models said of the same hours.
pub(super) fn record_both(
    record: &mut Record,
    (champion, challenger): (&[Told<'_>], &[Told<'_>]),
    votes: &BTreeSet<&SeriesKey>,
    now_ms: u64,
) {
    let theirs: BTreeMap<_, &Told<'_>> = challenger.iter().map(|told| (told.key, told)).collect();
    for told in champion.iter().filter(|told| told.by_model && votes.contains(told.key)) {
        let Some(other) = theirs.get(told.key).filter(|other| other.by_model) else { continue };
        // Both are held against the same.
        let Some(usual) = told.usual_loss else { continue };
        let series_hour = |told: &Told<'_>| SeriesHour::of(&told.quantiles, &told.came, usual);
        if let (Some(champion), Some(challenger)) = (series_hour(told), series_hour(other)) {
            record.add(told.key.measure, now_ms / HOUR_MS, &champion, &challenger);
        }
    }
}
