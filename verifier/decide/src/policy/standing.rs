//! What there is when a change is looked at: hosts, and what runs on them with what it holds, uses and will need.

use std::collections::BTreeMap;

use quotary_common::envelope::{BackendKind, CgroupPath, Mode, Name};
use quotary_common::id::HostId;
use quotary_common::plan::{ShapedControl, Target};
use quotary_common::units::{ResourceKind, Resources};

use super::map::{Holding, PolicyResourceMap, Tie};
use super::select::{HostFacts, Place};

/// One unit or run of an application on a host: what a grant or a plan is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The application.
    pub application: Name,
    /// Who pays for it.
    pub tenant: Name,
    /// Where it runs.
    pub host: HostId,
    /// Its cgroup: that of its series in history.
    pub cgroup: CgroupPath,
    /// What is limited there.
    pub target: Target,
    /// What its grant holds.
    pub granted: Resources,
    /// What it uses now.
    pub usage: Resources,
    /// What it will need at the most, by the forecast (p95 of the peak); absent: unknown.
    pub peak: Resources,
}

impl Unit {
    /// What it is known to want of a resource: the greater of use and forecast.
    pub fn wants(&self, kind: ResourceKind) -> Option<u64> {
        self.usage.get(kind).max(self.peak.get(kind))
    }
}

/// What a host stated last of what it can set: its agent knows best, and a lie takes nothing from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcing {
    /// How far its agent goes.
    pub mode: Mode,
    /// Who writes its controls.
    pub backend: BackendKind,
    /// Controls that it has not.
    pub lacks: Vec<ShapedControl>,
}

impl Enforcing {
    /// Whether anybody there can set limits of a target.
    ///
    /// # Errors
    /// Why nobody can.
    pub const fn can_set(backend: BackendKind, target: &Target) -> Result<(), &'static str> {
        match (backend, target) {
            (BackendKind::Systemd, _) | (BackendKind::Direct, Target::Cgroup(_)) => Ok(()),
            (BackendKind::Direct, Target::Unit(_)) => Err("the host has no systemd that its agent can ask"),
            (BackendKind::None, _) => Err("the host can set no limits"),
        }
    }
}

/// All that a change is held against.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Every host.
    pub hosts: BTreeMap<HostId, HostFacts>,
    /// What runs on them.
    pub units: Vec<Unit>,
    /// What may be promised of a host's inventory, in percent.
    pub overcommit_percent: u64,
    /// What hosts can set, where they stated it.
    pub enforcing: BTreeMap<HostId, Enforcing>,
}

/// What all units have from the policies of a map.
#[derive(Debug, Clone)]
pub struct Held<'s> {
    /// For each unit, in their order: what its application has on its host.
    pub holdings: Vec<Option<Holding>>,
    /// Where policies are tied: there nothing is given.
    pub ties: Vec<Tie>,
    /// Units on hosts that nobody knows.
    pub astray: Vec<&'s Unit>,
}

impl Standing {
    /// What each unit has from the policies of `map`. Each application and host is looked up once.
    pub fn held(&self, map: &PolicyResourceMap) -> Held<'_> {
        let mut found: BTreeMap<(&HostId, &Name, &Name), Option<Holding>> = BTreeMap::new();
        let mut held = Held { holdings: Vec::with_capacity(self.units.len()), ties: Vec::new(), astray: Vec::new() };
        for unit in &self.units {
            let Some(host) = self.hosts.get(&unit.host) else {
                held.astray.push(unit);
                held.holdings.push(None);
                continue;
            };
            let holding = found.entry((&unit.host, &unit.application, &unit.tenant)).or_insert_with(|| {
                let place = Place { application: &unit.application, tenant: &unit.tenant, host };
                map.holding(&place).unwrap_or_else(|tie| {
                    held.ties.push(tie);
                    None
                })
            });
            held.holdings.push(holding.clone());
        }
        held
    }

    /// What may be promised of an amount of inventory.
    pub fn promisable(&self, capacity: u64) -> u128 {
        u128::from(capacity) * u128::from(self.overcommit_percent) / 100
    }
}
