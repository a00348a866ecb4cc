//! What the file says, before any of it is believed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quotary_common::limits::defaults;
use quotary_common::units::{Class, Resources};
use serde::Deserialize;

use super::anomalies::RawAnomalies;

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) name: String,
    pub(super) data_dir: PathBuf,
    pub(super) listen: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) ek_authority: Vec<RawAuthority>,
    /// Whether the TPM manufacturers that are compiled in are authorities too.
    #[serde(default)]
    pub(super) ek_manufacturers: bool,
    /// A file of host ids, one a line: no other EK is admitted.
    pub(super) ek_allowlist: Option<PathBuf>,
    #[serde(default)]
    pub(super) zone: Vec<RawZone>,
    pub(super) ima: Option<RawIma>,
    #[serde(default)]
    pub(super) application: Vec<RawApplication>,
    #[serde(default)]
    pub(super) tenant: Vec<RawTenant>,
    #[serde(default)]
    pub(super) webhook: Vec<RawWebhook>,
    #[serde(default)]
    pub(super) command: Vec<RawCommand>,
    #[serde(default = "one_hundred")]
    pub(super) overcommit_percent: u64,
    #[serde(default)]
    pub(super) timing: RawTiming,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) history: RawHistory,
    #[serde(default)]
    pub(super) anomalies: RawAnomalies,
}

/// What a configuration says of zones; the rest of it does not count.
#[derive(Debug, Deserialize)]
pub(super) struct RawCandidate {
    #[serde(default)]
    pub(super) zone: Vec<RawZone>,
    pub(super) ima: Option<RawIma>,
}

const fn one_hundred() -> u64 {
    100
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuthority {
    pub(super) file: PathBuf,
    pub(super) tpm: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawZone {
    pub(super) name: String,
    #[serde(default = "firmware_pcrs")]
    pub(super) pcrs: String,
    #[serde(default)]
    pub(super) require_ek_certificate: bool,
    #[serde(default)]
    pub(super) require_hardware_tpm: bool,
    /// One hexadecimal value per PCR: `"sha256:0" = "00…"`. Without it, and without `boot`, values are learned.
    #[serde(default)]
    pub(super) reference: BTreeMap<String, String>,
    pub(super) boot: Option<RawBoot>,
    /// `warn`, `shrink` or `revoke`: what happens when the IMA list shows a file that `[ima]` does not know.
    pub(super) ima_on_unknown: Option<String>,
}

/// What the boot log must show.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBoot {
    pub(super) secure_boot: Option<bool>,
    /// Stage name → blessed SHA-256 digests, hexadecimal.
    #[serde(default)]
    pub(super) stages: BTreeMap<String, Vec<String>>,
    /// What the running system may measure, by the measure log: SHA-256 digests, hexadecimal, or the measured words.
    pub(super) userspace: Option<Vec<String>>,
    /// Codes of problems that are accepted.
    #[serde(default)]
    pub(super) accept: Vec<String>,
}

/// What may run, by the IMA list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIma {
    /// Files of `sha256:HEX  PATH` lines.
    #[serde(default)]
    pub(super) allow: Vec<PathBuf>,
    /// Public keys or certificates of signers, PEM.
    #[serde(default)]
    pub(super) signers: Vec<PathBuf>,
    /// Path prefixes that are not looked at.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// Paths that must have run, such as the agent's own.
    #[serde(default)]
    pub(super) require: Vec<String>,
}

fn firmware_pcrs() -> String {
    "sha256:0,1,2,3,4,5,6,7".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApplication {
    pub(super) name: String,
    pub(super) tenant: String,
    pub(super) uid: Option<u32>,
    pub(super) unit: Option<String>,
    pub(super) cgroup_prefix: Option<String>,
    #[serde(default)]
    pub(super) class_best: Class,
    #[serde(default)]
    pub(super) quota: Resources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTenant {
    pub(super) name: String,
    #[serde(default)]
    pub(super) quota: Resources,
}

/// Whom to tell of events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    pub(super) url: String,
    /// Kinds of events; without it, all.
    pub(super) kinds: Option<Vec<String>>,
    /// PEM of who certifies the receiver; without it, whom this system trusts.
    pub(super) ca_file: Option<PathBuf>,
    /// What bodies are signed with; nobody but the owner may read it.
    pub(super) secret_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTiming {
    pub(super) window_ms: u64,
    pub(super) evidence_ms: u64,
    pub(super) nonce_ms: u64,
    pub(super) trust_ms: u64,
    pub(super) lease_ms: u64,
    pub(super) lease_margin_ms: u64,
    pub(super) forecast_step_ms: u64,
    pub(super) resize_dwell_ms: u64,
}

impl Default for RawTiming {
    fn default() -> Self {
        Self {
            window_ms: defaults::WINDOW_MS,
            evidence_ms: defaults::EVIDENCE_MS,
            nonce_ms: defaults::NONCE_MS,
            trust_ms: defaults::TRUST_MS,
            lease_ms: defaults::LEASE_MS,
            lease_margin_ms: defaults::LEASE_MARGIN_MS,
            forecast_step_ms: 300_000,
            resize_dwell_ms: 600_000,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHistory {
    /// Points of a minute, in chunks.
    pub(super) keep_days: u64,
}

impl Default for RawHistory {
    fn default() -> Self {
        Self { keep_days: 30 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) connections_max: usize,
    pub(super) evidence_keep_per_host: u64,
    pub(super) event_streams_max: Option<usize>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { connections_max: 4096, evidence_keep_per_host: 20_000, event_streams_max: None }
    }
}

/// A command that quorum rules may name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCommand {
    pub(super) name: String,
    pub(super) argv: Vec<String>,
}
