//! Predict: history and forecasts, on a thread of their own.
//!
//! Does: takes committed evidence into the history, forecasts every series whose step has closed, by the model
//! or by the rung below it, and publishes the newest forecasts.
//! May assume: that what it is fed was verified and committed.
//! Promises: what it took is in chunks of history within an hour, and whoever restarts finds each window once, in chunks
//! or in kept evidence; a missing, refused or failing model costs nobody an answer: the EWMA rung answers and says so;
//! a slow forecaster drops evidence (a gap), it never holds the writer up.
//! Must never: hold a lock while the model runs; decide a grant.

mod feed;
mod forecaster;
mod keeping;
mod learner;
mod published;
mod replay;

pub use feed::{Feed, Live};
pub use forecaster::Forecaster;
pub use published::Forecasts;
pub use replay::{Replaying, replay};
