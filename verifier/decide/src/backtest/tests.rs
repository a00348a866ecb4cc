#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::units::ResourceKind;

use super::super::{Origins, Recorded, run};
use super::*;
use crate::forecast::{Ladder, Past, smoothed};

const ORIGINS: Origins = Origins { from: 96, stride: 12, lessons: 4 };

fn recorded<'a>(name: &'a str, values: &'a [Option<f64>]) -> Recorded<'a> {
    Recorded { name, resource: ResourceKind::Cpu, interval_s: 300, values }
}

fn noisy(count: usize) -> Vec<Option<f64>> {
    (0..count).map(|i| Some(50.0 + ((i * 7919) % 101) as f64)).collect()
}

fn scores(values: &[Option<f64>]) -> SeriesScores {
    run(&Ladder::new(None), &recorded("one", values), &ORIGINS, |_, _| {})
}

#[test]
fn without_a_model_the_ladder_is_ewma_and_every_window_is_scored() {
    let values = noisy(300);
    let mut seen = Vec::new();
    let scores =
        run(&Ladder::new(None), &recorded("one", &values), &Origins { lessons: 0, ..ORIGINS }, |row, _| seen.push(row));
    assert_eq!(seen, (96..=288).step_by(12).collect::<Vec<_>>());
    assert_eq!(scores.windows.len(), 17);
    assert_eq!(scores.methods[&Method::Quotary], scores.methods[&Method::Ewma]);
    assert!(!scores.methods.contains_key(&Method::Model));
    let summary = summarise([&scores]);
    assert_eq!(summary.methods[&Method::Quotary].wql_ratio_to_ewma, Some(1.0));
    // Of one series it is that series' own.
    assert_eq!(summary.methods[&Method::Ewma].wql_mean, scores.methods[&Method::Ewma].wql());
}

#[test]
fn losses_are_those_of_the_forecasts_made_at_the_origins() {
    let values = noisy(120);
    let scores = scores(&values);
    let mut expected = 0.0;
    for origin in [96, 108] {
        let past = Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values: &values[..origin] };
        let quantiles = smoothed(&past, 1.0).unwrap();
        for (step, came) in values[origin..origin + 12].iter().enumerate() {
            expected += (came.unwrap() - quantiles.steps()[step][4]).abs();
        }
    }
    assert!((scores.methods[&Method::LastValue].absolute_error - expected).abs() < 1e-9);
    assert_eq!(scores.methods[&Method::LastValue].steps, 24);
}

#[test]
fn what_comes_after_an_origin_changes_nothing_before_it() {
    let values = noisy(400);
    let mut other = values.clone();
    for value in &mut other[300..] {
        *value = Some(1e9);
    }
    let (one, two) = (scores(&values), scores(&other));
    let requests = |scores: &SeriesScores| {
        let seen = scores.windows.iter().filter(|window| window.origin_row <= 300);
        seen.map(|window| SizingRule::ALL[..10].iter().map(|rule| window.request(*rule)).collect())
            .collect::<Vec<Vec<f64>>>()
    };
    assert_eq!(requests(&one), requests(&two));
    assert!(one.windows.last().unwrap().requests != two.windows.last().unwrap().requests);
}

#[test]
fn hours_with_gaps_are_counted_and_not_sized() {
    let mut values = noisy(200);
    values[110] = None;
    let scores = scores(&values);
    assert_eq!((scores.gaps, scores.windows.len()), (1, 7));
    assert_eq!(scores.methods[&Method::Ewma].steps, 8 * 12 - 1);
}

#[test]
fn constant_series_are_dropped_and_counted() {
    let summary = summarise([&scores(&vec![Some(5.0); 200]), &scores(&noisy(200)), &scores(&noisy(50))]);
    assert_eq!((summary.series, summary.constant, summary.unscored), (1, 1, 1));
}

#[test]
fn sizing_rules_are_compared_at_five_percent_of_overruns() {
    let window = |peak: f64, request: f64| Window { origin_row: 0, peak, mean: peak / 2.0, requests: [request; 11] };
    // Twenty hours that need 1 to 20 times what is asked for: at a factor of 19 one of them overruns.
    let windows: Vec<Window> = (1..=20).map(|i| window(f64::from(i), 1.0)).collect();
    let figures = decision(&windows.iter().collect::<Vec<_>>(), SizingRule::Vpa).unwrap();
    assert!((figures.overrun - 0.95).abs() < 1e-9);
    assert!((figures.factor - 19.0).abs() < 1e-9);
    let expected: f64 = (1..=20).map(|i| 1.0 - (f64::from(i) / 2.0 / 19.0).min(1.0)).sum::<f64>() / 20.0;
    assert!((figures.slack_at_overrun - expected).abs() < 1e-9, "{figures:?}");
    let idle = [window(0.0, 0.0), window(0.0, 4.0)];
    let figures = decision(&idle.iter().collect::<Vec<_>>(), SizingRule::Vpa).unwrap();
    assert!(figures.overrun.abs() < 1e-9);
}

#[test]
fn mase_divides_by_the_seasonal_error_or_by_the_last_values() {
    // From the first day on nothing is seasonal yet: the last value's error is there all the same.
    let young = run(&Ladder::new(None), &recorded("young", &noisy(4 * 288)), &ORIGINS, |_, _| {});
    assert!(!young.seasonal && young.scale.is_some());
    assert!(young.methods.contains_key(&Method::SeasonalNaive));
    let day: Vec<_> = (0..4 * 288).map(|i| Some(f64::from((i / 288) % 2) * 10.0 + 1.0)).collect();
    let long = run(&Ladder::new(None), &recorded("long", &day), &Origins { from: 3 * 288, ..ORIGINS }, |_, _| {});
    assert!(long.seasonal);
    assert!((long.scale.unwrap() - 10.0).abs() < 1e-9);
    let short: Vec<_> = (0..200).map(|i| Some(f64::from(i % 2) * 3.0)).collect();
    let short = scores(&short);
    assert!(!short.seasonal && (short.scale.unwrap() - 3.0).abs() < 1e-9);
}

#[test]
fn the_oracle_never_overruns() {
    let summary = summarise([&scores(&noisy(400))]);
    assert!(summary.sizing[&SizingRule::Oracle].overrun.abs() < 1e-12);
    assert!(summary.sizing.values().all(|figures| (0.0..=1.0).contains(&figures.slack)));
}
