//! Leaves of changes: who asked for what, who voted, and what became of it.

use minicbor::{Decode, Encode};

use crate::cbor::Text;
use crate::envelope::Name;
use crate::id::{ChangeId, Digest};
use crate::limits::{DETAIL_BYTES_MAX, PERSON_BYTES_MAX};
use crate::quorum::authority::Authority;
use crate::quorum::vote::Verb;

/// A change went from one state to another.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChangeMoved {
    /// The change.
    #[n(0)]
    pub change: ChangeId,
    /// What it does: `create policy`, `alter policy`, `revoke policy`, `alter roster`, `alter rules`.
    #[n(1)]
    pub what: Text<32>,
    /// To which policy; `roster` or `rules`.
    #[n(2)]
    pub name: Name,
    /// Where it stands from now on.
    #[n(3)]
    pub state: Text<16>,
    /// SHA-256 of its text: the bytes that people sign.
    #[n(4)]
    pub text: Digest,
    /// Why; absent where the state says all.
    #[n(5)]
    pub why: Option<Text<DETAIL_BYTES_MAX>>,
}

/// A vote came whose signature holds. Whether it counts is decided anew each time the quorum is asked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VoteCast {
    /// The change.
    #[n(0)]
    pub change: ChangeId,
    /// Who.
    #[n(1)]
    pub person: Text<PERSON_BYTES_MAX>,
    /// What it says.
    #[n(2)]
    pub verb: Verb,
    /// SHA-256 of the key that signed, as SSH fingerprints are made.
    #[n(3)]
    pub key: Digest,
    /// SHA-256 of the text that was signed.
    #[n(4)]
    pub text: Digest,
    /// SHA-256 of the signature.
    #[n(5)]
    pub input: Digest,
}

/// The deployment's root put the first roster and rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AuthoritySet {
    /// What the root signed.
    #[n(0)]
    pub authority: Authority,
    /// SHA-256 of what it signed, with its signature.
    #[n(1)]
    pub input: Digest,
}

/// A policy's threshold was crossed for its time, or nobody needs the policy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PolicyWatched {
    /// The policy.
    #[n(0)]
    pub policy: Name,
    /// Its version.
    #[n(1)]
    pub version: u64,
    /// `review`, `alert` or `idle`.
    #[n(2)]
    pub what: Text<16>,
    /// What was seen.
    #[n(3)]
    pub why: Text<DETAIL_BYTES_MAX>,
    /// SHA-256 of the document with better numbers that is suggested, if one is.
    #[n(4)]
    pub draft: Option<Digest>,
}
