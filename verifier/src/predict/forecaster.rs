//! The forecaster's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use quotary_decide::forecast::{Ladder, ModelFault, Past, QuantileModel, Shortfall};
use quotary_decide::history::{History, Point, SeriesKey};
use quotary_models::Model;

use super::feed::{Ends, Fed, Feed, answer};
use super::keeping::Keeping;
use super::learner::Learner;
use super::published::Forecasts;
use crate::clock::Clock;
use crate::core::WeakQueue;

/// Keeps the history and makes the forecasts.
pub struct Forecaster {
    history: History,
    model: Option<Model>,
    learner: Learner,
    forecasts: Forecasts,
    clock: Clock,
    fed: Receiver<Fed>,
    keeping: Keeping,
    /// The last closed step that was forecast.
    forecast_step: u64,
}

impl Forecaster {
    /// A forecaster with points of `step_ms`, its feed, and where it publishes.
    pub fn new(step_ms: u64, model: Option<Model>, clock: Clock) -> (Self, Feed, Forecasts) {
        let (feed, Ends { fed, replayed }) = Feed::new();
        let forecasts = Forecasts::default();
        let (history, keeping) = (History::new(step_ms), Keeping::new(replayed));
        let (learner, published) = (Learner::default(), forecasts.clone());
        let forecaster = Self { history, model, learner, forecasts: published, clock, fed, keeping, forecast_step: 0 };
        (forecaster, feed, forecasts)
    }

    /// Chunks of the history go to this writer.
    #[must_use]
    pub fn keeping(mut self, queue: WeakQueue) -> Self {
        self.keeping.to(queue);
        self
    }

    /// Works until every feed is gone.
    pub fn run(mut self) {
        loop {
            match self.fed.recv_timeout(self.keeping.patience()) {
                Ok(Fed::Load(load, at_ms)) => self.history.record(&load, at_ms),
                Ok(Fed::Ask(host, to)) => answer(&self.history, host, to),
                Err(RecvTimeoutError::Timeout) => self.keeping.take_replayed(&mut self.history, self.clock.now_ms()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now_ms = self.clock.now_ms();
            self.keeping.keep_due(&mut self.history, now_ms);
            // Evidence of a step arrives a little after its end.
            let settled = now_ms.saturating_sub(self.history.step_ms() / 2) / self.history.step_ms();
            if settled > self.forecast_step {
                self.forecast_step = settled;
                if self.keeping.is_restored() {
                    self.history.sum_until(settled.saturating_mul(self.history.step_ms()));
                }
                self.forecast_all(now_ms);
            }
        }
    }

    fn forecast_all(&mut self, now_ms: u64) {
        let step_ms = self.history.step_ms();
        let interval_s = (step_ms / 1000).max(1);
        let closed: Vec<(&SeriesKey, Vec<Option<f64>>)> = self
            .history
            .iter()
            .map(|(key, series)| (key, series.closed(now_ms, POINTS).iter().map(|p| p.as_ref().map(demand)).collect()))
            .collect();
        let pasts: Vec<Past<'_>> =
            closed.iter().map(|(key, values)| Past { resource: key.resource, interval_s, values }).collect();
        let ladder = Ladder::new(self.model.as_ref().map(|model| model as &dyn QuantileModel));
        self.learner.learn(&ladder, &closed, &pasts);
        let mut fresh = BTreeMap::new();
        for (((key, _), past), (rungs, why)) in closed.iter().zip(&pasts).zip(ladder.rungs(&pasts)) {
            if let Some(Shortfall::Model(ModelFault::Failed(error))) = why {
                tracing::warn!(series = ?key, %error, "the model gave no forecast: the rung below answers");
            }
            let (calibration, pool) = self.learner.of(key);
            let Some(forecast) = ladder.answer(past, &rungs, (calibration, pool), &[], None) else { continue };
            let of_group = key.host.zip(key.subject.cgroup());
            let grant = of_group.and_then(|(host, cgroup)| self.history.grant_of(&host, cgroup));
            fresh.insert((*key).clone(), (Arc::new(forecast), grant));
        }
        self.forecasts.publish(fresh, |key| self.history.get(key).is_some());
        self.learner.keep(|key| self.history.get(key).is_some());
    }
}

/// Points of history that a forecast looks at: what the model sees, and an hour more to learn from.
const POINTS: usize = 324;

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
fn demand(point: &Point) -> f64 {
    point.mean() as f64
}
