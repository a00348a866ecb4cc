//! Windows: aligned, closed once, bounded whoever is away.

use std::num::NonZeroU64;
use std::sync::Arc;

use proptest::prelude::*;
use quotary_common::envelope::{EventKind, Name};
use quotary_common::id::GrantId;
use quotary_common::limits::{APPLICATIONS_MAX, WINDOWS_MAX};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};

use super::world::application;
use crate::sample::{Fold, Rates, Reading, Subject, Windows};

fn fold(window_ms: u64) -> Fold {
    Fold::new(NonZeroU64::new(window_ms).unwrap())
}

fn memory(value: u64) -> Reading {
    Reading { subject: Subject::Host, metric: Metric::MemoryBytes, label: None, value }
}

fn of(cgroup: &str, value: u64) -> Reading {
    Reading { subject: Subject::Application(Arc::new(application(cgroup))), ..memory(value) }
}

fn add(fold: &mut Fold, at_ms: u64, readings: Vec<Reading>) {
    fold.add(&Rates::for_test(at_ms, readings, Vec::new(), 0));
}

#[test]
fn windows_start_at_multiples_of_their_length_and_close_once() {
    let mut fold = fold(15_000);
    for (at_ms, value) in [(14_000, 1), (15_000, 10), (29_999, 20), (30_000, 99)] {
        add(&mut fold, at_ms, vec![memory(value)]);
    }
    let windows = fold.take_closed(30_500).host;
    let window = |start_ms, samples, mean, max| MetricWindow {
        metric: Metric::MemoryBytes,
        start_ms,
        duration_ms: 15_000,
        samples,
        mean,
        max,
        p95: max,
        label: None,
    };
    assert_eq!(windows, [window(0, 1, 1, 1), window(15_000, 2, 15, 20)]);
    assert!(fold.take_closed(44_999).host.is_empty());
    assert_eq!(fold.take_closed(45_000).host, [window(30_000, 1, 99, 99)]);
}

#[test]
fn a_reading_of_a_window_that_is_closed_changes_nothing() {
    let mut fold = fold(1000);
    add(&mut fold, 5000, vec![memory(1)]);
    assert_eq!(fold.take_closed(6000).host.len(), 1);
    add(&mut fold, 5999, vec![memory(7)]);
    let windows = fold.take_closed(9000);
    assert!(windows.host.is_empty());
    assert_eq!((windows.events[0].kind, windows.events[0].count), (EventKind::LeftOut, 1));
}

#[test]
fn an_absent_verifier_costs_only_the_oldest_windows() {
    let mut fold = fold(1000);
    for second in 0..100 {
        add(&mut fold, second * 1000, vec![memory(second), of("/a", second)]);
    }
    let windows = fold.take_closed(100_000);
    let starts: Vec<u64> = windows.host.iter().map(|window| window.start_ms / 1000).collect();
    assert_eq!(starts, (92..100).collect::<Vec<u64>>());
    assert_eq!(windows.applications[0].windows.len(), 8);
}

#[test]
fn an_application_that_is_gone_is_forgotten() {
    let mut fold = fold(1000);
    for n in 0..APPLICATIONS_MAX {
        add(&mut fold, 500, vec![of(&format!("/old-{n}"), 1)]);
    }
    add(&mut fold, 600, vec![of("/new", 1)]);
    let windows = fold.take_closed(1000);
    assert_eq!(windows.applications.len(), APPLICATIONS_MAX);
    assert_eq!((windows.events[0].kind, windows.events[0].count), (EventKind::LeftOut, 1));
    // Their windows were taken; when the next one closes without them, there is room again.
    add(&mut fold, 2100, vec![of("/new", 1)]);
    let windows = fold.take_closed(3000);
    assert_eq!(windows.applications.len(), 1);
    assert!(windows.events.is_empty());
}

#[test]
fn the_newest_facts_of_an_application_are_reported() {
    let mut fold = fold(1000);
    add(&mut fold, 100, vec![of("/a", 1)]);
    let mut granted = application("/a");
    granted.grant = Some(GrantId::new([7; 32]));
    granted.unit = Name::new("a.service");
    add(&mut fold, 200, vec![Reading { subject: Subject::Application(Arc::new(granted.clone())), ..memory(3) }]);
    let mut windows = fold.take_closed(1000);
    let report = windows.applications.remove(0).into_report();
    assert_eq!((report.grant, report.unit, report.uid), (granted.grant, granted.unit, Some(1000)));
    assert_eq!((report.windows.len(), report.windows.to_vec()[0].mean), (1, 2));
}

#[test]
fn everything_that_waits_fits_into_the_forms() {
    let mut fold = fold(1000);
    for second in 0..20 {
        let labelled = |n: u64| Reading { label: Name::new(&format!("sd{n}")), ..memory(n) };
        add(&mut fold, second * 1000, (0..200).map(labelled).collect());
    }
    let windows = fold.take_closed(20_000);
    assert!(windows.host.len() <= WINDOWS_MAX);
    assert_eq!((windows.events[0].kind, windows.events[0].count), (EventKind::LeftOut, 200 - 64));
}

fn sized(bytes_max: usize) -> Windows {
    let mut fold = fold(1000);
    let mut granted = application("/z");
    granted.grant = Some(GrantId::new([7; 32]));
    let granted = Reading { subject: Subject::Application(Arc::new(granted)), ..memory(3) };
    add(&mut fold, 100, vec![memory(1), of("/a", 1), of("/b", 1), granted]);
    fold.take_closed(1000).fitting(bytes_max, 1000)
}

#[test]
fn what_nobody_asked_for_is_left_out_first() {
    let all = sized(usize::MAX);
    assert_eq!((all.applications.len(), all.events.len()), (3, 0));
    let less = sized(all.bytes() - 1);
    let paths: Vec<&str> = less.applications.iter().map(|one| one.application.cgroup.as_str()).collect();
    assert_eq!(paths, ["/a", "/z"]);
    assert_eq!((less.events[0].kind, less.events[0].count), (EventKind::LeftOut, 1));
    let least = sized(0);
    assert_eq!((least.host.len(), least.applications.len(), least.events[0].count), (1, 0, 3));
}

#[test]
fn the_estimate_is_never_less_than_the_form_takes() {
    let windows = sized(usize::MAX);
    let bytes = windows.bytes();
    let host = quotary_common::cbor::to_bytes(&MetricWindows::truncating(&windows.host).0).len();
    let reports: Vec<_> = windows.applications.into_iter().map(|one| one.into_report()).collect();
    assert!(host + quotary_common::cbor::to_bytes(&reports).len() <= bytes);
}

proptest! {
    #[test]
    fn every_reading_stands_in_exactly_one_window(
        steps in prop::collection::vec((0u64..3000, any::<u32>(), any::<bool>()), 1..100), window_ms in 1u64..5000,
    ) {
        let mut fold = fold(window_ms);
        let (mut now_ms, mut sum, mut windows) = (0, 0u64, Vec::new());
        for (step_ms, value, take) in &steps {
            now_ms += step_ms;
            add(&mut fold, now_ms, vec![memory(u64::from(*value))]);
            sum += u64::from(*value);
            // Taken often enough that nothing is dropped.
            if *take || fold_is_behind(now_ms, &windows, window_ms) {
                windows.extend(fold.take_closed(now_ms).host);
            }
        }
        windows.extend(fold.take_closed(now_ms + window_ms).host);
        let samples: usize = windows.iter().map(|window: &MetricWindow| window.samples as usize).sum();
        let is_dropped = samples < steps.len();
        // A gap of more than eight windows drops what came before it; else all is kept.
        prop_assert!(!is_dropped || steps.iter().any(|(step_ms, ..)| *step_ms >= 7 * window_ms));
        if !is_dropped {
            let low: u64 = windows.iter().map(|window| window.mean * u64::from(window.samples)).sum();
            let high: u64 = windows.iter().map(|window| (window.mean + 1) * u64::from(window.samples)).sum();
            prop_assert!(low <= sum && sum < high);
        }
        prop_assert!(windows.iter().all(|window| window.start_ms % window_ms == 0));
        prop_assert!(windows.iter().all(|window| window.mean.max(window.p95) <= window.max));
        prop_assert!(windows.windows(2).all(|pair| pair[0].start_ms < pair[1].start_ms));
    }
}

fn fold_is_behind(now_ms: u64, windows: &[MetricWindow], window_ms: u64) -> bool {
    windows.last().map_or(0, |window| window.start_ms) + 3 * window_ms < now_ms
}
