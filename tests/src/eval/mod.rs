//! The forecasts on the public split (`models/traces`): the last quarter of each fleet and cloud series, and every fifth virtual machine of
//! the cluster, none of which the model was trained on.
//!
//! Promises: one run, all methods on the same windows; nothing after an origin is read; series of less than three days are told apart.
//! Must never: choose anything by what it finds here.

mod gates;
pub mod shaping;
mod traces;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use quotary_decide::backtest::{Origins, Recorded, SeriesScores, run as backtest};
use quotary_decide::forecast::{Forecast, Ladder};
use quotary_models::Model;
use quotary_offline::backtest::Report;

pub use gates::{Gate, judge};
pub use traces::{Trace, read};

/// Rows between origins: each hour once.
const STRIDE: usize = 12;

/// Reads, forecasts, compares, writes; whether every gate held.
///
/// # Errors
/// Traces or model cannot be read; the result cannot be written.
pub fn run(directory: &Path, out: &Path, every: usize) -> Result<bool> {
    let traces = read(directory, every)?;
    let model = quotary_models::shipped().context("the model does not load")?;
    let scores = score(&traces, &model);
    let part = |keep: &dyn Fn(&Trace) -> bool| -> Vec<SeriesScores> {
        traces.iter().zip(&scores).filter(|(trace, _)| keep(trace)).map(|(_, scores)| scores.clone()).collect()
    };
    let parts = BTreeMap::from([
        ("all series", Report::new(&scores)),
        ("three days and more (fleets, cloud)", Report::new(&part(&|trace| !trace.is_young))),
        ("less than three days (virtual machines)", Report::new(&part(&|trace| trace.is_young))),
    ]);
    for (name, report) in &parts {
        println!("== {name}\n\n{}", report.text());
    }
    let gates = judge(&scores);
    println!("== gates\n");
    for gate in &gates {
        println!("{gate}");
    }
    std::fs::create_dir_all(out)?;
    let json = serde_json::json!({
        "model": model.reference().name,
        "model_sha256": model.reference().sha256,
        "stride_rows": STRIDE,
        "parts": parts.iter().map(|(name, report)| ((*name).to_owned(), report.json())).collect::<BTreeMap<_, _>>(),
        "gates": gates.iter().map(Gate::json).collect::<Vec<_>>(),
    });
    let path = out.join("eval.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json)? + "\n")?;
    println!("\nwritten to {}", path.display());
    Ok(gates.iter().all(|gate| gate.held))
}

/// Every series by itself.
fn score(traces: &[Trace], model: &Model) -> Vec<SeriesScores> {
    each_trace(traces, |trace| rolled(trace, &Ladder::new(Some(model)), |_, _| {}))
}

/// Rolls the ladder over what is scored of a series, each hour once; `each` is given every origin's row and forecast.
fn rolled(trace: &Trace, ladder: &Ladder<'_>, each: impl FnMut(usize, &Forecast)) -> SeriesScores {
    let recorded =
        Recorded { name: &trace.name, resource: trace.resource, interval_s: trace.interval_s, values: &trace.values };
    let origins = Origins { from: trace.from, stride: STRIDE, lessons: quotary_offline::forecast::LESSONS };
    backtest(ladder, &recorded, &origins, each)
}

/// What `of` makes of each series, in their order, on all cores.
fn each_trace<T: Send>(traces: &[Trace], of: impl Fn(&Trace) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, T>> = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some((index, trace)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, traces.get(at)?)))
        {
            let made = of(trace);
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            done.insert(index, made);
            if done.len().is_multiple_of(100) {
                eprintln!("{} of {} series", done.len(), traces.len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}
