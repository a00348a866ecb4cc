//! The forecaster's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use quotary_decide::forecast::{Ladder, ModelFault, Past, QuantileModel, Shortfall};
use quotary_decide::history::{BoundedLoad, History, Point, SeriesKey, Subject};
use quotary_models::Model;

use super::learner::Learner;
use super::published::Forecasts;
use crate::clock::Clock;

/// Committed evidence that waits for the forecaster at most.
const FEED_MAX: usize = 1024;

/// Committed load, and when it was committed (Unix ms).
struct Fed(BoundedLoad, u64);

/// Where the load of committed evidence goes.
#[derive(Debug, Clone)]
pub struct Feed(SyncSender<Fed>);

impl std::fmt::Debug for Fed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fed")
    }
}

impl Feed {
    /// Hands load over; when the forecaster is behind, it is left out (a gap in its history).
    pub fn record(&self, load: BoundedLoad, committed_at_ms: u64) {
        if self.0.try_send(Fed(load, committed_at_ms)).is_err() {
            tracing::debug!("the forecaster is behind: a gap in its history");
        }
    }
    /// Hands over load that was committed before a restart, waiting for room.
    pub fn replay(&self, load: BoundedLoad, committed_at_ms: u64) {
        let _stopped = self.0.send(Fed(load, committed_at_ms)).is_err();
    }
}

/// Keeps the history and makes the forecasts.
pub struct Forecaster {
    history: History,
    model: Option<Model>,
    learner: Learner,
    forecasts: Forecasts,
    clock: Clock,
    fed: Receiver<Fed>,
    /// The last closed step that was forecast.
    forecast_step: u64,
}

impl Forecaster {
    /// A forecaster with points of `step_ms`, its feed, and where it publishes.
    pub fn new(step_ms: u64, model: Option<Model>, clock: Clock) -> (Self, Feed, Forecasts) {
        let (sender, fed) = sync_channel(FEED_MAX);
        let forecasts = Forecasts::default();
        let forecaster =
            Self {
            history: History::new(step_ms),
            model,
            learner: Learner::default(),
            forecasts: forecasts.clone(),
            clock,
            fed,
            forecast_step: 0,
        };
        (forecaster, Feed(sender), forecasts)
    }

    /// Works until every feed is gone.
    pub fn run(mut self) {
        loop {
            match self.fed.recv_timeout(Duration::from_millis(250)) {
                Ok(Fed(load, at_ms)) => self.history.record(&load, at_ms),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now_ms = self.clock.now_ms();
            // Evidence of a step arrives a little after its end.
            let settled = now_ms.saturating_sub(self.history.step_ms() / 2) / self.history.step_ms();
            if settled > self.forecast_step {
                self.forecast_step = settled;
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
                tracing::warn!(host = %key.host, %error, "the model gave no forecast: the rung below answers");
            }
            let (calibration, pool) = self.learner.of(key);
            let Some(forecast) = ladder.answer(past, &rungs, (calibration, pool), &[], None) else { continue };
            let grant = match &key.subject {
                Subject::Cgroup(cgroup) => self.history.grant_of(&key.host, cgroup),
                Subject::Host => None,
            };
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
