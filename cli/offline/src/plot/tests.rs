#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::units::ResourceKind;
use quotary_decide::anomaly::{Row, judge_rows};
use quotary_decide::forecast::{Calibration, Ladder, Past};

use super::*;

fn of(values: &[Option<f64>]) -> Forecast {
    let past = Past { measure: ResourceKind::Cpu.into(), interval_s: 300, values };
    let ladder = Ladder::new(None);
    let (rungs, _) = ladder.rungs(&[past]).pop().unwrap();
    ladder.answer(&past, &rungs, (&Calibration::NONE, &Calibration::NONE), &[], None).unwrap()
}

fn values(count: usize) -> Vec<Option<f64>> {
    (0..count).map(|i| (i % 50 != 7).then(|| 40.0 + ((i * 31) % 17) as f64)).collect()
}

#[test]
fn a_picture_shows_past_bands_and_legend_and_is_whole() {
    let values = values(400);
    let picture = forecast("a<b>&\"c\".csv:cpu", &values, &of(&values));
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("a&lt;b&gt;&amp;&quot;c&quot;.csv:cpu"));
    assert_eq!(picture.matches("<polygon").count(), 2);
    assert!(picture.contains("peak of the hour, 95 %"));
    assert!(!picture.contains("NaN") && !picture.contains("inf"));
}

#[test]
fn gaps_interrupt_the_line() {
    let whole: Vec<_> = (0..300).map(|i| Some(f64::from(i))).collect();
    let mut gap = whole.clone();
    gap[200] = None;
    let breaks = |values: &[Option<f64>]| {
        let picture = forecast("x", values, &of(values));
        let path =
            picture.lines().find(|line| line.contains(PAST_COLOUR) && line.starts_with("<path")).unwrap().to_owned();
        path.matches('M').count()
    };
    assert_eq!(breaks(&gap), breaks(&whole) + 1);
}

#[test]
fn a_long_series_makes_no_long_picture() {
    let long = values(100_000);
    let origins: Vec<_> = (96..99_000).step_by(500).map(|row| (row, of(&long[..row]))).collect();
    let picture = backtest("x", &long, 300, &origins);
    assert!(picture.len() < 200_000, "{}", picture.len());
}

#[test]
fn idle_and_huge_series_are_drawn() {
    for value in [0.0, 1e300, 1e-12] {
        let values = vec![Some(value); 40];
        let picture = forecast("x", &values, &of(&values));
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{value}");
    }
}

/// -8 to 8, in no order.
fn noise(at: i64) -> f64 {
    let mixed =
        at.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    f64::from(u16::try_from((mixed >> 40) % 17).unwrap()) - 8.0
}

#[test]
fn anomalies_are_marked_with_their_kind() {
    let rows =
        (0..1200_i64).map(|i| Row { time_ms: i * 300_000, value: Some(if i == 900 { 4000.0 } else { noise(i) }) });
    let judged: Vec<_> = judge_rows(rows).collect();
    let picture = anomalies("x", &judged);
    assert!(picture.contains("row 900: spike"), "{picture}");
    assert!(picture.contains(">-"), "an axis below zero has labels");
    assert!(!picture.contains("NaN") && !picture.contains("inf"));
}
