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

/// Since when the targets of plans have not been seen to run, Unix ms. After a restart it begins anew.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeMap<PlanId, u64>);

impl Absent {
    /// Takes in what the newest evidence of each host says.
    pub(super) fn look(&mut self, sight: &Sight) {
        let runs: BTreeSet<(HostId, &Target)> =
            sight.standing.units.iter().map(|unit| (unit.host, &unit.target)).collect();
        let mut absent = BTreeMap::new();
        for snapshot in &sight.hosts {
            let is_heard = sight.now_ms.saturating_sub(snapshot.host.progress.committed_at_ms) < HEARD_MS;
            for record in snapshot.plans.iter().filter(|record| record.over().is_none()) {
                let plan = record.plan();
                let since_ms = self.0.get(&plan.id).copied();
                if !runs.contains(&(plan.host, &plan.target))
                    && let Some(since_ms) = since_ms.or_else(|| is_heard.then_some(sight.now_ms))
                {
                    absent.insert(plan.id, since_ms);
                }
            }
        }
        self.0 = absent;
    }

    /// Whether a plan's target does not come back.
    pub(super) fn is_gone(&self, record: &PlanRecord, now_ms: u64) -> bool {
        let plan = record.plan();
        let passes = match &plan.target {
            Target::Unit(unit) => unit.as_str().ends_with(".scope"),
            Target::Cgroup(_) => true,
        };
        let since_ms = self.0.get(&plan.id).copied();
        passes && since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= GONE_MS)
    }
}
