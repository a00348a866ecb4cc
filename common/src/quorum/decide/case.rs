//! All that a decision is made of.

use super::eligible::Side;
use crate::id::Digest;
use crate::quorum::change::{ChangeText, Kind};
use crate::quorum::criticality::Criticality;
use crate::quorum::document::Faults;
use crate::quorum::roster::Roster;
use crate::quorum::rules::Rules;
use crate::quorum::vote::CheckedVote;

/// Who decides: a roster and the rules.
#[derive(Debug, Clone, Copy)]
pub struct Under<'a> {
    /// The people.
    pub roster: &'a Roster,
    /// What a change takes.
    pub rules: &'a Rules,
}

impl Under<'_> {
    fn is(&self, other: &Self) -> bool {
        self.roster.digest() == other.roster.digest() && self.rules.digest() == other.rules.digest()
    }
}

/// What a change of roster or rules would put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// A roster.
    Roster(Roster),
    /// Rules.
    Rules(Box<Rules>),
}

impl Proposed {
    /// Reads it from the change's document; `None` for a change of a policy.
    ///
    /// # Errors
    /// The document's [`Faults`].
    pub fn of(text: &ChangeText) -> Result<Option<Self>, Faults> {
        let document = text.change().document.as_bytes();
        match text.change().kind {
            Kind::Roster => Roster::parse(document).map(Self::Roster).map(Some),
            Kind::Rules => Rules::parse(document).map(|rules| Some(Self::Rules(Box::new(rules)))),
            _ => Ok(None),
        }
    }
    fn digest(&self) -> Digest {
        match self {
            Self::Roster(roster) => roster.digest(),
            Self::Rules(rules) => rules.digest(),
        }
    }
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Roster(roster) => roster.version(),
            Self::Rules(rules) => rules.version(),
        }
    }
}

/// At which moment is decided: at each of them anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A vote came, or time passed.
    Vote,
    /// It is to be taken for approved.
    Approval,
    /// It is to be applied.
    Apply {
        /// When it was approved, Unix ms.
        approved_at_ms: u64,
    },
}

/// The document that a change takes the place of, as it stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseNow {
    /// Who asks does not know (an agent).
    NotKnown,
    /// Its digest; `None`: there is no such document.
    Is(Option<Digest>),
}

/// All that a decision is made of.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub(super) text: &'a ChangeText,
    pub(super) votes: &'a [CheckedVote],
    pub(super) current: Under<'a>,
    pub(super) at_creation: Under<'a>,
    pub(super) proposed: Option<&'a Proposed>,
    /// The criticality that the change would have if it were proposed now.
    pub(super) criticality_now: Criticality,
    /// What it takes the place of, as it stands now.
    pub(super) base_now: BaseNow,
    /// Whether an overdue review stops the role from breaking the glass.
    pub(super) is_break_glass_barred: bool,
    /// At which moment.
    pub(super) moment: Moment,
    /// When, Unix ms.
    pub(super) now_ms: u64,
    /// When keys must be valid, Unix ms: then too, where it is not the same.
    pub(super) keys_at_ms: u64,
}

/// A case that was put together wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaseFault {
    /// Other documents than those that the text names.
    #[error("the roster or the rules are not those that the text of the change names")]
    Creation,
    /// What would be put in force is missing, or is not the text's document.
    #[error("the proposed roster or rules are not the document of the change")]
    Proposed,
}

impl<'a> Case<'a> {
    /// A case at a [`Moment`]: with the text's criticality, a base that is not known, and no role barred.
    ///
    /// # Errors
    /// [`CaseFault`] when `at_creation` or `proposed` are not what the text names.
    pub fn new(
        text: &'a ChangeText,
        votes: &'a [CheckedVote],
        (current, at_creation): (Under<'a>, Under<'a>),
        proposed: Option<&'a Proposed>,
        (moment, now_ms): (Moment, u64),
    ) -> Result<Self, CaseFault> {
        let change = text.change();
        if (at_creation.roster.digest(), at_creation.rules.digest()) != (change.roster, change.rules) {
            return Err(CaseFault::Creation);
        }
        let is_the_document = match (change.kind, proposed) {
            (Kind::Roster, Some(proposed @ Proposed::Roster(_)))
            | (Kind::Rules, Some(proposed @ Proposed::Rules(_))) => {
                proposed.digest() == Digest::of(&[change.document.as_bytes()])
            }
            (kind, proposed) => !kind.is_of_authority() && proposed.is_none(),
        };
        if !is_the_document {
            return Err(CaseFault::Proposed);
        }
        let (criticality_now, base_now, is_break_glass_barred) = (change.criticality, BaseNow::NotKnown, false);
        let of_text = Self {
            text,
            votes,
            current,
            at_creation,
            proposed,
            criticality_now,
            base_now,
            is_break_glass_barred,
            moment,
            now_ms,
            keys_at_ms: now_ms,
        };
        Ok(of_text)
    }

    /// With the criticality that the change would have if it were proposed now.
    #[must_use]
    pub fn with_criticality(self, criticality_now: Criticality) -> Self {
        Self { criticality_now, ..self }
    }

    /// With what it takes the place of, as it stands now.
    #[must_use]
    pub fn with_base(self, base_now: BaseNow) -> Self {
        Self { base_now, ..self }
    }

    /// With the role that breaks the glass barred from it or not.
    #[must_use]
    pub fn with_break_glass_barred(self, is_break_glass_barred: bool) -> Self {
        Self { is_break_glass_barred, ..self }
    }

    /// At another moment, Unix ms.
    #[must_use]
    pub fn at(self, moment: Moment, now_ms: u64) -> Self {
        Self { moment, now_ms, keys_at_ms: now_ms, ..self }
    }

    /// With keys that must be valid at an instant of their own, Unix ms: a key whose time is over makes no decision of the past.
    #[must_use]
    pub fn with_keys_at(self, keys_at_ms: u64) -> Self {
        Self { keys_at_ms, ..self }
    }

    /// The highest of what the text says and what would be said now: it rises, and never falls.
    pub(super) fn criticality(&self) -> Criticality {
        match self.text.change().kind.is_of_authority() {
            true => Criticality::Critical,
            false => self.text.change().criticality.max(self.criticality_now),
        }
    }

    /// Who would decide if the change were in force; only for another roster or other rules.
    fn next(&self) -> Option<Under<'a>> {
        self.proposed.map(|proposed| match proposed {
            Proposed::Roster(roster) => Under { roster, rules: self.current.rules },
            Proposed::Rules(rules) => Under { roster: self.current.roster, rules },
        })
    }

    /// Those under whom it must hold: a vote counts on a side when it counts under each of its parts.
    pub(super) fn sides(&self) -> Vec<Side<'a>> {
        let standing = match self.current.is(&self.at_creation) {
            true => vec![self.current],
            false => vec![self.current, self.at_creation],
        };
        let mut sides = vec![Side::new(self, standing)];
        sides.extend(self.next().map(|next| Side::new(self, vec![next])));
        sides
    }
}
