//! The review of what was done in an emergency: its own quorum, its own deadline.

use std::collections::BTreeSet;

use super::case::Case;
use super::eligible::Side;
use crate::quorum::change::Way;
use crate::quorum::roster::Word;
use crate::quorum::rules::Review;
use crate::quorum::vote::Verb;

/// Where a review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewState {
    /// The change was not made in an emergency.
    NotAsked,
    /// So many people have looked at it as must.
    Done,
    /// It is to be done.
    Due {
        /// Until when, Unix ms.
        by_ms: u64,
        /// By so many people more.
        missing: usize,
    },
    /// It should have been done: an alarm, and the role breaks no more glass until it is.
    Overdue {
        /// Since when, Unix ms.
        since_ms: u64,
        /// By so many people more.
        missing: usize,
    },
}

/// A review: where it stands, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewing<'a> {
    /// Where it stands.
    pub state: ReviewState,
    /// Whose review counts, by name.
    pub by: Vec<&'a Word>,
    /// Who else may, by name.
    pub may: Vec<&'a Word>,
}

/// How many people too few there are to review an emergency, when it is decided by those who leave most others to review it, and all escalation
/// has come by then; 0: there are enough, or none is asked for.
pub fn reviewers_lacking(case: &Case<'_>) -> usize {
    let change = case.text.change();
    let rules = case.current.rules;
    let (takes, asked) = match change.way {
        Way::Quorum => return 0,
        Way::BreakGlass => (
            rules.break_glass().map_or(0, |glass| glass.approvals_at(case.criticality())),
            rules.break_glass().map(|glass| glass.review),
        ),
        Way::Freeze => (1, rules.freeze().map(|freeze| freeze.review)),
    };
    let Some(asked) = asked else { return 0 };
    let by_ms = change.until_ms.unwrap_or(change.proposed_ms).saturating_add(asked.within_ms);
    let able = |side: Side<'_>, until_ms, needs_touch| -> BTreeSet<Word> {
        side.able((change.proposed_ms, until_ms), needs_touch).into_iter().cloned().collect()
    };
    let side = |age_ms, way| Side::at(case, vec![case.current], age_ms, way);
    let own = [&change.requester, &change.editor, &change.applier];
    let mut reviewers = able(side(by_ms.saturating_sub(change.proposed_ms), Way::Quorum), by_ms, false);
    reviewers.retain(|name| !own.contains(&name));
    let breaking = side(0, change.way);
    let needs_touch = breaking.requires_user_presence();
    let deciders = able(breaking, change.approve_by_ms, needs_touch);
    let others = deciders.difference(&reviewers).count();
    let left = reviewers.len().saturating_sub(takes.saturating_sub(others));
    asked.approvals.saturating_sub(left)
}

/// Where the review of an emergency change stands. It is due so long after the emergency has ended.
///
/// Who may review is who may approve such a change in quiet times, but for those who approved it in the emergency and had a say in that.
pub fn review(case: &Case<'_>) -> ReviewState {
    reviewing(case).state
}

/// The same, with who has reviewed it and who may.
pub fn reviewing<'a>(case: &Case<'a>) -> Reviewing<'a> {
    let not_asked = Reviewing { state: ReviewState::NotAsked, by: Vec::new(), may: Vec::new() };
    let change = case.text.change();
    let asked = |rules: &crate::quorum::rules::Rules| match change.way {
        Way::Quorum => None,
        Way::BreakGlass => rules.break_glass().map(|glass| glass.review),
        Way::Freeze => rules.freeze().map(|freeze| freeze.review),
    };
    let stricter = |a: Review, b: Review| Review {
        within_ms: a.within_ms.min(b.within_ms),
        approvals: a.approvals.max(b.approvals),
    };
    let at_creation = asked(case.at_creation.rules);
    // What was broken under rules that know no glass any more is still reviewed, as it was when it was proposed.
    let asked = match (asked(case.current.rules), at_creation) {
        (Some(now), Some(then)) => stricter(now, then),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return not_asked,
    };
    let age_ms = case.now_ms.saturating_sub(change.proposed_ms);
    let side = Side::at(case, vec![case.current], age_ms, Way::Quorum);
    let of_text = || case.votes.iter().filter(|vote| vote.text() == case.text.digest());
    // Whoever said yes without a say did not decide it: who has looked at it since must not be barred by that.
    let ways = [case.current, case.at_creation].map(|under| Side::at(case, vec![under], age_ms, change.way));
    let broke: BTreeSet<&Word> = of_text()
        .filter(|vote| matches!(vote.verb(), Verb::BreakGlass | Verb::Approval))
        .map(|vote| vote.person())
        .filter(|person| ways.iter().any(|way| way.is_eligible(person).is_ok()))
        .collect();
    let own = [&change.requester, &change.editor, &change.applier];
    let reviewers: BTreeSet<&Word> = of_text()
        .filter(|vote| vote.verb() == Verb::Review && !broke.contains(vote.person()) && !own.contains(&vote.person()))
        .filter(|vote| side.may_reject(vote, case.now_ms).is_ok())
        .map(|vote| vote.person())
        .collect();
    let missing = asked.approvals.saturating_sub(reviewers.len());
    // Every emergency says when it ends; one that did not would be over when it was proposed.
    let by_ms = change.until_ms.unwrap_or(change.proposed_ms).saturating_add(asked.within_ms);
    let eligible = side.eligible().into_iter().map(|person| &person.name);
    let may = eligible.filter(|name| !broke.contains(name) && !own.contains(name) && !reviewers.contains(name));
    let (may, by) = (may.collect(), reviewers.iter().copied().collect());
    let state = match missing {
        0 => ReviewState::Done,
        missing if case.now_ms > by_ms => ReviewState::Overdue { since_ms: by_ms, missing },
        missing => ReviewState::Due { by_ms, missing },
    };
    Reviewing { state, by, may }
}
