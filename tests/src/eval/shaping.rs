//! Shaping plans on the public split: a limit goes from what it is to less, and demand comes as it came.
//!
//! Promises: limits and plans follow from what was known before the origin, by rules that are stated and the same for all; plan, line and cliff free
//! the same capacity; every origin of every series is tried, and what could not be is counted.
//! Must never: choose anything by what it finds here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use quotary_common::units::ResourceKind;
use quotary_decide::backtest::shaping::{Change, NewLimit, Outcome, Way};
use quotary_decide::forecast::{Forecast, Ladder, hours_ahead};
use quotary_decide::history::Resolution;
use quotary_decide::shape::phase::{Demand, PhasedPlan};
use quotary_models::Model;
use quotary_offline::plot::{PlanPicture, plan as picture};
use serde_json::{Value, json};

use super::{Gate, Trace, each_trace, read, rolled};

/// A plan has at most this share of the cliff's minutes.
const BESIDE_CLIFF_MAX: f64 = 1.0 / 3.0;
const MINUTE_S: u64 = 60;

/// A delay window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    hours: u64,
    /// Between setpoints, seconds.
    resolution_s: u64,
}

/// An hour by the model's steps, and a day of which only the first hour is.
const WINDOWS: [Window; 2] = [Window { hours: 1, resolution_s: 60 }, Window { hours: 24, resolution_s: 300 }];

/// What one series gave.
#[derive(Default)]
struct Found {
    outcomes: BTreeMap<(Window, NewLimit), Outcome>,
    /// Origins without a change: too little was known before them, or nothing was used.
    left_out: u64,
    /// The first change over each window, drawn.
    pictures: BTreeMap<Window, String>,
}

/// Reads, plans, compares, writes; whether every gate held.
///
/// # Errors
/// Traces or model cannot be read; the result cannot be written.
pub fn run(directory: &Path, out: &Path, every: usize) -> Result<bool> {
    let traces = read(directory, every)?;
    let model = quotary_models::shipped().context("the model does not load")?;
    let found = each_trace(&traces, |trace| try_series(trace, &model));
    let mut parts = Vec::new();
    let mut gates = Vec::new();
    for window in WINDOWS {
        for rule in NewLimit::ALL {
            let of = |keep: &dyn Fn(&Trace) -> bool| summed(&traces, &found, window, rule, keep);
            let name = format!("{} h, new limit: {}", window.hours, rule.name());
            println!("== {name}\n\n{}", header());
            let all = of(&|_| true);
            let mut rows = vec![("all".to_owned(), all)];
            for resource in ResourceKind::ALL {
                rows.push((resource.unit_name().to_owned(), of(&|trace| trace.resource == resource)));
            }
            rows.retain(|(_, (series, _))| *series > 0);
            for (name, (series, outcome)) in &rows {
                println!("{}", line(name, *series, outcome));
            }
            println!();
            gates.extend(judge(&name, rule, &all.1));
            let rows: BTreeMap<_, _> = rows.iter().map(|(name, part)| (name.clone(), figures(part))).collect();
            parts.push(json!({"window_hours": window.hours, "new_limit": rule.name(), "parts": rows}));
        }
    }
    let left_out: u64 = found.iter().map(|one| one.left_out).sum();
    println!(
        "{} series; {left_out} origins left out: fewer than 96 known steps before them, or nothing used\n\n== gates\n",
        traces.len()
    );
    for gate in &gates {
        println!("{gate}");
    }
    std::fs::create_dir_all(out)?;
    for window in WINDOWS {
        if let Some(svg) = found.iter().find_map(|one| one.pictures.get(&window)) {
            std::fs::write(out.join(format!("shaping-{}h.svg", window.hours)), svg)?;
        }
    }
    let gates_json: Vec<Value> = gates.iter().map(Gate::json).collect();
    let json = json!({"series": traces.len(), "origins_left_out": left_out, "parts": parts, "gates": gates_json});
    let path = out.join("shaping.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json)? + "\n")?;
    println!("\nwritten to {}", path.display());
    Ok(gates.iter().all(|gate| gate.held))
}

/// What must hold over all series of a window and a rule. Where nothing was found, nothing holds.
fn judge(name: &str, rule: NewLimit, all: &Outcome) -> Vec<Gate> {
    let mut gates = Vec::new();
    if rule == NewLimit::Past80 {
        let ratio = all.beside_cliff(Way::Plan).unwrap_or(f64::INFINITY);
        let what = format!("minutes above the limit beside the cliff's, {name}");
        gates.push(Gate::at_most(what, ratio, BESIDE_CLIFF_MAX));
    }
    let ratio = ratio(all.exceeded[Way::Plan as usize], all.exceeded[Way::Line as usize]);
    gates.push(Gate::at_most(format!("the same beside the line's, {name}"), ratio, 1.0));
    gates
}

fn try_series(trace: &Trace, model: &Model) -> Found {
    let mut found = Found::default();
    rolled(trace, &Ladder::new(Some(model)), |origin, forecast| {
        let past = &trace.values[..origin];
        for window in WINDOWS {
            let window_s = window.hours * 3600;
            let steps = usize::try_from(window_s / trace.interval_s).unwrap_or(usize::MAX);
            let Some(came) = trace.values.get(origin..origin.saturating_add(steps)) else { continue };
            for rule in NewLimit::ALL {
                let change = Change::of(past, trace.interval_s, rule, window_s, window.resolution_s);
                let tried = change.and_then(|change| {
                    let demand = change.demand(&expected(past, forecast, trace.interval_s, window.hours));
                    let plan = change.plan(&demand).ok()?;
                    Some((change.outcome(&plan, came)?, change, plan, demand))
                });
                let Some((outcome, change, plan, demand)) = tried else {
                    found.left_out += 1;
                    continue;
                };
                found.outcomes.entry((window, rule)).or_default().add(&outcome);
                let draw = || drawn(&trace.name, window, &change, &plan, &demand, came, trace.interval_s);
                found.pictures.entry(window).or_insert_with(draw);
            }
        }
    });
    found
}

/// What the service expects: the ladder's hour, and the hours after it by as many hours and steps of the past as history keeps.
fn expected(past: &[Option<f64>], forecast: &Forecast, interval_s: u64, hours: u64) -> Demand {
    let per_hour = usize::try_from(3600 / interval_s).unwrap_or(usize::MAX);
    let mean = |steps: &[Option<f64>]| {
        let (sum, count) = steps.iter().flatten().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let mut known: Vec<Option<f64>> =
        past.rchunks_exact(per_hour).take(Resolution::Hour.points_max()).map(mean).collect();
    known.reverse();
    let steps = &past[past.len().saturating_sub(Resolution::Step.points_max())..];
    let rows = hours_ahead(&known, steps, interval_s, usize::try_from(hours).unwrap_or(usize::MAX));
    Demand::of(Some((forecast, 0)), rows.as_deref().map(|rows| (rows, 0)))
}

fn summed(
    traces: &[Trace],
    found: &[Found],
    window: Window,
    rule: NewLimit,
    keep: &dyn Fn(&Trace) -> bool,
) -> (usize, Outcome) {
    let (mut series, mut sum) = (0, Outcome::default());
    let kept = traces.iter().zip(found).filter(|(trace, _)| keep(trace));
    for outcome in kept.filter_map(|(_, found)| found.outcomes.get(&(window, rule))) {
        series += 1;
        sum.add(outcome);
    }
    (series, sum)
}

fn header() -> String {
    format!(
        "{:<24} {:>6} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>11} {:>10}",
        "",
        "series",
        "changes",
        "minutes",
        "above new",
        "plan",
        "line",
        "cliff",
        "hindsight",
        "plan/cliff",
        "hind/cliff"
    )
}

fn line(name: &str, series: usize, outcome: &Outcome) -> String {
    let [plan, line, cliff, hindsight] = outcome.exceeded;
    let shown = |way| outcome.beside_cliff(way).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
    format!(
        "{name:<24} {series:>6} {:>8} {:>9} {:>9} {plan:>8} {line:>8} {cliff:>8} {hindsight:>9} {:>11} {:>10}",
        outcome.changes,
        outcome.minutes,
        outcome.above_new,
        shown(Way::Plan),
        shown(Way::Hindsight)
    )
}

fn figures((series, outcome): &(usize, Outcome)) -> Value {
    let ways = Way::ALL.map(|way| {
        let at = way as usize;
        let figures = json!({
            "minutes_above": outcome.exceeded[at],
            "beside_cliff": outcome.beside_cliff(way),
            "excess_limit_minutes": outcome.excess[at],
        });
        (way.name(), figures)
    });
    json!({
        "series": series,
        "changes": outcome.changes,
        "minutes": outcome.minutes,
        "minutes_above_new_limit": outcome.above_new,
        "ways": BTreeMap::from(ways),
    })
}

#[expect(clippy::cast_precision_loss, reason = "minutes, far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::INFINITY } else { part as f64 / whole as f64 }
}

fn drawn(
    name: &str,
    window: Window,
    change: &Change,
    plan: &PhasedPlan,
    demand: &Demand,
    came: &[Option<f64>],
    interval_s: u64,
) -> String {
    let step_s = window.resolution_s.max(MINUTE_S);
    let instants: Vec<u64> =
        (0..window.hours * 3600 / step_s).map(|step| (step * step_s + step_s / 2) * 1000).collect();
    let (line, cliff) = (change.line(), |at_ms| change.cliff_at(at_ms));
    #[expect(clippy::cast_precision_loss, reason = "units of 1e9")]
    let unit = |units: u64| change.in_series_unit(units as f64);
    let way = |limit: &dyn Fn(u64) -> u64| instants.iter().map(|at_ms| unit(limit(*at_ms))).collect::<Vec<f64>>();
    let rows: Vec<_> = instants
        .iter()
        .map(|at_ms| demand.at(*at_ms).map(|stretch| stretch.quantiles.map(|value| change.in_series_unit(value))))
        .collect();
    let step = |at_ms: &u64| usize::try_from(at_ms / 1000 / interval_s).ok();
    let came: Vec<_> = instants.iter().map(|at_ms| came.get(step(at_ms)?).copied().flatten()).collect();
    let limits = [
        ("plan", way(&|at_ms| plan.limit_at(at_ms))),
        ("line", way(&|at_ms| line.as_ref().map_or(0, |line| line.limit_at(at_ms)))),
        ("cliff", way(&cliff)),
    ];
    let title = format!("{name}: from today's limit to a lower one in {} h", window.hours);
    picture(&PlanPicture { title: &title, step_s, demand: &rows, came: &came, limits: &limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(rule: NewLimit, [plan, line, cliff]: [u64; 3]) -> Vec<bool> {
        let outcome = Outcome { exceeded: [plan, line, cliff, 0], ..Outcome::default() };
        judge("1 h", rule, &outcome).iter().map(|gate| gate.held).collect()
    }

    #[test]
    fn a_plan_with_more_than_a_third_of_the_cliffs_minutes_misses() {
        assert_eq!(held(NewLimit::Past80, [33, 60, 99]), [true, true]);
        assert_eq!(held(NewLimit::Past80, [34, 60, 99]), [false, true]);
        assert_eq!(held(NewLimit::Past80, [34, 33, 120]), [true, false]);
        // Half of the old limit nobody can hold: there the line alone is the bar.
        assert_eq!(held(NewLimit::Half, [90, 90, 99]), [true]);
    }

    #[test]
    fn nothing_found_is_no_success() {
        assert_eq!(held(NewLimit::Past80, [0, 0, 0]), [false, false]);
    }
}
