//! Who would have less than he uses, or will need.

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::plan::Target;
use quotary_common::units::ResourceKind;
use serde::{Deserialize, Serialize};

use super::delta::Move;

/// A unit whose new limit is below what it uses now, or will need by the forecast, and below its old limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// The application.
    pub application: Name,
    /// Who pays for it.
    pub tenant: Name,
    /// Where it runs.
    pub host: HostId,
    /// What is limited there.
    pub target: Target,
    /// Which resource; amounts are in its unit.
    pub resource: ResourceKind,
    /// The limit before; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_old: Option<u64>,
    /// The limit after.
    pub limit_new: u64,
    /// What it uses now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    /// What it will need at the most, by the forecast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// By how much the new limit is too small.
    pub short_by: u64,
    /// By how much the old one was.
    pub was_short_by: u64,
}

impl Throttled {
    /// What it lacks, in percent of what it wants.
    pub fn short_percent(&self) -> u64 {
        let wants = u128::from(self.limit_new) + u128::from(self.short_by);
        u64::try_from(u128::from(self.short_by) * 100 / wants.max(1)).unwrap_or(100)
    }
}

/// All of them, the worst first.
pub(super) fn throttled(moves: &[Move<'_>]) -> Vec<Throttled> {
    let pairs = moves.iter().flat_map(|one| ResourceKind::ALL.map(|kind| (one, kind)));
    let mut out: Vec<Throttled> = pairs.filter_map(|(one, kind)| short(one, kind)).collect();
    out.sort_by_key(|one| std::cmp::Reverse(one.short_percent()));
    out
}

fn short(one: &Move<'_>, resource: ResourceKind) -> Option<Throttled> {
    let (limit_old, limit_new) = one.limit(resource);
    let limit_new = limit_new.filter(|new| limit_old.is_none_or(|old| *new < old))?;
    let wants = one.unit.wants(resource).filter(|wants| *wants > limit_new)?;
    Some(Throttled {
        application: one.unit.application.clone(),
        tenant: one.unit.tenant.clone(),
        host: one.unit.host,
        target: one.unit.target.clone(),
        resource,
        limit_old,
        limit_new,
        usage: one.unit.usage.get(resource),
        peak: one.unit.peak.get(resource),
        short_by: wants - limit_new,
        was_short_by: limit_old.map_or(0, |old| wants.saturating_sub(old)),
    })
}
