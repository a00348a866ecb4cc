//! The book: policies in force, changes and their votes, who decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, DeploymentId, Digest};
use quotary_common::quorum::change::{ChangeText, Kind};
use quotary_common::quorum::decide::{Outcome, Proposed};
use quotary_common::quorum::roster::{Roster, Word};
use quotary_common::quorum::rules::Rules;
use quotary_common::quorum::vote::{Ballot, CheckedVote};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::Resources;

use super::governing::Governing;
use super::reaching::Reaching;
use crate::allocate::{self, Limits};
use crate::policy::life::{Notice, Record, State};
use crate::policy::{Catalogue, Edit, Place, Policy, PolicyResourceMap, Shaping, Standing};

/// What a change is held against when it is looked at: all of it the verifier's own.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Names that documents may use.
    pub catalogue: &'a Catalogue,
    /// Hosts, and what runs on them.
    pub standing: &'a Standing,
    /// Which application what runs belongs to.
    pub rules: &'a allocate::Rules,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// A policy in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// It.
    pub policy: Arc<Policy>,
    /// Its document, byte for byte.
    pub text: Arc<str>,
    /// The change that put it in force.
    pub change: ChangeId,
    /// Since when, Unix ms.
    pub since_ms: u64,
}

/// A change with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub(super) record: Record,
    pub(super) text: ChangeText,
    pub(super) ballot: Ballot,
    pub(super) checked: Vec<CheckedVote>,
    pub(super) roster: Arc<Roster>,
    pub(super) rules: Arc<Rules>,
    pub(super) proposed: Option<Proposed>,
    pub(super) impact: Vec<String>,
    pub(super) decision: Option<Vec<u8>>,
    pub(super) outcome: Option<Outcome>,
    /// What its document took the place of, when it was put in force: an emergency gives it back.
    pub(super) before: Option<InForce>,
    /// What it does to the policies in force, as its text says.
    pub(super) edit: Option<Edit>,
    /// The change that it holds where it is, if it is a freeze.
    pub(super) holds: Option<ChangeId>,
}

impl Kept {
    /// Where it stands.
    pub fn record(&self) -> &Record {
        &self.record
    }
    /// The text that is signed.
    pub fn text(&self) -> &ChangeText {
        &self.text
    }
    /// The change that it holds where it is, if it is a freeze.
    pub fn holds(&self) -> Option<ChangeId> {
        self.holds
    }
    /// What it does to the policies in force; `None` for roster, rules and freezes.
    pub fn edit(&self) -> Option<&Edit> {
        self.edit.as_ref()
    }
    /// How limits move with it: as its document says, or the one that it would revoke.
    pub fn shaping(&self, book: &Book) -> Shaping {
        let name = Name::lossy(self.record.name.as_str());
        let of_book = || book.policies.get(&name).map(|held| held.policy.shaping.clone());
        let own = self.edit.as_ref().and_then(Edit::puts).map(|policy| policy.shaping.clone());
        own.or_else(of_book).unwrap_or_default()
    }
    /// Every vote that came, for earlier texts too.
    pub fn ballot(&self) -> &Ballot {
        &self.ballot
    }
    /// What the quorum came to last.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }
    /// The votes that the outcome is about, in its order.
    pub fn checked(&self) -> &[CheckedVote] {
        &self.checked
    }
    /// What it would do, line by line.
    pub fn impact(&self) -> &[String] {
        &self.impact
    }
    /// The quorum decision that its plans carry, once it is approved: canonical bytes.
    pub fn decision(&self) -> Option<&[u8]> {
        self.decision.as_deref()
    }
}

/// What is told of a change in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The change.
    pub change: ChangeId,
    /// What it does.
    pub kind: Kind,
    /// To which policy; `roster` or `rules`.
    pub name: Word,
    /// Where it stands.
    pub state: State,
    /// SHA-256 of its text.
    pub text: Digest,
    /// Why.
    pub why: String,
}

/// What follows from a step, in this order: rows and leaves are committed together before anything else is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The change's row is to be written, or deleted when it is kept no longer.
    Change(ChangeId),
    /// A policy's row is to be written, or deleted when it is in force no more.
    Policy(Name),
    /// The authority's row is to be written, and the link that led to it.
    Authority {
        /// Its number.
        number: u64,
        /// The decision that it is: canonical bytes.
        link: Vec<u8>,
    },
    /// A leaf.
    Leaf(Moved),
    /// Plans to what it says are to be made.
    MakePlans(ChangeId),
    /// Plans back to what the policies in force say.
    MakePlansBack(ChangeId),
    /// Units that a revoked policy was for go back to their baseline.
    RestoreBaseline(ChangeId),
    /// People are to be told.
    Tell(ChangeId, Notice),
}

/// Policies, changes, and who decides.
/// A copy shares what both have: readers hold one for each commit.
#[derive(Debug, Clone, Default)]
pub struct Book {
    pub(super) governing: Option<Arc<Governing>>,
    pub(super) policies: BTreeMap<Name, InForce>,
    pub(super) map: Arc<PolicyResourceMap>,
    pub(super) coming: Vec<Arc<PolicyResourceMap>>,
    pub(super) changes: BTreeMap<ChangeId, Arc<Kept>>,
    /// The changes that a freeze that is kept was for.
    pub(super) frozen: BTreeSet<ChangeId>,
    /// Whether every decision that is kept was held against who decides now: who decides may have changed while nothing ran.
    pub(super) is_decided: bool,
    /// Which hosts what is in force may reach.
    pub(super) reaching: Arc<Reaching>,
}

impl Book {
    /// Who decides; `None` before a roster was ever put in force.
    pub fn governing(&self) -> Option<&Governing> {
        self.governing.as_deref()
    }
    /// The policies in force, by name.
    pub fn policies(&self) -> &BTreeMap<Name, InForce> {
        &self.policies
    }
    /// What they come to.
    pub fn map(&self) -> &PolicyResourceMap {
        &self.map
    }
    /// The changes that are kept.
    pub fn changes(&self) -> &BTreeMap<ChangeId, Arc<Kept>> {
        &self.changes
    }
    /// One change.
    ///
    /// # Errors
    /// `not-found`.
    pub fn change(&self, id: &ChangeId) -> Result<&Kept, Refusal> {
        self.changes.get(id).map(|kept| &**kept).ok_or_else(|| no_change(&id.to_string()))
    }

    pub(super) fn change_mut(&mut self, id: &ChangeId) -> Result<&mut Kept, Refusal> {
        self.changes.get_mut(id).map(Arc::make_mut).ok_or_else(|| no_change(&id.to_string()))
    }

    /// The rosters whose keys may sign a change's votes: that in force, and the one that it would put in force.
    pub fn rosters_of<'a>(&'a self, kept: &'a Kept) -> Vec<&'a Roster> {
        let next = match &kept.proposed {
            Some(Proposed::Roster(next)) => Some(next),
            _ => None,
        };
        self.governing.iter().map(|governing| &**governing.roster()).chain(next).collect()
    }

    /// Puts the first roster and rules in force, as the deployment's root signed them.
    ///
    /// # Errors
    /// `change` when somebody decides already: from then on roster and rules change by changes.
    pub fn begin(&mut self, governing: Governing) -> Result<(), Refusal> {
        if self.governing.is_some() {
            return Err(refuse("a roster is in force already: propose another one as a change"));
        }
        self.governing = Some(Arc::new(governing));
        Ok(())
    }

    pub(super) fn decides(&self) -> Result<&Governing, Refusal> {
        self.governing.as_deref().ok_or_else(|| {
            refuse("nobody can decide yet: `quotary-verifier authority` puts the first roster and rules in force")
        })
    }

    /// What policies allow at a place: those in force, and with what is approved or moving.
    pub fn limits_at(&self, place: &Place<'_>) -> Limits {
        let limit = |map: &PolicyResourceMap| match map.holding(place) {
            Ok(holding) => holding.map(|holding| holding.limit).unwrap_or_default(),
            // Nobody knows which of them holds: grants go no further than any allows.
            Err(tie) => {
                let tied = tie.policies.iter().filter_map(|name| map.get(name));
                tied.fold(Resources::default(), |least, policy| least.stricter(&policy.limit))
            }
        };
        let now = limit(&self.map);
        let coming = self.coming.iter().fold(now, |coming, map| coming.stricter(&limit(map)));
        Limits { now, coming }
    }

    /// The policies as each change that is approved or moving would make them.
    pub(super) fn come_anew(&mut self) {
        let under_way = |kept: &&Arc<Kept>| matches!(kept.record.state, State::Approved | State::Shaping);
        let edits = self.changes.values().filter(under_way).filter_map(|kept| kept.edit.as_ref());
        self.coming = edits.map(|edit| Arc::new(edit.applied_to(&self.map))).collect();
        self.frozen = self.changes.values().filter_map(|kept| kept.holds).collect();
        self.reaching = Arc::new(Reaching::of(self));
    }

    /// The policies in force with what other changes that are approved or moving would make of them: what comes must go with what else comes.
    pub(super) fn map_with_others(&self, id: &ChangeId, name: &Name) -> PolicyResourceMap {
        let under_way = self
            .changes
            .iter()
            .filter(|(other, kept)| *other != id && matches!(kept.record.state, State::Approved | State::Shaping));
        let edits = under_way.filter_map(|(_, kept)| kept.edit.as_ref()).filter(|edit| edit.name() != name);
        edits.fold((*self.map).clone(), |map, edit| edit.applied_to(&map))
    }

    /// The policies in force with all that is approved or moving put in force.
    pub fn map_to_come(&self) -> PolicyResourceMap {
        let under_way =
            self.changes.values().filter(|kept| matches!(kept.record.state, State::Approved | State::Shaping));
        let edits = under_way.filter_map(|kept| kept.edit.as_ref());
        edits.fold((*self.map).clone(), |map, edit| edit.applied_to(&map))
    }

    pub(super) fn map_anew(&mut self) {
        self.map = Arc::new(PolicyResourceMap::new(self.policies.values().map(|one| Arc::clone(&one.policy))));
    }
}

pub(super) fn refuse(why: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::Change, why)
}

/// There is no such change.
pub(super) fn no_change(text: &str) -> Refusal {
    let shown: String = text.chars().take(80).collect();
    Refusal::new(Reason::NotFound, format!("no change `{shown}`: `quotary change list` shows them"))
}
