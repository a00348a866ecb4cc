//! What runs on a host, as its last accepted evidence states it, and the units that policies are held against.

use std::collections::BTreeMap;

use quotary_common::envelope::{BackendKind, CgroupPath, Name};
use quotary_common::id::GrantId;
use quotary_common::plan::Target;
use quotary_common::units::{ResourceKind, Resources};

use super::select::HostFacts;
use super::standing::Unit;
use crate::allocate::Rules;
use crate::history::{BoundedLoad, Measure, Subject};

/// Something that runs in a cgroup of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// The cgroup.
    pub cgroup: CgroupPath,
    /// The unit that owns it.
    pub unit: Option<Name>,
    /// Under which uid.
    pub uid: Option<u32>,
    /// The grant that it runs under.
    pub grant: Option<GrantId>,
    /// What it used on average over the evidence's windows.
    pub usage: Resources,
}

/// What runs on a host by its load: bounded, since the load is.
pub fn runs_of(load: &BoundedLoad) -> Vec<Runs> {
    let of_subject = |subject: &crate::history::SubjectLoad| {
        let Subject::Cgroup(path) = &subject.subject else { return None };
        let mut usage = Resources::default();
        for kind in ResourceKind::ALL {
            let of_kind = || subject.usages.iter().filter(move |usage| usage.measure == Measure::Resource(kind));
            let time_ms: u128 = of_kind().map(|usage| u128::from(usage.duration_ms)).sum();
            let sum: u128 = of_kind().map(|usage| u128::from(usage.mean) * u128::from(usage.duration_ms)).sum();
            usage.set(kind, sum.checked_div(time_ms).map(|mean| u64::try_from(mean).unwrap_or(u64::MAX)));
        }
        let (unit, uid, grant) = (subject.unit.clone(), subject.uid, subject.grant);
        Some(Runs { cgroup: CgroupPath::new(path)?, unit, uid, grant, usage })
    };
    load.subjects().iter().filter_map(of_subject).collect()
}

/// The units of a host: what runs there that a rule says whose it is. `granted` is what grants hold, `peak` what is forecast for a cgroup
/// (p95 of the peak over the next hour).
pub fn units_of(
    host: &HostFacts,
    (runs, backend): (&[Runs], BackendKind),
    rules: &Rules,
    granted: &BTreeMap<GrantId, Resources>,
    peak: impl Fn(&CgroupPath) -> Resources,
) -> Vec<Unit> {
    let unit = |runs: &Runs| {
        let rule = rules.owner_of(runs.cgroup.as_str(), runs.unit.as_ref(), runs.uid)?;
        let target = match (backend, &runs.unit) {
            (BackendKind::Systemd, Some(unit)) => Target::Unit(unit.clone()),
            _ => Target::Cgroup(runs.cgroup.clone()),
        };
        Some(Unit {
            application: rule.application.clone(),
            tenant: rule.tenant.clone(),
            host: host.id,
            cgroup: runs.cgroup.clone(),
            target,
            granted: runs.grant.and_then(|grant| granted.get(&grant).copied()).unwrap_or_default(),
            usage: runs.usage,
            peak: peak(&runs.cgroup),
        })
    };
    runs.iter().filter_map(unit).collect()
}
