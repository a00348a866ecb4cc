//! Rosters and quorum rules as fields with values, so that two of them can be compared like policies.

use std::collections::BTreeMap;

use quotary_common::instant::rfc3339;
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::roster::{PersonKey, Roster, Word};
use quotary_common::quorum::rules::{Escalation, Review, Rule, Rules};
use serde_json::Value;

use super::row::LINE_BYTES_MAX;
use crate::policy::{FieldChange, differences};

/// Differences that an impact tells at most.
const TOLD_MAX: usize = 128;
/// What stands for the rest of a line that is too long.
const CUT: &str = " … (`quotary policy diff` tells all)";

/// Fields by their paths.
type Fields = BTreeMap<String, Value>;

/// What differs between two rosters: each person's roles, and each key: `people.alice.keys.SHA256:…`.
pub fn between_rosters(old: &Roster, new: &Roster) -> Vec<FieldChange> {
    differences(of_roster(old), of_roster(new))
}

/// What differs between two documents of quorum rules, each criticality's as it holds: an absent one is what the next higher says.
pub fn between_rules(old: &Rules, new: &Rules) -> Vec<FieldChange> {
    differences(of_rules(old), of_rules(new))
}

/// One difference, as long as a line of an impact is kept: what is cut says so.
fn line(change: &FieldChange) -> String {
    let line = change.to_string();
    if line.len() <= LINE_BYTES_MAX {
        return line;
    }
    let end = line.floor_char_boundary(LINE_BYTES_MAX - CUT.len());
    format!("{}{CUT}", line.get(..end).unwrap_or_default())
}

/// Differences in words, as an impact tells them: as many as people read.
pub(super) fn in_words(changes: &[FieldChange]) -> impl Iterator<Item = String> + '_ {
    let more = changes.len().saturating_sub(TOLD_MAX);
    let more = (more > 0).then(|| format!("{more} more differences: `quotary policy diff` tells all"));
    changes.iter().take(TOLD_MAX).map(line).chain(more)
}

/// Each person, with roles and keys.
fn of_roster(roster: &Roster) -> Fields {
    let mut fields = Fields::from([("version".to_owned(), roster.version().into())]);
    for person in roster.people() {
        let path = format!("people.{}", person.name);
        fields.insert(format!("{path}.roles"), words(&person.roles));
        for key in &person.keys {
            fields.insert(format!("{path}.keys.{}", key.key.fingerprint()), key_words(key).into());
        }
    }
    fields
}

/// A key in words: its algorithm, whether it is in hardware, and when it counts.
pub fn key_words(key: &PersonKey) -> String {
    let mut words = key.key.algorithm().to_owned();
    if key.key.is_security_key() {
        words.push_str(", a security key");
    }
    if let Some(from_ms) = key.valid_from_ms {
        words.push_str(&format!(", from {}", rfc3339(from_ms)));
    }
    if let Some(until_ms) = key.valid_until_ms {
        words.push_str(&format!(", until {}", rfc3339(until_ms)));
    }
    words
}

/// Each criticality's rule as it holds.
fn of_rules(rules: &Rules) -> Fields {
    let mut fields = Fields::from([("version".to_owned(), rules.version().into())]);
    for criticality in Criticality::ALL {
        rule(&mut fields, &format!("criticality.{criticality}"), rules.rule(criticality));
    }
    if let Some(emergency) = rules.break_glass() {
        put(&mut fields, "break_glass", "role", emergency.role.to_string());
        put(&mut fields, "break_glass", "approvals", emergency.approvals);
        put(&mut fields, "break_glass", "lasts_s_max", emergency.lasts_ms_max / 1000);
        review(&mut fields, "break_glass", emergency.review);
    }
    if let Some(freeze) = rules.freeze() {
        put(&mut fields, "freeze", "role", freeze.role.to_string());
        put(&mut fields, "freeze", "lasts_s_max", freeze.lasts_ms_max / 1000);
        review(&mut fields, "freeze", freeze.review);
    }
    fields
}

fn rule(fields: &mut Fields, path: &str, rule: &Rule) {
    put(fields, path, "approvals", rule.approvals);
    for (role, count) in &rule.roles {
        put(fields, path, &format!("roles.{role}"), *count);
    }
    put(fields, path, "approvers", words(&rule.approvers));
    if !rule.exclude.is_empty() {
        put(fields, path, "exclude", words(&rule.exclude));
    }
    put(fields, path, "approve_within_s", rule.approve_within_ms / 1000);
    put(fields, path, "apply_within_s", rule.apply_within_ms / 1000);
    put(fields, path, "delay_s_min", rule.delay_ms_min / 1000);
    put(fields, path, "vetoes", rule.vetoes);
    put(fields, path, "require_user_presence", rule.requires_user_presence);
    for (index, step) in rule.escalation.iter().enumerate() {
        escalation(fields, &format!("{path}.escalation[{index}]"), step);
    }
}

fn escalation(fields: &mut Fields, path: &str, step: &Escalation) {
    put(fields, path, "after_s", step.after_ms / 1000);
    for (name, added) in [("add_roles", &step.add_roles), ("add_people", &step.add_people)] {
        if !added.is_empty() {
            put(fields, path, name, words(added));
        }
    }
    if let Some(webhook) = &step.webhook {
        put(fields, path, "webhook", webhook.clone());
    }
    if let Some(command) = &step.command {
        put(fields, path, "command", command.to_string());
    }
}

fn review(fields: &mut Fields, path: &str, review: Review) {
    put(fields, path, "review_within_s", review.within_ms / 1000);
    put(fields, path, "review_approvals", review.approvals);
}

fn put(fields: &mut Fields, path: &str, name: &str, value: impl Into<Value>) {
    fields.insert(format!("{path}.{name}"), value.into());
}

fn words<'w>(words: impl IntoIterator<Item = &'w Word>) -> Value {
    words.into_iter().map(Word::to_string).collect::<Vec<_>>().into()
}
