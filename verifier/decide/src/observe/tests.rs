//! What would have been limited: windows held against plans and grants.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::envelope::{
    ApplicationReport, Backend, BackendKind, CgroupPath, Envelope, EnvelopeVersion, Event, EventKind, Hierarchy,
    HostFacts, Mode, Name,
};
use quotary_common::grant::Grant;
use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, HostId, PlanId, RequestId};
use quotary_common::leaf::PlanChange;
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::plan::{Course, OnPressure, Plan, Setpoint, ShapedControl, Target, check};
use quotary_common::sign::SigningKey;
use quotary_common::units::{Class, Resources};

use super::*;
use crate::allocate::GrantRecord;
use crate::history::{BoundedLoad, Bounds, Timeline};
use crate::shape::{PlanBook, PlanRecord};

const HOST: HostId = HostId::new([2; 32]);
const BOOT: BootId = BootId::new([3; 16]);
/// The verifier's time when the host booted, Unix ms.
const BASE_MS: u64 = 1_000_000_000;
const WINDOW_MS: u64 = 10_000;
const LEASE_MS: u64 = 300_000;
const MIB: u64 = 1 << 20;

fn key() -> SigningKey {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([7; 32]);
    SigningKey::from_pkcs8(&pkcs8).unwrap()
}

/// A plan for `web.service` from second `starts_s` to `effective_s` after the boot.
fn plan(id: u8, courses: &[(ShapedControl, u64)], (starts_s, effective_s): (u64, u64)) -> Plan {
    let at_ms = BASE_MS + effective_s * 1000;
    let course = |(control, value): &(ShapedControl, u64)| Course {
        control: *control,
        setpoints: Bounded::new(vec![Setpoint { at_ms, value: *value }]).unwrap(),
    };
    Plan {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        host: HOST,
        id: PlanId::new([id; 32]),
        epoch: 1,
        target: Target::Unit(Name::lossy("web.service")),
        generation: u64::from(id),
        starts_at_ms: BASE_MS + starts_s * 1000,
        effective_at_ms: at_ms,
        ends_at_ms: None,
        not_after_ms: at_ms,
        courses: Bounded::new(courses.iter().map(course).collect()).unwrap(),
        on_pressure: OnPressure::Hold,
        hold_ms_max: 0,
        overrides: false,
        decision: None,
    }
}

fn grant(id: u8, class: Class, resources: Resources) -> GrantRecord {
    GrantRecord {
        version: Version,
        host: HOST,
        grant: Grant {
            id: GrantId::new([id; 32]),
            request: RequestId::new([id; 32]),
            application: Name::lossy("batch"),
            tenant: Name::lossy("shop"),
            class,
            resources,
        },
        requested: resources,
        epoch: 1,
        given_sequence: 1,
        sized_at_ms: 0,
        why: Text::lossy("asked"),
        model: None,
        uncut: None,
    }
}

/// One window of a metric, ending `end_s` after the boot.
fn window(metric: Metric, end_s: u64, (mean, max): (u64, u64)) -> MetricWindow {
    let start_ms = end_s * 1000 - WINDOW_MS;
    MetricWindow { metric, start_ms, duration_ms: WINDOW_MS, samples: 10, mean, max, p95: max, label: None }
}

/// The application of `web.service`.
fn web(windows: &[MetricWindow]) -> ApplicationReport {
    ApplicationReport {
        cgroup: CgroupPath::lossy("/system.slice/web.service"),
        unit: Some(Name::lossy("web.service")),
        uid: None,
        grant: None,
        windows: MetricWindows::new(windows).unwrap(),
    }
}

struct Scene {
    observed: Observed,
    book: PlanBook,
    grants: Vec<GrantRecord>,
    mode: Mode,
    events: Vec<Event>,
    epoch: u64,
    before_s: u64,
}

impl Scene {
    fn new(plans: Vec<Plan>) -> Self {
        let mut book = PlanBook::default();
        for plan in plans {
            book.put(PlanRecord::new(check(plan).unwrap(), &key(), "token t-ops", BASE_MS));
        }
        Self {
            observed: Observed::default(),
            book,
            grants: Vec::new(),
            mode: Mode::Observe,
            events: Vec::new(),
            epoch: 1,
            before_s: 0,
        }
    }

    /// Evidence that is built and committed `now_s` after the boot.
    fn evidence(&mut self, now_s: u64, applications: Vec<ApplicationReport>) -> bool {
        // What the host as a whole used is no less.
        let of_host = applications.iter().flat_map(|application| application.windows.to_vec()).map(|window| {
            let many = u64::MAX / 4;
            MetricWindow { mean: many, max: many, p95: many, ..window }
        });
        let mut of_host: Vec<MetricWindow> = of_host.collect();
        of_host.sort_by_key(|window| (window.start_ms, window.metric));
        let envelope = Envelope {
            version: EnvelopeVersion::WindowGroups,
            deployment: DeploymentId::new([1; 32]),
            host: HOST,
            boot_id: BOOT,
            sequence: 2,
            predecessor: Digest::new([0; 32]),
            tls_key: Digest::new([0; 32]),
            checkpoint: None,
            agent_version: Text::lossy("0"),
            built_at_ms: now_s * 1000,
            backend: Backend {
                kind: BackendKind::Systemd,
                mode: self.mode,
                hierarchy: Hierarchy::V2,
                controls: Bounded::default(),
            },
            host_windows: MetricWindows::new(&of_host).unwrap(),
            applications: Bounded::new(applications).unwrap(),
            events: Bounded::new(std::mem::take(&mut self.events)).unwrap(),
            writes: Bounded::default(),
            requests: Bounded::default(),
            held: Bounded::default(),
            facts: HostFacts {
                hostname: Text::lossy("edge"),
                kernel: Text::lossy("6.1"),
                cpu_millicores: 4_000,
                memory_bytes: 1 << 40,
                os: None,
            },
        };
        let capacity = Resources { cpu_millicores: Some(4_000), ..Resources::default() };
        let (before_ms, now_ms) = (BASE_MS + self.before_s * 1000, BASE_MS + now_s * 1000);
        let before = Timeline { boot_id: BOOT, built_at_ms: self.before_s * 1000, began_ms: BASE_MS };
        let bounds = Bounds {
            capacity,
            before: Some(before),
            since_ms: before_ms,
            now_ms,
            window_ms: WINDOW_MS,
            wait_ms: LEASE_MS,
        };
        let load = BoundedLoad::bounded(&envelope, &bounds);
        let plans: Vec<Arc<PlanRecord>> = self.book.of_host(&HOST).cloned().collect();
        let grants: Vec<&GrantRecord> = self.grants.iter().collect();
        self.before_s = now_s;
        self.observed.note(&Observation {
            envelope: &envelope,
            load: &load,
            plans: &plans,
            grants: &grants,
            capacity: &capacity,
            epoch: self.epoch,
            before_ms,
            now_ms,
            lease_ms: LEASE_MS,
        })
    }

    fn line(&self, control: ShapedControl) -> &Line {
        self.observed.lines().iter().find(|line| line.control == control).unwrap()
    }
}

fn untold(line: &Line) -> Vec<(&'static str, u64)> {
    line.untold_ms.iter().map(|(why, ms)| (why.code(), *ms)).collect()
}

#[test]
fn a_load_over_its_setpoint_half_of_the_time_is_over_it_half_of_the_time() {
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::CpuQuota, 500)], (0, 0))]);
    // Before the host knows of the plan nothing counts.
    assert!(scene.evidence(20, vec![web(&[window(Metric::CpuMillicores, 20, (900, 900))])]));
    assert_eq!((scene.line(ShapedControl::CpuQuota).compared_ms, scene.observed.evidences()), (0, 1));
    for step in 1..=5 {
        let now_s = 20 + step * 20;
        let of = |end_s, figures| window(Metric::CpuMillicores, end_s, figures);
        scene.evidence(now_s, vec![web(&[of(now_s - 10, (1_500, 2_000)), of(now_s, (100, 400))])]);
    }
    let line = scene.line(ShapedControl::CpuQuota);
    assert_eq!((line.compared_ms, line.over_ms, line.peaks_ms), (100_000, 50_000, 0));
    assert_eq!(line.excess.per_second(), 1_000 * 50, "one core too many for 50 s, in millicore-seconds");
    assert_eq!((line.excess_max, line.limit, line.used_mean()), (1_500, Some(500), 800));
    assert_eq!((line.from_ms, line.last_ms), (BASE_MS + 20_000, Some(BASE_MS + 120_000)));
    assert_eq!((line.subject.as_str(), line.maker.as_str(), &line.tenant), ("web.service", "token t-ops", &None));
    assert_eq!((scene.observed.since_ms(), scene.observed.left_out()), (Some(BASE_MS + 20_000), 0));
    assert!(untold(line).is_empty());
}

#[test]
fn a_plan_that_moves_is_compared_along_its_line() {
    // From what is in use (1000 MiB) at second 10 to 0.5 of it at second 110.
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::MemoryHigh, 500 * MIB)], (0, 110))]);
    scene.evidence(10, vec![web(&[])]);
    for step in 1..=12 {
        let now_s = 10 + step * 10;
        let figures = (1_000 * MIB, 1_000 * MIB);
        scene.evidence(now_s, vec![web(&[window(Metric::MemoryBytes, now_s, figures)])]);
        let line = scene.line(ShapedControl::MemoryHigh);
        // The line in the middle of the window.
        let down = (50 * step - 25).min(500);
        assert_eq!(line.limit, Some((1_000 - down) * MIB), "second {now_s}");
    }
    let line = scene.line(ShapedControl::MemoryHigh);
    assert_eq!((line.over_ms, line.compared_ms), (120_000, 120_000));
    assert_eq!(line.excess_max, 500 * MIB);
    // 25, 75, …, 475 MiB, each for 10 s, then 500 MiB for 20 s.
    assert_eq!(line.excess.per_second(), (2_500 * 10 + 500 * 20) * MIB);
}

#[test]
fn a_peak_within_a_window_is_told_apart_from_a_mean_above_the_limit() {
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::CpuQuota, 500)], (0, 0))]);
    scene.evidence(10, vec![web(&[])]);
    scene.evidence(20, vec![web(&[window(Metric::CpuMillicores, 20, (500, 501))])]);
    scene.evidence(30, vec![web(&[window(Metric::CpuMillicores, 30, (500, 500))])]);
    let line = scene.line(ShapedControl::CpuQuota);
    assert_eq!((line.over_ms, line.peaks_ms, line.excess.per_second(), line.excess_max), (0, 10_000, 0, 1));
}

#[test]
fn reads_and_writes_are_held_against_their_own_limits() {
    let courses = [(ShapedControl::IoReadMax, 10_000), (ShapedControl::IoWriteMax, 10_000)];
    let mut scene = Scene::new(vec![plan(1, &courses, (0, 0))]);
    scene.evidence(10, vec![web(&[])]);
    let windows = [
        window(Metric::DiskReadBytesPerSecond, 20, (9_000, 9_500)),
        window(Metric::DiskWriteBytesPerSecond, 20, (30_000, 50_000)),
    ];
    scene.evidence(20, vec![web(&windows)]);
    let (read, write) = (scene.line(ShapedControl::IoReadMax), scene.line(ShapedControl::IoWriteMax));
    assert_eq!((read.over_ms, read.peaks_ms, read.used_mean()), (0, 0, 9_000));
    assert_eq!(
        (write.over_ms, write.excess.per_second(), write.excess_max, write.used_mean()),
        (10_000, 200_000, 40_000, 30_000)
    );
}

#[test]
fn a_weight_takes_nothing_away_and_is_told_with_what_was_used() {
    let courses = [(ShapedControl::CpuWeight, 10), (ShapedControl::CpuIdle, 1), (ShapedControl::MemoryLow, MIB)];
    let mut scene = Scene::new(vec![plan(1, &courses, (0, 0))]);
    scene.evidence(10, vec![web(&[])]);
    let windows =
        [window(Metric::CpuMillicores, 20, (3_000, 4_000)), window(Metric::MemoryBytes, 20, (9 * MIB, 9 * MIB))];
    scene.evidence(20, vec![web(&windows)]);
    for (control, used) in
        [(ShapedControl::CpuWeight, 3_000), (ShapedControl::CpuIdle, 3_000), (ShapedControl::MemoryLow, 9 * MIB)]
    {
        let line = scene.line(control);
        assert_eq!((line.compared_ms, line.used_mean()), (10_000, used), "{control}");
        assert_eq!((line.over_ms, line.peaks_ms, line.excess.per_second(), line.excess_max), (0, 0, 0, 0), "{control}");
        assert_eq!(Kind::of(control), Kind::Share);
    }
}

#[test]
fn a_grant_limits_its_own_group_as_agents_hold_it() {
    let resources = Resources {
        cpu_millicores: Some(500),
        memory_bytes: Some(64 * MIB),
        disk_bytes_per_second: Some(5_000),
        ..Resources::default()
    };
    let mut scene = Scene::new(vec![]);
    scene.mode = Mode::DryRun;
    scene.grants = vec![grant(1, Class::Burstable, resources), grant(2, Class::Guaranteed, resources)];
    let group = |id: u8, windows: &[MetricWindow]| ApplicationReport {
        cgroup: CgroupPath::lossy(&format!("/quotary/{id}")),
        unit: None,
        grant: Some(GrantId::new([id; 32])),
        ..web(windows)
    };
    scene.evidence(10, vec![]);
    let windows = [window(Metric::CpuMillicores, 20, (700, 900)), window(Metric::MemoryBytes, 20, (MIB, 65 * MIB))];
    scene.evidence(20, vec![group(1, &windows)]);
    let of = |id: u8, control| {
        let cause = Cause::Grant(GrantId::new([id; 32]));
        scene.observed.lines().iter().find(|line| (line.cause, line.control) == (cause, control))
    };
    let cpu = of(1, ShapedControl::CpuQuota).unwrap();
    assert_eq!((cpu.over_ms, cpu.excess.per_second(), cpu.tenant.as_ref().unwrap().as_str()), (10_000, 2_000, "shop"));
    assert_eq!((cpu.subject.as_str(), cpu.maker.as_str()), ("batch", "batch"));
    let memory = of(1, ShapedControl::MemoryHigh).unwrap();
    assert_eq!((memory.over_ms, memory.peaks_ms, memory.excess_max), (0, 10_000, MIB));
    assert_eq!(untold(of(1, ShapedControl::IoReadMax).unwrap()), [("not-measured", 10_000)]);
    // A guaranteed grant has no quota; and what has no group of its own cannot be told.
    assert!(of(2, ShapedControl::CpuQuota).is_none() && of(1, ShapedControl::CpuWeight).is_none());
    let share = of(2, ShapedControl::CpuWeight).unwrap();
    assert_eq!(untold(share), [("not-seen", 10_000)]);
}

#[test]
fn what_is_not_seen_not_measured_or_not_covered_is_told_and_not_counted() {
    let courses = [(ShapedControl::CpuQuota, 500), (ShapedControl::Storage, 2 * MIB)];
    let mut scene = Scene::new(vec![plan(1, &courses, (0, 0))]);
    scene.evidence(10, vec![]);
    scene.evidence(20, vec![]);
    scene.evidence(30, vec![web(&[window(Metric::CpuMillicores, 30, (900, 900))])]);
    // Silent for longer than a lease: the host would have gone back to its own values by then.
    let late = [window(Metric::CpuMillicores, 320, (900, 900)), window(Metric::CpuMillicores, 340, (900, 900))];
    scene.evidence(340, vec![web(&late)]);
    let (cpu, storage) = (scene.line(ShapedControl::CpuQuota), scene.line(ShapedControl::Storage));
    assert_eq!((cpu.compared_ms, cpu.over_ms), (20_000, 20_000));
    assert_eq!(untold(cpu), [("not-seen", 10_000), ("lease-over", 10_000)]);
    assert_eq!(untold(storage), [("not-seen", 10_000), ("not-measured", 320_000)]);
    scene.events = vec![Event {
        kind: EventKind::PlanRefused,
        cgroup: Some(CgroupPath::lossy("web.service")),
        count: 1,
        at_ms: 345_000,
    }];
    scene.evidence(350, vec![]);
    assert_eq!(scene.line(ShapedControl::CpuQuota).refused_at_ms, Some(BASE_MS + 350_000));
}

#[test]
fn a_plan_counts_from_when_it_is_known_to_when_it_is_over() {
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::CpuQuota, 500)], (25, 25))]);
    let busy = |end_s| vec![web(&[window(Metric::CpuMillicores, end_s, (900, 900))])];
    scene.evidence(10, busy(10));
    for now_s in [20, 30, 40] {
        scene.evidence(now_s, busy(now_s));
    }
    // It starts at second 25: only the window from 30 to 40 lies behind that.
    assert_eq!(scene.line(ShapedControl::CpuQuota).over_ms, 10_000);
    scene.book.end(&HOST, PlanChange::Cancelled, BASE_MS + 55_000, |_| true);
    scene.evidence(60, vec![web(&[50, 60].map(|end_s| window(Metric::CpuMillicores, end_s, (900, 900))))]);
    scene.evidence(70, busy(70));
    let line = scene.line(ShapedControl::CpuQuota);
    assert_eq!((line.over_ms, line.compared_ms), (20_000, 20_000), "cancelled at second 55");
    // A plan of another epoch is void, and begins nothing.
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::CpuQuota, 500)], (0, 0))]);
    scene.epoch = 2;
    scene.evidence(10, busy(10));
    assert!(scene.observed.lines().is_empty());
}

#[test]
fn a_host_that_enforces_is_not_observed() {
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::CpuQuota, 500)], (0, 0))]);
    scene.mode = Mode::Enforce;
    assert!(!scene.evidence(10, vec![]));
    assert_eq!(scene.observed, Observed::default());
}

#[test]
fn lines_are_bounded_and_those_that_are_over_make_room() {
    let controls: Vec<_> = ShapedControl::ALL.into_iter().map(|control| (control, control.range().1)).collect();
    let many = |range: std::ops::Range<u8>| range.map(|id| plan(id, &controls, (0, 0))).collect::<Vec<_>>();
    let mut scene = Scene::new(many(0..60));
    scene.evidence(10, vec![]);
    assert_eq!((scene.observed.lines().len(), scene.observed.left_out()), (512, 88));
    let kept = PlanId::new([7; 32]);
    scene.book.end(&HOST, PlanChange::Cancelled, BASE_MS + 11_000, |record| record.plan().id != kept);
    for plan in many(100..110) {
        scene.book.put(PlanRecord::new(check(plan).unwrap(), &key(), "token t-ops", BASE_MS));
    }
    scene.evidence(20, vec![]);
    let of = |id: PlanId| scene.observed.lines().iter().filter(|line| line.cause == Cause::Plan(id)).count();
    assert_eq!(scene.observed.lines().len(), 512);
    assert!((100..110).all(|id| of(PlanId::new([id; 32])) == 10) && of(kept) == 10);
    let bytes = scene.observed.to_bytes();
    assert!(bytes.len() < 512 * 1024, "{}", bytes.len());
    assert_eq!(Observed::from_bytes(&bytes, 1 << 20).unwrap(), scene.observed);
}

#[test]
fn sums_lose_nothing_and_are_kept_whole() {
    let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::MemoryHigh, MIB)], (0, 0))]);
    scene.evidence(10, vec![web(&[])]);
    // More than 64 bits of byte-milliseconds, and a mean that no rounding pulls down.
    for step in 2..400 {
        let figures = ((1 << 60) + step % 2, 1 << 61);
        scene.evidence(step * 10, vec![web(&[window(Metric::MemoryBytes, step * 10, figures)])]);
    }
    let line = scene.line(ShapedControl::MemoryHigh);
    assert_eq!((line.used_mean(), line.excess.per_second()), (1 << 60, u64::MAX));
    assert_eq!(Observed::from_bytes(&scene.observed.to_bytes(), 1 << 20).unwrap(), scene.observed);
}

proptest! {
    #[test]
    fn no_figure_is_more_than_the_time_and_the_load_that_windows_show(
        limit in 10_u64..4_000, means in prop::collection::vec((0_u64..4_000, 0_u64..1_000), 1..20)
    ) {
        let mut scene = Scene::new(vec![plan(1, &[(ShapedControl::CpuQuota, limit)], (0, 0))]);
        scene.evidence(10, vec![web(&[])]);
        let mut now_s = 10;
        for (mean, more) in &means {
            now_s += 10;
            scene.evidence(now_s, vec![web(&[window(Metric::CpuMillicores, now_s, (*mean, mean + more))])]);
        }
        let line = scene.line(ShapedControl::CpuQuota);
        let over: Vec<u64> = means.iter().map(|(mean, _)| mean.saturating_sub(limit)).filter(|over| *over > 0).collect();
        prop_assert_eq!(line.compared_ms, means.len() as u64 * WINDOW_MS);
        prop_assert_eq!(line.over_ms, over.len() as u64 * WINDOW_MS);
        prop_assert_eq!(line.excess.per_second(), over.iter().sum::<u64>() * 10);
        prop_assert!(line.over_ms + line.peaks_ms <= line.compared_ms);
    }
}
