//! `quotary policy check`: all faults of documents, offline.

use std::path::Path;

use quotary_common::id::Digest;
use quotary_common::quorum::decide::Under;
use quotary_common::quorum::document::Fault;
use quotary_decide::change::unmeetable;
use serde::Serialize;

use super::document::{Document, bytes_of, kind_of, lines};
use crate::args::{DocumentKind, PolicyCheckArgs};
use crate::exit::{Code, Failure};
use crate::{now_ms, present};

/// What a file is, or what is wrong with it.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    faults: Vec<Fault>,
    /// Of quorum rules that are checked with one roster: what nobody on it could ever approve or review.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmeetable: Vec<String>,
    /// Why it could not be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    #[serde(skip)]
    told: Vec<String>,
    #[serde(skip)]
    document: Option<Document>,
}

/// Checks, prints, and returns the exit code.
pub(super) fn check(args: &PolicyCheckArgs, json: bool) -> Result<u8, Failure> {
    let mut all: Vec<Checked> = args.files.iter().map(|file| of_file(file, args.kind)).collect();
    hold_together(&mut all, now_ms());
    if json {
        present::json(&all)?;
    } else {
        let text: String = all.iter().flat_map(|one| &one.told).map(|line| format!("{line}\n")).collect();
        present::print(&text)?;
    }
    Ok(code(&all))
}

/// Rules beside the one roster that they would be met by: as the verifier holds them together before they are in force.
fn hold_together(all: &mut [Checked], now_ms: u64) {
    let mut rosters = all.iter().filter_map(|one| match &one.document {
        Some(Document::Roster(roster)) => Some(roster.clone()),
        _ => None,
    });
    let (Some(roster), None) = (rosters.next(), rosters.next()) else { return };
    drop(rosters);
    for one in all {
        let Some(Document::Rules(rules)) = &one.document else { continue };
        let found = unmeetable(Under { roster: &roster, rules }, now_ms);
        one.unmeetable = found.iter().map(ToString::to_string).collect();
        if !one.unmeetable.is_empty() {
            let told = one.unmeetable.iter().map(|why| present::clean(&format!("{}: {why}", one.file)));
            one.told = told.collect();
        }
    }
}

/// A file that cannot be read weighs more than a fault: nothing is known of it.
fn code(all: &[Checked]) -> u8 {
    if all.iter().any(|one| one.unreadable.is_some()) {
        Code::Unreadable as u8
    } else if all.iter().any(|one| !(one.faults.is_empty() && one.unmeetable.is_empty())) {
        Code::Refused as u8
    } else {
        0
    }
}

/// What cannot be read is told in its place, and hides nothing of the others.
fn of_file(file: &Path, kind: Option<DocumentKind>) -> Checked {
    match bytes_of(file) {
        Ok(bytes) => checked(file, &bytes, kind),
        Err(failure) => Checked {
            file: file.display().to_string(),
            kind: kind.map(DocumentKind::name),
            name: None,
            version: None,
            sha256: None,
            faults: Vec::new(),
            unmeetable: Vec::new(),
            unreadable: Some(failure.message().to_owned()),
            told: vec![present::clean(failure.message())],
            document: None,
        },
    }
}

fn checked(file: &Path, bytes: &[u8], kind: Option<DocumentKind>) -> Checked {
    let kind = kind.unwrap_or_else(|| kind_of(bytes));
    let (file_name, sha256) = (file.display().to_string(), Digest::of(&[bytes]));
    let of = |document: Option<Document>, faults, told| Checked {
        file: file_name.clone(),
        kind: Some(kind.name()),
        name: document.as_ref().map(|document| document.name().to_owned()),
        version: document.as_ref().map(Document::version),
        sha256: Some(sha256),
        faults,
        unmeetable: Vec::new(),
        unreadable: None,
        told,
        document,
    };
    match Document::parse(bytes, kind) {
        Ok(document) => {
            let told = format!("{file_name}: {}, version {}, no fault", document.title(), document.version());
            of(Some(document), Vec::new(), vec![present::clean(&told)])
        }
        Err(faults) => {
            let told = lines(file, &faults);
            of(None, faults.0, told)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::document::tests::{POLICY, RULES, roster};
    use super::*;

    #[test]
    fn a_document_without_a_fault_is_named_and_one_with_several_tells_each_with_its_line() {
        let good = checked(Path::new("g.toml"), POLICY.as_bytes(), None);
        assert_eq!(good.told, ["g.toml: policy gold, version 3, no fault"]);
        let broken = POLICY.replace("'high'", "'huge'").replace("= 3", "= 0") + "extra = 1\n";
        let bad = checked(Path::new("b.toml"), broken.as_bytes(), None);
        let fields: Vec<(usize, &str)> = bad.faults.iter().map(|fault| (fault.line, fault.field.as_str())).collect();
        assert_eq!(fields, [(2, "version"), (3, "criticality"), (8, "limit.extra")]);
        assert!(bad.told[0].starts_with("b.toml:2: version: "), "{:?}", bad.told);
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!((&json["kind"], &json["faults"][1]["line"]), (&"policy".into(), &3.into()));
        assert!(json.get("name").is_none());
    }

    #[test]
    fn a_file_that_is_not_there_hides_no_fault_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let (bad, absent) = (directory.path().join("bad.toml"), directory.path().join("absent.toml"));
        std::fs::write(&bad, POLICY.replace("'high'", "'huge'")).unwrap();
        let all: Vec<Checked> = [&absent, &bad].into_iter().map(|file| of_file(file, None)).collect();
        assert!(all[0].told[0].contains("absent.toml: ") && all[1].told[0].contains("bad.toml:3: criticality: "));
        assert_eq!((code(&all), code(&all[1..]), code(&[])), (2, 1, 0));
        let json = serde_json::to_value(&all[0]).unwrap();
        assert!(
            json["unreadable"].is_string() && json.get("sha256").is_none() && json["faults"] == serde_json::json!([])
        );
    }

    #[test]
    fn rules_are_held_against_the_roster_that_is_checked_with_them() {
        let of = |text: &str| checked(Path::new("x.toml"), text.as_bytes(), None);
        let two = roster(1, &[("alice", "operator"), ("bob", "operator")]);
        let three = roster(1, &[("alice", "operator"), ("bob", "operator"), ("carol", "operator")]);
        let together = |documents: &[&str]| {
            let mut all: Vec<Checked> = documents.iter().map(|text| of(text)).collect();
            hold_together(&mut all, 0);
            (code(&all), all)
        };
        let (code, all) = together(&[RULES, &two]);
        assert!(code == 1 && all[0].told.len() == 1 && all[0].unmeetable.len() == 1, "{all:?}");
        assert!(all[0].told[0].starts_with("x.toml: nobody could approve a change of criticality `critical`: "));
        assert!(serde_json::to_value(&all[0]).unwrap()["unmeetable"][0].is_string());
        assert_eq!(together(&[RULES, &three]).0, 0);
        // Of two rosters nobody knows which is meant; a policy is of no account.
        assert_eq!(together(&[RULES, &two, &three]).0, 0);
        assert_eq!(together(&[POLICY, &two]).0, 0);
    }

    #[test]
    fn what_it_looks_like_gives_way_to_what_is_said() {
        let as_rules = checked(Path::new("g.toml"), POLICY.as_bytes(), Some(DocumentKind::Rules));
        assert!(as_rules.kind == Some("rules") && !as_rules.faults.is_empty());
    }
}
