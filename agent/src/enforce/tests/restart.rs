//! What a start finds after a stop that was not one.

use quotary_common::envelope::{EventKind, Mode};

use super::fake::{FakeKernel, Host};
use super::*;
use crate::enforce::{EndReason, Enforcer};

const ID: GrantId = GrantId::new([1; 32]);

fn killed_while_enforcing() -> Host {
    let host = Host::version_1();
    host.process(7, 70, "/user.slice");
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    enforcer.apply_grants(&[grant(1, 500)], &lease(100), 101);
    enforcer.enter(&ID, 7, 70, UID, 102).unwrap();
    host
}

#[test]
fn a_limit_whose_renewed_lease_still_runs_is_kept() {
    let host = killed_while_enforcing();
    let (mut enforcer, outcome) = host.open(Mode::Enforce, 99 + LEASE_MS);
    assert_eq!(outcome, Default::default());
    assert_eq!((enforcer.held(), enforcer.groups()[0].2.is_some()), (vec![ID], true));
    assert!(enforcer.apply_grants(&[grant(1, 500)], &lease(9_000), 9_001).writes.is_empty(), "nothing is written anew");
    assert_eq!(enforcer.apply_grants(&[grant(1, 400)], &lease(9_000), 9_001).writes.len(), 2);
}

#[test]
fn a_limit_whose_lease_ran_out_is_put_back_and_said() {
    let host = killed_while_enforcing();
    let (enforcer, outcome) = host.open(Mode::Enforce, 100 + LEASE_MS);
    assert_eq!(outcome.ended, [(ID, EndReason::LeaseExpired)]);
    assert_eq!(outcome.events[0].kind, EventKind::Restored);
    let quota = outcome.writes.iter().find(|write| write.control.as_str() == "cpu.cfs_quota_us").unwrap();
    assert_eq!((quota.before.as_ref().unwrap().as_str(), quota.after.as_str()), ("50000", "-1"));
    assert!(enforcer.held().is_empty() && host.run_groups().is_empty());
    assert!(host.places(7).iter().all(|place| place == "/user.slice"));
    assert!(host.hierarchy_roots().iter().all(|root| !root.join("quotary").exists()));
}

#[test]
fn after_a_reboot_nothing_is_held_and_nothing_written() {
    let host = killed_while_enforcing();
    for root in host.hierarchy_roots() {
        std::fs::remove_dir_all(root.join("quotary")).unwrap();
    }
    let kernel = Box::new(FakeKernel::default());
    let (enforcer, outcome) = Enforcer::open_with(host.config(Mode::Enforce), kernel, BootId::new([2; 16]), 5).unwrap();
    assert_eq!(outcome.ended, [(ID, EndReason::OtherBoot)]);
    assert!(outcome.writes.is_empty() && outcome.events.is_empty() && enforcer.held().is_empty());
}

#[test]
fn an_agent_that_no_longer_enforces_puts_everything_back() {
    let host = killed_while_enforcing();
    let (enforcer, outcome) = host.open(Mode::Observe, 200);
    assert_eq!(outcome.ended, [(ID, EndReason::NotEnforcing)]);
    assert!(enforcer.held().is_empty() && host.run_groups().is_empty());
}

#[test]
fn a_group_that_somebody_removed_is_given_up() {
    let host = killed_while_enforcing();
    for root in host.hierarchy_roots() {
        std::fs::remove_dir_all(root.join("quotary")).unwrap();
    }
    let (mut enforcer, outcome) = host.open(Mode::Enforce, 200);
    assert_eq!(outcome.ended, [(ID, EndReason::Vanished)]);
    enforcer.apply_grants(&[grant(1, 500)], &lease(300), 301);
    assert_eq!(host.run_groups().len(), 4, "and made again when it is granted again");
}

#[test]
fn whose_a_grant_is_lasts_from_the_moment_that_it_is_held() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    let set = verified(vec![grant(1, 500), grant(2, 500)], 0);
    enforcer.apply(&set, &[(RequestId::new([1; 32]), 1000)].into(), 1);
    // Killed before anything else could be written.
    drop(enforcer);
    let (enforcer, _) = host.open(Mode::Enforce, 2);
    let owner = enforcer.owner(&ID).unwrap();
    assert_eq!((owner.uid, owner.application.as_str(), owner.tenant.as_str()), (Some(1000), "application", "tenant"));
    assert_eq!(enforcer.owner(&GrantId::new([2; 32])).unwrap().uid, None);
    let group = |id| enforcer.groups().into_iter().find(|(_, grant, _)| *grant == id).unwrap().0;
    assert_eq!(enforcer.for_plans().uids, [(group(ID), 1000)].into(), "what nobody is known of is nobody's");
}

#[test]
fn a_new_enrolment_ends_all_and_its_lower_epoch_enforces_across_restarts() {
    let (one, other) = (DeploymentId::new([1; 32]), DeploymentId::new([2; 32]));
    let under = |epoch, start_ms| Lease { epoch, ..lease(start_ms) };
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::Enforce, 0);
    enforcer.resume_enrolment(one, 9, 0);
    enforcer.apply_grants(&[grant(1, 500)], &under(9, 0), 1);
    assert_eq!(enforcer.begin_enrolment(other, 2, 2).ended, [(ID, EndReason::EnrolledAnew)]);
    assert!(host.run_groups().is_empty());
    enforcer.apply_grants(&[grant(2, 500)], &under(2, 3), 4);
    assert_eq!(enforcer.held(), [GrantId::new([2; 32])], "a lower epoch than before gives again");
    drop(enforcer);
    let (mut enforcer, _) = host.open(Mode::Enforce, 5);
    assert_eq!(enforcer.resume_enrolment(other, 2, 5), Default::default(), "the same enrolment: all stays");
    enforcer.apply_grants(&[grant(2, 500), grant(3, 100)], &under(2, 6), 7);
    assert_eq!(enforcer.held().len(), 2);
}

#[test]
fn a_crash_between_a_new_enrolment_and_the_journal_is_made_good_at_the_next_start() {
    for (deployment, epoch) in [(DeploymentId::new([1; 32]), 2), (DeploymentId::new([2; 32]), 9)] {
        let host = Host::version_2();
        let (mut enforcer, _) = host.open(Mode::Enforce, 0);
        // A journal from before enrolments were kept there is taken as this one's.
        enforcer.apply_grants(&[grant(1, 500)], &Lease { epoch: 3, ..lease(0) }, 1);
        assert_eq!(enforcer.resume_enrolment(DeploymentId::new([1; 32]), 3, 1), Default::default());
        drop(enforcer);
        let (mut enforcer, _) = host.open(Mode::Enforce, 2);
        assert_eq!(enforcer.resume_enrolment(deployment, epoch, 2).ended, [(ID, EndReason::EnrolledAnew)]);
        enforcer.apply_grants(&[grant(2, 500)], &Lease { epoch, ..lease(3) }, 4);
        assert_eq!(enforcer.held(), [GrantId::new([2; 32])]);
    }
}

#[test]
fn a_dry_run_remembers_across_a_restart_who_holds_what() {
    let host = Host::version_2();
    let (mut enforcer, _) = host.open(Mode::DryRun, 0);
    enforcer.apply_grants(&[grant(1, 500)], &lease(0), 1);
    drop(enforcer);
    let (enforcer, _) = host.open(Mode::DryRun, 2);
    assert_eq!(enforcer.held(), [ID]);
}
