//! What plans must know of grants, since both may set the same controls.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::plan::{ShapedControl, Target};

use super::controls::{Control, Knob, PERIOD_US, Setting, limit};
use super::decide;
use super::enforcer::Enforcer;
use super::group::GroupPath;
use super::held::{GroupState, HeldGrant};
use crate::shape::OfGrants;
use crate::shape::holds::target_of;

impl Enforcer {
    /// What is held now, as far as plans may meet it.
    pub fn for_plans(&self) -> OfGrants {
        let held = self.journal.held();
        let running = || decide::running(held).filter(|(_, held)| held.group != GroupState::None);
        let unit = |cgroup: &str| match target_of(&GroupPath::parse(cgroup)?) {
            Target::Unit(unit) => Some(unit.as_str().to_owned()),
            Target::Cgroup(_) => None,
        };
        let scopes: BTreeSet<String> = running().filter_map(|(_, held)| unit(held.cgroup.as_str())).collect();
        let mut limits = BTreeMap::new();
        for (grant, settings) in &self.waiting {
            let Some(held) = held.grants.get(grant).filter(|held| self.shaped.contains_key(&held.cgroup)) else {
                continue;
            };
            limits.insert(held.cgroup.clone(), settings.iter().flat_map(as_planned).collect());
        }
        let uid = |held: &HeldGrant| Some((held.cgroup.clone(), held.owner.as_ref()?.uid?));
        let uids = running().filter_map(|(_, held)| uid(held)).collect();
        OfGrants { uids, scopes, first_end_ms: running().map(|(_, held)| held.lease.end_ms()).min(), limits }
    }
}

/// A grant's value in the controls and units of plans.
fn as_planned(setting: &Setting) -> Vec<(ShapedControl, u64)> {
    let Knob { control, .. } = setting.knob;
    let text = setting.value.as_str();
    let rate = |key: &str| text.split(' ').find_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
    let one = |control, value: Option<u64>| value.map(|value| (control, value)).into_iter().collect();
    match control {
        Control::CpuWeight => one(ShapedControl::CpuWeight, text.parse().ok()),
        Control::CpuMax => {
            one(ShapedControl::CpuQuota, limit(text, PERIOD_US).map(|quota_us| quota_us * 1000 / PERIOD_US))
        }
        Control::MemoryHigh => one(ShapedControl::MemoryHigh, text.parse().ok()),
        Control::DiskMax => {
            let both = [(ShapedControl::IoReadMax, rate("rbps=")), (ShapedControl::IoWriteMax, rate("wbps="))];
            both.into_iter().filter_map(|(control, rate)| Some((control, rate?))).collect()
        }
        // Version 1 has other names and units for the same; a guarantee is nobody's limit.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use quotary_common::envelope::ControlValue;

    use super::*;
    use crate::shape::holds::is_moved_by;

    #[test]
    fn a_grants_values_are_in_the_units_of_plans_under_the_controls_that_move_them() {
        let setting =
            |control, value| Setting { knob: Knob { control, device: None }, value: ControlValue::lossy(value) };
        for (control, value, expected) in [
            (Control::CpuWeight, "30", vec![(ShapedControl::CpuWeight, 30)]),
            (Control::CpuMax, "30000 100000", vec![(ShapedControl::CpuQuota, 300)]),
            (Control::CpuMax, "max 100000", vec![]),
            (Control::MemoryHigh, "4096", vec![(ShapedControl::MemoryHigh, 4096)]),
            (Control::MemoryLow, "4096", vec![]),
            (
                Control::DiskMax,
                "8:0 rbps=1 wbps=2",
                vec![(ShapedControl::IoReadMax, 1), (ShapedControl::IoWriteMax, 2)],
            ),
        ] {
            let setting = setting(control, value);
            let planned = as_planned(&setting);
            assert_eq!(planned, expected);
            assert!(planned.iter().all(|(control, _)| is_moved_by(setting.knob, *control)));
        }
    }
}
