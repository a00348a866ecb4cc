//! Logs of real machines: values, states and verdicts as their sources state them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::*;
use super::{folder, read};

const FOLDERS: [&str; 3] = ["eventlogs", "eventlogs-odd", "eventlogs-tpm2-tools"];

const NO_EXIT: &str = "exit-boot-services-missing";
/// Every log, and the codes that its report lists: an empty list is a log without a blemish.
const VERDICTS: [(&str, &[&str]); 28] = [
    ("arch-linux-workstation.bin", &[NO_EXIT, "secure-boot-length", "text-not-measured"]),
    ("cos-101-amd-sev.bin", &[]),
    ("cos-85-amd-sev.bin", &[]),
    ("cos-93-amd-sev.bin", &[]),
    ("debian-10.bin", &[NO_EXIT, "sha1-only"]),
    ("glinux-alex.bin", &[NO_EXIT]),
    ("rhel8-uefi.bin", &[]),
    ("ubuntu-1804-amd-sev.bin", &[]),
    ("ubuntu-2104-no-dbx.bin", &[]),
    ("ubuntu-2104-no-secure-boot.bin", &[]),
    ("coreos_36_shielded_vm_no_secure_boot_eventlog", &[]),
    ("crypto_agile_eventlog", &[NO_EXIT, "secure-boot-length"]),
    ("ebs_event_missing_eventlog", &[NO_EXIT, "sha1-only"]),
    // TPM 1.2 firmware measured the variable's data alone.
    ("linux_tpm12_eventlog", &["digest-mismatch", "sha1-only"]),
    ("option_rom_eventlog", &["sha1-only"]),
    ("sb_cert_eventlog", &[NO_EXIT, "separator-missing"]),
    ("short_no_action_eventlog", &[NO_EXIT, "secure-boot-missing", "separator-missing", "sha1-only"]),
    ("event-arch-linux.bin", &[NO_EXIT, "secure-boot-length", "text-not-measured"]),
    ("event-bootorder.bin", &[]),
    ("event-moklisttrusted.bin", &[]),
    ("event-postcode.bin", &[NO_EXIT]),
    ("event-sd-boot-fedora37.bin", &["secure-boot-length"]),
    ("event-uefi-sha1-log.bin", &[NO_EXIT, "secure-boot-length", "sha1-only"]),
    ("event-uefiaction.bin", &["digest-missing", NO_EXIT, "secure-boot-missing", "separator-missing"]),
    ("event-uefiservices.bin", &[NO_EXIT, "secure-boot-missing", "separator-missing"]),
    // Its one event lacks two banks, so even SecureBoot's value cannot be believed.
    ("event-uefivar.bin", &["digest-missing", NO_EXIT, "secure-boot-missing", "separator-missing"]),
    ("event.bin", &[NO_EXIT, "secure-boot-missing", "separator-missing"]),
    ("specid-vendordata.bin", &[NO_EXIT, "header-vendor-outside", "secure-boot-missing", "separator-missing"]),
];
/// What the logs do not fully record: file, bank, PCR, and why.
const NOT_REPLAYED: [(&str, &str, u8, MismatchCode); 5] = [
    // Two events in PCR 5 are missing; the log has no SHA-256 bank at all.
    ("ebs_event_missing_eventlog", "sha1", 5, MismatchCode::Value),
    ("ebs_event_missing_eventlog", "sha256", 5, MismatchCode::Bank),
    // The kernel extends PCR 10, and IMA keeps its own list.
    ("linux_tpm12_eventlog", "sha1", 10, MismatchCode::NotRecorded),
    ("sb_cert_eventlog", "sha1", 10, MismatchCode::NotRecorded),
    ("sb_cert_eventlog", "sha256", 10, MismatchCode::NotRecorded),
];

/// Every log with what is expected of it: values by bank, and the Secure Boot state where the source states one.
fn expected() -> Vec<(&'static str, String, BTreeMap<String, Value>)> {
    let mut all = Vec::new();
    for name in FOLDERS {
        let logs: BTreeMap<String, BTreeMap<String, Value>> =
            serde_json::from_slice(&read(name, "expected_pcrs.json")).unwrap();
        all.extend(logs.into_iter().map(|(log, want)| (name, log, want)));
    }
    all
}
fn values(want: &BTreeMap<String, Value>) -> Vec<(Bank, u8, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, values) in want {
        let (Some(bank), Some(values)) = (Bank::from_name(name), values.as_object()) else { continue };
        all.extend(values.iter().map(|(pcr, hex)| {
            let value = data_encoding::HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap();
            (bank, pcr.parse().unwrap(), value)
        }));
    }
    all
}

#[test]
fn every_fully_recorded_pcr_replays_to_its_stated_value_and_the_others_are_listed_with_their_reason() {
    let (mut compared, mut mismatched) = (0, BTreeSet::new());
    for (name, log, want) in expected() {
        let bytes = read(name, &log);
        let replay = EventLog::parse(&bytes).unwrap().replay();
        for (bank, pcr, value) in values(&want) {
            compared += 1;
            for mismatch in compare(&replay, bank, [(pcr, value.as_slice())]) {
                mismatched.insert((log.clone(), bank.name(), pcr, mismatch.code));
            }
        }
    }
    let listed = NOT_REPLAYED.map(|(log, bank, pcr, code)| (log.to_owned(), bank, pcr, code));
    assert_eq!(mismatched, BTreeSet::from(listed));
    assert!(compared > 350, "{compared} values were compared");
}

#[test]
fn a_log_extends_no_pcr_of_a_stated_bank_that_its_source_does_not_state() {
    for (name, log, want) in expected().into_iter().filter(|(name, ..)| *name != "eventlogs-odd") {
        let bytes = read(name, &log);
        let replay = EventLog::parse(&bytes).unwrap().replay();
        let stated: BTreeSet<(Bank, u8)> = values(&want).into_iter().map(|(bank, pcr, _)| (bank, pcr)).collect();
        for bank in stated.iter().map(|(bank, _)| *bank).collect::<BTreeSet<_>>() {
            for (pcr, _) in replay.extended(bank) {
                assert!(stated.contains(&(bank, pcr)), "{log} {bank:?} {pcr}");
            }
        }
    }
}

#[test]
fn stated_secure_boot_states_agree() {
    let mut stated = 0;
    for (name, log, want) in expected() {
        let Some(state) = want.get("secure_boot") else { continue };
        let bytes = read(name, &log);
        assert_eq!(secure_boot(&EventLog::parse(&bytes).unwrap()).state, state.as_bool(), "{log}");
        stated += 1;
    }
    assert_eq!(stated, 16);
}

#[test]
fn the_report_of_every_log_lists_exactly_the_reasons_that_are_known() {
    let mut seen = BTreeSet::new();
    for (name, log, _) in expected() {
        let bytes = read(name, &log);
        let report = EventLogReport::new(&EventLog::parse(&bytes).unwrap());
        let codes: BTreeSet<&str> = report.problems.iter().map(|problem| problem.code.code()).collect();
        let known = VERDICTS.iter().find(|(file, _)| *file == log).unwrap().1;
        assert_eq!(codes, known.iter().copied().collect(), "{log}");
        seen.insert(log);
    }
    assert_eq!(seen.len(), VERDICTS.len());
}

#[test]
fn no_log_of_the_folders_is_left_out() {
    let known: BTreeSet<String> = VERDICTS.iter().map(|(log, _)| (*log).to_owned()).collect();
    for name in FOLDERS {
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let is_log = file.ends_with(".bin") || file.ends_with("_eventlog");
            assert!(!is_log || known.contains(&file), "{file}");
        }
    }
}

#[test]
fn missing_exit_boot_services_events_are_refused_unless_the_caller_names_the_exception() {
    let bytes = read("eventlogs-odd", "ebs_event_missing_eventlog");
    let log = EventLog::parse(&bytes).unwrap();
    let replay = log.replay();
    let plain = replay.value(Bank::Sha1, 5).unwrap().to_hex();
    assert!(plain.starts_with("e5781a2f"), "{plain}");
    let want = expected().into_iter().find(|(_, log, _)| log == "ebs_event_missing_eventlog").unwrap().2;
    let value = values(&want).into_iter().find(|(bank, ..)| *bank == Bank::Sha1).unwrap().2;
    let held = |leniency, value: &[u8]| compare_with(&log, &replay, Bank::Sha1, [(5, value)], leniency);
    let lenient = Leniency { missing_exit_boot_services: true };
    assert_eq!(held(Leniency::default(), &value).mismatches.len(), 1);
    let accepted = held(lenient, &value);
    assert!(accepted.mismatches.is_empty());
    assert_eq!(accepted.problems[0].code, ProblemCode::ExitBootServicesAssumed);
    // The exception excuses these two events and nothing else.
    let refused = held(lenient, &[7; 20]);
    assert_eq!((refused.mismatches.len(), refused.problems.len()), (1, 0));
}

#[test]
fn the_exception_is_not_for_a_log_that_has_the_events() {
    let bytes = read("eventlogs", "rhel8-uefi.bin");
    let log = EventLog::parse(&bytes).unwrap();
    let replay = log.replay();
    let twice = [&b"Exit Boot Services Invocation"[..], b"Exit Boot Services Returned with Success"]
        .iter()
        .fold(*replay.value(Bank::Sha256, 5).unwrap(), |at, text| {
            Bank::Sha256.digest(&[at.as_bytes(), Bank::Sha256.digest(&[text]).as_bytes()])
        });
    let lenient = Leniency { missing_exit_boot_services: true };
    let held = compare_with(&log, &replay, Bank::Sha256, [(5, twice.as_bytes())], lenient);
    assert_eq!((held.mismatches.len(), held.problems.len()), (1, 0));
}

#[test]
fn authorities_are_told_apart_by_the_separator_and_old_shims_read() {
    let bytes = read("eventlogs-odd", "option_rom_eventlog");
    let judged = secure_boot(&EventLog::parse(&bytes).unwrap());
    assert_eq!(judged.authorities_before_separator.len() + judged.authorities_after_separator.len(), 2);
    let bytes = read("eventlogs-odd", "sb_cert_eventlog");
    let judged = secure_boot(&EventLog::parse(&bytes).unwrap());
    let after = &judged.authorities_after_separator;
    assert_eq!((judged.authorities_before_separator.len(), after.len()), (0, 3));
    assert!(after.iter().all(|authority| authority.certificate.is_some()));
    assert_eq!(after[1].certificate, after[2].certificate);
    // The key that verified shim is one of db's.
    let db = judged.allowed.unwrap();
    assert!(db.certificates.contains(&after[0].certificate.unwrap()));
    assert_eq!((judged.platform_key.unwrap().certificates.len(), judged.forbidden.unwrap().hashes.len()), (1, 77));
}

#[test]
fn a_startup_locality_sets_where_pcr_0_starts() {
    let bytes = read("eventlogs-odd", "short_no_action_eventlog");
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!((log.start_locality(), log.events().len()), (3, 1));
    let replay = log.replay();
    assert_eq!(replay.value(Bank::Sha1, 0), None);
    assert_eq!(replay.expected(Bank::Sha1, 0).unwrap().to_hex(), format!("{}03", "00".repeat(19)));
    let bytes = read("eventlogs", "glinux-alex.bin");
    assert_eq!(EventLog::parse(&bytes).unwrap().start_locality(), 3);
}

#[test]
fn the_report_has_the_shape_that_is_promised() {
    let bytes = read("eventlogs", "rhel8-uefi.bin");
    let report = serde_json::to_value(EventLogReport::new(&EventLog::parse(&bytes).unwrap())).unwrap();
    assert_eq!(report["secure_boot"], true);
    assert_eq!(report["banks"]["sha256"]["0"].as_str().unwrap().len(), 64);
    assert_eq!(report["banks"]["sha384"]["14"].as_str().unwrap().len(), 96);
    assert_eq!(report["problems"], serde_json::json!([]));
    let event = &report["events"][3];
    assert_eq!((&event["number"], &event["pcr"], &event["text"]), (&3.into(), &7.into(), &"SecureBoot".into()));
    assert_eq!(event["type"], "EV_EFI_VARIABLE_DRIVER_CONFIG");
    assert_eq!(event["digests"]["sha1"].as_str().unwrap().len(), 40);
    let bytes = read("eventlogs", "arch-linux-workstation.bin");
    let report = serde_json::to_value(EventLogReport::new(&EventLog::parse(&bytes).unwrap())).unwrap();
    assert_eq!(report["secure_boot"], Value::Null);
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["code"] == "text-not-measured" && problem["event"] == 24));
}
