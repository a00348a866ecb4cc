//! Many small surprises together: the likelihood stage of Lavin and Ahmad 2015 (arXiv 1510.03336), with means in place of a normal law.

use super::Figures;

/// Points over which many small surprises are summed, and over which their usual sum is known.
const SHORT: f32 = 1.0 / 20.0;
const LONG: f32 = 1.0 / 10_000.0;
const OF_DENSITY: f32 = 0.3;
/// Least spread of the short mean, nats: a series without noise has none.
const SPREAD_LEAST: f32 = 0.05;

/// The likelihood stage: a short mean of surprise against what is usual for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Density {
    short: f32,
    usual: f32,
    spread: f32,
}

impl Density {
    /// Takes a surprise and gives what the last ones together add to it, nats.
    #[expect(clippy::cast_possible_truncation, reason = "f32 is precise enough for nats")]
    pub(super) fn add(&mut self, nats: f64, points: u32) -> (f64, Figures) {
        self.short += SHORT * (nats as f32 - self.short);
        let above = (self.short - self.usual).max(0.0);
        let added = OF_DENSITY * above / (self.spread + SPREAD_LEAST);
        let figures = Figures { expected: self.usual.into(), came: self.short.into(), points: 20 };
        let weight = (1.0 / f64::from(points.max(1))).max(f64::from(LONG)) as f32;
        self.usual += weight * (self.short - self.usual);
        self.spread += weight * ((self.short - self.usual).abs() - self.spread);
        (added.into(), figures)
    }
}
