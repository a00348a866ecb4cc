//! Killed at any step of the kernel, before or after it: a later start puts everything back, or keeps it whole.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quotary_common::envelope::Mode;

use super::fake::{CrashAt, FakeKernel, Host};
use super::*;
use crate::enforce::Enforcer;

/// A life of two grants that touches every kind of step; stops where the fake kernel says. How many steps it made.
fn live(host: &Host, crash: &CrashAt) -> usize {
    let life = || {
        let kernel = Box::new(FakeKernel::crashing(crash.clone()));
        let (mut enforcer, _) = Enforcer::open_with(host.config(Mode::Enforce), kernel, BOOT, 0).unwrap();
        enforcer.apply_grants(&[grant(1, 500), grant(2, 300)], &lease(0), 1);
        enforcer.enter(&GrantId::new([1; 32]), 7, 70, UID, 2).unwrap();
        enforcer.apply_grants(&[grant(1, 700), grant(3, 100)], &lease(10), 11);
        enforcer.release(&GrantId::new([1; 32]), 12).unwrap();
        enforcer.restore_all(13);
    };
    let killed = catch_unwind(AssertUnwindSafe(life)).is_err();
    assert_eq!(killed, crash.step.is_some(), "the crash came, or none was asked for");
    crash.steps.load(std::sync::atomic::Ordering::Relaxed)
}

fn new_host(version: u8) -> Host {
    let host = if version == 1 { Host::version_1() } else { Host::version_2() };
    host.process(7, 70, "/user.slice");
    host
}

#[test]
fn killed_at_any_step_a_start_after_the_lease_leaves_nothing_behind() {
    for version in [1, 2] {
        let steps = live(&new_host(version), &CrashAt::default());
        assert!(steps > 10, "{steps}");
        for step in 0..steps {
            for after in [false, true] {
                let host = new_host(version);
                live(&host, &CrashAt { step: Some(step), after, ..CrashAt::default() });
                let (enforcer, _) = host.open(Mode::Enforce, 10 + LEASE_MS);
                assert!(enforcer.held().is_empty());
                assert!(host.run_groups().is_empty(), "version {version}, step {step}, after {after}");
                let places = host.places(7);
                assert!(places.iter().all(|place| place == "/user.slice"), "{places:?} at step {step}");
                assert!(host.hierarchy_roots().iter().all(|root| !root.join("quotary").exists()), "step {step}");
            }
        }
    }
}

#[test]
fn killed_at_any_step_a_start_within_the_lease_reaches_the_next_set_in_full() {
    let steps = live(&new_host(2), &CrashAt::default());
    for step in 0..steps {
        for after in [false, true] {
            let host = new_host(2);
            live(&host, &CrashAt { step: Some(step), after, ..CrashAt::default() });
            let (mut enforcer, _) = host.open(Mode::Enforce, 20);
            enforcer.apply_grants(&[grant(3, 200)], &lease(20), 21);
            enforcer.tick(22);
            assert_eq!(enforcer.held(), [GrantId::new([3; 32])]);
            let groups = host.run_groups();
            assert_eq!(groups.len(), 1, "step {step}, after {after}");
            assert_eq!(std::fs::read_to_string(groups[0].join("cpu.max")).unwrap(), "20000 100000", "step {step}");
        }
    }
}
