//! Transitions on recorded series: a limit goes from what it is to less, by plan, in a straight line, or at once, and demand comes as it came.

use crate::forecast::{between, is_demand};
use crate::shape::phase::{Demand, PhasedPlan, Refused, SLEW_OF_MEAN, Stretch, Transition, phase};

/// Units that the old limit is counted in: recorded series have any scale.
const UNITS: u64 = 1_000_000_000;
/// The old limit beside the 99 % line of the past, in percent: the headroom that profiles leave.
const HEADROOM_PERCENT: f64 = 120.0;
/// Days of the past that limits are chosen from at most.
const PAST_DAYS: u64 = 7;
const DAY_S: u64 = 86_400;
const MINUTE_MS: u64 = 60_000;
const FREED_PERMILLE: u64 = 500;

/// How the new limit follows from the past; in every case the old one is the 99 % line of the past week and a fifth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NewLimit {
    /// What sufficed in four fifths of the past week.
    Past80,
    /// Half of the old limit, whatever demand was.
    Half,
}

impl NewLimit {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Past80, Self::Half];

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Past80 => "80 % line of the past week",
            Self::Half => "half of the old limit",
        }
    }
}

/// One transition in a recorded series, in units of which the old limit has 1 000 000 000.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What the plan is made from; its start is instant 0.
    pub transition: Transition,
    /// Units to one of the series' own.
    scale: f64,
    interval_ms: u64,
}

/// The ways that are compared, all of which free the same capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// The shaping plan.
    Plan,
    /// The straight line.
    Line,
    /// All at once, at the instant from which on as much is freed.
    Cliff,
    /// The plan of one who knows what will come: what the forecast leaves to gain.
    Hindsight,
}

impl Way {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Plan, Self::Line, Self::Cliff, Self::Hindsight];

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Line => "line",
            Self::Cliff => "cliff",
            Self::Hindsight => "hindsight",
        }
    }
}

/// What came of one transition, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Transitions.
    pub changes: u64,
    /// Minutes of which demand is known.
    pub minutes: u64,
    /// Of them, those in which demand exceeded the limit, by [`Way::ALL`].
    pub exceeded: [u64; 4],
    /// Sum over these minutes of what exceeded it, in old limits times minutes, by [`Way::ALL`].
    pub excess: [f64; 4],
    /// Those in which demand exceeded the new limit: what would have been if the new limit had held from the start.
    pub above_new: u64,
}

impl Outcome {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.minutes += other.minutes;
        self.above_new += other.above_new;
        for (sum, one) in self.exceeded.iter_mut().zip(other.exceeded) {
            *sum += one;
        }
        for (sum, one) in self.excess.iter_mut().zip(other.excess) {
            *sum += one;
        }
    }

    /// Minutes of a way over those of the cliff; `None` where the cliff had none.
    pub fn beside_cliff(&self, way: Way) -> Option<f64> {
        let of = |way: Way| self.exceeded[way as usize];
        #[expect(clippy::cast_precision_loss, reason = "minutes, far below 2^53")]
        let ratio = |part: u64, whole: u64| part as f64 / whole as f64;
        (of(Way::Cliff) > 0).then(|| ratio(of(way), of(Way::Cliff)))
    }
}

impl Change {
    /// The transition that the rule gives after these steps of the past, over a window of `window_s` with a setpoint each `resolution_s`.
    /// `None` where fewer than 96 steps of the past are known, or nothing was used in them.
    pub fn of(past: &[Option<f64>], interval_s: u64, rule: NewLimit, window_s: u64, resolution_s: u64) -> Option<Self> {
        let steps = usize::try_from(PAST_DAYS * DAY_S / interval_s.max(1)).ok()?;
        let newest = past.get(past.len().saturating_sub(steps)..)?;
        let mut known: Vec<f64> = newest.iter().flatten().copied().filter(|value| is_demand(*value)).collect();
        if known.len() < KNOWN_MIN {
            return None;
        }
        known.sort_unstable_by(f64::total_cmp);
        let old = between(&known, 0.99) * HEADROOM_PERCENT / 100.0;
        if old <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a round number")]
        let scale = UNITS as f64 / old;
        let to = match rule {
            NewLimit::Past80 => units(between(&known, 0.8) * scale),
            NewLimit::Half => UNITS / 2,
        };
        let transition = Transition {
            from: UNITS,
            to,
            guarantee: 0,
            starts_at_ms: 0,
            effective_at_ms: window_s * 1000,
            resolution_s,
            slew_per_s: (UNITS.abs_diff(to) * SLEW_OF_MEAN).div_ceil(window_s.max(1)).max(1),
            freed_permille: FREED_PERMILLE,
        };
        Some(Self { transition, scale, interval_ms: interval_s * 1000 })
    }

    /// A demand in the series' own unit, from the start on, in the change's units.
    pub fn demand(&self, in_series_unit: &Demand) -> Demand {
        let scaled = |stretch: &Stretch| {
            let quantiles = stretch.quantiles.map(|value| value * self.scale);
            Stretch { quantiles, ..*stretch }
        };
        Demand::new(in_series_unit.stretches().iter().map(scaled).collect()).unwrap_or_default()
    }

    /// The plan for a demand.
    ///
    /// # Errors
    /// [`Refused`] as [`phase`].
    pub fn plan(&self, demand: &Demand) -> Result<PhasedPlan, Refused> {
        phase(&self.transition, demand)
    }

    /// What came of it, given the steps after the origin; `None` where a plan is refused.
    pub fn outcome(&self, plan: &PhasedPlan, came: &[Option<f64>]) -> Option<Outcome> {
        let line = self.line()?;
        let known = came.iter().zip(0_u64..).filter_map(|(value, at)| Some((value.filter(|one| is_demand(*one))?, at)));
        let exactly = known.map(|(value, at)| Stretch {
            from_ms: at * self.interval_ms,
            until_ms: (at + 1) * self.interval_ms,
            quantiles: [value * self.scale; crate::forecast::QUANTILE_LEVELS.len()],
        });
        let hindsight = phase(&self.transition, &Demand::new(exactly.collect()).unwrap_or_default()).ok()?;
        let Transition { to, effective_at_ms, .. } = self.transition;
        let mut outcome = Outcome { changes: 1, ..Outcome::default() };
        for minute in 0..effective_at_ms / MINUTE_MS {
            let middle_ms = minute * MINUTE_MS + MINUTE_MS / 2;
            let step = usize::try_from(middle_ms / self.interval_ms).unwrap_or(usize::MAX);
            let Some(demand) = came.get(step).copied().flatten().filter(|value| is_demand(*value)) else { continue };
            let demand = demand * self.scale;
            let limits = [
                plan.limit_at(middle_ms),
                line.limit_at(middle_ms),
                self.cliff_at(middle_ms),
                hindsight.limit_at(middle_ms),
            ];
            outcome.minutes += 1;
            outcome.above_new += u64::from(over(demand, to) > 0.0);
            for ((exceeded, excess), limit) in outcome.exceeded.iter_mut().zip(&mut outcome.excess).zip(limits) {
                let over = over(demand, limit);
                *exceeded += u64::from(over > 0.0);
                *excess += over;
            }
        }
        Some(outcome)
    }

    /// The straight line.
    pub fn line(&self) -> Option<PhasedPlan> {
        phase(&self.transition, &Demand::default()).ok()
    }

    /// What a cliff's limit is at an instant (ms): all of the way at once, when as much is freed by it from then on as is asked for.
    pub fn cliff_at(&self, at_ms: u64) -> u64 {
        let Transition { from, to, effective_at_ms, freed_permille, .. } = self.transition;
        if at_ms < effective_at_ms - effective_at_ms * freed_permille / 1000 { from } else { to }
    }

    /// A limit or demand of the change in the series' own unit.
    pub fn in_series_unit(&self, units: f64) -> f64 {
        units / self.scale
    }
}

/// Fewest known steps of the past that limits are chosen from.
const KNOWN_MIN: usize = 96;

/// By how much a demand exceeds a limit, in old limits.
#[expect(clippy::cast_precision_loss, reason = "units of 1e9")]
fn over(demand: f64, limit: u64) -> f64 {
    ((demand - limit as f64) / UNITS as f64).max(0.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, at most some 1e9")]
fn units(value: f64) -> u64 {
    value.round() as u64
}
