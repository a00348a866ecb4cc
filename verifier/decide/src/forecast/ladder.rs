//! The ladder: the best rung that can answer, calibrated.

use super::answer::{Forecast, Method};
use super::calibration::{Calibration, LEARN_STEPS, Rungs};
use super::climatology::climatology;
use super::ewma::ewma;
use super::model::{ModelFault, QuantileModel};
use super::past::{Past, is_demand};
use super::quantiles::Quantiles;
use super::score::Came;

/// Known points that the model wants at least: fewer say nothing of a course.
const MODEL_KNOWN_MIN: usize = 6;
/// A rung whose part in an answer is less is not named in it.
const PART_MIN: f64 = 0.01;
/// Steps that a model may look at: a day of five minutes, and two hours.
const SEEN_MAX: usize = 312;

/// Why a forecast is not the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortfall {
    /// There is no model.
    NoModel,
    /// Too few points are known.
    YoungSeries,
    /// The model gave no answer.
    Model(ModelFault),
}

/// The rungs that can answer.
#[derive(Clone, Copy)]
pub struct Ladder<'m> {
    model: Option<&'m dyn QuantileModel>,
}

impl std::fmt::Debug for Ladder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ladder").field("model", &self.model.map(QuantileModel::reference)).finish()
    }
}

impl<'m> Ladder<'m> {
    /// A ladder with or without a model.
    pub fn new(model: Option<&'m dyn QuantileModel>) -> Self {
        Self { model }
    }

    /// What the upper rungs say of each past, and why the model is not among them.
    pub fn rungs(&self, pasts: &[Past<'_>]) -> Vec<(Rungs, Option<Shortfall>)> {
        let asked: Vec<Past<'_>> = pasts.iter().copied().filter(|past| is_known(past) && suffices(past)).collect();
        let mut answers = self.model.map(|model| model.quantiles(&asked).into_iter());
        let mut of = |past: &Past<'_>| match &mut answers {
            None => Err(Shortfall::NoModel),
            Some(_) if !is_known(past) => Err(Shortfall::Model(ModelFault::Measure)),
            Some(_) if !suffices(past) => Err(Shortfall::YoungSeries),
            // A model that gives fewer answers than it was asked for has failed.
            Some(answers) => answers
                .next()
                .unwrap_or_else(|| Err(ModelFault::Failed("it gave no answer".to_owned())))
                .map_err(Shortfall::Model),
        };
        let all = pasts.iter().map(|past| {
            let (model, why) = match of(past) {
                Ok(quantiles) => (Some(quantiles), None),
                Err(why) => (None, Some(why)),
            };
            (Rungs { model, ewma: ewma(past) }, why)
        });
        all.collect()
    }

    /// The forecast of a past whose rungs were asked: calibrated, or from the rungs below. `like` are points of series like this one, for
    /// one that has too few of its own ([`Likes`](super::Likes)); `declared` is what was asked for.
    pub fn answer(
        &self,
        past: &Past<'_>,
        rungs: &Rungs,
        (calibration, pool): (&Calibration, &Calibration),
        like: &[f64],
        declared: Option<f64>,
    ) -> Option<Forecast> {
        let (of_steps, of_peaks) = calibration.ewma_shares();
        let method = match rungs {
            // Both share the answer: the one with the greater part, over steps and peaks, is the method.
            Rungs { model: Some(_), ewma: Some(_) } if of_steps + of_peaks > 1.0 => Method::Ewma,
            Rungs { model: Some(_), .. } => Method::Model,
            Rungs { ewma: Some(_), .. } => Method::Ewma,
            Rungs { .. } => Method::Climatology,
        };
        let (method, quantiles) = match calibration.apply(rungs, pool) {
            Some(quantiles) => (method, quantiles),
            None => low(past, like, declared)?,
        };
        let known = past.known() as u64;
        let first = past.values.iter().position(|value| value.is_some_and(is_demand));
        let age_steps = first.map_or(0, |first| past.values.len() - first) as u64;
        // A model with the lesser part is named still, down to where it has hardly any.
        let has_part = rungs.ewma.is_none() || of_steps.min(of_peaks) <= 1.0 - PART_MIN;
        let model = self.model.filter(|_| rungs.model.is_some() && has_part).map(|model| model.reference().clone());
        Some(Forecast {
            method,
            model,
            interval_s: past.interval_s,
            quantiles,
            history_rows: known,
            history_age_s: past.interval_s.saturating_mul(age_steps),
        })
    }

    /// What a series' own past teaches: each hour of it is forecast from what was known before it and compared with what came, the
    /// oldest first, at most `lessons`. This is what the service learns hour by hour.
    pub fn learnt(&self, past: &Past<'_>, lessons: usize) -> Calibration {
        let origins: Vec<Past<'_>> = (1..=lessons)
            .rev()
            .filter_map(|back| past.earlier(back * LEARN_STEPS))
            .filter(|past| past.known() > 0)
            .collect();
        let mut calibration = Calibration::default();
        for (origin, (rungs, _)) in origins.iter().zip(self.rungs(&origins)) {
            let came = past.values.get(origin.values.len()..).unwrap_or_default();
            calibration.learn(&rungs, &Calibration::default(), &Came::from_steps(came));
        }
        calibration
    }
}

/// Whether a model may know what this past measures: none was trained on what applications state of themselves.
fn is_known(past: &Past<'_>) -> bool {
    past.measure.resource().is_some()
}

/// Whether enough of what a model may look at is known.
fn suffices(past: &Past<'_>) -> bool {
    let seen = Past { values: past.newest(SEEN_MAX), ..*past };
    seen.known() >= MODEL_KNOWN_MIN
}

/// The rungs for want of history: what is known of it and of its like, then the declared request.
fn low(past: &Past<'_>, like: &[f64], declared: Option<f64>) -> Option<(Method, Quantiles)> {
    let from: Vec<f64> = past.values.iter().flatten().chain(like).copied().collect();
    let declared = || Quantiles::point(declared?).map(|quantiles| (Method::Declared, quantiles));
    climatology(&from).map(|quantiles| (Method::Climatology, quantiles)).or_else(declared)
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
