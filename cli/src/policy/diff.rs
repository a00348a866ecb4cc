//! `quotary policy diff`: two documents, field by field.

use std::path::Path;

use quotary_common::id::Digest;
use quotary_common::wire::{ListPolicies, ShowAuthority};
use quotary_decide::change;
use quotary_decide::policy::{self, FieldChange};
use serde::Serialize;

use super::document::{Document, read};
use super::standing;
use crate::args::{DocumentKind, PolicyDiffArgs};
use crate::exit::{Code, Failure};
use crate::present;
use crate::session::{Session, block_on};

/// What differs.
#[derive(Debug, Serialize)]
struct Differences {
    kind: &'static str,
    name: String,
    old: Option<Which>,
    new: Which,
    changes: Vec<FieldChange>,
}

/// Which document it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Which {
    version: u64,
    sha256: Digest,
}

impl Which {
    fn of(document: &Document) -> Self {
        Self { version: document.version(), sha256: document.sha256() }
    }
}

/// Compares, and prints.
pub(super) fn diff(args: &PolicyDiffArgs, credentials: Option<&Path>, json: bool) -> Result<(), Failure> {
    let (old, new) = match &args.new {
        Some(new) => (Some(read(&args.old, args.kind)?.0), read(new, args.kind)?.0),
        None => {
            let (new, _) = read(&args.old, args.kind)?;
            let session = Session::open(credentials)?;
            (block_on(in_force(&session, &new))?, new)
        }
    };
    let differences = compared(old.as_ref(), &new)?;
    if json { present::json(&differences) } else { present::print(&differences.text()) }
}

/// What is in force where this would be; `None`: nothing is.
async fn in_force(session: &Session, new: &Document) -> Result<Option<Document>, Failure> {
    let kind = new.kind();
    let view = match kind {
        DocumentKind::Policy => {
            let policies = session.ask::<ListPolicies>(&[]).await?;
            let Some(policy) = policies.into_iter().find(|policy| policy.name == new.name()) else { return Ok(None) };
            policy.document
        }
        DocumentKind::Roster => session.ask::<ShowAuthority>(&[]).await?.roster,
        DocumentKind::Rules => session.ask::<ShowAuthority>(&[]).await?.rules,
    };
    standing::parsed(&view, kind).map(Some)
}

fn compared(old: Option<&Document>, new: &Document) -> Result<Differences, Failure> {
    let changes = match (old, new) {
        (None, Document::Policy(new)) => policy::diff(None, Some(new)),
        (Some(Document::Policy(old)), Document::Policy(new)) => policy::diff(Some(old), Some(new)),
        (Some(Document::Roster(old)), Document::Roster(new)) => change::between_rosters(old, new),
        (Some(Document::Rules(old)), Document::Rules(new)) => change::between_rules(old, new),
        (old, new) => {
            let old = old.map_or("nothing", |old| old.kind().name());
            let what = format!("one document is of kind {old} and the other of kind {}", new.kind().name());
            return Err(Failure::new(
                Code::Usage,
                format!("{what}: they cannot be compared (--kind says what both are)"),
            ));
        }
    };
    let (kind, name) = (new.kind().name(), new.name().to_owned());
    Ok(Differences { kind, name, old: old.map(Which::of), new: Which::of(new), changes })
}

impl Differences {
    /// For people.
    fn text(&self) -> String {
        let title = if self.kind == self.name { self.kind.to_owned() } else { format!("{} {}", self.kind, self.name) };
        let (new, count) = (self.new.version, self.changes.len());
        let head = match &self.old {
            None => format!("{title}, version {new}: none of that name is in force"),
            Some(old) if *old == self.new => format!("{title}, version {new}: the very same document"),
            Some(old) if count == 0 => {
                format!("{title}, version {} -> {new}: only comments or layout differ", old.version)
            }
            Some(old) if count == 1 => format!("{title}, version {} -> {new}: one field differs", old.version),
            Some(old) => format!("{title}, version {} -> {new}: {count} fields differ", old.version),
        };
        let lines = self.changes.iter().map(|change| format!("  {}\n", present::clean(&change.to_string())));
        format!("{}\n{}", present::clean(&head), lines.collect::<String>())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::document::kind_of;
    use super::super::document::tests::{POLICY, RULES, roster};
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), kind_of(text.as_bytes())).unwrap()
    }

    fn text(old: &str, new: &str) -> String {
        compared(Some(&document(old)), &document(new)).unwrap().text()
    }

    #[test]
    fn policies_differ_field_by_field() {
        let new = POLICY.replace("536_870_912", "268_435_456").replace("= 3", "= 4");
        let told = text(POLICY, &new);
        assert_eq!(
            told,
            "policy gold, version 3 -> 4: 2 fields differ\n  limit.memory_bytes: 536870912 -> 268435456 (-50 %)\n  \
             version: 3 -> 4\n"
        );
        assert!(text(POLICY, POLICY).contains("the very same document"));
        assert!(text(POLICY, &format!("# a comment\n{POLICY}")).contains("only comments or layout differ"));
        let alone = compared(None, &document(POLICY)).unwrap();
        assert!(
            alone
                .text()
                .starts_with("policy gold, version 3: none of that name is in force\n  criticality: none -> high\n")
        );
        assert_eq!(serde_json::to_value(&alone).unwrap()["old"], serde_json::Value::Null);
    }

    #[test]
    fn of_rosters_people_roles_and_keys_are_told() {
        let old = roster(1, &[("alice", "operator"), ("bob", "operator")]);
        let new = roster(2, &[("alice", "security"), ("carol", "operator")]);
        let told = text(&old, &new);
        for line in [
            "people.alice.roles: [\"operator\"] -> [\"security\"]",
            "people.bob.roles: [\"operator\"] -> none",
            "people.carol.roles: none -> [\"operator\"]",
        ] {
            assert!(told.contains(line), "{line} in {told}");
        }
        let keys: Vec<&str> = told.lines().filter(|line| line.contains(".keys.SHA256:")).collect();
        assert!(keys.len() == 2 && keys[0].ends_with(": ssh-ed25519 -> none"), "{told}");
    }

    #[test]
    fn of_rules_every_criticality_is_told_as_it_holds() {
        let told = text(RULES, &RULES.replace("approvals = 2", "approvals = 3"));
        for criticality in ["low", "medium", "high", "critical"] {
            assert!(told.contains(&format!("criticality.{criticality}.approvals: 2 -> 3")), "{told}");
        }
        let freeze = "[freeze]\nrole = 'operator'\nlasts_s_max = 60\nreview_within_s = 60\nreview_approvals = 1\n";
        assert!(text(RULES, &format!("{RULES}{freeze}")).contains("freeze.lasts_s_max: none -> 60"));
    }

    #[test]
    fn unlike_documents_are_not_compared() {
        let refused = compared(Some(&document(POLICY)), &document(RULES)).unwrap_err();
        assert!(refused.code() == 64 && refused.message().contains("--kind"), "{}", refused.message());
    }
}
