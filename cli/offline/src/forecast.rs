//! `quotary forecast --input`: the next hour of a recorded series.

use std::collections::BTreeMap;

use quotary_cli::args::{ForecastArgs, ResourceName, SeriesArgs};
use quotary_cli::exit::{Code, Failure};
use quotary_cli::files;
use quotary_cli::present::{self, Align, Table};
use quotary_common::units::ResourceKind;
use quotary_decide::forecast::{Calibration, Forecast, Ladder, Method, PEAK_LEVELS, Past, QUANTILE_LEVELS, STEPS};
use serde::Serialize;

use crate::recording::{Recording, guessed_resource};
use crate::{model, plot};

/// Hours of a series' own past that calibration learns from.
pub const LESSONS: usize = 96;

/// A forecast as it is told.
#[derive(Debug, Serialize)]
pub(crate) struct Told<'a> {
    method: &'static str,
    model: Option<Model<'a>>,
    resource: &'static str,
    interval_s: u64,
    origin_row: usize,
    quantile_levels: [f64; QUANTILE_LEVELS.len()],
    steps: Vec<&'a [f64]>,
    peak_levels: [f64; PEAK_LEVELS.len()],
    peaks: BTreeMap<String, &'a [f64]>,
    history: History,
}

#[derive(Debug, Serialize)]
struct Model<'a> {
    name: &'a str,
    sha256: &'a str,
}

#[derive(Debug, Serialize)]
struct History {
    rows: u64,
    age_s: u64,
}

impl<'a> Told<'a> {
    pub(crate) fn new(forecast: &'a Forecast, resource: ResourceKind, origin_row: usize) -> Self {
        Self {
            method: forecast.method.name(),
            model: forecast.model.as_ref().map(|model| Model { name: &model.name, sha256: &model.sha256 }),
            resource: word(resource),
            interval_s: forecast.interval_s,
            origin_row,
            quantile_levels: QUANTILE_LEVELS,
            steps: forecast.quantiles.steps().iter().map(<[f64; 11]>::as_slice).collect(),
            peak_levels: PEAK_LEVELS,
            peaks: forecast.peaks().map(|(length_s, row)| (length_s.to_string(), row)).collect(),
            history: History { rows: forecast.history_rows, age_s: forecast.history_age_s },
        }
    }
}

/// The word for a kind on this command line.
pub(crate) fn word(resource: ResourceKind) -> &'static str {
    match resource {
        ResourceKind::Cpu => "cpu",
        ResourceKind::Memory => "memory",
        ResourceKind::Storage => "storage",
        ResourceKind::Disk => "disk",
        ResourceKind::Network => "network",
    }
}

/// What a recording measures: as told, as the file says, or as the column's name suggests.
///
/// # Errors
/// The file says what no resource is.
pub(crate) fn resource(args: &SeriesArgs, recording: &Recording, column: &str) -> Result<ResourceKind, Failure> {
    Ok(match args.resource {
        Some(ResourceName::Cpu) => ResourceKind::Cpu,
        Some(ResourceName::Memory) => ResourceKind::Memory,
        Some(ResourceName::Disk) => ResourceKind::Disk,
        Some(ResourceName::Network) => ResourceKind::Network,
        None => match &recording.resource {
            None => guessed_resource(column),
            Some(told) => ResourceKind::ALL.into_iter().find(|kind| kind.unit_name() == told).ok_or_else(|| {
                let text =
                    format!("{}: `{told}` is no resource: say as what it is forecast (--resource)", recording.name);
                Failure::new(Code::Refused, text)
            })?,
        },
    })
}

/// The interval in seconds, if one is given.
pub(crate) fn interval_s(args: &SeriesArgs) -> Result<Option<u64>, Failure> {
    match args.interval {
        Some(ms) if ms < 1000 || !ms.is_multiple_of(1000) => {
            Err(Failure::new(Code::Usage, "--interval must be whole seconds, at least 1s"))
        }
        given => Ok(given.map(|ms| ms / 1000)),
    }
}

/// Does it.
pub(crate) fn forecast(args: &ForecastArgs, json: bool) -> Result<(), Failure> {
    let (Some(input), Some(column)) = (&args.input, &args.column) else {
        return Err(Failure::new(Code::Usage, "--input and --column are needed offline"));
    };
    let unreadable = |fault: &dyn std::error::Error| Failure::of(Code::Unreadable, fault);
    let interval_s = interval_s(&args.series)?;
    let recording = Recording::read_until(input, column, interval_s, args.at).map_err(|fault| unreadable(&fault))?;
    let resource = resource(&args.series, &recording, column)?;
    let row = args.at.unwrap_or_else(|| recording.row_count());
    let (_, values) = recording.before(row).map_err(|fault| unreadable(&fault))?;
    let past = Past { measure: resource.into(), interval_s: recording.interval_s, values: &values };

    let model = model()?;
    let ladder = Ladder::new(Some(&model));
    let calibration = ladder.learnt(&past, LESSONS);
    let rungs = ladder.rungs(&[past]).pop().map(|(rungs, _)| rungs).unwrap_or_default();
    let answer = ladder.answer(&past, &rungs, (&calibration, &Calibration::NONE), &[], None);
    let Some(forecast) = answer else {
        let message =
            format!("insufficient_history: no value of {column} lies before row {row} of {}", input.display());
        return Err(Failure::new(Code::Refused, message));
    };
    if let Some(path) = &args.plot {
        files::write(path, plot::forecast(&recording.name, &values, &forecast).as_bytes())?;
    }
    if recording.left_out > 0 {
        eprintln!("quotary: {} rows left out: negative, not finite, or out of order", recording.left_out);
    }
    let told = Told::new(&forecast, resource, row);
    if json { present::json(&told) } else { print(&forecast, row) }
}

fn print(forecast: &Forecast, row: usize) -> Result<(), Failure> {
    let method = match &forecast.model {
        Some(model) if forecast.method == Method::Model => format!("model {}", model.name),
        Some(model) => format!("{}, in part {}", forecast.method.name(), model.name),
        None => forecast.method.name().to_owned(),
    };
    let age = present::duration(forecast.history_age_s.saturating_mul(1000));
    present::print(&format!("by {method}, as of row {row}, from {} values of {age}\n\n", forecast.history_rows))?;
    let columns = [
        ("AHEAD", Align::Left),
        ("P10", Align::Right),
        ("P50", Align::Right),
        ("P90", Align::Right),
        ("P95", Align::Right),
        ("P99", Align::Right),
    ];
    let mut table = Table::new(&columns, "");
    for (step, line) in forecast.quantiles.steps().iter().enumerate().take(STEPS) {
        let ahead = present::duration(forecast.interval_s.saturating_mul(1000 * (step as u64 + 1)));
        let cell = |column: usize| number(line[column]);
        table.row([ahead, cell(0), cell(4), cell(8), cell(9), cell(10)]);
    }
    for (length_s, line) in forecast.peaks() {
        let over = format!("peak over {}", present::duration(length_s.saturating_mul(1000)));
        table.row([over, String::new(), number(line[0]), number(line[1]), number(line[2]), number(line[3])]);
    }
    present::print_table(&table)
}

/// Four significant digits or so.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e15 => format!("{value:.3e}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 || size <= 0.0 => format!("{value:.3}"),
        _ => format!("{value:.3e}"),
    }
}
