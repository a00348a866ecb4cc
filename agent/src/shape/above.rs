//! Which controllers the groups above a target hand on, before and after something was done.
//!
//! The first use of a controller turns it on for the children of each group above: siblings there are scheduled by group from
//! then on, and that is told. Reads nothing itself.

use quotary_common::cbor::Text;
use quotary_common::envelope::{BackendKind, CgroupPath, ControlValue, EnforcementWrite};
use quotary_common::id::PlanId;

/// The controllers that the children of each group above a target have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Above(Vec<(CgroupPath, String)>);

/// What turned them on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TurnedOnBy {
    pub(crate) plan: Option<PlanId>,
    pub(crate) backend: BackendKind,
    /// When, `CLOCK_BOOTTIME` in ms.
    pub(crate) at_ms: u64,
}

impl FromIterator<(CgroupPath, String)> for Above {
    /// The innermost group first.
    fn from_iter<I: IntoIterator<Item = (CgroupPath, String)>>(groups: I) -> Self {
        Self(groups.into_iter().collect())
    }
}

impl Above {
    /// What is on `after`, and was not, or was not readable, before: one write for each group.
    pub(crate) fn turned_on(&self, after: Self, by: TurnedOnBy) -> Vec<EnforcementWrite> {
        let mut writes = Vec::new();
        for (cgroup, controllers) in after.0 {
            let before = self.0.iter().find(|(known, _)| *known == cgroup).map(|(_, controllers)| controllers);
            if before == Some(&controllers) {
                continue;
            }
            tracing::warn!(%cgroup, %controllers, "controllers are on for siblings from now on: they are scheduled by group");
            writes.push(EnforcementWrite {
                plan: by.plan,
                grant: None,
                cgroup,
                backend: by.backend,
                control: Text::lossy("cgroup.subtree_control"),
                before: before.map(|text| ControlValue::lossy(text)),
                after: ControlValue::lossy(&controllers),
                actual: Some(ControlValue::lossy(&controllers)),
                effective: true,
                at_ms: by.at_ms,
                dry_run: false,
            });
        }
        writes
    }
}
