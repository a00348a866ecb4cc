//! Predict: history and forecasts, on a thread of their own.
//!
//! Does: takes committed evidence into the history, forecasts every series whose step has closed, by the model
//! or by a rung below it, and publishes the newest forecasts with what says that more was wanted; hands over hours
//! and steps of history, and what they say of the hours to come; after a restart learns calibration again, a little at a time.
//! May assume: that what it is fed was verified and committed.
//! Promises: what it took is in chunks of history within an hour, and whoever restarts finds each window once, in chunks
//! or in kept evidence; a missing, refused or failing model costs nobody an answer: the EWMA rung answers and says so;
//! a slow forecaster drops evidence (a gap), it never holds the writer up.
//! Must never: hold a lock while the model runs; decide a grant.

mod anomalies;
mod contender;
mod contest;
mod feed;
mod forecaster;
mod hours;
mod keeping;
mod kin;
mod known;
mod learner;
mod published;
mod relearning;
mod replay;
#[cfg(test)]
mod testing;
mod trial;
mod usual;

pub use anomalies::{Alarms, Judged, ToldBefore};
pub use contest::{Contest, MeasureScore, ModelSet, Standing, digest_of, is_same};
pub use feed::{Feed, Live};
pub use forecaster::Forecaster;
pub use hours::{Hours, HoursWanted};
pub use published::Forecasts;
pub use replay::{Replaying, replay};
pub use trial::Trial;
pub(crate) use trial::record_key;
pub use usual::{Ahead, Usual};
