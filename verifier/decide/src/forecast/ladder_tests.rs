#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::metric::Gauge;
use quotary_common::units::ResourceKind;

use super::super::answer::ModelRef;
use super::*;

/// A model that says twice the last value, and fails where it is told to.
struct Doubling {
    reference: ModelRef,
    fails_above: f64,
}

impl Doubling {
    fn new(fails_above: f64) -> Self {
        Self { reference: ModelRef { name: "doubling".to_owned(), sha256: "ab".to_owned() }, fails_above }
    }
}

impl QuantileModel for Doubling {
    fn reference(&self) -> &ModelRef {
        &self.reference
    }

    fn quantiles(&self, pasts: &[Past<'_>]) -> Vec<Result<Quantiles, ModelFault>> {
        pasts
            .iter()
            .map(|past| {
                if past.values.iter().flatten().any(|value| !is_demand(*value)) {
                    return Err(ModelFault::Past("no demand".to_owned()));
                }
                let last = past.values.iter().flatten().copied().next_back().unwrap();
                if last > self.fails_above {
                    return Err(ModelFault::Failed("NaN".to_owned()));
                }
                Ok(Quantiles::point(2.0 * last).unwrap())
            })
            .collect()
    }
}

fn past(values: &[Option<f64>]) -> Past<'_> {
    Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values }
}

fn answer(
    ladder: &Ladder<'_>,
    past: &Past<'_>,
    like: &[f64],
    declared: Option<f64>,
) -> (Option<Forecast>, Option<Shortfall>) {
    let (rungs, why) = ladder.rungs(std::slice::from_ref(past)).pop().unwrap();
    let none = Calibration::default();
    (ladder.answer(past, &rungs, (&none, &none), like, declared), why)
}

#[test]
fn each_rung_answers_where_the_one_above_cannot_and_says_so() {
    let model = Doubling::new(1e9);
    let ladder = Ladder::new(Some(&model));
    let cases = [
        (vec![Some(3.0); 20], Method::Model, 6.0),
        (vec![Some(3.0); 5], Method::Climatology, 3.0),
        (vec![Some(2e9); 30], Method::Ewma, 2e9),
        (vec![None; 20], Method::Climatology, 7.0),
    ];
    for (values, method, median) in cases {
        let (forecast, why) = answer(&ladder, &past(&values), &[7.0], Some(50.0));
        let forecast = forecast.unwrap();
        assert_eq!(forecast.method, method);
        assert!((forecast.quantiles.steps()[0][4] - median).abs() < 1e-9, "{method:?}");
        assert_eq!(forecast.model.is_some(), method == Method::Model);
        assert_eq!(why.is_none(), method == Method::Model);
    }
    let (declared, why) = answer(&ladder, &past(&[]), &[], Some(50.0));
    let declared = declared.unwrap();
    assert_eq!((declared.method, declared.history_rows, declared.history_age_s), (Method::Declared, 0, 0));
    assert_eq!(why, Some(Shortfall::YoungSeries));
    assert!(answer(&ladder, &past(&[]), &[], None).0.is_none());
}

#[test]
fn without_a_model_the_statistical_rung_answers() {
    let ladder = Ladder::new(None);
    let (forecast, why) = answer(&ladder, &past(&[Some(4.0); 30]), &[], None);
    assert_eq!((forecast.unwrap().method, why), (Method::Ewma, Some(Shortfall::NoModel)));
}

#[test]
fn one_bad_past_moves_no_other() {
    let model = Doubling::new(1e9);
    let ladder = Ladder::new(Some(&model));
    let sound: Vec<_> = (0..40).map(|i| Some(f64::from(i % 5))).collect();
    let alone = ladder.rungs(&[past(&sound)]).pop().unwrap();
    for bad in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let mut poisoned = sound.clone();
        poisoned[39] = Some(bad);
        let all = ladder.rungs(&[past(&poisoned), past(&sound), past(&poisoned), past(&[Some(1.0)])]);
        assert_eq!(all[1], alone, "{bad}");
        assert!(all[0].0.model.is_none() && all[2].0.model.is_none());
        // What is no demand is a gap to the rung below, and it answers.
        assert!(all[0].0.ewma.is_some());
    }
}

#[test]
fn a_model_that_answers_too_little_has_failed() {
    struct Silent(ModelRef);
    impl QuantileModel for Silent {
        fn reference(&self) -> &ModelRef {
            &self.0
        }
        fn quantiles(&self, _: &[Past<'_>]) -> Vec<Result<Quantiles, ModelFault>> {
            Vec::new()
        }
    }
    let model = Silent(ModelRef { name: "silent".to_owned(), sha256: String::new() });
    let (forecast, why) = answer(&Ladder::new(Some(&model)), &past(&[Some(4.0); 30]), &[], None);
    assert_eq!(forecast.unwrap().method, Method::Ewma);
    assert!(matches!(why, Some(Shortfall::Model(ModelFault::Failed(_)))));
}

#[test]
fn age_and_rows_of_history_are_told() {
    let mut values = vec![None; 10];
    values.extend([Some(1.0), None, Some(2.0)]);
    let (forecast, _) = answer(&Ladder::new(None), &past(&values), &[], None);
    let forecast = forecast.unwrap();
    assert_eq!((forecast.history_rows, forecast.history_age_s), (2, 3 * 300));
}

#[test]
fn a_model_that_is_always_wrong_hands_over_to_the_rung_below() {
    let model = Doubling::new(1e9);
    let ladder = Ladder::new(Some(&model));
    let values: Vec<_> = (0..400).map(|i| Some(100.0 + f64::from((i * 7) % 13))).collect();
    let calibration = ladder.learnt(&past(&values), 20);
    assert_eq!(calibration.lessons(), 20);
    let (rungs, _) = ladder.rungs(&[past(&values)]).pop().unwrap();
    let none = Calibration::default();
    let forecast = ladder.answer(&past(&values), &rungs, (&calibration, &none), &[], None).unwrap();
    let median = forecast.quantiles.steps()[0][4];
    assert!((100.0..113.0).contains(&median), "{median}");
    // And the answer says whose it is.
    let (of_steps, of_peaks) = calibration.ewma_shares();
    assert!(of_steps.min(of_peaks) > 0.99, "{of_steps} {of_peaks}");
    assert_eq!((forecast.method, forecast.model), (Method::Ewma, None));
}

/// A model whose lines are those of the last value a little raised: neither much better nor much worse than EWMA.
struct Near(ModelRef, f64);

impl QuantileModel for Near {
    fn reference(&self) -> &ModelRef {
        &self.0
    }
    fn quantiles(&self, pasts: &[Past<'_>]) -> Vec<Result<Quantiles, ModelFault>> {
        let one = |past: &Past<'_>| {
            let like = ewma(past).ok_or_else(|| ModelFault::Past("young".to_owned()))?;
            let raised = like.steps().map(|row| row.map(|value| value * self.1));
            let peaks = like.peaks().map(|row| row.map(|value| value * self.1));
            Quantiles::from_raw(raised, peaks).ok_or_else(|| ModelFault::Failed("NaN".to_owned()))
        };
        pasts.iter().map(one).collect()
    }
}

#[test]
fn the_rung_with_the_greater_share_is_the_method_and_a_model_with_the_lesser_is_named() {
    let values: Vec<_> = (0..400).map(|i| Some(100.0 + f64::from((i * 7) % 13))).collect();
    for (factor, method) in [(1.03, Method::Ewma), (1.0, Method::Model)] {
        let model = Near(ModelRef { name: "near".to_owned(), sha256: "ab".to_owned() }, factor);
        let ladder = Ladder::new(Some(&model));
        let calibration = ladder.learnt(&past(&values), 20);
        let (of_steps, of_peaks) = calibration.ewma_shares();
        assert!((0.2..0.98).contains(&of_steps) && of_peaks > 0.2, "{factor}: {of_steps} {of_peaks}");
        let (rungs, _) = ladder.rungs(&[past(&values)]).pop().unwrap();
        let none = Calibration::default();
        let forecast = ladder.answer(&past(&values), &rungs, (&calibration, &none), &[], None).unwrap();
        assert_eq!(forecast.method, method, "{factor}: {of_steps} {of_peaks}");
        assert_eq!(forecast.model.unwrap().name, "near");
    }
}

#[test]
fn nothing_after_the_origin_is_learnt_from() {
    let ladder = Ladder::new(None);
    let values: Vec<_> = (0..200).map(|i| Some(f64::from((i * 31) % 17))).collect();
    let mut longer = values.clone();
    longer.extend([Some(1e9); 24]);
    let whole = past(&longer);
    assert_eq!(ladder.learnt(&whole.earlier(24).unwrap(), 10), ladder.learnt(&past(&values), 10));
}

#[test]
fn the_model_is_never_asked_about_what_applications_state() {
    let model = Doubling::new(1e9);
    let ladder = Ladder::new(Some(&model));
    let values = [Some(3.0); 40];
    let gauge = Past { measure: Gauge::RequestsPerMinute.into(), ..past(&values) };
    // Between two that it is asked about: neither gets the other's answer.
    let doubled = [Some(5.0); 40];
    let all = ladder.rungs(&[past(&values), gauge, past(&doubled)]);
    let median = |at: usize| all[at].0.model.as_ref().map(|quantiles| quantiles.steps()[0][4]);
    assert_eq!([median(0), median(1), median(2)], [Some(6.0), None, Some(10.0)]);
    assert_eq!(all[1].1, Some(Shortfall::Model(ModelFault::Measure)));
    let (forecast, _) = answer(&ladder, &gauge, &[], None);
    assert_eq!(forecast.unwrap().method, Method::Ewma);
}
