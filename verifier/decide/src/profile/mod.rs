//! Profile: what an application will need, from forecast, class and request.
//!
//! Does: holds the form of a forecast, the statistical rung that answers where no model does, and the rule
//! that turns forecast, class and declared request into the size of a grant.
//! May assume: that a forecast's quantiles ascend.
//! Promises: every number of a profile says why; a profile never exceeds the declared request.
//! Must never: run a model (the shell does) or read a clock.

mod ewma;
mod forecast;
mod size;

pub use ewma::forecast as ewma_forecast;
pub use forecast::{Forecast, Method, ModelRef, PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, STEPS};
pub use size::{Profile, size};
