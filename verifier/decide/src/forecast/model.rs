//! What the ladder asks of a model.

use thiserror::Error;

use super::answer::ModelRef;
use super::past::Past;
use super::quantiles::Quantiles;

/// A model of quantiles; the crate that knows the inference engine implements it.
pub trait QuantileModel: Send + Sync {
    /// Its name and digest.
    fn reference(&self) -> &ModelRef;

    /// One answer for each past, in their order; one that fails moves no other.
    ///
    /// # Errors
    /// For each: why there is none.
    fn quantiles(&self, pasts: &[Past<'_>]) -> Vec<Result<Quantiles, ModelFault>>;
}

/// Why a model gave no answer. In every case the next rung answers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelFault {
    /// The past cannot be forecast from: nothing known, or values that are no demand.
    #[error("{0}")]
    Past(String),
    /// The model does not know what this series measures.
    #[error("the model does not know what this series measures")]
    Measure,
    /// The model failed: this is an alarm.
    #[error("{0}")]
    Failed(String),
}
