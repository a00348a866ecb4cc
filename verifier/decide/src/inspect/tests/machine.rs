//! One machine with measured boot: what it quoted, its boot log and its IMA list say the same.

use std::collections::BTreeMap;

use quotary_common::id::Digest;

use super::*;
use crate::eventlog::{EventLog, EventLogReport, Stage, boot_stages};
use crate::ima::{self, Entries, ListForm};

/// The PCR values that the quote proves, SHA-256, hexadecimal.
fn quoted() -> BTreeMap<u8, String> {
    let mut files = Files::of("vm");
    files.nonce = Some(b"quotary vm".to_vec());
    let report = files.report();
    assert!(report.verified, "{:?}", report.reasons);
    report.pcrs["sha256"].clone()
}

#[test]
fn the_boot_log_replays_to_the_quoted_pcrs() {
    let (quoted, log) = (quoted(), data("vm/binary_bios_measurements"));
    let report = EventLogReport::new(&EventLog::parse(&log).unwrap());
    let replayed = &report.banks["sha256"];
    assert_eq!(replayed.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 9]);
    for (pcr, value) in replayed {
        assert_eq!(value, &quoted[pcr], "PCR {pcr}");
    }
    // Its firmware has no keys, so Secure Boot is off; nothing else is odd.
    assert_eq!((report.secure_boot, report.events.len()), (Some(false), 24));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn the_ima_list_replays_to_the_quoted_pcr_10_and_starts_with_the_boot_that_was_quoted() {
    let (quoted, list) = (quoted(), data("vm/binary_runtime_measurements"));
    let report = ima::inspect(&list).unwrap();
    assert_eq!((report.entries, report.violations, &report.pcr10.sha256), (342, 0, &quoted[&10]));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let first = Entries::new(ListForm::detect(&list), &list).next().unwrap().unwrap();
    let pcrs: [Digest; 10] = std::array::from_fn(|pcr| quoted[&u8::try_from(pcr).unwrap()].parse().unwrap());
    let digest = first.measured().unwrap().digest;
    assert_eq!((digest.algorithm, digest.bytes), (&b"sha256"[..], &ima::boot_aggregate_sha256(&pcrs).as_bytes()[..]));
}

#[test]
fn the_kernels_efi_stub_measured_the_command_line_in_utf_16_with_its_end() {
    let log = data("vm/binary_bios_measurements");
    let stages = boot_stages(&EventLog::parse(&log).unwrap());
    let [measured] = stages.of(Stage::CommandLine).collect::<Vec<_>>()[..] else { panic!("{stages:?}") };
    let line = String::from_utf8(data("vm/cmdline")).unwrap();
    let given = line.strip_suffix('\n').unwrap().encode_utf16().chain([0]);
    let bytes: Vec<u8> = given.flat_map(u16::to_le_bytes).collect();
    assert_eq!((measured.pcr, &measured.digest), (9, Digest::of(&[&bytes]).as_bytes()));
    // The event says only that it is the load options.
    assert!(!measured.text_measured, "{measured:?}");
}
