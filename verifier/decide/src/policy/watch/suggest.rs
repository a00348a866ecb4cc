//! A draft with better numbers, from what is used and forecast.

use quotary_common::units::ResourceKind;

use crate::policy::document::{Line, Policy, Threshold, limit_range};
use crate::policy::read::read;

/// Room above what the greediest unit wants, in percent: as profiles keep it.
const HEADROOM_PERCENT: u128 = 20;

/// The steps in which a limit is suggested: people read it.
const fn grain(kind: ResourceKind) -> u64 {
    match kind {
        ResourceKind::Cpu => 10,
        ResourceKind::Memory | ResourceKind::Storage | ResourceKind::Disk => 1 << 20,
        ResourceKind::Network => 1_000_000,
    }
}

/// A document for the policy's next version with another limit of the threshold's resource, where the greediest unit wants `wanted`; none if
/// that leads nowhere: too much is answered by more, too little by less, and a limit is not below its guarantee.
pub fn suggest(policy: &Policy, threshold: &Threshold, wanted: u64) -> Option<String> {
    let kind = threshold.resource;
    let old = policy.limit.get(kind)?;
    let by_line = match threshold.line {
        Line::Above(line) => u128::from(wanted) * 100 / u128::from(line.max(1)),
        Line::Below(_) => 0,
    };
    let room = (u128::from(wanted) * (100 + HEADROOM_PERCENT) / 100).max(by_line);
    let rounded = room.div_ceil(u128::from(grain(kind))) * u128::from(grain(kind));
    let (least, most) = limit_range(kind);
    let limit =
        u64::try_from(rounded).unwrap_or(u64::MAX).clamp(least.max(policy.guarantee.get(kind).unwrap_or(0)), most);
    let is_better = match threshold.line {
        Line::Above(_) => limit > old,
        Line::Below(_) => limit < old,
    };
    if !is_better {
        return None;
    }
    let mut terms = (**policy).clone();
    terms.version = terms.version.checked_add(1)?;
    terms.limit.set(kind, Some(limit));
    let document = terms.to_document().ok()?;
    read(document.as_bytes(), None).ok().map(|_| document)
}
