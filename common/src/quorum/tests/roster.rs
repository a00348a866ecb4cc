//! Rosters: one person, one entry; one key, one person.

use super::fixture::{MINUTE_MS, PEOPLE, Signer, deployment, roster_of, roster_text, t0, word};
use crate::limits::PEOPLE_MAX;
use crate::quorum::roster::Roster;

fn told(text: &str) -> Vec<(usize, String, String)> {
    let faults = Roster::parse(text.as_bytes()).unwrap_err().0;
    faults.into_iter().map(|fault| (fault.line, fault.field, fault.reason)).collect()
}

/// The same Ed25519 key, said to live in a security key.
fn as_security_key(name: &str) -> String {
    Signer::security_key(name).line()
}

#[test]
fn a_roster_knows_its_people_their_roles_and_who_holds_a_key() {
    let roster = roster_of(3, &PEOPLE);
    assert_eq!((roster.version(), roster.people().count()), (3, PEOPLE.len()));
    let bob = roster.person(&word("bob")).unwrap();
    let (holder, key) = roster.holder(&bob.keys[0].key.fingerprint()).unwrap();
    assert_eq!((holder, &key.key), (bob, &bob.keys[0].key));
    let role = word("security");
    let security: Vec<&str> = roster.members_of(&role).map(|person| person.name.as_str()).collect();
    assert_eq!(security, ["carol", "dave"]);
    assert_eq!(Roster::parse(roster.bytes()).unwrap().digest(), roster.digest());
}

#[test]
fn one_key_under_two_people_is_a_fault() {
    let key = Signer::of("bob").line();
    let text = format!("{}[[people]]\nname = 'eve'\n[[people.keys]]\nkey = '{key}'\n", roster_text(1, &[("bob", &[])]));
    let told = told(&text);
    assert_eq!((told.len(), told[0].0, told[0].1.as_str()), (1, 10, "people[1].keys[0].key"));
    assert!(told[0].2.contains("is a key of `bob` already"), "{told:?}");
}

#[test]
fn one_key_in_two_encodings_under_two_people_is_a_fault() {
    let other = as_security_key("bob");
    let text =
        format!("{}[[people]]\nname = 'eve'\n[[people.keys]]\nkey = '{other}'\n", roster_text(1, &[("bob", &[])]));
    assert!(told(&text)[0].2.contains("is a key of `bob` already"));
    // Another base64 of the same bytes is not a key's line.
    let padded = Signer::of("bob").line().replacen("ssh-ed25519 ", "ssh-ed25519  ", 1);
    let text = format!("version = 1\n[[people]]\nname = 'eve'\n[[people.keys]]\nkey = '{padded}'\n");
    assert_eq!(told(&text).len(), 1);
}

#[test]
fn one_person_twice_is_a_fault_and_all_others_are_told_with_it() {
    let key = Signer::of("x").line();
    let text = format!(
        "people = 3\nversion = 0\n[[person]]\nname = 'a'\n[other]\nkey = '{key}'\n{}",
        roster_text(1, &[]).replace("version = 1", "")
    );
    let fields: Vec<String> = told(&text).into_iter().map(|(_, field, _)| field).collect();
    assert_eq!(fields, ["people", "version", "person", "other"]);
    let twice = roster_text(1, &[("bob", &["operator"]), ("bob", &["security"])]);
    let reasons: Vec<String> = told(&twice).into_iter().map(|(_, _, reason)| reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("stands there twice")), "{reasons:?}");
}

#[test]
fn names_that_could_be_taken_for_others_are_faults() {
    for name in ["Bob", "b ob", "", "verifier", "bób", "-bob", &"b".repeat(65)] {
        let text = format!("version = 1\n[[people]]\nname = \"{name}\"\nroles = []\n");
        assert_eq!(told(&text).len(), 1, "{name}");
    }
    let both = roster_text(1, &[("bob", &["carol"]), ("carol", &[])]);
    assert!(told(&both)[0].2.contains("both a person and a role"));
}

#[test]
fn keys_that_cannot_be_checked_are_faults() {
    let p521 = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBACsNhtKkBAJU8EEPV7GuMRAhOeTkHVkjg0m+L9tQTMPOtmQwjpsA3BXwz4ee5NYC6aUAlV0PXBcYUQ8hSqQyDqdbwGVHFtcMHyQzK2iyBTxXbUnDY0yqMpS8GgPLUKHGNSZ5sT5q2YvUuKCoNGKf2vl+8JPAq1l6kZJlQVGQmSjBLCBxg==";
    for key in [p521, "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3M=", "no key at all"] {
        let text = format!("version = 1\n[[people]]\nname = 'bob'\n[[people.keys]]\nkey = '{key}'\n");
        let told = told(&text);
        assert_eq!((told.len(), told[0].0), (1, 5), "{key}: {told:?}");
    }
}

#[test]
fn a_roster_has_bounds() {
    let names: Vec<String> = (0..=PEOPLE_MAX).map(|n| format!("p{n}")).collect();
    let many: String = names.iter().map(|name| format!("[[people]]\nname = '{name}'\n")).collect();
    assert!(told(&format!("version = 1\n{many}"))[0].2.contains("at most"));
    assert!(!told("version = 1\n").is_empty());
}

#[test]
fn a_key_counts_from_its_beginning_and_no_longer_at_its_end() {
    let times = "valid_from = 2026-11-23T07:00:00Z\nvalid_until = 2026-11-23T08:00:00Z\n";
    let roster = Roster::parse(format!("{}{times}", roster_text(1, &[("bob", &[])])).as_bytes()).unwrap();
    let key = &roster.person(&word("bob")).unwrap().keys[0];
    assert!(key.is_valid_at(t0()) && key.is_valid_at(t0() + 60 * MINUTE_MS - 1));
    assert!(!key.is_valid_at(t0() - 1) && !key.is_valid_at(t0() + 60 * MINUTE_MS));
    let line = roster.allowed_signers(&deployment());
    assert!(line.contains("valid-after=\"20261123070000Z\",valid-before=\"20261123075959Z\""), "{line}");
    let swapped = "valid_until = 2026-11-23T07:00:00Z\nvalid_from = 2026-11-23T08:00:00Z\n";
    assert_eq!(told(&format!("{}{swapped}", roster_text(1, &[("bob", &[])])))[0].1, "people[0].keys[0].valid_until");
}
