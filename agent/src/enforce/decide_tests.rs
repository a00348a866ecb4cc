#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use quotary_common::envelope::Name;
use quotary_common::id::RequestId;
use quotary_common::units::{Class, Resources};

use super::*;
use crate::enforce::controls::Control;
use crate::enforce::record::{LeaseForm, Record};

const BOOT: BootId = BootId::new([1; 16]);

fn setup(mode: Mode) -> Setup {
    Setup {
        mode,
        hierarchy: Hierarchy::V1,
        parent: GroupPath::parse("/quotary").unwrap(),
        in_scopes: false,
        devices: Vec::new(),
    }
}

fn grant(n: u8, millicores: u64) -> Grant {
    Grant {
        id: GrantId::new([n; 32]),
        request: RequestId::new([n; 32]),
        application: Name::lossy("app"),
        tenant: Name::lossy("tenant"),
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(millicores), ..Resources::default() },
    }
}

fn lease(epoch: u64, start_ms: u64) -> Lease {
    Lease { boot_id: BOOT, epoch, start_ms, lease_ms: 100 }
}

fn now(now_ms: u64) -> Now {
    Now { boot_id: BOOT, now_ms }
}

/// Does the steps as the shell would, on the journal's side only, with a kernel that takes everything.
fn obey(held: &mut Held, steps: &[Step]) {
    for step in steps {
        match step {
            Step::End { grant, reason } => {
                held.add(&Record::Ending { grant: *grant, reason: *reason, boot_id: BOOT, at_ms: 0 });
                held.add(&Record::Removed { grant: *grant });
            }
            Step::Fence { epoch } => held.add(&Record::Fenced { epoch: *epoch }),
            Step::Renew { lease } => held.add(&Record::Renewed { lease: lease.into() }),
            Step::Take { grant, cgroup, lease } => held.add(&Record::Granted {
                grant: *grant,
                cgroup: cgroup.as_cgroup().clone(),
                lease: LeaseForm::from(lease),
                owner: None,
            }),
            Step::Make { grant } => held.add(&Record::Made { grant: *grant }),
            Step::Set { grant, settings } => {
                for Setting { knob, value } in settings {
                    let (grant, knob, value) = (*grant, *knob, value.clone());
                    let before = Some(ControlValue::lossy("kernel"));
                    held.add(&Record::Writing { grant, knob, before, after: value.clone() });
                    held.add(&Record::Wrote { grant, knob, actual: Some(value) });
                }
            }
        }
    }
}

fn after(steps: &[Grant], epoch: u64) -> Held {
    let mut held = Held::default();
    obey(&mut held, &on_grants(&Held::default(), steps, &lease(epoch, 0), &setup(Mode::Enforce), now(1)));
    held
}

#[test]
fn a_new_grant_is_taken_made_and_set_in_that_order_and_then_only_renewed() {
    let steps = on_grants(&Held::default(), &[grant(1, 500)], &lease(0, 0), &setup(Mode::Enforce), now(1));
    assert!(matches!(steps[..], [Step::Take { .. }, Step::Make { .. }, Step::Set { .. }]), "{steps:?}");
    let held = after(&[grant(1, 500)], 0);
    let again = on_grants(&held, &[grant(1, 500)], &lease(0, 50), &setup(Mode::Enforce), now(51));
    assert_eq!(again, [Step::Renew { lease: lease(0, 50) }]);
}

#[test]
fn a_resize_writes_only_what_changes() {
    let steps = on_grants(&after(&[grant(1, 500)], 0), &[grant(1, 600)], &lease(0, 50), &setup(Mode::Enforce), now(51));
    let Some(Step::Set { settings, .. }) = steps.last() else { panic!("{steps:?}") };
    let changed: Vec<_> = settings.iter().map(|setting| setting.knob.control).collect();
    assert_eq!(changed, [Control::CpuShares, Control::CpuQuota]);
}

#[test]
fn a_grant_that_becomes_guaranteed_loses_its_quota() {
    let mut stronger = grant(1, 500);
    stronger.class = Class::Guaranteed;
    let steps = on_grants(&after(&[grant(1, 500)], 0), &[stronger], &lease(0, 50), &setup(Mode::Enforce), now(51));
    let Some(Step::Set { settings, .. }) = steps.last() else { panic!("{steps:?}") };
    let quota = settings.iter().find(|setting| setting.knob.control == Control::CpuQuota).unwrap();
    assert_eq!(quota.value.as_str(), "kernel");
}

#[test]
fn a_grant_that_is_not_listed_ends_and_a_higher_epoch_says_fenced() {
    let held = after(&[grant(1, 500), grant(2, 500)], 0);
    let listed = [grant(2, 500)];
    let steps = on_grants(&held, &listed, &lease(0, 50), &setup(Mode::Enforce), now(51));
    assert_eq!(steps[0], Step::End { grant: GrantId::new([1; 32]), reason: EndReason::Withdrawn });
    let steps = on_grants(&held, &listed, &lease(1, 50), &setup(Mode::Enforce), now(51));
    assert_eq!(steps[0], Step::End { grant: GrantId::new([1; 32]), reason: EndReason::Fenced });
}

#[test]
fn a_stale_set_changes_nothing() {
    let held = after(&[grant(1, 500)], 3);
    for (stale, at) in
        [(lease(2, 50), 51), (lease(3, 0), 100), (Lease { boot_id: BootId::new([2; 16]), ..lease(3, 50) }, 51)]
    {
        assert!(on_grants(&held, &[grant(2, 500)], &stale, &setup(Mode::Enforce), now(at)).is_empty(), "{stale:?}");
    }
}

#[test]
fn a_higher_epoch_fences_even_when_its_set_came_too_late_to_give_anything() {
    let held = after(&[grant(1, 500)], 3);
    for late in [lease(4, 0), Lease { boot_id: BootId::new([2; 16]), ..lease(4, 50) }] {
        let steps = on_grants(&held, &[grant(1, 500)], &late, &setup(Mode::Enforce), now(100));
        assert_eq!(steps, [Step::Fence { epoch: 4 }], "{late:?}");
    }
}

#[test]
fn a_contested_control_is_left_alone_at_a_resize() {
    let mut held = after(&[grant(1, 500)], 0);
    let knob = Knob { control: Control::CpuQuota, device: None };
    held.add(&Record::Contested { grant: GrantId::new([1; 32]), knob });
    let steps = on_grants(&held, &[grant(1, 600)], &lease(0, 50), &setup(Mode::Enforce), now(51));
    let Some(Step::Set { settings, .. }) = steps.last() else { panic!("{steps:?}") };
    assert!(settings.iter().all(|setting| setting.knob != knob), "{settings:?}");
}

#[test]
fn a_grant_that_ended_here_comes_back_only_by_a_set_that_knows_of_it() {
    let mut held = after(&[grant(1, 500)], 0);
    let id = GrantId::new([1; 32]);
    held.add(&Record::Ending { grant: id, reason: EndReason::Empty, boot_id: BOOT, at_ms: 60 });
    held.add(&Record::Removed { grant: id });
    let steps = |start| on_grants(&held, &[grant(1, 500)], &lease(0, start), &setup(Mode::Enforce), now(70));
    assert_eq!(steps(50), [Step::Renew { lease: lease(0, 50) }], "that envelope was built before it ended");
    assert!(steps(61).iter().any(|step| matches!(step, Step::Take { .. })));
    held.add(&Record::Renewed { lease: LeaseForm::from(&lease(0, 61)) });
    assert!(held.ended.is_empty());
}

#[test]
fn observing_takes_the_grant_and_touches_nothing() {
    let steps = on_grants(&Held::default(), &[grant(1, 500)], &lease(0, 0), &setup(Mode::Observe), now(1));
    assert!(matches!(steps[..], [Step::Take { .. }]), "{steps:?}");
}

#[test]
fn a_start_keeps_running_leases_and_ends_the_rest() {
    let held = after(&[grant(1, 500)], 2);
    assert_eq!(on_start(&held, Mode::Enforce, now(99)), []);
    let ends = |mode, at: Now| on_start(&held, mode, at).into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();
    assert_eq!(ends(Mode::Enforce, now(100)), [EndReason::LeaseExpired]);
    assert_eq!(ends(Mode::Enforce, Now { boot_id: BootId::new([9; 16]), now_ms: 1 }), [EndReason::OtherBoot]);
    assert_eq!(ends(Mode::Observe, now(99)), [EndReason::NotEnforcing]);
    let mut fenced = held.clone();
    fenced.add(&Record::Fenced { epoch: 3 });
    assert_eq!(on_time(&fenced, now(1)), [(GrantId::new([1; 32]), EndReason::Fenced)]);
}

proptest! {
    #[test]
    fn after_its_steps_exactly_the_listed_grants_are_held_and_stand(
        sets in proptest::collection::vec(proptest::collection::btree_map(0u8..5, 1u64..4000, 0..5), 1..8),
    ) {
        let mut held = Held::default();
        for (n, set) in sets.iter().enumerate() {
            let grants: Vec<_> = set.iter().map(|(id, millicores)| grant(*id, *millicores)).collect();
            let lease = lease(0, n as u64 * 10);
            let at = now(n as u64 * 10 + 1);
            let steps = on_grants(&held, &grants, &lease, &setup(Mode::Enforce), at);
            obey(&mut held, &steps);
            prop_assert_eq!(held.grants.keys().copied().collect::<Vec<_>>(), grants.iter().map(|g| g.id).collect::<Vec<_>>());
            prop_assert!(on_time(&held, at).is_empty());
            for grant in &grants {
                for Setting { knob, value } in wanted(grant.class, &grant.resources, Hierarchy::V1, &[]) {
                    prop_assert_eq!(&held.grants[&grant.id].written[&knob].setpoint, &value);
                }
            }
            let again = on_grants(&held, &grants, &lease, &setup(Mode::Enforce), at);
            prop_assert!(again.iter().all(|step| matches!(step, Step::Renew { .. })), "{:?}", again);
        }
    }
}
