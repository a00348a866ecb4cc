//! The plans that a change comes to, and what is made of them while they run.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::cbor::Text;
use quotary_common::envelope::{BackendKind, CgroupPath, Name};
use quotary_common::id::{ChangeId, Digest};
use quotary_common::plan::{OnPressure, ShapedControl, Target};
use quotary_common::quorum::change::{Change, Kind, Way};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::units::{ResourceKind, Resources};

use super::draft::{DEPLOYMENT, NOW_MS, host};
use super::*;
use crate::policy::{Edit, HostFacts, PolicyResourceMap, Shaping, Standing, Unit, read};
use crate::shape::phase::{Demand, Transition, phase};

pub(super) const GIB: u64 = 1 << 30;
pub(super) const EFFECTIVE_MS: u64 = NOW_MS + 600_000;

pub(super) fn change(slew: Resources) -> Change {
    Change {
        deployment: DEPLOYMENT,
        id: ChangeId::new([9; 32]),
        kind: Kind::CreatePolicy,
        name: Text::lossy("web"),
        way: Way::Quorum,
        requester: Text::lossy("alice"),
        editor: Text::lossy("alice"),
        applier: Text::lossy("verifier"),
        criticality: Criticality::High,
        base: None,
        roster: Digest::new([1; 32]),
        rules: Digest::new([2; 32]),
        proposed_ms: NOW_MS - 1,
        effective_ms: EFFECTIVE_MS,
        approve_by_ms: EFFECTIVE_MS,
        apply_by_ms: EFFECTIVE_MS,
        until_ms: None,
        slew,
        on_pressure: OnPressure::Hold,
        nonce: [0; 16],
        inputs: Vec::new(),
        covers: Vec::new(),
        document: String::new(),
    }
}

pub(super) fn policy(version: u64, terms: &str) -> Edit {
    let text =
        format!("name = 'web'\nversion = {version}\ncriticality = 'low'\n[select]\napplication = 'web'\n{terms}");
    Edit::Put(Arc::new(read(text.as_bytes(), None).unwrap()))
}

/// A host with one service that uses a gibibyte.
pub(super) struct World {
    pub(super) host: crate::registry::Host,
    pub(super) standing: Standing,
    pub(super) map: PolicyResourceMap,
    pub(super) plans: Vec<Arc<PlanRecord>>,
    pub(super) now_ms: u64,
}

impl World {
    pub(super) fn new(backend: BackendKind) -> Self {
        let capacity = Resources { memory_bytes: Some(8 * GIB), cpu_millicores: Some(4_000), ..Resources::default() };
        let unit = Unit {
            application: Name::lossy("web"),
            tenant: Name::lossy("shop"),
            host: HOST,
            cgroup: CgroupPath::lossy("/system.slice/web.service"),
            target: Target::Unit(Name::lossy("web.service")),
            granted: Resources::default(),
            usage: Resources { memory_bytes: Some(GIB), cpu_millicores: Some(300), ..Resources::default() },
            peak: Resources::default(),
        };
        let hosts = [(HOST, HostFacts::new(HOST, capacity))].into();
        Self {
            host: host(backend),
            standing: Standing { hosts, units: vec![unit], overcommit_percent: 100, ..Standing::default() },
            map: PolicyResourceMap::default(),
            plans: Vec::new(),
            now_ms: NOW_MS,
        }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&Scene<'_>) -> T) -> T {
        let hosts: BTreeMap<HostId, HostNow<'_>> = [(HOST, HostNow { host: &self.host, plans: &self.plans })].into();
        let demand = |_: &Unit, _: ResourceKind| Demand::default();
        work(&Scene {
            deployment: DEPLOYMENT,
            map: &self.map,
            standing: &self.standing,
            hosts: &hosts,
            demand: &demand,
            now_ms: self.now_ms,
        })
    }

    pub(super) fn plan(&self, edit: &Edit, slew: Resources) -> Planned {
        let (change, shaping) = (change(slew), Shaping::default());
        let wanted = Wanted { change: &change, edit, shaping: &shaping, decision: Some(b"decided") };
        self.with(|scene| plans_of(&wanted, scene))
    }

    /// The plan is given.
    pub(super) fn give(&mut self, planned: &Planned) {
        let record = PlanRecord::new(planned.plans[0].plan.clone(), &key(), "change", self.now_ms);
        self.plans = vec![Arc::new(record.of_change(ChangeId::new([9; 32])))];
    }
}

#[test]
fn limits_and_guarantees_have_courses_that_end_at_the_effective_time() {
    let world = World::new(BackendKind::Systemd);
    let edit =
        policy(1, "[guarantee]\nmemory_bytes = 268435456\ncpu_millicores = 500\n[limit]\nmemory_bytes = 536870912\n");
    let planned = world.plan(&edit, Resources::default());
    assert_eq!((planned.plans.len(), &planned.without, planned.earliest_ms), (1, &vec![], None));
    let plan = planned.plans[0].plan.plan();
    assert_eq!(
        (plan.host, plan.effective_at_ms, plan.decision.as_deref()),
        (HOST, EFFECTIVE_MS, Some(&b"decided"[..]))
    );
    let targets: Vec<(ShapedControl, u64)> =
        plan.courses.iter().map(|course| (course.control, course.setpoints.last().unwrap().value)).collect();
    let expected =
        [(ShapedControl::CpuWeight, 50), (ShapedControl::MemoryHigh, GIB / 2), (ShapedControl::MemoryLow, GIB / 4)];
    assert_eq!(targets, expected);
    // Nothing limited it: it begins somewhat above what it uses.
    let first = planned.plans[0].ways.iter().find(|way| way.control == ShapedControl::MemoryHigh).unwrap();
    assert_eq!((first.now, first.phased.transition().from), (None, GIB + GIB / 4));
}

#[test]
fn a_host_that_takes_no_plan_is_told_and_too_little_time_for_the_slew_says_when_it_would_do() {
    let edit = policy(1, "[limit]\nmemory_bytes = 536870912\n");
    let direct = World::new(BackendKind::Direct).plan(&edit, Resources::default());
    assert!(direct.plans.is_empty() && direct.without[0].why.contains("no systemd"), "{direct:?}");
    let none = World::new(BackendKind::None).plan(&edit, Resources::default());
    assert!(none.without[0].why.contains("no limits"));
    let slow = Resources { memory_bytes: Some(1 << 20), ..Resources::default() };
    // Nothing limits it yet: who is not limited keeps no change of others from its time, and takes longer. 768 MiB at one a second.
    let mut world = World::new(BackendKind::Systemd);
    let planned = world.plan(&edit, slow);
    assert_eq!(planned.plans[0].plan.plan().effective_at_ms, NOW_MS + 768_000);
    assert_eq!(planned.earliest_ms, None);
    world.map = policy(1, "[limit]\nmemory_bytes = 2147483648\n").applied_to(&world.map);
    let planned = world.plan(&policy(2, "[limit]\nmemory_bytes = 536870912\n"), slow);
    assert!(planned.plans.is_empty());
    assert_eq!(planned.earliest_ms, Some(NOW_MS + 1_536_000));
}

#[test]
fn a_plan_goes_on_from_where_it_stands_along_other_ways() {
    let mut world = World::new(BackendKind::Systemd);
    let planned = world.plan(&policy(1, "[limit]\nmemory_bytes = 536870912\n"), Resources::default());
    world.give(&planned);
    world.now_ms = NOW_MS + 300_000;
    world.host.progress.valid_until_ms = world.now_ms + 1;
    let mut ways = planned.plans[0].ways.clone();
    let old = ways[0].phased.transition().clone();
    let rest = Transition { from: GIB, starts_at_ms: world.now_ms, ..old };
    ways[0].phased = phase(&rest, &Demand::default()).unwrap();
    let mut change = change(Resources::default());
    let again = world.with(|scene| plan_again(&world.plans[0], &change, &ways, scene)).unwrap();
    let (running, plan) = (world.plans[0].plan(), again.plan());
    assert!(plan.generation > running.generation && plan.starts_at_ms == world.now_ms);
    assert_eq!(
        (plan.effective_at_ms, &plan.decision, &plan.target),
        (EFFECTIVE_MS, &running.decision, &running.target)
    );
    assert!(plan.courses[0].setpoints.iter().all(|setpoint| setpoint.at_ms > world.now_ms && setpoint.value < GIB));
    assert!(plan.courses[0].setpoints.len() > 1);
    // Where it stands beyond what was decided, hosts take the way back alone.
    let line = "application=web tenant=shop unit=web.service class=burstable memory_bytes.limit=536870912>536870912";
    change.covers = vec![line.parse().unwrap()];
    let back = world.with(|scene| plan_again(&world.plans[0], &change, &ways, scene)).unwrap();
    let setpoints = &back.plan().courses[0].setpoints;
    assert_eq!((setpoints.len(), setpoints[0].value, setpoints[0].at_ms), (1, GIB / 2, EFFECTIVE_MS));
}
