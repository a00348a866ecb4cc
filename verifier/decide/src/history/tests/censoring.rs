//! Usage at a limit is marked, by whatever way the limit is known; shortages decay.

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::envelope::{
    BackendKind, CgroupPath, ControlValue, EnforcementWrite, Envelope, Event, EventKind, Mode,
};
use quotary_common::grant::Grant;
use quotary_common::id::RequestId;
use quotary_common::metric::{Metric, MetricWindow};
use quotary_common::units::{Class, Resources};

use super::super::*;
use super::{BUILT_AT_MS, COMMITTED_AT_MS, WINDOW_MS, bounds, envelope, group, host, timeline, window};
use crate::allocate::{GrantRecord, Rules};

pub(super) const GRANT: GrantId = GrantId::new([7; 32]);

fn write(control: &str, actual: &str) -> EnforcementWrite {
    EnforcementWrite {
        plan: None,
        grant: Some(GRANT),
        cgroup: CgroupPath::new("/a").unwrap(),
        backend: BackendKind::Direct,
        control: Text::lossy(control),
        before: None,
        after: ControlValue::lossy(actual),
        actual: Some(ControlValue::lossy(actual)),
        effective: true,
        at_ms: BUILT_AT_MS - WINDOW_MS,
        dry_run: false,
    }
}

pub(super) fn grant(resources: Resources, class: Class) -> GrantRecord {
    GrantRecord {
        version: Version,
        host: host(),
        grant: Grant {
            id: GRANT,
            request: RequestId::new([1; 32]),
            application: Text::lossy("app"),
            tenant: Text::lossy("blue"),
            class,
            resources,
        },
        requested: resources,
        epoch: 1,
        given_sequence: 1,
        sized_at_ms: 0,
        why: Text::lossy(""),
        model: None,
        uncut: None,
    }
}

/// A host that enforces, with one group that uses `cpu` millicores.
fn using(cpu: u64) -> Envelope {
    let of = |metric, mean| window(metric, mean);
    let mut envelope = envelope(&[of(Metric::CpuMillicores, cpu)], &[("/a", &[of(Metric::CpuMillicores, cpu)])]);
    envelope.backend.mode = Mode::Enforce;
    envelope.backend.kind = BackendKind::Direct;
    let mut applications = envelope.applications.into_vec();
    applications[0].grant = Some(GRANT);
    envelope.applications = Bounded::new(applications).unwrap();
    envelope
}

fn recorded(history: &mut History, envelope: &Envelope, grants: &[&GrantRecord]) {
    let load = BoundedLoad::bounded(envelope, &bounds(Some(timeline(30_000)), 30_000));
    let rules = Rules::default();
    let capacity = super::capacity();
    history.record(
        &load.placed(&Standing { enrolled_at_ms: 1, pool: None, capacity, grants, rules: &rules }),
        COMMITTED_AT_MS,
    );
}

/// Whether the newest window of a series is censored.
fn is_censored(history: &History, subject: Subject, resource: ResourceKind) -> bool {
    let series = history.get(&SeriesKey { host: Some(host()), subject, measure: resource.into() }).unwrap();
    series.windows().last().unwrap().point.is_censored()
}

fn cpu_is_censored(envelope: &Envelope, grants: &[&GrantRecord]) -> bool {
    let mut history = History::new(60_000);
    recorded(&mut history, envelope, grants);
    is_censored(&history, group("/a"), ResourceKind::Cpu)
}

#[test]
fn usage_at_a_written_limit_is_censored_and_below_it_is_not() {
    let with =
        |cpu, control, actual| Envelope { writes: Bounded::new(vec![write(control, actual)]).unwrap(), ..using(cpu) };
    // 500 millicores, as a grant's write shows them, and as a plan's does.
    for (control, actual) in [("cpu.max", "50000 100000"), ("cpu.max", "500"), ("cpu.cfs_quota_us", "50000")] {
        assert!(cpu_is_censored(&with(475, control, actual), &[]), "{control} {actual}");
        assert!(!cpu_is_censored(&with(474, control, actual), &[]), "{control} {actual}");
    }
    assert!(!cpu_is_censored(&with(475, "cpu.max", "max 100000"), &[]));
    let mut shown = write("cpu.max", "500");
    shown.dry_run = true;
    assert!(!cpu_is_censored(&Envelope { writes: Bounded::new(vec![shown]).unwrap(), ..using(475) }, &[]));
    let mut vain = write("cpu.max", "500");
    vain.effective = false;
    assert!(!cpu_is_censored(&Envelope { writes: Bounded::new(vec![vain]).unwrap(), ..using(475) }, &[]));
    let mut later = write("cpu.max", "500");
    later.at_ms = BUILT_AT_MS + 1;
    assert!(!cpu_is_censored(&Envelope { writes: Bounded::new(vec![later]).unwrap(), ..using(475) }, &[]));
}

#[test]
fn a_grant_limits_where_the_host_enforces_and_wrote_nothing_else() {
    let cpu = Resources { cpu_millicores: Some(500), ..Resources::default() };
    let given = grant(cpu, Class::Burstable);
    assert!(cpu_is_censored(&using(480), &[&given]));
    assert!(!cpu_is_censored(&using(400), &[&given]));
    assert!(!cpu_is_censored(&using(480), &[&grant(cpu, Class::Guaranteed)]), "it has no quota");
    let mut watching = using(480);
    watching.backend.mode = Mode::Observe;
    assert!(!cpu_is_censored(&watching, &[&given]));
    // What the host wrote stands over what was granted, until it boots anew.
    let mut history = History::new(60_000);
    let lifted = Envelope { writes: Bounded::new(vec![write("cpu.max", "max")]).unwrap(), ..using(480) };
    recorded(&mut history, &lifted, &[&given]);
    recorded(&mut history, &using(480), &[&given]);
    assert!(!is_censored(&history, group("/a"), ResourceKind::Cpu));
    let rebooted = Envelope { boot_id: BootId::new([9; 16]), ..using(480) };
    recorded(&mut history, &rebooted, &[&given]);
    assert!(is_censored(&history, group("/a"), ResourceKind::Cpu));
}

#[test]
fn a_host_at_its_inventory_and_a_throttled_group_are_censored() {
    let mut history = History::new(60_000);
    recorded(&mut history, &using(1_950), &[]);
    assert!(is_censored(&history, Subject::Host, ResourceKind::Cpu), "of two cores");
    let throttled = |ppm| {
        let windows = [window(Metric::CpuMillicores, 300), window(Metric::CpuThrottledPpm, ppm)];
        let mut envelope = envelope(&[window(Metric::CpuMillicores, 300)], &[("/a", &windows)]);
        envelope.backend.mode = Mode::Enforce;
        envelope
    };
    assert!(cpu_is_censored(&throttled(50_000), &[]) && !cpu_is_censored(&throttled(49_999), &[]));
    recorded(&mut history, &throttled(50_000), &[]);
    let key = SeriesKey { host: Some(host()), subject: group("/a"), measure: ResourceKind::Cpu.into() };
    assert_eq!(history.get(&key).unwrap().pressure(COMMITTED_AT_MS), 50);
}

#[test]
fn an_event_censors_its_window_and_raises_a_pressure_that_decays() {
    let memory = |start_ms| MetricWindow { start_ms, ..window(Metric::MemoryBytes, 1 << 20) };
    let windows = [memory(BUILT_AT_MS - 2 * WINDOW_MS), memory(BUILT_AT_MS - WINDOW_MS)];
    let mut envelope = envelope(&[], &[("/a", &windows), ("/b", &windows)]);
    let event = Event {
        kind: EventKind::OomKill,
        cgroup: CgroupPath::new("/a"),
        count: u64::MAX,
        at_ms: BUILT_AT_MS - WINDOW_MS - 5_000,
    };
    envelope.events = Bounded::new(vec![event]).unwrap();
    let mut history = History::new(60_000);
    recorded(&mut history, &envelope, &[]);
    let series = |path| {
        history.get(&SeriesKey { host: Some(host()), subject: group(path), measure: ResourceKind::Memory.into() })
    };
    let marks = |path| series(path).unwrap().windows().map(|window| window.point.is_censored()).collect::<Vec<_>>();
    assert_eq!((marks("/a"), marks("/b")), (vec![true, false], vec![false, false]));
    let at = |path, after_ms: u64| series(path).unwrap().pressure(COMMITTED_AT_MS + after_ms);
    assert_eq!((at("/a", 0), at("/b", 0)), (500, 0));
    assert_eq!(at("/a", PRESSURE_HALF_LIFE_MS), 250);
    assert_eq!(at("/a", 100 * PRESSURE_HALF_LIFE_MS), 0);
}

#[test]
fn an_application_is_whose_its_grant_says_with_what_was_declared() {
    let given = grant(Resources { cpu_millicores: Some(500), ..Resources::default() }, Class::Burstable);
    let mut history = History::new(60_000);
    recorded(&mut history, &using(300), &[&given]);
    let owner = history.owner_of(&host(), "/a").unwrap();
    assert_eq!((&owner.application, &owner.tenant), (&Some(Text::lossy("app")), &Some(Text::lossy("blue"))));
    assert_eq!(owner.declared, given.requested);
    // Its grant ended, and no rule is for it.
    recorded(&mut history, &using(300), &[]);
    assert_eq!(history.owner_of(&host(), "/a"), Some(&Owner::default()));
    assert_eq!(history.owner_of(&host(), "/b"), None);
}

proptest! {
    #[test]
    fn whatever_a_write_says_it_does_not_panic_and_moves_no_other_series(
        control in prop_oneof![Just("cpu.max"), Just("io.max"), Just("memory.high"), Just("io.max rbps"), Just("net.egress"), Just("cpu.cfs_quota_us")],
        actual in "[0-9a-z=: -]{0,40}",
        cpu in 0..2_000_u64,
    ) {
        let written = Envelope { writes: Bounded::new(vec![write(control, &actual)]).unwrap(), ..using(cpu) };
        let (mut history, mut without) = (History::new(60_000), History::new(60_000));
        recorded(&mut history, &written, &[]);
        recorded(&mut without, &using(cpu), &[]);
        let key = SeriesKey { host: Some(host()), subject: Subject::Host, measure: ResourceKind::Cpu.into() };
        let held = |history: &History| history.get(&key).unwrap().windows().copied().collect::<Vec<_>>();
        prop_assert_eq!(held(&history), held(&without));
    }
}
