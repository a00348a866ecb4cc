//! An impact in words, as approvers are shown it.

use std::fmt::{Display, Formatter, Result};

use quotary_common::units::ResourceKind;

use super::{Delta, Impact, Throttled};

/// Most lines of one kind: the rest is counted.
const LINES_MAX: usize = 20;

impl Display for Impact {
    /// Several lines: what changes, whom it touches, who is throttled, what depends on it, whether it fits, how critical it is and why.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "policy {}", self.policy)?;
        lines(f, "changes", self.fields.iter().map(ToString::to_string))?;
        let counts = [
            (self.applications.len(), "applications"),
            (self.tenants.len(), "tenants"),
            (self.hosts.len(), "hosts"),
            (self.pools.len(), "pools"),
        ];
        let counts = counts.map(|(count, what)| format!("{count} {what}")).join(", ");
        writeln!(f, "touches {} units: {counts}", self.units_touched)?;
        lines(f, "per pool", self.pools.iter().map(|(pool, delta)| told(pool.as_str(), delta)))?;
        lines(f, "per tenant", self.tenants.iter().map(|(tenant, delta)| told(tenant.as_str(), delta)))?;
        lines(f, "throttled", self.throttled.iter().map(ToString::to_string))?;
        let depends = self.dependencies.iter().map(|one| {
            let broken = if one.is_broken { ", which would not be in force" } else { "" };
            format!("{} depends on {}{broken}", one.policy, one.on)
        });
        lines(f, "dependencies", depends)?;
        let fits = if self.capacity.is_sufficient() { "suffices" } else { "does not suffice" };
        writeln!(f, "capacity {fits}")?;
        lines(f, "short", self.capacity.shortfalls.iter().map(ToString::to_string))?;
        writeln!(f, "criticality {}", self.criticality)?;
        lines(f, "because", self.implied.reasons.iter().map(|(level, why)| format!("{level}: {why}")))?;
        lines(f, "refused", self.refusals.iter().cloned())
    }
}

fn lines(f: &mut Formatter<'_>, title: &str, lines: impl ExactSizeIterator<Item = String>) -> Result {
    let count = lines.len();
    if count > 0 {
        writeln!(f, "{title}:")?;
    }
    for line in lines.take(LINES_MAX) {
        writeln!(f, "  {line}")?;
    }
    if count > LINES_MAX {
        writeln!(f, "  and {} more", count - LINES_MAX)?;
    }
    Ok(())
}

/// `edge: guarantee memory_bytes -1048576, limit memory_bytes -2097152`.
fn told(whose: &str, delta: &Delta) -> String {
    let whose = if whose.is_empty() { "no pool" } else { whose };
    let moving = |what: &'static str, moved: &super::Moved| {
        let moved = *moved;
        let moving = ResourceKind::ALL.into_iter().filter(move |kind| moved.get(*kind) != 0);
        moving.map(move |kind| format!("{what} {} {:+}", kind.unit_name(), moved.get(kind))).collect::<Vec<_>>()
    };
    let counted = |count: u64, what: &str| (count > 0).then(|| format!("{count} amounts {what}"));
    let parts: Vec<String> = moving("guarantee", &delta.guarantee)
        .into_iter()
        .chain(moving("limit", &delta.limit))
        .chain(counted(delta.newly_limited, "get a limit"))
        .chain(counted(delta.no_longer_limited, "lose their limit"))
        .collect();
    format!("{whose}: {}", if parts.is_empty() { "no amount moves".to_owned() } else { parts.join(", ") })
}

impl Display for Throttled {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { application, tenant, host, target, resource, limit_new, short_by, .. } = self;
        let unit = resource.unit_name();
        let percent = self.short_percent();
        write!(
            f,
            "{application} of {tenant}, {target} on {host}: {short_by} {unit} short of a limit of {limit_new} ({percent} %)"
        )
    }
}
