//! Series at several resolutions: exact, bounded, in whatever order windows come.

use proptest::prelude::*;

use super::super::*;
use crate::history::ring::HOUR_MS;

const STEP_MS: u64 = 300_000;
/// A Tuesday, on the hour.
const BEGIN_MS: u64 = 1_700_006_400_000 / HOUR_MS * HOUR_MS;

fn window(end_ms: u64, (mean, max): (u64, u64), samples: u32) -> Window {
    Window { end_ms, duration_ms: 10, point: Point::new((mean, max), samples, false).unwrap() }
}

fn means(series: &Series, resolution: Resolution, now_ms: u64, count: usize) -> Vec<Option<u64>> {
    series.closed_at(resolution, now_ms, count).into_iter().map(|point| point.map(|point| point.mean())).collect()
}

#[test]
fn windows_of_one_step_are_weighted_by_their_samples() {
    let mut series = Series::new(10);
    series.add(window(5, (100, 150), 1));
    series.add(window(10, (400, 900), 2));
    let points = series.closed(15, 8);
    assert_eq!(points.len(), 1);
    let point = points[0].unwrap();
    assert_eq!((point.mean(), point.max(), point.samples(), point.is_censored()), (300, 900, 3, false));
}

#[test]
fn what_was_not_seen_is_a_gap_and_the_open_step_is_left_out() {
    let mut series = Series::new(10);
    for (end_ms, mean) in [(10, 1), (40, 4), (45, 9)] {
        series.add(window(end_ms, (mean, mean), 1));
    }
    let step = Resolution::Step;
    assert_eq!(means(&series, step, 45, 8), [Some(1), None, None, Some(4)]);
    assert_eq!(means(&series, step, 71, 8), [Some(1), None, None, Some(4), Some(9), None, None]);
    assert_eq!(means(&series, step, 45, 2), [Some(4)]);
    assert_eq!(means(&series, step, u64::MAX, 8), []);
}

#[test]
fn late_windows_find_their_step_and_a_long_silence_starts_anew() {
    let mut series = Series::new(10);
    series.add(window(100, (5, 5), 1));
    series.add(window(80, (3, 3), 1));
    assert_eq!(means(&series, Resolution::Step, 105, 8), [Some(3), None, Some(5)]);
    series.add(window(1_000_000, (7, 7), 1));
    assert_eq!(means(&series, Resolution::Step, 1_000_005, 8), [Some(7)]);
}

#[test]
fn each_resolution_reaches_back_as_far_as_it_says() {
    let mut series = Series::new(STEP_MS);
    let minutes = 9 * 24 * 60;
    for minute in 1..=minutes {
        series.add(window(BEGIN_MS + minute * MINUTE_MS, (minute, minute), 60));
    }
    let now_ms = BEGIN_MS + minutes * MINUTE_MS;
    for (resolution, at_least) in [(Resolution::Minute, 60), (Resolution::Step, 288 + 36), (Resolution::Hour, 168)] {
        let points = series.closed_at(resolution, now_ms, usize::MAX);
        assert!(
            points.len() >= at_least && points.len() <= resolution.points_max(),
            "{resolution:?}: {}",
            points.len()
        );
        assert!(points.iter().all(Option::is_some));
    }
    assert_eq!(series.windows().count(), 40);
    // The mean of the last hour's minutes.
    assert_eq!(means(&series, Resolution::Hour, now_ms, 1), [Some((minutes * 2 - 59) / 2)]);
}

#[test]
fn what_is_older_than_a_ring_reaches_is_left_out_and_the_oldest_within_is_taken() {
    let step = Resolution::Step;
    let reach = step.points_max() as u64;
    for (back, taken) in [(reach - 1, 2), (reach, 1)] {
        let mut series = Series::new(STEP_MS);
        series.add(window(BEGIN_MS, (1, 1), 1));
        series.add(window(BEGIN_MS - back * STEP_MS, (2, 2), 1));
        assert_eq!(series.points(step).count(), taken, "{back} steps before");
    }
}

#[test]
fn a_series_is_let_go_after_as_long_as_it_lasted_within_a_day_and_a_week() {
    let lasting = |hours: u64| {
        let mut series = Series::new(STEP_MS);
        (1..=hours).for_each(|hour| series.add(window(BEGIN_MS + hour * HOUR_MS, (1, 1), 1)));
        move |silent_h: u64| series.is_stale(BEGIN_MS + (hours + silent_h) * HOUR_MS)
    };
    assert!(!lasting(1)(27) && lasting(1)(29));
    assert!(!lasting(100)(99) && lasting(100)(102));
    assert!(!lasting(1000)(170) && lasting(1000)(174));
}

#[test]
fn a_point_is_small_and_its_extremes_saturate() {
    assert_eq!(size_of::<Point>(), 16);
    let mut point = Point::new((u64::MAX, u64::MAX), u32::MAX, true).unwrap();
    point.merge(&point.clone());
    assert!(point.is_censored() && point.max() == u64::MAX && point.samples() == u32::MAX >> 1);
    assert!(Point::new((1, 1), 0, false).is_none());
    let rounded = Point::new((0, (1 << 40) + 1), 1, false).unwrap();
    assert!(rounded.max() > 1 << 40 && rounded.max() < (1 << 40) + (1 << 18), "never below what was seen");
}

/// Windows of a day or so, in no order, some far from the others.
fn any_windows() -> impl Strategy<Value = Vec<Window>> {
    let near = BEGIN_MS..BEGIN_MS + 26 * HOUR_MS;
    let instant = prop_oneof![8 => near, 1 => BEGIN_MS..BEGIN_MS + 400 * HOUR_MS, 1 => any::<u64>()];
    let amount = prop_oneof![4 => 0..5_000_u64, 1 => 0..1_u64 << 41, 1 => any::<u64>()];
    let one = (instant, amount.clone(), amount, 1..40_u32, prop::bool::weighted(0.1));
    let one = one.prop_map(|(end_ms, mean, above, samples, is_censored)| Window {
        end_ms,
        duration_ms: 15_000,
        point: Point::new((mean, mean.saturating_add(above)), samples, is_censored).unwrap(),
    });
    prop::collection::vec(one, 1..60)
}

fn held(series: &Series) -> Vec<Vec<(u64, Point)>> {
    Resolution::ALL.into_iter().map(|resolution| series.points(resolution).collect()).collect()
}

fn of(windows: &[Window]) -> Series {
    let mut series = Series::new(STEP_MS);
    windows.iter().for_each(|window| series.add(*window));
    series
}

proptest! {
    #[test]
    fn any_order_of_arrival_gives_the_same_points(
        (windows, shuffled) in any_windows().prop_flat_map(|windows| (Just(windows.clone()), Just(windows).prop_shuffle())),
    ) {
        prop_assert_eq!(held(&of(&windows)), held(&of(&shuffled)));
    }

    #[test]
    fn rings_are_bounded_and_hold_what_their_windows_say(windows in any_windows()) {
        let series = of(&windows);
        prop_assert!(series.windows().count() <= 40);
        let newest_ms = windows.iter().map(|window| window.end_ms).max().unwrap();
        for resolution in Resolution::ALL {
            let span_ms = resolution.span_ms(STEP_MS);
            let number = |window: &Window| window.end_ms.saturating_sub(1) / span_ms;
            let oldest = (newest_ms.saturating_sub(1) / span_ms + 1).saturating_sub(resolution.points_max() as u64);
            // The reference: every window within reach, merged by the interval that its end lies in.
            let mut expected = BTreeMap::<u64, Point>::new();
            for window in windows.iter().filter(|window| number(window) >= oldest) {
                expected.entry(number(window)).and_modify(|point| point.merge(&window.point)).or_insert(window.point);
            }
            let expected: Vec<_> = expected.into_iter().map(|(at, point)| (at.saturating_mul(span_ms), point)).collect();
            prop_assert!(expected.iter().all(|(_, point)| point.mean() <= point.max()));
            prop_assert_eq!(series.points(resolution).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_coarse_point_follows_from_the_fine_ones(windows in any_windows()) {
        let series = of(&windows);
        for (resolution, span_ms) in [(Resolution::Step, STEP_MS), (Resolution::Hour, HOUR_MS)] {
            let fine: Vec<_> = series.points(Resolution::Minute).collect();
            let Some((oldest_ms, _)) = fine.first().copied() else { continue };
            for (start_ms, coarse) in series.points(resolution).filter(|(start_ms, _)| *start_ms > oldest_ms) {
                let within = fine.iter().filter(|(at_ms, _)| (start_ms..start_ms.saturating_add(span_ms)).contains(at_ms));
                let merged = within.map(|(_, point)| *point).reduce(|mut a, b| { a.merge(&b); a });
                prop_assert_eq!(merged, Some(coarse));
            }
        }
    }

    #[test]
    fn gaps_are_never_zeros(windows in any_windows(), now_ms in BEGIN_MS..BEGIN_MS + 30 * HOUR_MS, count in 0..400_usize) {
        let series = of(&windows);
        for resolution in Resolution::ALL {
            let points = series.closed_at(resolution, now_ms, count);
            prop_assert!(points.len() <= count);
            prop_assert!(points.first().is_none_or(Option::is_some));
            let open = now_ms / resolution.span_ms(STEP_MS) * resolution.span_ms(STEP_MS);
            let known = series.points(resolution).filter(|(start_ms, _)| *start_ms < open).map(|(_, point)| point);
            let known: Vec<Point> = known.collect();
            let told: Vec<Point> = points.into_iter().flatten().collect();
            prop_assert!(told.iter().all(|point| point.samples() > 0));
            prop_assert!(known.ends_with(&told));
        }
    }
}
