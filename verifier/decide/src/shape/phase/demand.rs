//! What will be wanted over the window, by all forecasts that reach into it.

use crate::forecast::{Forecast, StepRow, is_demand};

/// Stretches of one demand at most: an hour of five minutes and 31 days of hours.
const STRETCHES_MAX: usize = 12 + 31 * 24;
const HOUR_MS: u64 = 3_600_000;

/// Quantiles of demand over one stretch of time, in the amount's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// From when, Unix ms.
    pub from_ms: u64,
    /// Until when, Unix ms.
    pub until_ms: u64,
    /// One for each of the forecast's levels, ascending.
    pub quantiles: StepRow,
}

/// Quantiles of demand over a delay window; stretches of which nothing is known are left out. Nothing at all is a demand too: of it follows
/// the straight line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demand(Vec<Stretch>);

impl Demand {
    /// From stretches in the order of time. What overlaps, or is no quantiles of a demand, makes all of it worth nothing: `None`.
    pub fn new(stretches: Vec<Stretch>) -> Option<Self> {
        let in_order = stretches.windows(2).all(|pair| matches!(pair, [one, next] if one.until_ms <= next.from_ms));
        let sound = |stretch: &Stretch| {
            stretch.from_ms < stretch.until_ms
                && stretch.quantiles.iter().all(|value| is_demand(*value))
                && stretch.quantiles.is_sorted()
        };
        (stretches.len() <= STRETCHES_MAX && in_order && stretches.iter().all(sound)).then_some(Self(stretches))
    }

    /// From what there is: the forecast of the next steps, made at its instant (Unix ms), and hourly quantiles
    /// ([`hourly`](crate::forecast::hourly)) that begin at theirs. Steps go before hours; a forecast from too little history is none.
    pub fn of(steps: Option<(&Forecast, u64)>, hours: Option<(&[StepRow], u64)>) -> Self {
        let mut stretches = Vec::new();
        if let Some((forecast, made_at_ms)) = steps.filter(|(forecast, _)| !forecast.is_insufficient()) {
            let step_ms = forecast.interval_s.saturating_mul(1000);
            stretches.extend(rows(forecast.quantiles.steps(), made_at_ms, step_ms));
        }
        let known_until_ms = stretches.last().map_or(0, |last: &Stretch| last.until_ms);
        if let Some((hours, from_ms)) = hours {
            let later = rows(hours, from_ms, HOUR_MS).filter(|hour| hour.until_ms > known_until_ms);
            stretches.extend(later.map(|hour| Stretch { from_ms: hour.from_ms.max(known_until_ms), ..hour }));
        }
        Self::new(stretches).unwrap_or_default()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stretches, in the order of time.
    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }

    /// The stretch that an instant (Unix ms) lies in.
    pub fn at(&self, at_ms: u64) -> Option<&Stretch> {
        let after = self.0.partition_point(|stretch| stretch.until_ms <= at_ms);
        self.0.get(after).filter(|stretch| stretch.from_ms <= at_ms)
    }
}

fn rows(rows: &[StepRow], from_ms: u64, step_ms: u64) -> impl Iterator<Item = Stretch> {
    rows.iter().zip(0_u64..).map(move |(quantiles, index)| {
        let at = |index: u64| from_ms.saturating_add(step_ms.saturating_mul(index));
        Stretch { from_ms: at(index), until_ms: at(index + 1), quantiles: *quantiles }
    })
}
