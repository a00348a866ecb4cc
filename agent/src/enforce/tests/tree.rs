//! What happens in a tree of plain files.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use quotary_common::envelope::{BackendKind, EventKind, Hierarchy, Mode, Support};
use quotary_common::reason::Reason;
use quotary_common::units::Class;

use super::fake::{FakeKernel, Host};
use super::*;
use crate::enforce::controls::Controller;
use crate::enforce::{EndReason, EnforceError};

const GROUP: &str = "sys/fs/cgroup/quotary";

fn group(n: u8) -> String {
    format!("{GROUP}/run-{}", &GrantId::new([n; 32]).to_string()[2..])
}

#[test]
fn a_verified_grant_set_becomes_limits_that_are_read_back() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    let outcome = enforcer.apply(&verified(vec![grant(1, 500)], 0), &BTreeMap::new(), 1);
    assert_eq!(host.get(&format!("{}/cpu.max", group(1))), "50000 100000");
    assert_eq!(host.get(&format!("{}/cpu.weight", group(1))), "50");
    assert_eq!(host.get(&format!("{}/memory.high", group(1))), (64 << 20).to_string());
    assert_eq!(host.get(&format!("{}/memory.max", group(1))), "max", "never a hard limit");
    assert_eq!(host.get(&format!("{}/io.max", group(1))), "254:0 rbps=1048576 wbps=1048576");
    let of_grant: Vec<_> = outcome.writes.iter().filter(|write| write.grant.is_some()).collect();
    assert_eq!(of_grant.len(), 4);
    for write in of_grant {
        assert!(write.effective && !write.dry_run && write.at_ms == 1, "{write:?}");
        assert_eq!(write.backend, BackendKind::Direct);
        assert_eq!(write.actual.as_ref(), Some(&write.after));
    }
    assert_eq!(enforcer.held(), [GrantId::new([1; 32])]);
    assert_eq!(enforcer.groups()[0].0.as_str(), format!("/quotary/{}", group(1).rsplit('/').next().unwrap()));
}

#[test]
fn controllers_are_enabled_along_our_path_only_and_reported() {
    let host = Host::version_2();
    host.put("sys/fs/cgroup/system.slice/cgroup.subtree_control", "memory\n");
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    let outcome = enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    let enabled: Vec<_> = outcome
        .writes
        .iter()
        .filter(|write| write.control.as_str() == "cgroup.subtree_control")
        .map(|write| (write.cgroup.as_str(), write.after.as_str(), write.effective))
        .collect();
    assert_eq!(enabled, [("/", "+cpu +memory +io", true), ("/quotary", "+cpu +memory +io", true)]);
    assert_eq!(host.get("sys/fs/cgroup/system.slice/cgroup.subtree_control"), "memory");
    let again = enforcer.apply_grants(&[grant(1, 500), grant(2, 100)], &lease(0), 2);
    assert!(again.writes.iter().all(|write| write.grant == Some(GrantId::new([2; 32]))));
}

#[test]
fn a_resize_writes_what_changed_and_a_renewal_nothing() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(50), 51).writes.is_empty());
    assert_eq!(enforcer.lease(&GrantId::new([1; 32])).unwrap().start_ms, 50);
    let outcome = enforcer.apply_grants(&[grant(1, 200)], &lease(60), 61);
    let changed: Vec<_> = outcome.writes.iter().map(|write| (write.control.as_str(), write.after.as_str())).collect();
    assert_eq!(changed, [("cpu.weight", "20"), ("cpu.max", "20000 100000")]);
    assert_eq!(outcome.writes[1].before.as_ref().unwrap().as_str(), "50000 100000");
}

#[test]
fn on_version_1_the_soft_limit_is_advisory_and_the_rest_effective() {
    let host = Host::version_1();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    let outcome = enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    let found: Vec<_> = outcome.writes.iter().map(|write| (write.control.as_str(), write.effective)).collect();
    assert_eq!(
        found,
        [
            ("cpu.shares", true),
            ("cpu.cfs_period_us", true),
            ("cpu.cfs_quota_us", true),
            ("memory.soft_limit_in_bytes", false),
            ("blkio.throttle.read_bps_device", true),
            ("blkio.throttle.write_bps_device", true),
        ]
    );
    let backend = enforcer.backend();
    assert_eq!((backend.kind, backend.mode, backend.hierarchy), (BackendKind::Direct, Mode::Enforce, Hierarchy::V1));
    let advisory: Vec<_> = backend
        .controls
        .iter()
        .filter(|state| state.support == Support::Advisory)
        .map(|state| state.control.as_str())
        .collect();
    assert_eq!(advisory, ["memory.soft_limit_in_bytes"]);
}

#[test]
fn a_process_enters_every_hierarchy_and_leaves_to_where_it_came_from() {
    for host in [Host::version_1(), Host::version_2()] {
        host.process(7, 70, "/user.slice/session");
        let (mut enforcer, _) = host.open(Mode::Enforce, 0);
        enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
        let id = GrantId::new([1; 32]);
        enforcer.enter(&id, 7, 70, UID, 2).unwrap();
        let inside = format!("/quotary/{}", group(1).rsplit('/').next().unwrap());
        assert!(host.places(7).iter().all(|place| *place == inside), "{:?}", host.places(7));
        assert!(enforcer.tick(3).ended.is_empty());
        let outcome = enforcer.release(&id, 4).unwrap();
        assert_eq!(outcome.ended, [(id, EndReason::Released)]);
        assert!(host.places(7).iter().all(|place| place == "/user.slice/session"), "{:?}", host.places(7));
        assert_eq!(host.run_groups(), Vec::<std::path::PathBuf>::new());
        assert!(
            outcome
                .writes
                .iter()
                .any(|write| write.after.as_str().contains("-1") || write.after.as_str().contains("max"))
        );
        assert!(matches!(enforcer.release(&id, 5), Err(EnforceError::UnknownGrant { .. })));
    }
}

#[test]
fn a_process_whose_home_is_gone_goes_to_the_root() {
    let host = Host::version_1();
    host.process(7, 70, "/gone");
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 2).unwrap();
    for root in host.hierarchy_roots() {
        std::fs::remove_dir_all(root.join("gone")).unwrap();
    }
    enforcer.tick(LEASE_MS);
    assert!(host.places(7).iter().all(|place| place == "/"), "{:?}", host.places(7));
}

#[test]
fn a_pid_that_belongs_to_another_process_now_is_not_moved() {
    let host = Host::version_1();
    host.process(7, 70, "/user.slice");
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    let id = GrantId::new([1; 32]);
    let refused = enforcer.enter(&id, 7, 69, UID, 2).unwrap_err();
    assert!(matches!(refused, EnforceError::OtherProcess { expected: 69, found: 70, .. }));
    assert_eq!(refused.refusal().reason, Reason::NotOwner);
    assert!(matches!(enforcer.enter(&id, 8, 1, UID, 2), Err(EnforceError::NoProcess { pid: 8 })));
    assert!(matches!(enforcer.enter(&GrantId::new([9; 32]), 7, 70, UID, 2), Err(EnforceError::UnknownGrant { .. })));
    assert!(matches!(enforcer.enter(&id, 7, 70, UID, LEASE_MS), Err(EnforceError::LeaseOver { .. })));
    assert!(host.places(7).iter().all(|place| place == "/user.slice"));
}

#[test]
fn a_process_of_another_user_is_not_moved_not_even_when_it_became_that_in_between() {
    let host = Host::version_1();
    host.process(7, 70, "/user.slice");
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    let id = GrantId::new([1; 32]);
    let refused = enforcer.enter(&id, 7, 70, UID + 1, 2).unwrap_err();
    assert!(matches!(refused, EnforceError::OtherOwner { pid: 7, expected: 1001, found: UID }), "{refused:?}");
    assert_eq!(refused.refusal().reason, Reason::NotOwner);
    host.put("proc/7/status", "Name:\tsudo\nUid:\t0\t0\t0\t0\n");
    assert!(matches!(enforcer.enter(&id, 7, 70, UID, 2), Err(EnforceError::OtherOwner { found: 0, .. })));
    assert!(host.places(7).iter().all(|place| place == "/user.slice"));
    assert!(enforcer.tick(3).ended.is_empty(), "nobody entered, so nobody left");
}

#[test]
fn a_process_that_one_hierarchy_refuses_goes_back_in_all() {
    let host = Host::version_1();
    host.process(7, 70, "/user.slice");
    let kernel = FakeKernel { closed: Some(Controller::Memory), ..FakeKernel::default() };
    let (mut enforcer, _) = host.open_on(kernel, Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    let refused = enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 2);
    assert!(matches!(refused, Err(EnforceError::Enter { pid: 7, .. })));
    assert!(host.places(7).iter().all(|place| place == "/user.slice"), "{:?}", host.places(7));
    assert!(enforcer.tick(3).ended.is_empty(), "nobody entered, so nobody left");
}

#[test]
fn a_pid_that_changes_hands_while_it_is_moved_goes_to_where_its_parent_is() {
    for host in [Host::version_1(), Host::version_2()] {
        host.process(7, 70, "/user.slice");
        host.process(1, 1, "/parents.slice");
        let stat = host.get("proc/7/stat").replace(" 70 0", " 71 0");
        let kernel = FakeKernel { meanwhile: Some((host.path("proc/7/stat"), stat)), ..FakeKernel::default() };
        let (mut enforcer, _) = host.open_on(kernel, Mode::Enforce, 0);
        enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
        let refused = enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 2);
        assert!(matches!(refused, Err(EnforceError::OtherProcess { expected: 70, found: 71, .. })), "{refused:?}");
        assert!(host.places(7).iter().all(|place| place == "/parents.slice"), "{:?}", host.places(7));
    }
}

#[test]
fn a_group_ends_when_its_last_process_leaves_and_not_before_the_first_enters() {
    for host in [Host::version_1(), Host::version_2()] {
        host.process(7, 70, "/");
        let (mut enforcer, _) = host.open(Mode::Enforce, 0);
        enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
        assert!(enforcer.tick(2).ended.is_empty());
        enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 3).unwrap();
        assert!(enforcer.tick(4).ended.is_empty());
        host.exit(7);
        assert_eq!(enforcer.tick(5).ended, [(GrantId::new([1; 32]), EndReason::Empty)]);
        assert!(host.run_groups().is_empty() && enforcer.held().is_empty());
        // The reply to an envelope from before still lists it: it does not come back.
        assert_eq!(enforcer.apply_grants(&[grant(1, 500)], &lease(4), 6), Default::default());
        assert!(enforcer.held().is_empty());
    }
}

#[test]
fn a_lease_that_runs_out_takes_the_limits_with_it() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500), grant(2, 500)], &lease(0), 1);
    assert!(enforcer.tick(LEASE_MS - 1).ended.is_empty());
    assert_eq!(enforcer.tick(LEASE_MS).ended.len(), 2);
    assert!(host.run_groups().is_empty());
}

#[test]
fn a_raised_epoch_ends_everything_at_once() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    assert_eq!(enforcer.fence(2, 2).ended, [(GrantId::new([1; 32]), EndReason::Fenced)]);
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(0), 3).writes.is_empty(), "an old epoch gives nothing");
    assert!(host.run_groups().is_empty());
}

#[test]
fn an_accepted_set_that_came_too_late_still_raises_the_epoch() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(50), 51);
    let late = Lease { epoch: 2, lease_ms: 10, ..lease(50) };
    let outcome = enforcer.apply_grants(&[grant(1, 500)], &late, 60);
    assert_eq!(outcome.ended, [(GrantId::new([1; 32]), EndReason::Fenced)]);
    assert!(host.run_groups().is_empty());
}

#[test]
fn another_writer_is_left_alone_and_said() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    assert!(enforcer.tick(2).events.is_empty());
    let file = format!("{}/cpu.max", group(1));
    host.put(&file, "7000 100000\n");
    let events = enforcer.tick(3).events;
    assert_eq!((events.len(), events[0].kind), (1, EventKind::Contested));
    assert!(enforcer.tick(4).events.is_empty(), "said once");
    enforcer.apply_grants(&[grant(1, 900)], &lease(5), 6);
    assert_eq!(host.get(&file), "7000 100000", "not fought");
    assert_eq!(host.get(&format!("{}/cpu.weight", group(1))), "90");
}

#[test]
fn a_stricter_group_above_makes_our_value_not_effective() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    host.put(&format!("{GROUP}/cpu.max"), "10000 100000\n");
    let outcome = enforcer.apply_grants(&[grant(1, 600)], &lease(0), 2);
    let quota = outcome.writes.iter().find(|write| write.control.as_str() == "cpu.max").unwrap();
    assert!(!quota.effective && quota.actual.as_ref() == Some(&quota.after));
}

#[test]
fn a_link_in_place_of_a_control_is_not_followed() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    host.put("elsewhere", "untouched");
    let file = host.path(&format!("{}/cpu.max", group(1)));
    std::fs::remove_file(&file).unwrap();
    symlink(host.path("elsewhere"), &file).unwrap();
    let outcome = enforcer.apply_grants(&[grant(1, 600)], &lease(0), 2);
    let quota = outcome.writes.iter().find(|write| write.control.as_str() == "cpu.max").unwrap();
    assert!(!quota.effective && quota.actual.is_none(), "{quota:?}");
    assert_eq!(host.get("elsewhere"), "untouched");
}

#[test]
fn a_dry_run_shows_each_write_once_and_touches_nothing() {
    let host = Host::version_2();
    host.process(7, 70, "/");
    let (mut enforcer, _) = host.open(Mode::DryRun, 0);
    let outcome = enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    assert!(outcome.writes.len() == 4 && outcome.writes.iter().all(|write| write.dry_run && !write.effective));
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(1), 2).writes.is_empty());
    assert_eq!(enforcer.apply_grants(&[grant(1, 600)], &lease(1), 2).writes.len(), 2);
    assert!(!host.path(GROUP).exists() && enforcer.groups().is_empty());
    assert_eq!(host.get("sys/fs/cgroup/cgroup.subtree_control"), "memory pids");
    enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 3).unwrap();
    assert_eq!(host.places(7), ["/"]);
    assert!(enforcer.tick(4).ended.is_empty());
    host.exit(7);
    assert_eq!(enforcer.tick(5).ended, [(GrantId::new([1; 32]), EndReason::Empty)]);
}

#[test]
fn observing_reports_nothing_and_touches_nothing() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Observe, 0);
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1).writes.is_empty());
    assert_eq!(enforcer.held().len(), 1);
    assert!(!host.path(GROUP).exists());
}

#[test]
fn without_controllers_enforcing_becomes_a_dry_run_that_says_why() {
    let host = Host::version_2();
    std::fs::remove_dir_all(host.path("sys")).unwrap();
    let (enforcer, _) = host.open(Mode::Enforce, 0);
    assert_eq!(enforcer.mode(), Mode::DryRun);
    assert!(enforcer.capabilities().why_not.as_ref().unwrap().contains("no cgroup tree"));
    assert_eq!(enforcer.backend().kind, BackendKind::None);
}

#[test]
fn stopping_puts_back_the_state_before() {
    for host in [Host::version_1(), Host::version_2()] {
        host.process(7, 70, "/user.slice");
        let (mut enforcer, _) = host.open(Mode::Enforce, 0);
        enforcer.apply_grants(&[grant(1, 500), grant(2, 300)], &lease(0), 1);
        enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 2).unwrap();
        assert_eq!(enforcer.restore_all(3).ended.len(), 2);
        assert!(host.hierarchy_roots().iter().all(|root| !root.join("quotary").exists()));
        assert!(host.places(7).iter().all(|place| place == "/user.slice"));
    }
}

#[test]
fn a_parent_that_was_there_before_us_stays() {
    for host in [Host::version_1(), Host::version_2()] {
        host.process(9, 90, "/quotary");
        host.exit(9);
        let (mut enforcer, _) = host.open(Mode::Enforce, 0);
        enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
        enforcer.restore_all(2);
        drop(enforcer);
        host.open(Mode::Enforce, 3);
        assert!(host.run_groups().is_empty());
        assert!(host.hierarchy_roots().iter().all(|root| root.join("quotary").exists()));
    }
}

#[test]
fn a_parent_that_another_agent_uses_stays() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    std::fs::create_dir(host.path(&format!("{GROUP}/run-of-another"))).unwrap();
    enforcer.restore_all(2);
    assert!(host.path(&format!("{GROUP}/run-of-another")).exists());
    assert!(!host.path(&group(1)).exists());
}

#[test]
fn a_guarantee_has_no_quota_in_the_kernel() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    let mut strong = grant(1, 500);
    strong.class = Class::Guaranteed;
    enforcer.apply_grants(&[strong], &lease(0), 1);
    assert_eq!(host.get(&format!("{}/cpu.max", group(1))), "max 100000");
    assert_eq!(host.get(&format!("{}/memory.low", group(1))), (64 << 20).to_string());
}

#[test]
fn a_parent_that_is_no_path_is_refused() {
    let host = Host::version_2();
    let mut config = host.config(Mode::Enforce);
    config.delegated_parent = Some("/../etc".to_owned());
    let opened = crate::enforce::Enforcer::open(config, BOOT, 0);
    assert!(matches!(opened, Err(EnforceError::Parent { .. })));
}
