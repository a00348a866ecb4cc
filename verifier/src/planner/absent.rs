//! Groups and scopes that have plans and run no more: their names do not come back, as those of services do.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::{HostId, PlanId};
use quotary_common::plan::Target;
use quotary_decide::shape::PlanRecord;

use super::Sight;

/// What was not seen for so long, while its host was heard, is gone, ms.
const GONE_MS: u64 = 600_000;
/// A host that was silent for longer says nothing of what runs there, ms.
const HEARD_MS: u64 = 120_000;

/// For how long the targets of plans have not been seen to run while their hosts were heard, ms. After a restart it begins anew.
#[derive(Debug, Default)]
pub(super) struct Absent {
    heard_ms: BTreeMap<PlanId, u64>,
    looked_at_ms: Option<u64>,
}

impl Absent {
    /// Takes in what the newest evidence of each host says.
    pub(super) fn look(&mut self, sight: &Sight) {
        let runs: BTreeSet<(HostId, &Target)> =
            sight.standing.units.iter().map(|unit| (unit.host, &unit.target)).collect();
        let since_ms = self.looked_at_ms.replace(sight.now_ms).map_or(0, |at_ms| sight.now_ms.saturating_sub(at_ms));
        let mut absent = BTreeMap::new();
        for snapshot in &sight.hosts {
            let is_heard = sight.now_ms.saturating_sub(snapshot.host.progress.committed_at_ms) < HEARD_MS;
            for record in snapshot.plans.iter().filter(|record| record.over().is_none()) {
                let plan = record.plan();
                if !runs.contains(&(plan.host, &plan.target)) {
                    let before_ms = self.heard_ms.get(&plan.id).copied().unwrap_or_default();
                    // Who is silent says nothing of what runs there.
                    absent.insert(plan.id, before_ms.saturating_add(if is_heard { since_ms } else { 0 }));
                }
            }
        }
        self.heard_ms = absent;
    }

    /// Whether a plan's target does not come back.
    pub(super) fn is_gone(&self, record: &PlanRecord) -> bool {
        let plan = record.plan();
        let passes = match &plan.target {
            Target::Unit(unit) => unit.as_str().ends_with(".scope"),
            Target::Cgroup(_) => true,
        };
        passes && self.heard_ms.get(&plan.id).is_some_and(|heard_ms| *heard_ms >= GONE_MS)
    }
}
