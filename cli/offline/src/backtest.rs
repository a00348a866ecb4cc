//! `quotary backtest`: the forecasts tried on recorded series.

use std::collections::BTreeMap;
use std::io::Write as _;

use quotary_cli::args::BacktestArgs;
use quotary_cli::exit::{Code, Failure};
use quotary_cli::files;
use quotary_cli::present::{self, Align, Progress, Table};
use quotary_decide::backtest::{Method, Origins, Recorded, SeriesScores, SizingRule, Summary, run, summarise};
use quotary_decide::forecast::{Forecast, Ladder, STEPS};
use serde::Serialize;
use serde_json::{Value, json};

use crate::forecast::{LESSONS, Told, interval_s, number, resource, word};
use crate::recording::Recording;
use crate::{model, plot};

/// The first origin: eight hours at 300 s.
const FROM: usize = 96;
/// Origins that are drawn at most.
const DRAWN: usize = 20_000;

/// One line of the forecasts' file.
#[derive(Serialize)]
struct Line<'a> {
    series: &'a str,
    #[serde(flatten)]
    told: Told<'a>,
}

/// Does it.
pub(crate) fn backtest(args: &BacktestArgs, json: bool) -> Result<(), Failure> {
    if args.from_share.is_some_and(|share| !(0.0..1.0).contains(&share)) {
        return Err(Failure::new(Code::Usage, "--from-share must lie in 0 to 1"));
    }
    let recordings = read(args)?;
    let model = model()?;
    let ladder = Ladder::new(Some(&model));
    let mut out = args.emit_forecasts.as_ref().map(|_| Vec::new());
    let mut drawn: Vec<(usize, Forecast)> = Vec::new();
    let mut progress = Progress::new("origins");
    let (mut done, total) = (0_u64, recordings.iter().map(|(recording, _)| origins(recording, args)).sum());
    let mut scores = Vec::new();
    for (index, (recording, column)) in recordings.iter().enumerate() {
        let resource = resource(&args.series, recording, column)?;
        let recorded =
            Recorded { name: &recording.name, resource, interval_s: recording.interval_s, values: &recording.values };
        let origins = Origins { from: from(recording, args), stride: args.stride as usize, lessons: LESSONS };
        scores.push(run(&ladder, &recorded, &origins, |step, forecast| {
            done += 1;
            progress.tell(done, total);
            // An origin in whose step no row lies has no row to be told by.
            if let (Some(out), Some(row)) = (&mut out, recording.row_of_step(step)) {
                let told = Told::new(forecast, resource, row);
                let line = Line { series: &recording.name, told };
                // Writing into memory cannot fail.
                if serde_json::to_writer(&mut *out, &line).is_ok() {
                    out.push(b'\n');
                }
            }
            if args.plot.is_some() && index == 0 && drawn.len() < DRAWN {
                drawn.push((step, forecast.clone()));
            }
        }));
    }
    drop(progress);
    if let (Some(path), Some(out)) = (&args.emit_forecasts, out) {
        files::write(path, &out)?;
    }
    if let (Some(path), Some((recording, _))) = (&args.plot, recordings.first()) {
        let picture = plot::backtest(&recording.name, &recording.values, recording.interval_s, &drawn);
        files::write(path, picture.as_bytes())?;
    }
    let report = Report::new(&scores);
    if json { present::json(&report.json()) } else { report.print() }
}

fn read(args: &BacktestArgs) -> Result<Vec<(Recording, String)>, Failure> {
    let interval_s = interval_s(&args.series)?;
    let mut recordings = Vec::new();
    for path in &args.input {
        for column in &args.column {
            let recording =
                Recording::read(path, column, interval_s).map_err(|fault| Failure::of(Code::Unreadable, &fault))?;
            if recording.left_out > 0 {
                eprintln!(
                    "quotary: {}: {} rows left out: negative, not finite, or out of order",
                    recording.name, recording.left_out
                );
            }
            recordings.push((recording, column.clone()));
        }
    }
    Ok(recordings)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a length"
)]
fn from(recording: &Recording, args: &BacktestArgs) -> usize {
    match (args.from, args.from_share) {
        (Some(row), _) => recording.step_of_row(row),
        (None, Some(share)) => (recording.values.len() as f64 * share) as usize,
        (None, None) => FROM,
    }
}

fn origins(recording: &Recording, args: &BacktestArgs) -> u64 {
    let rows = (recording.values.len() + 1).saturating_sub(STEPS + from(recording, args));
    rows.div_ceil(args.stride as usize) as u64
}

/// What is told of many series: all together, and by kind of resource.
pub struct Report {
    parts: BTreeMap<String, Summary>,
}

impl Report {
    /// From the scores of each series.
    pub fn new(scores: &[SeriesScores]) -> Self {
        let mut parts = BTreeMap::from([("all".to_owned(), summarise(scores))]);
        for kind in scores.iter().map(|series| series.resource).collect::<std::collections::BTreeSet<_>>() {
            parts.insert(word(kind).to_owned(), summarise(scores.iter().filter(|series| series.resource == kind)));
        }
        Self { parts }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        Value::Object(self.parts.iter().map(|(name, part)| (name.clone(), summary(part))).collect())
    }

    fn print(&self) -> Result<(), Failure> {
        present::print(&self.text())
    }

    /// As tables.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        for (name, part) in &self.parts {
            let _ = writeln!(
                text,
                "{name}: {} series ({} constant and {} too short left out), {} hours ({} more with gaps)\n",
                part.series, part.constant, part.unscored, part.windows, part.gaps
            );
            let _ = writeln!(text, "{}\n{}", methods(part).render(false), sizing(part).render(false));
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn methods(part: &Summary) -> Table {
    let columns = [
        ("METHOD", Align::Left),
        ("SERIES", Align::Right),
        ("MASE", Align::Right),
        ("WQL", Align::Right),
        ("WQL/LAST", Align::Right),
        ("WQL/EWMA", Align::Right),
        ("WQL/SEASONAL", Align::Right),
        ("PINBALL .90", Align::Right),
        (".95", Align::Right),
        (".99", Align::Right),
        ("COVERAGE .90", Align::Right),
        (".95", Align::Right),
        (".99", Align::Right),
    ];
    let mut table = Table::new(&columns, "nothing was scored");
    for (method, figures) in &part.methods {
        let ratio = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let [p90, p95, p99] = figures.pinball.map(number);
        let [c90, c95, c99] = figures.coverage.map(|share| format!("{share:.3}"));
        table.row([
            method.name().to_owned(),
            figures.series.to_string(),
            ratio(figures.mase_median),
            ratio(figures.wql_mean),
            ratio(figures.wql_ratio_to_last_value),
            ratio(figures.wql_ratio_to_ewma),
            ratio(figures.wql_ratio_to_seasonal_naive),
            p90,
            p95,
            p99,
            c90,
            c95,
            c99,
        ]);
    }
    table
}

fn sizing(part: &Summary) -> Table {
    let columns = [
        ("SIZED BY", Align::Left),
        ("OVERRUN", Align::Right),
        ("SLACK", Align::Right),
        ("SLACK AT 5 %", Align::Right),
        ("FACTOR", Align::Right),
    ];
    let mut table = Table::new(&columns, "nothing was sized");
    for (rule, figures) in &part.sizing {
        let share = |value: f64| format!("{value:.3}");
        table.row([
            rule.name().to_owned(),
            share(figures.overrun),
            share(figures.slack),
            share(figures.slack_at_overrun),
            number(figures.factor),
        ]);
    }
    table
}

fn summary(part: &Summary) -> Value {
    let methods: serde_json::Map<String, Value> = Method::ALL
        .into_iter()
        .filter_map(|method| {
            let figures = part.methods.get(&method)?;
            let value = json!({
                "series": figures.series,
                "mase": figures.mase_median,
                "wql": figures.wql_mean,
                "wql_ratio_to_last_value": figures.wql_ratio_to_last_value,
                "wql_ratio_to_ewma": figures.wql_ratio_to_ewma,
                "wql_ratio_to_seasonal_naive": figures.wql_ratio_to_seasonal_naive,
                "pinball": {"0.9": figures.pinball[0], "0.95": figures.pinball[1], "0.99": figures.pinball[2]},
                "coverage": {"0.9": figures.coverage[0], "0.95": figures.coverage[1], "0.99": figures.coverage[2]},
            });
            Some((method.name().to_owned(), value))
        })
        .collect();
    let sizing: serde_json::Map<String, Value> = SizingRule::ALL
        .into_iter()
        .filter_map(|rule| {
            let figures = part.sizing.get(&rule)?;
            let value = json!({
                "overrun": figures.overrun,
                "slack": figures.slack,
                "slack_at_5_percent_overrun": figures.slack_at_overrun,
                "factor": figures.factor,
            });
            Some((rule.name().to_owned(), value))
        })
        .collect();
    json!({
        "series": part.series,
        "constant_series": part.constant,
        "unscored_series": part.unscored,
        "windows": part.windows,
        "gap_windows": part.gaps,
        "methods": methods,
        "sizing": sizing,
    })
}
