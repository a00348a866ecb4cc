//! One control of one plan or grant, and what it would have done.

use minicbor::{Decode, Encode};
use quotary_common::cbor::{Bounded, Text};
use quotary_common::envelope::Name;
use quotary_common::id::{GrantId, PlanId};
use quotary_common::limits::CGROUP_PATH_BYTES_MAX;
use quotary_common::plan::{Setpoint, ShapedControl};
use quotary_common::units::ResourceKind;

use crate::history::Usage;

/// What asks for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Cause {
    /// A shaping plan.
    #[n(1)]
    Plan(#[n(0)] PlanId),
    /// A grant.
    #[n(2)]
    Grant(#[n(0)] GrantId),
}

/// What a control does to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It takes away what is above it.
    Limit,
    /// It shares or protects: by itself it takes nothing away.
    Share,
}

impl Kind {
    /// What this control does.
    pub const fn of(control: ShapedControl) -> Self {
        match control {
            ShapedControl::CpuWeight | ShapedControl::CpuIdle | ShapedControl::IoWeight | ShapedControl::MemoryLow => {
                Self::Share
            }
            _ => Self::Limit,
        }
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Share => "share",
        }
    }
}

/// Why a figure cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Untold {
    /// No evidence tells of the target: it does not run, or has no group of its own.
    #[n(1)]
    NotSeen,
    /// Its evidence has no figure for what the control limits.
    #[n(2)]
    NotMeasured,
    /// The host was silent for longer than its lease: it would have gone back to its own values.
    #[n(3)]
    LeaseOver,
}

impl Untold {
    /// Its fixed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotSeen => "not-seen",
            Self::NotMeasured => "not-measured",
            Self::LeaseOver => "lease-over",
        }
    }
}

/// An amount times milliseconds, added up without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u128);

impl Sum {
    fn add(&mut self, amount: u64, duration_ms: u64) {
        self.0 = self.0.saturating_add(u128::from(amount) * u128::from(duration_ms));
    }

    /// The amount times seconds.
    pub fn per_second(self) -> u64 {
        narrow(self.0 / 1000)
    }
}

// As two numbers: the upper and the lower half.
impl<C> Encode<C> for Sum {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.u64(narrow(self.0 >> 64))?.u64(narrow(self.0 & u128::from(u64::MAX)))?;
        Ok(())
    }
}
impl<'b, C> Decode<'b, C> for Sum {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let (upper, lower) = <(u64, u64)>::decode(d, ctx)?;
        Ok(Self(u128::from(upper) << 64 | u128::from(lower)))
    }
}

/// What one control of one plan or grant would have done. Amounts are in the control's unit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Line {
    /// What asks for it.
    #[n(0)]
    pub cause: Cause,
    /// The control.
    #[n(1)]
    pub control: ShapedControl,
    /// The plan's target, or the grant's application.
    #[n(2)]
    pub subject: Text<CGROUP_PATH_BYTES_MAX>,
    /// Who pays, where that is known.
    #[n(3)]
    pub tenant: Option<Name>,
    /// Who made the plan, or for whom the grant was given.
    #[n(4)]
    pub maker: Text<160>,
    /// From when on it is counted, Unix ms: the host knew of it by then.
    #[n(5)]
    pub from_ms: u64,
    /// The end of the last window that was compared, Unix ms.
    #[n(6)]
    pub last_ms: Option<u64>,
    /// Where the line of a plan begins: the first window, and what "no limit" was worth then.
    #[n(7)]
    pub found: Option<Setpoint>,
    /// What the last window was compared with, in the control's unit.
    #[n(8)]
    pub limit: Option<u64>,
    /// How much time was compared, ms.
    #[n(9)]
    pub compared_ms: u64,
    /// What was used in that time.
    #[n(10)]
    pub used: Sum,
    /// Time in windows whose mean was above the limit, ms.
    #[n(11)]
    pub over_ms: u64,
    /// Time in windows whose mean was not above it and whose greatest sample was, ms.
    #[n(12)]
    pub peaks_ms: u64,
    /// What was above the limit, in windows whose mean was.
    #[n(13)]
    pub excess: Sum,
    /// The most that a sample was above it.
    #[n(14)]
    pub excess_max: u64,
    /// Time of which nothing can be told, by why, ms.
    #[n(15)]
    pub untold_ms: Bounded<(Untold, u64), 4>,
    /// When the host last said that it does not follow the plan, Unix ms.
    #[n(16)]
    pub refused_at_ms: Option<u64>,
}

impl Line {
    /// A control that begins to count.
    pub(super) fn new(
        (cause, control): (Cause, ShapedControl),
        (subject, tenant, maker): (&str, Option<&Name>, &str),
        from_ms: u64,
    ) -> Self {
        Self {
            cause,
            control,
            subject: Text::lossy(subject),
            tenant: tenant.cloned(),
            maker: Text::lossy(maker),
            from_ms,
            last_ms: None,
            found: None,
            limit: None,
            compared_ms: 0,
            used: Sum::default(),
            over_ms: 0,
            peaks_ms: 0,
            excess: Sum::default(),
            excess_max: 0,
            untold_ms: Bounded::default(),
            refused_at_ms: None,
        }
    }

    /// Adds a window that was compared with a limit: mean and greatest sample, ending at `end_ms` (Unix time).
    pub(super) fn add(&mut self, (mean, max): (u64, u64), duration_ms: u64, end_ms: u64, limit: u64) {
        self.compared_ms = self.compared_ms.saturating_add(duration_ms);
        self.used.add(mean, duration_ms);
        self.last_ms = Some(self.last_ms.unwrap_or(0).max(end_ms));
        self.limit = Some(limit);
        if Kind::of(self.control) == Kind::Share {
            return;
        }
        if mean > limit {
            self.over_ms = self.over_ms.saturating_add(duration_ms);
            self.excess.add(mean - limit, duration_ms);
        } else if max > limit {
            self.peaks_ms = self.peaks_ms.saturating_add(duration_ms);
        }
        self.excess_max = self.excess_max.max(max.saturating_sub(limit));
    }

    /// The mean of what was used over the time that was compared, in the unit of what is measured.
    pub fn used_mean(&self) -> u64 {
        narrow(self.used.0 / u128::from(self.compared_ms.max(1)))
    }

    /// Adds time of which nothing can be told.
    pub(super) fn add_untold(&mut self, why: Untold, ms: u64) {
        let mut all = std::mem::take(&mut self.untold_ms).into_vec();
        match all.iter_mut().find(|(known, _)| *known == why) {
            Some((_, known_ms)) => *known_ms = known_ms.saturating_add(ms),
            None => all.push((why, ms)),
        }
        self.untold_ms = Bounded::truncating(all).0;
    }
}

/// What a control limits or shares; `None` where no window tells.
pub(super) const fn resource(control: ShapedControl) -> Option<ResourceKind> {
    match control {
        ShapedControl::CpuWeight | ShapedControl::CpuIdle | ShapedControl::CpuQuota => Some(ResourceKind::Cpu),
        ShapedControl::MemoryHigh | ShapedControl::MemoryLow => Some(ResourceKind::Memory),
        ShapedControl::IoWeight | ShapedControl::IoReadMax | ShapedControl::IoWriteMax => Some(ResourceKind::Disk),
        ShapedControl::NetworkEgress => Some(ResourceKind::Network),
        ShapedControl::Storage => None,
    }
}

/// Mean and greatest sample of what the control limits, of a window of its resource.
pub(super) fn measured(control: ShapedControl, usage: &Usage) -> (u64, u64) {
    match control {
        ShapedControl::IoReadMax => usage.read,
        ShapedControl::IoWriteMax => (usage.mean.saturating_sub(usage.read.0), usage.max.saturating_sub(usage.read.1)),
        _ => (usage.mean, usage.max),
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
