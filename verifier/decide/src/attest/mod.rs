//! Attestation: who a host is, whether its evidence holds, and which trust zone it is in.
//!
//! Does: decides enrolments ([`check_enrolment`], [`EkAllowList`], [`make_credential`]), checks evidence in a fixed order
//! ([`precheck`], [`verify`]) and appraises it ([`appraise`]).
//! May assume: that the caller serialises commits per host (a host's [`Committed`] moves one step at a time).
//! Promises: pure, total and bounded; the first check that fails names its reason; a refusal is a value.
//! Must never: believe a PCR value, PCR number or host id that no signature covers; let a later type be made
//! otherwise than by the earlier step; say more about a failed activation than that it failed.
//!
//! # The order of checks (design §5), and who may build what
//!
//! | step | checks | makes |
//! |---|---|---|
//! | [`precheck`] | bounds; known host; TLS key of the connection; canonical form; deployment, host and TLS key of the envelope; sequence; nonce's MAC and life | [`Prechecked`]: [`NextEvidence`], [`OutOfOrderEvidence`] or [`RepeatedEvidence`] |
//! | [`verify`] | signature over the raw bytes; magic and type; `qualifiedSigner`; `extraData`; PCR selection both ways; PCR digest; clock; chain | [`VerifiedEvidence`], from [`NextEvidence`] only |
//! | [`verify_out_of_order`] | the same as far as `extraData` | always a refusal: `chain-forked` or `sequence-stale` |
//! | [`appraise`] | the zones, best first | [`Appraisal`], from [`VerifiedEvidence`] only |
//!
//! All that [`precheck`] does is cheap (decoding, one hash of the envelope, one MAC), and a stranger costs not even the
//! decoding, so that a flood costs no signature check. Evidence out of order skips the nonce, since its nonce died with
//! the commit of its sequence; the caller caps its rate (wire.md, settled question 3).
//!
//! An auditor who has no nonce key takes the nonce's validity from the log and calls [`prove_quote`] (question 14).

mod allowlist;
mod appraise;
mod chain;
mod credential;
mod enrol;
mod logs;
mod precheck;
mod quote;
mod recorded;
mod stages;
mod userspace;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use quotary_common::envelope::Name;
use quotary_common::id::{Digest, HostId};
use quotary_common::tpm::{AkKey, ClockInfo};

pub use allowlist::{EkAllowList, EkAllowListError};
pub use appraise::{Appraisal, LearnedReferences, Reference, Zone, Zones, ZonesError, appraise};
pub use chain::{
    Authority, CertifiedBy, ChainCertificate, ChainFault, ManufacturerRoots, RootsError, SplitError, TpmKind,
    TrustRoots, split_der_certificates,
};
pub(crate) use chain::{ChainQuestion, examine, from_spki_der, is_pem, pem_blocks};
pub(crate) use enrol::check_ak as accept_ak;
pub(crate) use quote::proven_values;

pub use credential::{Credential, CredentialError, activation_digest, check_activation, make_credential};
pub use enrol::{CheckedEnrolment, EnrolmentClaim, check_enrolment};
pub use logs::{
    BootRequirement, FINDING_DETAIL_BYTES_MAX, HeldBoot, HeldLogs, IMA_FINDINGS_MAX, LOG_FINDINGS_MAX, LogFinding,
    Measured, OnUnknown, measure,
};
pub use precheck::{Arrival, NextEvidence, OutOfOrderEvidence, Prechecked, RepeatedEvidence, precheck};
pub use quote::{ProvenQuote, Signer, prove_quote};
pub use recorded::{DryRun, RecordedEvidence};
pub use userspace::{USERSPACE_PCRS, carried_records};
pub use verify::{Finding, VerifiedEvidence, verify, verify_out_of_order};

/// What the verifier knows of a host that has enrolled.
#[derive(Debug, Clone)]
pub struct EnrolledHost {
    /// Its id.
    pub host: HostId,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS client key.
    pub tls_key: Digest,
    /// Its attestation key, prepared once.
    pub ak: AkKey,
    /// What `qualifiedSigner` must be in its quotes ([`CheckedEnrolment::qualified_signer`]).
    pub qualified_signer: Vec<u8>,
    /// Whether its EK is certified by a configured authority.
    pub ek_certified: bool,
    /// Whether that authority certifies chips.
    pub hardware_tpm: bool,
    /// Whether the list of admitted EKs has it, where there is one.
    pub is_listed: bool,
    /// The best zone that its admission allows.
    pub best_zone: Name,
    /// What was last committed.
    pub committed: Committed,
}

/// The last committed evidence of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its sequence number; 0 before the first.
    pub sequence: u64,
    /// SHA-256 of its envelope; 32 zero bytes before the first.
    pub envelope: Digest,
    /// Where the TPM stood; `None` before the first.
    pub clock: Option<ClockPosition>,
}

impl Committed {
    /// Nothing yet: a new enrolment, or a chain that restarts with a new AK.
    pub const NOTHING: Self = Self { sequence: 0, envelope: Digest::new([0; 32]), clock: None };
}

/// A TPM's place in its own time; the order of the fields is the order of comparison, since a reset sets
/// `restart_count` back, and a loss of power may set the clock back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockPosition {
    /// Resets (boots).
    pub reset_count: u32,
    /// Restarts and resumes since then.
    pub restart_count: u32,
    /// Milliseconds.
    pub clock_ms: u64,
}

impl From<ClockInfo> for ClockPosition {
    fn from(clock: ClockInfo) -> Self {
        Self { reset_count: clock.reset_count, restart_count: clock.restart_count, clock_ms: clock.clock_ms }
    }
}
