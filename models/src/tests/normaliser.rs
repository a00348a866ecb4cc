#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use quotary_common::units::ResourceKind;

use super::*;

fn write(values: &[Option<f64>]) -> Result<(Mapping, Vec<f32>), ContextFault> {
    let mut features = vec![0.0; FEATURES];
    let past = Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values };
    Mapping::write(&past, &mut features).map(|mapping| (mapping, features))
}

fn restored(mapping: &Mapping, output: f32) -> f64 {
    mapping.restore([[output]])[0][0]
}

fn some(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

fn section<'a>(features: &'a [f32], name: &str) -> &'a [f32] {
    let at = SECTIONS.iter().position(|(one, _)| *one == name).unwrap();
    let first: usize = SECTIONS[..at].iter().map(|(_, length)| length).sum();
    &features[first..first + SECTIONS[at].1]
}

#[test]
fn sections_fill_the_input() {
    assert_eq!(SECTIONS.iter().map(|(_, length)| length).sum::<usize>(), FEATURES);
}

#[test]
fn a_known_context_maps_to_known_numbers() {
    // median 3, mean absolute deviation (2+1+0+1+97)/5 = 20.2, so scale = 10.1.
    let (mapping, features) = write(&some(&[1.0, 2.0, 3.0, 4.0, 100.0])).unwrap();
    assert!((mapping.scale - 10.1).abs() < 1e-9);
    let context = section(&features, "context");
    assert!((f64::from(context[91]) - (-2.0_f64 / 10.1).asinh()).abs() < 1e-6);
    assert!((f64::from(context[95]) - (97.0_f64 / 10.1).asinh()).abs() < 1e-6);
    assert_eq!(section(&features, "context_mask")[90..], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    assert!(section(&features, "block_mask").iter().all(|share| share.abs() < 1e-9));
}

#[test]
fn gaps_are_masked_and_do_not_count() {
    let (mapping, features) = write(&[Some(5.0), None, Some(7.0)]).unwrap();
    assert_eq!(section(&features, "context_mask")[93..], [1.0, 0.0, 1.0]);
    assert!((mapping.median - 6.0).abs() < 1e-12);
}

#[test]
fn the_day_before_is_seen_around_the_hour_that_is_forecast() {
    let values: Vec<_> = (0..400).map(|i| Some(f64::from(i))).collect();
    let (mapping, features) = write(&values).unwrap();
    assert!(section(&features, "day_mask").iter().all(|mask| (*mask - 1.0).abs() < 1e-9));
    // The next step is row 400: a day before it is row 112, and six rows before that the section begins.
    let first = restored(&mapping, section(&features, "day")[0]);
    assert!((first - 106.0).abs() < 1e-2, "{first}");
    let odd = Past { measure: ResourceKind::Cpu.into(), interval_s: 7, values: &values };
    let mut features = vec![0.0; FEATURES];
    Mapping::write(&odd, &mut features).unwrap();
    assert!(section(&features, "day_mask").iter().all(|mask| mask.abs() < 1e-9));
}

#[test]
fn only_the_last_steps_count() {
    let long: Vec<f64> = (0..500).map(|i| f64::from((i * 13) % 97)).collect();
    assert_eq!(write(&some(&long)).unwrap().1, write(&some(&long[188..])).unwrap().1);
    assert_ne!(write(&some(&long)).unwrap().1, write(&some(&long[189..])).unwrap().1);
}

#[test]
fn zeros_map_to_zero_and_back_to_zero() {
    let (mapping, features) = write(&some(&[0.0; 8])).unwrap();
    assert!(section(&features, "context").iter().all(|value| value.abs() < 1e-9));
    assert!(restored(&mapping, 9.0).abs() < f64::MIN_POSITIVE);
}

#[test]
fn a_constant_series_has_a_hundredth_as_scale() {
    let (mapping, _) = write(&some(&[400.0; 8])).unwrap();
    assert!((mapping.scale - 4.0).abs() < 1e-12);
    assert!((restored(&mapping, 0.0) - 400.0).abs() < 1e-12);
}

#[test]
fn what_is_no_demand_is_refused_with_its_index() {
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let fault = write(&[None, Some(1.0), Some(bad)]).unwrap_err();
        assert!(matches!(fault, ContextFault::Value { index: 2, .. }), "{bad}: {fault:?}");
    }
    assert_eq!(write(&[None, None]).unwrap_err(), ContextFault::Empty);
    assert_eq!(write(&[]).unwrap_err(), ContextFault::Empty);
    // A point that is older than the context is no context.
    let mut old = vec![Some(1.0)];
    old.extend(vec![None; 96]);
    assert_eq!(write(&old).unwrap_err(), ContextFault::Empty);
}

#[test]
fn values_near_the_end_of_the_number_range_are_refused_or_finite() {
    match write(&some(&[f64::MAX, 0.0, f64::MAX, 0.0, f64::MAX])) {
        Ok((_, features)) => assert!(features.iter().all(|value| value.is_finite())),
        Err(fault) => assert_eq!(fault, ContextFault::Overflow),
    }
}

#[test]
fn one_absurd_value_leaves_the_others_where_they_were() {
    let sane: Vec<f64> = (0..312).map(|i| 100.0 + f64::from((i * 31) % 17)).collect();
    let mut absurd = sane.clone();
    absurd[150] = 1e300;
    let (sane, absurd) = (write(&some(&sane)).unwrap(), write(&some(&absurd)).unwrap());
    assert!((sane.0.scale - absurd.0.scale).abs() < 0.2 * sane.0.scale);
    let far = sane.1.iter().zip(&absurd.1).filter(|(one, other)| (*one - *other).abs() > 0.5).count();
    assert!(far < 12, "{far}");
}

#[test]
fn the_fast_logarithm_is_the_librarys() {
    for step in 0..100_000_u32 {
        let x = 1.0 + f32::from_bits(step.wrapping_mul(21_000)).abs().min(9.99e5);
        let room = 3e-7 * (1.0 + x.ln());
        assert!((ln(x) - x.ln()).abs() <= room, "{x}: {} {}", ln(x), x.ln());
    }
}

#[test]
fn the_fast_exponential_is_the_librarys() {
    for step in -10_000..=10_000_i16 {
        let x = f32::from(step) / 1000.0;
        let (fast, slow) = (f64::from(exp(x)), f64::from(x).exp());
        assert!((fast - slow).abs() <= 3e-7 * slow, "{x}: {fast} {slow}");
    }
    assert!(exp(f32::NAN).is_nan());
}

proptest! {
    #[test]
    fn what_was_mapped_comes_back(values in prop::collection::vec(1e7..1e12_f64, 1..20)) {
        let (mapping, features) = write(&some(&values)).unwrap();
        let context = section(&features, "context");
        for (value, output) in values.iter().rev().zip(context.iter().rev()) {
            prop_assert!((restored(&mapping, *output) - value).abs() <= 1e-5 * (value + mapping.scale));
        }
    }

    #[test]
    fn the_unit_leaves_no_trace(values in prop::collection::vec(0.0..1e6_f64, 1..400), exponent in -20..40_i32) {
        let factor = 2.0_f64.powi(exponent);
        let scaled: Vec<f64> = values.iter().map(|value| value * factor).collect();
        prop_assert_eq!(write(&some(&values)).unwrap().1, write(&some(&scaled)).unwrap().1);
    }

    #[test]
    fn features_are_bounded(values in prop::collection::vec(prop::option::of(0.0..1e300_f64), 1..400)) {
        if let Ok((_, features)) = write(&values) {
            prop_assert!(features.iter().all(|value| value.abs() < 12.0));
        }
    }
}
