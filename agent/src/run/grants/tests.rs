use quotary_common::envelope::{BackendKind, ControlValue, Name};
use quotary_common::id::RequestId;

use super::*;
use crate::enforce::EndReason;

const BOOT: BootId = BootId::new([1; 16]);

fn grant(millicores: u64) -> Grant {
    Grant {
        id: GrantId::of(&[b"g"]),
        request: RequestId::of(&[b"r"]),
        application: Name::lossy("a"),
        tenant: Name::lossy("t"),
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(millicores), ..Resources::default() },
    }
}

fn lease(start_ms: u64) -> Lease {
    Lease { boot_id: BOOT, epoch: 1, start_ms, lease_ms: 1_000 }
}

fn holding(entered: Option<u32>) -> Holding {
    let id = grant(1).id;
    Holding {
        held: vec![(id, Some(lease(0)))],
        owners: Vec::new(),
        shaped: Default::default(),
        groups: vec![(CgroupPath::lossy("/quotary/run-x"), id, entered)],
    }
}

fn write(control: &str, value: &str) -> EnforcementWrite {
    EnforcementWrite {
        plan: None,
        grant: Some(grant(1).id),
        cgroup: CgroupPath::lossy("/quotary/run-x"),
        backend: BackendKind::Direct,
        control: Name::lossy(control),
        before: None,
        after: ControlValue::lossy(value),
        actual: Some(ControlValue::lossy(value)),
        effective: true,
        at_ms: 0,
        dry_run: false,
    }
}

fn empty() -> Grants {
    Grants::restore(None, &Holding::default(), BOOT, Mode::Enforce, 0)
}

#[test]
fn only_the_uid_that_asked_finds_a_grant_and_after_a_restart_too() {
    let mut grants = empty();
    grants.take_in(&grant(500), Some(7), lease(0), 0);
    grants.set_holding(&holding(None), 0);
    let id = grant(1).id;
    assert_eq!(grants.find(&id.to_string(), 7), Some(id));
    assert_eq!(grants.find(&id.hex(), 8), None);
    let kept = grants.take_unkept().unwrap();
    assert_eq!(grants.take_unkept(), None, "kept once");

    let again = Grants::restore(Some(&kept), &holding(None), BOOT, Mode::Enforce, 10);
    assert_eq!(again.find(&id.to_string(), 7), Some(id));
    let shown = again.show(&id, 400).unwrap();
    assert_eq!((shown.application.as_str(), shown.lease_left_ms), ("a", 600));
    let lost = Grants::restore(Some(b"{"), &holding(None), BOOT, Mode::Enforce, 10);
    assert!(lost.knows(&id) && lost.find(&id.to_string(), 7).is_none(), "nobody's, but held");
    let granted = grant(500);
    let owner = Owner {
        uid: Some(7),
        application: granted.application,
        tenant: granted.tenant,
        class: granted.class,
        resources: granted.resources,
    };
    let journaled = Holding { owners: vec![(id, owner)], ..holding(None) };
    for kept in [None, Some(&b"[]"[..]), Some(b"{")] {
        let killed = Grants::restore(kept, &journaled, BOOT, Mode::Enforce, 10);
        assert_eq!(killed.find(&id.to_string(), 7), Some(id), "killed before its file was written");
        let shown = killed.show(&id, 400).unwrap();
        assert_eq!((shown.application.as_str(), shown.tenant.as_str()), ("a", "t"));
        assert_eq!(shown.resources.cpu_millicores, Some(500));
    }
    let gone = Grants::restore(Some(&kept), &Holding::default(), BOOT, Mode::Enforce, 10);
    assert!(!gone.knows(&id), "what the enforcer does not hold is not held");
}

#[test]
fn watchers_see_sizes_controls_and_the_end_but_not_each_renewal() {
    let mut grants = empty();
    let id = grant(1).id;
    grants.take_in(&grant(500), Some(7), lease(0), 0);
    grants.set_holding(&holding(Some(7)), 0);
    let mut watcher = grants.watch(&id, 0).unwrap();
    watcher.borrow_and_update();
    grants.take_in(&grant(500), None, lease(500), 500);
    grants.set_holding(&holding(Some(7)), 500);
    assert!(!watcher.has_changed().unwrap(), "a renewal is no change");
    grants.take_in(&grant(250), None, lease(500), 600);
    let outcome = Outcome { writes: vec![write("cpu.cfs_quota_us", "25000")], ..Outcome::default() };
    grants.note(&outcome);
    grants.set_holding(&holding(Some(7)), 600);
    let seen = watcher.borrow_and_update().clone();
    assert_eq!(seen.resources.cpu_millicores, Some(250));
    assert_eq!(seen.controls.first().unwrap().requested, "25000");
    grants.note(&Outcome { ended: vec![(id, EndReason::Empty)], ..Outcome::default() });
    assert_eq!(watcher.borrow_and_update().state, GrantState::Ended);
    assert!(!grants.knows(&id));
}

#[test]
fn a_grant_that_nobody_uses_or_watches_is_given_back() {
    let mut grants = empty();
    let id = grant(1).id;
    grants.take_in(&grant(500), Some(7), lease(0), 0);
    assert!(grants.unused(UNUSED_MS - 1).is_empty());
    assert_eq!(grants.unused(UNUSED_MS), [id]);
    let watcher = grants.watch(&id, 0).unwrap();
    assert!(grants.unused(UNUSED_MS).is_empty());
    drop(watcher);
    grants.entered(&id);
    assert!(grants.unused(UNUSED_MS).is_empty());
}

#[test]
fn each_disk_has_its_own_line_of_a_control() {
    let mut controls = Vec::new();
    for (control, value) in [
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:16 rbps=1"),
        ("io.max", "8:0 rbps=2"),
        ("cpu.max", "1 100000"),
        ("cpu.max", "2 100000"),
    ] {
        note_control(&mut controls, &write(control, value));
    }
    assert_eq!(controls.iter().filter(|view| view.control == "io.max").count(), 2);
    assert_eq!(controls.iter().filter(|view| view.control == "cpu.max").count(), 1);
}
