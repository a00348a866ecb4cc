//! Bounds on what a host states, and how history takes it.

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, Text};
use quotary_common::envelope::{
    ApplicationReport, Backend, BackendKind, CgroupPath, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode,
};
use quotary_common::id::{BootId, DeploymentId, Digest};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::units::Resources;

use super::bounds::{BoundedLoad, Bounds, LoadFinding, Timeline};
use super::*;

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

/// Where a host stood whose envelope before was built `ago_ms` earlier, committed without delay.
fn timeline(ago_ms: u64) -> Timeline {
    let boot_id = BootId::new([1; 16]);
    Timeline { boot_id, built_at_ms: BUILT_AT_MS - ago_ms, began_ms: COMMITTED_AT_MS - BUILT_AT_MS }
}

fn capacity() -> Resources {
    Resources {
        cpu_millicores: Some(2_000),
        memory_bytes: Some(1 << 30),
        disk_bytes_per_second: Some(1_000_000),
        ..Resources::default()
    }
}

fn bounds(before: Option<Timeline>, passed_ms: u64) -> Bounds {
    let (since_ms, now_ms) = (COMMITTED_AT_MS - passed_ms, COMMITTED_AT_MS);
    Bounds { capacity: capacity(), before, since_ms, now_ms, window_ms: WINDOW_MS, wait_ms: 300_000 }
}

/// A host of two cores and 1 GiB, 30 s after the evidence before.
fn bounded(envelope: &Envelope) -> BoundedLoad {
    BoundedLoad::bounded(envelope, &bounds(Some(timeline(30_000)), 30_000))
}

/// The mean that history has of a subject, if it has one.
fn recorded(load: &BoundedLoad, subject: Subject, measure: impl Into<Measure>) -> Option<u64> {
    let mut history = History::new(60_000);
    history.record(load, COMMITTED_AT_MS);
    let series = history.get(&SeriesKey { host: Some(host()), subject, measure: measure.into() })?;
    series.closed(COMMITTED_AT_MS + 60_000, 64).into_iter().flatten().last().map(|point| point.mean())
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

/// Whether a window of one core counts, and what is said otherwise.
fn taken((start_ms, duration_ms): (u64, u64), bounds: &Bounds) -> bool {
    let window = MetricWindow { start_ms, duration_ms, ..window(Metric::CpuMillicores, 1_000) };
    let load = BoundedLoad::bounded(&envelope(&[window], &[]), bounds);
    let is_taken = recorded(&load, Subject::Host, ResourceKind::Cpu).is_some();
    assert_eq!(load.findings(), if is_taken { &[][..] } else { &[LoadFinding::OutOfTime] });
    is_taken
}

#[test]
fn a_window_counts_once_in_the_time_since_the_envelope_before() {
    let after = |ago_ms| bounds(Some(timeline(ago_ms)), 30_000);
    // 30 s, and two windows that may straddle it.
    assert!(taken((BUILT_AT_MS - 60_000, 15_000), &after(30_000)));
    assert!(!taken((BUILT_AT_MS - 60_001, 15_000), &after(30_000)));
    assert!(!taken((BUILT_AT_MS - 15_000, 15_001), &after(30_000)), "it ends after the envelope was built");
    assert!(!taken((BUILT_AT_MS - 15_000, 0), &after(30_000)), "it has no length");
    assert!(!taken((u64::MAX, 2), &after(30_000)));
    // The same interval twice, with other numbers: the first counts.
    let twice = [
        window(Metric::CpuMillicores, 100),
        MetricWindow { duration_ms: WINDOW_MS - 1, ..window(Metric::CpuMillicores, 2_000) },
    ];
    let load = bounded(&envelope(&twice, &[]));
    assert_eq!(load.findings(), [LoadFinding::OutOfTime]);
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Cpu), Some(2_000));
}

#[test]
fn what_waited_for_the_verifier_counts_whole() {
    // The envelope before waited four minutes and was committed a second ago; this one has all since it was built.
    let after_an_outage = bounds(Some(timeline(240_000)), 1_000);
    assert!(taken((BUILT_AT_MS - 240_000, 15_000), &after_an_outage));
    // The first envelope of another boot: as much as passed since the last of the one before.
    let rebooted = Timeline { boot_id: BootId::new([2; 16]), ..timeline(30_000) };
    assert!(taken((BUILT_AT_MS - 100_000, 15_000), &bounds(Some(rebooted), 100_000)));
    assert!(!taken((BUILT_AT_MS - 100_000, 15_000), &bounds(Some(rebooted), 30_000)));
    assert!(!taken((BUILT_AT_MS - 100_000, 15_000), &bounds(None, 30_000)), "nor do a host's first reach far back");
}

#[test]
fn a_clock_that_runs_ahead_of_the_verifiers_gains_no_time() {
    // By the anchor of its boot the host is an hour ahead of what passed here.
    let ahead = Timeline { began_ms: COMMITTED_AT_MS - BUILT_AT_MS + 3_600_000, ..timeline(3_600_000 / 4) };
    assert!(!taken((BUILT_AT_MS - 600_000, 15_000), &bounds(Some(ahead), 30_000)));
    assert!(taken((BUILT_AT_MS - 30_000, 15_000), &bounds(Some(ahead), 30_000)));
    // Its time is anchored anew: nothing is held against it for ever, and nothing was gained.
    let load = BoundedLoad::bounded(&envelope(&[], &[]), &bounds(Some(ahead), 30_000));
    assert_eq!(load.timeline().began_ms, COMMITTED_AT_MS - BUILT_AT_MS);
    // As much as a wait explains is no lie.
    let waited = Timeline { began_ms: COMMITTED_AT_MS - BUILT_AT_MS + 299_000, ..timeline(600_000) };
    assert!(taken((BUILT_AT_MS - 600_000, 15_000), &bounds(Some(waited), 30_000)));
}

#[test]
fn windows_of_the_host_that_are_not_there_free_no_application() {
    let cpu = |mean| [window(Metric::CpuMillicores, mean)];
    // Nothing is stated of the host: the inventory of two cores stands in.
    let load = bounded(&envelope(&[], &[("/a", &cpu(2_000)), ("/b", &cpu(2_000))]));
    assert_eq!(load.findings(), [LoadFinding::BeyondHost]);
    assert_eq!(recorded(&load, group("/a"), ResourceKind::Cpu), Some(1_000));
    // Nor does a millisecond of it.
    let instant = MetricWindow { duration_ms: 1, ..window(Metric::CpuMillicores, 2_000) };
    let load = bounded(&envelope(&[instant], &[("/a", &cpu(2_000)), ("/b", &cpu(2_000))]));
    assert_eq!(load.findings(), [LoadFinding::BeyondHost]);
    // A group that says nothing of what runs within it hides none of that.
    let load = bounded(&envelope(&cpu(500), &[("/x", &cpu(0)), ("/x/a", &cpu(2_000)), ("/x/b", &cpu(2_000))]));
    assert_eq!(load.findings(), [LoadFinding::BeyondHost]);
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
        ago_ms in 0..BUILT_AT_MS,
    ) {
        let envelope = envelope(&of_host, &[("/a", &a), ("/b/c", &b)]);
        let load = BoundedLoad::bounded(&envelope, &bounds(Some(timeline(ago_ms)), 30_000));
        let reach_ms = ago_ms.saturating_add(2 * WINDOW_MS);
        for usage in load.subjects.iter().flat_map(|subject| &subject.usages) {
            prop_assert!(usage.start_ms >= BUILT_AT_MS.saturating_sub(reach_ms));
            prop_assert!(usage.start_ms + usage.duration_ms <= BUILT_AT_MS);
            prop_assert!(u64::from(usage.samples) <= usage.duration_ms);
            match usage.measure {
                Measure::Resource(ResourceKind::Cpu) => prop_assert!(usage.mean <= 2_000 && usage.max <= 2_000),
                Measure::Resource(ResourceKind::Memory) => prop_assert!(usage.mean <= 1 << 30),
                _ => {}
            }
        }
        // Two groups beside each other, and a host of two cores: what it states, or the inventory where it states less time.
        let amount = |subjects: &[bounds::SubjectLoad]| -> u128 {
            let all = subjects.iter().flat_map(|subject| &subject.usages);
            let cpu = all.filter(|usage| usage.measure == ResourceKind::Cpu.into());
            cpu.map(|usage| u128::from(usage.mean) * u128::from(usage.duration_ms)).sum()
        };
        let time = |subject: &bounds::SubjectLoad| -> u64 {
            let cpu = subject.usages.iter().filter(|usage| usage.measure == ResourceKind::Cpu.into());
            cpu.map(|usage| usage.duration_ms).sum()
        };
        let (host, groups) = load.subjects.split_first().unwrap();
        let longest_ms = groups.iter().map(time).max().unwrap();
        let stated = amount(std::slice::from_ref(host));
        let most = stated + stated / 8 + u128::from(time(host)) * 50;
        let most = most + u128::from(longest_ms.saturating_sub(time(host))) * 2_000;
        prop_assert!(amount(groups) <= most, "{} of {most}", amount(groups));
    }
}

mod censoring;
mod chunks;
mod gauges;
mod rings;
mod sums;
