//! Figures, gates and how they are shown.

use std::fmt::Write as _;

use serde::Serialize;

/// Which side of a bound is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Good {
    /// As much as the bound, or more.
    AtLeast,
    /// As much as the bound, or less.
    AtMost,
}

/// A figure that must hold a bound, and would like to hold a better one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// What is measured.
    pub name: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// What was measured.
    pub value: f64,
    /// Which side is good.
    pub good: Good,
    /// What must hold.
    pub gate: f64,
    /// What should hold.
    pub aim: f64,
    /// Whether what must hold, holds.
    pub passed: bool,
    /// Whether what should hold, holds.
    pub aim_reached: bool,
}

impl Gate {
    /// Holds a figure, `(name, unit, value)`, against its bounds, `(gate, aim)`.
    pub fn new((name, unit, value): (&'static str, &'static str, f64), good: Good, (gate, aim): (f64, f64)) -> Self {
        let holds = |bound: f64| match good {
            Good::AtLeast => value >= bound,
            Good::AtMost => value <= bound,
        };
        Self { name, unit, value, good, gate, aim, passed: holds(gate), aim_reached: holds(aim) }
    }
}

/// One figure of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// How much, with its unit.
    pub value: String,
}

impl Line {
    /// A figure of the table.
    pub fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into() }
    }
}

/// The table: figures, then gates.
pub fn table(lines: &[Line], gates: &[Gate]) -> String {
    let mut out = String::new();
    let width = lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0);
    for line in lines {
        let _infallible = writeln!(out, "  {:<width$}  {}", line.what, line.value);
    }
    if gates.is_empty() {
        return out;
    }
    let _infallible = writeln!(out, "\n  {:<44} {:>12}  {:>10} {:>10}", "gate", "measured", "must", "aim");
    for gate in gates {
        let sign = if gate.good == Good::AtLeast { "≥" } else { "≤" };
        let verdict = match (gate.passed, gate.aim_reached) {
            (true, true) => "PASS, aim reached",
            (true, false) => "PASS",
            (false, _) => "MISS",
        };
        let bound = |bound: f64| format!("{sign} {}", short(bound));
        let what = format!("{} ({})", gate.name, gate.unit);
        let (must, aim) = (bound(gate.gate), bound(gate.aim));
        let _infallible = writeln!(out, "  {what:<44} {:>12}  {must:>10} {aim:>10}  {verdict}", short(gate.value));
    }
    out
}

/// A number as a person reads it: three or four significant digits.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => trimmed(format!("{value:.3}")),
        _ => trimmed(format!("{value:.4}")),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The middle of the values (of an even number: the mean of both in the middle); 0 of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.len() % 2, half.checked_sub(1).and_then(|below| sorted.get(below)), sorted.get(half)) {
        (1, _, Some(middle)) => *middle,
        (_, Some(below), Some(above)) => f64::midpoint(*below, *above),
        _ => 0.0,
    }
}

/// The value that `percent` of the values do not exceed (nearest rank); 0 of none.
pub(super) fn percentile(values: &[u64], percent: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or(0)
}

/// Says on standard error what is being done.
pub(super) fn progress(what: &str) {
    eprintln!("bench: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(good: Good, value: f64) -> Gate {
        Gate::new(("n", "u", value), good, (10.0, if good == Good::AtLeast { 20.0 } else { 5.0 }))
    }

    #[test]
    fn a_gate_is_missed_on_its_bad_side_only() {
        let at_least = [9.9, 10.0, 20.0].map(|value| gate(Good::AtLeast, value));
        assert_eq!(at_least.each_ref().map(|gate| gate.passed), [false, true, true]);
        assert_eq!(at_least.each_ref().map(|gate| gate.aim_reached), [false, false, true]);
        let at_most = [10.1, 10.0, 5.0].map(|value| gate(Good::AtMost, value));
        assert_eq!(at_most.each_ref().map(|gate| gate.passed), [false, true, true]);
        assert!(table(&[Line::new("a", "1 ms")], &at_least).contains("MISS"));
        assert!(!gate(Good::AtLeast, f64::NAN).passed);
    }

    #[test]
    fn medians_and_percentiles_are_those_of_a_textbook() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-12);
        assert!((median([4.0, 1.0].into_iter()) - 2.5).abs() < 1e-12);
        assert!(median(std::iter::empty()).abs() < 1e-12);
        let values: Vec<u64> = (1..=40).rev().collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 95), percentile(&[], 50)), (20, 38, 0));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(["0.95", "17321", "0.05", "2.5", "0"], [0.95, 17_321.4, 0.05, 2.5, 0.0].map(short)[..]);
    }
}
