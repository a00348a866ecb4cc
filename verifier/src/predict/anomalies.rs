//! Judges what has closed, and hands alarms to the writer.
//!
//! A step is judged once: how far all were judged is committed together with the alarms. After a restart the detectors are made anew from
//! the history that is read back (a week of chunks, then the rings), silently up to there, and aloud from there on.
//! Steps that ended while the verifier was down are judged once hosts have had the time to tell of them.

use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::anomaly::Anomaly;
use quotary_common::id::HostId;
use quotary_decide::alarm::{AlarmRecord, Counts, Finding, Merger, Silence, Watch, line_of};
use quotary_decide::forecast::Forecast;
use quotary_decide::history::{Chunk, History, SeriesKey};

use crate::config::AlarmRules;
use crate::core::WeakQueue;

/// Alarms that wait for the writer at most; what is beyond is left out, and said so.
const UNSENT_MAX: usize = 4_096;

/// After a restart so many steps close before the next is judged aloud: what hosts had to say meanwhile is on its way.
const WAITED_STEPS: u64 = 2;

/// How many series are judged, for readers; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Judged(Arc<RwLock<Counts>>);

impl Judged {
    /// As of the last step.
    pub fn counts(&self) -> Counts {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was told before a restart.
#[derive(Debug, Clone, Default)]
pub struct ToldBefore {
    /// Every step that ended before was judged, Unix ms; none when nothing was ever judged.
    pub until_ms: Option<u64>,
    /// The alarms.
    pub alarms: Vec<Arc<AlarmRecord>>,
}

/// The forecaster's part that alarms.
pub struct Alarms {
    step_ms: u64,
    watch: Watch,
    merger: Merger,
    silence: Vec<Silence>,
    before: Option<ToldBefore>,
    /// The first step that is not judged.
    told: u64,
    /// After a restart: when it is judged aloud again.
    aloud_from: u64,
    unsent: Option<(Vec<Anomaly>, u64)>,
    queue: Option<WeakQueue>,
    judged: Judged,
}

impl Alarms {
    /// Judges steps of `step_ms` by these rules, after what was told before.
    pub fn new(step_ms: u64, rules: &AlarmRules, before: ToldBefore) -> Self {
        Self {
            step_ms: step_ms.max(1),
            watch: Watch::new(step_ms, line_of(rules.per_series_and_month, step_ms)),
            merger: Merger::default(),
            silence: rules.silence.clone(),
            before: Some(before),
            told: 0,
            aloud_from: 0,
            unsent: None,
            queue: None,
            judged: Judged::default(),
        }
    }

    /// How many series are judged, for readers.
    pub fn judged(&self) -> Judged {
        self.judged.clone()
    }

    /// Alarms go to this writer.
    pub(super) fn to(&mut self, queue: WeakQueue) {
        self.queue = Some(queue);
    }

    /// A chunk was read back.
    pub(super) fn relive(&mut self, history: &History, host: Option<HostId>, chunk: &Chunk, now_ms: u64) {
        self.watch.relive(history, host, chunk, now_ms);
    }

    /// Judges what ended before step `until`, once all history was read back.
    pub(super) fn judge(&mut self, history: &History, until: u64) {
        if let Some(before) = self.before.take() {
            self.resume(history, until, &before);
            self.aloud_from = until.saturating_add(WAITED_STEPS);
        }
        if until >= self.aloud_from {
            let found = self.watch.judge(history, until, self.told);
            if until > self.told {
                self.told = until;
                self.tell(found);
            }
        }
        *self.judged.0.write().unwrap_or_else(PoisonError::into_inner) = self.watch.counts();
    }

    /// The first time: all that was judged before is judged again, silently.
    fn resume(&mut self, history: &History, until: u64, before: &ToldBefore) {
        // Whoever never judged before begins now: what is long ago alarms nobody.
        self.told = before.until_ms.map_or(until, |until_ms| until_ms / self.step_ms);
        self.watch.relived();
        let _told_before = self.watch.judge(history, self.told.min(until), u64::MAX);
        self.watch.remember(before.alarms.iter().map(Arc::as_ref));
        self.merger.reopen(before.alarms.iter().map(Arc::as_ref), self.step_ms);
    }

    fn tell(&mut self, mut found: Vec<Finding>) {
        found.retain(|finding| !self.silence.iter().any(|silence| silence.covers(&finding.key)));
        let alarms = self.merger.merge(found, self.step_ms);
        for alarm in &alarms {
            tracing::info!(host = ?alarm.host, sum = ?alarm.sum, series = alarm.findings.len(), "an anomaly");
        }
        let until_ms = self.told.saturating_mul(self.step_ms);
        let (unsent, until) = self.unsent.get_or_insert_with(|| (Vec::new(), until_ms));
        *until = until_ms;
        unsent.extend(alarms);
        let beyond = unsent.len().saturating_sub(UNSENT_MAX);
        if beyond > 0 {
            tracing::warn!(beyond, "the writer has no room for alarms: the oldest are left out");
            unsent.drain(..beyond);
        }
        self.send();
    }

    /// Hands over what the writer had no room for.
    pub(super) fn send(&mut self) {
        let (Some(queue), Some((alarms, until_ms))) = (&self.queue, self.unsent.take()) else { return };
        self.unsent = queue.judged(alarms, until_ms).err();
    }

    /// What a forecast that was made while step `step` ran expects of it.
    pub(super) fn expect(&mut self, key: &SeriesKey, step: u64, forecast: &Forecast) {
        self.watch.expect(key, step, forecast);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::units::ResourceKind;
    use quotary_decide::history::{Point, Subject};
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::core::{Command, Queue};

    const STEP_MS: u64 = 300_000;
    const FIRST: u64 = 5_000_000;

    fn rules() -> AlarmRules {
        AlarmRules { per_series_and_month: 1.0, warning_ms: 1, silence: Vec::new() }
    }

    /// Alarms that go to a queue, of a history of 400 steps of noise, judged up to there before a restart.
    fn restarted(silence: Vec<Silence>) -> (Alarms, History, Queue, Receiver<Command>) {
        let mut history = History::new(STEP_MS);
        let noise: Vec<u64> = (0..400u64).map(|n| 1_000 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 97).collect();
        fill(&mut history, FIRST, &noise);
        let before = ToldBefore { until_ms: Some((FIRST + 400) * STEP_MS), alarms: Vec::new() };
        let mut alarms = Alarms::new(STEP_MS, &AlarmRules { silence, ..rules() }, before);
        let (queue, commands) = Queue::new();
        alarms.to(queue.weak());
        (alarms, history, queue, commands)
    }

    fn fill(history: &mut History, first: u64, values: &[u64]) {
        let points =
            (first..).zip(values.iter().map(|value| Point::new((*value, *value), 1, false).unwrap())).collect();
        let chunk = Chunk::of_series(STEP_MS, [(Subject::Host, ResourceKind::Cpu.into(), points)]);
        history.restore(Some(HostId::of(&[b"h"])), &chunk, (first + values.len() as u64) * STEP_MS);
    }

    /// What was sent: alarms, and up to which step all is judged.
    fn sent(commands: &mut Receiver<Command>) -> Vec<(usize, u64)> {
        let mut sent = Vec::new();
        while let Ok(command) = commands.try_recv() {
            if let Command::Judged { alarms, until_ms } = command {
                sent.push((alarms.len(), until_ms / STEP_MS - FIRST));
            }
        }
        sent
    }

    #[test]
    fn what_happened_while_it_was_down_is_told_once_when_it_has_come() {
        let (mut alarms, mut history, _queue, mut commands) = restarted(Vec::new());
        alarms.judge(&history, FIRST + 403);
        assert_eq!(sent(&mut commands), [], "what hosts had to say is on its way");
        assert_eq!(alarms.judged().counts(), Counts { series: 1, warming_up: 0 });
        fill(&mut history, FIRST + 400, &[1_010, 20_000, 1_020, 1_030, 1_040]);
        alarms.judge(&history, FIRST + 404);
        alarms.judge(&history, FIRST + 405);
        assert_eq!(sent(&mut commands), [(1, 405)]);
        alarms.judge(&history, FIRST + 406);
        assert_eq!(sent(&mut commands), [(0, 406)]);
    }

    #[test]
    fn who_never_judged_before_tells_nothing_of_what_is_long_ago() {
        let (_, mut history, queue, mut commands) = restarted(Vec::new());
        fill(&mut history, FIRST + 400, &[1_010, 20_000, 1_020]);
        let mut alarms = Alarms::new(STEP_MS, &rules(), ToldBefore::default());
        alarms.to(queue.weak());
        for until in 403..410 {
            alarms.judge(&history, FIRST + until);
        }
        assert!(sent(&mut commands).iter().all(|(alarms, _)| *alarms == 0));
    }

    #[test]
    fn a_writer_without_room_is_told_later_and_silence_tells_nothing() {
        let (mut alarms, mut history, queue, mut commands) = restarted(Vec::new());
        alarms.judge(&history, FIRST + 400);
        fill(&mut history, FIRST + 400, &[1_010, 20_000, 1_020]);
        for _ in 0..10_000 {
            queue.tick();
        }
        alarms.judge(&history, FIRST + 402);
        assert_eq!(sent(&mut commands), [], "no room");
        alarms.judge(&history, FIRST + 403);
        assert_eq!(sent(&mut commands), [(1, 403)], "with what came since");
        alarms.send();
        assert_eq!(sent(&mut commands), [], "once");

        let silence = Silence { subject: Some("host".to_owned()), ..Silence::default() };
        let (mut alarms, mut history, _queue, mut commands) = restarted(vec![silence]);
        alarms.judge(&history, FIRST + 400);
        fill(&mut history, FIRST + 400, &[1_010, 20_000, 1_020]);
        alarms.judge(&history, FIRST + 403);
        assert_eq!(sent(&mut commands), [(0, 403)]);
    }
}
