//! The contest in the forecaster's thread: champion and challenger over the same steps, the record of it, and what follows.

use std::sync::Arc;

use quotary_common::id::Digest;
use quotary_decide::contest::{Outcome, Record, drift, judge};
use quotary_decide::forecast::Past;
use quotary_decide::history::{HOUR_MS, History, SeriesKey};

use super::contender::{Contender, record_both, votes};
use super::contest::{Contest, ModelSet, Standing, digest_of, is_same};
use super::forecaster::Closed;
use crate::core::{WeakQueue, tables};
use crate::store::{Batch, Partition};

/// Series that are scored at once: what was said of them is a megabyte or two.
const SERIES_AT_ONCE: usize = 512;

/// Champion, challenger, and what is known of them.
#[derive(Debug)]
pub struct Trial {
    contest: Contest,
    followed: Arc<ModelSet>,
    pub(super) champion: Contender,
    challenger: Option<Contender>,
    record: Record,
    queue: Option<WeakQueue>,
    has_drifted: bool,
}

impl Trial {
    /// The models as they are now; `record` is what is kept of what they said, if it is of them.
    pub fn new(contest: Contest, record: Record) -> Self {
        let followed = contest.models();
        let champion = Contender::new(followed.champion.clone());
        let challenger = followed.challenger.clone().map(|model| Contender::new(Some(model)));
        Self { contest, followed, champion, challenger, record, queue: None, has_drifted: false }
    }

    /// Records, and the return to an earlier model, go to this writer.
    pub(super) fn to(&mut self, queue: WeakQueue) {
        self.queue = Some(queue);
    }

    pub(super) fn patience(&self) -> std::time::Duration {
        let theirs = self.challenger.as_ref().map(Contender::patience);
        theirs.into_iter().fold(self.champion.patience(), std::time::Duration::min)
    }

    /// Takes up what was committed of the models since.
    pub(super) fn follow(&mut self) {
        let now = self.contest.models();
        if Arc::ptr_eq(&now, &self.followed) {
            return;
        }
        if !is_same(now.champion.as_ref(), self.followed.champion.as_ref()) {
            let promoted = self.challenger.take_if(|one| is_same(one.model.as_ref(), now.champion.as_ref()));
            self.champion = promoted.unwrap_or_else(|| Contender::new(now.champion.clone()));
            self.record = Record::default();
            self.has_drifted = false;
        }
        if !is_same(now.challenger.as_ref(), self.followed.challenger.as_ref()) {
            self.challenger = now.challenger.clone().map(|model| Contender::new(Some(model)));
            self.record = Record::default();
        }
        self.followed = now;
        self.contest.publish(Standing::default());
    }

    /// Learns again what a restart forgot, a little at a time.
    pub(super) fn relearn(&mut self, history: &History, step: u64, now_ms: u64) {
        self.champion.relearn(history, step, now_ms);
        if let Some(challenger) = &mut self.challenger {
            challenger.relearn(history, step, now_ms);
        }
    }

    /// Step `step` (its end over its length) has closed: what was forecast an hour's worth of steps ago is scored.
    pub(super) fn score(&mut self, closed: &[Closed<'_>], pasts: &[Past<'_>], (step, now_ms): (u64, u64)) {
        let Some(is_due) = self.champion.begin_step(step) else { return };
        let theirs_are_due = self.challenger.as_mut().and_then(|challenger| challenger.begin_step(step));
        let votes = votes(closed);
        for (closed, pasts) in closed.chunks(SERIES_AT_ONCE).zip(pasts.chunks(SERIES_AT_ONCE)) {
            let ours = self.champion.score((closed, pasts), &votes, now_ms);
            let (Some(challenger), Some(theirs_are_due)) = (&mut self.challenger, theirs_are_due) else { continue };
            let theirs = challenger.score((closed, pasts), &votes, now_ms);
            // Hours that lie side by side, so that no step counts twice.
            if is_due && theirs_are_due {
                record_both(&mut self.record, (&ours, &theirs), &votes, now_ms);
            }
        }
        self.champion.end_step();
        if let (Some(challenger), Some(_)) = (&mut self.challenger, theirs_are_due) {
            challenger.end_step();
        }
        let kept = is_due && theirs_are_due == Some(true);
        self.conclude(kept, now_ms);
    }

    /// Lets go of series that are gone.
    pub(super) fn keep(&mut self, keep: impl Fn(&SeriesKey) -> bool) {
        self.champion.learner.keep(&keep);
        if let Some(challenger) = &mut self.challenger {
            challenger.learner.keep(&keep);
        }
    }

    /// Publishes how the models fare; has the record kept if it grew; and goes back to the model before when the champion drifts.
    fn conclude(&mut self, has_grown: bool, now_ms: u64) {
        let drift = drift(self.champion.scores(), now_ms / HOUR_MS);
        let tried = self.challenger.as_ref().and_then(|one| one.model.as_deref()).map(digest_of);
        let earlier = self.contest.standing();
        let is_news = has_grown || earlier.tried != tried;
        let (outcome, record, proof) = match tried {
            None => (None, None, None),
            // Nothing was recorded since: the outcome stands.
            Some(_) if !is_news => (earlier.outcome.clone(), earlier.record, earlier.proof.clone()),
            Some(_) => {
                let (outcome, digest, bytes) = judged(&self.record);
                self.keep_record(has_grown, bytes.clone());
                (Some(outcome), Some(digest), Some(Arc::from(bytes)))
            }
        };
        let challenger = self.challenger.as_ref().map(|one| one.measured(now_ms)).unwrap_or_default();
        let champion = self.champion.measured(now_ms);
        let champion_model = self.champion.model.as_deref().map(digest_of);
        self.contest.publish(Standing { champion, champion_model, challenger, tried, outcome, record, proof, drift });
        self.tell_drift(drift);
    }

    fn tell_drift(&mut self, drift: Option<f64>) {
        let Some(covered) = drift else {
            self.has_drifted = false;
            return;
        };
        if !std::mem::replace(&mut self.has_drifted, true) {
            tracing::error!(
                covered,
                "forecasts drift: over the last day their 95 % lines covered {covered:.3} of what came"
            );
        }
        let (Some(champion), Some(queue)) = (self.followed.champion.as_deref(), &self.queue) else { return };
        if self.followed.before.is_some() {
            queue.return_model(digest_of(champion), covered);
        }
    }

    fn keep_record(&self, has_grown: bool, bytes: Vec<u8>) {
        let (Some(queue), true) = (&self.queue, has_grown) else { return };
        let batch = Batch::default().put(tables::MODELS, Partition::Deployment, record_key(&self.followed), bytes);
        // With no room now it is kept after the next lesson.
        let _full = queue.keep_history(batch).is_err();
    }
}

/// What a record comes to, its digest and its bytes; the digest draws the bootstrap's hours, so that whoever has the record comes to the same.
fn judged(record: &Record) -> (Outcome, Digest, Vec<u8>) {
    let bytes = record.to_bytes();
    let digest = Digest::of(&[&bytes]);
    let seed = digest.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first));
    (judge(record, seed), digest, bytes)
}

/// Where the record of two models is kept: another pair has another.
pub(crate) fn record_key(models: &ModelSet) -> Vec<u8> {
    let of = |model: &Option<Arc<quotary_models::Model>>| model.as_deref().map_or(Digest::new([0; 32]), digest_of);
    [b"record".as_slice(), of(&models.champion).as_bytes(), of(&models.challenger).as_bytes()].concat()
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
