//! A change as it is kept: its text's digest, its times, and where it stands.

use minicbor::{Decode, Encode};
use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::id::Digest;
use quotary_common::limits::{DETAIL_BYTES_MAX, ESCALATIONS_MAX};
use quotary_common::quorum::change::Kind;
use quotary_common::quorum::decide::Moment;
use quotary_common::quorum::roster::Word;
use serde::{Deserialize, Serialize};

/// Most edits of one change: who needs more proposes another.
pub(super) const REVISIONS_MAX: usize = 64;

/// Where a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody has decided on it yet.
    #[n(0)]
    Proposed,
    /// Approvals are missing.
    #[n(1)]
    Approving,
    /// Approved; its plans are not made yet, or there are none.
    #[n(2)]
    Approved,
    /// Limits move towards it.
    #[n(3)]
    Shaping,
    /// It holds.
    #[n(4)]
    InForce,
    /// Over: it was voted down, or cannot be done.
    #[n(5)]
    Rejected,
    /// Over: not approved or not applied in time.
    #[n(6)]
    Expired,
    /// Over: its requester took it back.
    #[n(7)]
    Withdrawn,
    /// Over: it held, until another change took its policy out or put another in its place; where that was an emergency, until it ends.
    #[n(8)]
    Revoked,
}

impl State {
    /// Whether nothing can happen to it any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Rejected | Self::Expired | Self::Withdrawn | Self::Revoked)
    }
    /// Whether it waits for approvals.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Proposed | Self::Approving)
    }
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approving => "approving",
            Self::Approved => "approved",
            Self::Shaping => "shaping",
            Self::InForce => "in force",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Revoked => "revoked",
        }
    }
}

/// The clocks of a change, Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Times {
    /// It must be approved by then.
    #[n(0)]
    pub approve_by_ms: u64,
    /// It must be in force by then.
    #[n(1)]
    pub apply_by_ms: u64,
    /// When it takes effect.
    #[n(2)]
    pub effective_at_ms: u64,
    /// So long at least from its approval to its effect, ms, by its rule.
    #[n(3)]
    pub delay_ms_min: u64,
    /// Only in an emergency: when it ends by itself, and until when it must be reviewed.
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Emergency>,
}

/// The clocks of a change that did not wait for its quorum, Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Emergency {
    /// When it ends, and what held before holds again.
    #[n(0)]
    pub ends_at_ms: u64,
    /// It must be reviewed before.
    #[n(1)]
    pub review_by_ms: u64,
}

/// A text of a change that was edited away: votes for it are shown as dismissed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Revision {
    /// SHA-256 of the text.
    #[n(0)]
    pub text: Digest,
    /// Who wrote it.
    #[n(1)]
    pub editor: Word,
    /// When it was edited away, Unix ms.
    #[n(2)]
    pub until_ms: u64,
}

/// A change as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// What it does.
    #[n(1)]
    pub kind: Kind,
    /// The policy's name; for roster and rules `roster` and `rules`.
    #[n(2)]
    pub name: Word,
    /// Who asked for it.
    #[n(3)]
    pub requester: Word,
    /// Who edited it last.
    #[n(4)]
    pub editor: Word,
    /// SHA-256 of its text: only votes for it count.
    #[n(5)]
    pub text: Digest,
    /// Its clocks.
    #[n(6)]
    pub times: Times,
    /// Where it stands.
    #[n(7)]
    pub state: State,
    /// Since when, Unix ms.
    #[n(8)]
    pub since_ms: u64,
    /// When it was proposed, Unix ms.
    #[n(9)]
    pub proposed_at_ms: u64,
    /// When the text was approved that it has now, Unix ms.
    #[n(10)]
    pub approved_at_ms: Option<u64>,
    /// Its texts before, the oldest first.
    #[n(11)]
    pub revisions: Bounded<Revision, REVISIONS_MAX>,
    /// When each step of escalation is due, Unix ms, ascending.
    /// A change of the rules has the steps of both.
    #[n(12)]
    pub escalate_at_ms: Bounded<u64, { 2 * ESCALATIONS_MAX }>,
    /// How many of them were taken, since the text that it has now was written.
    #[n(13)]
    pub escalated: u32,
    /// Since when every unit has what it should, Unix ms.
    #[n(14)]
    pub aligned_at_ms: Option<u64>,
    /// Why it is over, or what is wrong with it.
    #[n(15)]
    pub why: Option<Text<DETAIL_BYTES_MAX>>,
    /// What came of the review after an emergency.
    #[n(16)]
    pub reviewed: Option<Reviewed>,
}

/// What came of the review after an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Reviewed {
    /// It was looked at.
    #[n(0)]
    InTime,
    /// Nobody looked at it in time: whoever may do such things may do none until somebody does.
    #[n(1)]
    Overdue,
    /// It was looked at after its time.
    #[n(2)]
    Late,
}

/// For what the quorum is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// Something may have changed: a vote came, somebody more may approve, it was proposed or edited.
    Vote,
    /// Whether it is approved.
    Approval,
    /// Whether it still is, at its effective time.
    Apply,
}

impl Record {
    /// The moment at which the quorum is to decide.
    pub fn moment(&self, ask: Ask) -> Moment {
        match (ask, self.approved_at_ms) {
            (Ask::Vote, _) => Moment::Vote,
            (Ask::Approval, _) => Moment::Approval,
            // What was never approved is not in time for anything.
            (Ask::Apply, approved_at_ms) => Moment::Apply { approved_at_ms: approved_at_ms.unwrap_or(u64::MAX) },
        }
    }

    /// Whether limits move with it, along plans.
    pub const fn moves_limits(&self) -> bool {
        !self.kind.is_of_authority()
    }

    /// Whether a vote for `text` counts no more: it was for an earlier text, or for none of this change.
    pub fn dismisses(&self, text: &Digest) -> bool {
        self.text != *text
    }
}
