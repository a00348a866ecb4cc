#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// A rung that says 0..=100 evenly, whatever comes.
fn even(scale: f64) -> Quantiles {
    let steps = [QUANTILE_LEVELS.map(|level| level * scale); STEPS];
    Quantiles::from_raw(steps, [PEAK_LEVELS.map(|level| level * scale); 3]).unwrap()
}

fn model_alone(quantiles: Quantiles) -> Rungs {
    Rungs { model: Some(quantiles), ewma: None }
}

/// An even sequence that is not in order: multiples of the golden ratio, modulo 1.
fn even_sequence(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(|i| (f64::from(u32::try_from(i).unwrap()) * 0.618_033_988_749_895).fract())
}

fn coverage(calibration: &Calibration, rungs: &Rungs, column: usize, came: impl Iterator<Item = f64>) -> f64 {
    let told = calibration.apply(rungs, &Calibration::default()).unwrap();
    let all: Vec<f64> = came.collect();
    let below = all.iter().filter(|value| **value <= told.steps()[0][column]).count();
    below as f64 / all.len() as f64
}

#[test]
fn lines_that_are_too_low_or_too_high_find_their_level() {
    for stated in [40.0, 100.0, 250.0] {
        // What comes is even over 0..=100 around the stated median.
        let rungs = model_alone(even(stated));
        let came = || even_sequence(6000).map(|share| stated / 2.0 + (share - 0.5) * 100.0).map(|value| value.max(0.0));
        let mut calibration = Calibration::default();
        let values: Vec<Option<f64>> = came().map(Some).collect();
        for hour in values.chunks(STEPS) {
            calibration.learn(&rungs, &Calibration::default(), &Came::from_steps(hour));
        }
        for (column, room) in [(8, 0.04), (9, 0.03), (10, 0.02)] {
            let found = coverage(&calibration, &rungs, column, came());
            assert!((found - QUANTILE_LEVELS[column]).abs() < room, "{stated}, {column}: {found}");
        }
    }
}

#[test]
fn the_rung_that_does_better_takes_the_larger_share() {
    let (good, bad) = (even(100.0), even(1000.0));
    for (model, ewma, ewma_is_better) in [(&good, &bad, false), (&bad, &good, true)] {
        let rungs = Rungs { model: Some(model.clone()), ewma: Some(ewma.clone()) };
        let mut calibration = Calibration::default();
        assert_eq!(calibration.ewma_shares(), (0.0, 0.0));
        for hour in 0..12_u32 {
            let came: Vec<_> =
                even_sequence(STEPS).map(|share| Some((share + f64::from(hour)).fract() * 100.0)).collect();
            calibration.learn(&rungs, &Calibration::default(), &Came::from_steps(&came));
        }
        let (steps, peaks) = calibration.ewma_shares();
        assert_eq!((steps > 0.9, peaks > 0.9), (ewma_is_better, ewma_is_better), "{steps} {peaks}");
        assert_eq!((steps < 0.1, peaks < 0.1), (!ewma_is_better, !ewma_is_better), "{steps} {peaks}");
    }
}

#[test]
fn hours_of_which_nothing_is_known_teach_nothing() {
    let mut calibration = Calibration::default();
    calibration.learn(&model_alone(even(9.0)), &Calibration::default(), &Came::from_steps(&[None; 12]));
    assert_eq!(calibration.lessons(), 0);
    calibration.learn(&Rungs::default(), &Calibration::default(), &Came::from_steps(&[Some(1.0); 12]));
    assert_eq!(calibration.lessons(), 0);
}

#[test]
fn what_was_learnt_of_the_model_is_not_applied_to_the_rung_below() {
    let learnt = || {
        let mut calibration = Calibration::default();
        for _ in 0..40 {
            calibration.learn(&model_alone(even(10.0)), &Calibration::default(), &Came::from_steps(&[Some(500.0); 12]));
        }
        calibration
    };
    let calibration = learnt();
    let pool = Calibration::pooled([(); 6].map(|()| learnt()).iter());
    assert_ne!(pool, Calibration::default());
    let below = Rungs { model: None, ewma: Some(even(10.0)) };
    assert_eq!(calibration.apply(&below, &pool), Some(even(10.0)));
    // The model was away for an hour, or nothing came: what is known of it stays.
    let (mut away, before) = (calibration.clone(), calibration);
    away.learn(&below, &pool, &Came::from_steps(&[Some(1.0); 12]));
    away.learn(&model_alone(even(10.0)), &pool, &Came::from_steps(&[None; 12]));
    assert_eq!(away, before);
}

#[test]
fn a_rung_that_never_answered_takes_no_share() {
    let mut calibration = Calibration::default();
    for _ in 0..20 {
        calibration.learn(&model_alone(even(10.0)), &Calibration::default(), &Came::from_steps(&[Some(5.0); 12]));
    }
    assert_eq!(calibration.ewma_shares(), (0.0, 0.0));
}

#[test]
fn a_young_series_leans_on_the_pool_and_a_mature_one_does_not() {
    let learnt = |hours: usize, came: f64| {
        let mut calibration = Calibration::default();
        for _ in 0..hours {
            calibration.learn(&model_alone(even(10.0)), &Calibration::default(), &Came::from_steps(&[Some(came); 12]));
        }
        calibration
    };
    let wide: Vec<Calibration> = (0..9).map(|_| learnt(60, 1000.0)).collect();
    let pool = Calibration::pooled(wide.iter());
    let rungs = model_alone(even(10.0));
    let plain = Calibration::default();
    let line = |calibration: &Calibration, pool| calibration.apply(&rungs, pool).unwrap().steps()[0][9];
    assert!(line(&plain, &pool) > 1.5 * line(&plain, &plain));
    let mature = learnt(24, 5.0);
    assert!((line(&mature, &pool) - line(&mature, &plain)).abs() < 1e-12);
    assert_eq!(Calibration::pooled(wide.iter().take(4)), Calibration::default());
}

#[test]
fn one_poisoned_series_does_not_move_the_pool_far() {
    let learnt = |came: f64| {
        let mut calibration = Calibration::default();
        for hour in 0..30 {
            let came = if hour % 3 == 0 { came } else { 6.0 };
            calibration.learn(&model_alone(even(10.0)), &Calibration::default(), &Came::from_steps(&[Some(came); 12]));
        }
        calibration
    };
    let mut series: Vec<Calibration> = (0..11).map(|i| learnt(f64::from(i))).collect();
    let sound = Calibration::pooled(series.iter());
    series[0] = learnt(1e300);
    let poisoned = Calibration::pooled(series.iter());
    for (one, other) in sound.widths.iter().zip(poisoned.widths) {
        assert!((one - other).abs() < 0.8, "{one} {other}");
    }
    let rungs = model_alone(even(10.0));
    let told = Calibration::default().apply(&rungs, &poisoned).unwrap();
    assert!(told.steps()[0][10] < 10.0 * 3.0);
}

#[test]
fn the_state_is_small() {
    assert!(size_of::<Calibration>() <= 160, "{}", size_of::<Calibration>());
}

proptest! {
    #[test]
    fn whatever_comes_quantiles_stay_sound(
        scale in 0.0..1e12_f64,
        came in prop::collection::vec(prop::option::of(prop_oneof![0.0..1e18_f64, Just(f64::NAN), Just(f64::INFINITY), Just(-5.0)]), 0..400),
    ) {
        let rungs = Rungs { model: Some(even(scale)), ewma: Some(even(scale * 3.0)) };
        let mut calibration = Calibration::default();
        for hour in came.chunks(STEPS) {
            calibration.learn(&rungs, &Calibration::default(), &Came::from_steps(hour));
            let told = calibration.apply(&rungs, &Calibration::default()).unwrap();
            prop_assert!(told.steps().iter().flatten().all(|value| value.is_finite() && *value >= 0.0));
            prop_assert!(told.steps().iter().all(|row| row.is_sorted()));
            // Widths are bounded: at most e³ times the stated distance.
            prop_assert!(told.steps()[0][10] <= scale * 3.0 * 25.0 + 1e-9);
        }
    }
}
