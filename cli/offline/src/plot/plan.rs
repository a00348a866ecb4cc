//! A shaping plan over its delay window: what is likely to be wanted, what came if that is known, and the ways that a limit can go.

use quotary_decide::forecast::{MEDIAN, StepRow};

use super::canvas::{Canvas, Frame};
use super::{BAND_INNER, BAND_OUTER, MEDIAN_COLOUR, PAST_COLOUR, PEAK_COLOUR};

/// Of the ways, the plan's first.
pub(super) const LIMIT_COLOURS: [&str; 4] = [PEAK_COLOUR, "#5b8c5a", "#7a7a7a", "#c9b3d9"];

/// What is drawn, each step by step over the delay window, in one unit.
#[derive(Debug, Clone, Copy)]
pub struct PlanPicture<'a> {
    /// Above the picture.
    pub title: &'a str,
    /// One step, seconds.
    pub step_s: u64,
    /// Quantiles of demand; `None` where nothing is known.
    pub demand: &'a [Option<StepRow>],
    /// What came, where that is known; may be empty.
    pub came: &'a [Option<f64>],
    /// Names and values of limits: the plan first, then at most three others (today's limit, the target, a line).
    pub limits: &'a [(&'a str, Vec<f64>)],
}

/// The picture.
pub fn plan(picture: &PlanPicture<'_>) -> String {
    let PlanPicture { title, step_s, demand, came, limits } = *picture;
    let steps =
        limits.iter().map(|(_, values)| values.len()).chain([demand.len(), came.len()]).max().unwrap_or_default();
    let likely = demand.iter().flatten().map(|row| row[10]);
    let drawn = limits.iter().flat_map(|(_, values)| values.iter().copied());
    let frame = Frame::around(steps, drawn.chain(came.iter().flatten().copied()).chain(likely));
    let mut canvas = Canvas::new(title, &frame, step_s);
    let column = |index: usize| {
        demand.iter().enumerate().filter_map(move |(at, row)| Some((at, row.as_ref()?.get(index).copied()?)))
    };
    canvas.band(column(0), column(10), BAND_OUTER);
    canvas.band(column(0), column(8), BAND_INNER);
    let median = demand.iter().enumerate().map(|(at, row)| (at, row.map(|row| row[MEDIAN])));
    canvas.line(median, MEDIAN_COLOUR);
    canvas.line(came.iter().copied().enumerate(), PAST_COLOUR);
    let mut legend = vec![("10 to 90 %", BAND_INNER), ("to 99 %", BAND_OUTER), ("median", MEDIAN_COLOUR)];
    if !came.is_empty() {
        legend.push(("what came", PAST_COLOUR));
    }
    for ((name, values), colour) in limits.iter().zip(LIMIT_COLOURS).rev() {
        canvas.line(values.iter().map(|value| Some(*value)).enumerate(), colour);
        legend.push((name, colour));
    }
    canvas.legend(&legend);
    canvas.finish()
}

#[cfg(test)]
mod tests {
    use quotary_decide::forecast::QUANTILE_LEVELS;

    use super::*;

    #[test]
    fn a_plan_is_drawn_over_its_forecast_with_all_its_ways() {
        let rows: Vec<_> = (0..60).map(|at| (at < 30).then_some(QUANTILE_LEVELS.map(|level| level * 100.0))).collect();
        let limits = [("plan", vec![90.0; 60]), ("today", vec![120.0; 60]), ("target", vec![60.0; 60])];
        let picture = plan(&PlanPicture { title: "a<b", step_s: 60, demand: &rows, came: &[], limits: &limits });
        assert!(picture.starts_with("<svg ") && picture.contains("a&lt;b") && !picture.contains("NaN"));
        assert_eq!(picture.matches("<polygon").count(), 2);
        assert_eq!(picture.matches("stroke-width=\"1.4\"").count(), 5);
        assert!(picture.contains(">today<") && !picture.contains("what came"));
        let empty = plan(&PlanPicture { title: "", step_s: 0, demand: &[], came: &[], limits: &[] });
        assert!(empty.ends_with("</svg>\n") && !empty.contains("NaN"));
    }
}
