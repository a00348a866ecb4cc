//! The samples of policies, rosters and quorum rules: they hold, and they have every field that is read.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use toml::{Table, Value};

const SAMPLES: [(&str, &str); 3] = [("policy.toml", "policy"), ("roster.toml", "roster"), ("quorum.toml", "rules")];
/// What no table has.
const UNKNOWN: &str = "unknown_field";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(top().join("samples").join(name)).unwrap()
}

/// What `quotary policy check` says of a document: its kind, and every fault as field and reason.
fn checked(text: &str) -> (String, Vec<(String, String)>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("document.toml");
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quotary"));
    let command = command.env_clear().args(["--json", "policy", "check"]).arg(&path).stdin(Stdio::null());
    let told: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let faults = told[0]["faults"].as_array().unwrap();
    let faults = faults.iter().map(|fault| (word(&fault["field"]), word(&fault["reason"]))).collect();
    (word(&told[0]["kind"]), faults)
}

/// The sample with the fields that it has behind `#`.
fn whole(text: &str) -> String {
    let is_field = |line: &str| {
        let name = line.split(" = ").next().filter(|name| name.len() < line.len());
        let is_name = name.is_some_and(|name| name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
        is_name || (line.starts_with('[') && line.ends_with(']'))
    };
    let shown = |line: &str| line.strip_prefix("# ").filter(|line| is_field(line)).unwrap_or(line).to_owned() + "\n";
    text.lines().map(shown).collect()
}

/// A path without numbers, and without the names of criticalities: their rules have the same fields.
fn kind_of_table(path: &str) -> String {
    let plain = |part: &str| part.split('[').next().unwrap_or_default().to_owned();
    let parts: Vec<String> = path.split('.').map(plain).collect();
    match parts.as_slice() {
        [first, _, rest @ ..] if first == "criticality" => {
            [&["criticality".into(), "*".into()], rest].concat().join(".")
        }
        _ => parts.join("."),
    }
}

/// Puts a field into every table that nobody knows, and tells which fields each kind of table has.
fn mark(table: &mut Table, path: &str, fields: &mut BTreeMap<String, BTreeSet<String>>) {
    let own = fields.entry(kind_of_table(path)).or_default();
    own.extend(table.keys().cloned());
    for (name, value) in table.iter_mut() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            // Its names are roles.
            Value::Table(_) if name == "roles" => {}
            Value::Table(table) => mark(table, &below, fields),
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_table_mut).for_each(|item| mark(item, &below, fields))
            }
            _ => {}
        }
    }
    table.insert(UNKNOWN.to_owned(), Value::Integer(1));
}

#[test]
fn each_sample_holds_as_it_is_and_with_all_that_it_has_behind_a_number_sign() {
    for (name, kind) in SAMPLES {
        let text = sample(name);
        assert!(text.lines().all(|line| line.chars().count() <= 160), "{name} has a line that is too long");
        assert_eq!(checked(&text), (kind.to_owned(), Vec::new()), "{name}");
        let whole = whole(&text);
        assert!(
            whole.lines().filter(|line| !line.starts_with('#')).count()
                > text.lines().filter(|line| !line.starts_with('#')).count()
        );
        assert_eq!(checked(&whole), (kind.to_owned(), Vec::new()), "{name} with all fields");
    }
}

#[test]
fn the_samples_have_every_field_that_is_read() {
    for (name, _) in SAMPLES {
        let mut document: Table = whole(&sample(name)).parse().unwrap();
        let mut fields = BTreeMap::new();
        mark(&mut document, "", &mut fields);
        let (_, faults) = checked(&toml::to_string(&document).unwrap());
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (field, reason) in faults {
            let table = field.strip_suffix(UNKNOWN).unwrap_or_else(|| unreachable!("{field}: {reason}"));
            let names = reason.split_once("known are ").unwrap().1.split(", ").map(str::to_owned);
            known.entry(kind_of_table(table.trim_end_matches('.'))).or_default().extend(names);
        }
        assert_eq!(known.keys().collect::<Vec<_>>(), fields.keys().collect::<Vec<_>>(), "{name}");
        let operations = std::fs::read_to_string(top().join("docs/OPERATIONS.md")).unwrap();
        for (table, known) in known {
            let untold: Vec<&String> = known.iter().filter(|field| !operations.contains(field.as_str())).collect();
            assert!(untold.is_empty(), "docs/OPERATIONS.md lacks {untold:?} of {name}");
            let missing: Vec<&String> = known.difference(&fields[&table]).collect();
            assert!(missing.is_empty(), "{name} lacks {missing:?} of the table `{table}`");
        }
    }
}

/// All texts of the lists and the names of the tables of these fields, wherever they are.
fn words_of(value: &Value, fields: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                match value {
                    Value::String(word) if fields.contains(&name.as_str()) => drop(found.insert(word.clone())),
                    Value::Array(words) if fields.contains(&name.as_str()) => {
                        found.extend(words.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    Value::Table(counts) if name == "roles" => found.extend(counts.keys().cloned()),
                    other => words_of(other, fields, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words_of(item, fields, found)),
        _ => {}
    }
}

#[test]
fn every_role_of_the_sampled_rules_is_somebodys_of_the_sampled_roster() {
    let roles = |name: &str, fields: &[&str]| {
        let mut found = BTreeSet::new();
        words_of(&Value::Table(whole(&sample(name)).parse().unwrap()), fields, &mut found);
        found
    };
    let there = roles("roster.toml", &["roles"]);
    let asked = roles("quorum.toml", &["approvers", "add_roles", "role"]);
    assert!(asked.len() > 2 && asked.is_subset(&there), "{asked:?} {there:?}");
    let people = roles("roster.toml", &["name"]);
    let named = roles("quorum.toml", &["exclude", "add_people"]);
    assert!(
        named.contains("erin") && named.difference(&asked).all(|name| people.contains(name)),
        "{named:?} {people:?}"
    );
}

#[test]
fn help_and_packages_say_where_the_samples_are() {
    let help = Command::new(env!("CARGO_BIN_EXE_quotary")).args(["policy", "check", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let build = std::fs::read_to_string(top().join("tools/build-packages")).unwrap();
    let operations = std::fs::read_to_string(top().join("docs/OPERATIONS.md")).unwrap();
    assert!(help.contains("/usr/share/doc/quotary/examples"), "{help}");
    assert!(build.contains("/usr/share/doc/quotary/examples\" samples/*.toml"));
    for (name, _) in SAMPLES {
        assert!(help.contains(name) && operations.contains(&format!("samples/{name}")), "{name}");
    }
}
