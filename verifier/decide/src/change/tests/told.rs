//! What people are told of a change: reviews, freezes, votes that came too late, what else is on its way, what hosts cannot do.

use quotary_common::envelope::{BackendKind, Mode};
use quotary_common::id::ChangeId;
use quotary_common::instant::rfc3339;
use quotary_common::plan::ShapedControl;
use quotary_common::quorum::change::Way;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, MINUTE_MS, PEOPLE, RULES, Verifier, policy, roster};
use crate::change::{Effect, Review};
use crate::policy::Enforcing;
use crate::policy::life::State;

fn review(verifier: &Verifier, id: ChangeId) -> Review {
    verifier.book.review_of(&id, verifier.now_ms).unwrap()
}

fn names(words: &[quotary_common::quorum::roster::Word]) -> Vec<&str> {
    words.iter().map(|word| word.as_str()).collect()
}

/// Why a change stood where it stood, leaf by leaf.
fn whys(verifier: &Verifier, id: ChangeId) -> Vec<&str> {
    let why = |effect: &'_ Effect| matches!(effect, Effect::Leaf(moved) if moved.change == id);
    let leaves = verifier.effects.iter().filter(move |effect| why(effect));
    leaves.filter_map(|effect| if let Effect::Leaf(moved) = effect { Some(moved.why.as_str()) } else { None }).collect()
}

#[test]
fn a_review_says_who_may_until_when_what_follows_and_what_it_came_to() {
    let mut verifier = Verifier::new();
    let quiet = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    assert_eq!(verifier.book.review_of(&quiet, verifier.now_ms), None, "a change by quorum");
    let id = verifier.propose_by("alice", &policy(1, GIB), Way::BreakGlass, None).unwrap();
    let ends_at_ms = verifier.now_ms + 20 * MINUTE_MS;
    assert_eq!(review(&verifier, id).state, "to come");
    verifier.vote(id, "erin", Verb::BreakGlass).unwrap();
    verifier.vote(id, "frank", Verb::BreakGlass).unwrap();
    verifier.told(id, crate::policy::life::Input::Planned).unwrap();
    verifier.later(0);
    let due = review(&verifier, id);
    assert_eq!((due.state, due.missing, due.by_ms), ("due", 1, ends_at_ms + 60 * MINUTE_MS));
    // Not who asked, nor those who broke the glass.
    assert_eq!((names(&due.by), names(&due.may)), (vec![], vec!["bob", "carol", "dave"]));
    assert!(due.follows.contains("if nobody does"));
    verifier.later(30);
    let until = rfc3339(due.by_ms);
    assert!(whys(&verifier, id).iter().any(|why| why.ends_with(&format!("to be reviewed until {until}"))));

    verifier.later(120);
    let late = review(&verifier, id);
    assert_eq!((late.state, late.missing), ("overdue", 1));
    assert!(late.follows.contains("no glass is broken"));
    verifier.vote(id, "carol", Verb::Review).unwrap();
    let done = review(&verifier, id);
    assert_eq!((done.state, names(&done.by), names(&done.may)), ("done late", vec!["carol"], vec![]));
    assert_eq!(whys(&verifier, id).last(), Some(&"reviewed after its time"));

    let again = verifier.propose_by("alice", &policy(1, GIB), Way::BreakGlass, None).unwrap();
    verifier.withdraw(again, "alice").unwrap();
    assert_eq!(verifier.book.review_of(&again, verifier.now_ms), None, "it never was in force");
}

#[test]
fn a_freeze_is_called_one_and_has_ended_when_it_is_over() {
    let mut verifier = Verifier::new();
    let id = verifier.moving(&policy(1, GIB), 60);
    let subject = ChangeSubject::Freeze(id.to_string());
    let freeze = verifier.propose_by("alice", &subject, Way::Freeze, None).unwrap();
    verifier.vote(freeze, "bob", Verb::Approval).unwrap();
    verifier.later(0);
    let words = |verifier: &Verifier, id| {
        let kept = verifier.book.change(&id).unwrap();
        (kept.kind_name(), kept.state_name())
    };
    assert_eq!(words(&verifier, freeze), ("freeze", "in force"));
    assert_eq!(words(&verifier, id), ("create policy", "shaping"));
    verifier.later(20);
    assert_eq!((words(&verifier, freeze), verifier.state(freeze)), (("freeze", "ended"), State::Revoked));
    assert!(whys(&verifier, freeze).iter().all(|why| !why.contains("emergency") && !why.contains("holds again")));
}

#[test]
fn who_approves_another_roster_or_other_rules_is_told_what_would_differ() {
    let mut verifier = Verifier::new();
    let impact = |verifier: &Verifier, id| verifier.book.change(&id).unwrap().impact().join("\n");
    let people: Vec<_> =
        PEOPLE.iter().copied().filter(|(name, _)| *name != "frank").chain([("mallory", "security")]).collect();
    let id = verifier.propose("alice", &ChangeSubject::Roster(roster(2, &people)), 60).unwrap();
    let told = impact(&verifier, id);
    for line in [
        "people.frank.roles: [\"on-call\"] -> none",
        "people.mallory.roles: none -> [\"security\"]",
        "nobody could break the glass (`break_glass`): ",
        "version: 1 -> 2",
    ] {
        assert!(told.lines().any(|told| told.starts_with(line)), "{line} in {told}");
    }
    assert_eq!(told.matches(".keys.SHA256:").count(), 2, "{told}");
    let rules = RULES.replace("version = 1", "version = 2").replace("delay_s_min = 60", "delay_s_min = 0");
    let id = verifier.propose("alice", &ChangeSubject::Rules(rules), 60).unwrap();
    let told = impact(&verifier, id);
    assert!(told.lines().any(|line| line == "criticality.critical.delay_s_min: 60 -> 0"), "{told}");
    // What is longer than a line that is kept is cut, and says so.
    let excluded: Vec<String> = (0..20).map(|number| format!("'somebody-with-a-long-name-{number}'")).collect();
    let lines = format!("delay_s_min = 60\nexclude = [{}]", excluded.join(", "));
    let rules = RULES.replace("version = 1", "version = 2").replace("delay_s_min = 60", &lines);
    let id = verifier.propose("alice", &ChangeSubject::Rules(rules), 60).unwrap();
    let told = impact(&verifier, id);
    let cut: Vec<&str> = told.lines().filter(|line| line.contains(".exclude: none -> ")).collect();
    assert!(cut.iter().all(|line| line.len() <= 512 && line.ends_with("tells all)")) && !cut.is_empty(), "{told}");
    // A crowd of differences is cut, and says so.
    let crowd: Vec<String> = (0..100).map(|number| format!("new-{number}")).collect();
    let crowd: Vec<_> = PEOPLE.iter().copied().chain(crowd.iter().map(|name| (name.as_str(), "operator"))).collect();
    let id = verifier.propose("alice", &ChangeSubject::Roster(roster(3, &crowd)), 60).unwrap();
    let told = impact(&verifier, id);
    assert!(told.contains("73 more differences: `quotary policy diff` tells all"), "{told}");
}

#[test]
fn who_votes_too_late_is_told_when_the_time_was() {
    let mut verifier = Verifier::new();
    let id = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    let by_ms = verifier.book.change(&id).unwrap().record().times.approve_by_ms;
    let expected = format!("the time for approving it ended at {}", rfc3339(by_ms));
    verifier.now_ms = by_ms + 1;
    let refused = |verifier: &mut Verifier| verifier.vote(id, "bob", Verb::Approval).unwrap_err().detail.to_string();
    assert_eq!(refused(&mut verifier), expected);
    verifier.later(1);
    assert_eq!(verifier.state(id), State::Expired);
    assert_eq!(refused(&mut verifier), expected);
}

#[test]
fn who_proposes_is_told_what_else_is_on_its_way_over_the_same() {
    let mut verifier = Verifier::new();
    let besides = |verifier: &Verifier, id| -> Vec<String> {
        let impact = verifier.book.impact_now(&id);
        impact.into_iter().filter(|line| line.starts_with("besides")).collect()
    };
    let kept = |verifier: &Verifier, id| {
        verifier.book.change(&id).unwrap().impact().iter().filter(|line| line.starts_with("besides")).count()
    };
    let first = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    assert_eq!(besides(&verifier, first), Vec::<String>::new());
    let second = verifier.propose("bob", &policy(1, 2 * GIB), 20).unwrap();
    let told = besides(&verifier, second);
    assert!(told.len() == 1 && told[0].contains(&first.to_string()) && told[0].contains("the same policy"), "{told:?}");
    // Who approves the first learns of the second; what was found at proposal stays as it was.
    let told = besides(&verifier, first);
    assert!(told.len() == 1 && told[0].contains(&second.to_string()), "{told:?}");
    assert_eq!((kept(&verifier, first), kept(&verifier, second)), (0, 1));
    let ChangeSubject::Policy(text) = policy(1, 4 * GIB) else { unreachable!() };
    let other = |name: &str| text.replace("web-memory", name).replace("application = 'web'", "tenant = 'shop'");
    let third = verifier.propose("alice", &ChangeSubject::Policy(other("of-shop")), 30).unwrap();
    let told = besides(&verifier, third);
    assert!(told.len() == 2 && told.iter().all(|line| line.contains("some of the same units: web")), "{told:?}");
    // What is over is not on its way.
    for id in [first, second] {
        let by = verifier.book.change(&id).unwrap().text().change().requester.clone();
        verifier.withdraw(id, by.as_str()).unwrap();
    }
    let fourth = verifier.propose("alice", &ChangeSubject::Policy(other("of-shop-too")), 30).unwrap();
    let told = besides(&verifier, fourth);
    assert!(told.len() == 1 && told[0].contains(&third.to_string()), "{told:?}");
}

#[test]
fn what_hosts_cannot_do_is_told_before_anybody_approves() {
    let mut verifier = Verifier::new();
    let asked = |verifier: &mut Verifier, enforcing: Option<Enforcing>| -> Vec<String> {
        verifier.enforces(enforcing);
        let id = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
        verifier.withdraw(id, "alice").unwrap();
        let impact = verifier.book.change(&id).unwrap().impact();
        impact.iter().filter(|line| line.starts_with("not enforced")).cloned().collect()
    };
    let able = Enforcing { mode: Mode::Enforce, backend: BackendKind::Systemd, lacks: vec![ShapedControl::IoReadMax] };
    assert_eq!(asked(&mut verifier, None), Vec::<String>::new(), "nobody knows");
    assert_eq!(asked(&mut verifier, Some(able.clone())), Vec::<String>::new(), "nothing asks for it");
    let lacks = asked(&mut verifier, Some(Enforcing { lacks: vec![ShapedControl::MemoryHigh], ..able.clone() }));
    assert!(lacks[0].contains("web.service") && lacks[0].contains("the host has no such control"), "{lacks:?}");
    let observes = asked(&mut verifier, Some(Enforcing { mode: Mode::Observe, ..able.clone() }));
    assert!(observes[0].contains("only reports"), "{observes:?}");
    let none = asked(&mut verifier, Some(Enforcing { backend: BackendKind::None, ..able }));
    assert!(none.len() == 1 && none[0].contains("can set no limits"), "{none:?}");
}

#[test]
fn who_proposes_rules_that_leave_a_criticality_to_nobody_is_told() {
    let mut verifier = Verifier::new();
    let low = "[criticality.low]\napprovals = 1\napprovers = ['nobody']\napprove_within_s = 60\napply_within_s = 60\n";
    let rules = format!("{low}{}", RULES.split_once('\n').unwrap().1);
    let told = verifier.propose("alice", &ChangeSubject::Rules(format!("version = 2\n{rules}")), 10).unwrap();
    let impact = verifier.book.change(&told).unwrap().impact();
    assert!(
        impact.iter().any(|line| line.starts_with("nobody could approve a change of criticality `low`")),
        "{impact:?}"
    );
    let people: Vec<(&str, &str)> = PEOPLE.into_iter().filter(|(_, role)| *role != "on-call").collect();
    let told = verifier.propose("alice", &ChangeSubject::Roster(roster(2, &people)), 10).unwrap();
    let impact = verifier.book.change(&told).unwrap().impact();
    assert!(impact.iter().any(|line| line.starts_with("nobody could break the glass")), "{impact:?}");
}

#[test]
fn whoever_could_approve_too_early_is_told_and_what_was_expires() {
    for (approved_at_minute, state) in [(0, State::Expired), (31, State::InForce)] {
        let mut verifier = Verifier::new();
        // Its rule lets it be applied within two hours of its approval.
        let id = verifier.propose("alice", &policy(1, GIB), 150).unwrap();
        let line = format!("not to be approved before {}: ", rfc3339(verifier.now_ms + 30 * MINUTE_MS));
        assert!(verifier.book.impact_now(&id).iter().any(|told| told.starts_with(&line)));
        verifier.later(approved_at_minute);
        verifier.vote(id, "bob", Verb::Approval).unwrap();
        verifier.vote(id, "carol", Verb::Approval).unwrap();
        verifier.later(150 - approved_at_minute);
        assert_eq!(verifier.state(id), state);
    }
    let mut verifier = Verifier::new();
    let id = verifier.propose("alice", &policy(1, GIB), 120).unwrap();
    assert!(!verifier.book.impact_now(&id).iter().any(|told| told.contains("not to be approved")));
}
