//! The forecaster's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use quotary_common::units::ResourceKind;
use quotary_decide::history::{History, Point, Series, SeriesKey};
use quotary_decide::profile::{Forecast, Method, ModelRef, STEPS, ewma_forecast};
use quotary_models::Model;

use super::feed::{Ends, Fed, Feed, answer};
use super::keeping::Keeping;
use super::published::Forecasts;
use crate::clock::Clock;
use crate::core::WeakQueue;

/// Known points that the model wants at least: three say nothing of a course.
const MODEL_KNOWN_MIN: usize = 6;

/// Keeps the history and makes the forecasts.
pub struct Forecaster {
    history: History,
    model: Option<Model>,
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
        let forecaster = Self { history, model, forecasts: forecasts.clone(), clock, fed, keeping, forecast_step: 0 };
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

    fn forecast_all(&self, now_ms: u64) {
        let mut fresh = BTreeMap::new();
        for (key, series) in self.history.iter() {
            if let Some(forecast) = self.forecast(key, series, now_ms) {
                let of_group = key.host.zip(key.subject.cgroup());
                let grant = of_group.and_then(|(host, cgroup)| self.history.grant_of(&host, cgroup));
                fresh.insert(key.clone(), (Arc::new(forecast), grant));
            }
        }
        self.forecasts.publish(fresh, |key| self.history.get(key).is_some());
    }

    fn forecast(&self, key: &SeriesKey, series: &Series, now_ms: u64) -> Option<Forecast> {
        let interval_s = (self.history.step_ms() / 1000).max(1);
        let points = series.closed(now_ms, POINTS);
        let values: Vec<Option<f64>> = points.iter().map(|point| point.as_ref().map(demand)).collect();
        let known = values.iter().flatten().count();
        let by_model = self.model.as_ref().filter(|_| known >= MODEL_KNOWN_MIN).and_then(|model| {
            predict(model, key.resource, &values, interval_s)
                .inspect_err(|error| tracing::warn!(series = ?key, %error, "the model gave no forecast: EWMA answers"))
                .ok()
        });
        by_model.or_else(|| ewma_forecast(&values, interval_s))
    }
}

/// Points of history a forecast looks at: the model's context.
const POINTS: usize = 96;

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
fn demand(point: &Point) -> f64 {
    point.mean() as f64
}

fn predict(
    model: &Model,
    resource: ResourceKind,
    values: &[Option<f64>],
    interval_s: u64,
) -> Result<Forecast, quotary_models::ModelError> {
    let kind = match resource {
        ResourceKind::Cpu => quotary_models::ResourceKind::Cpu,
        ResourceKind::Memory | ResourceKind::Storage => quotary_models::ResourceKind::Memory,
        ResourceKind::Disk => quotary_models::ResourceKind::Disk,
        ResourceKind::Network => quotary_models::ResourceKind::Network,
    };
    let prediction = model.predict(kind, values)?;
    let known = values.iter().flatten().count();
    Ok(Forecast {
        method: Method::Model,
        model: Some(ModelRef { name: model.name().to_owned(), sha256: data_encoding::HEXLOWER.encode(model.sha256()) }),
        interval_s,
        steps: prediction.steps().iter().take(STEPS).cloned().collect(),
        peaks: prediction
            .peak_steps()
            .iter()
            .zip(prediction.peaks())
            .map(|(steps, values)| (interval_s * *steps as u64, values.clone()))
            .collect(),
        history_rows: known as u64,
        history_age_s: interval_s * values.len() as u64,
    })
}
