//! Documents compared.

use super::*;
use crate::policy::{ApplyError, FieldChange, Terms, apply, diff};

fn terms(policy: &Arc<Policy>) -> &Terms {
    policy
}

#[test]
fn a_difference_is_told_field_by_field() {
    let old = policy("p", "[select]\ntenant = \"t\"\n[limit]\nmemory_bytes = 536870912");
    let new =
        policy("p", "version = 2\n[select]\npool = \"a\"\n[limit]\nmemory_bytes = 268435456\ncpu_millicores = 100");
    let told: Vec<String> = diff(Some(&old), Some(&new)).iter().map(FieldChange::to_string).collect();
    assert_eq!(
        told,
        [
            "limit.cpu_millicores: none -> 100",
            "limit.memory_bytes: 536870912 -> 268435456 (-50 %)",
            "select.pool: none -> a",
            "select.tenant: t -> none",
            "version: 1 -> 2",
        ]
    );
}

#[test]
fn a_revocation_takes_every_field_and_leaves_no_document() {
    let old = policy("p", "");
    let changes = diff(Some(&old), None);
    assert!(changes.iter().all(|change| change.new.is_none()) && changes.len() >= 4);
    assert_eq!(apply(Some(&old), &changes).unwrap(), "");
}

#[test]
fn changes_from_another_document_are_refused() {
    let (one, two, three) =
        (policy("p", "tenant = \"t\""), policy("p", "tenant = \"u\""), policy("p", "tenant = \"v\""));
    let changes = diff(Some(&one), Some(&two));
    assert!(matches!(apply(Some(&three), &changes), Err(ApplyError::Differs(_))));
    let far = FieldChange { field: "thresholds[99999999999].for_s".into(), old: None, new: Some(1.into()) };
    assert!(matches!(apply(Some(&one), &[far]), Err(ApplyError::NoField(_))));
    let gap = FieldChange { field: "thresholds[9].for_s".into(), old: None, new: Some(1.into()) };
    assert!(apply(Some(&one), &[gap]).map_or(true, |document| read(document.as_bytes(), None).is_err()));
}

#[test]
fn more_than_ten_thresholds_keep_their_order() {
    let one =
        |n: u64| format!("[[thresholds]]\nresource = \"memory\"\nabove_percent = {n}\nfor_s = 1\nthen = \"alert\"\n");
    let many: String = (50..70).map(one).collect();
    let new = policy("p", &format!("version = 2\n[select]\n[limit]\nmemory_bytes = 1073741824\n{many}"));
    let old = policy("p", "");
    let document = apply(Some(&old), &diff(Some(&old), Some(&new))).unwrap();
    assert_eq!(*terms(&new), *read(document.as_bytes(), None).unwrap());
}

proptest! {
    #[test]
    fn equal_documents_do_not_differ_and_applying_a_difference_reads_back(mut two in policies(2)) {
        let (new, old) = (two.pop().unwrap(), two.pop().unwrap());
        prop_assert_eq!(diff(Some(&old), Some(&old)), vec![]);
        for old in [Some(terms(&old)), None] {
            let changes = diff(old, Some(&new));
            prop_assert!(!changes.is_empty());
            let document = apply(old, &changes).unwrap();
            let read = read(document.as_bytes(), None).unwrap();
            prop_assert_eq!(terms(&new), &*read);
        }
        let json = serde_json::to_string(&diff(Some(&old), Some(&new))).unwrap();
        let back: Vec<FieldChange> = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back, diff(Some(&old), Some(&new)));
    }
}
