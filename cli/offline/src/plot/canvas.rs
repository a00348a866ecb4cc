//! An SVG with axes: values go up, steps go right.

use std::fmt::Write as _;

pub(super) const WIDTH: f64 = 960.0;
pub(super) const HEIGHT: f64 = 380.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 40.0;
/// Columns that a line or band is drawn with at most.
const COLUMNS: usize = 860;
const TICKS: f64 = 5.0;
/// How high a score of 1 is drawn.
const SCORE_HEIGHT: f64 = 70.0;
/// Marks at most.
const MARKS: usize = 500;

/// What the axes span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    steps: usize,
    lowest: f64,
    highest: f64,
}

impl Frame {
    /// From 0 to a little above the highest value.
    pub(crate) fn around(steps: usize, values: impl Iterator<Item = f64>) -> Self {
        let highest = values.filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
        Self {
            steps: steps.max(2),
            lowest: 0.0,
            highest: if highest > 0.0 { (highest * 1.05).min(f64::MAX) } else { 1.0 },
        }
    }

    /// From a little below the lowest value, or 0 if none is below, to a little above the highest.
    pub(crate) fn spanning(steps: usize, values: impl Iterator<Item = f64> + Clone) -> Self {
        let frame = Self::around(steps, values.clone());
        let lowest = values.fold(0.0_f64, f64::min);
        Self { lowest: lowest + (lowest / 20.0).max(-f64::MAX / 20.0), ..frame }
    }

    #[expect(clippy::cast_precision_loss, reason = "steps of a grid")]
    fn x(&self, step: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step as f64 / (self.steps - 1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        // Halves, so that no difference of two numbers overflows.
        let share = (value / 2.0 - self.lowest / 2.0) / (self.highest / 2.0 - self.lowest / 2.0);
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0))
    }

    /// Steps that share a column of the picture.
    fn stride(&self) -> usize {
        self.steps.div_ceil(COLUMNS)
    }
}

/// A picture in the making.
#[derive(Debug)]
pub(crate) struct Canvas {
    frame: Frame,
    text: String,
}

impl Canvas {
    /// An empty picture; an `interval_s` of 0 means rows without a length.
    pub(crate) fn new(title: &str, frame: &Frame, interval_s: u64) -> Self {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            escaped(title)
        );
        axes(&mut text, frame, interval_s);
        Self { frame: *frame, text }
    }

    /// The area between two lines over the same steps.
    pub(crate) fn band(
        &mut self,
        lower: impl Iterator<Item = (usize, f64)>,
        upper: impl Iterator<Item = (usize, f64)>,
        colour: &str,
    ) {
        let stride = self.frame.stride();
        let low = columns(lower.map(|(at, value)| (at, Some(value))), stride);
        let high = columns(upper.map(|(at, value)| (at, Some(value))), stride);
        let (mut there, mut back) = (String::new(), Vec::new());
        for ((at, low, _), (_, _, high)) in low.iter().zip(&high) {
            let x = self.frame.x(*at);
            let _ = write!(there, "{x:.1},{:.1} ", self.frame.y(*high));
            back.push(format!("{x:.1},{:.1}", self.frame.y(*low)));
        }
        back.reverse();
        let _ = writeln!(
            self.text,
            "<polygon points=\"{there}{}\" fill=\"{colour}\" fill-opacity=\"0.7\"/>",
            back.join(" ")
        );
    }

    /// A line that gaps interrupt.
    pub(crate) fn line(&mut self, points: impl Iterator<Item = (usize, Option<f64>)>, colour: &str) {
        let stride = self.frame.stride();
        let mut path = String::new();
        let mut next = None;
        for (at, low, high) in columns(points, stride) {
            let x = self.frame.x(at);
            let verb = if next == Some(at) { 'L' } else { 'M' };
            let _ = write!(path, "{verb}{x:.1} {:.1}", self.frame.y(low));
            if high > low {
                let _ = write!(path, "L{x:.1} {:.1}", self.frame.y(high));
            }
            next = Some(at + stride);
        }
        let _ = writeln!(self.text, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>");
    }

    /// Scores in 0 to 1 as an area along the lower edge.
    pub(crate) fn scores(&mut self, scores: impl Iterator<Item = f64>, colour: &str) {
        let bottom = HEIGHT - BOTTOM;
        let mut points = format!("{LEFT:.1},{bottom:.1} ");
        let mut last = LEFT;
        for (at, _, most) in columns(scores.map(Some).enumerate(), self.frame.stride()) {
            last = self.frame.x(at);
            let _ = write!(points, "{last:.1},{:.1} ", bottom - SCORE_HEIGHT * most);
        }
        let _ = writeln!(self.text, "<polygon points=\"{points}{last:.1},{bottom:.1}\" fill=\"{colour}\"/>");
    }

    /// Circles with a word each, at most so many that a picture can hold.
    pub(crate) fn marks<'a>(&mut self, points: impl Iterator<Item = (usize, f64, &'a str)>, colour: &str) {
        for (at, value, word) in points.take(MARKS) {
            let (x, y) = (self.frame.x(at), self.frame.y(value));
            let _ = writeln!(
                self.text,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"><title>row {at}: {}</title></circle>",
                escaped(word)
            );
        }
    }

    /// What each colour means.
    pub(crate) fn legend(&mut self, entries: &[(&str, &str)]) {
        let mut x = LEFT;
        for (label, colour) in entries {
            let _ = writeln!(
                self.text,
                "<rect x=\"{x:.0}\" y=\"30\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"40\">{}</text>",
                x + 16.0,
                escaped(label)
            );
            #[expect(clippy::cast_precision_loss, reason = "a label")]
            let wide = label.len() as f64;
            x += 34.0 + 6.6 * wide;
        }
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// Groups of `stride` steps with the least and the most of what is known in each; groups of gaps are left out.
fn columns(points: impl Iterator<Item = (usize, Option<f64>)>, stride: usize) -> Vec<(usize, f64, f64)> {
    let mut columns: Vec<(usize, f64, f64)> = Vec::new();
    for (at, value) in points {
        let Some(value) = value.filter(|value| value.is_finite()) else { continue };
        let at = at - at % stride;
        match columns.last_mut().filter(|(last, ..)| *last == at) {
            Some((_, low, high)) => (*low, *high) = (low.min(value), high.max(value)),
            None => columns.push((at, value, value)),
        }
    }
    columns
}

fn axes(text: &mut String, frame: &Frame, interval_s: u64) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let step = pleasant(frame.highest / TICKS - frame.lowest / TICKS);
    let mut value = (frame.lowest / step).ceil() * step;
    while value <= frame.highest && step.is_finite() && step > 0.0 {
        let y = frame.y(value);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
        value += step;
    }
    let whole_s = interval_s.saturating_mul(frame.steps as u64);
    let _ = writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>\
         <text x=\"{right}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
        bottom + 26.0,
        match interval_s {
            0 => format!("{} rows", frame.steps),
            _ => format!(
                "{} steps of {interval_s} s, {}",
                frame.steps,
                quotary_cli::present::duration(whole_s.saturating_mul(1000))
            ),
        }
    );
}

/// 1, 2 or 5 times a power of ten, at least `size`.
fn pleasant(size: f64) -> f64 {
    let power = 10.0_f64.powf(size.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= size).unwrap_or(size)
}

/// An axis label: at most three letters beside the digits.
fn short(value: f64) -> String {
    for (size, unit) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= size * 1e4 && unit == "T" {
            return format!("{value:.1e}");
        }
        if value.abs() >= size {
            return format!("{}{unit}", trimmed(value / size));
        }
    }
    trimmed(value)
}

fn trimmed(value: f64) -> String {
    let text =
        if value.abs() >= 0.01 || value.abs() <= 0.0 { format!("{value:.3}") } else { return format!("{value:.1e}") };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(120).collect();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
