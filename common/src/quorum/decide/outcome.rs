//! What was decided, and how it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::quorum::roster::Word;
use crate::quorum::vote::Verb;

/// What was decided, with each vote's note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was decided.
    pub decided: Decided,
    /// For each vote, in the case's order.
    pub votes: Vec<VoteNote>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// It may be.
    Approved,
    /// Not yet.
    Pending(Missing),
    /// It may not be.
    Rejected(Block),
    /// It may not be any more.
    Expired(Expiry),
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing {
    /// So many people more.
    pub people: usize,
    /// Among them, of these roles.
    pub roles: BTreeMap<Word, usize>,
}

/// What blocks a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// These people rejected it.
    By(Vec<Word>),
    /// The rules know no such emergency.
    NoEmergency,
    /// It would last longer than the rules allow.
    LastsTooLong,
    /// A review is overdue: the glass may not be broken again before it is done.
    ReviewOverdue,
    /// What it takes the place of is no longer what it was written for.
    BaseMoved,
    /// A roster or rules whose number is not above that of those in force.
    VersionNotAbove,
}

/// Which time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Until when it could be approved.
    ApproveBy,
    /// Until when it could be applied.
    ApplyBy,
    /// Too little is left until the effective time for the least delay.
    Delay,
    /// An emergency change that is over.
    Over,
}

/// A vote, and whether it was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteNote {
    /// Which vote: `CheckedVote::name`.
    pub name: Digest,
    /// Who.
    pub person: Word,
    /// What.
    pub verb: Verb,
    /// Whether it was counted, or why not.
    pub counted: Result<(), NotCounted>,
}

/// Why a vote was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotCounted {
    /// It is for another text: the change was edited since.
    Dismissed,
    /// It came after the time for it.
    TooLate,
    /// A verb that this way does not take (or a review, which is counted apart).
    OtherVerb,
    /// Nobody of that name holds the key any more.
    NotOnRoster,
    /// The key is not valid at this time.
    KeyNotValid,
    /// The person asked for the change, edited it last, or applies it.
    Excluded,
    /// The rule excludes the person or a role of his.
    ExcludedByRule,
    /// No role of the person may vote on this.
    NotApprover,
    /// The person was not on the roster, or not allowed to vote, when the change was proposed.
    NotAtCreation,
    /// It must come from a security key that somebody touched.
    NoUserPresence,
    /// The person withdrew.
    Withdrawn,
    /// The person rejected, which outweighs an approval.
    Rejected,
    /// Another vote of the person says the same.
    SamePerson,
}

impl std::fmt::Display for NotCounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dismissed => "dismissed: it is for an earlier text of the change",
            Self::TooLate => "it came too late",
            Self::OtherVerb => "this is not decided by such a vote",
            Self::NotOnRoster => "the key belongs to nobody of that name on the roster",
            Self::KeyNotValid => "the key is not valid at this time",
            Self::Excluded => "who asks for a change, edits it last or applies it does not vote on it",
            Self::ExcludedByRule => "the rule excludes this person",
            Self::NotApprover => "no role of this person may vote on this",
            Self::NotAtCreation => "this person could not vote when the change was proposed",
            Self::NoUserPresence => "it must come from a security key that somebody touched",
            Self::Withdrawn => "this person has withdrawn",
            Self::Rejected => "this person has rejected the change",
            Self::SamePerson => "another vote of this person counts already",
        })
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let people = if self.people == 1 { "person" } else { "people" };
        write!(f, "{} more {people}", self.people)?;
        for (role, count) in &self.roles {
            write!(f, ", {count} with role `{role}`")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::By(people) => {
                let people: Vec<&str> = people.iter().map(Word::as_str).collect();
                write!(f, "by {}", people.join(", "))
            }
            Self::NoEmergency => f.write_str("the rules in force know no change by this way"),
            Self::LastsTooLong => f.write_str("it would last longer than the rules allow a change by this way to"),
            Self::ReviewOverdue => f.write_str("the review of an earlier emergency or freeze is overdue: do it first"),
            Self::BaseMoved => f.write_str("what it takes the place of has changed since: edit the change"),
            Self::VersionNotAbove => f.write_str("its version must be above that of the document in force"),
        }
    }
}

impl std::fmt::Display for Expiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ApproveBy => "the time to approve it is over",
            Self::ApplyBy => "the time to apply it is over",
            Self::Delay => "too little is left until the effective time: the rules ask for a longer delay",
            Self::Over => "it has ended by itself",
        })
    }
}

impl Outcome {
    /// Whether it may be.
    pub fn is_approved(&self) -> bool {
        self.decided == Decided::Approved
    }

    /// The explanation in words: the decision, then each vote.
    pub fn explain(&self) -> Vec<String> {
        let decided = match &self.decided {
            Decided::Approved => "approved".to_owned(),
            Decided::Pending(missing) => format!("pending: {missing}"),
            Decided::Rejected(block) => format!("rejected: {block}"),
            Decided::Expired(expiry) => format!("expired: {expiry}"),
        };
        let vote = |vote: &VoteNote| match vote.counted {
            Ok(()) => format!("{} of {}: counted", vote.verb, vote.person),
            Err(why) => format!("{} of {}: not counted, {why}", vote.verb, vote.person),
        };
        std::iter::once(decided).chain(self.votes.iter().map(vote)).collect()
    }
}
