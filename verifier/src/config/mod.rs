//! Configuration: raw TOML to checked values, all faults told at once.

mod anomalies;
mod commands;
mod logs;
mod raw;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quotary_common::envelope::Name;
use quotary_common::evidence::PcrValue;
use quotary_common::id::Digest;
use quotary_common::limits::LEASE_MS_MAX;
use quotary_common::quorum::roster::Word;
use quotary_common::tpm::PcrSelection;
use quotary_common::wire::Timing;
use quotary_decide::allocate::{Quota, Rule, Rules, Selector};
use quotary_decide::attest::{Authority, EkAllowList, ManufacturerRoots, Reference, TpmKind, TrustRoots, Zone, Zones};
use quotary_decide::ima;

pub use anomalies::AlarmRules;
use raw::{Raw, RawAuthority, RawCandidate, RawTiming, RawZone};

use crate::webhook::Webhook;

/// Checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The verifier's name within its deployment.
    pub name: Name,
    /// Where keys and store are.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How agents and operators reach it.
    pub url: String,
    /// Who certifies EKs.
    pub roots: TrustRoots,
    /// The only EKs that are admitted; absent: whoever has a join token.
    pub ek_allow_list: Option<EkAllowList>,
    /// Trust zones, best first.
    pub zones: Zones,
    /// Applications and quotas.
    pub rules: Rules,
    /// Times.
    pub timing: Times,
    /// Connections at once.
    pub connections_max: usize,
    /// Evidence kept per host.
    pub evidence_keep_per_host: u64,
    /// Days that metric history is kept.
    pub history_keep_days: u64,
    /// How often anomalies alarm, and how long they warn.
    pub alarms: AlarmRules,
    /// Event streams at once.
    pub event_streams_max: usize,
    /// Whom to tell of events.
    pub webhooks: Vec<Webhook>,
    /// Programs that quorum rules may name, by name: each with its arguments.
    pub commands: BTreeMap<Word, Vec<String>>,
    /// SHA-256 of the file.
    pub digest: Digest,
}

/// Times, ms; each longer than what it waits for.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// One metric window.
    pub window_ms: u64,
    /// One evidence.
    pub evidence_ms: u64,
    /// A nonce's life.
    pub nonce_ms: u64,
    /// How long trust holds.
    pub trust_ms: u64,
    /// A lease.
    pub lease_ms: u64,
    /// What is added before capacity is given on.
    pub lease_margin_ms: u64,
    /// One forecast step.
    pub forecast_step_ms: u64,
    /// A grant's size moves at most this often.
    pub resize_dwell_ms: u64,
}

impl Times {
    /// What agents are told.
    pub fn for_agents(&self) -> Timing {
        Timing { window_ms: self.window_ms, evidence_ms: self.evidence_ms, lease_ms: self.lease_ms }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML of this form.
    #[error("{}: {message}", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// Its values cannot be.
    #[error("{} has {} fault(s):\n{}", .path.display(), .faults.len(), list(.faults))]
    Values {
        /// The file.
        path: PathBuf,
        /// All of them.
        faults: Vec<String>,
    },
}

fn list(faults: &[String]) -> String {
    faults.iter().map(|fault| format!("  - {fault}")).collect::<Vec<_>>().join("\n")
}

/// Reads and checks a configuration file; relative paths in it are relative to it.
///
/// # Errors
/// [`ConfigError`] with all faults at once.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let base = path.parent().unwrap_or(Path::new("."));
    parse(&text, base, path)
}

/// Checks a configuration's text; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, base: &Path, path: &Path) -> Result<Config, ConfigError> {
    let raw: Raw = toml::from_str(text)
        .map_err(|error| ConfigError::Form { path: path.to_owned(), message: error.to_string() })?;
    let mut faults = Faults::default();
    let config = check(raw, base, text, &mut faults);
    match config {
        Some(config) if faults.0.is_empty() => Ok(config),
        _ => Err(ConfigError::Values { path: path.to_owned(), faults: faults.0 }),
    }
}

/// The zones of a configuration that is only tried: `text` is one as [`load`] takes, of which `[[zone]]` and `[ima]`
/// count; `files` are those that they name, by the name that stands there.
///
/// # Errors
/// All faults at once.
pub fn candidate_zones(text: &str, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Zones, Vec<String>> {
    let raw: RawCandidate = toml::from_str(text).map_err(|error| vec![error.to_string()])?;
    let mut faults = Faults::default();
    let read = |file: &Path| {
        let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "it did not come with the candidate");
        files.get(file).cloned().ok_or_else(missing)
    };
    let ima = raw.ima.as_ref().and_then(|ima| logs::reference(ima, &read, &mut faults));
    match check_zones(&raw.zone, ima, &mut faults) {
        Some(zones) if faults.0.is_empty() => Ok(zones),
        _ => Err(faults.0),
    }
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }
    fn note<T, E: std::fmt::Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(format!("{what}: {error}"))).ok()
    }
    fn name(&mut self, what: &str, text: &str) -> Option<Name> {
        let name = Name::new(text).filter(|name| !name.as_str().is_empty());
        if name.is_none() {
            self.add(format!("{what}: `{text}` is not a name of 1 to 128 characters"));
        }
        name
    }
}

fn check(raw: Raw, base: &Path, text: &str, faults: &mut Faults) -> Option<Config> {
    let name = faults.name("name", &raw.name);
    let listen = faults.note("listen", raw.listen.parse::<SocketAddr>());
    if !raw.url.starts_with("https://") {
        faults.add(format!("url: `{}` must begin with https://", raw.url));
    }
    let roots = check_authorities(&raw, base, faults);
    let ek_allow_list = raw.ek_allowlist.as_ref().and_then(|file| {
        let path = base.join(file);
        let what = format!("ek_allowlist {}", path.display());
        let text = faults.note(&what, std::fs::read_to_string(&path))?;
        faults.note(&what, EkAllowList::from_text(&text))
    });
    let ima = raw.ima.as_ref().and_then(|ima| logs::reference(ima, &logs::read_below(base), faults));
    let zones = check_zones(&raw.zone, ima, faults);
    let rules = check_rules(&raw, faults);
    let timing = check_timing(&raw.timing, faults);
    if raw.limits.connections_max == 0 {
        faults.add("limits.connections_max: must be at least 1");
    }
    if raw.limits.evidence_keep_per_host < 2 {
        faults.add("limits.evidence_keep_per_host: must be at least 2");
    }
    if !(1..=3650).contains(&raw.history.keep_days) {
        faults.add(format!("history.keep_days: {} is not between 1 and 3650", raw.history.keep_days));
    }
    let alarms = anomalies::check(&raw.anomalies, faults);
    let event_streams_max = webhooks::event_streams_max(&raw.limits, faults);
    let webhooks = webhooks::check(&raw.webhook, base, faults);
    let commands = commands::check(&raw.command, faults);
    Some(Config {
        name: name?,
        data_dir: base.join(raw.data_dir),
        listen: listen?,
        url: raw.url.trim_end_matches('/').to_owned(),
        roots: roots?,
        ek_allow_list,
        zones: zones?,
        rules: rules?,
        timing,
        connections_max: raw.limits.connections_max,
        history_keep_days: raw.history.keep_days,
        alarms,
        evidence_keep_per_host: raw.limits.evidence_keep_per_host,
        event_streams_max,
        webhooks,
        commands,
        digest: Digest::of(&[text.as_bytes()]),
    })
}

fn check_authorities(raw: &Raw, base: &Path, faults: &mut Faults) -> Option<TrustRoots> {
    let roots = check_site_authorities(&raw.ek_authority, base, faults)?;
    if !raw.ek_manufacturers {
        return Some(roots);
    }
    let manufacturers = faults.note("ek_manufacturers", ManufacturerRoots::built_in())?;
    Some(roots.with_manufacturers(&manufacturers))
}

fn check_site_authorities(raw: &[RawAuthority], base: &Path, faults: &mut Faults) -> Option<TrustRoots> {
    let mut authorities = Vec::new();
    for authority in raw {
        let path = base.join(&authority.file);
        let what = format!("ek_authority {}", path.display());
        let kind = match authority.tpm.as_str() {
            "hardware" => TpmKind::Hardware,
            "software" => TpmKind::Software,
            other => {
                faults.add(format!("{what}: tpm = `{other}` must be hardware or software"));
                continue;
            }
        };
        let Some(bytes) = faults.note(&what, std::fs::read(&path)) else { continue };
        if bytes.starts_with(b"-----") || bytes.windows(11).any(|w| w == b"-----BEGIN ") {
            for pem in x509_parser::pem::Pem::iter_from_buffer(&bytes) {
                if let Some(pem) = faults.note(&what, pem) {
                    authorities.push(Authority { certificate: pem.contents, kind });
                }
            }
        } else {
            authorities.push(Authority { certificate: bytes, kind });
        }
    }
    faults.note("ek_authority", TrustRoots::new(authorities))
}

fn check_zones(raw: &[RawZone], ima: Option<ima::Reference>, faults: &mut Faults) -> Option<Zones> {
    let zones = raw.iter().filter_map(|zone| {
        let what = format!("zone {}", zone.name);
        let name = faults.name("zone", &zone.name);
        let pcr_selection = faults.note(&what, zone.pcrs.parse::<PcrSelection>());
        let boot = zone.boot.as_ref().map(|boot| logs::boot(&what, boot, faults));
        let ima = zone.ima_on_unknown.as_deref().map(|word| logs::on_unknown(&what, word, faults));
        let reference = if zone.reference.is_empty() {
            Some(if boot.is_some() { Reference::Replayed } else { Reference::Learn })
        } else {
            check_reference(&what, &zone.reference, faults).map(Reference::Values)
        };
        Some(Zone {
            name: name?,
            pcr_selection: pcr_selection?,
            require_ek_certificate: zone.require_ek_certificate,
            require_hardware_tpm: zone.require_hardware_tpm,
            reference: reference?,
            boot,
            ima: ima.flatten(),
        })
    });
    let zones = zones.collect();
    faults.note("zone", Zones::with_ima(zones, ima))
}

fn check_reference(what: &str, raw: &BTreeMap<String, String>, faults: &mut Faults) -> Option<Vec<PcrValue>> {
    let mut values = Vec::new();
    for (pcr, hex) in raw {
        let selection = faults.note(&format!("{what}.reference"), pcr.parse::<PcrSelection>())?;
        let value = faults
            .note(&format!("{what}.reference.\"{pcr}\""), data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()))?;
        for (hash_alg, index) in selection.iter() {
            values.push(PcrValue { hash_alg, index, value: value.clone() });
        }
    }
    values.sort_unstable();
    Some(values)
}

fn check_rules(raw: &Raw, faults: &mut Faults) -> Option<Rules> {
    let mut tenants: BTreeMap<Name, Quota> = BTreeMap::new();
    for tenant in &raw.tenant {
        let Some(name) = faults.name("tenant", &tenant.name) else { continue };
        if tenants.insert(name, tenant.quota).is_some() {
            faults.add(format!("tenant {}: is there twice", tenant.name));
        }
    }
    let mut rules = Vec::new();
    let mut selectors = BTreeSet::new();
    for application in &raw.application {
        let what = format!("application {}", application.name);
        let selector = Selector {
            uid: application.uid,
            unit: application.unit.clone(),
            cgroup_prefix: application.cgroup_prefix.clone(),
        };
        if selector.cgroup_prefix.as_deref().is_some_and(|prefix| !prefix.starts_with('/')) {
            faults.add(format!("{what}: cgroup_prefix must begin with /"));
        }
        if !selectors.insert((selector.uid, selector.unit.clone(), selector.cgroup_prefix.clone())) {
            faults.add(format!("{what}: another application has the same selector, so neither would be more specific"));
        }
        let names = (faults.name(&what, &application.name), faults.name(&what, &application.tenant));
        let (Some(name), Some(tenant)) = names else { continue };
        if !raw.tenant.is_empty() && !tenants.contains_key(&tenant) {
            faults.add(format!("{what}: tenant `{tenant}` is not among [[tenant]]"));
        }
        rules.push(Rule {
            application: name,
            tenant,
            selector,
            class_best: application.class_best,
            quota: application.quota,
        });
    }
    if !(1..=1000).contains(&raw.overcommit_percent) {
        faults.add(format!("overcommit_percent: {} is not between 1 and 1000", raw.overcommit_percent));
        return None;
    }
    Some(Rules::new(rules, tenants, raw.overcommit_percent))
}

fn check_timing(raw: &RawTiming, faults: &mut Faults) -> Times {
    let mut less = |a: (&str, u64), b: (&str, u64)| {
        if a.1 >= b.1 {
            faults.add(format!("timing.{} ({} ms) must be less than timing.{} ({} ms)", a.0, a.1, b.0, b.1));
        }
    };
    less(("evidence_ms", raw.evidence_ms), ("nonce_ms", raw.nonce_ms));
    less(("evidence_ms", raw.evidence_ms), ("trust_ms", raw.trust_ms));
    less(("trust_ms", raw.trust_ms), ("lease_ms", raw.lease_ms));
    less(("lease_margin_ms", raw.lease_margin_ms), ("lease_ms", raw.lease_ms));
    if raw.lease_ms > LEASE_MS_MAX {
        faults.add(format!(
            "timing.lease_ms ({} ms) must not exceed {LEASE_MS_MAX} ms: agents refuse longer leases",
            raw.lease_ms
        ));
    }
    for (name, value) in [("window_ms", raw.window_ms), ("forecast_step_ms", raw.forecast_step_ms)] {
        if value == 0 {
            faults.add(format!("timing.{name}: must be at least 1"));
        }
    }
    if raw.window_ms > raw.evidence_ms {
        faults.add(format!(
            "timing.window_ms ({} ms) must not exceed timing.evidence_ms ({} ms)",
            raw.window_ms, raw.evidence_ms
        ));
    }
    if raw.window_ms > raw.forecast_step_ms {
        faults.add("timing.window_ms must not exceed timing.forecast_step_ms");
    }
    Times {
        window_ms: raw.window_ms,
        evidence_ms: raw.evidence_ms,
        nonce_ms: raw.nonce_ms,
        trust_ms: raw.trust_ms,
        lease_ms: raw.lease_ms,
        lease_margin_ms: raw.lease_margin_ms,
        forecast_step_ms: raw.forecast_step_ms,
        resize_dwell_ms: raw.resize_dwell_ms,
    }
}
