//! Rules: what they ask for, and that a higher criticality never asks for less.

use super::fixture::{RULES, rules, word};
use crate::quorum::criticality::Criticality;
use crate::quorum::rules::Rules;

fn told(text: &str) -> Vec<(usize, String, String)> {
    let faults = Rules::parse(text.as_bytes()).unwrap_err().0;
    faults.into_iter().map(|fault| (fault.line, fault.field, fault.reason)).collect()
}

fn told_with(from: &str, to: &str) -> Vec<String> {
    assert!(RULES.contains(from));
    told(&RULES.replacen(from, to, 1)).into_iter().map(|(_, field, reason)| format!("{field}: {reason}")).collect()
}

#[test]
fn an_absent_criticality_takes_the_next_higher_one() {
    let rules = rules();
    assert_eq!(rules.rule(Criticality::Medium), rules.rule(Criticality::High));
    assert_eq!(rules.rule(Criticality::Low).approvals, 1);
    assert_eq!(rules.rule(Criticality::Critical).approvals, 3);
    assert_eq!(rules.break_glass().unwrap().role, word("rescue"));
    assert_eq!(rules.rule(Criticality::High).escalation[0].add_roles.iter().next().unwrap(), &word("manager"));
}

#[test]
fn rules_without_the_highest_criticality_or_without_any_are_faults() {
    assert_eq!(told("version = 1\n")[0].1, "criticality");
    assert_eq!(told("version = 1\n[criticality]\n")[0].1, "criticality.critical");
    assert_eq!(told_with("[criticality.critical]", "[criticality.medium]").len(), 1);
}

#[test]
fn a_higher_criticality_never_asks_for_less() {
    for (from, to, less) in [
        ("approvals = 3", "approvals = 1\nroles = {}", "1 approvals, not 2"),
        ("approvals = 3\nroles = { security = 1 }", "approvals = 3", "0 people with role `security`, not 1"),
        ("delay_s_min = 600\n[break_glass]", "delay_s_min = 599\n[break_glass]", "a shorter least delay"),
        ("[criticality.critical]", "[criticality.critical]\nvetoes = 2", "2 rejections to block, not 1"),
        ("[criticality.low]", "[criticality.low]\nrequire_user_presence = true", "no user presence"),
        ("[criticality.low]", "[criticality.low]\nexclude = ['bob']", "`bob` is not excluded"),
    ] {
        let text = RULES.replacen(from, to, 1).replace("roles = {}\nroles = { security = 1 }", "");
        let told: Vec<String> = told(&text).into_iter().map(|(_, _, reason)| reason).collect();
        assert!(told.iter().any(|reason| reason.contains(less)), "{less}: {told:?}");
    }
}

#[test]
fn what_cannot_be_is_told_all_at_once() {
    let text = "version = 'two'\n[criticality.critical]\napprovals = 17\nroles = { security = 0, Big = 1 }\n\
                approve_within_s = 0\napply_within_s = -1\nvetoes = 0\nrequire_user_presence = 'yes'\nquorum = 3\n\
                [[criticality.critical.escalation]]\nafter_s = 10\n\
                [[criticality.critical.escalation]]\nafter_s = 5\nwebhook = 'ftp://x'\n\
                [break_glass]\nrole = 'rescue'\napprovals = 1\n[freeze]\nlasts_s_max = 99999999999\n[thaw]\n";
    let fields: Vec<(usize, String)> = told(text).into_iter().map(|(line, field, _)| (line, field)).collect();
    let expected = [
        (1, "version"),
        (2, "criticality.critical.approvers"),
        (3, "criticality.critical.approvals"),
        (4, "criticality.critical.roles.Big"),
        (4, "criticality.critical.roles.security"),
        (5, "criticality.critical.approve_within_s"),
        (6, "criticality.critical.apply_within_s"),
        (7, "criticality.critical.vetoes"),
        (8, "criticality.critical.require_user_presence"),
        (9, "criticality.critical.quorum"),
        (10, "criticality.critical.escalation[0]"),
        (13, "criticality.critical.escalation[1].after_s"),
        (14, "criticality.critical.escalation[1].webhook"),
        (15, "break_glass.lasts_s_max"),
        (15, "break_glass.review_approvals"),
        (15, "break_glass.review_within_s"),
        (18, "freeze.review_approvals"),
        (18, "freeze.review_within_s"),
        (18, "freeze.role"),
        (19, "freeze.lasts_s_max"),
        (20, "thaw"),
    ];
    let expected: Vec<(usize, String)> = expected.map(|(line, field)| (line, field.to_owned())).to_vec();
    assert_eq!(fields, expected);
}

#[test]
fn required_roles_that_ask_for_more_people_than_there_are_approvals_are_a_fault() {
    let told = told_with("approvals = 2\nroles = { security = 1 }", "approvals = 2\nroles = { security = 3 }");
    assert!(told.iter().any(|fault| fault.contains("ask for 3 people")), "{told:?}");
    assert!(told_with("approvers = ['operator', 'security']", "approvers = []")[0].contains("one role at least"));
}
