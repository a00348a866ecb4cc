//! Attestation results: what a host's last appraisal says, as the claims of an EAR (draft-ietf-rats-ear) with the trust
//! vector of AR4SI (draft-ietf-rats-ar4si).
//!
//! Does: turns a host's record into claims. May assume: the record is committed. Promises: pure; a host whose trust has
//! ended, or never began, is `contraindicated` or `none`, never `affirming`. Must never: sign; read a clock.

use serde_json::{Value, json};

use crate::history::LoadFinding;
use crate::registry::Host;

/// The profile that names the form of these claims.
pub const EAR_PROFILE: &str = "tag:ietf.org,2026:rats/ear#01";

/// AR4SI trust claims: 2 affirming, 32 warning, 96 contraindicated, 0 no claim.
const AFFIRMING: i8 = 2;
const WARNING: i8 = 32;
const CONTRAINDICATED: i8 = 96;
const NO_CLAIM: i8 = 0;

/// Who makes a result, and when.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// The verifier's name.
    pub verifier: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// The claims of a host's result. Its end is the end of the host's trust; a host that is not trusted has one that ends at
/// once.
///
/// `warnings` are names of what was noticed of it since its last evidence: they make a trusted host's status a warning, and nothing else.
pub fn ear_claims(host: &Host, warnings: &[&str], issuer: Issuer<'_>) -> Value {
    let progress = &host.progress;
    let trusted = host.is_trusted(issuer.now_ms);
    let end_ms = if trusted { progress.valid_until_ms } else { issuer.now_ms };
    json!({
        "eat_profile": EAR_PROFILE,
        "iat": issuer.now_ms / 1000,
        "exp": end_ms / 1000,
        "ear.verifier-id": { "developer": "Quotary", "build": format!("{} {}", issuer.verifier, issuer.version) },
        "submods": { "host": {
            "ear.status": status(host, warnings, trusted),
            "ear.trustworthiness-vector": vector(host, trusted),
            "ear.appraisal-policy-id": progress.zone.as_ref().filter(|_| trusted).map(|zone| format!("zone:{}", zone.as_str())),
            "quotary.host": host.record.host.hex(),
            "quotary.evidence": progress.evidence.map(|evidence| evidence.hex()),
            "quotary.findings": progress.findings.iter().map(|finding| finding.as_str()).chain(warnings.iter().copied()).collect::<Vec<_>>(),
        }},
    })
}

fn status(host: &Host, warnings: &[&str], trusted: bool) -> &'static str {
    match (host.progress.revoked.is_some(), trusted) {
        (true, _) => "contraindicated",
        // What it states of its load is no part of what booted and runs there.
        (_, true) if warnings.is_empty() && host.progress.findings.iter().all(LoadFinding::is_named) => "affirming",
        (_, true) => "warning",
        // Evidence came, and no zone holds any more; or none came yet.
        (_, false) if host.progress.sequence > 0 => "contraindicated",
        (_, false) => "none",
    }
}

fn vector(host: &Host, trusted: bool) -> Value {
    let Some(logs) = host.progress.logs.as_ref().filter(|_| trusted) else {
        let all = if host.progress.sequence > 0 && !trusted { CONTRAINDICATED } else { NO_CLAIM };
        let identity = if trusted { AFFIRMING } else { all };
        return json!({ "instance-identity": identity, "hardware": hardware(host, trusted) });
    };
    let zone = host.progress.zone.as_ref();
    let boot = logs.boot.as_ref().and_then(|boot| boot.zones.iter().find(|(name, _)| Some(name) == zone));
    let executables = match logs.ima.map(|ima| ima.findings()) {
        None => NO_CLAIM,
        Some(0) => AFFIRMING,
        Some(_) => WARNING,
    };
    let configuration = match (boot, logs.boot.as_ref().and_then(|boot| boot.secure_boot)) {
        (Some((_, 0)), Some(true)) => AFFIRMING,
        (Some((_, 0)), _) => WARNING,
        _ => NO_CLAIM,
    };
    json!({
        "instance-identity": AFFIRMING,
        "hardware": hardware(host, trusted),
        "configuration": configuration,
        "executables": executables,
    })
}

fn hardware(host: &Host, trusted: bool) -> i8 {
    match host.tpm() {
        "hardware" if trusted => AFFIRMING,
        // A TPM that is a program is not what a chip is.
        _ if trusted => WARNING,
        _ => NO_CLAIM,
    }
}
