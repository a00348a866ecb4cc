//! Plans of policies: they move what people decided, and nothing else.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{CgroupPath, EventKind, Mode, Name};
use quotary_common::plan::{Course, Plan, Setpoint, Target, VerifiedPlan};
use quotary_common::quorum::covers::Reach;

use super::{BOOT, BootId, Host, ShapedControl, Value, kinds, one, verified_with};
use crate::authority::tests::fixture::{MIB, NOW, PROPOSED, World, cover, nobody};
use crate::authority::{Lack, Trust};
use crate::enforce::Outcome;
use crate::shape::shaper::OfGrants;

/// Weight 50 is what is decided for `web.service`.
fn decision() -> Vec<u8> {
    World::new().decision(|_| ())
}

fn give(host: &mut Host, trust: Trust, plans: Vec<VerifiedPlan>) -> Outcome {
    let now = host.now;
    host.shaper().note_trust(trust, &plans, now);
    host.give(plans)
}

/// Whom the host believes when the verifier says that these plans' decisions are in force.
fn in_force(plans: &[&VerifiedPlan], host: &Host) -> Trust {
    let plans: Vec<_> = plans.iter().map(|plan| plan.checked()).collect();
    World::new().trust_with(&plans, host.now.unix_ms)
}

/// A plan of a minute to a weight, after `edit`.
fn plan(host: &Host, generation: u64, weight: u64, edit: impl FnOnce(&mut Plan)) -> VerifiedPlan {
    let mut plan = host.plan(generation, weight, 600_000).checked().plan().clone();
    edit(&mut plan);
    one(plan, host.now.boottime_ms, 600_000)
}

fn decided(host: &Host, weight: u64) -> VerifiedPlan {
    plan(host, 1, weight, |plan| plan.decision = Some(decision()))
}

fn give_decided(host: &mut Host, trust: Trust, weight: u64) -> Outcome {
    let plan = decided(host, weight);
    give(host, trust, vec![plan])
}

/// A host that has a `db.service` too.
fn two_services() -> Host {
    let host = Host::new(Mode::Enforce);
    let values = host.fake.0.lock().unwrap().units["web.service"].clone();
    host.fake.0.lock().unwrap().units.insert("db.service".to_owned(), values);
    host
}

fn of_db(plan: &mut Plan) {
    (plan.target, plan.id) = (Target::Unit(Name::lossy("db.service")), quotary_common::id::PlanId::new([9; 32]));
}

fn db_weight(host: &Host) -> Value {
    host.fake.get("db.service", ShapedControl::CpuWeight)
}

fn told(host: &mut Host) -> String {
    let [(_, _, why)] = host.shaper().not_followed().try_into().unwrap();
    why
}

#[test]
fn a_plan_that_nobody_decided_moves_nothing_is_told_once_and_holds_up_no_other() {
    let strangers = World::of(0, &["alice", "eve", "mallory"]);
    let theirs = strangers.sent(&strangers.text(|_| ()), &["eve", "mallory"]).to_bytes();
    let mut host = two_services();
    let forged = plan(&host, 1, 50, |plan| plan.decision = Some(theirs));
    let by_hand = plan(&host, 1, 50, of_db);
    let plans = || vec![forged.clone(), by_hand.clone()];
    give(&mut host, World::new().trust(), plans());
    let mut outcome = host.pass(30);
    outcome.append(give(&mut host, World::new().trust(), plans()));
    outcome.append(host.pass(35));
    assert_eq!((host.weight(), db_weight(&host)), (Value::Value(100), Value::Value(50)));
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused]);
    assert!(told(&mut host).contains("its quorum decision does not hold: its roster is not the pinned one"));
    assert!(host.state_dir.read(crate::authority::DECISIONS_FILE, 1).unwrap().is_none());
}

#[test]
fn what_people_decided_is_moved_over_a_crash_and_by_no_restart_further() {
    let mut host = Host::new(Mode::Enforce);
    give_decided(&mut host, World::new().trust(), 50);
    host.pass(20);
    assert_ne!(host.weight(), Value::Value(100));
    host.open(BOOT);
    give_decided(&mut host, World::new().trust(), 50);
    host.pass(45);
    assert_eq!(host.weight(), Value::Value(50));
    // Beyond the decision, and under the name of the plan that runs.
    let outcome = give_decided(&mut host, World::new().trust(), 49);
    assert_eq!(host.weight(), Value::Value(100), "it is as if it were not given");
    assert!(!outcome.writes.is_empty());
    assert_eq!(kinds(&host.pass(5)), [EventKind::PlanRefused]);
    assert!(told(&mut host).contains("not between what held before the change and what holds after it"));
}

#[test]
fn a_plan_that_waits_for_who_decides_is_not_told_as_refused_and_begins_when_that_is_known() {
    let mut host = Host::new(Mode::Enforce);
    let asking = Trust { lack: Lack::Asking, ..nobody() };
    give_decided(&mut host, asking, 50);
    let outcome = host.pass(5);
    assert!(outcome.events.is_empty() && outcome.writes.is_empty());
    assert!(told(&mut host).contains("it waits until this host has learned who decides"));
    give_decided(&mut host, World::new().trust(), 50);
    host.pass(60);
    assert_eq!(host.weight(), Value::Value(50));
}

#[test]
fn where_nobody_decides_a_decision_moves_nothing_and_plans_by_hand_do() {
    let mut host = two_services();
    let plans = vec![decided(&host, 50), plan(&host, 1, 50, of_db)];
    give(&mut host, nobody(), plans);
    let outcome = host.pass(65);
    assert_eq!((host.weight(), db_weight(&host)), (Value::Value(100), Value::Value(50)));
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused]);
}

#[test]
fn a_plan_by_hand_ends_when_a_policy_comes_into_force_that_it_is_beyond() {
    let both = World::new().decision(|change| {
        change.covers = ["db.service", "web.service"].map(|unit| cover(Reach::Unit(Name::lossy(unit)))).into();
    });
    let mut host = two_services();
    let policy = plan(&host, 1, 50, |plan| {
        of_db(plan);
        plan.decision = Some(both);
    });
    let by_hand = plan(&host, 1, 40, |_| ());
    let plans = || vec![policy.clone(), by_hand.clone()];
    give(&mut host, World::new().trust(), plans());
    host.pass(50);
    give(&mut host, World::new().trust(), plans());
    host.pass(12);
    assert_eq!((host.weight(), db_weight(&host)), (Value::Value(40), Value::Value(50)));
    let trust = in_force(&[&policy], &host);
    give(&mut host, trust, plans());
    let outcome = host.pass(5);
    assert_eq!((host.weight(), db_weight(&host)), (Value::Value(100), Value::Value(50)));
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused]);
    assert!(told(&mut host).contains("policy `web` is in force: cpu-weight would be 40"));
}

#[test]
fn a_slice_that_was_tightened_before_a_policy_came_into_force_is_let_go_then_and_stays_so() {
    for (weight, stays) in [(40, false), (150, true)] {
        let mut host = Host::new(Mode::Enforce);
        let values = host.fake.0.lock().unwrap().units["web.service"].clone();
        host.fake.0.lock().unwrap().units.insert("batch.slice".to_owned(), values);
        let policy = decided(&host, 50);
        let of_slice = plan(&host, 1, weight, |plan| {
            (plan.target, plan.id) =
                (Target::Unit(Name::lossy("batch.slice")), quotary_common::id::PlanId::new([9; 32]));
        });
        let plans = || vec![policy.clone(), of_slice.clone()];
        give(&mut host, World::new().trust(), plans());
        host.pass(62);
        let slice = |host: &Host| host.fake.get("batch.slice", ShapedControl::CpuWeight);
        assert_eq!((host.weight(), slice(&host)), (Value::Value(50), Value::Value(weight)));
        for _ in 0..2 {
            let trust = in_force(&[&policy], &host);
            give(&mut host, trust, plans());
            host.pass(5);
        }
        assert_eq!(slice(&host), Value::Value(if stays { weight } else { 100 }));
        if !stays {
            let why = told(&mut host);
            assert!(why.contains("what the policy reaches may be in this group, and cpu-weight of it would"), "{why}");
        }
    }
}

#[test]
fn going_back_asks_nobody() {
    let lost = || Trust { lack: Lack::Because("the pin is damaged".to_owned()), ..nobody() };
    for back in 0..3 {
        let mut host = Host::new(Mode::Enforce);
        give_decided(&mut host, World::new().trust(), 50);
        host.pass(65);
        assert_eq!(host.weight(), Value::Value(50));
        let now = host.now;
        match back {
            // No longer given; a stop; the lease is over.
            0 => drop(give(&mut host, lost(), vec![])),
            1 => drop(host.shaper().restore_all(now)),
            _ => drop(host.pass(700)),
        }
        assert_eq!(host.weight(), Value::Value(100), "{back}");
    }
}

#[test]
fn a_refused_plan_does_not_end_the_one_that_it_would_take_the_place_of() {
    let mut host = Host::new(Mode::Enforce);
    give_decided(&mut host, World::new().trust(), 50);
    host.pass(65);
    let newer = plan(&host, 2, 40, |plan| plan.decision = Some(decision()));
    give(&mut host, World::new().trust(), vec![newer]);
    let outcome = host.pass(5);
    assert_eq!(host.weight(), Value::Value(50));
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused]);
}

#[test]
fn a_first_step_is_held_against_where_the_control_stands_and_not_against_rounding() {
    const MEMORY: ShapedControl = ShapedControl::MemoryHigh;
    let slew = || World::new().decision(|change| change.slew.memory_bytes = Some(10 * MIB));
    // 24 megabytes in five seconds are slow enough, some thousands are not, and more than there is may be at once.
    for (stands, begins) in [(1_024 * MIB, true), (1_050 * MIB + 65_536, true), (4_096 * MIB, false), (300 * MIB, true)]
    {
        let mut host = Host::new(Mode::Enforce);
        host.fake.set("web.service", MEMORY, Value::Value(stands));
        let plan = plan(&host, 1, 50, |plan| {
            let points = [(plan.starts_at_ms + 5_000, 1_000 * MIB), (plan.effective_at_ms, 512 * MIB)];
            let setpoints = Bounded::new(points.map(|(at_ms, value)| Setpoint { at_ms, value }).into()).unwrap();
            plan.courses = Bounded::new(vec![Course { control: MEMORY, setpoints }]).unwrap();
            plan.decision = Some(slew());
        });
        give(&mut host, World::new().trust(), vec![plan]);
        let outcome = host.pass(3);
        assert_eq!(outcome.events.is_empty(), begins, "{stands}: {:?}", host.shaper().not_followed());
    }
}

/// A decision that lets the weight go down by one in five seconds.
fn slow() -> Vec<u8> {
    World::new().decision(|change| change.slew.cpu_millicores = Some(2))
}

/// A plan that was to begin when its change was proposed, and whose course has passed.
fn held_back(plan: &mut Plan) {
    plan.starts_at_ms = PROPOSED;
    let points = [(NOW - 1, 50), (plan.effective_at_ms, 50)];
    let setpoints = Bounded::new(points.map(|(at_ms, value)| Setpoint { at_ms, value }).into()).unwrap();
    plan.courses = Bounded::new(vec![Course { control: ShapedControl::CpuWeight, setpoints }]).unwrap();
    plan.decision = Some(slow());
}

/// Passes so many seconds, in each of which the weight must not be below what five seconds each let it go down from
/// 100, `ahead_s` seconds before now included.
fn goes_slowly(host: &mut Host, ahead_s: u64, seconds: u64) {
    for second in 1..=seconds {
        host.pass(1);
        let Value::Value(weight) = host.weight() else { unreachable!("a weight") };
        assert!(weight >= 100 - (ahead_s + second).div_ceil(5), "{weight} after {second} s");
    }
}

#[test]
fn what_was_kept_back_goes_no_faster_than_people_decided_and_gets_there() {
    let mut host = Host::new(Mode::Enforce);
    let late = plan(&host, 1, 50, held_back);
    give(&mut host, World::new().trust(), vec![late]);
    // The minute that a plan may be late is no cliff either.
    goes_slowly(&mut host, 61, 170);
    assert_ne!(host.weight(), Value::Value(50));
    host.pass(60);
    assert_eq!(host.weight(), Value::Value(50));
}

#[test]
fn a_plan_that_takes_another_ones_place_or_is_edited_goes_no_faster_either() {
    for generation in [1, 2] {
        let mut host = Host::new(Mode::Enforce);
        let stays = plan(&host, 1, 100, |plan| plan.decision = Some(slow()));
        give(&mut host, World::new().trust(), vec![stays]);
        host.pass(40);
        assert_eq!(host.weight(), Value::Value(100));
        let falls = plan(&host, generation, 50, held_back);
        give(&mut host, World::new().trust(), vec![falls]);
        goes_slowly(&mut host, 61, 100);
        let Value::Value(weight) = host.weight() else { unreachable!("a weight") };
        assert!(weight <= 85, "{weight}: but it goes");
    }
}

#[test]
fn a_plan_as_fast_as_people_decided_is_in_time_though_it_comes_a_little_late_and_is_made_anew() {
    let effective_ms = NOW + 300_000;
    let on_the_way = |plan: &mut Plan| {
        (plan.effective_at_ms, plan.decision) = (effective_ms, Some(slow()));
        let setpoints = Bounded::new(vec![Setpoint { at_ms: effective_ms, value: 50 }]).unwrap();
        plan.courses = Bounded::new(vec![Course { control: ShapedControl::CpuWeight, setpoints }]).unwrap();
    };
    let mut host = Host::new(Mode::Enforce);
    let first = plan(&host, 1, 50, |plan| {
        on_the_way(plan);
        plan.starts_at_ms = NOW + 50_000;
    });
    host.now.unix_ms = NOW + 80_000;
    give(&mut host, World::new().trust(), vec![first]);
    let mut outcome = host.pass(100);
    let anew = plan(&host, 2, 50, |plan| {
        on_the_way(plan);
        plan.starts_at_ms = NOW + 175_000;
    });
    give(&mut host, World::new().trust(), vec![anew]);
    outcome.append(host.pass(121));
    assert_eq!(host.weight(), Value::Value(50));
    assert!(outcome.events.is_empty(), "{:?}", outcome.events);
}

#[test]
fn a_restart_brings_back_at_once_what_was_in_force_before_it() {
    let mut host = Host::new(Mode::Enforce);
    let decided = plan(&host, 1, 50, held_back);
    give(&mut host, World::new().trust(), vec![decided.clone()]);
    host.pass(300);
    assert_eq!(host.weight(), Value::Value(50));
    let given = one(decided.checked().plan().clone(), host.now.boottime_ms, 600_000);
    let trust = in_force(&[&decided], &host);
    give(&mut host, trust, vec![given]);
    host.open(BootId::new([9; 16]));
    host.fake.set("web.service", ShapedControl::CpuWeight, Value::Value(100));
    let plans = [decided.checked().plan().clone()];
    let given = verified_with(vec![], &plans, (BootId::new([9; 16]), host.now.boottime_ms, 600_000));
    give(&mut host, World::new().trust(), given.1);
    host.pass(60);
    assert_eq!(host.weight(), Value::Value(50));
}

#[test]
fn whose_a_scope_is_the_journal_of_grants_says() {
    const SCOPE: &str = "quotary-abc.scope";
    for (uid, weight) in [(1000, 50), (1001, 100)] {
        let mut host = Host::new(Mode::Enforce);
        let values = host.fake.0.lock().unwrap().units["web.service"].clone();
        host.fake.0.lock().unwrap().units.insert(SCOPE.to_owned(), values);
        let uids = [(CgroupPath::lossy("/system.slice/quotary-abc.scope"), uid)].into();
        host.shaper().note_grants(OfGrants { uids, scopes: [SCOPE.to_owned()].into(), ..OfGrants::default() });
        let of_uid = World::new().decision(|change| change.covers = vec![cover(Reach::Uid(1000))]);
        let plan = plan(&host, 1, 50, |plan| {
            (plan.target, plan.decision) = (Target::Unit(Name::lossy(SCOPE)), Some(of_uid));
        });
        give(&mut host, World::new().trust(), vec![plan]);
        host.pass(65);
        assert_eq!(host.fake.get(SCOPE, ShapedControl::CpuWeight), Value::Value(weight), "uid {uid}");
    }
}
