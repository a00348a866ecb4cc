//! Who is counted, and what is asked for.

use proptest::prelude::*;

use super::fixture::{
    MINUTE_MS, PEOPLE, RULES, Signer, World, approvals, decided, decided_at, missing, notes, roster_of, roster_text,
    rules_with, t0, vote, word,
};
use crate::quorum::change::Kind;
use crate::quorum::criticality::Criticality;
use crate::quorum::decide::{
    BaseNow, Block, Case, CaseFault, Decided, Inadmissible, Moment, NotCounted, Outcome, Proposed, Under, admit, decide,
};
use crate::quorum::roster::Roster;
use crate::quorum::rules::Rules;
use crate::quorum::ssh::SshKey;
use crate::quorum::vote::{CheckedVote, Verb};

fn under<'a>(roster: &'a Roster, rules: &'a Rules) -> Under<'a> {
    Under { roster, rules }
}

#[test]
fn a_quorum_with_its_required_role_approves_and_what_is_missing_is_told() {
    let world = World::new();
    let text = world.text(|_| ());
    assert_eq!(missing(&decided(&world, &text, &[])), Some((2, vec![("security", 1)])));
    let one = decided(&world, &text, &approvals(&text, &["bob"]));
    assert_eq!(missing(&one), Some((1, vec![("security", 1)])));
    assert_eq!(one.explain(), ["pending: 1 more person, 1 with role `security`", "approval of bob: counted"]);
    assert_eq!(missing(&decided(&world, &text, &approvals(&text, &["bob", "erin"]))), Some((1, vec![("security", 1)])));
    assert!(decided(&world, &text, &approvals(&text, &["bob", "carol"])).is_approved());
}

#[test]
fn a_second_key_of_one_person_counts_once() {
    let laptop = Signer::of("bob's laptop").line();
    let text = roster_text(3, &PEOPLE).replacen(
        "[[people]]\nname = 'carol'",
        &format!("[[people.keys]]\nkey = '{laptop}'\n[[people]]\nname = 'carol'"),
        1,
    );
    let world = World { roster: Roster::parse(text.as_bytes()).unwrap(), ..World::new() };
    let text = world.text(|change| change.criticality = Criticality::Critical);
    let mut votes = approvals(&text, &["bob", "carol", "bob"]);
    let key = SshKey::parse(&laptop).unwrap().fingerprint();
    votes[2] = CheckedVote::unsigned(&word("bob"), Verb::Approval, text.digest(), t0() + MINUTE_MS, (key, false));
    let outcome = decided(&world, &text, &votes);
    assert_eq!(missing(&outcome), Some((1, vec![])));
    assert_eq!(notes(&outcome), [Ok(()), Ok(()), Err(NotCounted::SamePerson)]);
}

#[test]
fn duplicate_signatures_count_once_however_many_copies_there_are() {
    // CVE-2020-6174: a threshold reached by one signature, many times.
    let world = World::new();
    let text = world.text(|_| ());
    let copies: Vec<CheckedVote> = vec![vote(&text, "dave", Verb::Approval); 64];
    assert_eq!(missing(&decided(&world, &text, &copies)), Some((1, vec![])));
}

#[test]
fn one_person_with_three_roles_counts_once_and_fills_one_place() {
    let roster = roster_of(
        4,
        &[("alice", &["operator"]), ("bob", &["operator", "security", "owner"]), ("carol", &["operator"])],
    );
    let rules = Rules::parse(RULES.replace("security = 1", "security = 1, owner = 1").as_bytes()).unwrap();
    let world = World { roster, rules };
    let text = world.text(|_| ());
    let outcome = decided(&world, &text, &approvals(&text, &["bob", "carol"]));
    let (people, roles) = missing(&outcome).unwrap();
    assert_eq!((people, roles.len()), (1, 1));
}

#[test]
fn requester_last_editor_and_applier_are_excluded() {
    let world = World::new();
    for edit in [0, 1, 2] {
        let text = world.text(|change| match edit {
            0 => change.requester = word("dave"),
            1 => change.editor = word("dave"),
            _ => change.applier = word("dave"),
        });
        let outcome = decided(&world, &text, &approvals(&text, &["dave", "bob"]));
        assert_eq!(notes(&outcome), [Err(NotCounted::Excluded), Ok(())]);
        assert!(!outcome.is_approved());
    }
    let world = World {
        rules: Rules::parse(RULES.replace("approvers", "exclude = ['bob', 'manager']\napprovers").as_bytes()).unwrap(),
        ..world
    };
    let text = world.text(|_| ());
    let outcome = decided(&world, &text, &approvals(&text, &["bob", "carol", "frank"]));
    assert_eq!(notes(&outcome), [Err(NotCounted::ExcludedByRule), Ok(()), Err(NotCounted::ExcludedByRule)]);
}

#[test]
fn an_edit_voids_approvals_and_shows_them_as_dismissed() {
    let world = World::new();
    let (before, after) = (world.text(|_| ()), world.text(|change| change.document.push('#')));
    let outcome = decided(&world, &after, &approvals(&before, &["bob", "carol"]));
    assert_eq!(notes(&outcome), [Err(NotCounted::Dismissed); 2]);
    assert!(!outcome.is_approved());
}

#[test]
fn a_removed_members_vote_drops_also_at_apply() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes = approvals(&text, &["bob", "carol"]);
    let without_carol: Vec<_> = PEOPLE.into_iter().filter(|(name, _)| *name != "carol").collect();
    let now = roster_of(4, &without_carol);
    for moment in [Moment::Vote, Moment::Approval, Moment::Apply { approved_at_ms: t0() + MINUTE_MS }] {
        let pair = (under(&now, &world.rules), world.under());
        let case = Case::new(&text, &votes, pair, None, (moment, t0() + 2 * MINUTE_MS)).unwrap();
        let outcome = decide(&case);
        assert_eq!(notes(&outcome), [Ok(()), Err(NotCounted::NotOnRoster)]);
        assert_eq!(missing(&outcome), Some((1, vec![("security", 1)])));
    }
}

#[test]
fn who_joined_after_the_proposal_does_not_decide_it() {
    let world = World::new();
    let text = world.text(|_| ());
    let more: Vec<_> = PEOPLE.into_iter().chain([("zoe", &["security"][..])]).collect();
    let now = roster_of(4, &more);
    let votes = approvals(&text, &["bob", "zoe"]);
    let pair = (under(&now, &world.rules), world.under());
    let outcome = decide(&Case::new(&text, &votes, pair, None, (Moment::Vote, t0() + 2 * MINUTE_MS)).unwrap());
    assert_eq!(notes(&outcome), [Ok(()), Err(NotCounted::NotAtCreation)]);
}

#[test]
fn a_key_that_was_taken_from_a_person_counts_no_more() {
    let world = World::new();
    let text = world.text(|_| ());
    let stolen = roster_text(4, &PEOPLE).replace(&Signer::of("carol").line(), &Signer::of("carol's new key").line());
    let now = Roster::parse(stolen.as_bytes()).unwrap();
    let votes = approvals(&text, &["bob", "carol"]);
    let pair = (under(&now, &world.rules), world.under());
    let outcome = decide(&Case::new(&text, &votes, pair, None, (Moment::Vote, t0() + 2 * MINUTE_MS)).unwrap());
    assert_eq!(notes(&outcome), [Ok(()), Err(NotCounted::NotOnRoster)]);
}

#[test]
fn criticality_that_rises_asks_for_more_and_that_falls_never_for_less() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes = approvals(&text, &["bob", "carol"]);
    let at = |criticality_now| {
        let pair = (world.under(), world.under());
        let case = Case::new(&text, &votes, pair, None, (Moment::Vote, t0() + 2 * MINUTE_MS)).unwrap();
        decide(&case.with_criticality(criticality_now))
    };
    assert!(at(Criticality::Low).is_approved() && at(Criticality::High).is_approved());
    assert_eq!(missing(&at(Criticality::Critical)), Some((1, vec![])));
    let one = approvals(&text, &["bob"]);
    let case =
        Case::new(&text, &one, (world.under(), world.under()), None, (Moment::Vote, t0() + 2 * MINUTE_MS)).unwrap();
    assert!(!decide(&case.with_criticality(Criticality::Low)).is_approved());
}

#[test]
fn rules_that_became_laxer_or_stricter_never_lower_an_open_changes_bar() {
    let world = World::new();
    let laxer = rules_with("approvals = 2\nroles = { security = 1 }", "approvals = 1");
    let stricter = rules_with("approvals = 2\nroles", "approvals = 3\nroles");
    let text = world.text(|_| ());
    for (now, bob, both) in [(&laxer, false, true), (&stricter, false, false)] {
        let decided = |people: &[&str]| {
            let votes = approvals(&text, people);
            let pair = (under(&world.roster, now), world.under());
            decide(&Case::new(&text, &votes, pair, None, (Moment::Vote, t0() + 2 * MINUTE_MS)).unwrap()).is_approved()
        };
        assert_eq!((decided(&["bob"]), decided(&["bob", "carol"])), (bob, both));
    }
}

fn rejected_by(outcome: &Outcome) -> Option<Vec<&str>> {
    match &outcome.decided {
        Decided::Rejected(Block::By(people)) => Some(people.iter().map(|person| person.as_str()).collect()),
        _ => None,
    }
}

#[test]
fn one_rejection_of_an_eligible_person_blocks_and_a_threshold_can_be_set() {
    let world = World::new();
    let text = world.text(|_| ());
    let mut votes = approvals(&text, &["bob", "carol"]);
    votes.push(vote(&text, "frank", Verb::Rejection));
    assert!(decided(&world, &text, &votes).is_approved(), "a manager may not vote yet");
    votes.push(vote(&text, "erin", Verb::Rejection));
    assert_eq!(rejected_by(&decided(&world, &text, &votes)), Some(vec!["erin"]));
    let two = World {
        rules: Rules::parse(RULES.replace("approvers", "vetoes = 2\napprovers").as_bytes()).unwrap(),
        ..World::new()
    };
    let text = two.text(|_| ());
    let mut votes = approvals(&text, &["bob", "carol"]);
    votes.extend([vote(&text, "erin", Verb::Rejection), vote(&text, "erin", Verb::Rejection)]);
    assert!(decided(&two, &text, &votes).is_approved());
    votes.push(vote(&text, "dave", Verb::Rejection));
    assert_eq!(rejected_by(&decided(&two, &text, &votes)), Some(vec!["dave", "erin"]));
}

#[test]
fn a_rejection_outweighs_the_same_persons_approval_whichever_came_first() {
    let rules = Rules::parse(RULES.replace("approvers", "vetoes = 2\napprovers").as_bytes()).unwrap();
    let world = World { rules, ..World::new() };
    let text = world.text(|_| ());
    let mut votes = approvals(&text, &["bob", "carol"]);
    votes.push(vote(&text, "carol", Verb::Rejection));
    for _ in 0..2 {
        assert_eq!(missing(&decided(&world, &text, &votes)), Some((1, vec![("security", 1)])));
        votes.reverse();
    }
}

#[test]
fn a_withdrawn_vote_does_not_count_and_sending_it_again_does_not_bring_it_back() {
    let world = World::new();
    let text = world.text(|_| ());
    let mut votes = approvals(&text, &["bob", "carol"]);
    votes.push(vote(&text, "carol", Verb::Withdrawal));
    votes.push(vote(&text, "carol", Verb::Approval));
    let outcome = decided(&world, &text, &votes);
    assert_eq!(notes(&outcome), [Ok(()), Err(NotCounted::Withdrawn), Ok(()), Err(NotCounted::Withdrawn)]);
    assert!(!outcome.is_approved());
    let back = [vote(&text, "erin", Verb::Rejection), vote(&text, "erin", Verb::Withdrawal)];
    assert_eq!(rejected_by(&decided(&world, &text, &back)), None);
}

#[test]
fn withdrawal_is_open_until_approved_and_no_longer() {
    let world = World::new();
    let text = world.text(|_| ());
    let mut votes = approvals(&text, &["bob", "carol"]);
    let late = t0() + 10 * MINUTE_MS;
    votes.push(super::fixture::vote_at(&text, "carol", Verb::Withdrawal, late));
    votes.push(super::fixture::vote_at(&text, "erin", Verb::Rejection, late));
    let apply = Moment::Apply { approved_at_ms: t0() + 5 * MINUTE_MS };
    let outcome = decided_at(&world, &text, &votes, apply, t0() + 20 * MINUTE_MS);
    assert_eq!(notes(&outcome), [Ok(()), Ok(()), Err(NotCounted::TooLate), Err(NotCounted::TooLate)]);
    assert!(outcome.is_approved());
    assert!(!decided_at(&world, &text, &votes, Moment::Approval, t0() + 20 * MINUTE_MS).is_approved());
}

#[test]
fn user_presence_can_be_required() {
    let rules =
        Rules::parse(RULES.replace("delay_s_min = 600", "delay_s_min = 600\nrequire_user_presence = true").as_bytes())
            .unwrap();
    let world = World { rules, ..World::new() };
    let text = world.text(|_| ());
    let plain = approvals(&text, &["bob", "carol"]);
    assert_eq!(notes(&decided(&world, &text, &plain)), [Err(NotCounted::NoUserPresence); 2]);
    let touched: Vec<CheckedVote> = plain
        .iter()
        .map(|vote| {
            CheckedVote::unsigned(vote.person(), vote.verb(), vote.text(), vote.cast_at_ms(), (vote.key(), true))
        })
        .collect();
    assert!(decided(&world, &text, &touched).is_approved());
}

#[test]
fn a_threshold_above_the_eligible_members_is_told_at_creation() {
    let few = roster_of(4, &[("alice", &["operator"]), ("bob", &["operator"]), ("dave", &["security", "operator"])]);
    let world = World { roster: few, ..World::new() };
    let admitted = |text: &crate::quorum::change::ChangeText| {
        let proposed = Proposed::of(text).unwrap();
        let pair = (world.under(), world.under());
        admit(&Case::new(text, &[], pair, proposed.as_ref(), (Moment::Vote, t0())).unwrap())
    };
    assert_eq!(admitted(&world.text(|_| ())), Ok(()));
    let faults = admitted(&world.text(|change| change.criticality = Criticality::Critical)).unwrap_err();
    assert!(matches!(&faults[..], [Inadmissible::TooFewEligible { eligible: 2, missing }] if missing.people == 1));
    let faults = admitted(&world.text(|change| change.requester = word("dave"))).unwrap_err();
    assert!(matches!(&faults[..], [Inadmissible::TooFewEligible { .. }]));
    // Nobody can touch a key that he does not have.
    let touch =
        Rules::parse(RULES.replace("delay_s_min = 600", "delay_s_min = 600\nrequire_user_presence = true").as_bytes())
            .unwrap();
    let world = World { rules: touch, ..World::new() };
    let text = world.text(|_| ());
    let case = Case::new(&text, &[], (world.under(), world.under()), None, (Moment::Vote, t0())).unwrap();
    assert!(matches!(&admit(&case).unwrap_err()[..], [Inadmissible::TooFewEligible { eligible: 0, .. }]));
}

#[test]
fn a_change_of_the_roster_needs_the_highest_quorum_under_the_old_and_the_new_roster() {
    let world = World::new();
    let without_erin: Vec<_> = PEOPLE.into_iter().filter(|(name, _)| *name != "erin").collect();
    let next = roster_text(4, &without_erin);
    let text = world.authority_text(Kind::Roster, next.as_bytes());
    // Three approve of the old roster; in the new one erin is nobody.
    let outcome = decided(&world, &text, &approvals(&text, &["bob", "carol", "erin"]));
    assert_eq!(missing(&outcome), Some((1, vec![])));
    assert_eq!(notes(&outcome), [Ok(()), Ok(()), Ok(())]);
    assert!(decided(&world, &text, &approvals(&text, &["bob", "carol", "dave"])).is_approved());
    // Two are enough for high, never for a roster.
    assert!(!decided(&world, &text, &approvals(&text, &["bob", "carol"])).is_approved());
}

#[test]
fn newcomers_alone_cannot_put_their_own_roster_in_force() {
    let world = World::new();
    let next =
        roster_text(4, &[("mallory", &["operator", "security"]), ("eve", &["operator"]), ("oscar", &["operator"])]);
    let text = world.authority_text(Kind::Roster, next.as_bytes());
    assert_eq!(
        missing(&decided(&world, &text, &approvals(&text, &["mallory", "eve", "oscar"]))),
        Some((3, vec![("security", 1)]))
    );
    let both = ["mallory", "eve", "oscar", "bob", "carol", "dave"];
    assert!(decided(&world, &text, &approvals(&text, &both)).is_approved());
}

#[test]
fn a_change_of_the_rules_is_held_against_the_old_and_the_new_rules() {
    let world = World::new();
    let laxer = RULES.replace("version = 2", "version = 3").replace("approvals = 3", "approvals = 2");
    let text = world.authority_text(Kind::Rules, laxer.as_bytes());
    assert!(!decided(&world, &text, &approvals(&text, &["bob", "carol"])).is_approved());
    assert!(decided(&world, &text, &approvals(&text, &["bob", "carol", "dave"])).is_approved());
    let stricter = RULES.replace("version = 2", "version = 3").replace("approvals = 3", "approvals = 4");
    let text = world.authority_text(Kind::Rules, stricter.as_bytes());
    assert_eq!(missing(&decided(&world, &text, &approvals(&text, &["bob", "carol", "dave"]))), Some((1, vec![])));
}

#[test]
fn a_roster_written_for_another_one_or_with_an_old_number_is_blocked() {
    let world = World::new();
    let text = world.authority_text(Kind::Roster, roster_text(3, &PEOPLE[..5]).as_bytes());
    let votes = approvals(&text, &["bob", "carol", "dave"]);
    assert_eq!(decided(&world, &text, &votes).decided, Decided::Rejected(Block::VersionNotAbove));
    let text = world.authority_text(Kind::Roster, roster_text(9, &PEOPLE[..5]).as_bytes());
    let votes = approvals(&text, &["bob", "carol", "dave"]);
    let moved = roster_of(4, &PEOPLE);
    let proposed = Proposed::of(&text).unwrap();
    let pair = (under(&moved, &world.rules), world.under());
    let case = Case::new(&text, &votes, pair, proposed.as_ref(), (Moment::Approval, t0() + MINUTE_MS)).unwrap();
    assert_eq!(decide(&case).decided, Decided::Rejected(Block::BaseMoved));
}

#[test]
fn what_it_takes_the_place_of_must_still_be_there_at_apply() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes = approvals(&text, &["bob", "carol"]);
    let apply = Moment::Apply { approved_at_ms: t0() + 2 * MINUTE_MS };
    let case = Case::new(&text, &votes, (world.under(), world.under()), None, (apply, t0() + 3 * MINUTE_MS)).unwrap();
    assert!(decide(&case).is_approved());
    assert!(decide(&case.with_base(BaseNow::Is(text.change().base))).is_approved());
    for moved in [None, Some(text.digest())] {
        let outcome = decide(&case.with_base(BaseNow::Is(moved)));
        assert_eq!(outcome.decided, Decided::Rejected(Block::BaseMoved));
    }
}

#[test]
fn other_documents_than_those_of_the_text_make_no_case() {
    let world = World::new();
    let text = world.text(|_| ());
    let other = roster_of(9, &PEOPLE);
    let pair = (world.under(), under(&other, &world.rules));
    assert_eq!(Case::new(&text, &[], pair, None, (Moment::Vote, t0())).unwrap_err(), CaseFault::Creation);
    let text = world.authority_text(Kind::Roster, roster_text(4, &PEOPLE).as_bytes());
    let pair = (world.under(), world.under());
    assert_eq!(Case::new(&text, &[], pair, None, (Moment::Vote, t0())).unwrap_err(), CaseFault::Proposed);
    let swapped = Proposed::Roster(other);
    assert_eq!(Case::new(&text, &[], pair, Some(&swapped), (Moment::Vote, t0())).unwrap_err(), CaseFault::Proposed);
}

fn any_votes() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..PEOPLE.len(), 0usize..3), 0..8)
}

proptest! {
    #[test]
    fn the_order_of_votes_and_votes_sent_again_alter_nothing(said in any_votes(), seed in any::<u64>()) {
        let world = World::new();
        let text = world.text(|_| ());
        let verbs = [Verb::Approval, Verb::Rejection, Verb::Withdrawal];
        let votes: Vec<CheckedVote> = said.iter().map(|(who, verb)| vote(&text, PEOPLE[*who].0, verbs[*verb])).collect();
        let mut other: Vec<CheckedVote> = votes.iter().chain(&votes).cloned().collect();
        let length = other.len().max(1);
        for at in 0..other.len() {
            other.swap(at, usize::try_from(seed.rotate_left(u32::try_from(at).unwrap())).unwrap() % length);
        }
        prop_assert_eq!(decided(&world, &text, &votes).decided, decided(&world, &text, &other).decided);
    }

    #[test]
    fn a_vote_of_somebody_who_is_not_eligible_alters_nothing(said in any_votes()) {
        let world = World::new();
        let text = world.text(|_| ());
        let verbs = [Verb::Approval, Verb::Rejection, Verb::Withdrawal];
        let votes: Vec<CheckedVote> = said.iter().map(|(who, verb)| vote(&text, PEOPLE[*who].0, verbs[*verb])).collect();
        let eligible = |vote: &&CheckedVote| ["bob", "carol", "dave", "erin", "hugo"].contains(&vote.person().as_str());
        let only: Vec<CheckedVote> = votes.iter().filter(eligible).cloned().collect();
        prop_assert_eq!(decided(&world, &text, &votes).decided, decided(&world, &text, &only).decided);
    }
}
