//! What becomes of an operator's request.

use std::collections::BTreeMap;

use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::{BackendKind, CgroupPath, Hierarchy, Mode, Name};
use quotary_common::id::{BootId, DeploymentId, Digest, PlanId, TokenId};
use quotary_common::limits::PLANS_MAX;
use quotary_common::plan::{OnPressure, ShapedControl, Target};
use quotary_common::reason::Reason;
use quotary_common::units::Resources;
use quotary_common::wire::PlanRequest;

use super::*;
use crate::attest::TrustRoots;
use crate::registry::{Admission, Host, HostProgress, HostRecord, Seen};

pub(super) const NOW_MS: u64 = 1_000_000;
pub(super) const DEPLOYMENT: DeploymentId = DeploymentId::new([1; 32]);

/// `TPMT_PUBLIC` of a P-256 key with these attributes, cipher and scheme; nothing is checked with it here.
fn public(attributes: u32, parameters: &[u16]) -> Vec<u8> {
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let coordinate = [words(&[32]), vec![7; 32]].concat();
    let parts = [
        words(&[0x0023, 0x000B]),
        attributes.to_be_bytes().to_vec(),
        words(&[0]),
        words(parameters),
        words(&[0x0003, 0x0010]),
        coordinate.clone(),
        coordinate,
    ];
    parts.concat()
}

/// A host that is trusted, and stated this backend.
pub(super) fn host(backend: BackendKind) -> Host {
    let record = HostRecord {
        version: Version,
        host: HOST,
        ek_public: public(0x0003_0072, &[0x0006, 128, 0x0043, 0x0010]),
        ak_public: public(0x0005_0072, &[0x0010, 0x0018, 0x000B]),
        tls_key: Digest::of(&[b"key"]),
        ek_issuer: None,
        tpm: None,
        zone_best: Name::lossy("measured"),
        labels: Bounded::default(),
        capacity: Resources::default(),
        token: TokenId::new([1; 32]),
        enrolled_at_ms: 1,
        ek_authority: None,
    };
    let seen = Seen {
        boot_id: BootId::new([3; 16]),
        hostname: Name::lossy("h"),
        agent_version: Name::lossy("1"),
        mode: Mode::Enforce,
        backend,
        hierarchy: Hierarchy::V2,
        witnessed: None,
        built_at_ms: None,
        began_ms: None,
        lacks: None,
    };
    let progress = HostProgress {
        epoch: 3,
        zone: Some(Name::lossy("measured")),
        valid_until_ms: NOW_MS + 1,
        seen: Some(seen),
        ..HostProgress::first()
    };
    Host::new(record, progress, &Admission::new(&TrustRoots::new(vec![]).unwrap(), None)).unwrap()
}

fn request() -> PlanRequest {
    PlanRequest {
        host: None,
        target: Target::Unit(Name::lossy("web.service")),
        values: BTreeMap::from([(ShapedControl::MemoryHigh, 200 << 20), (ShapedControl::CpuWeight, 50)]),
        starts_at_ms: None,
        over_ms: 120_000,
        hold_for_ms: None,
        on_pressure: OnPressure::Hold,
        hold_ms_max: 60_000,
        overrides: false,
    }
}

fn drafted(host: &Host, request: &PlanRequest, book: &PlanBook) -> Result<Plan, Reason> {
    let asked = Asked { deployment: DEPLOYMENT, host, request, book, now_ms: NOW_MS };
    draft(&asked).map(|plan| plan.plan().clone()).map_err(|refusal| refusal.reason)
}

fn alone(request: &PlanRequest) -> Result<Plan, Reason> {
    drafted(&host(BackendKind::Systemd), request, &PlanBook::default())
}

#[test]
fn a_plan_says_what_was_asked_for_from_now_on() {
    let plan = alone(&request()).unwrap();
    assert_eq!((plan.deployment, plan.host, plan.epoch), (DEPLOYMENT, HOST, 3));
    assert_eq!((plan.starts_at_ms, plan.effective_at_ms, plan.ends_at_ms), (NOW_MS, NOW_MS + 120_000, None));
    assert_eq!(plan.not_after_ms, NOW_MS + 120_000 + 3_600_000);
    assert_eq!((plan.on_pressure, plan.hold_ms_max, plan.overrides), (OnPressure::Hold, 60_000, false));
    let courses = plan.courses.iter().map(|course| (course.control, course.setpoints.to_vec()));
    let to = |value| vec![Setpoint { at_ms: NOW_MS + 120_000, value }];
    let expected = [(ShapedControl::CpuWeight, to(50)), (ShapedControl::MemoryHigh, to(200 << 20))];
    assert_eq!(courses.collect::<Vec<_>>(), expected);
    let held = alone(&PlanRequest { hold_for_ms: Some(5), overrides: true, ..request() }).unwrap();
    assert_eq!((held.ends_at_ms, held.overrides), (Some(NOW_MS + 120_005), true));
    let cliff = alone(&PlanRequest { over_ms: 0, ..request() }).unwrap();
    assert_eq!(cliff.effective_at_ms, NOW_MS);
}

#[test]
fn a_plan_starts_now_or_within_31_days_and_never_in_the_past() {
    let at = |starts_at_ms| PlanRequest { starts_at_ms: Some(starts_at_ms), ..request() };
    assert_eq!(alone(&at(0)).unwrap().starts_at_ms, NOW_MS);
    assert_eq!(alone(&at(NOW_MS + 1)).unwrap().starts_at_ms, NOW_MS + 1);
    assert_eq!(alone(&at(NOW_MS + 31 * DAY_MS)).unwrap().starts_at_ms, NOW_MS + 31 * DAY_MS);
    for late in [NOW_MS + 31 * DAY_MS + 1, u64::MAX] {
        assert_eq!(alone(&at(late)), Err(Reason::Plan));
    }
}

#[test]
fn a_plan_that_would_never_take_effect_or_end_is_none() {
    let over = |over_ms, hold_for_ms| alone(&PlanRequest { over_ms, hold_for_ms, ..request() });
    assert_eq!(over(31 * DAY_MS, None).unwrap().effective_at_ms, NOW_MS + 31 * DAY_MS);
    assert_eq!(over(31 * DAY_MS + 1, None), Err(Reason::Plan), "longer than a plan may take");
    assert_eq!(over(u64::MAX, None), Err(Reason::Plan));
    assert_eq!(over(0, Some(u64::MAX - NOW_MS)).unwrap().ends_at_ms, Some(u64::MAX));
    assert_eq!(over(0, Some(u64::MAX - NOW_MS + 1)), Err(Reason::Plan));
    assert_eq!(over(1, Some(0)).unwrap().ends_at_ms, Some(NOW_MS + 1));
}

#[test]
fn what_does_not_hold_together_is_refused() {
    let with = |control, value| PlanRequest { values: BTreeMap::from([(control, value)]), ..request() };
    for control in ShapedControl::ALL {
        let (least, most) = control.range();
        assert!(alone(&with(control, least)).is_ok() && alone(&with(control, most)).is_ok(), "{control}");
        assert_eq!(alone(&with(control, most + 1)), Err(Reason::Plan), "{control}");
    }
    assert_eq!(alone(&with(ShapedControl::CpuWeight, 0)), Err(Reason::Plan));
    assert_eq!(alone(&PlanRequest { values: BTreeMap::new(), ..request() }), Err(Reason::Plan));
    for name in ["web", ".service", "a@.service", "a b.service", "../a.service"] {
        let target = Target::Unit(Name::lossy(name));
        assert_eq!(alone(&PlanRequest { target, ..request() }), Err(Reason::Plan), "{name}");
    }
}

#[test]
fn only_a_trusted_host_with_a_backend_for_the_target_takes_a_plan() {
    let book = PlanBook::default();
    let group = PlanRequest { target: Target::Cgroup(CgroupPath::lossy("/quotary/a")), ..request() };
    let takes = |backend, request: &PlanRequest| drafted(&host(backend), request, &book).is_ok();
    let of_backend = |backend| (takes(backend, &request()), takes(backend, &group));
    assert_eq!(of_backend(BackendKind::Systemd), (true, true));
    assert_eq!(of_backend(BackendKind::Direct), (false, true));
    assert_eq!(of_backend(BackendKind::None), (false, false));
    let refused = |change: fn(&mut HostProgress)| {
        let mut host = host(BackendKind::Systemd);
        change(&mut host.progress);
        assert_eq!(drafted(&host, &request(), &PlanBook::default()), Err(Reason::Plan));
    };
    refused(|progress| progress.zone = None);
    refused(|progress| progress.valid_until_ms = NOW_MS);
    refused(|progress| progress.seen = None);
    let lacking = |controls: &[ShapedControl]| {
        let mut host = host(BackendKind::Systemd);
        if let Some(seen) = &mut host.progress.seen {
            seen.lacks = Bounded::new(controls.to_vec());
        }
        drafted(&host, &request(), &book).is_ok()
    };
    assert!(lacking(&[ShapedControl::MemoryHigh, ShapedControl::Storage]), "the other one is moved");
    assert!(!lacking(&[ShapedControl::MemoryHigh, ShapedControl::CpuWeight]));
    refused(|progress| progress.revoked = Some((1, quotary_common::cbor::Text::lossy("sold"))));
}

#[test]
fn a_host_has_so_many_plans_and_a_target_that_has_one_may_have_a_newer() {
    let mut book = PlanBook::default();
    let full = |book: &PlanBook, unit: &str| {
        let request = PlanRequest { target: Target::Unit(Name::lossy(unit)), ..request() };
        drafted(&host(BackendKind::Systemd), &request, book)
    };
    for n in 0..PLANS_MAX {
        assert!(full(&book, "one-more.service").is_ok(), "{n}");
        let mut record = plan(0, &format!("u{n}.service"), 5, None).plan().clone();
        record.id = PlanId::of(&[&n.to_be_bytes()]);
        book.put(PlanRecord::new(check(record).unwrap(), &key(), "token t-x", 900));
    }
    assert_eq!(full(&book, "one-more.service"), Err(Reason::Busy));
    assert!(full(&book, "u7.service").is_ok(), "it takes the place of one");
    book.end(&HOST, PlanChange::Cancelled, 9, |record| record.plan().id == PlanId::of(&[&0_usize.to_be_bytes()]));
    assert!(full(&book, "one-more.service").is_ok(), "what is over takes no place");
}

#[test]
fn a_generation_rises_whatever_the_clock_says() {
    let mut book = PlanBook::default();
    let first = drafted(&host(BackendKind::Systemd), &request(), &book).unwrap();
    assert_eq!(first.generation, NOW_MS);
    book.put(PlanRecord::new(check(first.clone()).unwrap(), &key(), "token t-x", NOW_MS));
    let second = drafted(&host(BackendKind::Systemd), &request(), &book).unwrap();
    assert_eq!(second.generation, NOW_MS + 1, "in the same millisecond");
    assert_ne!(second.id, first.id);
    let ahead = Plan { generation: NOW_MS + 900, id: PlanId::new([8; 32]), ..second };
    book.put(PlanRecord::new(check(ahead).unwrap(), &key(), "token t-x", NOW_MS));
    assert_eq!(drafted(&host(BackendKind::Systemd), &request(), &book).unwrap().generation, NOW_MS + 901);
    let other = PlanRequest { target: Target::Unit(Name::lossy("db.service")), ..request() };
    assert_eq!(drafted(&host(BackendKind::Systemd), &other, &book).unwrap().generation, NOW_MS);
}
