//! What comes between a plan and its end: newer plans, other writers, units that were away, undos that fail.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{EventKind, Mode, Name};
use quotary_common::id::{BootId, PlanId};
use quotary_common::plan::{Course, Plan, Setpoint, ShapedControl, Target, VerifiedPlan};

use super::{BOOT, Host, MIB, kinds, one};
use crate::shape::backend::Override;
use crate::shape::controller::Value;
use crate::shape::record::Record;

/// A newer plan, for memory alone or for both.
fn newer(host: &Host, weight: Option<u64>) -> VerifiedPlan {
    let like = host.plan(2, weight.unwrap_or(50), 600_000).checked().plan().clone();
    let setpoints = Bounded::new(vec![Setpoint { at_ms: like.effective_at_ms, value: 512 * MIB }]).unwrap();
    let memory = Course { control: ShapedControl::MemoryHigh, setpoints };
    let courses = weight.map(|_| like.courses.clone().into_vec()).unwrap_or_default();
    let courses = Bounded::new(courses.into_iter().chain([memory]).collect()).unwrap();
    one(Plan { courses, ..like }, host.now.boottime_ms, 600_000)
}

fn shaped() -> Host {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(65);
    assert_eq!(host.weight(), Value::Value(50));
    host
}

#[test]
fn a_unit_that_was_away_goes_back_to_what_stood_there_before_our_first_write() {
    for is_away_meanwhile in [false, true] {
        let mut host = shaped();
        let values = host.fake.0.lock().unwrap().units.remove("web.service").unwrap();
        host.pass(3);
        let next = newer(&host, None);
        if is_away_meanwhile {
            host.give(vec![next.clone()]);
            host.pass(2);
        }
        host.fake.0.lock().unwrap().units.insert("web.service".to_owned(), values);
        host.pass(3);
        host.give(vec![next]);
        host.pass(60);
        assert_eq!(host.weight(), Value::Value(100), "given while it was away: {is_away_meanwhile}");
    }
}

#[test]
fn a_newer_plan_that_is_refused_or_has_its_time_later_moves_nothing() {
    let mut host = shaped();
    host.fake.0.lock().unwrap().overridden = Some(Override::Runtime);
    host.give(vec![newer(&host, Some(30))]);
    let outcome = host.pass(60);
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused]);
    assert_eq!((host.weight(), outcome.writes.len()), (Value::Value(50), 0));

    let mut host = shaped();
    let like = host.plan(2, 30, 600_000).checked().plan().clone();
    let starts_at_ms = host.now.unix_ms + 100_000;
    let effective_at_ms = starts_at_ms + 60_000;
    let setpoints = Bounded::new(vec![Setpoint { at_ms: effective_at_ms, value: 30 }]).unwrap();
    let courses = Bounded::new(vec![Course { control: ShapedControl::CpuWeight, setpoints }]).unwrap();
    let later = Plan { starts_at_ms, effective_at_ms, not_after_ms: effective_at_ms, courses, ..like };
    host.give(vec![one(later, host.now.boottime_ms, 600_000)]);
    let outcome = host.pass(90);
    assert_eq!((host.weight(), outcome.writes.len()), (Value::Value(50), 0), "it has not begun");
    let outcome = host.pass(80);
    assert_eq!(host.weight(), Value::Value(30));
    assert!(outcome.writes.iter().all(|write| write.plan == Some(PlanId::new([2; 32]))));
}

#[test]
fn the_plan_that_is_followed_ends_in_its_time_whatever_was_to_come_after_it() {
    let mut host = shaped();
    host.fake.0.lock().unwrap().overridden = Some(Override::Runtime);
    let like = newer(&host, Some(30)).checked().plan().clone();
    host.give(vec![one(Plan { ends_at_ms: None, ..like }, host.now.boottime_ms, 9_000_000)]);
    host.pass(600);
    assert_eq!(host.weight(), Value::Value(100));
    assert!(host.shaper().targets().is_empty());
}

#[test]
fn another_writers_value_outlives_the_plan() {
    let mut host = shaped();
    host.fake.set("web.service", ShapedControl::CpuWeight, Value::Value(777));
    assert!(kinds(&host.pass(10)).contains(&EventKind::Contested));
    host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(777));
    assert!(host.shaper().held.targets.is_empty());
}

#[test]
fn an_undo_that_fails_is_not_told_as_done_and_is_tried_again_less_and_less_often() {
    let mut host = shaped();
    host.fake.0.lock().unwrap().is_refusing = true;
    let mut outcome = host.give(vec![]);
    outcome.append(host.pass(700));
    assert_eq!((kinds(&outcome), outcome.writes.len()), (vec![], 0));
    assert_eq!(host.weight(), Value::Value(50));
    host.fake.0.lock().unwrap().is_refusing = false;
    let outcome = host.pass(61);
    assert_eq!((kinds(&outcome), outcome.writes.len()), (vec![EventKind::Restored], 1));
    assert_eq!(host.weight(), Value::Value(100));
}

#[test]
fn a_plan_that_has_begun_is_taken_up_again_whatever_came_between() {
    let mut stopped = shaped();
    stopped.pass(60);
    let now = stopped.now;
    stopped.shaper().restore_all(now);
    stopped.open(BOOT);
    let mut booted = shaped();
    booted.pass(60);
    booted.fake.set("web.service", ShapedControl::CpuWeight, Value::Value(100));
    booted.open(BootId::new([2; 16]));
    booted.open(BOOT);
    let mut silent = Host::new(Mode::Enforce);
    silent.give(vec![silent.plan(1, 50, 70_000)]);
    silent.pass(300);
    for (what, mut host) in [("a stop", stopped), ("a boot", booted), ("a silent verifier", silent)] {
        assert_eq!(host.weight(), Value::Value(100), "{what}");
        assert!(host.now.unix_ms > host.plan(1, 50, 1).checked().plan().not_after_ms);
        host.give(vec![host.plan(1, 50, 600_000)]);
        let outcome = host.pass(60);
        assert_eq!((host.weight(), kinds(&outcome)), (Value::Value(50), vec![EventKind::PlanLate]), "{what}");
    }
    let mut late = Host::new(Mode::Enforce);
    late.pass(125);
    late.give(vec![late.plan(1, 50, 600_000)]);
    assert_eq!(kinds(&late.pass(3)), [EventKind::PlanRefused], "one that never began comes too late");
}

#[test]
fn an_idle_group_after_a_weight_takes_what_stood_before_both_as_its_own() {
    let mut host = shaped();
    host.fake.0.lock().unwrap().units.get_mut("web.service").unwrap().insert(ShapedControl::CpuIdle, Value::Value(0));
    // What stands in the manager's one place for both is our own by now: nobody's override.
    host.fake.0.lock().unwrap().overridden = Some(Override::Runtime);
    let like = host.plan(2, 50, 600_000).checked().plan().clone();
    let setpoints = Bounded::new(vec![Setpoint { at_ms: like.effective_at_ms, value: 1 }]).unwrap();
    let courses = Bounded::new(vec![Course { control: ShapedControl::CpuIdle, setpoints }]).unwrap();
    host.give(vec![one(Plan { courses, ..like }, host.now.boottime_ms, 600_000)]);
    let outcome = host.pass(60);
    assert!(!kinds(&outcome).contains(&EventKind::PlanRefused), "{:?}", kinds(&outcome));
    let priors = host.shaper().held.targets.values().flat_map(|held| held.priors.values()).cloned();
    let drop_ins: Vec<Option<Vec<u8>>> = priors.map(|prior| prior.drop_in).collect();
    assert_eq!(drop_ins, [Some(b"first".to_vec()), Some(b"first".to_vec())]);
}

#[test]
fn a_slice_that_holds_a_protected_unit_is_not_moved() {
    let mut host = Host::new(Mode::Enforce);
    let values = host.fake.0.lock().unwrap().units["web.service"].clone();
    host.fake.0.lock().unwrap().units.insert("apps.slice".to_owned(), values);
    let inside = host.temp.path().join("sys/fs/cgroup/system.slice/apps.slice/apps-admin.slice/ssh.service");
    std::fs::create_dir_all(&inside).unwrap();
    let like = host.plan(1, 50, 600_000).checked().plan().clone();
    let given = |host: &Host| {
        one(Plan { target: Target::Unit(Name::lossy("apps.slice")), ..like.clone() }, host.now.boottime_ms, 600_000)
    };
    host.give(vec![given(&host)]);
    assert_eq!(kinds(&host.pass(65)), [EventKind::PlanRefused]);
    let [(_, _, why)] = &host.shaper().not_followed()[..] else { unreachable!() };
    assert!(why.contains("ssh.service"), "{why}");
    std::fs::remove_dir(&inside).unwrap();
    host.pass(65);
    assert_eq!(host.fake.get("apps.slice", ShapedControl::CpuWeight), Value::Value(50));
}

#[test]
fn a_controller_that_comes_on_is_told_for_each_group_above() {
    for shows_after in [0, 4] {
        let mut host = Host::new(Mode::Enforce);
        host.fake.0.lock().unwrap().is_first_use = true;
        host.fake.0.lock().unwrap().shows_after = shows_after;
        host.give(vec![host.plan(1, 50, 600_000)]);
        let outcome = host.pass(65);
        let told = outcome.writes.iter().filter(|write| write.control.as_str() == "cgroup.subtree_control");
        let told: Vec<(String, String, String)> = told
            .map(|write| {
                (write.cgroup.to_string(), write.before.as_ref().unwrap().to_string(), write.after.to_string())
            })
            .collect();
        let of = |group: &str| (group.to_owned(), "memory".to_owned(), "cpu memory".to_owned());
        assert_eq!(told, [of("/system.slice"), of("/")], "{shows_after}");
    }
}

#[test]
fn an_undo_that_a_crash_broke_off_is_finished_at_the_start_and_a_plan_given_then_finds_no_other_writer() {
    let mut host = shaped();
    // Killed within the undo: the value is back, and nobody wrote that down.
    let target = Target::Unit(Name::lossy("web.service"));
    host.shaper().undo_announced(&[Record::Ending { target: target.clone() }]);
    host.fake.set("web.service", ShapedControl::CpuWeight, Value::Value(100));
    host.open(BOOT);
    assert!(host.shaper().held.targets.is_empty());
    host.give(vec![host.plan(2, 60, 600_000)]);
    let outcome = host.pass(60);
    assert!(!kinds(&outcome).contains(&EventKind::Contested), "{outcome:?}");
    assert_eq!(host.weight(), Value::Value(60));
    // Killed before it did anything: finished by `restore --ended` too, whatever lease still runs.
    host.shaper().undo_announced(&[Record::Ending { target: target.clone() }]);
    let now = host.now;
    assert_eq!(host.shaper().held_without_lease(now).len(), 1);
    host.pass(1);
    assert_eq!(host.weight(), Value::Value(60), "a plan that is followed is followed");
    host.open(BOOT);
    assert_eq!(host.weight(), Value::Value(100));
}
