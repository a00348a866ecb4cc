//! What policies are held against, from what was committed: for the writer by its state, for readers by the view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::{GrantId, HostId};
use quotary_common::units::{ResourceKind, Resources};
use quotary_decide::allocate::{Entry, Rules};
use quotary_decide::attest::Zones;
use quotary_decide::change;
use quotary_decide::forecast::PEAK_LEVELS;
use quotary_decide::history::{SeriesKey, Subject};
use quotary_decide::policy::{Catalogue, Enforcing, HostFacts, Runs, Standing, units_of};
use quotary_decide::registry::Host;

use super::view::HostSnapshot;
use crate::predict::Forecasts;

/// The peak that counts as what a unit will need.
const PEAK_LEVEL: f64 = 0.95;

/// A host with all that is known of it.
pub(crate) struct Place<'a> {
    pub(crate) host: &'a Host,
    pub(crate) runs: &'a [Runs],
    pub(crate) grants: BTreeMap<GrantId, Resources>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(host: &'a Host, runs: &'a [Runs], grants: impl Iterator<Item = &'a Entry>) -> Self {
        let held = grants.filter(|entry| !entry.is_fenced());
        let grants = held.map(|entry| (entry.record.grant.id, entry.record.grant.resources)).collect();
        Self { host, runs, grants }
    }

    /// As a reader sees it.
    pub(crate) fn of(snapshot: &'a HostSnapshot) -> Self {
        Self::new(&snapshot.host, &snapshot.runs, snapshot.grants.iter())
    }
}

/// What does not change while the verifier runs.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Applications and quotas.
    pub rules: Arc<Rules>,
    /// Trust zones, best first.
    pub zones: Arc<Zones>,
    /// The newest forecasts.
    pub forecasts: Forecasts,
}

impl Ground {
    /// Names that documents may use: those of the configuration, and of the policies in force.
    pub(crate) fn catalogue(&self, book: &change::Book) -> Catalogue {
        let zones: BTreeSet<Name> = self.zones.as_slice().iter().map(|zone| zone.name.clone()).collect();
        let rules = self.rules.all();
        Catalogue {
            tenants: rules.iter().map(|rule| rule.tenant.clone()).collect(),
            applications: rules.iter().map(|rule| (rule.application.clone(), rule.tenant.clone())).collect(),
            pools: zones.clone(),
            zones,
            policies: book.policies().keys().cloned().collect(),
        }
    }

    /// Hosts, and what runs on them.
    pub(crate) fn standing<'a>(&self, places: impl Iterator<Item = Place<'a>>) -> Standing {
        let mut standing = Standing { overcommit_percent: self.rules.overcommit_percent(), ..Standing::default() };
        for place in places {
            let facts = self.facts(place.host);
            if let Some(seen) = &place.host.progress.seen {
                let peak = |cgroup: &CgroupPath| self.peak(facts.id, cgroup);
                let ran = (place.runs, seen.backend);
                standing.units.extend(units_of(&facts, ran, &self.rules, &place.grants, peak));
                let lacks = seen.lacks.iter().flat_map(|lacks| lacks.iter().copied()).collect();
                let enforcing = Enforcing { mode: seen.mode, backend: seen.backend, lacks };
                standing.enforcing.insert(facts.id, enforcing);
            }
            standing.hosts.insert(facts.id, facts);
        }
        standing
    }

    /// What a host is to selectors.
    pub(crate) fn facts(&self, host: &Host) -> HostFacts {
        let mut facts = HostFacts::new(host.record.host, host.record.capacity);
        facts.labels = host.record.labels.iter().cloned().collect();
        facts.pool = host.progress.zone.clone();
        // Whoever meets a zone's requirements meets those of the zones below it.
        let names = self.zones.as_slice().iter().map(|zone| zone.name.clone());
        facts.zones = names.skip_while(|name| facts.pool.as_ref() != Some(name)).collect();
        facts
    }

    fn peak(&self, host: HostId, cgroup: &CgroupPath) -> Resources {
        let mut peak = Resources::default();
        let level = PEAK_LEVELS.iter().position(|level| (*level - PEAK_LEVEL).abs() < f64::EPSILON);
        for kind in ResourceKind::ALL {
            let subject = Subject::Cgroup(cgroup.as_str().to_owned());
            let outlook = self.forecasts.outlook(&SeriesKey { host: Some(host), subject, measure: kind.into() });
            let known = outlook.filter(|outlook| !outlook.forecast.is_insufficient());
            let row = known.map(|outlook| *outlook.forecast.quantiles.longest_peak());
            peak.set(kind, row.zip(level).and_then(|(row, level)| row.get(level).copied()).map(whole));
        }
        peak
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from float saturate; NaN gives 0")]
fn whole(value: f64) -> u64 {
    value.ceil() as u64
}
