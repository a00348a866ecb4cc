//! `summary.json`: what the demo saw, for programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Everything, under the names that others read.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) hosts: Vec<HostLine>,
    /// Evidence accepted.
    pub(crate) accepted: u64,
    /// Attacks, all of them refused.
    pub(crate) refused: Vec<RefusedLine>,
    pub(crate) grants: Vec<GrantLine>,
    pub(crate) enforced: Vec<EnforcedLine>,
    pub(crate) forecast: ForecastLine,
    pub(crate) audit: AuditLine,
    pub(crate) timings_ms: Timings,
}

#[derive(Debug, Serialize)]
pub(crate) struct HostLine {
    pub(crate) id: String,
    pub(crate) zone: String,
    pub(crate) tpm: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct RefusedLine {
    pub(crate) actor: String,
    pub(crate) kind: String,
    pub(crate) reason: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct GrantLine {
    pub(crate) application: String,
    pub(crate) tenant: String,
    pub(crate) cpu_millicores: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) lease_ms: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct EnforcedLine {
    pub(crate) cgroup: String,
    pub(crate) backend: String,
    pub(crate) control: String,
    pub(crate) requested: String,
    pub(crate) actual: Option<String>,
    pub(crate) effective: bool,
}

/// The next step's forecast of one application's CPU.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ForecastLine {
    pub(crate) method: String,
    pub(crate) model: Option<String>,
    pub(crate) sha256: Option<String>,
    /// Level to value.
    pub(crate) quantiles: BTreeMap<String, f64>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct AuditLine {
    pub(crate) size: u64,
    pub(crate) root: String,
    pub(crate) verified: bool,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Timings {
    pub(crate) request_to_enforced_p50: f64,
    pub(crate) request_to_enforced_p95: f64,
    pub(crate) tpm_quote_p50: f64,
}

/// Writes `summary.json` whole or not at all; where it is.
pub(crate) fn write(summary: &impl Serialize, directory: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join("summary.json");
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, summary)?;
    file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.canonicalize()?)
}

/// The value below which `percent` of the values lie (nearest rank), in ms; zero of none.
pub(crate) fn percentile_ms(values_us: &[u64], percent: usize) -> f64 {
    let mut sorted = values_us.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let us = sorted.get(rank - 1).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a demo are far below 2^53")]
    let ms = us as f64 / 1000.0;
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<u64> = (1..=20).map(|n| n * 1000).collect();
        assert_eq!((percentile_ms(&values, 50), percentile_ms(&values, 95)), (10.0, 19.0));
        assert_eq!((percentile_ms(&[7000], 95), percentile_ms(&[], 50)), (7.0, 0.0));
    }
}
