//! Censoring: usage at a limit is a lower bound of the demand, never a sample of it.
//!
//! A limit in force is what the host last wrote and the kernel acts on (attested writes), or else what the verifier
//! granted on a host that enforces; the whole host's is its inventory. What flows (CPU, disk, network) is at its limit by
//! its mean, since a single sample may be above any quota; what is held (memory) by its greatest sample.

use std::collections::BTreeMap;

use quotary_common::envelope::{EnforcementWrite, Event, EventKind};
use quotary_common::units::{ResourceKind, Resources};

use super::bounds::Usage;
use super::pressure::weight;

/// From this part of a limit on, in percent, usage is at it.
const AT_LIMIT_PERCENT: u64 = 95;

/// The period of version 1's quotas that agents write, microseconds.
const PERIOD_US: u64 = 100_000;

/// The limits of one cgroup as they were last written, by the kernel's control. A control that was never seen is absent.
pub(super) type Written = BTreeMap<Limited, Option<u64>>;

/// What a written control limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limited {
    Cpu,
    Memory,
    DiskRead,
    DiskWrite,
    Network,
}

impl Limited {
    const fn resource(self) -> ResourceKind {
        match self {
            Self::Cpu => ResourceKind::Cpu,
            Self::Memory => ResourceKind::Memory,
            Self::DiskRead | Self::DiskWrite => ResourceKind::Disk,
            Self::Network => ResourceKind::Network,
        }
    }
}

/// What a write has set; `None` for no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ceiling {
    pub(super) cgroup: String,
    /// When, on the host's `CLOCK_BOOTTIME`, ms.
    pub(super) at_ms: u64,
    pub(super) amounts: Vec<(Limited, Option<u64>)>,
}

impl Ceiling {
    /// What a write says of limits, where it says any. What the kernel does not act on limits nothing.
    pub(super) fn of(write: &EnforcementWrite) -> Option<Self> {
        if write.dry_run {
            return None;
        }
        let text = write.actual.as_ref()?.as_str();
        let amounts = match write.control.as_str() {
            "cpu.max" => vec![(Limited::Cpu, quota(text)?)],
            "cpu.cfs_quota_us" => {
                vec![(Limited::Cpu, text.parse::<u64>().ok().map(|quota| millicores(quota, PERIOD_US)))]
            }
            "memory.high" | "memory.max" => vec![(Limited::Memory, amount(text)?)],
            "io.max" => vec![(Limited::DiskRead, rate(text, "rbps=")), (Limited::DiskWrite, rate(text, "wbps="))],
            "io.max rbps" => vec![(Limited::DiskRead, amount(text)?)],
            "io.max wbps" => vec![(Limited::DiskWrite, amount(text)?)],
            "net.egress" => vec![(Limited::Network, amount(text)?)],
            _ => return None,
        };
        let amounts = amounts.into_iter().map(|(what, amount)| (what, amount.filter(|_| write.effective))).collect();
        Some(Self { cgroup: write.cgroup.as_str().to_owned(), at_ms: write.at_ms, amounts })
    }
}

/// A number, or `max` for none.
fn amount(text: &str) -> Option<Option<u64>> {
    if text == "max" { Some(None) } else { text.parse().ok().map(Some) }
}

/// `cpu.max`: a quota and its period in microseconds, as a grant's writes show it; or millicores, as a plan's do.
fn quota(text: &str) -> Option<Option<u64>> {
    let mut words = text.split_ascii_whitespace();
    let (quota, period) = (amount(words.next()?)?, words.next());
    let Some(period) = period else { return Some(quota) };
    let period_us = period.parse().ok()?;
    Some(quota.map(|quota| millicores(quota, period_us)))
}

fn millicores(quota_us: u64, period_us: u64) -> u64 {
    u64::try_from(u128::from(quota_us) * 1000 / u128::from(period_us.max(1))).unwrap_or(u64::MAX)
}

/// `io.max`: the least rate that a device is held to.
fn rate(text: &str, key: &str) -> Option<u64> {
    text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse().ok()).min()
}

/// An event that says that a group, or the host, had less than it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortage {
    /// `None` for the host.
    pub(super) cgroup: Option<String>,
    pub(super) resource: ResourceKind,
    /// What it adds to the series' pressure, in thousandths.
    pub(super) weight: u16,
    /// When last seen, on the host's `CLOCK_BOOTTIME`, ms.
    pub(super) at_ms: u64,
}

impl Shortage {
    pub(super) fn of(event: &Event) -> Option<Self> {
        // Of throttling the windows say how much it was: a single period of hundreds is no shortage.
        let (EventKind::OomKill | EventKind::MemoryHigh) = event.kind else { return None };
        let resource = ResourceKind::Memory;
        let cgroup = event.cgroup.as_ref().map(|cgroup| cgroup.as_str().to_owned());
        Some(Self { cgroup, resource, weight: weight(event.kind), at_ms: event.at_ms })
    }

    /// Whether it happened within this window.
    fn is_in(&self, usage: &Usage) -> bool {
        let end_ms = usage.start_ms.saturating_add(usage.duration_ms);
        usage.measure == self.resource.into() && (usage.start_ms..=end_ms).contains(&self.at_ms)
    }
}

/// What holds one subject over an envelope.
pub(super) struct Held<'a> {
    /// The limits before, and the writes since, oldest first.
    pub(super) written: Option<&'a Written>,
    pub(super) writes: &'a [&'a Ceiling],
    /// What stands where no write is known: the grant's amounts, or the inventory's.
    pub(super) otherwise: Resources,
    pub(super) shortages: &'a [&'a Shortage],
}

impl Held<'_> {
    /// Whether usage was at a limit in this window.
    pub(super) fn is_censored(&self, usage: &Usage) -> bool {
        if usage.is_throttled || self.shortages.iter().any(|shortage| shortage.is_in(usage)) {
            return true;
        }
        let of_resource = [Limited::Cpu, Limited::Memory, Limited::DiskRead, Limited::DiskWrite, Limited::Network]
            .into_iter()
            .filter(|limited| usage.measure == limited.resource().into());
        of_resource.into_iter().any(|limited| {
            let used = match limited {
                Limited::Memory => usage.max,
                Limited::DiskRead => usage.read.0,
                Limited::DiskWrite => usage.mean.saturating_sub(usage.read.0),
                Limited::Cpu | Limited::Network => usage.mean,
            };
            self.limit(limited, usage).is_some_and(|limit| is_at(used, limit))
        })
    }

    /// The limit at a window's end.
    fn limit(&self, limited: Limited, usage: &Usage) -> Option<u64> {
        let end_ms = usage.start_ms.saturating_add(usage.duration_ms);
        let set = |ceiling: &&Ceiling| {
            let of_this = ceiling.amounts.iter().find(|(what, _)| *what == limited);
            of_this.filter(|_| ceiling.at_ms <= end_ms).map(|(_, amount)| *amount)
        };
        let written = self.writes.iter().rev().copied().find_map(|ceiling| set(&ceiling));
        let written = written.or_else(|| self.written.and_then(|written| written.get(&limited).copied()));
        written.unwrap_or_else(|| self.otherwise.get(limited.resource()))
    }
}

fn is_at(used: u64, limit: u64) -> bool {
    used > 0 && u128::from(used) * 100 >= u128::from(limit) * u128::from(AT_LIMIT_PERCENT)
}
