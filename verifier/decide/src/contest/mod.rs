//! Contest: how good forecasts were, whether a challenger model may take the champion's place, and whether the champion must give it back.
//!
//! Does: scores every forecast when its time has come, and tells drift; keeps what two models said of the same hours, measure by measure, and
//! judges: promotion only by proof on what came.
//! May assume: that both were given the same past, and that what is recorded came from verified evidence.
//! Promises: bounded memory; the same record and seed give the same outcome; an outcome says what it rests on, and what is missing.
//! Must never: promote for want of evidence; read a clock or a random source.
//!
//! The rules: the challenger's weighted quantile loss is at most 0.99 of the champion's and the whole of the 95 % interval of the ratio lies
//! below 1 (paired moving-block bootstrap over hours, Künsch 1989: hours follow each other); its 95 % line covers 93 to 97 %; at 5 % of
//! overruns it leaves no more of the requests unused; all of it over seven days, or 500 series-hours of each resource.

mod bootstrap;
mod kept;
mod outcome;
mod record;
mod scores;

pub use bootstrap::{Interval, ratio_interval};
pub use kept::RecordError;
pub use outcome::{Missing, Objection, Outcome, judge};
pub use record::{Record, SeriesHour, Side};
pub use scores::{SCORED_HOURS_MAX, Score, Scores, drift};
