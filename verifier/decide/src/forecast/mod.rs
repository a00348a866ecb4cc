//! Forecast: quantiles of demand from one series' past, by the best rung that can answer.
//!
//! Does: the ladder (model, EWMA, climatology, declared request; design §6), calibration of what the rungs say against what came, hourly
//! climatology for long delay windows, and the score of a forecast.
//! May assume: that a past's steps are of one length and in order.
//! Promises: every answer names its rung, its model and the history it rests on; quantiles are finite, at least 0 and ascend; a model
//! that fails, or a past that is no demand, costs nobody an answer; one series' past moves no other series' answer but by the
//! pooled calibration, whose steps are bounded.
//! Must never: run a model itself (it is handed one), read a clock, or invent an answer without saying `declared`.

mod answer;
mod calibration;
mod climatology;
mod ewma;
mod ladder;
mod like;
mod model;
mod past;
mod quantiles;
mod score;

pub use answer::{Forecast, Method, ModelRef};
pub use calibration::{Calibration, LEARN_STEPS, Rungs};
pub use climatology::{HOURS_MAX, hourly, hours_ahead};
pub(crate) use ewma::between;
pub use ewma::{ewma, smoothed};
pub use ladder::{Ladder, Shortfall};
pub use like::{Likes, Member, can_speak};
pub use model::{ModelFault, QuantileModel};
pub use past::{Past, is_demand};
pub use quantiles::{MEDIAN, PEAK_LEVELS, PEAK_STEPS, PeakRow, QUANTILE_LEVELS, Quantiles, STEPS, StepRow};
pub use score::{Came, pinball};

/// For the tests of rooms that take a forecast.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod testing {
    use quotary_common::units::ResourceKind;

    use super::{Calibration, Forecast, Ladder, Past};

    /// What the statistical rung says of these points at 300 s.
    pub(crate) fn ewma_forecast(values: &[Option<f64>]) -> Forecast {
        let (ladder, none) = (Ladder::new(None), Calibration::default());
        let past = Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values };
        let (rungs, _) = ladder.rungs(&[past]).pop().unwrap();
        ladder.answer(&past, &rungs, (&none, &none), &[], None).unwrap()
    }
}
