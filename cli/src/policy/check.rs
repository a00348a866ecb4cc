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
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    sha256: Digest,
    faults: Vec<Fault>,
    #[serde(skip)]
    told: Vec<String>,
}

/// Checks, prints, and returns the exit code.
pub(super) fn check(args: &PolicyCheckArgs, json: bool) -> Result<u8, Failure> {
    let all: Result<Vec<Checked>, Failure> =
        args.files.iter().map(|file| Ok(checked(file, &bytes_of(file)?, args.kind))).collect();
    let all = all?;
    if json {
        present::json(&all)?;
    } else {
        let text: String = all.iter().flat_map(|one| &one.told).map(|line| format!("{line}\n")).collect();
        present::print(&text)?;
    }
    Ok(if all.iter().all(|one| one.faults.is_empty()) { 0 } else { Code::Refused as u8 })
}

fn checked(file: &Path, bytes: &[u8], kind: Option<DocumentKind>) -> Checked {
    let kind = kind.unwrap_or_else(|| kind_of(bytes));
    let (file_name, sha256) = (file.display().to_string(), Digest::of(&[bytes]));
    let of = |name, version, faults, told| Checked {
        file: file_name.clone(),
        kind: kind.name(),
        name,
        version,
        sha256,
        faults,
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
    fn what_it_looks_like_gives_way_to_what_is_said() {
        let as_rules = checked(Path::new("g.toml"), POLICY.as_bytes(), Some(DocumentKind::Rules));
        assert!(as_rules.kind == "rules" && !as_rules.faults.is_empty());
    }
}
