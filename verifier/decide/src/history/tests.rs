//! Bounds on what a host states, and how history takes it.

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, Text};
use quotary_common::envelope::{
    ApplicationReport, Backend, BackendKind, CgroupPath, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode,
};
use quotary_common::id::{BootId, DeploymentId, Digest};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::units::Resources;

use super::bounds::{BoundedLoad, Bounds, LoadFinding};
use super::*;
use crate::attest::ClockPosition;

const WINDOW_MS: u64 = 15_000;
const BUILT_AT_MS: u64 = 1_000_000;
const COMMITTED_AT_MS: u64 = 500_000_000;

fn host() -> HostId {
    HostId::of(&[b"an EK"])
}

/// The last window before the envelope.
fn window(metric: Metric, mean: u64) -> MetricWindow {
    MetricWindow {
        metric,
        start_ms: BUILT_AT_MS - WINDOW_MS,
        duration_ms: WINDOW_MS,
        samples: 15,
        mean,
        max: mean,
        p95: mean,
        label: None,
    }
}

fn envelope(of_host: &[MetricWindow], of_groups: &[(&str, &[MetricWindow])]) -> Envelope {
    let application = |(path, windows): &(&str, &[MetricWindow])| ApplicationReport {
        cgroup: CgroupPath::new(path).unwrap(),
        unit: None,
        uid: None,
        grant: None,
        windows: MetricWindows::new(windows).unwrap(),
    };
    Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: DeploymentId::of(&[b"d"]),
        host: host(),
        boot_id: BootId::new([1; 16]),
        sequence: 2,
        predecessor: Digest::new([0; 32]),
        tls_key: Digest::new([0; 32]),
        checkpoint: None,
        agent_version: Text::lossy("0"),
        built_at_ms: BUILT_AT_MS,
        backend: Backend {
            kind: BackendKind::None,
            mode: Mode::Observe,
            hierarchy: Hierarchy::None,
            controls: Bounded::default(),
        },
        host_windows: MetricWindows::new(of_host).unwrap(),
        applications: Bounded::new(of_groups.iter().map(application).collect()).unwrap(),
        events: Bounded::default(),
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

fn position(clock_ms: u64) -> ClockPosition {
    ClockPosition { reset_count: 1, restart_count: 0, clock_ms }
}

/// A host of two cores and 1 GiB, quoted 30 s after the evidence before.
fn bounded(envelope: &Envelope) -> BoundedLoad {
    bounded_after(envelope, 30_000)
}

fn bounded_after(envelope: &Envelope, elapsed_ms: u64) -> BoundedLoad {
    let capacity = Resources {
        cpu_millicores: Some(2_000),
        memory_bytes: Some(1 << 30),
        disk_bytes_per_second: Some(1_000_000),
        ..Resources::default()
    };
    let bounds = Bounds { capacity, before: Some(position(7_000_000)), window_ms: WINDOW_MS };
    BoundedLoad::bounded(envelope, position(7_000_000 + elapsed_ms), &bounds)
}

/// The mean that history has of a subject, if it has one.
fn recorded(load: &BoundedLoad, subject: Subject, resource: ResourceKind) -> Option<u64> {
    let mut history = History::new(60_000);
    history.record(load, COMMITTED_AT_MS);
    let series = history.get(&SeriesKey { host: host(), subject, resource })?;
    series.closed(COMMITTED_AT_MS + 60_000, 8).into_iter().flatten().last().map(|point| point.mean())
}

fn group(path: &str) -> Subject {
    Subject::Cgroup(path.to_owned())
}

#[test]
fn an_honest_load_is_taken_as_it_is_stated() {
    let mine = [window(Metric::CpuMillicores, 900), window(Metric::MemoryBytes, 1 << 20)];
    let load = bounded(&envelope(&[window(Metric::CpuMillicores, 1_000)], &[("/a", &mine)]));
    assert_eq!(load.findings(), []);
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Cpu), Some(1_000));
    assert_eq!(recorded(&load, group("/a"), ResourceKind::Cpu), Some(900));
    assert_eq!(recorded(&load, group("/a"), ResourceKind::Memory), Some(1 << 20));
}

#[test]
fn more_than_the_inventory_counts_as_the_inventory() {
    let of_host = [
        window(Metric::CpuMillicores, 64_000),
        window(Metric::MemoryBytes, 5 << 30),
        window(Metric::DiskReadBytesPerSecond, 9_000_000),
    ];
    let load = bounded(&envelope(&of_host, &[]));
    assert_eq!(load.findings(), [LoadFinding::BeyondCapacity]);
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Cpu), Some(2_000));
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Memory), Some(1 << 30));
    // The inventory says what the disk does one way.
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Disk), Some(2_000_000));
    // Counters that are read one after another are no lie.
    let close = bounded(&envelope(&[window(Metric::CpuMillicores, 2_100)], &[]));
    assert_eq!((close.findings(), recorded(&close, Subject::Host, ResourceKind::Cpu)), (&[][..], Some(2_000)));
    // What the inventory does not name has no bound.
    let network = bounded(&envelope(&[window(Metric::NetworkTransmitBitsPerSecond, 1 << 40)], &[]));
    assert_eq!(
        (network.findings(), recorded(&network, Subject::Host, ResourceKind::Network)),
        (&[][..], Some(1 << 40))
    );
}

#[test]
fn applications_together_are_no_more_than_their_host() {
    let cpu = |mean| [window(Metric::CpuMillicores, mean)];
    let load = bounded(&envelope(&cpu(800), &[("/a", &cpu(1_500)), ("/b", &cpu(500))]));
    assert_eq!(load.findings(), [LoadFinding::BeyondHost]);
    let (a, b) = (recorded(&load, group("/a"), ResourceKind::Cpu), recorded(&load, group("/b"), ResourceKind::Cpu));
    // 800 and an eighth, and 50 for ticks: 950 in place of 2,000.
    assert_eq!((a, b), (Some(712), Some(237)));
    let honest = bounded(&envelope(&cpu(800), &[("/a", &cpu(500)), ("/b", &cpu(310))]));
    assert_eq!(honest.findings(), []);
}

#[test]
fn a_group_in_a_group_is_counted_once() {
    let cpu = |mean| [window(Metric::CpuMillicores, mean)];
    let nested = [("/a", &cpu(700)[..]), ("/a-b", &cpu(90)[..]), ("/a/x", &cpu(400)[..]), ("/a/x/y", &cpu(400)[..])];
    assert_eq!(bounded(&envelope(&cpu(800), &nested)).findings(), []);
    let beside = [("/a", &cpu(700)[..]), ("/ab", &cpu(400)[..]), ("/a-b", &cpu(400)[..])];
    assert_eq!(bounded(&envelope(&cpu(800), &beside)).findings(), [LoadFinding::BeyondHost]);
}

#[test]
fn memory_of_groups_may_be_more_than_the_host_counts_as_used() {
    let load = bounded(&envelope(
        &[window(Metric::MemoryBytes, 100 << 20)],
        &[("/a", &[window(Metric::MemoryBytes, 500 << 20)])],
    ));
    assert_eq!((load.findings(), recorded(&load, group("/a"), ResourceKind::Memory)), (&[][..], Some(500 << 20)));
}

#[test]
fn a_window_counts_only_where_the_tpms_clock_leaves_room_for_it() {
    let cpu = window(Metric::CpuMillicores, 1_000);
    let at = |start_ms, duration_ms| MetricWindow { start_ms, duration_ms, ..cpu.clone() };
    let taken = |window: MetricWindow, elapsed_ms| {
        let load = bounded_after(&envelope(&[window], &[]), elapsed_ms);
        match recorded(&load, Subject::Host, ResourceKind::Cpu) {
            Some(_) => assert_eq!(load.findings(), []),
            None => assert_eq!(load.findings(), [LoadFinding::OutOfTime]),
        }
        load.findings().is_empty()
    };
    // 30 s and a quarter, and two windows: 67.5 s.
    assert!(taken(at(BUILT_AT_MS - 67_500, 15_000), 30_000));
    assert!(!taken(at(BUILT_AT_MS - 67_501, 15_000), 30_000));
    assert!(!taken(at(BUILT_AT_MS - 67_500, 15_000), 29_000));
    assert!(taken(at(BUILT_AT_MS - 15_000, 15_000), 0));
    assert!(!taken(at(BUILT_AT_MS - 15_000, 15_001), 30_000), "it ends after the envelope was built");
    assert!(!taken(at(BUILT_AT_MS - 15_000, 0), 30_000), "it has no length");
    assert!(!taken(at(u64::MAX, 2), 30_000));
    // After a reset the TPM's clock may be a little behind: no time has passed then.
    let first = Bounds { capacity: Resources::default(), before: None, window_ms: WINDOW_MS };
    let long_ago = envelope(&[at(0, 15_000)], &[]);
    assert_eq!(BoundedLoad::bounded(&long_ago, position(BUILT_AT_MS), &first).findings(), []);
}

#[test]
fn a_claim_of_many_samples_weighs_no_more_than_its_time() {
    let heavy = MetricWindow { samples: u32::MAX, ..window(Metric::CpuMillicores, 2_000) };
    let earlier =
        MetricWindow { start_ms: BUILT_AT_MS - 2 * WINDOW_MS, samples: 15_000, ..window(Metric::CpuMillicores, 0) };
    let load = bounded(&envelope(&[heavy, earlier], &[]));
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Cpu), Some(1_000));
}

fn any_window() -> impl Strategy<Value = MetricWindow> {
    let instant = prop_oneof![BUILT_AT_MS - 80_000..BUILT_AT_MS + 10, any::<u64>()];
    let length = prop_oneof![0..40_000_u64, any::<u64>()];
    let amount = || prop_oneof![0..5_000_u64, any::<u64>()];
    (0..14_usize, instant, length, any::<u32>(), amount(), amount()).prop_map(
        |(metric, start_ms, duration_ms, samples, mean, max)| MetricWindow {
            metric: Metric::ALL[metric],
            start_ms,
            duration_ms,
            samples,
            mean,
            max,
            p95: mean,
            label: None,
        },
    )
}

proptest! {
    #[test]
    fn whatever_is_stated_history_holds_no_more_than_inventory_and_time_allow(
        of_host in prop::collection::vec(any_window(), 0..12),
        a in prop::collection::vec(any_window(), 0..12),
        b in prop::collection::vec(any_window(), 0..12),
        elapsed_ms in prop_oneof![0..100_000_u64, any::<u64>()],
    ) {
        let envelope = envelope(&of_host, &[("/a", &a), ("/b/c", &b)]);
        let clock = position(7_000_000_u64.saturating_add(elapsed_ms));
        let capacity = Resources { cpu_millicores: Some(2_000), memory_bytes: Some(1 << 30), ..Resources::default() };
        let bounds = Bounds { capacity, before: Some(position(7_000_000)), window_ms: WINDOW_MS };
        let load = BoundedLoad::bounded(&envelope, clock, &bounds);
        let reach_ms = elapsed_ms.saturating_add(elapsed_ms / 4).saturating_add(2 * WINDOW_MS);
        for usage in load.subjects.iter().flat_map(|subject| &subject.usages) {
            prop_assert!(usage.start_ms >= BUILT_AT_MS.saturating_sub(reach_ms));
            prop_assert!(usage.start_ms + usage.duration_ms <= BUILT_AT_MS);
            prop_assert!(u64::from(usage.samples) <= usage.duration_ms);
            match usage.resource {
                ResourceKind::Cpu => prop_assert!(usage.mean <= 2_000 && usage.max <= 2_000),
                ResourceKind::Memory => prop_assert!(usage.mean <= 1 << 30),
                _ => {}
            }
        }
        let mut history = History::new(60_000);
        history.record(&load, COMMITTED_AT_MS);
    }
}
