//! Secure Boot against logs made to deceive. A4, A5, A7 and A8 are the kinds of attack that the issue lists: signature lists
//! with headers, sizes that cannot be, relabelled events, and repeated, late or missing ones.

use super::super::*;
use super::build::{Draft, authority, clean, event, hash_list, separator, variable, variable_data, write};

fn judge(drafts: &[Draft]) -> SecureBoot {
    let bytes = write(drafts);
    secure_boot(&EventLog::parse(&bytes).unwrap())
}
/// Spoils the clean log; the state cannot be said then, and the code says why.
#[track_caller]
fn refused(code: ProblemCode, spoil: impl FnOnce(&mut Vec<Draft>)) {
    let mut drafts = clean();
    spoil(&mut drafts);
    let judged = judge(&drafts);
    assert_eq!(judged.state, None);
    assert!(judged.problems.iter().any(|problem| problem.code == code), "{:?}", judged.problems);
}
/// Where the clean log has the variable.
fn place(drafts: &[Draft], of: &Draft) -> usize {
    drafts.iter().position(|draft| draft.data == of.data && draft.pcr == of.pcr).unwrap()
}
const SECURE_BOOT: usize = 1;
const SEPARATOR: usize = 6;

#[test]
fn a_clean_log_is_without_problems_and_its_state_is_said() {
    let drafts = clean();
    let bytes = write(&drafts);
    let log = EventLog::parse(&bytes).unwrap();
    let report = EventLogReport::new(&log);
    assert_eq!((report.secure_boot, report.problems), (Some(true), vec![]));
    assert_eq!(place(&drafts, &variable("SecureBoot", &[1])), SECURE_BOOT);
    let judged = secure_boot(&log);
    assert_eq!((judged.authorities_before_separator.len(), judged.authorities_after_separator.len()), (0, 1));
    assert_eq!(judged.allowed.unwrap().hashes, [[7; 32]]);
    let mut off = drafts;
    off[SECURE_BOOT] = variable("SecureBoot", &[0]);
    assert_eq!(judge(&off).state, Some(false));
}

#[test]
fn a4_a_signature_list_with_a_header_injects_no_hash() {
    for header in [&[1_u8, 2, 3, 4][..], &[0; 48]] {
        refused(ProblemCode::SignatureListMalformed, |drafts| {
            drafts[4] = variable("db", &hash_list(header, &[[7; 32]]));
        });
        let mut drafts = clean();
        drafts[4] = variable("db", &hash_list(header, &[[7; 32]]));
        assert_eq!(judge(&drafts).allowed, None);
    }
}

#[test]
fn a5_sizes_that_cannot_be_are_refused() {
    let list = hash_list(&[], &[[7; 32]]);
    // List size, header size, signature size; the last is larger, smaller, zero, or no divisor.
    for (at, value) in
        [(16, 0_u32), (16, 27), (16, 77), (16, u32::MAX), (20, u32::MAX), (24, 0), (24, 16), (24, u32::MAX), (24, 47)]
    {
        let mut bad = list.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        refused(ProblemCode::SignatureListMalformed, |drafts| drafts[4] = variable("db", &bad));
    }
    // A SHA-256 list whose entries are no SHA-256 digests.
    let mut short = list.clone();
    short[24..28].copy_from_slice(&24_u32.to_le_bytes());
    refused(ProblemCode::SignatureListMalformed, |drafts| drafts[4] = variable("db", &short));
    refused(ProblemCode::SignatureListMalformed, |drafts| {
        drafts[4] = variable("db", &[list.as_slice(), &[0]].concat())
    });
    // The lengths of the variable itself.
    for (at, value) in
        [(16, 0_u64), (16, u64::MAX), (16, u64::MAX / 2 + 1), (16, 257), (24, u64::MAX), (24, 2), (24, 0)]
    {
        let mut data = variable("SecureBoot", &[1]).data;
        data[at..at + 8].copy_from_slice(&value.to_le_bytes());
        refused(ProblemCode::VariableMalformed, |drafts| {
            drafts[SECURE_BOOT] = event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &data);
        });
    }
}

#[test]
fn a7_events_of_pcr_7_relabelled_as_unused_are_not_passed_over() {
    // Secure Boot was off; the host hides that and appends what it would like to be read.
    let mut drafts = clean();
    drafts[SECURE_BOOT] = variable("SecureBoot", &[0]);
    for draft in drafts.iter_mut().filter(|draft| draft.pcr == 7) {
        draft.event_type = EventType::UNUSED;
    }
    drafts.extend(clean().into_iter().filter(|draft| draft.pcr == 7));
    let judged = judge(&drafts);
    assert_eq!(judged.state, None);
    assert!(judged.problems.iter().any(|problem| problem.code == ProblemCode::UnknownTypeInPcr7));
    assert!(judged.problems.iter().any(|problem| problem.code == ProblemCode::SeparatorRelabelled));
}

#[test]
fn a7_a_separator_relabelled_as_anything_is_known_by_its_digest() {
    for other in [EventType::EFI_VARIABLE_AUTHORITY, EventType::EFI_ACTION, EventType::EFI_VARIABLE_DRIVER_CONFIG] {
        refused(ProblemCode::SeparatorRelabelled, |drafts| drafts[SEPARATOR].event_type = other);
    }
    // Other data beside the same digest.
    refused(ProblemCode::SeparatorRelabelled, |drafts| {
        drafts[SEPARATOR].event_type = EventType::EFI_VARIABLE_AUTHORITY;
        drafts[SEPARATOR].data = authority("db", &[9; 48]).data;
        drafts.push(separator(7));
    });
}

#[test]
fn a7_a_variable_relabelled_as_an_authority_is_refused() {
    refused(ProblemCode::VariableRelabelled, |drafts| {
        let mut off = variable("SecureBoot", &[0]);
        off.event_type = EventType::EFI_VARIABLE_AUTHORITY;
        drafts.insert(SECURE_BOOT, off);
    });
}

#[test]
fn a7_data_that_is_not_what_was_measured_is_refused() {
    refused(ProblemCode::DigestMismatch, |drafts| drafts[SECURE_BOOT].measured = variable("SecureBoot", &[0]).data);
    refused(ProblemCode::DigestMismatch, |drafts| drafts[4].measured = b"another db".to_vec());
    refused(ProblemCode::DigestMismatch, |drafts| drafts[SEPARATOR].measured = vec![1, 0, 0, 0]);
    refused(ProblemCode::DigestMismatch, |drafts| {
        let at = place(drafts, &authority("db", &[9; 48]));
        drafts[at].measured = b"another key".to_vec();
    });
}

#[test]
fn a7_an_event_without_the_quoted_banks_digest_says_nothing() {
    // In the SHA-256 bank this event never happened: it would show Secure Boot on without changing PCR 7.
    let drafts = clean();
    let mut bytes = super::build::header(&[(0x0B, 32), (0x0C, 48)], &[]);
    for (i, draft) in drafts.iter().enumerate() {
        let digest = |bank: Bank| bank.digest(&[&draft.measured]).as_bytes().to_vec();
        let mut digests = vec![(0x0C, digest(Bank::Sha384))];
        if i != SECURE_BOOT {
            digests.push((0x0B, digest(Bank::Sha256)));
        }
        bytes.extend(super::build::agile_event(draft, &digests));
    }
    let log = EventLog::parse(&bytes).unwrap();
    let judged = secure_boot(&log);
    assert_eq!((judged.state, judged.problems[0].code), (None, ProblemCode::DigestMissing));
    assert!(log.problems().iter().any(|problem| problem.code == ProblemCode::DigestMissing));
}

#[test]
fn a8_a_second_secure_boot_variable_is_refused() {
    refused(ProblemCode::DuplicateVariable, |drafts| drafts.insert(2, variable("SecureBoot", &[1])));
    refused(ProblemCode::DuplicateVariable, |drafts| drafts.insert(2, variable("dbx", &[])));
    // Of another vendor it is the same name still.
    let other = event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable_data(&[5; 16], "SecureBoot", &[1]));
    refused(ProblemCode::DuplicateVariable, |drafts| drafts.insert(2, other.clone()));
    refused(ProblemCode::VariableVendor, |drafts| drafts[SECURE_BOOT] = other.clone());
}

#[test]
fn a8_a_variable_after_the_separator_is_refused() {
    refused(ProblemCode::VariableAfterSeparator, |drafts| {
        let moved = drafts.remove(SECURE_BOOT);
        drafts.push(moved);
    });
    refused(ProblemCode::VariableAfterSeparator, |drafts| drafts.push(variable("MokSBState", &[1])));
}

#[test]
fn a8_a_missing_a_second_and_a_wrong_separator_are_refused() {
    refused(ProblemCode::SeparatorMissing, |drafts| {
        drafts.remove(SEPARATOR);
    });
    refused(ProblemCode::DuplicateSeparator, |drafts| drafts.push(separator(7)));
    refused(ProblemCode::SeparatorValue, |drafts| drafts[SEPARATOR] = event(7, EventType::SEPARATOR, &[1, 0, 0, 0]));
    let mut drafts = clean();
    drafts[SEPARATOR] = event(7, EventType::SEPARATOR, &[0xFF; 4]);
    assert_eq!(judge(&drafts).state, Some(true));
}

#[test]
fn a8_a_secure_boot_variable_of_another_length_or_value_is_refused() {
    for data in [&[][..], &[1, 0], &[1; 8]] {
        refused(ProblemCode::SecureBootLength, |drafts| drafts[SECURE_BOOT] = variable("SecureBoot", data));
    }
    refused(ProblemCode::SecureBootValue, |drafts| drafts[SECURE_BOOT] = variable("SecureBoot", &[2]));
    refused(ProblemCode::SecureBootMissing, |drafts| {
        drafts.remove(SECURE_BOOT);
    });
}

#[test]
fn a8_a_log_cut_at_any_event_before_the_separator_says_nothing() {
    let drafts = clean();
    for length in 0..=SEPARATOR {
        assert_eq!(judge(&drafts[..length]).state, None, "{length} events");
    }
}

#[test]
fn a8_separators_of_other_pcrs_are_counted() {
    let problems = |drafts: &[Draft]| {
        let bytes = write(drafts);
        EventLog::parse(&bytes).unwrap().problems()
    };
    for pcr in 0..7 {
        let mut twice = clean();
        twice.push(separator(pcr));
        assert_eq!(problems(&twice)[0].code, ProblemCode::DuplicateSeparator);
        assert_eq!(problems(&twice)[0].detail.as_str(), format!("PCR {pcr}"));
        let mut without = clean();
        without.retain(|draft| draft.data != separator(pcr).data || draft.pcr != pcr);
        without.push(event(pcr, EventType::POST_CODE, b"x"));
        assert_eq!(problems(&without)[0].code, ProblemCode::SeparatorMissing);
    }
    let mut hidden = clean();
    let at = place(&hidden, &separator(4));
    hidden[at].event_type = EventType::EFI_BOOT_SERVICES_APPLICATION;
    assert_eq!(problems(&hidden)[0].code, ProblemCode::SeparatorRelabelled);
}

#[test]
fn data_of_other_pcrs_is_held_against_its_digest_where_the_specification_says_so() {
    for (event_type, data) in [
        (EventType::SEPARATOR, vec![0; 4]),
        (EventType::EFI_ACTION, b"Calling".to_vec()),
        (EventType::S_CRTM_VERSION, b"v1".to_vec()),
        (EventType::EFI_GPT_EVENT, vec![0; 92]),
        (EventType::EFI_VARIABLE_BOOT, variable_data(&[1; 16], "BootOrder", &[0, 0])),
        (EventType::EFI_VARIABLE_BOOT2, variable_data(&[1; 16], "BootOrder", &[0, 0])),
        (EventType::EFI_VARIABLE_DRIVER_CONFIG, variable_data(&[1; 16], "X", &[0, 0])),
        (EventType::EFI_VARIABLE_AUTHORITY, variable_data(&[1; 16], "X", &[0, 0])),
    ] {
        let mut bad = event(23, event_type, &data);
        bad.measured = b"something else".to_vec();
        let bytes = write(&[clean(), vec![bad]].concat());
        let problems = EventLog::parse(&bytes).unwrap().problems();
        assert_eq!(problems[0].code, ProblemCode::DigestMismatch, "{event_type}");
        assert_eq!(problems[0].event, Some(22));
    }
    // Older firmware measures the data of a boot variable alone.
    let mut fine = event(1, EventType::EFI_VARIABLE_BOOT, &variable_data(&[1; 16], "BootOrder", &[3, 0]));
    fine.measured = vec![3, 0];
    let bytes = write(&[clean(), vec![fine]].concat());
    assert_eq!(EventLog::parse(&bytes).unwrap().problems(), []);
}

#[test]
fn a_debugger_an_unknown_action_and_missing_keys_leave_doubt() {
    refused(ProblemCode::DebugMode, |drafts| drafts.insert(1, event(7, EventType::EFI_ACTION, b"UEFI Debug Mode")));
    refused(ProblemCode::UnknownActionInPcr7, |drafts| drafts.insert(1, event(7, EventType::EFI_ACTION, b"Hello")));
    refused(ProblemCode::AuthorityMissing, |drafts| {
        let at = place(drafts, &authority("db", &[9; 48]));
        drafts.remove(at);
    });
    for (at, name) in [(2, "PK"), (3, "KEK"), (4, "db")] {
        refused(ProblemCode::KeysMissing, |drafts| drafts[at] = variable(name, &[]));
    }
    let mut drafts = clean();
    drafts.insert(1, event(7, EventType::EFI_ACTION, b"DMA Protection Disabled"));
    let judged = judge(&drafts);
    assert_eq!((judged.state, judged.dma_protection_disabled), (Some(true), true));
}

#[test]
fn what_stands_in_the_sha1_bank_decides_nothing() {
    // Every SHA-1 digest is wrong, and nothing changes but that bank's values.
    let mut bytes = super::build::header(&[(0x0B, 32), (4, 20)], &[]);
    for draft in clean() {
        let strong = Bank::Sha256.digest(&[&draft.measured]).as_bytes().to_vec();
        bytes.extend(super::build::agile_event(&draft, &[(0x0B, strong), (4, vec![3; 20])]));
    }
    let report = EventLogReport::new(&EventLog::parse(&bytes).unwrap());
    assert_eq!((report.secure_boot, report.problems), (Some(true), vec![]));
}
