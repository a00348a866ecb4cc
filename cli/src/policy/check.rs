//! `quotary policy check`: all faults of documents, offline.

use std::path::Path;

use quotary_common::id::Digest;
use quotary_common::quorum::document::Fault;
use serde::Serialize;

use super::document::{Document, bytes_of, kind_of, lines};
use crate::args::{DocumentKind, PolicyCheckArgs};
use crate::exit::{Code, Failure};
use crate::present;

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
    /// Why it could not be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    #[serde(skip)]
    told: Vec<String>,
}

/// Checks, prints, and returns the exit code.
pub(super) fn check(args: &PolicyCheckArgs, json: bool) -> Result<u8, Failure> {
    let all: Vec<Checked> = args.files.iter().map(|file| of_file(file, args.kind)).collect();
    if json {
        present::json(&all)?;
    } else {
        let text: String = all.iter().flat_map(|one| &one.told).map(|line| format!("{line}\n")).collect();
        present::print(&text)?;
    }
    Ok(code(&all))
}

/// A file that cannot be read weighs more than a fault: nothing is known of it.
fn code(all: &[Checked]) -> u8 {
    if all.iter().any(|one| one.unreadable.is_some()) {
        Code::Unreadable as u8
    } else if all.iter().any(|one| !one.faults.is_empty()) {
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
            unreadable: Some(failure.message().to_owned()),
            told: vec![present::clean(failure.message())],
        },
    }
}

fn checked(file: &Path, bytes: &[u8], kind: Option<DocumentKind>) -> Checked {
    let kind = kind.unwrap_or_else(|| kind_of(bytes));
    let (file_name, sha256) = (file.display().to_string(), Digest::of(&[bytes]));
    let of = |name, version, faults, told| Checked {
        file: file_name.clone(),
        kind: Some(kind.name()),
        name,
        version,
        sha256: Some(sha256),
        faults,
        unreadable: None,
        told,
    };
    match Document::parse(bytes, kind) {
        Ok(document) => {
            let told = format!("{file_name}: {}, version {}, no fault", document.title(), document.version());
            of(Some(document.name().to_owned()), Some(document.version()), Vec::new(), vec![present::clean(&told)])
        }
        Err(faults) => {
            let told = lines(file, &faults);
            of(None, None, faults.0, told)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::document::tests::POLICY;
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
    fn what_it_looks_like_gives_way_to_what_is_said() {
        let as_rules = checked(Path::new("g.toml"), POLICY.as_bytes(), Some(DocumentKind::Rules));
        assert!(as_rules.kind == Some("rules") && !as_rules.faults.is_empty());
    }
}
