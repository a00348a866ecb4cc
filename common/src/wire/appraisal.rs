//! What is said of a host's appraisal: how it stands, how it would stand in other zones, and the end of its trust.

use serde::{Deserialize, Serialize};

use super::route::Base64;
use crate::id::{Digest, HostId};

/// How a host stood in each zone, by its last evidence since the verifier started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppraisalView {
    /// The host.
    pub host: HostId,
    /// When it was appraised, Unix ms.
    pub at_ms: u64,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// The best zone that it may enter.
    pub zone_best: String,
    /// Why it is in no better one: the first thing that failed in each zone that was tried.
    pub failed: Vec<super::Error>,
    /// Whether Secure Boot was on; absent where it cannot be said.
    pub secure_boot: Option<bool>,
    /// The evidence that brought the boot log.
    pub boot_log_evidence: Option<Digest>,
    /// Entries of its IMA list that are known.
    pub ima_entries: Option<u64>,
    /// Findings in them.
    pub ima_findings: Option<u64>,
    /// What the logs show, each with its event.
    pub findings: Vec<FindingView>,
}

/// One thing that a log shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FindingView {
    /// The zone whose requirement it fails; absent where it is about the host.
    pub zone: Option<String>,
    /// Its fixed code.
    pub code: String,
    /// The number of the event or entry.
    pub event: Option<u64>,
    /// What was seen, and what would satisfy the check.
    pub detail: String,
}

/// Zones to try.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneCheckRequest {
    /// A verifier's configuration in TOML, of which `[[zone]]` and `[ima]` count.
    pub candidate: String,
    /// The files that it names.
    #[serde(default)]
    pub files: Vec<NamedFile>,
    /// Which hosts; none: all.
    #[serde(default)]
    pub hosts: Vec<HostId>,
    /// What the calls before this one, of the same dry run, taught its zones ([`ZoneCheckReply::learned`]).
    #[serde(default)]
    pub learned: Vec<TaughtZone>,
}

/// The reference values that a dry run's hosts would teach a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaughtZone {
    /// The zone.
    pub zone: String,
    /// Its PCR values: canonical CBOR, a list of [`PcrValue`](crate::evidence::PcrValue).
    pub values: Base64,
}

/// A file that a configuration names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// As it stands in the configuration.
    pub name: String,
    /// What is in it.
    pub bytes: Base64,
}

/// What a dry run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneCheckReply {
    /// Why the candidate cannot be, all at once; then no host was looked at.
    pub faults: Vec<String>,
    /// How each host would stand.
    pub hosts: Vec<ZoneCheckView>,
    /// What its zones would have learned, from these hosts and those of the calls before: for the next call.
    #[serde(default)]
    pub learned: Vec<TaughtZone>,
}

/// How one host would stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneCheckView {
    /// The host.
    pub host: HostId,
    /// Its short form.
    pub id: String,
    /// Its name, as it says itself.
    pub hostname: Option<String>,
    /// What would become of it.
    pub outcome: ZoneCheckOutcome,
    /// The zone that it is in now.
    pub zone_now: Option<String>,
    /// The zone that it would be in.
    pub zone_then: Option<String>,
    /// It would teach that zone its reference values.
    pub teaches: bool,
    /// What failed in each better zone.
    pub failed: Vec<super::Error>,
    /// What would be noticed and keep it from no zone.
    pub warnings: Vec<FindingView>,
    /// The evidence that was judged last.
    pub evidence: Option<Digest>,
    /// Why nothing can be said.
    pub unknown: Option<String>,
}

/// What would become of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneCheckOutcome {
    /// The same zone.
    Stays,
    /// Another zone.
    Moves,
    /// It is in a zone, and would be in none.
    Leaves,
    /// It would be in none, and its epoch would rise.
    IsRevoked,
    /// It is in no zone, and would be in one.
    Enters,
    /// In none, now and then.
    StaysOut,
    /// What is recorded does not say.
    Unknown,
}

/// Revokes a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// Why, as it will stand in the log: 1 to 256 bytes.
    pub why: String,
}

/// A host that was revoked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevocationReply {
    /// Its new epoch.
    pub epoch: u64,
}
