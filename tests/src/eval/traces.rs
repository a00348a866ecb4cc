//! The public traces as series (`models/traces/README.md`; `models/training/series.py` reads them alike).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use quotary_common::units::ResourceKind;
use quotary_offline::Recording;

const INTERVAL_S: u64 = 300;
/// The first origin of a series that training never saw.
const FROM: usize = 96;
const DAY: usize = 288;

/// One series with the part of it that is scored.
#[derive(Debug)]
pub struct Trace {
    /// How reports call it.
    pub name: String,
    /// What it measures.
    pub resource: ResourceKind,
    /// One step, seconds.
    pub interval_s: u64,
    /// Its steps.
    pub values: Vec<Option<f64>>,
    /// The first origin.
    pub from: usize,
    /// Whether it has less than three days.
    pub is_young: bool,
}

/// Longest prefix wins; a series that is none of the four kinds counts as the one that it moves with.
const CLOUD: [(&str, ResourceKind); 7] = [
    ("ec2_cpu", ResourceKind::Cpu),
    ("rds_cpu", ResourceKind::Cpu),
    ("grok_asg", ResourceKind::Cpu),
    ("ec2_disk", ResourceKind::Disk),
    ("ec2_network", ResourceKind::Network),
    ("iio_", ResourceKind::Network),
    ("elb_request", ResourceKind::Network),
];

/// Every series that is scored; of the virtual machines every `every`-th.
///
/// # Errors
/// A file is not there, is no xz, or does not hold what its README says.
pub fn read(directory: &Path, every: usize) -> Result<Vec<Trace>> {
    let mut traces = fleet(
        directory,
        "google2019_fleet_mean_300s_percent.csv.xz",
        &[
            ("cpu_util_percent", ResourceKind::Cpu),
            ("mem_util_percent", ResourceKind::Memory),
            ("assigned_mem_percent", ResourceKind::Memory),
        ],
    )?;
    let azure = [("cpu_usage", ResourceKind::Cpu), ("assigned_mem", ResourceKind::Memory)];
    traces.extend(fleet(directory, "azure2019_fleet_sum_300s.csv.xz", &azure)?);
    traces.extend(cloud(directory)?);
    traces.extend(machines(directory, every)?);
    Ok(traces)
}

fn lines(directory: &Path, file: &str) -> Result<impl Iterator<Item = Result<Vec<String>>>> {
    let path = directory.join(file);
    let opened = File::open(&path).with_context(|| format!("{}: not there", path.display()))?;
    let text = BufReader::new(lzma_rust2::XzReader::new(BufReader::new(opened), true));
    Ok(text.lines().map(move |line| {
        let line = line.with_context(|| format!("{}: no xz", path.display()))?;
        Ok(line.trim_end().split(',').map(str::to_owned).collect())
    }))
}

fn last_quarter(name: String, resource: ResourceKind, values: Vec<Option<f64>>) -> Trace {
    let from = values.len() * 3 / 4;
    let is_young = values.len() < 3 * DAY;
    Trace { name, resource, interval_s: INTERVAL_S, values, from, is_young }
}

fn fleet(directory: &Path, file: &str, columns: &[(&str, ResourceKind)]) -> Result<Vec<Trace>> {
    let rows: Vec<Vec<String>> = lines(directory, file)?.collect::<Result<_>>()?;
    let Some((header, rows)) = rows.split_first() else { bail!("{file} is empty") };
    let series = columns.iter().map(|(column, resource)| {
        let at = header.iter().position(|one| one == column).with_context(|| format!("{file}: no column {column}"))?;
        let values = rows.iter().map(|row| row.get(at)?.parse().ok()).collect();
        Ok(last_quarter(format!("{file}:{column}"), *resource, values))
    });
    series.collect()
}

/// Each series through the CSV reader that users have: its times are irregular at places.
fn cloud(directory: &Path) -> Result<Vec<Trace>> {
    let file = "nab_aws_300s.csv.xz";
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for row in lines(directory, file)?.skip(1) {
        let row = row?;
        let [name, time, value] = &row[..] else { bail!("{file}: a row has {} columns", row.len()) };
        let text = files.entry(name.clone()).or_insert_with(|| "timestamp,value\n".to_owned());
        text.push_str(&format!("{time},{value}\n"));
    }
    let series = files.into_iter().map(|(name, text)| {
        let (_, resource) = CLOUD.iter().find(|(prefix, _)| name.starts_with(prefix)).with_context(|| name.clone())?;
        let recording = Recording::from_reader(Path::new(&name), text.as_bytes(), "value", Some(INTERVAL_S))?;
        Ok(last_quarter(name, *resource, recording.values))
    });
    series.collect()
}

fn machines(directory: &Path, every: usize) -> Result<Vec<Trace>> {
    let file = "google2011_vm_300s_valid.csv.xz";
    let mut series: BTreeMap<(String, bool), Vec<Option<f64>>> = BTreeMap::new();
    for row in lines(directory, file)?.skip(1) {
        let row = row?;
        let [name, _, cpu, memory] = &row[..] else { bail!("{file}: a row has {} columns", row.len()) };
        for (is_memory, value) in [(false, cpu), (true, memory)] {
            series.entry((name.clone(), is_memory)).or_default().push(value.parse().ok());
        }
    }
    let chosen = series.into_iter().enumerate().filter(|(index, _)| (index / 2) % every == 0);
    Ok(chosen
        .map(|(_, ((name, is_memory), values))| Trace {
            name,
            resource: if is_memory { ResourceKind::Memory } else { ResourceKind::Cpu },
            interval_s: INTERVAL_S,
            is_young: values.len() < 3 * DAY,
            values,
            from: FROM,
        })
        .collect())
}
