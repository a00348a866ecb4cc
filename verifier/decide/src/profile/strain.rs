//! Strain: what says that demand was above what is recorded.
//!
//! Usage at a limit is a lower bound of demand, and an OOM kill or throttling says that there was more of it; by how much nobody
//! knows. Both raise a size by a stated margin on what was *used*, never on what was granted, and nothing of it is kept from one sizing
//! to the next: a recommendation that grows on its own limit has no bound (kubernetes/autoscaler #9521, #6420).

use quotary_common::units::ResourceKind;

use crate::history::Point;

/// Steps that usage at a limit is remembered for: the horizon of a forecast, an hour of five minutes.
const STEPS: usize = 12;
/// Room for what may have been hidden by a limit that was reached in all of the last steps, in percent.
const CENSORED_PERCENT_MAX: u64 = 30;
/// Room for shortages at the highest pressure, in percent.
const PRESSURE_PERCENT_MAX: u64 = 50;
const PERMILLE: u64 = 1000;

/// What one series' recent past says of demand that was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strain {
    /// The most that was used in a step in which a limit was reached, in the series' unit.
    at_least: u64,
    /// How much of the last steps was at a limit; the newest step weighs most.
    censored_permille: u16,
    /// Pressure by shortages.
    pressure_permille: u16,
}

impl Strain {
    /// How many closed steps it looks at.
    pub const STEPS: usize = STEPS;

    /// From a series' newest closed steps, the newest last ([`Self::STEPS`] of them count), and its pressure in thousandths.
    pub fn of(resource: ResourceKind, closed: &[Option<Point>], pressure_permille: u16) -> Self {
        let newest = closed.get(closed.len().saturating_sub(STEPS)..).unwrap_or_default();
        let (mut known, mut censored, mut at_least) = (0, 0, 0);
        for (point, weight) in newest.iter().rev().zip((1..=STEPS as u64).rev()) {
            let Some(point) = point else { continue };
            known += weight;
            if point.is_censored() {
                censored += weight;
                // What flows is at its limit by its mean, what is held by its greatest sample: as censoring has it.
                let used = if resource == ResourceKind::Memory { point.max() } else { point.mean() };
                at_least = at_least.max(used);
            }
        }
        let censored_permille = u16::try_from(censored * PERMILLE / known.max(1)).unwrap_or(1000);
        Self { at_least, censored_permille, pressure_permille: pressure_permille.min(1000) }
    }

    /// The lower bound of demand, where a limit was reached.
    pub fn at_least(&self) -> Option<u64> {
        (self.censored_permille > 0).then_some(self.at_least)
    }

    /// How much of the last steps was at a limit, in thousandths.
    pub fn censored_permille(&self) -> u16 {
        self.censored_permille
    }

    /// Pressure by shortages, in thousandths.
    pub fn pressure_permille(&self) -> u16 {
        self.pressure_permille
    }

    /// Room for what a limit may have hidden, in percent, at most 30.
    pub(super) fn censored_percent(&self) -> u64 {
        (u64::from(self.censored_permille) * CENSORED_PERCENT_MAX).div_ceil(PERMILLE)
    }

    /// Room for shortages, in percent, at most 50.
    pub(super) fn pressure_percent(&self) -> u64 {
        u64::from(self.pressure_permille) * PRESSURE_PERCENT_MAX / PERMILLE
    }
}
