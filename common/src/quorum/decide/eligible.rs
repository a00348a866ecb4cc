//! Who may vote on a change, and what their votes lack.

use super::case::{Case, Under};
use super::filling::unfilled;
use super::outcome::{Missing, NotCounted};
use crate::quorum::change::{Change, Way};
use crate::quorum::criticality::Criticality;
use crate::quorum::roster::{Person, PersonKey, Word};
use crate::quorum::rules::Rule;
use crate::quorum::vote::CheckedVote;

/// One or two pairs of roster and rules that people must be allowed to vote under at once. The first is the one in
/// force (or the one that would be): keys are looked up there.
pub(super) struct Side<'a> {
    change: &'a Change,
    parts: Vec<Part<'a>>,
}

/// A pair of roster and rules, with what of them is used here.
struct Part<'a> {
    under: Under<'a>,
    rule: &'a Rule,
    /// The role of an emergency's way and how many of it; `None` for the way of the quorum.
    emergency: Option<Emergency<'a>>,
    /// How long after it was proposed, ms.
    age_ms: u64,
}

/// What the rules say of an emergency's way.
#[derive(Clone, Copy)]
struct Emergency<'a> {
    /// The role, how many of it, and how long it may last, ms; `None` when the rules do not know the way.
    takes: Option<(&'a Word, usize, u64)>,
}

impl<'a> Side<'a> {
    pub(super) fn new(case: &Case<'a>, parts: Vec<Under<'a>>) -> Self {
        Self::at(case, parts, case.now_ms.saturating_sub(case.text.change().proposed_ms), case.text.change().way)
    }

    /// As it is when so much time has passed, by a way that may be another than the change's own (a review).
    pub(super) fn at(case: &Case<'a>, parts: Vec<Under<'a>>, age_ms: u64, way: Way) -> Self {
        let criticality = case.criticality();
        let part = |under: Under<'a>| {
            let emergency = emergency(&under, way, criticality);
            Part { under, rule: under.rules.rule(criticality), emergency, age_ms }
        };
        Self { change: case.text.change(), parts: parts.into_iter().map(part).collect() }
    }

    /// The rules of its parts.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'a Rule> + '_ {
        self.parts.iter().map(|part| part.rule)
    }

    /// How long an emergency may last, ms; `None` when the rules of a part do not know the change's way.
    pub(super) fn lasts_ms_max(&self) -> Option<u64> {
        let lasts = self.parts.iter().map(|part| part.emergency?.takes.map(|(_, _, lasts_ms)| lasts_ms));
        lasts.reduce(|a, b| a.zip(b).map(|(a, b)| a.min(b))).flatten()
    }

    /// Whether the vote's key is one of the person's now, and was valid when the vote came and is valid at `now_ms`.
    pub(super) fn authentic(&self, vote: &CheckedVote, now_ms: u64) -> Result<&'a Person, NotCounted> {
        let roster = self.parts.first().map(|part| part.under.roster).ok_or(NotCounted::NotOnRoster)?;
        match roster.holder(&vote.key()) {
            Some((person, key)) if person.name == *vote.person() => {
                let is_valid = key.is_valid_at(now_ms) && key.is_valid_at(vote.cast_at_ms());
                if is_valid { Ok(person) } else { Err(NotCounted::KeyNotValid) }
            }
            _ => Err(NotCounted::NotOnRoster),
        }
    }

    /// Whether a person may vote under every part.
    pub(super) fn is_eligible(&self, name: &Word) -> Result<(), NotCounted> {
        self.parts.iter().enumerate().try_for_each(|(place, part)| {
            let eligible = part.is_eligible(self.change, name);
            // The person's own fault is the same everywhere; what differs at creation is told as such.
            match eligible {
                Err(NotCounted::NotOnRoster | NotCounted::NotApprover) if place > 0 => Err(NotCounted::NotAtCreation),
                other => other,
            }
        })
    }

    /// Whether the vote counts as an approval.
    pub(super) fn may_approve(&self, vote: &CheckedVote, now_ms: u64) -> Result<(), NotCounted> {
        let person = self.authentic(vote, now_ms)?;
        self.is_eligible(&person.name)?;
        let is_present = vote.is_user_present() || !self.requires_user_presence();
        if is_present { Ok(()) } else { Err(NotCounted::NoUserPresence) }
    }

    /// Whether the vote counts as a rejection: under what is in force, since to block takes less than to let pass.
    pub(super) fn may_reject(&self, vote: &CheckedVote, now_ms: u64) -> Result<(), NotCounted> {
        let person = self.authentic(vote, now_ms)?;
        self.parts.first().map_or(Ok(()), |part| part.is_eligible(self.change, &person.name))
    }

    /// Whether votes must come from a security key that somebody touched. A freeze must not wait for one.
    pub(super) fn requires_user_presence(&self) -> bool {
        self.change.way != Way::Freeze && self.rules().any(|rule| rule.requires_user_presence)
    }

    /// Adds what `people` lack under any part.
    pub(super) fn add_missing(&self, people: &[&Word], missing: &mut Missing) {
        for part in &self.parts {
            let (approvals, unfilled) = match part.emergency {
                None => (part.rule.approvals, part.unfilled(&part.rule.roles, people)),
                // Whoever may vote has the role.
                Some(Emergency { takes: Some((role, approvals, _)) }) => {
                    let lacking = approvals.saturating_sub(people.len());
                    (approvals, Vec::from_iter((lacking > 0).then_some((role, lacking))))
                }
                Some(Emergency { takes: None }) => (usize::MAX, Vec::new()),
            };
            // Each place that stays empty takes somebody who is not among them yet.
            let empty: usize = unfilled.iter().map(|(_, count)| count).sum();
            missing.people = missing.people.max(approvals.saturating_sub(people.len())).max(empty);
            for (role, count) in unfilled {
                let most = missing.roles.entry(role.clone()).or_default();
                *most = (*most).max(count);
            }
        }
    }

    /// Those who may vote, and have a key that is valid at some instant from one to another (Unix ms): one that shows a touch, where that is needed.
    pub(super) fn able(&self, (from_ms, until_ms): (u64, u64), needs_touch: bool) -> Vec<&'a Word> {
        let can_sign = |key: &PersonKey| {
            key.valid_from_ms.is_none_or(|from| from <= until_ms)
                && key.valid_until_ms.is_none_or(|until| until > from_ms)
                && (key.key.is_security_key() || !needs_touch)
        };
        let able = self.eligible().into_iter().filter(|person| person.keys.iter().any(can_sign));
        able.map(|person| &person.name).collect()
    }

    /// The people of the roster in force (or proposed) who may vote, whether they did or not.
    pub(super) fn eligible(&self) -> Vec<&'a Person> {
        let people = self.parts.first().into_iter().flat_map(|part| part.under.roster.people());
        people.filter(|person| self.is_eligible(&person.name).is_ok()).collect()
    }
}

fn emergency<'a>(under: &Under<'a>, way: Way, criticality: Criticality) -> Option<Emergency<'a>> {
    match way {
        Way::Quorum => None,
        Way::BreakGlass => Some(Emergency {
            takes: under
                .rules
                .break_glass()
                .map(|glass| (&glass.role, glass.approvals_at(criticality), glass.lasts_ms_max)),
        }),
        Way::Freeze => {
            Some(Emergency { takes: under.rules.freeze().map(|freeze| (&freeze.role, 1, freeze.lasts_ms_max)) })
        }
    }
}

impl Part<'_> {
    fn is_eligible(&self, change: &Change, name: &Word) -> Result<(), NotCounted> {
        let person = self.under.roster.person(name).ok_or(NotCounted::NotOnRoster)?;
        // One operator freezes at once: nobody else need be there.
        let is_own = [&change.requester, &change.editor, &change.applier].contains(&name);
        if is_own && change.way != Way::Freeze {
            return Err(NotCounted::Excluded);
        }
        let exclude = &self.rule.exclude;
        if exclude.contains(name) || !exclude.is_disjoint(&person.roles) {
            return Err(NotCounted::ExcludedByRule);
        }
        let may = match self.emergency {
            Some(emergency) => emergency.takes.is_some_and(|(role, _, _)| person.roles.contains(role)),
            None => {
                let mut steps = self.rule.escalation.iter().filter(|step| step.after_ms <= self.age_ms);
                !self.rule.approvers.is_disjoint(&person.roles)
                    || steps.any(|step| step.add_people.contains(name) || !step.add_roles.is_disjoint(&person.roles))
            }
        };
        if may { Ok(()) } else { Err(NotCounted::NotApprover) }
    }

    /// The roles that `people` leave unfilled, and how many places of each.
    fn unfilled<'r>(&self, roles: &'r [(Word, usize)], people: &[&Word]) -> Vec<(&'r Word, usize)> {
        if roles.is_empty() {
            return Vec::new();
        }
        let counts: Vec<usize> = roles.iter().map(|(_, count)| *count).collect();
        let bits = |name: &&Word| {
            let person = self.under.roster.person(name);
            let has = |role: &Word| person.is_some_and(|person| person.roles.contains(role));
            roles.iter().enumerate().fold(0, |bits, (place, (role, _))| bits | u32::from(has(role)) << place)
        };
        let roles_of: Vec<u32> = people.iter().map(bits).collect();
        let empty = unfilled(&counts, &roles_of);
        roles.iter().zip(empty).filter(|(_, count)| *count > 0).map(|((role, _), count)| (role, count)).collect()
    }
}
