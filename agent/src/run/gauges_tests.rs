#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::num::NonZeroU64;
use std::sync::Arc;

use proptest::prelude::*;
use quotary_common::envelope::CgroupPath;
use quotary_common::metric::MetricWindow;

use super::*;
use crate::sample::{Application, ApplicationSample, HostSample, Pressure};

fn grant(name: &str) -> GrantId {
    GrantId::of(&[name.as_bytes()])
}

fn requests(per_minute: u64) -> GaugeStatement {
    GaugeStatement { requests_per_minute: Some(per_minute), ..GaugeStatement::default() }
}

fn standing(gauges: &Gauges, name: &str, now_ms: u64) -> Vec<(Gauge, u64)> {
    gauges.standing(&grant(name), now_ms).collect()
}

#[test]
fn a_value_stands_its_time_and_is_a_gap_afterwards() {
    let mut gauges = Gauges::default();
    assert_eq!(gauges.state(grant("a"), &requests(0), 1_000).unwrap().held_for_ms, GAUGE_HOLD_MS);
    assert_eq!(standing(&gauges, "a", 1_000), [(Gauge::RequestsPerMinute, 0)], "a zero that was stated is one");
    assert_eq!(standing(&gauges, "a", 999 + GAUGE_HOLD_MS).len(), 1);
    assert_eq!(standing(&gauges, "a", 1_000 + GAUGE_HOLD_MS), []);
    assert_eq!(standing(&gauges, "b", 1_000), [], "another's");
}

#[test]
fn each_gauge_stands_by_itself() {
    let mut gauges = Gauges::default();
    gauges.state(grant("a"), &requests(7), 0).unwrap();
    let latency = GaugeStatement { request_latency_microseconds: Some(900), ..GaugeStatement::default() };
    gauges.state(grant("a"), &latency, 10_000).unwrap();
    let both = [(Gauge::RequestsPerMinute, 7), (Gauge::RequestLatencyMicroseconds, 900)];
    assert_eq!(standing(&gauges, "a", 14_999), both);
    assert_eq!(standing(&gauges, "a", 15_000), both[1..]);
}

#[test]
fn too_many_at_once_are_refused_with_the_wait_and_change_nothing() {
    let mut gauges = Gauges::default();
    for number in 0..GAUGE_BURST {
        gauges.state(grant("a"), &requests(number), 500).unwrap();
    }
    assert_eq!(gauges.state(grant("a"), &requests(99), 500), Err(GAUGE_PACE_MS));
    assert_eq!(gauges.state(grant("a"), &requests(99), 1_400), Err(100));
    assert_eq!(standing(&gauges, "a", 1_400), [(Gauge::RequestsPerMinute, GAUGE_BURST - 1)]);
    gauges.state(grant("b"), &requests(1), 500).unwrap();
    gauges.state(grant("a"), &requests(5), 1_500).unwrap();
    assert!(gauges.state(grant("a"), &requests(5), 1_500).is_err(), "one a second from then on");
}

#[test]
fn what_was_stated_goes_with_its_grant() {
    let mut gauges = Gauges::default();
    gauges.state(grant("a"), &requests(1), 0).unwrap();
    gauges.state(grant("b"), &requests(2), 0).unwrap();
    gauges.keep(|held| *held == grant("b"));
    assert_eq!((standing(&gauges, "a", 1), standing(&gauges, "b", 1).len(), gauges.0.len()), (vec![], 1, 1));
}

/// What the sampler brings of one application, whose counters say nothing.
fn sample(application: &Arc<Application>, at_ms: u64) -> Sample {
    let one = ApplicationSample {
        application: Arc::clone(application),
        at_ms,
        instance: None,
        cpu_usage_microseconds: None,
        cpu_periods: None,
        cpu_throttled_periods: None,
        memory_current_bytes: None,
        memory_high_count: None,
        oom_kill_count: None,
        disk_read_bytes: None,
        disk_written_bytes: None,
        pressure: Pressure::default(),
    };
    Sample { at_ms, host: HostSample::default(), applications: vec![one], applications_left_out: 0, faults: vec![] }
}

#[test]
fn what_stands_is_sampled_each_second_into_the_applications_windows_and_silence_is_a_gap() {
    let of = |name: Option<&str>| {
        let (cgroup, grant) = (CgroupPath::lossy(name.unwrap_or("/x")), name.map(grant));
        Arc::new(Application { cgroup, grant, uid: None, unit: None })
    };
    let (mine, others) = (of(Some("a")), of(None));
    let (mut gauges, mut fold) = (Gauges::default(), Fold::new(NonZeroU64::new(10_000).unwrap()));
    gauges.state(grant("a"), &requests(60), 0).unwrap();
    for second in 0..40_u64 {
        if second == 5 {
            gauges.state(grant("a"), &requests(90), 5_000).unwrap();
        }
        gauges.sample(&sample(&mine, second * 1_000), &mut fold);
        gauges.sample(&sample(&others, second * 1_000), &mut fold);
    }
    let taken = fold.take_closed(40_000);
    let [of_mine] = &taken.applications[..] else { panic!("{taken:?}") };
    assert_eq!(of_mine.application, mine);
    let told = |window: &MetricWindow| (window.start_ms, window.samples, window.mean, window.max);
    let windows: Vec<_> = of_mine.windows.iter().map(told).collect();
    // Five samples of each value, then ten, of which the last is that of second 19; then there is no window.
    assert_eq!(windows, [(0, 10, 75, 90), (10_000, 10, 90, 90)]);
    assert!(of_mine.windows.iter().all(|window| window.metric == Gauge::RequestsPerMinute.metric()));
}

proptest! {
    #[test]
    fn whatever_is_stated_whenever_values_are_bounded_and_the_pace_is_kept(
        stated in prop::collection::vec((0..3_000_u64, prop::option::of(any::<u64>()), prop::option::of(any::<u64>())), 0..60),
        start_ms in any::<u32>(),
    ) {
        let (mut gauges, mut now_ms, mut taken) = (Gauges::default(), u64::from(start_ms), 0_u64);
        let first_ms = now_ms;
        for (later_ms, errors_per_minute, request_latency_microseconds) in stated {
            now_ms += later_ms;
            let one = GaugeStatement { requests_per_minute: None, errors_per_minute, request_latency_microseconds };
            match gauges.state(grant("a"), &one, now_ms) {
                Ok(_) => taken += 1,
                Err(wait_ms) => prop_assert!((1..=GAUGE_PACE_MS).contains(&wait_ms)),
            }
            prop_assert!(taken <= GAUGE_BURST + (now_ms - first_ms) / GAUGE_PACE_MS);
            prop_assert!(gauges.standing(&grant("a"), now_ms).all(|(gauge, value)| value <= gauge.greatest()));
        }
        prop_assert_eq!(gauges.standing(&grant("a"), now_ms + GAUGE_HOLD_MS).count(), 0);
    }

    #[test]
    fn a_wait_that_was_told_is_enough(at_ms in prop::collection::vec(0..1_500_u64, 1..40)) {
        let (mut gauges, mut now_ms) = (Gauges::default(), 0);
        for later_ms in at_ms {
            now_ms += later_ms;
            if let Err(wait_ms) = gauges.state(grant("a"), &requests(1), now_ms) {
                now_ms += wait_ms;
                prop_assert!(gauges.state(grant("a"), &requests(1), now_ms).is_ok());
            }
        }
    }
}
