#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::enforce::controls::{Control, Device};
use crate::enforce::record::Origin;
use proptest::prelude::*;
use quotary_common::envelope::Name;
use quotary_common::units::{Class, Resources};

fn any_grant() -> impl Strategy<Value = GrantId> {
    (0u8..3).prop_map(|n| GrantId::new([n; 32]))
}

fn any_knob() -> impl Strategy<Value = Knob> {
    prop_oneof![
        Just(Knob { control: Control::CpuShares, device: None }),
        Just(Knob { control: Control::DiskMax, device: Some(Device { major: 8, minor: 0 }) }),
    ]
}

fn any_value() -> impl Strategy<Value = ControlValue> {
    (0u8..4).prop_map(|n| ControlValue::lossy(&n.to_string()))
}

fn any_lease() -> impl Strategy<Value = LeaseForm> {
    (0u8..2, 0u64..3, 0u64..9, 0u64..9).prop_map(|(boot, epoch, start_ms, lease_ms)| LeaseForm {
        boot_id: BootId::new([boot; 16]),
        epoch,
        start_ms,
        lease_ms,
    })
}

fn any_owner() -> impl Strategy<Value = Owner> {
    proptest::option::of(0u32..3).prop_map(|uid| Owner {
        uid,
        application: Name::lossy("application"),
        tenant: Name::lossy("tenant"),
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(500), ..Resources::default() },
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let path = || (0u8..2).prop_map(|n| CgroupPath::lossy(&format!("/quotary/{n}")));
    prop_oneof![
        3 => (any_grant(), path(), any_lease(), proptest::option::of(any_owner()))
            .prop_map(|(grant, cgroup, lease, owner)| Record::Granted { grant, cgroup, lease, owner }),
        1 => any_grant().prop_map(|grant| Record::Making { grant }),
        1 => any_grant().prop_map(|grant| Record::Made { grant }),
        3 => (any_grant(), any_knob(), proptest::option::of(any_value()), any_value())
            .prop_map(|(grant, knob, before, after)| Record::Writing { grant, knob, before, after }),
        2 => (any_grant(), any_knob(), proptest::option::of(any_value()))
            .prop_map(|(grant, knob, actual)| Record::Wrote { grant, knob, actual }),
        1 => (any_grant(), any_knob()).prop_map(|(grant, knob)| Record::Contested { grant, knob }),
        1 => (any_grant(), 0u32..5).prop_map(|(grant, pid)| Record::Entering {
            grant,
            entry: Entry {
                pid,
                start_time_ticks: 7,
                uid: Some(1000),
                origins: vec![Origin { controllers: Name::lossy("cpu"), path: CgroupPath::lossy("/user") }],
            },
        }),
        1 => (any_grant(), 0u32..5).prop_map(|(grant, pid)| Record::NotEntered { grant, pid }),
        1 => any_lease().prop_map(|lease| Record::Renewed { lease }),
        1 => (0u64..5).prop_map(|epoch| Record::Fenced { epoch }),
        2 => (any_grant(), 0u8..2, 0u64..9).prop_map(|(grant, boot, at_ms)| Record::Ending {
            grant,
            reason: EndReason::Released,
            boot_id: BootId::new([boot; 16]),
            at_ms,
        }),
        1 => (0u8..2, 0u64..5).prop_map(|(n, epoch)| Record::Enrolled { deployment: DeploymentId::new([n; 32]), epoch }),
        1 => any_grant().prop_map(|grant| Record::Removed { grant }),
        1 => (path(), any::<bool>()).prop_map(|(parent, made)| Record::Preparing { parent, made }),
        1 => Just(Record::ParentRemoved),
        1 => (path(), any_value(), any_value())
            .prop_map(|(cgroup, before, after)| Record::Enabling { cgroup, before, after }),
    ]
}

fn replay(records: &[Record]) -> Held {
    let mut held = Held::default();
    for record in records {
        held.add(record);
    }
    held
}

proptest! {
    #[test]
    fn the_fewest_records_add_up_to_the_same(records in proptest::collection::vec(any_record(), 0..60)) {
        let held = replay(&records);
        prop_assert_eq!(replay(&held.records()), held);
    }

    #[test]
    fn a_record_survives_the_journal_form(record in any_record()) {
        let bytes = quotary_common::cbor::to_bytes(&record);
        prop_assert_eq!(quotary_common::cbor::from_bytes::<Record>(&bytes, 1 << 16).unwrap(), record);
    }

    #[test]
    fn the_value_before_the_first_write_stays_whatever_follows(
        before in any_value(), later in proptest::collection::vec(any_record(), 0..40),
    ) {
        let (grant, knob) = (GrantId::new([9; 32]), Knob { control: Control::CpuMax, device: None });
        let lease = LeaseForm { boot_id: BootId::new([0; 16]), epoch: 0, start_ms: 0, lease_ms: 1 };
        let mut records = vec![
            Record::Granted { grant, cgroup: CgroupPath::lossy("/quotary/x"), lease, owner: None },
            Record::Writing { grant, knob, before: Some(before.clone()), after: ControlValue::lossy("1") },
        ];
        records.extend(later);
        records.push(Record::Writing {
            grant, knob, before: Some(ControlValue::lossy("other")), after: ControlValue::lossy("2"),
        });
        let held = replay(&records);
        prop_assert_eq!(held.grants[&grant].written[&knob].baseline.clone(), Some(before));
    }
}

#[test]
fn a_grant_from_before_owners_were_journaled_is_read_as_nobodys() {
    use minicbor::Encode;
    #[derive(Encode)]
    #[cbor(map)]
    enum Before {
        #[n(0)]
        Granted {
            #[n(0)]
            grant: GrantId,
            #[n(1)]
            cgroup: CgroupPath,
            #[n(2)]
            lease: LeaseForm,
        },
    }
    let (grant, cgroup) = (GrantId::new([1; 32]), CgroupPath::lossy("/q/a"));
    let lease = LeaseForm { boot_id: BootId::new([0; 16]), epoch: 0, start_ms: 0, lease_ms: 1 };
    let bytes = quotary_common::cbor::to_bytes(&Before::Granted { grant, cgroup: cgroup.clone(), lease });
    let read = quotary_common::cbor::from_bytes::<Record>(&bytes, 1 << 16).unwrap();
    assert_eq!(read, Record::Granted { grant, cgroup, lease, owner: None });
}

#[test]
fn many_entries_keep_the_first_and_the_newest() {
    let grant = GrantId::new([1; 32]);
    let lease = LeaseForm { boot_id: BootId::new([0; 16]), epoch: 0, start_ms: 0, lease_ms: 1 };
    let mut held = replay(&[Record::Granted { grant, cgroup: CgroupPath::lossy("/q/a"), lease, owner: None }]);
    for pid in 0..200 {
        let entry = Entry { pid, start_time_ticks: 1, uid: None, origins: Vec::new() };
        held.add(&Record::Entering { grant, entry });
    }
    let entries = &held.grants[&grant].entries;
    assert_eq!((entries.len(), entries[0].pid, entries.last().unwrap().pid), (ENTRIES_MAX, 0, 199));
}
