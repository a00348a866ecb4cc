//! What agents say to the verifier and hear from it: enrolment, nonces, evidence.

use serde::{Deserialize, Serialize};

use super::route::Base64;
use crate::id::{BootId, DeploymentId, Digest, EnrolmentId, HostId};
/// Asks for enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The join token's secret.
    pub join_secret: Base64,
    /// `TPMT_PUBLIC` of the EK.
    pub ek_public: Base64,
    /// EK certificate, then its chain, DER.
    pub ek_certificates: Vec<Base64>,
    /// `TPMT_PUBLIC` of the AK.
    pub ak_public: Base64,
    /// The host id that the agent believes it has: refused when the EK gives another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
}

/// What only the TPM that holds both keys can answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentChallenge {
    /// Random; where to send the answer.
    pub enrolment: EnrolmentId,
    /// `TPM2B_ID_OBJECT`
    pub credential_blob: Base64,
    /// `TPM2B_ENCRYPTED_SECRET`
    pub encrypted_secret: Base64,
}

/// The activated credential.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationRequest {
    /// What `TPM2_ActivateCredential` gave.
    pub secret: Base64,
}

/// An enrolment that held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentReply {
    /// The host's id, for ever.
    pub host: HostId,
    /// The deployment's id.
    pub deployment: DeploymentId,
    /// The verifier's key certificate, signed by the deployment root (canonical [`crate::sign::Signed`]).
    pub keys: Base64,
    /// The host's epoch.
    pub epoch: u64,
    /// The host's timing.
    pub timing: Timing,
}

/// How often things happen, as the verifier wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// One metric window, ms.
    pub window_ms: u64,
    /// One evidence, ms.
    pub evidence_ms: u64,
    /// How long a lease is, ms.
    pub lease_ms: u64,
}

/// PCRs of one bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcrBank {
    /// TCG algorithm id (11 is SHA-256).
    pub hash_alg: u16,
    /// Indices, ascending.
    pub pcrs: Vec<u8>,
}

/// A nonce and what the next evidence must follow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NonceReply {
    /// 32 bytes.
    pub nonce: Base64,
    /// Which PCRs the quote must cover, exactly.
    pub pcr_selection: Vec<PcrBank>,
    /// The sequence number of the next envelope.
    pub next_sequence: u64,
    /// SHA-256 of the last committed envelope; zeros before the first.
    pub predecessor: Digest,
    /// The newest checkpoint, as a signed note.
    pub checkpoint: String,
    /// Consistency proof from the checkpoint that the host's last committed envelope witnessed (RFC 9162 order).
    pub consistency: Vec<Digest>,
    /// Which logs the evidence should carry.
    #[serde(default)]
    pub logs: LogsWanted,
}

/// Logs that the verifier's zones ask for, and what it already has of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogsWanted {
    /// Whether the boot log is wanted.
    pub boot_log: bool,
    /// Whether the IMA list is wanted.
    pub ima_list: bool,
    /// The boot of which it has something; of another boot it has nothing.
    pub held_of: Option<BootId>,
    /// Whether it has that boot's log.
    pub has_boot_log: bool,
    /// From which byte of that boot's IMA list on it wants to go on.
    pub ima_offset_bytes: u64,
    /// Whether the measure log is wanted. It goes on from the boot log, so that whoever sends one sends both.
    #[serde(default)]
    pub measure_log: bool,
    /// SHA-256 of as much of that boot's measure log as it has held against a quote; who has another one sends it.
    #[serde(default)]
    pub measure_log_held: Option<Digest>,
}

/// Evidence.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceRequest {
    /// Canonical bytes of [`crate::evidence::Evidence`].
    pub evidence: Base64,
}

/// What accepted evidence brings. (A refusal is a [`super::Error`] with its status.)
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EvidenceReply {
    /// SHA-256 of the evidence bytes: its name.
    pub evidence: Digest,
    /// The zone that the host is in.
    pub zone: String,
    /// What was noticed and did not refuse it: `clock-unsafe`, `rebooted`, `resumed`.
    pub findings: Vec<String>,
    /// Until when the host is trusted, Unix ms, without further evidence.
    pub valid_until_ms: u64,
    /// The signed grant set (canonical [`crate::sign::Signed`]).
    pub grant_set: Base64,
    /// Signed plans (canonical [`crate::sign::Signed`]).
    pub plans: Vec<Base64>,
    /// How many times who decides was changed; absent where nobody was put in force yet. An agent whose pin is older asks
    /// for what it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<u64>,
    /// Stands for the quorum decisions in force that may reach the host; absent where there are none. An agent that knows
    /// another name asks which they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum_decisions: Option<Digest>,
    /// What the next evidence needs.
    pub next: NonceReply,
}
