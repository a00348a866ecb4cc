//! Refusals are audited, floods are counted: one leaf for the first of a kind, then one for many.

use std::collections::BTreeMap;

use quotary_common::id::HostId;
use quotary_common::reason::Reason;

/// Kinds of refusals that are counted apart at once; beyond, they are counted without a host.
const KINDS_MAX: usize = 4096;

type Kind = (Option<HostId>, Reason);

/// Counts refusals per host and reason.
#[derive(Debug)]
pub struct RefusalMeter {
    interval_ms: u64,
    kinds: BTreeMap<Kind, Window>,
}

#[derive(Debug)]
struct Window {
    told_at_ms: u64,
    untold: u64,
}

/// Refusals that were counted and not yet told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// About which host.
    pub host: Option<HostId>,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
}

impl RefusalMeter {
    /// Tells one leaf per kind and `interval_ms`.
    pub fn new(interval_ms: u64) -> Self {
        Self { interval_ms, kinds: BTreeMap::new() }
    }

    /// Counts a refusal: `Some(count)` when a leaf is due now, for so many.
    pub fn count(&mut self, host: Option<HostId>, reason: Reason, now_ms: u64) -> Option<u64> {
        let kind = if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&(host, reason)) {
            (host, reason)
        } else {
            (None, reason)
        };
        match self.kinds.get_mut(&kind) {
            None => {
                self.kinds.insert(kind, Window { told_at_ms: now_ms, untold: 0 });
                Some(1)
            }
            Some(window) if now_ms.saturating_sub(window.told_at_ms) >= self.interval_ms => {
                window.told_at_ms = now_ms;
                Some(std::mem::take(&mut window.untold).saturating_add(1))
            }
            Some(window) => {
                window.untold = window.untold.saturating_add(1);
                None
            }
        }
    }

    /// What was counted and whose interval is over: told now, and forgotten.
    pub fn due(&mut self, now_ms: u64) -> Vec<Tally> {
        let interval_ms = self.interval_ms;
        let over = |window: &Window| now_ms.saturating_sub(window.told_at_ms) >= interval_ms;
        let due = self.kinds.iter().filter(|(_, window)| over(window) && window.untold > 0);
        let out =
            due.map(|((host, reason), window)| Tally { host: *host, reason: *reason, count: window.untold }).collect();
        self.kinds.retain(|_, window| !over(window));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_a_flood_is_told_as_a_count() {
        let mut meter = RefusalMeter::new(1000);
        let host = Some(HostId::new([1; 32]));
        assert_eq!(meter.count(host, Reason::Signature, 0), Some(1));
        for _ in 0..50 {
            assert_eq!(meter.count(host, Reason::Signature, 10), None);
        }
        assert_eq!(meter.count(host, Reason::ExtraData, 10), Some(1));
        assert!(meter.due(999).is_empty());
        assert_eq!(meter.due(1000), [Tally { host, reason: Reason::Signature, count: 50 }]);
        assert!(meter.due(5000).is_empty());
    }

    #[test]
    fn a_steady_trickle_is_told_with_what_came_between() {
        let mut meter = RefusalMeter::new(1000);
        assert_eq!(meter.count(None, Reason::UnknownHost, 0), Some(1));
        assert_eq!(meter.count(None, Reason::UnknownHost, 500), None);
        assert_eq!(meter.count(None, Reason::UnknownHost, 1500), Some(2));
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let mut meter = RefusalMeter::new(1000);
        for n in 0..20_000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            meter.count(Some(HostId::new(id)), Reason::Signature, 0);
        }
        assert!(meter.kinds.len() <= KINDS_MAX + Reason::ALL.len());
    }
}
