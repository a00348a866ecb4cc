//! What stands against a change though enough approve: another one beside it, who asks, and how many have asked already.

use quotary_common::quorum::change::Way;
use quotary_common::quorum::vote::Verb;
use quotary_common::reason::Reason;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, PEOPLE, RULES, Verifier, policy, roster};
use crate::change::Effect;
use crate::policy::life::{Input, State};

fn promise(memory_bytes: u64) -> ChangeSubject {
    ChangeSubject::Policy(format!(
        "name = 'web-memory'\nversion = 1\ncriticality = 'high'\n[select]\napplication = 'web'\n[guarantee]\nmemory_bytes = {memory_bytes}\n"
    ))
}

#[test]
fn of_two_that_do_not_go_together_the_first_that_is_approved_goes() {
    let mut verifier = Verifier::new();
    let one = verifier.propose("alice", &policy(1, GIB), 20).unwrap();
    let same = ChangeSubject::Policy(match policy(1, 2 * GIB) {
        ChangeSubject::Policy(text) => text.replace("web-memory", "web-too"),
        other => unreachable!("{other:?}"),
    });
    let other = verifier.propose("alice", &same, 20).unwrap();
    for id in [one, other] {
        verifier.vote(id, "bob", Verb::Approval).unwrap();
        verifier.vote(id, "carol", Verb::Approval).unwrap();
    }
    assert_eq!((verifier.state(one), verifier.state(other)), (State::Approved, State::Rejected));
    let why = verifier.book.change(&other).unwrap().record().why.clone().unwrap();
    assert!(why.as_str().contains("beside what is approved already"), "{why}");
    // Nor is such a one let in later.
    let late = verifier.propose("alice", &same, 20).unwrap_err();
    assert_eq!(late.reason, Reason::Change);
    assert!(late.detail.as_str().contains("beside"), "{late:?}");
    verifier.told(one, Input::Planned).unwrap();
    verifier.later(20);
    assert_eq!(verifier.state(one), State::InForce);
}

#[test]
fn what_does_not_fit_any_more_at_its_effective_time_does_not_come_into_force() {
    let mut verifier = Verifier::new();
    let id = verifier.moving(&promise(10 * GIB), 20);
    verifier.shrink_host(8 * GIB);
    verifier.later(20);
    assert_eq!(verifier.state(id), State::Rejected);
    assert!(verifier.book.policies().is_empty());
}

#[test]
fn only_who_asked_takes_back_and_others_edit_only_what_they_may_approve_and_while_it_is_open() {
    let mut verifier = Verifier::new();
    let id = verifier.propose("alice", &policy(1, GIB), 20).unwrap();
    // Neither on call nor anything else that the rule asks for.
    assert_eq!(verifier.edit(id, "erin", &policy(1, 2 * GIB), 20).unwrap_err().reason, Reason::Forbidden);
    verifier.edit(id, "bob", &policy(1, 2 * GIB), 20).unwrap();
    assert_eq!(verifier.withdraw(id, "bob").unwrap_err().reason, Reason::Forbidden, "who edits takes nothing back");
    verifier.vote(id, "dave", Verb::Approval).unwrap();
    verifier.vote(id, "carol", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approved);
    assert_eq!(verifier.edit(id, "bob", &policy(1, GIB), 20).unwrap_err().reason, Reason::Forbidden);
    assert_eq!(verifier.state(id), State::Approved, "it stays approved");
    verifier.edit(id, "alice", &policy(1, GIB), 20).unwrap();
    assert_eq!(verifier.state(id), State::Approving);
    verifier.withdraw(id, "alice").unwrap();
}

#[test]
fn one_persons_crowd_keeps_nobody_else_out() {
    let mut verifier = Verifier::new();
    for number in 0..64 {
        let subject = ChangeSubject::Policy(match policy(1, GIB) {
            ChangeSubject::Policy(text) => text.replace("web-memory", &format!("web-{number}")),
            other => unreachable!("{other:?}"),
        });
        verifier.propose("alice", &subject, 20).unwrap();
    }
    let more = verifier.propose("alice", &policy(1, GIB), 20).unwrap_err();
    assert_eq!(more.reason, Reason::Busy);
    assert!(verifier.propose("bob", &policy(1, GIB), 20).is_ok());
    assert!(verifier.propose_by("bob", &policy(1, 2 * GIB), Way::BreakGlass, None).is_ok());
}

#[test]
fn a_roster_and_rules_that_are_due_at_once_are_two_links() {
    let mut verifier = Verifier::new();
    let people = ChangeSubject::Roster(roster(2, &PEOPLE));
    let rules = ChangeSubject::Rules(RULES.replace("version = 1", "version = 2"));
    let ids = [verifier.propose("alice", &people, 20).unwrap(), verifier.propose("alice", &rules, 20).unwrap()];
    for id in ids {
        verifier.vote(id, "bob", Verb::Approval).unwrap();
        verifier.vote(id, "carol", Verb::Approval).unwrap();
    }
    verifier.effects.clear();
    verifier.later(20);
    // The first changes who decides, and so the second, made under who decided before, is looked at anew.
    let written: Vec<(u64, usize)> = verifier
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Authority { number, link } => Some((*number, link.len())),
            _ => None,
        })
        .collect();
    let links = verifier.book.governing().unwrap().links();
    assert_eq!(written.len(), links.len());
    for (place, (number, length)) in written.iter().enumerate() {
        assert_eq!((*number, *length), (place as u64 + 1, links[place].len()));
    }
    assert!(!links.is_empty());
    let states = ids.map(|id| verifier.state(id));
    assert!(states.iter().all(|state| matches!(state, State::InForce | State::Rejected)), "{states:?}");
    assert_eq!(states.iter().filter(|state| **state == State::InForce).count(), links.len());
}
