//! Plans within what was approved, and plans that are not.

use std::collections::BTreeMap;

use super::change::cover;
use super::decision::{pinned, sent};
use super::fixture::{HOUR_MS, MINUTE_MS, World, deployment, t0};
use crate::cbor::{Bounded, Version};
use crate::envelope::{CgroupPath, Name};
use crate::id::{DeploymentId, HostId, PlanId};
use crate::plan::{CheckedPlan, Course, OnPressure, Plan, Setpoint, ShapedControl, Target, check};
use crate::quorum::change::{Change, Kind};
use crate::quorum::coverage::{NotCovered, TargetFacts, covers, keeps, spares, weight_of};
use crate::quorum::covers::{Cover, Reach, Span};
use crate::quorum::decision::{VerifiedDecision, verify};
use crate::units::{Class, ResourceKind, Resources};

fn decision(edit: impl FnOnce(&mut Change)) -> VerifiedDecision {
    let world = World::new();
    let text = world.text(|change| {
        change.covers = vec![cover()];
        edit(change);
    });
    let bytes = sent(&world, &text, &["bob", "carol"]).to_bytes();
    verify(&bytes, &pinned(&world), &deployment(), t0() + 30 * MINUTE_MS).unwrap()
}

fn facts() -> TargetFacts {
    TargetFacts {
        host: HostId::of(&[b"h"]),
        unit: Name::new("web.service"),
        cgroup: CgroupPath::new("/system.slice/web.service").unwrap(),
        uid: Some(1000),
        actual: BTreeMap::new(),
        present: BTreeMap::new(),
        now_ms: 0,
    }
}

fn course(control: ShapedControl, setpoints: &[(u64, u64)]) -> Course {
    let setpoint = |(minutes, value): &(u64, u64)| Setpoint { at_ms: t0() + minutes * MINUTE_MS, value: *value };
    Course { control, setpoints: Bounded::new(setpoints.iter().map(setpoint).collect()).unwrap() }
}

/// From half an hour after the proposal to its effective time.
fn plan(courses: Vec<Course>, edit: impl FnOnce(&mut Plan)) -> CheckedPlan {
    let mut plan = Plan {
        version: Version,
        deployment: deployment(),
        host: HostId::of(&[b"h"]),
        id: PlanId::of(&[b"p"]),
        epoch: 1,
        target: Target::Unit(Name::new("web.service").unwrap()),
        generation: 1,
        starts_at_ms: t0() + 30 * MINUTE_MS,
        effective_at_ms: t0() + 2 * HOUR_MS,
        ends_at_ms: None,
        not_after_ms: t0() + HOUR_MS,
        courses: Bounded::new(courses).unwrap(),
        on_pressure: OnPressure::Hold,
        hold_ms_max: 0,
        overrides: false,
        decision: None,
    };
    edit(&mut plan);
    check(plan).unwrap()
}

const GIB: u64 = 1 << 30;

fn memory(setpoints: &[(u64, u64)]) -> Vec<Course> {
    vec![course(ShapedControl::MemoryHigh, setpoints)]
}

#[test]
fn what_only_gives_back_from_where_a_grant_holds_it_is_no_squeeze() {
    // Before the change nobody limited it, and it may have so much after it; a grant has held it at a quarter of that.
    let decision = decision(|change| {
        let memory = ResourceKind::Memory as usize;
        change.covers[0].limit[memory] = Some(Span { before: None, after: Some(4 * GIB) });
        change.covers[0].guarantee[memory] = None;
    });
    let plan = plan(memory(&[(60, 2 * GIB), (120, 4 * GIB)]), |_| ());
    let (control, target) = (plan.plan().courses[0].control, plan.plan().courses[0].setpoints.last().unwrap().value);
    let outside = |seen: &TargetFacts| matches!(covers(&decision, &plan, seen), Err(NotCovered::Span { .. }));
    assert!(outside(&facts()), "nobody knows where it stands");
    let now_ms = plan.plan().starts_at_ms;
    let at = |value: u64, now_ms: u64| TargetFacts { present: [(control, value)].into(), now_ms, ..facts() };
    assert_eq!(covers(&decision, &plan, &at(target / 4, now_ms)), Ok(()));
    // Half of the way later it stands where the plan has it; one that stood higher would be squeezed.
    let later_ms = now_ms.midpoint(plan.plan().effective_at_ms);
    let line = plan.setpoint(control, target / 4, later_ms).unwrap();
    assert_eq!(covers(&decision, &plan, &at(line, later_ms)), Ok(()));
    assert!(outside(&at(target / 4 * 3, now_ms)));
    assert!(outside(&at(line + (1 << 20), later_ms)));
}

#[test]
fn what_gives_back_never_goes_lower_by_being_judged_again() {
    let decision = decision(|change| {
        let memory = ResourceKind::Memory as usize;
        change.covers[0].limit[memory] = Some(Span { before: None, after: Some(4 * GIB) });
        change.covers[0].guarantee[memory] = None;
    });
    let control = ShapedControl::MemoryHigh;
    for less in [1, 4096, control.slack(GIB)] {
        let plan = plan(memory(&[(60, GIB - less), (120, 4 * GIB)]), |_| ());
        let now_ms = plan.plan().starts_at_ms;
        let seen = TargetFacts { present: [(control, GIB)].into(), now_ms, ..facts() };
        assert!(matches!(covers(&decision, &plan, &seen), Err(NotCovered::Span { .. })), "{less}");
        // What rounding has made lower already only comes up.
        let rounded = TargetFacts { present: [(control, GIB - less)].into(), now_ms, ..facts() };
        assert_eq!(covers(&decision, &plan, &rounded), Ok(()));
    }
}

#[test]
fn above_what_a_policy_reaches_a_plan_without_a_decision_only_loosens() {
    let stood = BTreeMap::from([(ShapedControl::MemoryHigh, 2 * GIB)]);
    let of = |reach: Reach| decision(|change| change.covers = vec![Cover { reach, ..cover() }]);
    let unit = of(Reach::Unit(Name::new("web.service").unwrap()));
    let path = of(Reach::Cgroup(CgroupPath::new("/quotary/shop/a").unwrap()));
    let uid = of(Reach::Uid(1000));
    for (policy, cgroup, name, target_uid, is_held) in [
        (&unit, "/batch.slice", Some("batch.slice"), None, true),
        (&unit, "/batch.slice/db.service", Some("db.service"), None, false),
        (&unit, "/quotary/shop", None, None, false),
        (&path, "/quotary/shop", None, None, true),
        (&path, "/quotary", None, None, true),
        (&path, "/quotary/shop/a", None, None, false),
        (&path, "/quotary/sho", None, None, false),
        (&path, "/batch.slice", Some("batch.slice"), None, false),
        (&uid, "/quotary.slice", Some("quotary.slice"), None, true),
        (&uid, "/quotary", None, None, true),
        (&uid, "/quotary/run-a", None, Some(1001), false),
        (&uid, "/system.slice/db.service", Some("db.service"), None, false),
    ] {
        let (cgroup, unit) = (CgroupPath::new(cgroup).unwrap(), name.and_then(Name::new));
        let target = unit.clone().map_or_else(|| Target::Cgroup(cgroup.clone()), Target::Unit);
        let seen = TargetFacts { unit, cgroup, uid: target_uid, ..facts() };
        let to = |value| plan(memory(&[(60, 2 * GIB), (120, value)]), |plan| plan.target = target.clone());
        let refused = Err(NotCovered::Above(ShapedControl::MemoryHigh));
        let expected = if is_held { refused } else { Ok(()) };
        assert_eq!(spares(policy, &to(2 * GIB - 1), &seen, &stood), expected, "{seen:?}");
        assert_eq!(spares(policy, &to(2 * GIB), &seen, &stood), Ok(()));
        assert_eq!(spares(policy, &to(2 * GIB), &seen, &BTreeMap::new()), expected, "there was no limit: {seen:?}");
    }
    let revoked = decision(|change| (change.kind, change.document) = (Kind::RevokePolicy, String::new()));
    let batch = TargetFacts { unit: Name::new("a.slice"), cgroup: CgroupPath::new("/a.slice").unwrap(), ..facts() };
    assert_eq!(spares(&revoked, &plan(memory(&[(120, GIB)]), |_| ()), &batch, &stood), Ok(()));
}

#[test]
fn a_plan_between_before_and_after_is_covered_and_one_beyond_is_not() {
    let decision = decision(|_| ());
    let ok = plan(memory(&[(30, GIB), (75, 3 * GIB / 4), (120, GIB / 2)]), |_| ());
    assert_eq!(covers(&decision, &ok, &facts()), Ok(()));
    for value in [GIB / 2 - 1, GIB + 1] {
        let beyond = plan(memory(&[(30, GIB), (75, value), (120, GIB / 2)]), |_| ());
        let refused = NotCovered::Span { control: ShapedControl::MemoryHigh, value };
        assert_eq!(covers(&decision, &beyond, &facts()), Err(refused));
    }
    let other = plan(vec![course(ShapedControl::NetworkEgress, &[(120, 8_000)])], |_| ());
    assert_eq!(covers(&decision, &other, &facts()), Err(NotCovered::Control(ShapedControl::NetworkEgress)));
}

#[test]
fn a_target_is_what_the_host_itself_sees() {
    let decision = decision(|_| ());
    let courses = || memory(&[(120, GIB / 2)]);
    let good = plan(courses(), |_| ());
    let other_unit = TargetFacts { unit: Name::new("db.service"), ..facts() };
    assert_eq!(covers(&decision, &good, &other_unit), Err(NotCovered::Facts));
    let elsewhere = TargetFacts { host: HostId::of(&[b"other"]), ..facts() };
    assert_eq!(covers(&decision, &good, &elsewhere), Err(NotCovered::Host));
    let foreign = plan(courses(), |plan| plan.deployment = DeploymentId::of(&[b"x"]));
    assert_eq!(covers(&decision, &foreign, &facts()), Err(NotCovered::Deployment));
    let db = plan(courses(), |plan| plan.target = Target::Unit(Name::new("db.service").unwrap()));
    assert_eq!(covers(&decision, &db, &other_unit), Err(NotCovered::Target));
}

#[test]
fn a_path_reaches_what_is_below_it_and_nothing_beside_it() {
    let prefix = CgroupPath::new("/quotary/shop").unwrap();
    let decision = decision(|change| change.covers = vec![Cover { reach: Reach::Cgroup(prefix), ..cover() }]);
    for (path, is_covered) in
        [("/quotary/shop", true), ("/quotary/shop/run-1", true), ("/quotary/shopping", false), ("/quotary", false)]
    {
        let path = CgroupPath::new(path).unwrap();
        let seen = TargetFacts { unit: None, cgroup: path.clone(), ..facts() };
        let plan = plan(memory(&[(120, GIB / 2)]), |plan| plan.target = Target::Cgroup(path));
        assert_eq!(covers(&decision, &plan, &seen).is_ok(), is_covered, "{seen:?}");
    }
}

#[test]
fn uid_and_host_can_be_named() {
    let decision = decision(|change| {
        change.covers = vec![Cover { reach: Reach::Uid(1000), host: Some(HostId::of(&[b"h"])), ..cover() }];
    });
    let plan = plan(memory(&[(120, GIB / 2)]), |_| ());
    assert_eq!(covers(&decision, &plan, &facts()), Ok(()));
    for uid in [None, Some(0)] {
        assert_eq!(covers(&decision, &plan, &TargetFacts { uid, ..facts() }), Err(NotCovered::Target));
    }
}

#[test]
fn a_cliff_is_no_plan_where_a_slew_was_approved() {
    let decision = decision(|change| {
        change.slew = Resources { memory_bytes: Some(GIB / 5_400), ..Resources::default() };
    });
    let slow = plan(memory(&[(30, GIB), (120, GIB / 2)]), |_| ());
    assert_eq!(covers(&decision, &slow, &facts()), Ok(()));
    let fast = Err(NotCovered::Slew(ShapedControl::MemoryHigh));
    let steep = plan(memory(&[(30, GIB), (60, GIB / 2), (120, GIB / 2)]), |_| ());
    assert_eq!(covers(&decision, &steep, &facts()), fast);
    // One setpoint, at once: from where it stood before, or from what the host reads.
    let cliff = plan(memory(&[(120, GIB / 2)]), |plan| plan.starts_at_ms = plan.effective_at_ms);
    assert_eq!(covers(&decision, &cliff, &facts()), fast);
    let there_already = BTreeMap::from([(ShapedControl::MemoryHigh, GIB / 2)]);
    assert_eq!(covers(&decision, &cliff, &TargetFacts { actual: there_already, ..facts() }), Ok(()));
    let jump = BTreeMap::from([(ShapedControl::MemoryHigh, 4 * GIB)]);
    assert_eq!(covers(&decision, &slow, &TargetFacts { actual: jump, ..facts() }), fast);
}

#[test]
fn a_plan_is_not_ahead_of_its_change_and_an_emergencys_plan_ends_with_it() {
    let early = plan(memory(&[(119, GIB / 2)]), |plan| plan.effective_at_ms -= MINUTE_MS);
    assert_eq!(covers(&decision(|_| ()), &early, &facts()), Err(NotCovered::TooEarly));
    let before = plan(memory(&[(120, GIB / 2)]), |plan| plan.starts_at_ms = t0() - 1);
    assert_eq!(covers(&decision(|_| ()), &before, &facts()), Err(NotCovered::TooEarly));

    let world = World::new();
    let until_ms = t0() + 3 * HOUR_MS;
    let text = world.text(|change| {
        (change.way, change.until_ms) = (crate::quorum::change::Way::Freeze, Some(until_ms));
        change.covers = vec![cover()];
    });
    let bytes = sent(&world, &text, &["bob"]).to_bytes();
    let freeze = verify(&bytes, &pinned(&world), &deployment(), t0() + 30 * MINUTE_MS).unwrap();
    for (ends_at_ms, expected) in
        [(None, Err(NotCovered::TooLong)), (Some(until_ms + 1), Err(NotCovered::TooLong)), (Some(until_ms), Ok(()))]
    {
        let plan = plan(memory(&[(120, GIB / 2)]), |plan| plan.ends_at_ms = ends_at_ms);
        assert_eq!(covers(&freeze, &plan, &facts()), expected);
    }
}

#[test]
fn pressure_holds_a_plan_unless_people_signed_that_it_goes_on() {
    let proceeds = plan(memory(&[(120, GIB / 2)]), |plan| plan.on_pressure = OnPressure::Proceed);
    assert_eq!(covers(&decision(|_| ()), &proceeds, &facts()), Err(NotCovered::Pressure));
    let allowed = decision(|change| change.on_pressure = OnPressure::Proceed);
    assert_eq!(covers(&allowed, &proceeds, &facts()), Ok(()));
}

#[test]
fn every_control_is_held_against_its_resource() {
    let span = |before, after| Some(Span { before, after });
    let decision = decision(|change| {
        let mut all = cover();
        all.class = Class::BestEffort;
        all.guarantee = [span(Some(500), Some(2_000)), span(None, Some(GIB)), None, None, None];
        all.limit = [
            span(None, Some(1_000)),
            span(Some(GIB), None),
            span(Some(GIB), Some(GIB)),
            span(Some(4096), Some(8192)),
            span(Some(8_000), Some(9_000)),
        ];
        change.covers = vec![all];
    });
    for (control, good, bad) in [
        (ShapedControl::CpuWeight, [50, 200], vec![49, 201]),
        (ShapedControl::CpuQuota, [1_000, 10_000_000], vec![999]),
        (ShapedControl::MemoryHigh, [GIB, 1 << 60], vec![GIB - 1]),
        (ShapedControl::MemoryLow, [0, GIB], vec![GIB + 1]),
        (ShapedControl::Storage, [GIB, GIB], vec![GIB - 1, GIB + 1]),
        (ShapedControl::IoReadMax, [4096, 8192], vec![8193]),
        (ShapedControl::IoWriteMax, [4096, 8192], vec![8193]),
        (ShapedControl::NetworkEgress, [8_000, 9_000], vec![9_001]),
        (ShapedControl::IoWeight, [1, 100], vec![101]),
        (ShapedControl::CpuIdle, [0, 1], vec![]),
    ] {
        for value in good.into_iter().chain(bad.iter().copied()) {
            let plan = plan(vec![course(control, &[(120, value)])], |_| ());
            assert_eq!(covers(&decision, &plan, &facts()).is_ok(), !bad.contains(&value), "{control} {value}");
        }
    }
    assert_eq!([weight_of(0), weight_of(5_000), weight_of(u64::MAX)], [1, 500, 10_000]);
}

#[test]
fn weights_of_disks_and_idle_follow_from_the_class_alone() {
    for (class, control, value, is_covered) in [
        (Class::Guaranteed, ShapedControl::IoWeight, 99, false),
        (Class::Guaranteed, ShapedControl::IoWeight, 500, true),
        (Class::Burstable, ShapedControl::IoWeight, 100, true),
        (Class::Burstable, ShapedControl::IoWeight, 99, false),
        (Class::Burstable, ShapedControl::CpuIdle, 1, false),
        (Class::BestEffort, ShapedControl::IoWeight, 101, false),
    ] {
        let decision = decision(|change| change.covers = vec![Cover { class, ..cover() }]);
        let plan = plan(vec![course(control, &[(120, value)])], |_| ());
        assert_eq!(covers(&decision, &plan, &facts()).is_ok(), is_covered, "{class} {control} {value}");
    }
}

/// A best-effort policy over all that a plan can move: from nothing to these.
fn in_force(guarantee: [Option<u64>; 5], limit: [Option<u64>; 5]) -> VerifiedDecision {
    let span = |after: Option<u64>| after.map(|after| Span { before: None, after: Some(after) });
    let cover = Cover { guarantee: guarantee.map(span), limit: limit.map(span), ..cover() };
    decision(|change| change.covers = vec![cover])
}

#[test]
fn without_a_decision_a_plan_keeps_between_what_the_policy_guarantees_and_its_limit() {
    let policy = in_force(
        [Some(500), Some(GIB), None, None, None],
        [Some(1_000), Some(2 * GIB), Some(3 * GIB), Some(8192), Some(9_000)],
    );
    for (control, good, bad) in [
        (ShapedControl::CpuWeight, [50, 100], vec![49, 101]),
        (ShapedControl::CpuQuota, [500, 1_000], vec![499, 1_001]),
        (ShapedControl::MemoryHigh, [GIB, 2 * GIB], vec![GIB - 1, 2 * GIB + 1]),
        (ShapedControl::MemoryLow, [GIB, 2 * GIB], vec![GIB - 1, 2 * GIB + 1]),
        (ShapedControl::Storage, [1 << 20, 3 * GIB], vec![3 * GIB + 1]),
        (ShapedControl::IoReadMax, [4096, 8192], vec![8193]),
        (ShapedControl::IoWriteMax, [4096, 8192], vec![8193]),
        (ShapedControl::NetworkEgress, [8_000, 9_000], vec![9_001]),
        (ShapedControl::IoWeight, [100, 100], vec![99, 101]),
        (ShapedControl::CpuIdle, [0, 0], vec![1]),
    ] {
        for value in good.into_iter().chain(bad.iter().copied()) {
            let plan = plan(vec![course(control, &[(120, value)])], |_| ());
            assert_eq!(keeps(&policy, &plan, &facts()).is_ok(), !bad.contains(&value), "{control} {value}");
        }
    }
}

#[test]
fn without_a_decision_one_setpoint_beyond_is_enough_and_tells_what_would_be_within() {
    let policy = in_force([None; 5], [None, Some(2 * GIB), None, None, None]);
    let beyond = plan(memory(&[(30, GIB), (75, 2 * GIB + 1), (120, GIB)]), |_| ());
    let control = ShapedControl::MemoryHigh;
    let refused = NotCovered::Beyond { control, value: 2 * GIB + 1, least: 1 << 20, most: 2 * GIB };
    assert_eq!(keeps(&policy, &beyond, &facts()), Err(refused));
    assert!(refused.to_string().contains("gives 1048576 to 2147483648 bytes"), "{refused}");
}

#[test]
fn a_policy_binds_nobody_whom_it_does_not_reach_and_nothing_of_which_it_is_silent() {
    let policy = in_force([None; 5], [None, Some(2 * GIB), None, None, None]);
    let far = plan(memory(&[(120, 1 << 40)]), |_| ());
    assert!(keeps(&policy, &far, &facts()).is_err());
    let db = Target::Unit(Name::new("db.service").unwrap());
    let elsewhere = plan(memory(&[(120, 1 << 40)]), |plan| plan.target = db);
    assert_eq!(keeps(&policy, &elsewhere, &TargetFacts { unit: Name::new("db.service"), ..facts() }), Ok(()));
    let egress = plan(vec![course(ShapedControl::NetworkEgress, &[(120, 8_000)])], |_| ());
    assert_eq!(keeps(&policy, &egress, &facts()), Ok(()));
    assert_eq!(keeps(&policy, &elsewhere, &facts()), Err(NotCovered::Facts));
    let foreign = plan(memory(&[(120, 1 << 40)]), |plan| plan.host = HostId::of(&[b"other"]));
    assert_eq!(keeps(&policy, &foreign, &facts()), Err(NotCovered::Host));
}

#[test]
fn a_policy_without_a_limit_has_no_most_and_a_revoked_one_binds_nobody() {
    let policy = in_force([None, Some(GIB), None, None, None], [None; 5]);
    let [large, small] = [1 << 50, GIB - 1].map(|value| plan(memory(&[(120, value)]), |_| ()));
    assert_eq!(keeps(&policy, &large, &facts()), Ok(()));
    assert!(keeps(&policy, &small, &facts()).is_err());
    let revoked = decision(|change| {
        (change.kind, change.document) = (Kind::RevokePolicy, String::new());
        change.covers = vec![cover()];
    });
    assert_eq!(keeps(&revoked, &small, &facts()), Ok(()));
}

#[test]
fn where_two_covers_of_a_policy_reach_a_target_each_holds() {
    let of = |reach, most| {
        let limit = [None, Some(Span { before: None, after: Some(most) }), None, None, None];
        Cover { reach, limit, guarantee: [None; 5], ..cover() }
    };
    let policy = decision(|change| change.covers = vec![of(cover().reach, 2 * GIB), of(Reach::Uid(1000), GIB)]);
    let [within, beyond] = [GIB, GIB + 1].map(|value| plan(memory(&[(120, value)]), |_| ()));
    assert_eq!(keeps(&policy, &within, &facts()), Ok(()));
    assert!(keeps(&policy, &beyond, &facts()).is_err());
}
