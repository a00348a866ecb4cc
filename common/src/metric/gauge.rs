//! What an application may state of itself: its gauges. They are its own words, and no facts of the kernel's.

use super::Metric;

/// What an application states of itself; the unit stands in the name. Rates are per minute: a whole number per second
/// would be 0 for an application that is asked every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gauge {
    /// Requests that it took, per minute.
    RequestsPerMinute = 0,
    /// Of what it did, what failed, per minute.
    ErrorsPerMinute = 1,
    /// What one request takes, microseconds: a mean or a percentile, always the same of one application.
    RequestLatencyMicroseconds = 2,
}

impl Gauge {
    /// All three, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::RequestsPerMinute, Self::ErrorsPerMinute, Self::RequestLatencyMicroseconds];

    /// The metric that its windows have.
    pub const fn metric(self) -> Metric {
        match self {
            Self::RequestsPerMinute => Metric::RequestsPerMinute,
            Self::ErrorsPerMinute => Metric::ErrorsPerMinute,
            Self::RequestLatencyMicroseconds => Metric::RequestLatencyMicroseconds,
        }
    }

    /// The gauge that a metric is of, if it is of one.
    pub fn of(metric: Metric) -> Option<Self> {
        Self::ALL.into_iter().find(|gauge| gauge.metric() == metric)
    }

    /// The name with its unit, as in requests, series and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::ErrorsPerMinute => "errors_per_minute",
            Self::RequestLatencyMicroseconds => "request_latency_microseconds",
        }
    }

    /// The greatest value that is taken: 10^12 a minute, and one day. Sums of a whole fleet's stay far below 2^64.
    pub const fn greatest(self) -> u64 {
        match self {
            Self::RequestsPerMinute | Self::ErrorsPerMinute => 1_000_000_000_000,
            Self::RequestLatencyMicroseconds => 86_400_000_000,
        }
    }

    /// Whether several applications' values add up.
    pub const fn adds_up(self) -> bool {
        match self {
            Self::RequestsPerMinute | Self::ErrorsPerMinute => true,
            Self::RequestLatencyMicroseconds => false,
        }
    }
}
