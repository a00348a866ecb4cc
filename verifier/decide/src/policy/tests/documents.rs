//! Policy documents: what reads, and how all that does not is told at once.

use std::collections::BTreeSet;

use quotary_common::plan::OnPressure;
use quotary_common::units::{Class, ResourceKind};

use super::*;
use quotary_common::quorum::criticality::Criticality;

use crate::policy::{Catalogue, Line, Then};

const WHOLE: &str = r#"
name = "gold"
version = 3
criticality = "high"
description = "What the shop needs at Christmas."
class = "burstable"
zone = "measured"
services = ["checkout", "basket"]
apis = ["GET /v1/basket"]

[select]
application = "shop"
tenant = "retail"
pool = "edge"
labels = ["site=north"]
host = "h-aaaaaaaaaaaaaaaaaaaaaaaaaa"

[guarantee]
cpu_millicores = 500
memory_bytes = 268_435_456

[limit]
cpu_millicores = 2_000
memory_bytes = 536_870_912
network_bits_per_second = 10_000_000

[depends_on]
applications = ["db"]
policies = ["database"]

[[thresholds]]
resource = "memory"
above_percent = 90
for_s = 600
then = "review"

[[thresholds]]
resource = "memory"
below_percent = 20
for_s = 86400
then = "alert"

[shaping]
on_pressure = "proceed"
resolution_s = 5
rollout_percent = [5, 25, 100]

[shaping.slew_per_second]
memory_bytes = 1_048_576
"#;

/// The fields of the faults of a document, in their order, with the lines.
fn faults(document: &str, catalogue: Option<&Catalogue>) -> Vec<(usize, String)> {
    let faults = read(document.as_bytes(), catalogue).unwrap_err();
    faults.0.into_iter().map(|fault| (fault.line, fault.field)).collect()
}

fn fields(document: &str) -> Vec<String> {
    faults(document, None).into_iter().map(|(_, field)| field).collect()
}

#[test]
fn a_whole_document_reads_and_its_identity_is_its_bytes() {
    let policy = read(WHOLE.as_bytes(), None).unwrap();
    assert_eq!((policy.name.as_str(), policy.version, policy.criticality), ("gold", 3, Criticality::High));
    assert_eq!(policy.class, Some(Class::Burstable));
    assert_eq!(policy.limit.get(ResourceKind::Memory), Some(512 * MIB));
    assert_eq!(policy.guarantee.get(ResourceKind::Network), None);
    assert_eq!(policy.select.labels.get(&name("site")), Some(&name("north")));
    let lines: Vec<_> = policy.thresholds.iter().map(|one| (one.line, one.for_s, one.then)).collect();
    assert_eq!(lines, [(Line::Above(90), 600, Then::Review), (Line::Below(20), 86_400, Then::Alert)]);
    assert_eq!(
        (policy.shaping.on_pressure, &*policy.shaping.rollout_percent),
        (OnPressure::Proceed, &[5, 25, 100][..])
    );
    let other = read(format!("{WHOLE}\n# a comment\n").as_bytes(), None).unwrap();
    assert_ne!(policy.digest(), other.digest());
}

#[test]
fn what_is_written_reads_back() {
    let policy = read(WHOLE.as_bytes(), None).unwrap();
    let again = read(policy.to_document().unwrap().as_bytes(), None).unwrap();
    assert_eq!(*policy, *again);
}

#[test]
fn all_faults_are_told_at_once_each_with_its_line() {
    let document = r#"name = "Gold Plan"
version = 0
criticality = "severe"
owner = "me"
[select]
application = 7
host = "web-1"
[limit]
memory_bytes = 10
[guarantee]
cpu_millicores = "two"
[[thresholds]]
resource = "disk"
above_percent = 90
below_percent = 10
for_s = 1
[shaping]
rollout_percent = [25, 5, 100]
"#;
    let told = faults(document, None);
    for (line, field) in [
        (1, "name"),
        (2, "version"),
        (3, "criticality"),
        (4, "owner"),
        (6, "select.application"),
        (7, "select.host"),
        (9, "limit.memory_bytes"),
        (11, "guarantee.cpu_millicores"),
        (12, "thresholds[0]"),
        (13, "thresholds[0].resource"),
        (12, "thresholds[0].then"),
        (18, "shaping.rollout_percent"),
    ] {
        assert!(told.contains(&(line, field.to_owned())), "line {line}: {field} is not in {told:?}");
    }
    assert!(told.is_sorted());
}

#[test]
fn what_does_not_hold_together_is_a_fault() {
    let head = "name = \"p\"\nversion = 1\ncriticality = \"low\"\n";
    let limit = "[limit]\nmemory_bytes = 1048576\n";
    for (more, field) in [
        ("[limit]\nmemory_bytes = 1048576\n", "select"),
        ("[select]\n", "limit"),
        ("[select]\n[limit]\nmemory_bytes = 1048576\n[guarantee]\nmemory_bytes = 1048577\n", "guarantee"),
        ("class = \"guaranteed\"\n[select]\n[limit]\nmemory_bytes = 1048576\n", "class"),
        ("class = \"best-effort\"\n[select]\n[guarantee]\nmemory_bytes = 1048576\n", "guarantee"),
        ("[select]\nlabels = [\"site\"]\n[limit]\nmemory_bytes = 1048576\n", "select.labels[0]"),
        ("[select]\nlabels = [\"a=1\", \"a=2\"]\n[limit]\nmemory_bytes = 1048576\n", "select.labels[1]"),
        ("[select]\n[limit]\nmemory_bytes = 1048576\n[depends_on]\npolicies = [\"p\"]\n", "depends_on.policies[0]"),
        (
            "[select]\napplication = \"a\"\n[limit]\nmemory_bytes = 1048576\n[depends_on]\napplications = [\"a\"]\n",
            "depends_on.applications[0]",
        ),
    ] {
        assert_eq!(fields(&format!("{head}{more}")), [field], "{more}");
    }
    let threshold =
        |line: &str| format!("[[thresholds]]\nresource = \"memory\"\n{line}\nfor_s = 1\nthen = \"alert\"\n");
    let (above, below) = (threshold("above_percent = 50"), threshold("below_percent = 50"));
    for (one, other) in [(&above, &above), (&above, &below), (&below, &above)] {
        assert_eq!(fields(&format!("{head}[select]\n{limit}{one}{other}")), ["thresholds[1]"]);
    }
}

#[test]
fn without_a_criticality_a_document_is_told_so_and_is_not_harmless() {
    assert_eq!(fields("name = \"p\"\nversion = 1\n[select]\n[limit]\nmemory_bytes = 1048576\n"), ["criticality"]);
}

#[test]
fn names_that_nobody_knows_are_faults_when_there_is_a_catalogue() {
    let mut catalogue = Catalogue {
        tenants: BTreeSet::from([name("retail"), name("other")]),
        applications: [(name("shop"), name("retail")), (name("db"), name("retail"))].into(),
        zones: BTreeSet::from([name("measured")]),
        pools: BTreeSet::from([name("edge")]),
        policies: BTreeSet::from([name("database")]),
    };
    assert!(read(WHOLE.as_bytes(), Some(&catalogue)).is_ok());
    let told: Vec<String> = faults(WHOLE, Some(&Catalogue::default())).into_iter().map(|(_, field)| field).collect();
    let unknown = [
        "depends_on.applications[0]",
        "depends_on.policies[0]",
        "select.application",
        "select.pool",
        "select.tenant",
        "zone",
    ];
    assert_eq!(BTreeSet::from_iter(told.iter().map(String::as_str)), BTreeSet::from(unknown));
    catalogue.applications.insert(name("shop"), name("other"));
    assert_eq!(faults(WHOLE, Some(&catalogue)).len(), 1, "the tenant does not pay for the application");
}
