//! Gauges: bounded, of grants alone, summed where they add up; and storage.

use proptest::prelude::*;
use quotary_common::envelope::Name;
use quotary_common::metric::{Gauge, Metric, MetricWindow};

use super::super::*;
use super::censoring::{GRANT, grant};
use super::{COMMITTED_AT_MS, LoadFinding, bounded, capacity, envelope, group, host, recorded, window};

const GOLDEN: &str = include_str!("../../../../../tests/golden/history-chunk-v1-gauges.hex");

/// Evidence of a host whose one application, under a grant, states windows.
fn stated(windows: &[MetricWindow]) -> quotary_common::envelope::Envelope {
    let mut envelope = envelope(&[window(Metric::CpuMillicores, 500)], &[("/a", windows)]);
    let mut applications = std::mem::take(&mut envelope.applications).into_vec();
    applications[0].grant = Some(GRANT);
    applications[0].uid = Some(7);
    envelope.applications = quotary_common::cbor::Bounded::new(applications).unwrap();
    envelope
}

fn all(value: u64) -> Vec<MetricWindow> {
    Gauge::ALL.into_iter().map(|gauge| window(gauge.metric(), value)).collect()
}

#[test]
fn what_an_application_states_under_a_grant_is_a_series_of_it_and_of_nobody_else() {
    let load = bounded(&stated(&all(42)));
    assert_eq!(load.findings(), []);
    for gauge in Gauge::ALL {
        assert_eq!(recorded(&load, group("/a"), gauge), Some(42));
        assert_eq!(recorded(&load, Subject::Host, gauge), None);
    }
    // Without a grant nobody may state any; a host has none.
    let without = envelope(&all(42), &[("/a", &all(42))]);
    let load = bounded(&without);
    let mut history = History::new(60_000);
    history.record(&load, COMMITTED_AT_MS);
    assert_eq!(history.iter().count(), 0);
}

#[test]
fn a_zero_is_a_zero_and_what_was_not_stated_is_a_gap() {
    let load = bounded(&stated(&[window(Metric::ErrorsPerMinute, 0)]));
    assert_eq!(recorded(&load, group("/a"), Gauge::ErrorsPerMinute), Some(0));
    assert_eq!(recorded(&load, group("/a"), Gauge::RequestsPerMinute), None);
}

#[test]
fn a_gauge_beyond_all_measure_counts_as_the_greatest_and_is_told() {
    let load = bounded(&stated(&all(u64::MAX)));
    assert_eq!(load.findings(), [LoadFinding::BeyondCapacity]);
    for gauge in Gauge::ALL {
        assert_eq!(recorded(&load, group("/a"), gauge), Some(gauge.greatest()));
    }
}

#[test]
fn rates_add_up_over_a_tenants_applications_and_latencies_do_not() {
    let record = grant(quotary_common::units::Resources::default(), quotary_common::units::Class::Burstable);
    let rules = crate::allocate::Rules::default();
    let placed = |grants: &[&crate::allocate::GrantRecord]| {
        let standing = Standing { enrolled_at_ms: 7, pool: None, capacity: capacity(), grants, rules: &rules };
        bounded(&stated(&all(42))).placed(&standing)
    };
    // A grant that the host has made up is none.
    assert_eq!(recorded(&placed(&[]), group("/a"), Gauge::RequestsPerMinute), None);
    let load = placed(&[&record]);
    let mut history = History::new(60_000);
    history.record(&load, COMMITTED_AT_MS);
    history.sum_until(COMMITTED_AT_MS + 120_000);
    let tenant = Subject::Tenant(Name::new("blue").unwrap());
    for gauge in Gauge::ALL {
        let key = SeriesKey { host: None, subject: tenant.clone(), measure: gauge.into() };
        assert_eq!(history.get(&key).is_some(), gauge != Gauge::RequestLatencyMicroseconds, "{gauge:?}");
    }
}

#[test]
fn a_hosts_filesystems_together_are_a_series_and_each_of_them_is_none() {
    let of_mount = MetricWindow { label: Some(Name::new("/srv").unwrap()), ..window(Metric::StorageBytes, 1 << 50) };
    let load = bounded(&envelope(&[window(Metric::StorageBytes, 7 << 30), of_mount], &[]));
    assert_eq!(load.findings(), []);
    assert_eq!(recorded(&load, Subject::Host, ResourceKind::Storage), Some(7 << 30));
}

#[test]
fn gauges_and_storage_stand_in_chunks_as_they_were_stored() {
    let load = bounded(&stated(&[all(42), vec![window(Metric::StorageBytes, 9)]].concat()));
    let mut history = History::new(60_000);
    history.record(&load, COMMITTED_AT_MS);
    let (_, chunk) = history.unkept(Some(&host()));
    let kept: String = GOLDEN.split_whitespace().collect();
    let bytes = data_encoding::HEXLOWER.decode(kept.as_bytes()).unwrap();
    let written = || data_encoding::HEXLOWER.encode(&chunk.to_parts()[0]);
    assert_eq!(Chunk::from_bytes(&bytes).as_ref(), Ok(&chunk), "{}", written());
    let mut again = History::new(60_000);
    again.restore(Some(host()), &chunk, COMMITTED_AT_MS);
    let held = |history: &History| -> Vec<_> {
        let one =
            |(key, series): (&SeriesKey, &Series)| (key.clone(), series.points(Resolution::Hour).collect::<Vec<_>>());
        history.iter().map(one).collect()
    };
    assert_eq!(held(&again), held(&history));
}

proptest! {
    #[test]
    fn whatever_gauges_say_every_other_series_stands_as_without_them(
        values in prop::collection::vec((0..3_usize, any::<u64>(), any::<u64>(), any::<u32>(), 0..40_000_u64), 0..20),
    ) {
        let gauges = values.iter().map(|(gauge, mean, max, samples, back_ms)| MetricWindow {
            start_ms: super::BUILT_AT_MS - back_ms,
            duration_ms: (*back_ms).min(15_000),
            samples: *samples,
            max: *max,
            ..window(Gauge::ALL[*gauge].metric(), *mean)
        });
        let counted = [window(Metric::CpuMillicores, 300), window(Metric::MemoryBytes, 1 << 20)];
        let both: Vec<MetricWindow> = counted.iter().cloned().chain(gauges).collect();
        let (with, without) = (bounded(&stated(&both)), bounded(&stated(&counted)));
        let usages = |load: &BoundedLoad| -> Vec<_> {
            let all = load.subjects.iter().flat_map(|subject| subject.usages.clone());
            all.filter(|usage| usage.measure.resource().is_some()).collect()
        };
        prop_assert_eq!(usages(&with), usages(&without));
        for usage in with.subjects.iter().flat_map(|subject| &subject.usages) {
            if let Measure::Gauge(gauge) = usage.measure {
                prop_assert!(usage.mean <= gauge.greatest() && usage.max <= gauge.greatest());
            }
        }
    }
}
