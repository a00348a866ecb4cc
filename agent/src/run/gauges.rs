//! What applications state of themselves: held for a while, sampled like what the kernel counts. Pure.

use std::collections::BTreeMap;

use quotary_common::id::GrantId;
use quotary_common::limits::{GAUGE_BURST, GAUGE_HOLD_MS, GAUGE_PACE_MS};
use quotary_common::metric::Gauge;
use quotary_common::wire::{GaugeStatement, GaugesHeld};

use crate::sample::{Fold, Reading, Sample, Subject};

/// What one application stated.
#[derive(Debug, Clone, Copy, Default)]
struct Stated {
    /// By gauge: the value, and when it was stated (`CLOCK_BOOTTIME`, ms).
    values: [Option<(u64, u64)>; Gauge::ALL.len()],
    /// When its statements so far are worked off at the pace that is allowed, ms.
    paced_until_ms: u64,
}

/// What the holders of grants state. There are no more of them than grants: see [`Gauges::keep`].
#[derive(Debug, Default)]
pub(super) struct Gauges(BTreeMap<GrantId, Stated>);

impl Gauges {
    /// Takes a statement; what it does not name stands as it stood.
    ///
    /// # Errors
    /// When there are too many: the wait until the next is taken, ms.
    pub(super) fn state(&mut self, grant: GrantId, gauges: &GaugeStatement, now_ms: u64) -> Result<GaugesHeld, u64> {
        let stated = self.0.entry(grant).or_default();
        let begins_ms = stated.paced_until_ms.max(now_ms);
        let ahead_ms_max = (GAUGE_BURST - 1) * GAUGE_PACE_MS;
        if let Some(wait_ms) = begins_ms.checked_sub(now_ms.saturating_add(ahead_ms_max)).filter(|wait| *wait > 0) {
            return Err(wait_ms);
        }
        stated.paced_until_ms = begins_ms.saturating_add(GAUGE_PACE_MS);
        for (gauge, value) in gauges.stated() {
            stated.values[gauge as usize] = Some((value.min(gauge.greatest()), now_ms));
        }
        Ok(GaugesHeld { held_for_ms: GAUGE_HOLD_MS })
    }

    /// What stands of a grant's gauges at `now_ms`; what was stated too long ago is a gap, never a zero.
    fn standing(&self, grant: &GrantId, now_ms: u64) -> impl Iterator<Item = (Gauge, u64)> {
        let values = self.0.get(grant).map(|stated| stated.values).unwrap_or_default();
        Gauge::ALL.into_iter().zip(values).filter_map(move |(gauge, value)| {
            let (value, at_ms) = value?;
            (now_ms.saturating_sub(at_ms) < GAUGE_HOLD_MS).then_some((gauge, value))
        })
    }

    /// Adds what stands to the windows of the applications that were sampled, at the sample's instant.
    pub(super) fn sample(&self, sample: &Sample, fold: &mut Fold) {
        for one in &sample.applications {
            let Some(grant) = &one.application.grant else { continue };
            for (gauge, value) in self.standing(grant, sample.at_ms) {
                let subject = Subject::Application(std::sync::Arc::clone(&one.application));
                fold.add_reading(sample.at_ms, &Reading { subject, metric: gauge.metric(), label: None, value });
            }
        }
    }

    /// Lets go of what was stated under grants that are gone.
    pub(super) fn keep(&mut self, keep: impl Fn(&GrantId) -> bool) {
        self.0.retain(|grant, _| keep(grant));
    }
}

#[cfg(test)]
#[path = "gauges_tests.rs"]
mod tests;
