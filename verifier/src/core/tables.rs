//! Which rows the rooms keep, and how their keys are made.

use quotary_common::id::{Digest, GrantId, HostId, PlanId};
use quotary_decide::registry::HostRecord;

use crate::store::{Partition, Table};

/// Host id → `HostRecord`.
pub(crate) const HOSTS: Table = Table::new("hosts");
/// Host id → `HostProgress`.
pub(crate) const PROGRESS: Table = Table::new("progress");
/// Host id → signed grant set of the last reply, and the ids of the plans that it names, where there are any.
pub(crate) const REPLIES: Table = Table::new("replies");
/// Host id ‖ grant id → `GrantRecord`.
pub(crate) const GRANTS: Table = Table::new("grants");
/// Digest → evidence bytes.
pub(crate) const EVIDENCE: Table = Table::new("evidence");
/// Host id ‖ enrolment time ‖ sequence → commit time ‖ evidence digest ‖ envelope digest.
pub(crate) const SEQUENCES: Table = Table::new("sequences");
/// Host id ‖ plan id → `PlanRecord`.
pub(crate) const PLANS: Table = Table::new("plans");
/// Host id → what limits would have done on it.
pub(crate) const OBSERVED: Table = Table::new("observed");
/// Host id, or `sums` ‖ when it was made (Unix ms, big-endian) ‖ part (16 bits, big-endian) → a chunk of metric history.
pub(crate) const HISTORY: Table = Table::new("history");
/// Token id → `TokenRecord`.
pub(crate) const TOKENS: Table = Table::new("tokens");
/// Zone name → its learned values.
pub(crate) const ZONES: Table = Table::new("zones");

/// Where an alarm began (Unix ms, big-endian) ‖ host id, or the sum's name → `AlarmRecord`.
pub(crate) const ANOMALIES: Table = Table::new("anomalies");
/// [`JUDGED_UNTIL`] → Unix ms, big-endian: every step that ended before was judged, and its alarms are kept.
pub(crate) const JUDGED: Table = Table::new("judged");
/// The key in [`JUDGED`].
pub(crate) const JUDGED_UNTIL: &[u8] = b"until";

/// `set` → which models are in force; `manifest` ‖ digest, `onnx` ‖ digest ‖ part → a model's files; `record` ‖ digests of both → what is
/// kept of a contest.
pub(crate) const MODELS: Table = Table::new("models");

/// `now` → who decides about changes; `link` ‖ number (big-endian) → the decision that made the roster or rules another one.
pub(crate) const AUTHORITY: Table = Table::new("authority");
/// The key of who decides now, in [`AUTHORITY`].
pub(crate) const AUTHORITY_NOW: &[u8] = b"now";
/// What keys of links in [`AUTHORITY`] begin with.
pub(crate) const AUTHORITY_LINK: &[u8] = b"link";
/// Policy's name → its document in force.
pub(crate) const POLICIES: Table = Table::new("policies");
/// Change id → the change with its text and votes.
pub(crate) const CHANGES: Table = Table::new("changes");

/// SHA-256 of a webhook's url → the first leaf that its receiver has not acknowledged, big-endian.
pub(crate) const WEBHOOKS: Table = Table::new("webhooks");

/// Key in [`GRANTS`].
pub(crate) fn grant_key(host: &HostId, grant: &GrantId) -> Vec<u8> {
    [host.as_bytes().as_slice(), grant.as_bytes()].concat()
}

/// What keys of a host (none: of sums) in [`HISTORY`] begin with, and the partition that they are in.
pub(crate) fn history_prefix(host: Option<&HostId>) -> (Partition, Vec<u8>) {
    match host {
        Some(host) => (Partition::of_host(host), host.as_bytes().to_vec()),
        None => (Partition::Deployment, b"sums".to_vec()),
    }
}

/// Key in [`HISTORY`].
pub(crate) fn history_key(host: Option<&HostId>, made_at_ms: u64, part: u16) -> Vec<u8> {
    [history_prefix(host).1.as_slice(), &made_at_ms.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// When the chunk under a key in [`HISTORY`] was made, Unix ms.
pub(crate) fn history_made_at_ms(key: &[u8]) -> Option<u64> {
    let (rest, _part) = key.split_last_chunk::<2>()?;
    rest.split_last_chunk::<8>().map(|(_, made)| u64::from_be_bytes(*made))
}

/// The number of a link in [`AUTHORITY`], by its key.
pub(crate) fn link_number(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(AUTHORITY_LINK)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// Key of a link in [`AUTHORITY`].
pub(crate) fn link_key(number: u64) -> Vec<u8> {
    [AUTHORITY_LINK, &number.to_be_bytes()].concat()
}

/// Key in [`PLANS`].
pub(crate) fn plan_key(host: &HostId, plan: &PlanId) -> Vec<u8> {
    [host.as_bytes().as_slice(), plan.as_bytes()].concat()
}

/// What a host's keys in [`SEQUENCES`] begin with: sequences start anew with each enrolment.
pub(crate) fn sequence_prefix(record: &HostRecord) -> Vec<u8> {
    [record.host.as_bytes().as_slice(), &record.enrolled_at_ms.to_be_bytes()].concat()
}

/// Key in [`SEQUENCES`].
pub(crate) fn sequence_key(record: &HostRecord, sequence: u64) -> Vec<u8> {
    let mut key = sequence_prefix(record);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// A value in [`SEQUENCES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SequenceRow {
    /// When it was committed, Unix ms.
    pub(crate) committed_at_ms: u64,
    /// SHA-256 of the evidence.
    pub(crate) evidence: Digest,
    /// SHA-256 of its envelope.
    pub(crate) envelope: Digest,
}

impl SequenceRow {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.committed_at_ms.to_be_bytes().as_slice(), self.evidence.as_bytes(), self.envelope.as_bytes()].concat()
    }
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, digests) = bytes.split_first_chunk::<8>()?;
        let (evidence, envelope) = digests.split_first_chunk::<32>()?;
        Some(Self {
            committed_at_ms: u64::from_be_bytes(*time),
            evidence: Digest::new(*evidence),
            envelope: Digest::new(envelope.try_into().ok()?),
        })
    }
}
