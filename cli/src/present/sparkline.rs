//! A series as a row of small bars.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The series in at most `width` bars from zero to its largest value; each bar shows the largest of its part.
pub fn sparkline(series: &[f64], width: usize) -> String {
    let finite: Vec<f64> = series.iter().map(|v| if v.is_finite() { v.max(0.0) } else { 0.0 }).collect();
    let top = finite.iter().copied().fold(0.0, f64::max);
    let bars = width.min(finite.len());
    (0..bars)
        .map(|at| {
            let part = &finite[at * finite.len() / bars..(at + 1) * finite.len() / bars];
            bar(part.iter().copied().fold(0.0, f64::max), top)
        })
        .collect()
}

/// The bar of a value between zero and `top`.
fn bar(value: f64, top: f64) -> char {
    // The highest bar whose lower edge the value reaches: no cast, so nothing can be out of range.
    let reached = (1..BARS.len()).zip(1_u8..).filter(|(_, step)| top > 0.0 && value >= top * f64::from(*step) / 8.0);
    BARS[reached.map(|(at, _)| at).max().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_rise_with_the_values() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 9), "▁▂▃▄▅▆▇██");
    }

    #[test]
    fn a_long_series_keeps_its_peaks() {
        let mut series = vec![0.0; 100];
        series[57] = 5.0;
        let line = sparkline(&series, 10);
        assert_eq!((line.chars().count(), line.chars().nth(5)), (10, Some('█')));
    }

    #[test]
    fn nothing_negative_endless_or_empty_breaks_it() {
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[0.0, 0.0], 10), "▁▁");
        assert_eq!(sparkline(&[f64::NAN, -1.0, f64::INFINITY, 1.0], 10), "▁▁▁█");
    }
}
