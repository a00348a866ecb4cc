//! What the forecasts must hold on the public split.

use std::fmt;

use quotary_common::units::ResourceKind;
use quotary_decide::backtest::{Method, SeriesScores, SizingRule, Summary, summarise};
use serde_json::{Value, json};

/// One figure and its bounds.
#[derive(Debug, Clone)]
pub struct Gate {
    /// What is measured.
    pub what: String,
    /// What was found.
    pub found: f64,
    /// From where to where it must lie.
    pub bounds: (f64, f64),
    /// Whether it does.
    pub held: bool,
}

impl Gate {
    fn within(what: impl Into<String>, found: f64, bounds: (f64, f64)) -> Self {
        Self { what: what.into(), found, bounds, held: (bounds.0..=bounds.1).contains(&found) }
    }

    pub(super) fn at_most(what: impl Into<String>, found: f64, most: f64) -> Self {
        Self::within(what, found, (f64::NEG_INFINITY, most))
    }

    /// As JSON; an open bound is null.
    pub fn json(&self) -> Value {
        let bound = |value: f64| value.is_finite().then_some(value);
        json!({"what": self.what, "found": self.found, "least": bound(self.bounds.0), "most": bound(self.bounds.1), "held": self.held})
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.held { "held  " } else { "MISSED" };
        let bounds = match self.bounds {
            (least, most) if least.is_finite() => format!("{least:.3} to {most:.3}"),
            (_, most) => format!("at most {most:.3}"),
        };
        write!(f, "{verdict} {:<68} {:.3} ({bounds})", self.what, self.found)
    }
}

/// The better of last value and EWMA, as a ratio of our weighted quantile loss: below 1 we are better.
fn beside_better(summary: &Summary) -> Option<f64> {
    let ours = summary.methods.get(&Method::Quotary)?;
    Some(ours.wql_ratio_to_last_value?.max(ours.wql_ratio_to_ewma?))
}

/// All gates.
pub fn judge(scores: &[SeriesScores]) -> Vec<Gate> {
    let all = summarise(scores);
    let mut gates = Vec::new();
    let missing = f64::INFINITY;
    let ratio = beside_better(&all).unwrap_or(missing);
    gates.push(Gate::at_most("WQL beside the better of last value and EWMA, all (aim 0.90)", ratio, 0.95));
    for resource in [ResourceKind::Cpu, ResourceKind::Memory, ResourceKind::Disk, ResourceKind::Network] {
        let part = summarise(scores.iter().filter(|series| series.resource == resource));
        let what = format!("the same, {} ({} series)", resource.unit_name(), part.series);
        gates.push(Gate::at_most(what, beside_better(&part).unwrap_or(missing), 1.02));
    }
    let coverage = all.methods.get(&Method::Quotary).map_or([0.0; 3], |figures| figures.coverage);
    for ((level, bounds), found) in
        [(".90", (0.88, 0.92)), (".95", (0.935, 0.965)), (".99", (0.98, 0.995))].into_iter().zip(coverage)
    {
        gates.push(Gate::within(format!("coverage of the {level} line, calibrated"), found, bounds));
    }
    let slack = |rule| all.sizing.get(&rule).map_or(missing, |figures| figures.slack_at_overrun);
    let ours = slack(SizingRule::Quotary);
    for rule in SizingRule::ALL.into_iter().filter(|rule| rule.is_simple()) {
        gates.push(Gate::at_most(format!("slack at 5 % overrun, beside {}", rule.name()), ours, slack(rule)));
    }
    gates
}
