//! What of plans is still in force here.

use quotary_common::envelope::{CgroupPath, Mode};
use quotary_common::plan::Target;

use super::controller::Now;
use super::shaper::Shaper;

impl Shaper {
    /// Targets, with their cgroups, of which the journal says that something has to be put back, or that a plan is followed.
    pub fn held(&self) -> Vec<(Target, CgroupPath)> {
        self.held.targets.iter().map(|(target, held)| (target.clone(), held.cgroup.clone())).collect()
    }

    /// As [`Shaper::held`], those that no running lease covers, or whose undo had begun: what was to be put back, and was not.
    pub fn held_without_lease(&self, now: Now) -> Vec<(Target, CgroupPath)> {
        let is_covered = |target: &Target| {
            let held = self.held.targets.get(target).filter(|held| !held.is_ending);
            let lease = held.map(|held| held.lease);
            self.mode == Mode::Enforce
                && lease.is_some_and(|lease| lease.is_running(self.boot_id, lease.epoch, now.boottime_ms))
        };
        self.held().into_iter().filter(|(target, _)| !is_covered(target)).collect()
    }
}
