//! Profile: what an application will need, from forecast, class and request.
//!
//! Does: finds the request that costs least between room unused and demand unmet, and turns forecast, class and declared request into
//! the size of a grant.
//! May assume: that a forecast's quantiles ascend.
//! Promises: every number of a profile says why; a profile never exceeds the declared request.
//! Must never: run a model (the shell does) or read a clock.

mod request;
mod size;

pub use request::{Request, request};
pub use size::{Profile, size};
