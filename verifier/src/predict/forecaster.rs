//! The forecaster's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use quotary_decide::forecast::{ModelFault, Past, Shortfall};
use quotary_decide::history::{History, Point, Series, SeriesKey};
use quotary_decide::profile::Strain;

use super::anomalies::Alarms;
use super::feed::{Ends, Fed, Feed, answer};
use super::hours;
use super::keeping::Keeping;
use super::kin::Kin;
use super::known;
use super::published::{Forecasts, Published};
use super::trial::Trial;
use crate::clock::Clock;
use crate::core::WeakQueue;

/// Keeps the history and makes the forecasts.
pub struct Forecaster {
    history: History,
    trial: Trial,
    forecasts: Forecasts,
    clock: Clock,
    fed: Receiver<Fed>,
    keeping: Keeping,
    alarms: Alarms,
    /// The last closed step that was forecast.
    forecast_step: u64,
}

impl Forecaster {
    /// A forecaster with points of `step_ms`, and its feed; it forecasts with the models of `trial`, judges with `alarms` and publishes in
    /// `forecasts`.
    pub fn new(step_ms: u64, trial: Trial, (alarms, forecasts): (Alarms, Forecasts), clock: Clock) -> (Self, Feed) {
        let (feed, Ends { fed, replayed }) = Feed::new();
        let (history, keeping) = (History::new(step_ms), Keeping::new(replayed));
        let forecaster = Self { history, trial, forecasts, clock, fed, keeping, alarms, forecast_step: 0 };
        (forecaster, feed)
    }

    /// Chunks of the history, alarms, and what follows for the models, go to this writer.
    #[must_use]
    pub fn keeping(mut self, queue: WeakQueue) -> Self {
        self.keeping.to(queue.clone());
        self.alarms.to(queue.clone());
        self.trial.to(queue);
        self
    }

    /// Works until every feed is gone.
    pub fn run(mut self) {
        loop {
            match self.fed.recv_timeout(self.keeping.patience().min(self.trial.patience())) {
                Ok(Fed::Load(load, at_ms)) => self.history.record(&load, at_ms),
                Ok(Fed::Ask(host, to, _place)) => answer(&self.history, host, to),
                Ok(Fed::AskHours(wanted, to, _place)) => hours::answer(&self.history, &wanted, self.clock.now_ms(), to),
                Ok(Fed::AskKnown(keys, to, _place)) => known::answer(&self.history, keys, self.clock.now_ms(), to),
                Err(RecvTimeoutError::Timeout) => {
                    self.keeping.take_replayed(&mut self.history, &mut self.alarms, self.clock.now_ms());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now_ms = self.clock.now_ms();
            if self.keeping.is_restored() {
                self.trial.follow();
                self.trial.relearn(&self.history, self.forecast_step, now_ms);
            }
            self.keeping.keep_due(&mut self.history, now_ms);
            self.alarms.send();
            // Evidence of a step arrives a little after its end.
            let settled = now_ms.saturating_sub(self.history.step_ms() / 2) / self.history.step_ms();
            if settled > self.forecast_step {
                self.forecast_step = settled;
                if self.keeping.is_restored() {
                    self.history.sum_until(settled.saturating_mul(self.history.step_ms()));
                    self.alarms.judge(&self.history, settled);
                }
                self.forecast_all(now_ms);
            }
        }
    }

    fn forecast_all(&mut self, now_ms: u64) {
        let step_ms = self.history.step_ms();
        let closed = closed_steps(self.history.iter(), now_ms);
        let pasts = pasts(&closed, step_ms);
        self.trial.score(&closed, &pasts, (self.forecast_step, now_ms));
        let (ladder, learner) = (self.trial.champion.ladder(), &self.trial.champion.learner);
        let mut fresh = BTreeMap::new();
        let asked = ladder.rungs(&pasts);
        let owner_of = |key: &SeriesKey| self.history.owner_of(&key.host?, key.subject.cgroup()?);
        let kin = Kin::of(&closed, &asked, &owner_of);
        for (((key, _), past), (rungs, why)) in closed.iter().zip(&pasts).zip(&asked) {
            if let Some(Shortfall::Model(ModelFault::Failed(error))) = why {
                tracing::warn!(series = ?key, %error, "the model gave no forecast: the rung below answers");
            }
            let (calibration, pool) = learner.of(key);
            let (like, declared) = (kin.like(key, rungs), kin.declared(key));
            let Some(forecast) = ladder.answer(past, rungs, (calibration, pool), &like, declared) else { continue };
            self.alarms.expect(key, now_ms / step_ms, &forecast);
            let of_group = key.host.zip(key.subject.cgroup());
            let grant = of_group.and_then(|(host, cgroup)| self.history.grant_of(&host, cgroup));
            let strain = self.history.get(key).map(|series| strain(key, series, now_ms)).unwrap_or_default();
            fresh.insert((*key).clone(), Published { forecast: Arc::new(forecast), strain, grant });
        }
        self.forecasts.publish(fresh, |key| self.history.get(key).is_some());
        self.trial.keep(|key| self.history.get(key).is_some());
    }
}

/// A series with its closed steps, oldest first.
pub(super) type Closed<'a> = (&'a SeriesKey, Vec<Option<f64>>);

/// Series with their steps that were over at `now_ms`.
pub(super) fn closed_steps<'a>(
    series: impl Iterator<Item = (&'a SeriesKey, &'a Series)>,
    now_ms: u64,
) -> Vec<Closed<'a>> {
    let closed = |series: &Series| series.closed(now_ms, POINTS).iter().map(|p| p.as_ref().map(demand)).collect();
    series.map(|(key, series)| (key, closed(series))).collect()
}

/// The same as pasts to forecast from.
pub(super) fn pasts<'a>(closed: &'a [Closed<'_>], step_ms: u64) -> Vec<Past<'a>> {
    let interval_s = (step_ms / 1000).max(1);
    closed.iter().map(|(key, values)| Past { measure: key.measure, interval_s, values }).collect()
}

/// Points of history that a forecast looks at: what the model sees, and an hour more to learn from.
const POINTS: usize = 324;

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
pub(super) fn demand(point: &Point) -> f64 {
    point.mean() as f64
}

/// What says that a series wanted more than is recorded of it.
fn strain(key: &SeriesKey, series: &Series, now_ms: u64) -> Strain {
    match key.measure.resource() {
        Some(resource) => Strain::of(resource, &series.closed(now_ms, Strain::STEPS), series.pressure(now_ms)),
        // What an application states of itself sizes nothing.
        None => Strain::default(),
    }
}
