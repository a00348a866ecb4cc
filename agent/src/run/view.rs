//! What root is shown, and the figures behind it.

use std::collections::VecDeque;
use std::time::Duration;

use quotary_common::wire;

/// How many figures are kept.
const FIGURES_MAX: usize = 1024;

/// The last figures of a kind, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<u64>);

impl Ring {
    /// Adds one; the oldest goes where there are too many.
    pub(super) fn add(&mut self, value: u64) {
        if self.0.len() >= FIGURES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Adds a duration in microseconds.
    pub(super) fn add_duration(&mut self, value: Duration) {
        self.add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }

    /// All, oldest first.
    pub(super) fn to_vec(&self) -> Vec<u64> {
        self.0.iter().copied().collect()
    }
}

/// How the agent fares.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) quote_us: Ring,
    pub(super) request_to_enforced_us: Ring,
    pub(super) sequence: u64,
    pub(super) accepted_at_ms: Option<u64>,
    pub(super) last_refusal: Option<wire::Error>,
    /// An alarm about the audit log, until a checkpoint follows again.
    pub(super) alarm: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest() {
        let mut ring = Ring::default();
        (0..2_000).for_each(|n| ring.add(n));
        let kept = ring.to_vec();
        assert_eq!((kept.len(), kept.first(), kept.last()), (1024, Some(&976), Some(&1999)));
    }
}
