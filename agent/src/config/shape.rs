//! `[shape]`: how running units are moved, and what no plan may do here.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::plan::{ShapedControl, Target};
use serde::Deserialize;

use crate::shape::Local;
use crate::shape::controller::{Guard, Rules};
use crate::shape::egress::{INTERFACES_MAX, is_interface};
use crate::shape::storage::{Assigned, Directory, PROJECTS, is_directory};

/// Most units that the configuration may protect.
const PROTECTED_MAX: usize = 256;
/// Most directories that may belong to units.
const STORAGE_MAX: usize = 256;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawShape {
    protected_units: Vec<String>,
    memory_floor_bytes: Option<u64>,
    cpu_weight_floor: Option<u64>,
    cpu_quota_floor_millicores: Option<u64>,
    io_weight_floor: Option<u64>,
    io_read_floor_bytes_per_second: Option<u64>,
    io_write_floor_bytes_per_second: Option<u64>,
    egress_floor_bits_per_second: Option<u64>,
    egress_interfaces: Option<Vec<String>>,
    storage_floor_bytes: Option<u64>,
    storage: Vec<RawStorage>,
    dwell_ms: Option<u64>,
    step_permille_max: Option<u16>,
    decay_ms: Option<u64>,
    memory_guard_permille: Option<[u16; 3]>,
    cpu_guard_permille: Option<[u16; 3]>,
    io_guard_permille: Option<[u16; 3]>,
}

/// A directory whose storage belongs to a unit, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStorage {
    unit: String,
    directory: String,
    project_id: u32,
}

/// Checked settings of shaping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How fast, and where pressure stops it; without what the host has at most, which is not configured.
    pub(crate) rules: Rules,
    /// What no plan may do here.
    pub(crate) local: Local,
    /// The interfaces that egress is limited on; absent: those with hardware behind them.
    pub(crate) egress_interfaces: Option<Vec<String>>,
    /// The directories whose storage belongs to units.
    pub(crate) storage: Vec<Assigned>,
}

impl RawShape {
    /// Checks it; faults are added.
    pub(super) fn check(self, faults: &mut Vec<String>) -> Shape {
        let defaults = Rules::default();
        let guard = |given: Option<[u16; 3]>, default: Guard| {
            given.map_or(default, |[resume_permille, hold_permille, rollback_permille]| Guard {
                resume_permille,
                hold_permille,
                rollback_permille,
            })
        };
        let floors = BTreeMap::from([
            (ShapedControl::MemoryHigh, self.memory_floor_bytes.unwrap_or(64 << 20)),
            (ShapedControl::CpuWeight, self.cpu_weight_floor.unwrap_or(5)),
            (ShapedControl::CpuQuota, self.cpu_quota_floor_millicores.unwrap_or(50)),
            (ShapedControl::IoWeight, self.io_weight_floor.unwrap_or(10)),
            (ShapedControl::IoReadMax, self.io_read_floor_bytes_per_second.unwrap_or(1 << 20)),
            (ShapedControl::IoWriteMax, self.io_write_floor_bytes_per_second.unwrap_or(1 << 20)),
            (ShapedControl::NetworkEgress, self.egress_floor_bits_per_second.unwrap_or(1_000_000)),
            (ShapedControl::Storage, self.storage_floor_bytes.unwrap_or(64 << 20)),
        ]);
        let rules = Rules {
            dwell_ms: self.dwell_ms.unwrap_or(defaults.dwell_ms),
            step_permille_max: self.step_permille_max.unwrap_or(defaults.step_permille_max),
            decay_ms: self.decay_ms.unwrap_or(defaults.decay_ms),
            memory: guard(self.memory_guard_permille, defaults.memory),
            cpu: guard(self.cpu_guard_permille, defaults.cpu),
            io: guard(self.io_guard_permille, defaults.io),
            floors,
            ..defaults
        };
        if let Err(found) = rules.clone().check() {
            faults.extend(found.iter().map(|fault| format!("shape: {fault}")));
        }
        let local = protected(self.protected_units, faults);
        let egress_interfaces = self.egress_interfaces.inspect(|names| {
            if names.is_empty() || names.len() > INTERFACES_MAX {
                faults.push(format!("shape.egress_interfaces has {} entries: 1 to {INTERFACES_MAX}", names.len()));
            }
            if let Some(off) = names.iter().find(|name| !is_interface(name)) {
                faults.push(format!("shape.egress_interfaces has {off:?}: it must be the name of an interface"));
            }
        });
        let storage = storage(self.storage, faults);
        Shape { rules, local, egress_interfaces, storage }
    }
}

/// Checks the units that are protected besides those that always are.
fn protected(units: Vec<String>, faults: &mut Vec<String>) -> Local {
    if units.len() > PROTECTED_MAX {
        faults.push(format!("shape.protected_units has {} entries: at most {PROTECTED_MAX}", units.len()));
    }
    if let Some(off) = units.iter().find(|unit| unit.matches('*').count() > 1 || unit.is_empty()) {
        faults.push(format!("shape.protected_units has \"{off}\": it must be a name with at most one `*`"));
    }
    Local::protecting(units)
}

/// Checks directories: each unit has one at most, and no two have a project in common.
fn storage(raw: Vec<RawStorage>, faults: &mut Vec<String>) -> Vec<Assigned> {
    let mut assigned: Vec<Assigned> = Vec::new();
    if raw.len() > STORAGE_MAX {
        faults.push(format!("shape.storage has {} entries: at most {STORAGE_MAX}", raw.len()));
        return assigned;
    }
    for RawStorage { unit, directory, project_id } in raw {
        let mut off = |what: String| faults.push(format!("shape.storage of \"{unit}\": {what}"));
        let name = Name::new(&unit).filter(|name| !name.as_str().is_empty());
        if name.is_none() {
            off("it must be the name of a unit".to_owned());
        }
        if !is_directory(&directory) {
            off(format!("directory is {directory:?}: it must be absolute, without `..`"));
        }
        if !PROJECTS.contains(&project_id) {
            off(format!("project_id is {project_id}: it must be {} to {}", PROJECTS.start(), PROJECTS.end()));
        }
        let is_known = |known: &Assigned| known.directory.project == project_id || known.unit.to_string() == unit;
        if assigned.iter().any(is_known) {
            off("another entry has its unit or its project_id".to_owned());
        }
        let directory = Directory { path: directory, project: project_id };
        assigned.extend(name.map(|name| Assigned { unit: Target::Unit(name), directory }));
    }
    assigned
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn check(text: &str) -> (Shape, Vec<String>) {
        let mut faults = Vec::new();
        let shape = toml::from_str::<RawShape>(text).unwrap().check(&mut faults);
        (shape, faults)
    }

    #[test]
    fn an_empty_list_of_protected_units_unprotects_nothing() {
        let ssh = Target::Unit(Name::lossy("ssh.service"));
        let (shape, faults) = check("protected_units = []");
        assert!(faults.is_empty() && shape.local.protects(&ssh).is_some());
        let (shape, _) = check("protected_units = [\"db.service\"]");
        assert!(shape.local.protects(&ssh).is_some());
        assert!(shape.local.protects(&Target::Unit(Name::lossy("db.service"))).is_some());
    }

    #[test]
    fn every_control_that_a_plan_tightens_has_a_floor_that_can_be_set() {
        let (shape, faults) = check("");
        assert!(faults.is_empty(), "{faults:?}");
        let controls = [
            (ShapedControl::CpuQuota, 50, "cpu_quota_floor_millicores"),
            (ShapedControl::IoWeight, 10, "io_weight_floor"),
            (ShapedControl::IoReadMax, 1 << 20, "io_read_floor_bytes_per_second"),
            (ShapedControl::IoWriteMax, 1 << 20, "io_write_floor_bytes_per_second"),
        ];
        let rules = shape.rules.check().unwrap();
        for (control, default, key) in controls {
            assert_eq!(rules.bounded(control, 1), default, "{control}");
            let (other, faults) = check(&format!("{key} = 5000"));
            assert!(faults.is_empty() && other.rules.floor(control) == 5000, "{key}: {faults:?}");
            let (_, faults) = check(&format!("{key} = 0"));
            assert!(faults.iter().any(|fault| fault.contains(&control.to_string())), "{key}: {faults:?}");
        }
    }
}
