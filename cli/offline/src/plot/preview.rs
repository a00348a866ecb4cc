//! The courses of a change's plans, one below the other: the forecast's band, today's limit, the plan, the target.

use quotary_common::plan::Setpoint;
use quotary_common::wire::{BandPoint, ChangePreview, CoursePreview};

use super::canvas::{Canvas, Frame, HEIGHT, WIDTH};
use super::plan::LIMIT_COLOURS;
use super::{BAND_INNER, BAND_OUTER, MEDIAN_COLOUR};

/// Courses that one picture has at most.
const COURSES: usize = 24;
/// Steps of a course that are drawn, or a few more.
const STEPS: u64 = 240;

/// The picture, and how many courses it leaves out.
pub(crate) fn preview(preview: &ChangePreview) -> (String, usize) {
    let drawn: Vec<String> = preview.courses.iter().take(COURSES).map(|one| course(&preview.id, one)).collect();
    let untold = preview.courses.len() - drawn.len();
    if let [only] = drawn.as_slice() {
        return (only.clone(), untold);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few pictures")]
    let height = HEIGHT * drawn.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n"
    );
    let mut y = 0.0;
    for one in drawn {
        text.push_str(&one.replacen("<svg ", &format!("<svg y=\"{y}\" "), 1));
        y += HEIGHT;
    }
    text.push_str("</svg>\n");
    (text, untold)
}

/// The instants that are drawn.
struct Grid {
    from_ms: u64,
    step_ms: u64,
    steps: u64,
}

impl Grid {
    /// From a little before the plan to a little after it, in whole seconds.
    fn of(course: &CoursePreview) -> Self {
        let all = || course.setpoints.iter().map(|setpoint| setpoint.at_ms).chain([course.starts_at_ms]);
        let (first_ms, last_ms) = (all().min().unwrap_or_default(), all().max().unwrap_or_default());
        let around_ms = ((last_ms - first_ms) / 16).max(1_000);
        let from_ms = first_ms.saturating_sub(around_ms);
        let span_ms = last_ms.saturating_add(around_ms) - from_ms;
        let step_ms = (span_ms / STEPS).next_multiple_of(1_000).max(1_000);
        Self { from_ms, step_ms, steps: span_ms / step_ms + 1 }
    }

    /// Each instant, Unix ms.
    fn instants(&self) -> impl Iterator<Item = u64> {
        let (from_ms, step_ms) = (self.from_ms, self.step_ms);
        (0..self.steps).map(move |step| from_ms.saturating_add(step * step_ms))
    }
}

fn course(change: &str, course: &CoursePreview) -> String {
    let grid = Grid::of(course);
    let over = |value: &dyn Fn(u64) -> Option<f64>| grid.instants().map(value).collect::<Vec<_>>();
    let plan = over(&|at_ms| planned(course, at_ms));
    let today = course.now.map(number);
    let target = course.setpoints.last().map(|last| number(last.value));
    let demand = |of: fn(&BandPoint) -> f64| over(&|at_ms| forecast(&course.band, of, at_ms));
    let (median, p90, p99) = (demand(|point| point.p50), demand(|point| point.p90), demand(|point| point.p99));

    let drawn = plan.iter().chain(&p99).flatten().copied().chain(today);
    let frame = Frame::around(plan.len(), drawn);
    let title = format!("{change}: {} of {} on {}, {}", course.control, course.target, course.host, course.unit);
    let mut canvas = Canvas::new(&title, &frame, grid.step_ms / 1_000);
    let known = |values: &[Option<f64>]| -> Vec<(usize, f64)> {
        values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect()
    };
    let mut legend = Vec::new();
    if !course.band.is_empty() {
        canvas.band(known(&median).into_iter(), known(&p99).into_iter(), BAND_OUTER);
        canvas.band(known(&median).into_iter(), known(&p90).into_iter(), BAND_INNER);
        canvas.line(median.iter().copied().enumerate(), MEDIAN_COLOUR);
        legend.extend([("demand: median", MEDIAN_COLOUR), ("to 90 %", BAND_INNER), ("to 99 %", BAND_OUTER)]);
    }
    let steady = |value: Option<f64>| (0..plan.len()).map(move |at| (at, value));
    if today.is_some() {
        canvas.line(steady(today), LIMIT_COLOURS[1]);
        legend.push(("today's limit", LIMIT_COLOURS[1]));
    }
    canvas.line(steady(target), LIMIT_COLOURS[2]);
    canvas.line(plan.iter().copied().enumerate(), LIMIT_COLOURS[0]);
    legend.extend([("target", LIMIT_COLOURS[2]), ("plan", LIMIT_COLOURS[0])]);
    canvas.legend(&legend);
    canvas.finish()
}

#[expect(clippy::cast_precision_loss, reason = "an amount in a picture")]
fn number(value: u64) -> f64 {
    value as f64
}

/// What a control should be at an instant: what holds today until the plan starts, then straight lines between setpoints.
fn planned(course: &CoursePreview, at_ms: u64) -> Option<f64> {
    let after = course.setpoints.iter().find(|setpoint| setpoint.at_ms >= at_ms);
    let before = course.setpoints.iter().rev().find(|setpoint| setpoint.at_ms <= at_ms);
    match (before, after) {
        (Some(before), Some(after)) => Some(between(point(before), point(after), at_ms)),
        (Some(last), None) => Some(number(last.value)),
        (None, first) => course.now.or(first.map(|first| first.value)).map(number),
    }
}

fn point(setpoint: &Setpoint) -> (u64, f64) {
    (setpoint.at_ms, number(setpoint.value))
}

/// What demand is forecast to be at an instant; nothing is known outside of the forecast.
fn forecast(band: &[BandPoint], of: fn(&BandPoint) -> f64, at_ms: u64) -> Option<f64> {
    let after = band.iter().find(|point| point.at_ms >= at_ms)?;
    let before = band.iter().rev().find(|point| point.at_ms <= at_ms)?;
    Some(between((before.at_ms, of(before)), (after.at_ms, of(after)), at_ms))
}

fn between((from_ms, from): (u64, f64), (to_ms, to): (u64, f64), at_ms: u64) -> f64 {
    let length_ms = to_ms.saturating_sub(from_ms);
    if length_ms == 0 { from } else { from + (to - from) * number(at_ms - from_ms) / number(length_ms) }
}

#[cfg(test)]
mod tests {
    use quotary_common::envelope::Name;
    use quotary_common::id::HostId;
    use quotary_common::plan::{ShapedControl, Target};

    use super::*;

    const T0: u64 = 1_795_330_800_000;

    fn course(unit: &str) -> CoursePreview {
        let setpoint = |after_s: u64, mib: u64| Setpoint { at_ms: T0 + after_s * 1_000, value: mib << 20 };
        let point = |after_s: u64| BandPoint { at_ms: T0 + after_s * 1_000, p50: 1e8, p90: 1.5e8, p99: 2e8 };
        CoursePreview {
            host: HostId::of(&[b"h"]),
            application: "web".to_owned(),
            target: Target::Unit(Name::lossy(unit)),
            control: ShapedControl::MemoryHigh,
            unit: "bytes".to_owned(),
            now: Some(512 << 20),
            starts_at_ms: T0,
            setpoints: vec![setpoint(0, 512), setpoint(60, 512), setpoint(180, 256)],
            band: vec![point(0), point(180)],
            method: "model".to_owned(),
        }
    }

    fn of(courses: Vec<CoursePreview>) -> ChangePreview {
        let without = Vec::new();
        ChangePreview { id: "c-x".to_owned(), given: false, effective_at_ms: T0 + 180_000, courses, without }
    }

    #[test]
    fn a_course_is_drawn_with_band_today_plan_and_target() {
        let (picture, untold) = preview(&of(vec![course("a<b.service")]));
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && !picture.contains("NaN"));
        assert!(picture.contains("a&lt;b.service") && untold == 0);
        assert_eq!(picture.matches("<polygon").count(), 2);
        assert_eq!(picture.matches("stroke-width=\"1.4\"").count(), 4);
        for word in [">plan<", ">target<", ">today's limit<", ">to 99 %<"] {
            assert!(picture.contains(word), "{word}");
        }
        let mut bare = course("a.service");
        (bare.now, bare.band) = (None, Vec::new());
        let (picture, _) = preview(&of(vec![bare]));
        assert!(!picture.contains("today") && !picture.contains("<polygon") && !picture.contains("NaN"));
    }

    #[test]
    fn several_courses_stand_below_each_other_and_very_many_are_counted() {
        let (picture, untold) = preview(&of(vec![course("a.service"); 30]));
        assert_eq!((picture.matches("<svg ").count(), picture.matches("</svg>").count(), untold), (25, 25, 6));
        assert!(picture.contains("<svg y=\"380\" "));
    }

    #[test]
    fn the_plan_holds_before_it_starts_runs_straight_and_stays() {
        let course = course("a.service");
        let at = |after_s: u64| planned(&course, T0 + after_s * 1_000).map(|value| value / f64::from(1 << 20));
        assert_eq!([at(0), at(60), at(120), at(180), at(900)], [512.0, 512.0, 384.0, 256.0, 256.0].map(Some));
        assert_eq!(planned(&course, T0 - 1), Some(number(512 << 20)));
        assert_eq!(forecast(&course.band, |point| point.p90, T0 + 90_000), Some(1.5e8));
        assert_eq!(forecast(&course.band, |point| point.p90, T0 + 181_000), None);
    }

    #[test]
    fn courses_without_setpoints_or_with_the_ends_of_time_are_drawn() {
        let mut empty = course("a.service");
        empty.setpoints.clear();
        let mut endless = course("b.service");
        endless.setpoints[2].at_ms = u64::MAX;
        let (picture, _) = preview(&of(vec![empty, endless]));
        assert!(!picture.contains("NaN") && picture.len() < 200_000, "{}", picture.len());
    }
}
