//! Leaves of the audit log: one decision each, with the digest of what it was decided on (design §11).

mod change;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use self::change::{AuthoritySet, ChangeMoved, PolicyWatched, VoteCast};
use crate::anomaly::Anomaly;
use crate::cbor::{self, Bounded, CborError, Text, Version};
use crate::envelope::{Name, WitnessedCheckpoint};
use crate::evidence::PcrValue;
use crate::id::{Digest, GrantId, HostId, PlanId, RequestId, TokenId};
use crate::limits::{BATCH_VERDICTS_MAX, LEAF_BYTES_MAX, PCR_BANKS_MAX, PCR_COUNT, REASONS_MAX};
use crate::plan::Target;
use crate::reason::{Reason, Refusal};
use crate::sign::PublicKey;
use crate::units::{Class, Resources};

/// A leaf, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Leaf {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// When it was decided, Unix ms, on the verifier's clock.
    #[n(1)]
    pub at_ms: u64,
    /// Who caused it: `host h-…`, `token t-…` (an operator's), `verifier`, `init`, or `unknown`.
    #[n(2)]
    pub actor: Text<160>,
    /// What was decided.
    #[n(3)]
    pub decision: Decision,
}

impl Leaf {
    /// Canonical bytes: what the tree hashes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`CborError`] when they are too many or not the canonical form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_bytes(bytes, LEAF_BYTES_MAX)
    }
}

/// What was decided, per kind. A kind keeps its number and meaning for ever.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Decision {
    /// The log begins: leaf 0.
    #[n(1)]
    Genesis(#[n(0)] Genesis),
    /// A host was enrolled, or enrolled again with a new attestation key (`replaced`).
    #[n(2)]
    Enrolled(#[n(0)] Enrolled),
    /// Something was refused.
    #[n(3)]
    Refused(#[n(0)] Refused),
    /// A host's verdict or zone changed.
    #[n(4)]
    VerdictChanged(#[n(0)] VerdictChanged),
    /// Evidence accepted in one commit without any change of verdict.
    #[n(5)]
    Verdicts(#[n(0)] Verdicts),
    /// A grant was given, changed in size, or ended.
    #[n(6)]
    Granted(#[n(0)] Granted),
    /// A host's epoch was raised.
    #[n(7)]
    EpochRaised(#[n(0)] EpochRaised),
    /// A token was made.
    #[n(8)]
    TokenMade(#[n(0)] TokenMade),
    /// A zone learned its reference values from its first host.
    #[n(9)]
    ZoneLearned(#[n(0)] ZoneLearned),
    /// The verifier started with this state.
    #[n(10)]
    Started(#[n(0)] Started),
    /// A shaping plan was made, or is over.
    #[n(11)]
    Planned(#[n(0)] Planned),
    /// Series of a host, or of a sum, behaved oddly.
    #[n(12)]
    Anomaly(#[n(0)] Anomaly),
    /// Another model forecasts, or is tried.
    #[n(13)]
    ModelChanged(#[n(0)] ModelChanged),
    /// A change of a policy, the roster or the rules went from one state to another.
    #[n(14)]
    ChangeMoved(#[n(0)] ChangeMoved),
    /// Somebody voted on a change.
    #[n(15)]
    VoteCast(#[n(0)] VoteCast),
    /// The deployment's root put the first roster and rules in force.
    #[n(16)]
    AuthoritySet(#[n(0)] AuthoritySet),
    /// Use went beyond a policy's threshold, or nobody needs the policy.
    #[n(17)]
    PolicyWatched(#[n(0)] PolicyWatched),
}

/// Leaf 0.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Genesis {
    /// The deployment's root key.
    #[n(0)]
    pub root: PublicKey,
    /// SHA-256 of the configuration in force.
    #[n(1)]
    pub configuration: Digest,
    /// Who decides about changes, as the root signed it; absent where nobody does yet.
    #[n(2)]
    pub authority: Option<AuthoritySet>,
}

/// An enrolment: it carries the keys, so that an auditor needs no other source for them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolled {
    /// The host.
    #[n(0)]
    pub host: HostId,
    /// `TPMT_PUBLIC` of the EK.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ek_public: Vec<u8>,
    /// `TPMT_PUBLIC` of the AK.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ak_public: Vec<u8>,
    /// The TLS key.
    #[n(3)]
    pub tls_key: Digest,
    /// Issuer of the EK certificate, when one was accepted.
    #[n(4)]
    pub ek_issuer: Option<Text<512>>,
    /// The join token.
    #[n(5)]
    pub token: TokenId,
    /// The host was enrolled before, with another attestation key (`ak-replaced`).
    #[n(6)]
    pub replaced: bool,
    /// The epoch from now on.
    #[n(7)]
    pub epoch: u64,
}

/// A refusal of something that concerns a host, a request or a caller.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// The host it was about, if known.
    #[n(0)]
    pub host: Option<HostId>,
    /// What was tried: `evidence`, `enrolment`, `activation`, `request`, …
    #[n(1)]
    pub what: Text<32>,
    /// Why.
    #[n(2)]
    pub refusal: Refusal,
    /// SHA-256 of what it was decided on.
    #[n(3)]
    pub input: Digest,
    /// The request, when one was refused.
    #[n(4)]
    pub request: Option<RequestId>,
    /// How many alike were refused since the last leaf of this kind for this host (floods are counted, not listed).
    #[n(5)]
    pub count: u64,
}

/// One accepted evidence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Verdict {
    /// The host.
    #[n(0)]
    pub host: HostId,
    /// The envelope's sequence number.
    #[n(1)]
    pub sequence: u64,
    /// SHA-256 of the evidence bytes: its name in the store.
    #[n(2)]
    pub evidence: Digest,
}

/// Unchanged verdicts of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Verdicts {
    /// They.
    #[n(0)]
    pub accepted: Bounded<Verdict, BATCH_VERDICTS_MAX>,
}

/// A change of verdict or zone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VerdictChanged {
    /// The evidence it rests on.
    #[n(0)]
    pub verdict: Verdict,
    /// The zone that the host was in.
    #[n(1)]
    pub from: Option<Name>,
    /// The zone that it is in.
    #[n(2)]
    pub to: Option<Name>,
    /// Findings behind it.
    #[n(3)]
    pub findings: Bounded<Reason, REASONS_MAX>,
}

/// A grant's beginning, change or end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Granted {
    /// The host.
    #[n(0)]
    pub host: HostId,
    /// The grant.
    #[n(1)]
    pub grant: GrantId,
    /// What happened to it.
    #[n(2)]
    pub change: GrantChange,
    /// The application.
    #[n(3)]
    pub application: Name,
    /// The tenant.
    #[n(4)]
    pub tenant: Name,
    /// The class.
    #[n(5)]
    pub class: Class,
    /// What it may use from now on (empty at its end).
    #[n(6)]
    pub resources: Resources,
    /// The envelope that it was decided on.
    #[n(7)]
    pub input: Digest,
    /// Why it has its size (absent at its end).
    #[n(8)]
    pub why: Option<Text<512>>,
    /// SHA-256 of the model whose forecast its size rests on, when one does.
    #[n(9)]
    pub model: Option<Digest>,
}

/// What happened to a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum GrantChange {
    /// It was given.
    #[n(1)]
    Given,
    /// Its size changed.
    #[n(2)]
    Resized,
    /// The application released it.
    #[n(3)]
    Released,
    /// Its lease ended without news.
    #[n(4)]
    Expired,
    /// It was revoked with the host's epoch.
    #[n(5)]
    Revoked,
}

/// A raised epoch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EpochRaised {
    /// The host.
    #[n(0)]
    pub host: HostId,
    /// The new epoch.
    #[n(1)]
    pub epoch: u64,
    /// Why.
    #[n(2)]
    pub refusal: Refusal,
    /// SHA-256 of the evidence that showed it.
    #[n(3)]
    pub input: Digest,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TokenMade {
    /// Its public id.
    #[n(0)]
    pub token: TokenId,
    /// What it is for: `join` or `operator`.
    #[n(1)]
    pub what: Text<16>,
    /// Its rights or best zone, as text.
    #[n(2)]
    pub scope: Text<256>,
    /// Until when it holds, Unix ms.
    #[n(3)]
    pub not_after_ms: u64,
}

/// A zone's learned reference values.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ZoneLearned {
    /// The zone.
    #[n(0)]
    pub zone: Name,
    /// The evidence that they came from.
    #[n(1)]
    pub verdict: Verdict,
    /// The values.
    #[n(2)]
    pub values: Bounded<PcrValue, { PCR_BANKS_MAX * PCR_COUNT }>,
}

/// A shaping plan's beginning or end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Planned {
    /// The host.
    #[n(0)]
    pub host: HostId,
    /// The plan.
    #[n(1)]
    pub plan: PlanId,
    /// What happened to it.
    #[n(2)]
    pub change: PlanChange,
    /// What it moves.
    #[n(3)]
    pub target: Target,
    /// SHA-256 of the signed plan.
    #[n(4)]
    pub input: Digest,
    /// Where it goes, as text (absent at its end).
    #[n(5)]
    pub what: Option<Text<512>>,
}

/// What happened to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum PlanChange {
    /// An operator drafted it.
    #[n(1)]
    Drafted,
    /// An operator cancelled it.
    #[n(2)]
    Cancelled,
    /// A newer plan for the same target took its place.
    #[n(3)]
    Replaced,
    /// The host's epoch was raised over it.
    #[n(4)]
    Voided,
    /// Its end has come.
    #[n(5)]
    Ended,
}

impl PlanChange {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drafted => "drafted",
            Self::Cancelled => "cancelled",
            Self::Replaced => "replaced",
            Self::Voided => "voided",
            Self::Ended => "ended",
        }
    }
}

/// A change among the models that forecast.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ModelChanged {
    /// What happened.
    #[n(0)]
    pub change: ModelChange,
    /// The model that it happened to: SHA-256 of its ONNX file.
    #[n(1)]
    pub model: Digest,
    /// Its name, by its manifest.
    #[n(2)]
    pub name: Text<64>,
    /// The model that forecasts from now on; absent where none does.
    #[n(3)]
    pub champion: Option<Digest>,
    /// SHA-256 of what it was decided on: of a trial the manifest, of a promotion the contest's record; absent where an operator's word or the
    /// figures in `why` are all that there is.
    #[n(4)]
    pub input: Option<Digest>,
    /// Why, with the figures.
    #[n(5)]
    pub why: Text<512>,
}

/// What happened to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ModelChange {
    /// It is tried beside the champion.
    #[n(1)]
    Shadowed,
    /// It is tried no longer.
    #[n(2)]
    Withdrawn,
    /// It took the champion's place.
    #[n(3)]
    Promoted,
    /// An operator took its place back.
    #[n(4)]
    RolledBack,
    /// Its lines no longer held: the model before it forecasts again.
    #[n(5)]
    Returned,
}

impl ModelChange {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shadowed => "shadowed",
            Self::Withdrawn => "withdrawn",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::Returned => "returned",
        }
    }
}

/// A start of the verifier.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Started {
    /// Version of the verifier.
    #[n(0)]
    pub version: Name,
    /// SHA-256 of its configuration.
    #[n(1)]
    pub configuration: Digest,
    /// The highest checkpoint that a host has witnessed, if any.
    #[n(2)]
    pub witnessed: Option<WitnessedCheckpoint>,
}
