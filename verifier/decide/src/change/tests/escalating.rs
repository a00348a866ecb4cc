//! Escalation: who is told when a change waits, by which rules, and what is told again after a restart.

use quotary_common::id::ChangeId;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, RULES, Verifier, policy};
use crate::change::Effect;
use crate::policy::life::{Notice, State};

/// Rules with one step of escalation, after so many minutes, that adds those on call and tells by this command.
fn rules(version: u64, steps: &[(u64, &str)]) -> String {
    let step = |(minutes, command): &(u64, &str)| {
        let after_s = minutes * 60;
        format!(
            "[[criticality.critical.escalation]]\nafter_s = {after_s}\nadd_roles = ['on-call']\ncommand = '{command}'\n"
        )
    };
    let steps: String = steps.iter().map(step).collect();
    RULES.replacen("version = 1", &format!("version = {version}"), 1).replacen(
        "[break_glass]",
        &format!("{steps}[break_glass]"),
        1,
    )
}

fn commands(verifier: &Verifier, id: ChangeId, step: u32) -> Vec<String> {
    let steps = verifier.book.change(&id).unwrap().escalation(step);
    steps.into_iter().filter_map(|one| one.command.as_ref().map(ToString::to_string)).collect()
}

fn told(verifier: &Verifier) -> Vec<u32> {
    let number = |effect: &Effect| match effect {
        Effect::Tell(_, Notice::Escalated(step)) => Some(*step),
        _ => None,
    };
    verifier.effects.iter().filter_map(number).collect()
}

#[test]
fn a_step_of_escalation_is_a_leaf_and_is_told_by_the_rule_whose_step_it_is() {
    let mut verifier = Verifier::under(&rules(1, &[(10, "wake"), (20, "shout")]));
    let next = ChangeSubject::Rules(rules(2, &[(5, "knock"), (20, "ring")]));
    let id = verifier.propose("alice", &next, 40).unwrap();
    assert_eq!(verifier.book.escalated().count(), 0);
    verifier.later(5);
    assert_eq!((commands(&verifier, id, 0), told(&verifier)), (vec!["knock".to_owned()], vec![0]));
    verifier.later(5);
    assert_eq!((commands(&verifier, id, 1), told(&verifier)), (vec!["wake".to_owned()], vec![0, 1]));
    verifier.later(10);
    let both = vec!["shout".to_owned(), "ring".to_owned()];
    assert_eq!((commands(&verifier, id, 2), told(&verifier)), (both, vec![0, 1, 2]));
    assert_eq!(commands(&verifier, id, 3), Vec::<String>::new());
    let leaves = verifier.effects.iter().filter_map(|effect| match effect {
        Effect::Leaf(moved) if moved.why.starts_with("escalated") => Some((moved.state, moved.why.as_str())),
        _ => None,
    });
    let leaf = |step: &'static str| (State::Approving, step);
    let whys = ["escalated, step 1 of 3: not approved in time", "escalated, step 2 of 3: not approved in time"];
    assert_eq!(leaves.take(2).collect::<Vec<_>>(), whys.map(leaf));
}

#[test]
fn what_was_escalated_is_told_again_after_a_restart_until_it_is_approved_edited_or_over() {
    let mut verifier = Verifier::under(&rules(1, &[(10, "wake")]));
    let [edited, approved, withdrawn] = [1, 2, 3].map(|_| verifier.propose("alice", &policy(1, 2 * GIB), 40).unwrap());
    verifier.later(10);
    // The book was read back from its rows since.
    let escalated = |verifier: &Verifier| verifier.book.escalated().collect::<Vec<_>>();
    assert_eq!(escalated(&verifier), [(edited, 0), (approved, 0), (withdrawn, 0)]);
    verifier.edit(edited, "alice", &policy(1, GIB), 40).unwrap();
    verifier.vote(approved, "bob", Verb::Approval).unwrap();
    verifier.vote(approved, "carol", Verb::Approval).unwrap();
    verifier.withdraw(withdrawn, "alice").unwrap();
    assert_eq!(escalated(&verifier), []);
    assert_eq!(told(&verifier).len(), 3);
    verifier.later(9);
    assert_eq!(told(&verifier).len(), 3, "the text that it has now is nine minutes old");
    verifier.later(1);
    assert_eq!((told(&verifier).len(), escalated(&verifier)), (4, vec![(edited, 0)]));
}

#[test]
fn whoever_is_added_may_approve_when_the_log_says_so_and_not_before() {
    let mut verifier = Verifier::under(&rules(1, &[(10, "wake")]));
    let id = verifier.propose("alice", &policy(1, 2 * GIB), 40).unwrap();
    verifier.later(9);
    verifier.edit(id, "alice", &policy(1, GIB), 40).unwrap();
    verifier.vote(id, "carol", Verb::Approval).unwrap();
    verifier.vote(id, "erin", Verb::Approval).unwrap();
    verifier.later(9);
    assert_eq!((verifier.state(id), told(&verifier)), (State::Approving, vec![]));
    verifier.later(1);
    assert_eq!((verifier.state(id), told(&verifier)), (State::Approved, vec![0]));
}
