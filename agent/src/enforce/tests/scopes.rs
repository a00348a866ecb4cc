//! Grants where systemd owns the tree: transient scopes, through a manager in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use quotary_common::envelope::{EventKind, Mode};
use quotary_common::plan::ShapedControl;
use quotary_common::reason::Reason;

use super::fake::{CrashAt, DISK, FakeKernel, Host};
use super::*;
use crate::enforce::group::GroupPath;
use crate::enforce::{EndReason, EnforceError, Enforcer, Outcome};
use crate::shape::holds::{SLICE, scope_of_grant};
use crate::shape::systemd::fake::FakeManager;

const ID: GrantId = GrantId::new([1; 32]);
const MIB: u64 = 1 << 20;

fn new_host() -> (Host, FakeManager) {
    let host = Host::version_2();
    host.process(7, 70, "/user.slice/session-1.scope");
    let manager = FakeManager::of(&host.path(""));
    (host, manager)
}

fn open(host: &Host, manager: &FakeManager, now_ms: u64) -> (Enforcer, Outcome) {
    let door = manager.door(vec![DISK], Box::new(FakeKernel::default()));
    Enforcer::open_through(host.config(Mode::Enforce), door, BOOT, now_ms).unwrap()
}

fn scope(n: u8) -> GroupPath {
    scope_of_grant(&GrantId::new([n; 32])).unwrap()
}

/// What a control of the first grant's scope shows.
fn shows(host: &Host, file: &str) -> String {
    host.get(&format!("sys/fs/cgroup{}/{file}", scope(1)))
}

/// The fake's exit, and what systemd does of it.
fn exit(host: &Host, manager: &FakeManager, pid: u32) {
    host.exit(pid);
    manager.collect();
}

fn is_unlimited(host: &Host) -> bool {
    let shown = |file: &str| {
        let path = host.path(&format!("sys/fs/cgroup{}/{file}", scope(1)));
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let is = |file: &str, unset: &str| shown(file).is_none_or(|text| text == unset);
    is("memory.high", "max")
        && is("cpu.weight", "100")
        && is("cpu.max", "max 100000")
        && is("io.max", &format!("{DISK} rbps=max wbps=max"))
}

#[test]
fn the_first_process_brings_its_scope_about_and_then_the_values_come() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    assert_eq!(enforcer.backend().kind, BackendKind::Systemd);
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1).writes.is_empty());
    assert_eq!((manager.calls.load(Ordering::Relaxed), enforcer.groups()), (0, vec![]), "nothing before a process");
    let outcome = enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    assert_eq!(host.places(7), [scope(1).as_str()]);
    let told: Vec<_> = outcome
        .writes
        .iter()
        .filter(|write| write.grant == Some(ID))
        .map(|write| (write.control.as_str(), write.before.as_ref().unwrap().as_str(), write.after.as_str()))
        .collect();
    let (disk, none) = (format!("{DISK} rbps=1048576 wbps=1048576"), format!("{DISK} rbps=max wbps=max"));
    assert_eq!(
        told,
        [
            ("cpu.weight", "100", "50"),
            ("cpu.max", "max 100000", "50000 100000"),
            ("memory.high", "max", "67108864"),
            ("io.max", none.as_str(), disk.as_str()),
        ]
    );
    assert!(outcome.writes.iter().all(|write| write.effective && write.backend == BackendKind::Systemd));
    assert!(outcome.writes.iter().all(|write| write.cgroup == *scope(1).as_cgroup()));
    assert_eq!((shows(&host, "memory.high"), shows(&host, "cpu.weight")), ((64 * MIB).to_string(), "50".to_owned()));
    assert_eq!(enforcer.groups(), [(scope(1).as_cgroup().clone(), ID, enforcer.groups()[0].2)]);
    assert!(manager.about.lock().unwrap().contains("application of tenant"), "{:?}", manager.about);
    assert!(host.run_groups().is_empty() && !host.path("sys/fs/cgroup/quotary").exists());
    assert_eq!(host.get("sys/fs/cgroup/cgroup.subtree_control"), "memory pids", "not ours to write");
    assert_eq!(enforcer.tick(3), Outcome::default());
}

#[test]
fn further_processes_enter_the_same_scope_and_a_resize_is_set_there() {
    let (host, manager) = new_host();
    host.process(8, 80, "/user.slice");
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    assert!(enforcer.enter(&ID, 8, 80, UID, 3).unwrap().writes.is_empty());
    assert_eq!((host.places(7), host.places(8)), (vec![scope(1).to_string()], vec![scope(1).to_string()]));
    let outcome = enforcer.apply_grants(&[grant(1, 255)], &lease(4), 5);
    let changed: Vec<_> = outcome.writes.iter().map(|write| (write.control.as_str(), write.after.as_str())).collect();
    assert_eq!(changed, [("cpu.weight", "25"), ("cpu.max", "26000 100000")], "systemd keeps whole percents");
    assert!(outcome.writes.iter().all(|write| write.effective));
}

#[test]
fn what_was_resized_before_anybody_entered_is_what_the_scope_gets() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.apply_grants(&[grant(1, 200)], &lease(1), 2);
    enforcer.enter(&ID, 7, 70, UID, 3).unwrap();
    assert_eq!(shows(&host, "cpu.weight"), "20");
}

#[test]
fn after_a_restart_an_entry_finds_what_was_granted_at_first() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    drop(enforcer);
    let (mut enforcer, _) = open(&host, &manager, 2);
    enforcer.enter(&ID, 7, 70, UID, 3).unwrap();
    assert_eq!(shows(&host, "cpu.weight"), "50");
}

#[test]
fn a_grant_that_ends_takes_its_values_along_and_leaves_the_process_where_it_is() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    assert_eq!(manager.drop_ins().len(), 5);
    let outcome = enforcer.tick(LEASE_MS);
    assert_eq!(outcome.ended, [(ID, EndReason::LeaseExpired)]);
    assert!(
        outcome.writes.iter().any(|write| write.control.as_str() == "memory.high" && write.after.as_str() == "max")
    );
    assert!(is_unlimited(&host) && manager.drop_ins().is_empty());
    assert_eq!(host.places(7), [scope(1).as_str()]);
    let calls = manager.calls.load(Ordering::Relaxed);
    enforcer.tick(LEASE_MS + 60_000);
    assert_eq!(manager.calls.load(Ordering::Relaxed), calls, "it is over");
}

#[test]
fn a_scope_that_went_with_its_last_process_ends_its_grant_and_nothing_is_asked() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    let calls = manager.calls.load(Ordering::Relaxed);
    exit(&host, &manager, 7);
    assert_eq!(enforcer.tick(3).ended, [(ID, EndReason::Empty)]);
    assert_eq!(manager.calls.load(Ordering::Relaxed), calls);
    assert!(manager.drop_ins().is_empty());
}

#[test]
fn without_the_manager_nobody_enters_and_nothing_is_pretended() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    manager.is_away.store(true, Ordering::Relaxed);
    let refused = enforcer.enter(&ID, 7, 70, UID, 2).unwrap_err();
    assert!(matches!(refused, EnforceError::Enter { pid: 7, .. }), "{refused:?}");
    assert_eq!(refused.refusal().reason, Reason::Unavailable);
    assert_eq!(host.places(7), ["/user.slice/session-1.scope"]);
    assert!(enforcer.tick(3).ended.is_empty() && !host.path("sys/fs/cgroup/quotary").exists());
    manager.is_away.store(false, Ordering::Relaxed);
    enforcer.enter(&ID, 7, 70, UID, 4).unwrap();
    assert_eq!(shows(&host, "cpu.weight"), "50");
}

#[test]
fn a_manager_that_is_away_at_the_end_is_asked_again_until_the_values_are_gone() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    manager.is_away.store(true, Ordering::Relaxed);
    enforcer.release(&ID, 3).unwrap();
    assert!(!is_unlimited(&host) && enforcer.held().is_empty());
    drop(enforcer);
    manager.is_away.store(false, Ordering::Relaxed);
    let (mut enforcer, _) = open(&host, &manager, 4);
    assert!(is_unlimited(&host) && manager.drop_ins().is_empty());
    assert_eq!(enforcer.restore_all(5), Outcome::default());
}

#[test]
fn a_value_that_the_manager_could_not_take_is_set_when_it_is_back() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    manager.is_away.store(true, Ordering::Relaxed);
    assert!(enforcer.apply_grants(&[grant(1, 200)], &lease(3), 4).writes.is_empty());
    assert!(enforcer.tick(5).writes.is_empty());
    manager.is_away.store(false, Ordering::Relaxed);
    let outcome = enforcer.tick(6);
    assert_eq!((outcome.writes.len(), shows(&host, "cpu.weight").as_str()), (2, "20"));
}

#[test]
fn a_pid_that_changes_hands_is_out_of_the_scope_before_it_has_values() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    let stat = host.get("proc/7/stat").replace(" 70 0", " 71 0");
    *manager.meanwhile.lock().unwrap() = Some((host.path("proc/7/stat"), stat));
    let refused = enforcer.enter(&ID, 7, 70, UID, 2);
    assert!(matches!(refused, Err(EnforceError::OtherProcess { expected: 70, found: 71, .. })), "{refused:?}");
    assert_eq!(host.places(7), [format!("/{SLICE}/quotary-back-7-71.scope")]);
    assert!(is_unlimited(&host) && manager.drop_ins().is_empty());
}

#[test]
fn a_process_that_is_gone_by_then_leaves_nothing() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    host.exit(7);
    assert!(matches!(enforcer.enter(&ID, 7, 70, UID, 2), Err(EnforceError::NoProcess { pid: 7 })));
    // It dies between the last look and systemd's job.
    let gone = crate::shape::holds::target_of(&scope(1));
    let entered = manager.door(vec![DISK], Box::new(FakeKernel::default())).enter(&gone, 7, "x");
    assert!(entered.unwrap_err().to_string().contains("did not come to be in"));
    assert!(enforcer.tick(3).ended.is_empty());
}

/// One life that makes every call; where the fake says it is stopped dead. How many calls it made.
fn live(host: &Host, manager: &FakeManager) -> usize {
    let life = || {
        let (mut enforcer, _) = open(host, manager, 0);
        enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
        enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
        enforcer.enter(&ID, 8, 80, UID, 3).unwrap();
        enforcer.apply_grants(&[grant(1, 700)], &lease(10), 11);
        enforcer.release(&ID, 12).unwrap();
    };
    let killed = catch_unwind(AssertUnwindSafe(life)).is_err();
    assert_eq!(killed, manager.crash.step.is_some(), "the crash came, or none was asked for");
    manager.crash.steps.load(Ordering::Relaxed)
}

#[test]
fn killed_at_any_call_a_start_after_the_lease_leaves_no_limit_and_moves_nobody() {
    let fresh = |crash| {
        let (host, manager) = new_host();
        host.process(8, 80, "/user.slice");
        (host, FakeManager { crash, ..manager })
    };
    let (host, manager) = fresh(CrashAt::default());
    let calls = live(&host, &manager);
    assert!(calls > 8, "{calls}");
    for step in 0..calls {
        for after in [false, true] {
            let (host, manager) = fresh(CrashAt { step: Some(step), after, ..CrashAt::default() });
            live(&host, &manager);
            let places = host.places(7);
            let sound = FakeManager { crash: CrashAt::default(), ..manager.clone() };
            let (enforcer, _) = open(&host, &sound, 10 + LEASE_MS);
            assert!(enforcer.held().is_empty());
            assert!(is_unlimited(&host), "call {step}, after {after}");
            assert_eq!(manager.drop_ins(), Vec::<String>::new(), "call {step}, after {after}");
            assert_eq!(host.places(7), places, "call {step}");
        }
    }
}

#[test]
fn killed_at_any_call_a_start_within_the_lease_comes_to_the_next_set() {
    let (host, manager) = new_host();
    host.process(8, 80, "/user.slice");
    let calls = live(&host, &manager);
    for step in 0..calls {
        for after in [false, true] {
            let (host, manager) = new_host();
            host.process(8, 80, "/user.slice");
            let manager = FakeManager { crash: CrashAt { step: Some(step), after, ..CrashAt::default() }, ..manager };
            live(&host, &manager);
            let sound = FakeManager { crash: CrashAt::default(), ..manager };
            let (mut enforcer, _) = open(&host, &sound, 20);
            if enforcer.held().is_empty() {
                assert!(is_unlimited(&host), "it was being released: call {step}, after {after}");
                continue;
            }
            enforcer.apply_grants(&[grant(1, 200)], &lease(20), 21);
            enforcer.tick(22);
            let is_in = host.places(7) == [scope(1).as_str()];
            assert!(!is_in || shows(&host, "cpu.weight") == "20", "call {step}, after {after}");
            assert_eq!(enforcer.held().len(), usize::from(is_in), "nobody came to be in it: it is given back");
        }
    }
}

#[test]
fn a_running_lease_keeps_the_scope_over_a_restart_and_a_reboot_knows_nothing_of_it() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    drop(enforcer);
    let calls = manager.calls.load(Ordering::Relaxed);
    let (mut enforcer, outcome) = open(&host, &manager, 3);
    assert_eq!((outcome, enforcer.held()), (Outcome::default(), vec![ID]));
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(4), 5).writes.is_empty());
    assert_eq!(manager.calls.load(Ordering::Relaxed), calls, "nothing is set anew");
    drop(enforcer);
    exit(&host, &manager, 7);
    let door = manager.door(vec![DISK], Box::new(FakeKernel::default()));
    let opened = Enforcer::open_through(host.config(Mode::Enforce), door, BootId::new([9; 16]), 6);
    let (enforcer, outcome) = opened.unwrap();
    assert_eq!((outcome.ended, enforcer.held()), (vec![(ID, EndReason::OtherBoot)], vec![]));
    assert_eq!(manager.calls.load(Ordering::Relaxed), calls);
}

#[test]
fn a_group_of_our_own_from_before_is_served_as_it_was() {
    let (host, manager) = new_host();
    std::fs::remove_dir_all(host.path("run")).unwrap();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    drop(enforcer);
    std::fs::create_dir_all(host.path("run/systemd/system")).unwrap();
    let (mut enforcer, outcome) = open(&host, &manager, 3);
    assert_eq!((outcome, host.run_groups().len()), (Outcome::default(), 1));
    let outcome = enforcer.apply_grants(&[grant(1, 200)], &lease(4), 5);
    assert!(outcome.writes.iter().all(|write| write.effective && write.backend == BackendKind::Direct));
    enforcer.release(&ID, 6).unwrap();
    assert_eq!((host.run_groups().len(), host.places(7)), (0, vec!["/user.slice/session-1.scope".to_owned()]));
    assert_eq!(manager.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn where_an_administrator_delegated_a_subtree_groups_of_our_own_stand_there() {
    let (host, manager) = new_host();
    host.put("sys/fs/cgroup/cgroup.subtree_control", "cpu io memory pids\n");
    let mut config = host.config(Mode::Enforce);
    config.delegated_parent = Some("/quotary".to_owned());
    let door = manager.door(vec![DISK], Box::new(FakeKernel::default()));
    let (mut enforcer, _) = Enforcer::open_through(config, door, BOOT, 0).unwrap();
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    assert_eq!((host.run_groups().len(), enforcer.backend().kind), (1, BackendKind::Direct));
    assert_eq!(manager.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn a_control_that_a_plan_moves_waits_for_it_and_the_others_do_not() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    let cgroup = scope(1).as_cgroup().clone();
    enforcer.leave_to_plans([(cgroup.clone(), [ShapedControl::CpuWeight].into())].into());
    host.put(&format!("sys/fs/cgroup{cgroup}/cpu.weight"), "45");
    enforcer.apply_grants(&[grant(1, 200)], &lease(3), 4);
    assert_eq!((shows(&host, "cpu.weight"), shows(&host, "cpu.max")), ("45".to_owned(), "20000 100000".to_owned()));
    let of_grants = enforcer.for_plans();
    assert_eq!(of_grants.limits[&cgroup], [(ShapedControl::CpuWeight, 20)].into());
    assert_eq!((of_grants.scopes.len(), of_grants.first_end_ms), (1, Some(3 + LEASE_MS)));
    assert!(enforcer.tick(5).events.iter().all(|event| event.kind != EventKind::Contested));
    enforcer.leave_to_plans(Default::default());
    enforcer.tick(6);
    assert_eq!(shows(&host, "cpu.weight"), "20");
    assert!(enforcer.for_plans().limits.is_empty());
}

#[test]
fn memory_is_given_back_before_systemd_is_asked_for_less_than_is_in_use() {
    let (host, manager) = new_host();
    let (mut enforcer, _) = open(&host, &manager, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&ID, 7, 70, UID, 2).unwrap();
    let dir = format!("sys/fs/cgroup{}", scope(1));
    host.put(&format!("{dir}/memory.current"), &(60 * MIB).to_string());
    host.put(&format!("{dir}/memory.reclaim"), "");
    let mut less = grant(1, 500);
    less.resources.memory_bytes = Some(32 * MIB);
    enforcer.apply_grants(&[less], &lease(3), 4);
    assert_eq!(shows(&host, "memory.high"), (64 * MIB).to_string(), "not yet");
    for now_ms in 5..400 {
        enforcer.tick(now_ms);
        if shows(&host, "memory.high") == (32 * MIB).to_string() {
            assert_eq!(shows(&host, "memory.reclaim"), (28 * MIB).to_string());
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    unreachable!("it was never set");
}
