//! How fast, and where pressure stops it.

use std::collections::BTreeMap;

use quotary_common::plan::ShapedControl;

/// Levels of one kind of pressure (PSI "some" avg10), thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Under it for a dwell, tightening that was held goes on.
    pub resume_permille: u16,
    /// From it on, tightening is held.
    pub hold_permille: u16,
    /// From it on, what was tightened is released a step.
    pub rollback_permille: u16,
}

/// The rules as configured. Fields are permille of the present value where they say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// From one decision to the next, ms.
    pub tick_ms: u64,
    /// From one tightening of a control to its next, and how long pressure must be gone, ms.
    pub dwell_ms: u64,
    /// A change under it is not written, except to the target: permille of the present value.
    pub dead_band_permille: u16,
    /// The step with which a control that is behind its line begins to catch up: permille of the present value.
    pub step_permille: u16,
    /// The greatest step of tightening: permille of the present value.
    pub step_permille_max: u16,
    /// Memory pressure, for `memory.high` and `memory.low`.
    pub memory: Guard,
    /// CPU pressure, for `cpu.weight`, `cpu.idle` and the quota. Pressure that was there before the plan is not held
    /// against it.
    pub cpu: Guard,
    /// I/O pressure, for `io.weight` and the I/O maxima. Pressure that was there before is not held against the plan.
    pub io: Guard,
    /// Time throttled by the quota, over all CPUs, from which on tightening of CPU controls is held: permille of the
    /// time that passed.
    pub throttled_permille: u16,
    /// How long the way back to the baseline takes when the lease is over, ms.
    pub decay_ms: u64,
    /// The most that is reclaimed per tick, bytes.
    pub reclaim_bytes_max: u64,
    /// How far `memory.high` may be set under what is in use: permille of what is in use.
    pub memory_headroom_permille: u16,
    /// After a rollback, how long until the control is tightened again, ms; doubled at each further one.
    pub retry_ms: u64,
    /// The longest such wait, ms.
    pub retry_ms_max: u64,
    /// After another writer was seen, how long until the control is looked at again, ms; doubled each time.
    pub contested_ms: u64,
    /// The longest such wait, ms.
    pub contested_ms_max: u64,
    /// No plan sets a control under its floor.
    pub floors: BTreeMap<ShapedControl, u64>,
    /// What "unlimited" is worth here (all memory, all cores, the link's rate): no plan sets a control above it.
    pub ceilings: BTreeMap<ShapedControl, u64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tick_ms: 1_000,
            dwell_ms: 2_000,
            dead_band_permille: 3,
            step_permille: 10,
            step_permille_max: 100,
            memory: Guard { resume_permille: 20, hold_permille: 50, rollback_permille: 150 },
            cpu: Guard { resume_permille: 600, hold_permille: 800, rollback_permille: 950 },
            io: Guard { resume_permille: 200, hold_permille: 400, rollback_permille: 700 },
            throttled_permille: 500,
            decay_ms: 120_000,
            reclaim_bytes_max: 64 << 20,
            memory_headroom_permille: 20,
            retry_ms: 30_000,
            retry_ms_max: 1_800_000,
            contested_ms: 60_000,
            contested_ms_max: 3_600_000,
            floors: BTreeMap::new(),
            ceilings: BTreeMap::new(),
        }
    }
}

/// Why rules do not hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RulesFault {
    /// A tick that is no time, or too long to follow anything.
    #[error("tick_ms must be 100 to 60 000, it is {0}")]
    Tick(u64),
    /// Dwell longer than it can help.
    #[error("dwell_ms must be at most 10 minutes, it is {0}")]
    Dwell(u64),
    /// Steps out of order.
    #[error(
        "it must hold: dead_band_permille < step_permille <= step_permille_max <= 500, and dead_band_permille < memory_headroom_permille"
    )]
    Steps,
    /// A guard's levels out of order.
    #[error("{0}_guard_permille must hold: resume < hold <= rollback <= 1000 permille")]
    Guard(&'static str),
    /// No throttling would be little enough.
    #[error("throttled_permille must be at least 1")]
    Throttled,
    /// A decay that is a cliff, or takes for ever.
    #[error("decay_ms must be from one tick to a day, it is {0}")]
    Decay(u64),
    /// Nothing could ever be reclaimed.
    #[error("reclaim_bytes_max must be at least 1 MiB, it is {0}")]
    Reclaim(u64),
    /// A headroom that would let a write block, or never let one pass.
    #[error("memory_headroom_permille must be 1 to 100, it is {0}")]
    Headroom(u16),
    /// Waits out of order.
    #[error("{0} must be at least one tick, and at most its maximum")]
    Wait(&'static str),
    /// A floor above its ceiling, or either out of the control's range.
    #[error("the floor of {0} must be below what the host has of it, and within {min} to {max} {unit}", min = .0.range().0, max = .0.range().1, unit = .0.unit())]
    Bounds(ShapedControl),
}

/// Rules that hold together: made only by [`Rules::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRules {
    rules: Rules,
    limits: BTreeMap<ShapedControl, u64>,
    slews: BTreeMap<ShapedControl, u64>,
}

impl Default for CheckedRules {
    /// The default rules, which hold together.
    fn default() -> Self {
        Self { rules: Rules::default(), limits: BTreeMap::new(), slews: BTreeMap::new() }
    }
}

impl CheckedRules {
    /// The same with at most these values, also under a floor: what a target may have by something else than its plan.
    pub fn within(&self, limits: BTreeMap<ShapedControl, u64>) -> Self {
        Self { rules: self.rules.clone(), limits, slews: self.slews.clone() }
    }

    /// The same where there is less: ceilings at most so high, and no floor above its ceiling.
    pub fn below(&self, most: &BTreeMap<ShapedControl, u64>) -> Self {
        let mut rules = self.rules.clone();
        for (control, most) in most {
            let ceiling = rules.ceiling(*control).min((*most).max(control.range().0));
            rules.ceilings.insert(*control, ceiling);
            if let Some(floor) = rules.floors.get_mut(control) {
                *floor = (*floor).min(ceiling);
            }
        }
        Self { rules, limits: self.limits.clone(), slews: self.slews.clone() }
    }

    /// The same with what people decided of how fast each control may be tightened, thousandths of its unit per second.
    pub fn paced(self, slews: BTreeMap<ShapedControl, u64>) -> Self {
        Self { slews, ..self }
    }

    /// How fast a control may be tightened, thousandths of its unit per second; `None`: nothing was decided of that.
    pub fn slew(&self, control: ShapedControl) -> Option<u64> {
        self.slews.get(&control).copied()
    }

    /// A value brought between floor and ceiling, and to what the target may have at most.
    pub fn bounded(&self, control: ShapedControl, value: u64) -> u64 {
        let bounded = value.clamp(self.floor(control), self.ceiling(control).max(self.floor(control)));
        self.limits.get(&control).map_or(bounded, |limit| bounded.min(*limit))
    }
}

impl std::ops::Deref for CheckedRules {
    type Target = Rules;
    fn deref(&self) -> &Rules {
        &self.rules
    }
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

impl Rules {
    /// Checks them.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn check(self) -> Result<CheckedRules, Vec<RulesFault>> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, fault: RulesFault| {
            if !holds {
                faults.push(fault);
            }
        };
        must((100..=60_000).contains(&self.tick_ms), RulesFault::Tick(self.tick_ms));
        must(self.dwell_ms <= 600_000, RulesFault::Dwell(self.dwell_ms));
        // A step within the dead band would never be made.
        let in_order = self.dead_band_permille < self.step_permille.min(self.memory_headroom_permille)
            && self.step_permille <= self.step_permille_max
            && self.step_permille_max <= 500;
        must(in_order, RulesFault::Steps);
        for (guard, name) in [(self.memory, "memory"), (self.cpu, "cpu"), (self.io, "io")] {
            let in_order = guard.resume_permille < guard.hold_permille
                && guard.hold_permille <= guard.rollback_permille
                && guard.rollback_permille <= 1000;
            must(in_order, RulesFault::Guard(name));
        }
        must(self.throttled_permille >= 1, RulesFault::Throttled);
        must((self.tick_ms..=DAY_MS).contains(&self.decay_ms), RulesFault::Decay(self.decay_ms));
        must(self.reclaim_bytes_max >= 1 << 20, RulesFault::Reclaim(self.reclaim_bytes_max));
        must((1..=100).contains(&self.memory_headroom_permille), RulesFault::Headroom(self.memory_headroom_permille));
        let waits = [("retry_ms", self.retry_ms, self.retry_ms_max)];
        for (name, least, most) in waits.into_iter().chain([("contested_ms", self.contested_ms, self.contested_ms_max)])
        {
            must(self.tick_ms <= least && least <= most && most <= DAY_MS, RulesFault::Wait(name));
        }
        for control in ShapedControl::ALL {
            let (least, most) = control.range();
            let (floor, ceiling) = (self.floor(control), self.ceiling(control));
            must(least <= floor && floor <= ceiling && ceiling <= most, RulesFault::Bounds(control));
        }
        if faults.is_empty() {
            Ok(CheckedRules { rules: self, limits: BTreeMap::new(), slews: BTreeMap::new() })
        } else {
            Err(faults)
        }
    }

    /// Under what no plan sets a control.
    pub fn floor(&self, control: ShapedControl) -> u64 {
        self.floors.get(&control).copied().unwrap_or(control.range().0)
    }

    /// Above what no plan sets a control.
    pub fn ceiling(&self, control: ShapedControl) -> u64 {
        self.ceilings.get(&control).copied().unwrap_or(control.range().1)
    }

    /// The greatest step of tightening of a control, permille of its present value.
    ///
    /// Senders and writers of files meet a tighter limit at their next packet or file, not by a stall that has to be waited for
    /// and seen: steps of egress and storage may be three times as great.
    pub fn greatest_step_permille(&self, control: ShapedControl) -> u16 {
        match control {
            ShapedControl::NetworkEgress | ShapedControl::Storage => self.step_permille_max.saturating_mul(3).min(500),
            _ => self.step_permille_max,
        }
    }

    /// What "unlimited" comes to: the kernel's default for weights, off for what is on or off, else the ceiling.
    pub fn unlimited_worth(&self, control: ShapedControl) -> u64 {
        match control {
            ShapedControl::CpuWeight | ShapedControl::IoWeight => 100,
            ShapedControl::CpuIdle => 0,
            _ => self.ceiling(control),
        }
    }
}
