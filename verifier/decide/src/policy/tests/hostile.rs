//! Documents by whoever wants to break the reader: it answers with faults, in bounded time and memory.

use std::fmt::Write as _;

use quotary_common::limits::{DOCUMENT_BYTES_MAX, FAULTS_MAX};

use super::*;

/// Whatever it is, it reads or has faults, and neither is without end.
fn is_answered(bytes: &[u8]) {
    if let Err(faults) = read(bytes, None) {
        assert!(!faults.0.is_empty() && faults.0.len() <= FAULTS_MAX + 1);
        assert!(faults.0.iter().all(|fault| fault.field.len() <= 256 && fault.reason.len() <= 512));
    }
}

#[test]
fn deep_nesting_and_huge_numbers_are_faults() {
    let deep = 5000;
    for document in [
        format!("name = {}1{}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}1{}", "{ a = ".repeat(deep), " }".repeat(deep)),
        format!("{}x = 1", "a.".repeat(deep)),
        format!("[{}x]", "a.".repeat(deep)),
        format!("version = {}", "9".repeat(10_000)),
        "version = 0xffffffffffffffffffffffff".to_owned(),
        "version = -1".to_owned(),
        "version = 1e400".to_owned(),
        "[limit]\nmemory_bytes = 18446744073709551616".to_owned(),
        "[[thresholds]]\n".repeat(3000),
        format!("services = [{}]", "\"x\",".repeat(5000)),
        (0..4000).fold(String::new(), |mut out, n| {
            let _ = writeln!(out, "k{n} = 1");
            out
        }),
        "name = \"\\u0000\\u202e\"".to_owned(),
    ] {
        assert!(read(document.as_bytes(), None).is_err());
        is_answered(document.as_bytes());
    }
    assert!(read(&vec![b'#'; DOCUMENT_BYTES_MAX + 1], None).is_err());
    assert!(read(&[0xff, 0xfe], None).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        is_answered(&bytes);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}", more in "[a-z_\\[\\]=\"{}., 0-9\n-]{0,300}") {
        is_answered(text.as_bytes());
        is_answered(more.as_bytes());
    }

    #[test]
    fn a_document_with_one_byte_changed_is_answered(two in policies(1), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = two[0].to_document().unwrap().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        is_answered(&bytes);
    }

    #[test]
    fn any_value_in_any_field_is_answered(
        field in prop::sample::select(vec!["name", "version", "criticality", "class", "zone", "services", "select", "limit", "guarantee", "depends_on", "thresholds", "shaping", "select.labels", "shaping.rollout_percent", "limit.memory_bytes"]),
        value in prop::sample::select(vec!["1", "-1", "0", "true", "\"x\"", "[]", "{}", "[1]", "[[]]", "[{}]", "{ a = 1 }", "1.5", "nan", "2026-01-01", "9223372036854775807", "9223372036854775808", "[\"=\"]", "[\"a=\", \"=b\"]"]),
    ) {
        is_answered(format!("{field} = {value}").as_bytes());
    }
}
