//! What the verifier knows of a host when its evidence is committed: whose its applications are, and what they may use.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::id::GrantId;
use quotary_common::units::{Class, Resources};

use super::{BoundedLoad, Owner, Subject};
use crate::allocate::{GrantRecord, Rule, Rules};

/// What the verifier knows of a host at a commit.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    /// When the host was enrolled, Unix ms: its sequence numbers start anew with each enrolment.
    pub enrolled_at_ms: u64,
    /// The pool that the host belongs to: the trust zone that it is in.
    pub pool: Option<&'a Name>,
    /// What the host has, by the operator's inventory.
    pub capacity: Resources,
    /// The host's grants.
    pub grants: &'a [&'a GrantRecord],
    /// Who an application without a grant is.
    pub rules: &'a Rules,
}

/// What of it a load carries.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) enrolled_at_ms: u64,
    pub(super) pool: Option<Name>,
}

impl BoundedLoad {
    /// The same with what the verifier knows of the host at this commit: without it, nothing is censored by a grant,
    /// and nothing is part of a sum.
    #[must_use]
    pub fn placed(mut self, standing: &Standing<'_>) -> Self {
        let grants: BTreeMap<GrantId, &GrantRecord> =
            standing.grants.iter().map(|record| (record.grant.id, *record)).collect();
        for load in &mut self.subjects {
            let Subject::Cgroup(cgroup) = &load.subject else {
                load.limits = of_host(&standing.capacity);
                continue;
            };
            let record = load.grant.and_then(|grant| grants.get(&grant));
            if record.is_none() {
                // A gauge is an application's own word under its grant; that there is one, the verifier knows and not the host.
                load.usages.retain(|usage| usage.measure.resource().is_some());
            }
            load.limits = record.filter(|_| self.is_enforced).map(|record| of_grant(record)).unwrap_or_default();
            load.owner = owner(record.copied(), || standing.rules.owner_of(cgroup, load.unit.as_ref(), load.uid));
            load.tenant.clone_from(&load.owner.tenant);
        }
        self.keep_outermost();
        self.known = Known { enrolled_at_ms: standing.enrolled_at_ms, pool: standing.pool.cloned() };
        self
    }

    /// What runs in a group within a group of the same tenant is counted in both by the kernel: the outer one counts.
    fn keep_outermost(&mut self) {
        let paths: BTreeMap<String, Name> = self
            .subjects
            .iter()
            .filter_map(|load| Some((load.subject.cgroup()?.to_owned(), load.tenant.clone()?)))
            .collect();
        for load in &mut self.subjects {
            let (Some(path), Some(tenant)) = (load.subject.cgroup(), &load.tenant) else { continue };
            let above = |(at, _): (usize, &str)| path.get(..at).and_then(|outer| paths.get(outer)) == Some(tenant);
            if path.match_indices('/').any(above) {
                load.tenant = None;
            }
        }
    }
}

/// Whose it is: by its grant, or else by rule.
fn owner<'r>(record: Option<&GrantRecord>, by_rule: impl FnOnce() -> Option<&'r Rule>) -> Owner {
    let owned = |application: &Name, tenant: &Name, declared| Owner {
        application: Some(application.clone()),
        tenant: Some(tenant.clone()),
        declared,
    };
    match record {
        Some(record) => owned(&record.grant.application, &record.grant.tenant, record.requested),
        None => by_rule().map(|rule| owned(&rule.application, &rule.tenant, Resources::default())).unwrap_or_default(),
    }
}

/// What a host has: reads and writes of a disk each up to what it does.
fn of_host(capacity: &Resources) -> Resources {
    Resources { storage_bytes: None, ..*capacity }
}

/// What a grant limits. A guaranteed one has its share of the CPU and no quota; no control holds storage and network.
fn of_grant(record: &GrantRecord) -> Resources {
    let mut limits = Resources { storage_bytes: None, network_bits_per_second: None, ..record.grant.resources };
    if record.grant.class == Class::Guaranteed {
        limits.cpu_millicores = None;
    }
    limits
}
