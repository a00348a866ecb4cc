//! An SVG with axes: values go up, steps go right.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 40.0;
/// Columns that a line or band is drawn with at most.
const COLUMNS: usize = 860;
const TICKS: f64 = 5.0;

/// What the axes span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    steps: usize,
    highest: f64,
}

impl Frame {
    /// From 0 to a little above the highest value.
    pub(crate) fn around(steps: usize, values: impl Iterator<Item = f64>) -> Self {
        let highest = values.filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
        Self { steps: steps.max(2), highest: if highest > 0.0 { highest * 1.05 } else { 1.0 } }
    }

    #[expect(clippy::cast_precision_loss, reason = "steps of a grid")]
    fn x(&self, step: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step as f64 / (self.steps - 1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value / self.highest).clamp(0.0, 1.0))
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
        let _ = writeln!(self.text, "<polygon points=\"{there}{}\" fill=\"{colour}\" fill-opacity=\"0.7\"/>", back.join(" "));
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
    let step = pleasant(frame.highest / TICKS);
    let mut value = 0.0;
    while value <= frame.highest {
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
         <text x=\"{right}\" y=\"{:.0}\" text-anchor=\"end\">{} steps of {interval_s} s, {}</text>",
        bottom + 26.0,
        frame.steps,
        quotary_cli::present::duration(whole_s.saturating_mul(1000))
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
        if value >= size {
            return format!("{}{unit}", trimmed(value / size));
        }
    }
    trimmed(value)
}

fn trimmed(value: f64) -> String {
    let text = if value >= 0.01 || value <= 0.0 { format!("{value:.3}") } else { return format!("{value:.1e}") };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(120).collect();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
