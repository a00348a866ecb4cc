//! The plans of a change among all plans: which are given, which are off, and whether all are aligned.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, Text};
use quotary_common::envelope::{
    Backend, BackendKind, CgroupPath, ControlValue, Envelope, EnvelopeVersion, Event, EventKind, Hierarchy, HostFacts,
    Mode, Name,
};
use quotary_common::id::{BootId, ChangeId, DeploymentId, Digest, HostId, PlanId};
use quotary_common::leaf::PlanChange;
use quotary_common::metric::MetricWindows;
use quotary_common::plan::{Plan, check};

use super::super::{PlanBook, PlanRecord, PlanWrite};
use super::key;

const AT_MS: u64 = 5_000;
const CHANGES: [ChangeId; 2] = [ChangeId::new([1; 32]), ChangeId::new([2; 32])];

fn host(number: u32) -> HostId {
    HostId::of(&[&number.to_be_bytes()])
}

/// A plan of a change for a unit of a host, and whether it is where it should be.
fn plan(number: u32, change: ChangeId, is_aligned: bool) -> PlanRecord {
    let plan = super::plan(1, "a.service", 1, None);
    let plan = Plan { host: host(number), ..plan.plan().clone() };
    let mut record = PlanRecord::new(check(plan).unwrap(), &key(), "verifier", 900).of_change(change);
    if is_aligned {
        align(&mut record);
    }
    record
}

fn align(record: &mut PlanRecord) {
    let value = ControlValue::new("50").unwrap();
    record.note(PlanWrite {
        control: Name::lossy(record.plan().courses[0].control.file_name()),
        after: value.clone(),
        actual: Some(value),
        effective: true,
        dry_run: false,
        evidence: Digest::new([0; 32]),
        committed_at_ms: AT_MS,
    });
}

/// A host tells of its plan's unit.
pub(super) fn envelope(number: u32, kind: EventKind) -> Envelope {
    let cgroup = Some(CgroupPath::lossy("/system.slice/a.service"));
    Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: DeploymentId::new([1; 32]),
        host: host(number),
        boot_id: BootId::new([1; 16]),
        sequence: 2,
        predecessor: Digest::new([0; 32]),
        tls_key: Digest::new([0; 32]),
        checkpoint: None,
        agent_version: Text::lossy("0"),
        built_at_ms: AT_MS,
        backend: Backend {
            kind: BackendKind::None,
            mode: Mode::Observe,
            hierarchy: Hierarchy::None,
            controls: Bounded::default(),
        },
        host_windows: MetricWindows::new(&[]).unwrap(),
        applications: Bounded::default(),
        events: Bounded::new(vec![Event { kind, cgroup, count: 1, at_ms: AT_MS }]).unwrap(),
        writes: Bounded::default(),
        requests: Bounded::default(),
        held: Bounded::default(),
        facts: HostFacts {
            hostname: Text::lossy("edge"),
            kernel: Text::lossy("6.1"),
            cpu_millicores: 64_000,
            memory_bytes: 1 << 40,
            os: None,
        },
    }
}

#[test]
fn a_fleet_that_becomes_aligned_host_by_host_is_not_walked_through_with_each_evidence() {
    const HOSTS: u32 = 500;
    let mut book = PlanBook::default();
    (0..HOSTS).for_each(|number| book.put(plan(number, CHANGES[0], false)));
    // Another change's, which are nobody's concern here.
    (HOSTS..2 * HOSTS).for_each(|number| book.put(plan(number, CHANGES[1], false)));
    let mut looked = 0;
    for number in 0..HOSTS {
        // Two evidences of each host: one before it is aligned, one after.
        for aligned in [false, true] {
            book.put(plan(number, CHANGES[0], aligned));
            let (all, count) = book.look_for_one_behind(&CHANGES[0], AT_MS);
            assert_eq!(all, aligned && number + 1 == HOSTS);
            looked += count;
        }
    }
    assert!(looked < 6 * HOSTS as usize, "{looked} plans were looked at for {HOSTS} hosts");
    assert!(book.are_aligned(&CHANGES[0], AT_MS) && !book.are_aligned(&CHANGES[1], AT_MS));
    assert!(!book.are_aligned(&CHANGES[0], 0), "before its time nothing is aligned");
}

#[test]
fn what_is_off_is_told_until_it_is_over_or_goes_on() {
    let mut book = PlanBook::default();
    (0..3).for_each(|number| book.put(plan(number, CHANGES[0], true)));
    assert!(book.off(&CHANGES[0]).is_none());
    let _told = book.note(&envelope(1, EventKind::PlanRefused), Digest::new([3; 32]), AT_MS);
    assert_eq!(book.off(&CHANGES[0]).unwrap().plan().host, host(1));
    assert!(book.off(&CHANGES[1]).is_none());
    let _ended = book.end(&host(1), PlanChange::Cancelled, AT_MS, |_| true);
    assert!(book.off(&CHANGES[0]).is_none() && book.of_change(&CHANGES[0]).count() == 2);
    let _told = book.note(&envelope(2, EventKind::Contested), Digest::new([3; 32]), AT_MS);
    book.put(plan(2, CHANGES[0], true));
    assert!(book.off(&CHANGES[0]).is_none(), "another record took its place");
}

proptest! {
    #[test]
    fn the_index_says_what_a_walk_through_all_plans_says(deeds in prop::collection::vec((0_u32..6, 0_usize..2, 0_u8..5), 1..60)) {
        let mut book = PlanBook::default();
        let mut hosts: BTreeMap<HostId, PlanRecord> = BTreeMap::new();
        for (number, which, deed) in deeds {
            let change = CHANGES[which];
            match deed {
                0 | 1 => {
                    // A plan keeps its change.
                    let change = hosts.get(&host(number)).and_then(PlanRecord::change).unwrap_or(change);
                    book.put(plan(number, change, deed == 1));
                }
                2 => drop(book.end(&host(number), PlanChange::Cancelled, AT_MS, |_| true)),
                3 => drop(book.note(&envelope(number, EventKind::PlanRefused), Digest::new([3; 32]), AT_MS)),
                _ => drop(book.forget(u64::MAX)),
            }
            hosts = (0..6)
                .filter_map(|number| Some((host(number), (**book.get(&host(number), &PlanId::new([1; 32]))?).clone())))
                .collect();
            for change in CHANGES {
                let given = || hosts.values().filter(|one| one.over().is_none() && one.change() == Some(change));
                let off = given().filter(|one| one.told().is_some_and(|told| told.is_off()));
                prop_assert_eq!(book.of_change(&change).map(|one| (**one).clone()).collect::<Vec<_>>(), given().cloned().collect::<Vec<_>>());
                prop_assert_eq!(book.off(&change).map(|one| one.plan().host), off.map(|one| one.plan().host).next());
                prop_assert_eq!(book.are_aligned(&change, AT_MS), given().all(|one| one.is_aligned(AT_MS)));
            }
        }
    }
}
