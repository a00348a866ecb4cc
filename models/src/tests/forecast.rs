//! The shipped model against onnxruntime's answers, and what its forecasts promise.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::error::ContextFault;

#[derive(Deserialize)]
struct Vector {
    what: String,
    resource: ResourceKind,
    values: Vec<Option<f64>>,
    inputs: VectorInputs,
    raw_steps: Vec<Vec<f64>>,
    raw_peaks: Vec<Vec<f64>>,
    steps: Vec<Vec<f64>>,
    peaks: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct VectorInputs {
    context: Vec<f64>,
    mask: Vec<f64>,
    statistics: Vec<f64>,
    #[serde(rename = "resource")]
    _resource: Vec<f64>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_slice(include_bytes!("../../parity.json")).unwrap()
}

#[test]
fn the_normaliser_and_the_network_agree_with_python_and_onnxruntime() {
    let model = shipped().unwrap();
    let vectors = vectors();
    assert!(vectors.len() >= 8);
    for vector in vectors {
        let what = &vector.what;
        let mapped = Mapped::from_context(&vector.values, 96).unwrap();
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        assert_near(what, wide(&mapped.context), &vector.inputs.context, 1e-5);
        assert_near(what, wide(&mapped.mask), &vector.inputs.mask, 1e-9);
        assert_near(what, wide(&mapped.statistics), &vector.inputs.statistics, 1e-5);
        let raw = model.run(vector.resource, &mapped).unwrap();
        assert_near(what, wide(&raw.steps.concat()), vector.raw_steps.iter().flatten(), 1e-4);
        assert_near(what, wide(&raw.peaks.concat()), vector.raw_peaks.iter().flatten(), 1e-4);
    }
}

#[test]
fn forecasts_agree_with_python_in_the_series_own_unit() {
    let model = shipped().unwrap();
    for vector in vectors() {
        let prediction = model.predict(vector.resource, &vector.values).unwrap();
        assert_near(&vector.what, prediction.steps().concat(), vector.steps.iter().flatten(), 1e-4);
        assert_near(&vector.what, prediction.peaks().concat(), vector.peaks.iter().flatten(), 1e-4);
        assert_sound(&prediction);
    }
}

#[test]
fn the_shipped_model_has_the_name_and_digest_of_its_manifest() {
    let model = shipped().unwrap();
    assert!(model.name().starts_with("demand-"));
    assert_eq!(model.sha256().as_slice(), digest(&SHA256, SHIPPED_ONNX).as_ref());
}

#[test]
fn a_model_can_be_shared_between_threads() {
    fn assert_shared<T: Send + Sync>(_: &T) {}
    let model = shipped().unwrap();
    assert_shared(&model);
    let forecast = || model.predict(ResourceKind::Cpu, &some(&[1.0, 2.0, 3.0])).unwrap();
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
    let prediction = shipped().unwrap().predict(ResourceKind::Memory, &[Some(4096.0); 96]).unwrap();
    assert_sound(&prediction);
    for step in 0..12 {
        let median = prediction.step(step, 0.5).unwrap();
        assert!((median / 4096.0 - 1.0).abs() < 0.02, "step {step}: {median}");
    }
}

#[test]
fn a_series_of_zeros_stays_zero() {
    let prediction = shipped().unwrap().predict(ResourceKind::Disk, &[Some(0.0); 20]).unwrap();
    assert!(prediction.steps().iter().chain(prediction.peaks()).flatten().all(|value| *value <= 0.0));
}

#[test]
fn three_points_suffice_and_are_less_certain_than_ninety_six() {
    let model = shipped().unwrap();
    let wave: Vec<f64> = (0..96).map(|step| 50.0 + 10.0 * (f64::from(step) * 0.7).sin()).collect();
    let long = model.predict(ResourceKind::Cpu, &some(&wave)).unwrap();
    let short = model.predict(ResourceKind::Cpu, &some(&wave[93..])).unwrap();
    assert_sound(&short);
    let width = |prediction: &Prediction| prediction.step(11, 0.9).unwrap() - prediction.step(11, 0.1).unwrap();
    assert!(width(&short) > width(&long), "{} against {}", width(&short), width(&long));
}

#[test]
fn huge_values_give_a_forecast_of_their_size() {
    let values: Vec<f64> = (0..96).map(|step| 1e15 * (2.0 + (f64::from(step) / 5.0).sin())).collect();
    let prediction = shipped().unwrap().predict(ResourceKind::Network, &some(&values)).unwrap();
    assert_sound(&prediction);
    let median = prediction.step(0, 0.5).unwrap();
    assert!((1e14..1e16).contains(&median), "{median}");
}

#[test]
fn the_forecast_follows_the_level_of_its_context() {
    let model = shipped().unwrap();
    let step_up: Vec<f64> = (0..96).map(|step| if step < 60 { 10.0 } else { 90.0 } + f64::from(step % 3)).collect();
    let prediction = model.predict(ResourceKind::Cpu, &some(&step_up)).unwrap();
    let median = prediction.step(2, 0.5).unwrap();
    assert!((80.0..100.0).contains(&median), "{median}");
}

#[test]
fn a_context_that_is_no_demand_is_an_error() {
    let model = shipped().unwrap();
    for context in [&[] as &[_], &[None; 96]] {
        let error = model.predict(ResourceKind::Cpu, context).unwrap_err();
        assert!(matches!(error, ModelError::Context(ContextFault::Empty)), "{error}");
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5] {
        let error = model.predict(ResourceKind::Cpu, &[Some(1.0), Some(bad)]).unwrap_err();
        assert!(matches!(error, ModelError::Context(ContextFault::Value { index: 1, .. })), "{error}");
    }
}

#[test]
fn a_model_is_not_asked_about_resources_it_does_not_know() {
    let model = shipped().unwrap();
    let narrow = Model { resources: vec![ResourceKind::Cpu], ..model };
    let error = narrow.predict(ResourceKind::Disk, &[Some(1.0)]).unwrap_err();
    assert!(matches!(error, ModelError::Resource { resource: ResourceKind::Disk, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forecast_scales_with_its_context(
        values in prop::collection::vec(prop::option::weighted(0.9, 0.0..1e4_f64), 1..120),
        factor in 1e-6..1e9_f64,
    ) {
        prop_assume!(values.iter().rev().take(96).any(Option::is_some));
        let model = shipped_once();
        let scaled: Vec<_> = values.iter().map(|value| value.map(|value| value * factor)).collect();
        let one = model.predict(ResourceKind::Disk, &values).unwrap();
        let other = model.predict(ResourceKind::Disk, &scaled).unwrap();
        let expected: Vec<f64> = one.steps().concat().iter().map(|value| value * factor).collect();
        assert_near("steps", other.steps().concat(), &expected, 1e-3);
    }

    #[test]
    fn every_forecast_is_sound(values in prop::collection::vec(prop::option::of(prop_oneof![Just(0.0), 0.0..1.0_f64, 0.0..1e18_f64, 0.0..1e305_f64]), 0..130)) {
        for resource in ResourceKind::ALL {
            match shipped_once().predict(resource, &values) {
                Ok(prediction) => assert_sound(&prediction),
                Err(error) => prop_assert!(matches!(error, ModelError::Context(_) | ModelError::NotFinite { .. }), "{}", error),
            }
        }
    }
}
