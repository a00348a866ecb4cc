//! Counters to rates: exact numbers, resets, hot plug, a stalled clock.

use proptest::prelude::*;
use quotary_common::envelope::EventKind;
use quotary_common::metric::Metric;

use super::world::{World, application, clean};
use crate::sample::{HostSample, Rates, Sample, Subject};

fn host_value(rates: &Rates, metric: Metric, label: Option<&str>) -> Option<u64> {
    let mut found = rates.readings().iter().filter(|reading| {
        reading.subject == Subject::Host
            && reading.metric == metric
            && reading.label.as_ref().map(|label| label.as_str()) == label
    });
    let value = found.next().map(|reading| reading.value);
    assert!(found.next().is_none(), "{metric:?} {label:?} twice");
    value
}

fn application_value(rates: &Rates, metric: Metric) -> Option<u64> {
    let of = |subject: &Subject| matches!(subject, Subject::Application(_));
    rates
        .readings()
        .iter()
        .find(|reading| of(&reading.subject) && reading.metric == metric)
        .map(|reading| reading.value)
}

#[test]
fn the_hosts_counters_become_rates() {
    let world = World::new();
    let mut reader = world.reader();
    let before = clean(&mut reader, 10_000, &[]);
    world.stat(procfs::ticks_per_second());
    world.disks(&[("sda", 8, 0, 2000, 8), ("sda1", 8, 1, 2000, 8), ("dm-0", 253, 0, 2000, 8)]);
    world.interfaces(&[("lo", 900, 900), ("eth0", 1000, 500)]);
    world.pressure("proc/pressure", 400_000);
    let rates = Rates::between(&before, &clean(&mut reader, 12_000, &[]));
    assert_eq!(rates.at_ms(), 12_000);
    assert_eq!(host_value(&rates, Metric::CpuMillicores, None), Some(500), "one CPU second in two seconds");
    assert_eq!(host_value(&rates, Metric::MemoryBytes, None), Some(2000 * 1024));
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, None), Some(512_000));
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, Some("sda")), Some(512_000));
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, Some("dm-0")), None);
    assert_eq!(host_value(&rates, Metric::DiskWriteBytesPerSecond, None), Some(2048));
    assert_eq!(host_value(&rates, Metric::NetworkReceiveBitsPerSecond, Some("eth0")), Some(4000));
    assert_eq!(host_value(&rates, Metric::NetworkTransmitBitsPerSecond, None), Some(2000));
    assert_eq!(host_value(&rates, Metric::IoPressureFullPpm, None), Some(200_000));
    assert!(rates.events().is_empty());
}

#[test]
fn a_counter_that_goes_backward_is_an_event_and_no_number() {
    let world = World::new();
    world.stat(500);
    world.disks(&[("sda", 8, 0, u64::from(u32::MAX), 0), ("sdb", 8, 16, 5, 0)]);
    let mut reader = world.reader();
    let before = clean(&mut reader, 1000, &[]);
    world.stat(400);
    world.disks(&[("sda", 8, 0, 3, 0), ("sdb", 8, 16, 7, 0)]);
    let rates = Rates::between(&before, &clean(&mut reader, 2000, &[]));
    assert_eq!(host_value(&rates, Metric::CpuMillicores, None), None);
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, Some("sda")), None);
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, Some("sdb")), Some(1024));
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, None), None, "a sum without sda would be a dip");
    assert_eq!(host_value(&rates, Metric::DiskWriteBytesPerSecond, None), Some(0));
    let kinds: Vec<EventKind> = rates.events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::CounterReset, EventKind::CounterReset]);
}

#[test]
fn devices_come_and_go_silently() {
    let world = World::new();
    let mut reader = world.reader();
    let before = clean(&mut reader, 1000, &[]);
    world.disks(&[("sdb", 8, 16, 1_000_000, 0)]);
    world.interfaces(&[("lo", 1, 1), ("eth0", 10, 0), ("eth1", 1_000_000, 0)]);
    let second = clean(&mut reader, 2000, &[]);
    let rates = Rates::between(&before, &second);
    assert!(rates.events().is_empty());
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, Some("sdb")), None);
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, None), Some(0));
    assert_eq!(host_value(&rates, Metric::NetworkReceiveBitsPerSecond, None), Some(80));
    world.disks(&[("sdb", 8, 16, 1_000_002, 0)]);
    let rates = Rates::between(&second, &clean(&mut reader, 3000, &[]));
    assert_eq!(host_value(&rates, Metric::DiskReadBytesPerSecond, Some("sdb")), Some(1024));
}

#[test]
fn a_clock_that_does_not_advance_gives_nothing() {
    let world = World::new();
    let mut reader = world.reader();
    let before = clean(&mut reader, 5000, &[]);
    world.stat(500);
    let stalled = clean(&mut reader, 5000, &[]);
    assert!(Rates::between(&before, &stalled).readings().is_empty());
    let earlier = clean(&mut reader, 4000, &[]);
    let rates = Rates::between(&before, &earlier);
    assert!(rates.readings().is_empty() && rates.events().is_empty());
}

#[test]
fn an_applications_counters_become_rates_and_events() {
    let world = World::new();
    world.unified("/a", 1_000_000, 10, 1);
    let mut reader = world.reader();
    let before = clean(&mut reader, 1000, &[application("/a")]);
    world.unified("/a", 1_250_000, 20, 6);
    world.write("sys/fs/cgroup/a/memory.events", "high 7\noom_kill 3\n");
    world.write("sys/fs/cgroup/a/io.stat", "8:0 rbytes=1100 wbytes=200\n");
    world.pressure("sys/fs/cgroup/a", 9_000_000);
    let rates = Rates::between(&before, &clean(&mut reader, 2000, &[application("/a")]));
    assert_eq!(application_value(&rates, Metric::CpuMillicores), Some(250));
    assert_eq!(application_value(&rates, Metric::MemoryBytes), Some(4096));
    assert_eq!(application_value(&rates, Metric::DiskReadBytesPerSecond), Some(1000));
    assert_eq!(application_value(&rates, Metric::CpuThrottledPpm), Some(500_000));
    assert_eq!(
        application_value(&rates, Metric::IoPressureSomePpm),
        Some(1_000_000),
        "a share never exceeds the whole"
    );
    let counted: Vec<(EventKind, u64)> = rates.events().iter().map(|event| (event.kind, event.count)).collect();
    assert_eq!(counted, [(EventKind::CpuThrottled, 5), (EventKind::OomKill, 2), (EventKind::MemoryHigh, 5)]);
    assert!(rates.events().iter().all(|event| event.cgroup.as_ref().is_some_and(|path| path.as_str() == "/a")));
}

#[test]
fn cpu_time_never_exceeds_the_cpus() {
    let world = World::new();
    world.unified("/a", 0, 0, 0);
    let mut reader = world.reader();
    let before = clean(&mut reader, 1000, &[application("/a")]);
    world.unified("/a", 2_004_000, 0, 0);
    world.stat(procfs::ticks_per_second() * 3);
    let rates = Rates::between(&before, &clean(&mut reader, 2000, &[application("/a")]));
    assert_eq!(application_value(&rates, Metric::CpuMillicores), Some(2000));
    assert_eq!(host_value(&rates, Metric::CpuMillicores, None), Some(2000));
    assert_eq!(application_value(&rates, Metric::CpuThrottledPpm), None, "it never had a quota");
}

#[test]
fn another_cgroup_under_the_same_path_starts_anew() {
    let world = World::new();
    world.unified("/a", 5_000_000, 10, 5);
    let mut reader = world.reader();
    let before = clean(&mut reader, 1000, &[application("/a")]);
    // Made before the old one goes, so that it cannot get the old one's inode.
    world.unified("/new", 100, 0, 0);
    world.remove("sys/fs/cgroup/a");
    std::fs::rename(world.path("sys/fs/cgroup/new"), world.path("sys/fs/cgroup/a")).unwrap();
    let rates = Rates::between(&before, &clean(&mut reader, 2000, &[application("/a")]));
    assert!(rates.events().is_empty(), "{:?}", rates.events());
    assert_eq!(application_value(&rates, Metric::CpuMillicores), None);
    assert_eq!(application_value(&rates, Metric::MemoryBytes), Some(4096));
}

#[test]
fn applications_are_matched_by_path() {
    let world = World::new();
    for path in ["/a", "/b", "/c", "/d"] {
        world.unified(path, 0, 0, 0);
    }
    let mut reader = world.reader();
    let before = clean(&mut reader, 1000, &[application("/d"), application("/a"), application("/b")]);
    world.unified("/b", 20_000, 0, 0);
    world.unified("/c", 30_000, 0, 0);
    world.unified("/d", 40_000, 0, 0);
    let current = clean(&mut reader, 2000, &[application("/d"), application("/c"), application("/b")]);
    let rates = Rates::between(&before, &current);
    let cpu: Vec<(&str, u64)> = rates
        .readings()
        .iter()
        .filter_map(|reading| match &reading.subject {
            Subject::Application(one) if reading.metric == Metric::CpuMillicores => {
                Some((one.cgroup.as_str(), reading.value))
            }
            _ => None,
        })
        .collect();
    assert_eq!(cpu, [("/b", 20), ("/d", 40)]);
}

fn host_at(at_ms: u64, busy: Option<u64>, stalled: Option<u64>) -> Sample {
    let mut host = HostSample { cpu_busy_microseconds: busy, cpus_online: Some(4), ..HostSample::default() };
    host.pressure.cpu_some_microseconds = stalled;
    Sample { at_ms, host, applications: Vec::new(), applications_left_out: 0, faults: Vec::new() }
}

proptest! {
    #[test]
    fn no_pair_of_samples_makes_a_huge_number(
        at in any::<(u64, u64)>(), busy in any::<(Option<u64>, Option<u64>)>(), stalled in any::<(Option<u64>, Option<u64>)>(),
    ) {
        let rates = Rates::between(&host_at(at.0, busy.0, stalled.0), &host_at(at.1, busy.1, stalled.1));
        for reading in rates.readings() {
            let value_max = if reading.metric == Metric::CpuMillicores { 4000 } else { 1_000_000 };
            prop_assert!(reading.value <= value_max);
        }
        let is_backward = |(before, now): (Option<u64>, Option<u64>)| before.zip(now).is_some_and(|(before, now)| now < before);
        let resets = usize::from(is_backward(busy)) + usize::from(is_backward(stalled));
        prop_assert_eq!(rates.events().len(), if at.1 > at.0 { resets } else { 0 });
    }
}
