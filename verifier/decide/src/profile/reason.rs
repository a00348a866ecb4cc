//! Why a profile's number is what it is.

use std::fmt;

/// What decided an amount. The list grows, a code never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonCode {
    /// The class has what it asked for.
    Guaranteed,
    /// Too little is known: what was asked for stands.
    InsufficientHistory,
    /// Nothing counts it: what was asked for stands.
    NotMeasured,
    /// The forecast and headroom.
    Forecast,
    /// What was asked for is the most.
    Request,
    /// The least of the class.
    Floor,
    /// More, since usage was at a limit.
    Censored,
    /// More, since the application was short.
    Pressure,
}

impl ReasonCode {
    /// As it is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "guaranteed",
            Self::InsufficientHistory => "insufficient_history",
            Self::NotMeasured => "not_measured",
            Self::Forecast => "forecast",
            Self::Request => "request",
            Self::Floor => "floor",
            Self::Censored => "censored",
            Self::Pressure => "pressure",
        }
    }
}

/// Why an amount is what it is: codes, the one that decided first, and a sentence with the figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What decided.
    pub codes: Vec<ReasonCode>,
    /// The figures.
    pub text: String,
}

impl Reason {
    pub(super) fn of(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { codes: vec![code], text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, code) in self.codes.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "+" }, code.as_str())?;
        }
        write!(f, ": {}", self.text)
    }
}
