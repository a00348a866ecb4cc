//! `quotary anomalies`: how unusual each point of a recorded series is.

use std::fs::File;

use quotary_cli::args::AnomaliesArgs;
use quotary_cli::exit::{Code, Failure};
use quotary_cli::files;
use quotary_cli::present::{self, Progress};
use quotary_decide::anomaly::{JudgedRow, LINE_SCORE, Row, WARMING_UP, judge_rows};
use serde_json::{Value, json};

use crate::plot;
use crate::recording::{Fault, each_row};

/// One step of files without timestamps, ms.
const INTERVAL_MS: i64 = 300_000;

/// Does it.
pub(crate) fn anomalies(args: &AnomaliesArgs, json: bool) -> Result<(), Failure> {
    let unreadable = |fault: Fault| Failure::of(Code::Unreadable, &fault);
    let input = args.input.as_ref().ok_or_else(|| {
        Failure::new(Code::Usage, "--input FILE.csv names the recorded series; without it, `quotary` asks the verifier")
    })?;
    let is_input = |path: &std::path::PathBuf| std::fs::canonicalize(path).ok() == std::fs::canonicalize(input).ok();
    if let Some(path) = args.out.iter().chain(&args.plot).find(|path| path.exists() && is_input(path)) {
        return Err(Failure::new(Code::Usage, format!("{} is the input: say another file", path.display())));
    }
    let file = File::open(input).map_err(|source| unreadable(Fault::Read { path: input.clone(), source }))?;
    let (mut rows, mut texts): (Vec<Row>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let mut progress = Progress::new("rows read");
    each_row(input, file, &args.column, |row| {
        let index = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let time_ms = row.time_s.map_or_else(|| index.saturating_mul(INTERVAL_MS), ms);
        // Without timestamps, rows are told apart by their number.
        let time = if row.time_s.is_some() { row.time.to_owned() } else { index.to_string() };
        rows.push(Row { time_ms, value: row.value });
        texts.push((time, row.text.to_owned()));
        if rows.len().is_multiple_of(10_000) {
            progress.tell_so_far(rows.len() as u64);
        }
        true
    })
    .map_err(unreadable)?;
    drop(progress);
    if rows.is_empty() {
        return Err(unreadable(Fault::Empty { path: input.clone(), column: args.column.clone() }));
    }
    let judged: Vec<JudgedRow> = judge_rows(rows).collect();

    if let Some(path) = &args.plot {
        let name = format!("{}:{}", input.file_name().unwrap_or_default().to_string_lossy(), args.column);
        files::write(path, plot::anomalies(&name, &judged).as_bytes())?;
    }
    let scored = csv(&judged, &texts)?;
    eprintln!("quotary: {}", summary(&judged));
    match &args.out {
        Some(path) => files::write(path, &scored)?,
        None if json => {}
        None => return present::print_bytes(&scored),
    }
    if json { present::json(&alarms(&judged, &texts)) } else { Ok(()) }
}

/// What came of it, in a line or two.
fn summary(judged: &[JudgedRow]) -> String {
    let alarms = judged.iter().filter(|row| row.kind.is_some()).count();
    let warming_up = judged.iter().filter(|row| row.label == WARMING_UP).count();
    let mut told = format!("{} rows, {alarms} over the line of score {LINE_SCORE}", judged.len());
    if warming_up == judged.len() {
        told += "; the series is too short to be judged: all of it is warming up";
    } else if warming_up > 0 {
        told += &format!("; of the first {warming_up} nothing is said: warming up");
    }
    let is_late = |pair: &[JudgedRow]| matches!(pair, [before, row] if row.row.time_ms <= before.row.time_ms);
    let late = judged.windows(2).filter(|pair| is_late(pair)).count();
    if late > 0 {
        told += &format!(
            "; {late} rows are not later than the one before them, and were judged as if nothing was known since: sort the file by timestamp"
        );
    }
    told
}

#[expect(clippy::cast_possible_truncation, reason = "bounded to 1e12 s by the reader")]
fn ms(time_s: f64) -> i64 {
    (time_s * 1000.0) as i64
}

fn csv(judged: &[JudgedRow], texts: &[(String, String)]) -> Result<Vec<u8>, Failure> {
    let failed = |error: csv::Error| Failure::of(Code::Unreadable, &error);
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(["timestamp", "value", "anomaly_score", "kind"]).map_err(failed)?;
    for (row, (time, value)) in judged.iter().zip(texts) {
        out.write_record([time, value, &format!("{:.6}", row.score), row.label]).map_err(failed)?;
    }
    out.into_inner().map_err(|error| Failure::of(Code::Unreadable, error.error()))
}

/// The rows over the line, with the figures behind each.
fn alarms(judged: &[JudgedRow], texts: &[(String, String)]) -> Value {
    let rows = judged.iter().zip(texts).enumerate();
    let found: Vec<Value> = rows
        .filter_map(|(index, (row, (time, _)))| {
            let kind = row.kind?;
            let figures = row
                .figures
                .map(|figures| json!({"expected": figures.expected, "came": figures.came, "points": figures.points}));
            Some(json!({
                "row": index,
                "timestamp": time,
                "value": row.row.value,
                "anomaly_score": row.score,
                "kind": kind.name(),
                "figures": figures,
            }))
        })
        .collect();
    json!({"rows": judged.len(), "line_score": LINE_SCORE, "anomalies": found})
}
