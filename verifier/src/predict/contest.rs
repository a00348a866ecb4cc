//! Which models forecast and are tried, and how they fare: what writer, forecaster and readers share.

use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::id::Digest;
use quotary_decide::contest::{Outcome, Score};
use quotary_decide::history::Measure;
use quotary_models::Model;

/// The models.
#[derive(Debug, Clone, Default)]
pub struct ModelSet {
    /// The one that forecasts; none where it cannot be used: the rungs below answer.
    pub champion: Option<Arc<Model>>,
    /// The one that is tried beside it.
    pub challenger: Option<Arc<Model>>,
    /// Since when it is tried, Unix ms.
    pub tried_since_ms: Option<u64>,
    /// The one that forecast before it, to go back to.
    pub before: Option<Arc<Model>>,
    /// When the champion began, Unix ms; 0 for the one that was there first.
    pub since_ms: u64,
}

/// A model's digest.
pub fn digest_of(model: &Model) -> Digest {
    // A reference's digest is one by its construction.
    model.reference().sha256.parse().unwrap_or(Digest::new([0; 32]))
}

/// Whether both are the same model.
pub fn is_same(one: Option<&Arc<Model>>, other: Option<&Arc<Model>>) -> bool {
    one.map(|model| &model.reference().sha256) == other.map(|model| &model.reference().sha256)
}

/// How one measure was forecast.
#[derive(Debug, Clone, Copy)]
pub struct MeasureScore {
    /// Of what.
    pub measure: Measure,
    /// Within a day.
    pub day: Score,
    /// Within a week.
    pub week: Score,
}

/// How the models fare, as of the newest closed step.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The champion's forecasts, calibrated, by measure.
    pub champion: Vec<MeasureScore>,
    /// The challenger's.
    pub challenger: Vec<MeasureScore>,
    /// The model that forecasts, which `outcome` compares with.
    pub champion_model: Option<Digest>,
    /// The model that `outcome` is about.
    pub tried: Option<Digest>,
    /// What the contest came to so far.
    pub outcome: Option<Outcome>,
    /// SHA-256 of the record that the outcome rests on.
    pub record: Option<Digest>,
    /// That record.
    pub proof: Option<Arc<[u8]>>,
    /// The share that the champion's 95 % line covered over the last day, where it drifts.
    pub drift: Option<f64>,
}

/// Shared by clones.
#[derive(Debug, Clone, Default)]
pub struct Contest(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    models: RwLock<Arc<ModelSet>>,
    standing: RwLock<Arc<Standing>>,
}

impl Contest {
    /// The models as they were committed last.
    pub fn models(&self) -> Arc<ModelSet> {
        Arc::clone(&self.0.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// These models were committed.
    pub fn set_models(&self, models: ModelSet) {
        *self.0.models.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
    }

    /// How they fare.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.0.standing.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, standing: Standing) {
        *self.0.standing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }
}
