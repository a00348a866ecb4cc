//! Backtest: forecasts of recorded series, each made from what was known before it, beside the simple rules of the field.
//!
//! Does: rolls an origin over a series, asks the ladder as the service would, scores what it said against what came, and compares with
//! last value, EWMA and seasonal naive; sizes each hour by our request and by seven published rules and compares unused room at an equal
//! share of overruns.
//! May assume: that a series' steps are of one length and in order.
//! Promises: nothing after an origin is read for its forecast; every method sees the same windows; what is not scored is counted.
//! Must never: read a file or a clock; leave a window out because of what came in it, but for gaps.
//!
//! Measures: weighted quantile loss (WQL) is the mean over the levels .1 to .9 of twice the pinball loss, over the mean of what came; ratios of WQL
//! are geometric means over series (as BOOM and GIFT-Eval do). MASE divides the median's absolute error by the in-sample error of the
//! seasonal naive rule, or of the last value where there are no three days before the first origin (Hyndman and Koehler 2006). Slack is
//! 1 - mean / request, never below 0: a request below the mean has no room to leave unused.

mod rules;
mod run;
pub mod shaping;
mod summary;

pub use rules::SizingRule;
pub use run::{Origins, Recorded, SeriesScores, Window, run};
pub use summary::{MethodFigures, SizingFigures, Summary, summarise};

/// A way to forecast that is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The ladder with its calibration: what Quotary answers.
    Quotary,
    /// The model by itself.
    Model,
    /// An exponentially weighted mean, factor 0.3, with empirical quantiles.
    Ewma,
    /// The last value with empirical quantiles.
    LastValue,
    /// The value of a day before with empirical quantiles.
    SeasonalNaive,
}

impl Method {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Quotary, Self::Model, Self::Ewma, Self::LastValue, Self::SeasonalNaive];

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quotary => "quotary",
            Self::Model => "model",
            Self::Ewma => "ewma",
            Self::LastValue => "last-value",
            Self::SeasonalNaive => "seasonal-naive",
        }
    }
}
