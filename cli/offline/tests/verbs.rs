//! The verbs as people call them.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn quotary(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quotary-offline")).current_dir(directory).args(arguments).output().unwrap()
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    let output = quotary(directory, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A daily wave with a little noise; every fiftieth value is missing.
fn series(rows: usize) -> String {
    let mut text = "timestamp,cpu,mem\n".to_owned();
    for row in 0..rows {
        let wave = 200.0 + 120.0 * (row as f64 * std::f64::consts::TAU / 288.0).sin() + ((row * 7919) % 23) as f64;
        let cpu = if row % 50 == 49 { String::new() } else { format!("{wave:.2}") };
        text.push_str(&format!("{},{cpu},{:.1}\n", 1_790_000_000 + row * 300, 5e8 + wave * 1e5));
    }
    text
}

fn directory(rows: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("web.csv"), series(rows)).unwrap();
    directory
}

#[test]
fn a_forecast_has_the_published_form() {
    let directory = directory(900);
    let forecast = json(directory.path(), &["forecast", "--input", "web.csv", "--column", "cpu", "--json"]);
    assert_eq!(forecast["method"], "model");
    assert!(forecast["model"]["name"].as_str().unwrap().starts_with("demand-"));
    assert_eq!(forecast["model"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&forecast["interval_s"], &forecast["origin_row"]), (&300.into(), &900.into()));
    assert_eq!(forecast["quantile_levels"].as_array().unwrap().len(), 11);
    assert_eq!(forecast["steps"].as_array().unwrap().len(), 12);
    assert_eq!(forecast["peak_levels"], serde_json::json!([0.5, 0.9, 0.95, 0.99, 0.995]));
    let lengths: Vec<&String> = forecast["peaks"].as_object().unwrap().keys().collect();
    assert_eq!(lengths, ["1800", "3600", "900"]);
    assert_eq!(forecast["history"]["rows"], 882);
    assert_eq!(forecast["history"]["age_s"], 900 * 300);
    for row in forecast["steps"].as_array().unwrap() {
        let row: Vec<f64> = row.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert!(row.is_sorted() && row.len() == 11, "{row:?}");
    }
    // What comes next is known: the wave goes on.
    let median = forecast["steps"][0][4].as_f64().unwrap();
    let expected = 211.0 + 120.0 * (900.0_f64 * std::f64::consts::TAU / 288.0).sin();
    assert!((median - expected).abs() < 30.0, "{median} {expected}");
}

#[test]
fn only_rows_before_the_origin_are_used() {
    let (long, short) = (directory(800), directory(700));
    let arguments = ["forecast", "--input", "web.csv", "--column", "cpu", "--at", "700", "--json"];
    assert_eq!(json(long.path(), &arguments), json(short.path(), &arguments));
    let output = quotary(short.path(), &["forecast", "--input", "web.csv", "--column", "cpu", "--at", "701"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("701"));
}

#[test]
fn a_backtest_emits_what_forecast_says_at_the_same_row() {
    let directory = directory(700);
    let out = directory.path().join("out.jsonl");
    let arguments = [
        "backtest",
        "--input",
        "web.csv",
        "--column",
        "cpu",
        "--stride",
        "100",
        "--emit-forecasts",
        "out.jsonl",
        "--json",
    ];
    let report = json(directory.path(), &arguments);
    let text = std::fs::read_to_string(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line["origin_row"].as_u64().unwrap()).collect::<Vec<_>>(),
        [96, 196, 296, 396, 496, 596]
    );
    for line in lines {
        let row = line["origin_row"].to_string();
        let alone =
            json(directory.path(), &["forecast", "--input", "web.csv", "--column", "cpu", "--at", &row, "--json"]);
        // Rows that are run at once differ in the last bits.
        let pairs = line["steps"].as_array().unwrap().iter().zip(alone["steps"].as_array().unwrap());
        for (one, other) in pairs.flat_map(|(one, other)| one.as_array().unwrap().iter().zip(other.as_array().unwrap()))
        {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            assert!((one - other).abs() <= 1e-4 * other.abs().max(1.0), "{row}: {one} {other}");
        }
    }
    let methods = report["all"]["methods"].as_object().unwrap();
    assert!(methods.contains_key("quotary") && methods.contains_key("ewma") && methods.contains_key("last-value"));
    assert_eq!(methods["ewma"]["wql_ratio_to_ewma"], 1.0);
    // Every hour that was forecast has a gap: steps are scored, hours are not sized.
    assert_eq!((&report["cpu"]["windows"], &report["cpu"]["gap_windows"]), (&0.into(), &6.into()));
}

#[test]
fn several_columns_are_series_of_their_own_kind() {
    let directory = directory(400);
    let report =
        json(directory.path(), &["backtest", "--input", "web.csv", "--column", "cpu", "--column", "mem", "--json"]);
    assert_eq!(report["all"]["series"], 2);
    assert_eq!((&report["cpu"]["series"], &report["memory"]["series"]), (&1.into(), &1.into()));
    assert!(report["memory"]["sizing"]["vpa-p90"]["slack_at_5_percent_overrun"].as_f64().unwrap() > 0.0);
}

#[test]
fn pictures_are_drawn_and_tables_are_for_people() {
    let directory = directory(400);
    let output = quotary(directory.path(), &["forecast", "--input", "web.csv", "--column", "cpu", "--plot", "a.svg"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("peak over"), "{text}");
    assert!(std::fs::read_to_string(directory.path().join("a.svg")).unwrap().contains("<polygon"));
    let output = quotary(directory.path(), &["backtest", "--input", "web.csv", "--column", "cpu", "--plot", "b.svg"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("SLACK AT 5 %"), "{text}");
    assert!(directory.path().join("b.svg").is_file());
}

#[test]
fn poisoned_series_are_forecast_without_what_is_no_demand() {
    let directory = directory(600);
    let clean = series(600);
    for poison in ["NaN", "inf", "-5", "1e308", "-inf"] {
        let mut lines: Vec<String> = clean.lines().map(str::to_owned).collect();
        for line in [301, 302, 500] {
            let time = lines[line].split(',').next().unwrap().to_owned();
            lines[line] = format!("{time},{poison},1");
        }
        std::fs::write(directory.path().join("bad.csv"), lines.join("\n")).unwrap();
        let forecast = json(directory.path(), &["forecast", "--input", "bad.csv", "--column", "cpu", "--json"]);
        assert!(forecast["steps"][11][10].as_f64().unwrap().is_finite(), "{poison}");
        let median = forecast["steps"][0][4].as_f64().unwrap();
        assert!((50.0..400.0).contains(&median), "{poison}: {median}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_place_and_leaves_no_file() {
    let directory = directory(50);
    let told = |arguments: &[&str]| {
        let output = quotary(directory.path(), arguments);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = told(&["forecast", "--input", "none.csv", "--column", "cpu"]);
    assert!(code == 2 && text.contains("none.csv"), "{text}");
    let (code, text) = told(&["forecast", "--input", "web.csv", "--column", "gpu"]);
    assert!(code == 2 && text.contains("timestamp, cpu, mem"), "{text}");
    let (code, text) = told(&["forecast", "--input", "web.csv", "--column", "cpu", "--at", "0"]);
    assert!(code == 1 && text.contains("insufficient_history"), "{text}");
    let (code, _) = told(&["backtest", "--input", "web.csv", "--column", "cpu", "--stride", "0"]);
    assert_eq!(code, 64);
    let (code, text) =
        told(&["backtest", "--input", "web.csv", "--column", "cpu", "--emit-forecasts", "no/such/out.jsonl"]);
    assert!(code == 2 && text.contains("no/such/out.jsonl"), "{text}");
    assert!(!directory.path().join("no").exists());
}

#[test]
fn anomalies_are_scored_row_by_row_from_what_came_before() {
    let directory = tempfile::tempdir().unwrap();
    let row = |at: usize| {
        let noise =
            (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        let value = if at == 1500 { 5000.0 } else { 100.0 + (noise % 23) as f64 };
        format!("{},{value:.1}\n", 1_790_000_000 + at * 300)
    };
    let text = |rows: usize| "timestamp,value\n".to_owned() + &(0..rows).map(row).collect::<String>();
    std::fs::write(directory.path().join("long.csv"), text(1600)).unwrap();
    std::fs::write(directory.path().join("short.csv"), text(1501)).unwrap();
    let scored = |file: &str| {
        let output = quotary(directory.path(), &["anomalies", "--input", file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (long, short) = (scored("long.csv"), scored("short.csv"));
    assert!(long.starts_with("timestamp,value,anomaly_score,kind\n"));
    assert_eq!(long.lines().count(), 1601);
    assert!(long.starts_with(&short), "what comes later changes no score");
    let spike: Vec<&str> = long.lines().nth(1501).unwrap().split(',').collect();
    assert_eq!((spike[1], spike[3]), ("5000.0", "spike"));
    assert!(spike[2].parse::<f64>().unwrap() > 0.5);
    let told =
        json(directory.path(), &["anomalies", "--input", "long.csv", "--json", "--out", "s.csv", "--plot", "s.svg"]);
    assert_eq!((&told["rows"], &told["anomalies"][0]["row"]), (&1600.into(), &1500.into()));
    assert!(told["anomalies"][0]["figures"]["came"].is_number());
    assert_eq!(std::fs::read_to_string(directory.path().join("s.csv")).unwrap(), long);
    assert!(directory.path().join("s.svg").is_file());
}

#[test]
fn what_a_recording_lacks_for_its_anomalies_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let told = |times: &[u64]| {
        let rows: String = times.iter().map(|at| format!("{},1\n", 1_790_000_000 + at * 300)).collect();
        std::fs::write(directory.path().join("some.csv"), "timestamp,value\n".to_owned() + &rows).unwrap();
        let output = quotary(directory.path(), &["anomalies", "--input", "some.csv"]);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let short = told(&[1, 2, 3, 4]);
    assert!(short.contains("too short to be judged") && !short.contains("sort the file"), "{short}");
    let mixed = told(&[1, 3, 2, 4, 4]);
    assert!(mixed.contains("2 rows are not later than the one before them"), "{mixed}");
}

#[test]
fn the_preview_of_a_change_is_drawn_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let draw = |preview: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotary-offline"));
        command.args(["__draw", "plan.svg"]).current_dir(directory.path());
        command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), preview.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let courses = |courses: &str| {
        format!(r#"{{"id":"c-x","given":false,"effective_at_ms":180000,"courses":[{courses}],"without":[]}}"#)
    };
    let host = "7b".repeat(32);
    let course = format!(
        r#"{{"host":"{host}","application":"web","target":{{"unit":"web.service"}},"control":"memory-high","unit":"bytes",
            "now":400,"starts_at_ms":1000,"setpoints":[{{"at_ms":1000,"value":400}},{{"at_ms":180000,"value":200}}],
            "band":[{{"at_ms":1000,"p50":100.0,"p90":150.0,"p99":180.0}},{{"at_ms":180000,"p50":100.0,"p90":150.0,"p99":190.0}}],
            "method":"model"}}"#
    );
    let drawn = draw(&courses(&course));
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let picture = std::fs::read_to_string(directory.path().join("plan.svg")).unwrap();
    for word in ["web.service", ">plan<", ">target<", ">today's limit<", "<polygon"] {
        assert!(picture.contains(word), "{word}");
    }
    assert_eq!(draw(&courses("")).status.code(), Some(1), "there is nothing to draw");
    assert_eq!(draw("{").status.code(), Some(2));
    let help = quotary(directory.path(), &["--help"]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("__draw"));
}
