//! A recorded series: CSV rows put on a grid of equal steps.
//!
//! The column `timestamp` is RFC 3339, `YYYY-MM-DD HH:MM:SS` (taken as UTC) or Unix seconds; without it rows are one interval apart.
//! Missing values, numbers that are no demand and steps without a row are gaps; several rows of one step are averaged; a row whose
//! time lies before the row above it counts where it belongs, if the step is still open, and is left out otherwise. A file that
//! `quotary history export` wrote says itself whose series it is and of what; one of several series is none.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use quotary_common::units::ResourceKind;
use quotary_decide::forecast::is_demand;
use thiserror::Error;

/// Largest file read: a year at one second is about 1 GiB; files beyond this are no series.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Most steps of a grid: eight years at 60 s.
const STEPS_MAX: usize = 1 << 22;
/// The interval of files without timestamps.
const INTERVAL_S: u64 = 300;
/// Rows that the interval is taken from.
const SAMPLE_ROWS: usize = 10_001;

/// Why a file is no series.
#[derive(Debug, Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too large.
    #[error("{}: larger than {FILE_BYTES_MAX} bytes: give a part of it", path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// It is not CSV.
    #[error("{}: not CSV with a header: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: csv::Error,
    },
    /// The header has no such column.
    #[error("{}: no column `{column}`; its header has {found}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        column: String,
        /// What is there.
        found: String,
    },
    /// A row holds what is no time or no number.
    #[error("{}, line {line}: `{text}` is no {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, 1 being the header.
        line: u64,
        /// What should have been there.
        what: &'static str,
        /// What is there.
        text: String,
    },
    /// It is an export of several series.
    #[error("{}, line {line}: `{now}` after `{before}`: a file of several series: export one (--host, --subject, --resource), or each to a file of its own (--out DIR/)", path.display())]
    Several {
        /// The file.
        path: PathBuf,
        /// The line, 1 being the header.
        line: u64,
        /// Host, subject and resource of the first series.
        before: String,
        /// Of the next.
        now: String,
    },
    /// There is no row, or no value.
    #[error("{}: column `{column}` holds no value", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// The rows span too many steps.
    #[error("{}: its rows span more than {STEPS_MAX} steps of {interval_s} s: give a longer --interval", path.display())]
    Span {
        /// The file.
        path: PathBuf,
        /// The step.
        interval_s: u64,
    },
    /// The row that was asked for is not there.
    #[error("row {row} is not there: the file has {rows} rows after its header")]
    At {
        /// What was asked for.
        row: usize,
        /// How many there are.
        rows: usize,
    },
}

/// A series on a grid.
#[derive(Clone, PartialEq)]
pub struct Recording {
    /// File and column.
    pub name: String,
    /// One step, seconds.
    pub interval_s: u64,
    /// Mean per step, oldest first; gaps are `None`.
    pub values: Vec<Option<f64>>,
    /// What it measures, where the file says so.
    pub resource: Option<String>,
    /// Unix seconds of the first step's begin; 0 for a file without timestamps.
    pub start_s: f64,
    /// For each row of the file the step that it lies in, and what it adds to it.
    rows: Vec<(usize, Option<f64>)>,
    /// Rows left out: no demand (NaN, negative, infinite), or late.
    pub left_out: u64,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("name", &self.name).field("steps", &self.values.len()).finish_non_exhaustive()
    }
}

impl Recording {
    /// Reads one column of a file. `interval_s` is taken from the timestamps if it is not given.
    ///
    /// # Errors
    /// The file cannot be read, is no CSV, has no such column, or holds what is neither a number nor a gap.
    pub fn read(path: &Path, column: &str, interval_s: Option<u64>) -> Result<Self, Fault> {
        Self::read_until(path, column, interval_s, None)
    }

    /// The same of the rows before `until` alone, and of the time of row `until`: what comes after them is read by nobody.
    ///
    /// # Errors
    /// As [`Recording::read`], and there is no such row; `until` may be the one after the last.
    pub fn read_until(path: &Path, column: &str, interval_s: Option<u64>, until: Option<usize>) -> Result<Self, Fault> {
        let file = std::fs::File::open(path).map_err(|source| Fault::Read { path: path.to_owned(), source })?;
        let (rows, resource) = read_rows(path, file, column, until)?;
        Self::from_rows(path, (rows, resource), column, interval_s, until)
    }

    /// The same from anything that can be read; `path` names it.
    ///
    /// # Errors
    /// As [`Recording::read`].
    pub fn from_reader(path: &Path, input: impl Read, column: &str, interval_s: Option<u64>) -> Result<Self, Fault> {
        let (rows, resource) = read_rows(path, input, column, None)?;
        Self::from_rows(path, (rows, resource), column, interval_s, None)
    }

    fn from_rows(
        path: &Path,
        (mut rows, resource): (Vec<Row>, Option<String>),
        column: &str,
        interval_s: Option<u64>,
        until: Option<usize>,
    ) -> Result<Self, Fault> {
        if let Some(row) = until
            && row > rows.len()
        {
            return Err(Fault::At { row, rows: rows.len() });
        }
        let seen = until.unwrap_or(rows.len());
        let interval_s = interval_s.or_else(|| usual_distance(&rows[..seen])).unwrap_or(INTERVAL_S).max(1);
        // Of the row that is forecast the time is known and the value is not.
        if let Some(row) = rows.get_mut(seen) {
            row.1 = None;
        }
        let mut recording = Self {
            name: format!("{}:{column}", path.file_name().unwrap_or_default().to_string_lossy()),
            interval_s,
            values: Vec::new(),
            resource,
            start_s: rows.iter().find_map(|row| row.0).unwrap_or_default(),
            rows: Vec::with_capacity(rows.len()),
            left_out: 0,
        };
        let mut open = 0.0;
        for (index, (time_s, value)) in rows.into_iter().enumerate() {
            if time_s.is_some_and(|time_s| time_s < recording.start_s) {
                recording.put(None, value, &mut open);
                continue;
            }
            let slot = match time_s {
                Some(time_s) => recording.slot(time_s),
                None => Some(index),
            };
            let Some(slot) = slot.filter(|slot| *slot < STEPS_MAX) else {
                return Err(Fault::Span { path: path.to_owned(), interval_s });
            };
            recording.put(Some(slot), value, &mut open);
        }
        if until.is_none() && recording.values.iter().all(Option::is_none) {
            return Err(Fault::Empty { path: path.to_owned(), column: column.to_owned() });
        }
        Ok(recording)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "checked: 0 ≤ x < 2^52"
    )]
    fn slot(&self, time_s: f64) -> Option<usize> {
        let steps = ((time_s - self.start_s) / self.interval_s as f64).round();
        (steps < STEPS_MAX as f64).then_some(steps as usize)
    }

    /// `open` counts the values of the newest step; a row before the first has no step.
    fn put(&mut self, slot: Option<usize>, value: Option<f64>, open: &mut f64) {
        let is_before = slot.is_none();
        let slot = slot.unwrap_or_default();
        let is_new = slot >= self.values.len();
        if is_new {
            self.values.resize(slot + 1, None);
            *open = 0.0;
        }
        let late = is_before || slot + 1 < self.values.len();
        let counts = value.filter(|value| !late && is_demand(*value));
        self.left_out += u64::from(value.is_some() && counts.is_none());
        self.rows.push((if late { self.values.len() - 1 } else { slot }, counts));
        let Some(value) = counts else { return };
        let place = &mut self.values[slot];
        let mean = place.unwrap_or_default();
        *open += 1.0;
        *place = Some(mean + (value - mean) / *open);
    }

    /// How many rows the file has after its header.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// The step that a forecast as of `row` begins at, and the series as it was known then: the rows before `row` alone.
    ///
    /// # Errors
    /// There is no such row; `row` may be the one after the last.
    pub fn before(&self, row: usize) -> Result<(usize, Vec<Option<f64>>), Fault> {
        if row > self.rows.len() {
            return Err(Fault::At { row, rows: self.rows.len() });
        }
        let last = row.checked_sub(1).and_then(|before| self.rows.get(before));
        let known = last.map_or(0, |(slot, _)| slot + 1);
        // The row's own time is known, its value is not: what lies between is a gap.
        let origin = self.rows.get(row).map_or(known, |(slot, _)| (*slot).max(known));
        let mut values = self.values.get(..known).unwrap_or_default().to_vec();
        // The newest step is made anew: rows of it may come after the origin.
        if let Some(newest) = values.last_mut() {
            let of_step =
                self.rows[..row].iter().rev().take_while(|(slot, _)| slot + 1 == known).filter_map(|(_, value)| *value);
            let (sum, count) = of_step.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            *newest = (count > 0.0).then(|| sum / count);
        }
        values.resize(origin, None);
        Ok((origin, values))
    }

    /// The first row that lies in a step; `None` where none does.
    pub fn row_of_step(&self, step: usize) -> Option<usize> {
        let row = self.rows.partition_point(|(slot, _)| *slot < step);
        self.rows.get(row).filter(|(slot, _)| *slot == step).map(|_| row)
    }

    /// The step that a row lies in, or the one after the last.
    pub fn step_of_row(&self, row: usize) -> usize {
        self.rows.get(row).map_or(self.values.len(), |(slot, _)| *slot)
    }
}

/// What a column measures, by the words of its name: `cpu` is CPU; `memory`, `mem`, `ram` memory; `disk`, `io`, `read`, `write` disk; `network`,
/// `net`, `rx`, `tx` network; all else CPU. The verifier's own names (`disk_bytes_per_second`) are among them.
pub fn guessed_resource(column: &str) -> ResourceKind {
    let column = column.to_ascii_lowercase();
    let words: Vec<&str> = column.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is = |names: &[&str]| words.iter().any(|word| names.contains(word));
    if is(&["cpu", "cpus", "millicores"]) {
        ResourceKind::Cpu
    } else if is(&["memory", "mem", "ram", "rss"]) {
        ResourceKind::Memory
    } else if is(&["disk", "disks", "io", "iops", "read", "write", "reads", "writes"]) {
        ResourceKind::Disk
    } else if is(&["network", "net", "received", "transmitted", "traffic", "rx", "tx", "in", "out"]) {
        ResourceKind::Network
    } else {
        ResourceKind::Cpu
    }
}

type Row = (Option<f64>, Option<f64>);

/// All rows, or those up to and with row `until`; and what they measure, where the file says so.
fn read_rows(
    path: &Path,
    input: impl Read,
    column: &str,
    until: Option<usize>,
) -> Result<(Vec<Row>, Option<String>), Fault> {
    let (mut rows, mut resource) = (Vec::new(), None);
    each_row(path, input, column, |row| {
        if resource.is_none() {
            resource = row.resource.map(str::to_owned);
        }
        rows.push((row.time_s, row.value));
        until.is_none_or(|until| rows.len() <= until)
    })?;
    Ok((rows, resource))
}

/// A row as it stands in the file, and what it says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowText<'a> {
    /// The timestamp's text; empty in a file without that column.
    pub(crate) time: &'a str,
    /// Unix seconds, where there is a timestamp.
    pub(crate) time_s: Option<f64>,
    /// The value's text.
    pub(crate) text: &'a str,
    /// The value; `None` for a gap.
    pub(crate) value: Option<f64>,
    /// What it measures, where the file says so.
    pub(crate) resource: Option<&'a str>,
}

/// Reads a file row by row, as long as `each` wants more.
///
/// # Errors
/// As [`Recording::read`]; rows before the fault were given.
pub(crate) fn each_row(
    path: &Path,
    input: impl Read,
    column: &str,
    mut each: impl FnMut(RowText<'_>) -> bool,
) -> Result<(), Fault> {
    // One byte more than allowed tells a file that is too large from one that just fits.
    let mut limited = input.take(FILE_BYTES_MAX + 1);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(&mut limited);
    let broken = |source| Fault::Csv { path: path.to_owned(), source };
    let header = reader.headers().map_err(broken)?.clone();
    // A byte-order mark belongs to the file, not to its first column.
    let place = |name: &str| header.iter().position(|one| one.trim_start_matches('\u{feff}') == name);
    let Some(value_at) = place(column) else {
        let found = header.iter().take(32).collect::<Vec<_>>().join(", ");
        return Err(Fault::Column { path: path.to_owned(), column: column.to_owned(), found });
    };
    let time_at = place("timestamp").filter(|at| *at != value_at);
    // The three columns by which an export tells its series apart.
    let series_at = place("host").zip(place("subject")).zip(place("resource"));
    let mut series: Option<String> = None;
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |what, text: &str| {
            let text = text.chars().take(40).collect();
            Fault::Row { path: path.to_owned(), line, what, text }
        };
        let time = time_at.and_then(|at| record.get(at)).unwrap_or_default();
        let time_s = match time_at {
            None => None,
            Some(_) => Some(unix_s(time).ok_or_else(|| fault("timestamp", time))?),
        };
        let text = record.get(value_at).unwrap_or_default();
        let resource = series_at.and_then(|(_, at)| record.get(at));
        if let Some(((host, subject), resource)) = series_at {
            let cells = [host, subject, resource].map(|at| record.get(at).unwrap_or_default());
            let now = cells.join(" ");
            let before = series.get_or_insert_with(|| now.clone());
            if *before != now {
                return Err(Fault::Several { path: path.to_owned(), line, before: before.clone(), now });
            }
        }
        if !each(RowText { time, time_s, text, resource, value: number(text).map_err(|()| fault("number", text))? }) {
            return Ok(());
        }
    }
    if limited.limit() == 0 {
        return Err(Fault::Size { path: path.to_owned() });
    }
    Ok(())
}

/// A number, or `None` for what says that there is none.
fn number(text: &str) -> Result<Option<f64>, ()> {
    if ["", "-", "null", "none", "na", "n/a"].iter().any(|one| text.eq_ignore_ascii_case(one)) {
        return Ok(None);
    }
    text.parse::<f64>().map(Some).map_err(|_| ())
}

/// Unix seconds.
#[expect(clippy::cast_precision_loss, reason = "times in ms are below 2^53")]
fn unix_s(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds.abs() < 1e12).then_some(seconds);
    }
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let time = zoned.or_else(|| {
        text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|z| z.timestamp())
    })?;
    Some(time.as_millisecond() as f64 / 1000.0)
}

/// The median distance of timestamps in whole seconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below 1e12")]
fn usual_distance(rows: &[Row]) -> Option<u64> {
    let times: Vec<f64> = rows.iter().take(SAMPLE_ROWS).filter_map(|row| row.0).collect();
    let mut distances: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|d| *d > 0.0).collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances.get(distances.len() / 2).map(|distance| distance.round().max(1.0) as u64)
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
