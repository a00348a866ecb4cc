//! What an audit found.

use std::collections::BTreeMap;

use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::Decision;
use serde::Serialize;

/// Most faults, missing evidence and witness conflicts that a report lists; the counts go on.
pub const LISTED_MAX: usize = 1_000;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The leaf that it was found at; absent for the log as a whole.
    pub leaf: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Evidence that a leaf names and that is not among the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingEvidence {
    /// The leaf.
    pub leaf: u64,
    /// The host.
    pub host: HostId,
    /// The envelope's sequence number.
    pub sequence: u64,
    /// SHA-256 of the evidence.
    pub evidence: Digest,
}

/// The outcome of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The log's name.
    pub origin: String,
    /// Number of leaves, as signed; 0 when no checkpoint held.
    pub size: u64,
    /// Root hash, as signed; absent when no checkpoint held.
    pub root: Option<Digest>,
    /// Leaves read, by kind of decision.
    pub leaves_by_kind: BTreeMap<&'static str, u64>,
    /// Evidence whose quote, chain and clock were checked and hold.
    pub evidence_verified: u64,
    /// Evidence that is not among the files (pruned, or withheld).
    pub evidence_missing: u64,
    /// The first [`LISTED_MAX`] of these.
    pub missing: Vec<MissingEvidence>,
    /// Checkpoints that hosts stated under a quote, and that are this log's.
    pub witnesses_agreeing: u64,
    /// Checkpoints that hosts stated under a quote, and that are not this log's: either that host lies, or it was
    /// shown another log. They do not make the log itself wrong (a lying host must not be able to do that), but
    /// somebody must look.
    pub witness_conflicts: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
    /// The first [`LISTED_MAX`] of them.
    pub faults: Vec<Fault>,
    /// Whether everything that the leaves name was there to be checked.
    pub complete: bool,
    /// Whether the checkpoint holds, the leaves are what it signed, and nothing that was checked has a fault.
    pub verified: bool,
    /// What the audit took on trust, in sentences.
    pub notes: Vec<String>,
}

impl AuditReport {
    pub(super) fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            size: 0,
            root: None,
            leaves_by_kind: BTreeMap::new(),
            evidence_verified: 0,
            evidence_missing: 0,
            missing: Vec::new(),
            witnesses_agreeing: 0,
            witness_conflicts: Vec::new(),
            fault_count: 0,
            faults: Vec::new(),
            complete: false,
            verified: false,
            notes: Vec::new(),
        }
    }

    pub(super) fn fault(&mut self, leaf: Option<u64>, what: impl Into<String>) {
        self.fault_count += 1;
        list(&mut self.faults, Fault { leaf, what: what.into() });
    }

    pub(super) fn missing(&mut self, missing: MissingEvidence) {
        self.evidence_missing += 1;
        list(&mut self.missing, missing);
    }

    pub(super) fn witness_conflict(&mut self, leaf: u64, what: String) {
        list(&mut self.witness_conflicts, Fault { leaf: Some(leaf), what });
    }
}

fn list<T>(to: &mut Vec<T>, item: T) {
    if to.len() < LISTED_MAX {
        to.push(item);
    }
}

/// The name of a decision's kind, as reports and lists show it.
pub const fn kind_of(decision: &Decision) -> &'static str {
    match decision {
        Decision::Genesis(_) => "genesis",
        Decision::Enrolled(_) => "enrolled",
        Decision::Refused(_) => "refused",
        Decision::VerdictChanged(_) => "verdict-changed",
        Decision::Verdicts(_) => "verdicts",
        Decision::Granted(_) => "granted",
        Decision::EpochRaised(_) => "epoch-raised",
        Decision::TokenMade(_) => "token-made",
        Decision::ZoneLearned(_) => "zone-learned",
        Decision::Started(_) => "started",
        Decision::Planned(_) => "planned",
        Decision::Anomaly(_) => "anomaly",
        Decision::ModelChanged(_) => "model-changed",
        Decision::ChangeMoved(_) => "change-moved",
        Decision::VoteCast(_) => "vote-cast",
        Decision::AuthoritySet(_) => "authority-set",
        Decision::PolicyWatched(_) => "policy-watched",
    }
}
