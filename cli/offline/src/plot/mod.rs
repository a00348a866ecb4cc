//! Pictures: SVG with axes, a line and bands. Written by hand: no library of the field draws a band over a line without a font of its own.
//!
//! Promises: what is drawn follows from the numbers alone; text from outside is escaped; a picture's size does not grow with the series
//! (a column of pixels shows the least and the most of what falls into it).

mod canvas;
mod plan;
mod preview;

use quotary_decide::anomaly::{JudgedRow, LINE_SCORE};
use quotary_decide::forecast::Forecast;

use canvas::{Canvas, Frame};
pub use plan::{PlanPicture, plan};
pub(crate) use preview::preview;

const PAST_COLOUR: &str = "#2b4b6f";
const BAND_OUTER: &str = "#f3c98b";
const BAND_INNER: &str = "#e39b3a";
const MEDIAN_COLOUR: &str = "#9c4a00";
const PEAK_COLOUR: &str = "#b02a30";
const SCORE_COLOUR: &str = "#c9b3d9";

/// Steps of the past that are drawn before a forecast.
const PAST_STEPS: usize = 288;

/// A series' end and its forecast: bands 10 to 90 % and to 99 %, the median, the hour's peak at 95 %.
pub(crate) fn forecast(name: &str, values: &[Option<f64>], forecast: &Forecast) -> String {
    let shown = &values[values.len().saturating_sub(PAST_STEPS)..];
    let quantiles = &forecast.quantiles;
    let steps = quantiles.steps();
    let peak = quantiles.longest_peak()[2];
    let ahead: Vec<f64> = steps.iter().map(|row| row[10]).chain([peak]).collect();
    let frame = Frame::around(shown.len() + steps.len(), shown.iter().flatten().chain(&ahead).copied());
    let mut canvas =
        Canvas::new(&format!("{name}: the next hour, by {}", forecast.method.name()), &frame, forecast.interval_s);
    let at = |step: usize| shown.len() + step;
    let column = |index: usize| steps.iter().enumerate().map(move |(step, row)| (at(step), row[index]));
    canvas.band(column(0), column(10), BAND_OUTER);
    canvas.band(column(0), column(8), BAND_INNER);
    canvas.line(shown.iter().enumerate().map(|(at, value)| (at, *value)), PAST_COLOUR);
    canvas.line(column(4).map(|(at, value)| (at, Some(value))), MEDIAN_COLOUR);
    canvas.line([(at(0), Some(peak)), (at(steps.len() - 1), Some(peak))].into_iter(), PEAK_COLOUR);
    canvas.legend(&[
        ("measured", PAST_COLOUR),
        ("median", MEDIAN_COLOUR),
        ("10 to 90 %", BAND_INNER),
        ("to 99 %", BAND_OUTER),
        ("peak of the hour, 95 %", PEAK_COLOUR),
    ]);
    canvas.finish()
}

/// A series with what was forecast one step ahead at each origin: 10 to 99 %, and the hour's peak at 95 %.
pub(crate) fn backtest(name: &str, values: &[Option<f64>], interval_s: u64, origins: &[(usize, Forecast)]) -> String {
    let first = origins.first().map_or(0, |(row, _)| *row);
    let shown = values.get(first..).unwrap_or_default();
    let above = origins.iter().flat_map(|(_, forecast)| forecast.quantiles.steps()[0][10..].iter().copied());
    let frame = Frame::around(shown.len(), shown.iter().flatten().copied().chain(above));
    let mut canvas = Canvas::new(&format!("{name}: forecasts made before, and what came"), &frame, interval_s);
    // Each origin's hour is drawn until the next origin's begins.
    let column = |index: usize| {
        origins.iter().enumerate().flat_map(move |(at, (row, forecast))| {
            let until = origins.get(at + 1).map_or(row + 12, |(next, _)| (*next).min(row + 12));
            let steps = forecast.quantiles.steps();
            (*row..until).zip(steps.iter()).map(move |(row, quantiles)| (row - first, quantiles[index]))
        })
    };
    canvas.band(column(0), column(10), BAND_OUTER);
    canvas.band(column(0), column(8), BAND_INNER);
    canvas.line(shown.iter().enumerate().map(|(at, value)| (at, *value)), PAST_COLOUR);
    canvas.line(column(4).map(|(at, value)| (at, Some(value))), MEDIAN_COLOUR);
    canvas.legend(&[
        ("measured", PAST_COLOUR),
        ("median", MEDIAN_COLOUR),
        ("10 to 90 %", BAND_INNER),
        ("to 99 %", BAND_OUTER),
    ]);
    canvas.finish()
}

/// A series, its scores below it, and a mark at each point over the line.
pub(crate) fn anomalies(name: &str, judged: &[JudgedRow]) -> String {
    let values = || judged.iter().map(|row| row.row.value.filter(|value| value.is_finite()));
    let frame = Frame::spanning(judged.len(), values().flatten());
    let mut canvas = Canvas::new(&format!("{name}: what is unusual"), &frame, 0);
    canvas.scores(judged.iter().map(|row| row.score), SCORE_COLOUR);
    canvas.line(values().enumerate(), PAST_COLOUR);
    let over = judged.iter().enumerate().filter(|(_, row)| row.score >= LINE_SCORE && row.kind.is_some());
    canvas.marks(over.filter_map(|(at, row)| Some((at, row.row.value?, row.label))), PEAK_COLOUR);
    canvas.legend(&[("measured", PAST_COLOUR), ("score, 0 to 1", SCORE_COLOUR), ("over the line", PEAK_COLOUR)]);
    canvas.finish()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
