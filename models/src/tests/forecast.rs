//! The shipped model against onnxruntime's answers, and what its forecasts promise.

use proptest::prelude::*;
use quotary_decide::forecast::{PEAK_LEVELS, STEPS};
use serde::Deserialize;

use super::*;
use crate::error::ContextFault;

#[derive(Deserialize)]
struct Vector {
    what: String,
    resource: String,
    interval_s: u64,
    values: Vec<Option<f64>>,
    features: Vec<f64>,
    raw_steps: Vec<Vec<f64>>,
    raw_peaks: Vec<Vec<f64>>,
    steps: Vec<Vec<f64>>,
    peaks: Vec<Vec<f64>>,
}

impl Vector {
    fn past(&self) -> Past<'_> {
        let resource = match self.resource.as_str() {
            "cpu" => ResourceKind::Cpu,
            "memory" => ResourceKind::Memory,
            "disk" => ResourceKind::Disk,
            "network" => ResourceKind::Network,
            other => unreachable!("{other}"),
        };
        Past { measure: resource.into(), interval_s: self.interval_s, values: &self.values }
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_slice(include_bytes!("../../parity.json")).unwrap()
}

fn wide<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<f64> {
    values.into_iter().copied().map(f64::from).collect()
}

#[test]
fn the_normaliser_and_the_network_agree_with_python_and_onnxruntime() {
    let model = shipped().unwrap();
    let vectors = vectors();
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let what = &vector.what;
        let mut features = vec![0.0; FEATURES + model.resources.len()];
        model.prepare(&vector.past(), &mut features).unwrap();
        assert_near(what, wide(&features), &vector.features, 1e-5);
        let (steps, peaks) = model.network.run("", &mut features, 1).unwrap().row(0).unwrap();
        assert_near(what, wide(steps.as_flattened()), vector.raw_steps.iter().flatten(), 1e-4);
        assert_near(what, wide(peaks.as_flattened()), vector.raw_peaks.iter().flatten(), 1e-4);
    }
}

#[test]
fn forecasts_agree_with_python_in_the_series_own_unit() {
    let model = shipped().unwrap();
    for vector in vectors() {
        let quantiles = model.forecast(&vector.past()).unwrap();
        assert_near(&vector.what, quantiles.steps().as_flattened().to_vec(), vector.steps.iter().flatten(), 1e-4);
        assert_near(&vector.what, quantiles.peaks().as_flattened().to_vec(), vector.peaks.iter().flatten(), 1e-4);
    }
}

#[test]
fn many_at_once_are_forecast_as_each_by_itself_and_bad_ones_move_no_other() {
    let model = shipped_once();
    let vectors = vectors();
    let bad = [Some(1.0), Some(f64::NAN)];
    let mut pasts: Vec<Past<'_>> = vectors.iter().cycle().take(BATCH + 40).map(Vector::past).collect();
    pasts.insert(3, of(ResourceKind::Cpu, &bad));
    pasts.insert(20, of(ResourceKind::Cpu, &[]));
    pasts.insert(40, of(ResourceKind::Storage, &bad[..1]));
    for (past, answer) in pasts.iter().zip(model.forecast_all(&pasts)) {
        match (answer, model.forecast(past)) {
            (Ok(one), Ok(other)) => {
                assert_near("steps", one.steps().as_flattened().to_vec(), other.steps().as_flattened(), 1e-4);
            }
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
            (one, other) => unreachable!("{one:?} {other:?}"),
        }
    }
}

#[test]
fn the_shipped_model_has_the_name_and_digest_of_its_manifest() {
    let model = shipped().unwrap();
    assert!(model.reference().name.starts_with("demand-"));
    let found = data_encoding::HEXLOWER.encode(digest(&SHA256, SHIPPED_ONNX).as_ref());
    assert_eq!(model.reference().sha256, found);
    assert!(model.held_out().wql_ratio_to_ewma < 0.95);
}

#[test]
fn a_model_can_be_shared_between_threads() {
    fn assert_shared<T: Send + Sync>(_: &T) {}
    let model = shipped().unwrap();
    assert_shared(&model);
    let values = some(&[1.0, 2.0, 3.0]);
    let forecast = || model.forecast(&of(ResourceKind::Cpu, &values)).unwrap();
    let alone = forecast();
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..4).map(|_| scope.spawn(forecast)).collect();
        for other in others {
            assert_eq!(other.join().unwrap(), alone);
        }
    });
}

#[test]
fn a_constant_series_stays_about_where_it_is() {
    let quantiles = shipped().unwrap().forecast(&of(ResourceKind::Memory, &[Some(4096.0); 96])).unwrap();
    for (step, row) in quantiles.steps().iter().enumerate() {
        assert!((row[4] / 4096.0 - 1.0).abs() < 0.02, "step {step}: {}", row[4]);
    }
}

#[test]
fn a_series_of_zeros_stays_zero() {
    let quantiles = shipped().unwrap().forecast(&of(ResourceKind::Disk, &[Some(0.0); 20])).unwrap();
    assert!(quantiles.steps().iter().flatten().chain(quantiles.peaks().iter().flatten()).all(|value| *value <= 0.0));
}

#[test]
fn three_points_suffice_and_are_less_certain_than_ninety_six() {
    let model = shipped().unwrap();
    let wave: Vec<f64> = (0..96).map(|step| 50.0 + 10.0 * (f64::from(step) * 0.7).sin()).collect();
    let width = |values: &[f64]| {
        let values = some(values);
        let row = model.forecast(&of(ResourceKind::Cpu, &values)).unwrap().steps()[11];
        row[8] - row[0]
    };
    assert!(width(&wave[93..]) > width(&wave), "{} against {}", width(&wave[93..]), width(&wave));
}

#[test]
fn huge_values_give_a_forecast_of_their_size() {
    let values: Vec<f64> = (0..96).map(|step| 1e15 * (2.0 + (f64::from(step) / 5.0).sin())).collect();
    let values = some(&values);
    let median = shipped().unwrap().forecast(&of(ResourceKind::Network, &values)).unwrap().steps()[0][4];
    assert!((1e14..1e16).contains(&median), "{median}");
}

#[test]
fn the_forecast_follows_the_level_of_its_context() {
    let step_up: Vec<f64> = (0..96).map(|step| if step < 60 { 10.0 } else { 90.0 } + f64::from(step % 3)).collect();
    let values = some(&step_up);
    let median = shipped().unwrap().forecast(&of(ResourceKind::Cpu, &values)).unwrap().steps()[2][4];
    assert!((80.0..100.0).contains(&median), "{median}");
}

#[test]
fn what_was_at_this_time_the_day_before_raises_what_is_expected() {
    // Idle, but for an hour's work each day; the next hour is that hour, and half a day later it is not.
    let at =
        |row: usize| if row % 288 < 12 { 800.0 + ((row * 37) % 11) as f64 } else { 50.0 + ((row * 53) % 7) as f64 };
    let model = shipped().unwrap();
    let peak = |rows: usize| {
        let values: Vec<_> = (0..rows).map(|row| Some(at(row))).collect();
        model.forecast(&of(ResourceKind::Cpu, &values)).unwrap().longest_peak()[0]
    };
    assert!(peak(3 * 288) > 1.03 * peak(3 * 288 - 144), "{} {}", peak(3 * 288), peak(3 * 288 - 144));
}

#[test]
fn a_context_that_is_no_demand_is_an_error() {
    let model = shipped().unwrap();
    for values in [&[] as &[_], &[None; 96]] {
        let error = model.forecast(&of(ResourceKind::Cpu, values)).unwrap_err();
        assert!(matches!(error, ModelError::Context(ContextFault::Empty)), "{error}");
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5] {
        let error = model.forecast(&of(ResourceKind::Cpu, &[Some(1.0), Some(bad)])).unwrap_err();
        assert!(matches!(error, ModelError::Context(ContextFault::Value { index: 1, .. })), "{error}");
    }
}

#[test]
fn a_model_is_not_asked_about_resources_it_does_not_know() {
    let error = shipped().unwrap().forecast(&of(ResourceKind::Storage, &[Some(1.0)])).unwrap_err();
    assert!(matches!(error, ModelError::Measure { measure, .. } if measure == ResourceKind::Storage.into()), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forecast_scales_with_its_past(
        values in prop::collection::vec(prop::option::weighted(0.9, 0.0..1e4_f64), 1..400),
        factor in 1e-6..1e9_f64,
    ) {
        prop_assume!(values.iter().rev().take(96).any(Option::is_some));
        let model = shipped_once();
        let scaled: Vec<_> = values.iter().map(|value| value.map(|value| value * factor)).collect();
        let one = model.forecast(&of(ResourceKind::Disk, &values)).unwrap();
        let other = model.forecast(&of(ResourceKind::Disk, &scaled)).unwrap();
        let expected: Vec<f64> = one.steps().as_flattened().iter().map(|value| value * factor).collect();
        assert_near("steps", other.steps().as_flattened().to_vec(), &expected, 1e-3);
    }

    #[test]
    fn every_forecast_is_sound(values in prop::collection::vec(prop::option::of(prop_oneof![Just(0.0), 0.0..1.0_f64, 0.0..1e18_f64, 0.0..1e305_f64]), 0..400)) {
        for resource in [ResourceKind::Cpu, ResourceKind::Memory, ResourceKind::Disk, ResourceKind::Network] {
            match shipped_once().forecast(&of(resource, &values)) {
                Ok(quantiles) => {
                    prop_assert!(quantiles.steps().iter().all(|row| row.is_sorted() && row.iter().all(|value| value.is_finite())));
                    prop_assert_eq!((quantiles.steps().len(), quantiles.peaks()[0].len()), (STEPS, PEAK_LEVELS.len()));
                }
                Err(error) => prop_assert!(matches!(error, ModelError::Context(_) | ModelError::NotFinite { .. }), "{}", error),
            }
        }
    }
}
