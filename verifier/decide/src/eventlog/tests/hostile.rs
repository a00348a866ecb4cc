//! Bytes that are no log, or nearly one: refused, and never a panic, a hang or memory for a claimed size.

use super::super::*;
use super::build::{agile_event, clean, event, header, write};
use super::read;

/// Everything that the room can do with bytes.
pub(super) fn everything(bytes: &[u8]) -> Result<EventLogReport, EventLogError> {
    let log = EventLog::parse(bytes)?;
    let _ = boot_stages(&log);
    Ok(EventLogReport::new(&log))
}
fn what(bytes: &[u8]) -> (u32, usize, &'static str) {
    match EventLog::parse(bytes).unwrap_err() {
        EventLogError::Event { number, offset, what } => (number, offset, what),
        other => panic!("{other}"),
    }
}

#[test]
fn a21_logs_on_which_stock_tools_crash_are_read_or_refused() {
    let bytes = read("eventlogs-odd", "option_rom_eventlog");
    assert_eq!(everything(&bytes).unwrap().events.len(), 61);
    let bogus = read("eventlogs-odd", "binary_bios_measurements-bogus");
    assert_eq!(what(&bogus), (0, 32, "an event claims more data than the log has"));
    let empty = read("eventlogs-odd", "binary_bios_measurements-empty");
    assert_eq!(EventLog::parse(&empty).unwrap_err(), EventLogError::Empty);
}

#[test]
fn a_log_cut_within_an_event_is_refused_wherever_it_is_cut() {
    for (folder, name) in [("eventlogs", "arch-linux-workstation.bin"), ("eventlogs-odd", "ebs_event_missing_eventlog")]
    {
        let bytes = read(folder, name);
        let log = EventLog::parse(&bytes).unwrap();
        let starts: Vec<usize> = log.events().iter().map(Event::offset).collect();
        for length in 1..bytes.len() {
            let cut = EventLog::parse(&bytes[..length]);
            assert_eq!(cut.is_ok(), starts.contains(&length), "{name} cut at {length}");
            if let Err(error) = cut {
                let EventLogError::Event { number, offset, .. } = error else { panic!("{error}") };
                assert!(offset <= length && starts[number as usize] <= length, "{name}: {error}");
            }
        }
    }
}

#[test]
fn a_log_cut_between_events_reads_and_its_values_differ() {
    let bytes = read("eventlogs", "cos-101-amd-sev.bin");
    let whole = EventLog::parse(&bytes).unwrap();
    let last = whole.events().last().unwrap();
    let cut = EventLog::parse(&bytes[..last.offset()]).unwrap();
    let full = whole.replay();
    let values: Vec<_> = full.extended(Bank::Sha256).map(|(pcr, value)| (pcr, value.as_bytes())).collect();
    let mismatches = compare(&cut.replay(), Bank::Sha256, values);
    assert_eq!(mismatches.iter().map(|mismatch| mismatch.pcr).collect::<Vec<_>>(), [5]);
}

#[test]
fn every_changed_byte_of_a_log_is_survived() {
    let bytes = write(&clean());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] = if at % 2 == 0 { 0xFF } else { changed[at] ^ 1 };
        let _ = everything(&changed);
    }
}

#[test]
fn a_changed_digest_changes_the_value_of_its_pcr() {
    let bytes = read("eventlogs", "rhel8-uefi.bin");
    let log = EventLog::parse(&bytes).unwrap();
    let whole = log.replay();
    for event in log.events().iter().filter(|event| event.extends().is_some()).take(30) {
        // PCR, type, count, two digests with their algorithms: the SHA-256 digest starts at 12 + 22 + 2.
        let mut changed = bytes.clone();
        changed[event.offset() + 36] ^= 1;
        let changed = EventLog::parse(&changed).unwrap().replay();
        let pcr = event.extends().unwrap();
        assert_ne!(changed.value(Bank::Sha256, pcr), whole.value(Bank::Sha256, pcr));
        assert_eq!(changed.value(Bank::Sha384, pcr), whole.value(Bank::Sha384, pcr));
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    for (banks, text) in [
        (vec![], "the number of digest algorithms is not 1 to 5"),
        (
            vec![(0x0B, 32), (0x0C, 48), (0x0D, 64), (4, 20), (0x12, 32), (0x27, 32)],
            "the number of digest algorithms is not 1 to 5",
        ),
        (vec![(0x0B, 31)], "a digest size is not that of its algorithm"),
        (vec![(0x12, 0)], "a digest size is not that of its algorithm"),
        (vec![(0x12, 65)], "a digest size is not that of its algorithm"),
        (vec![(0x0B, 32), (0x0B, 32)], "a digest algorithm twice"),
    ] {
        assert_eq!(what(&header(&banks, &[])).2, text);
    }
    // A count that would take all memory.
    let mut huge = header(&[(0x0B, 32)], &[]);
    huge[32 + 24..32 + 28].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(what(&huge).2, "the number of digest algorithms is not 1 to 5");
    // Vendor bytes within the size, and one byte too many.
    assert!(
        EventLog::parse(&header(&[(0x0B, 32)], &[1, 2, 3]))
            .unwrap()
            .problems()
            .iter()
            .all(|p| p.code != ProblemCode::HeaderVendorOutside)
    );
    let mut more = header(&[(0x0B, 32)], &[1, 2, 3]);
    let last = more.len() - 4;
    more[last] = 2;
    assert_eq!(what(&more).2, "bytes after the end of the Spec ID event");
    more[last] = 4;
    assert_eq!(what(&more).2, "the Spec ID event is cut off");
}

#[test]
fn digests_that_the_header_does_not_know_are_refused() {
    let one = event(0, EventType::POST_CODE, b"x");
    let with =
        |digests: &[(u16, Vec<u8>)]| [header(&[(0x0B, 32), (0x12, 32)], &[]), agile_event(&one, digests)].concat();
    let (known, sm3) = ((0x0B, vec![1; 32]), (0x12, vec![2; 32]));
    let bytes = with(&[known.clone(), sm3.clone()]);
    let log = EventLog::parse(&bytes).unwrap();
    // SM3 is skipped by its size and does not replay.
    assert_eq!((log.banks(), log.events()[1].digests().count()), (vec![Bank::Sha256], 1));
    assert_eq!(log.events()[1].data(), b"x");
    assert_eq!(what(&with(&[])).2, "an event has no digest, or more than the header has algorithms");
    assert_eq!(
        what(&with(&[known.clone(), sm3, known.clone()])).2,
        "an event has no digest, or more than the header has algorithms"
    );
    assert_eq!(what(&with(&[known.clone(), known])).2, "two digests of one algorithm");
    assert_eq!(what(&with(&[(4, vec![1; 20])])).2, "a digest of an algorithm that the header does not name");
}

#[test]
fn too_many_bytes_events_and_problems_are_bounded() {
    let large = vec![0; LOG_BYTES_MAX + 1];
    assert_eq!(EventLog::parse(&large).unwrap_err(), EventLogError::TooLarge { bytes: LOG_BYTES_MAX + 1 });
    // The smallest legacy events, each extending a PCR that does not exist.
    let small = [u32::MAX.to_le_bytes().as_slice(), &[0; 28]].concat();
    assert_eq!(EventLog::parse(&small.repeat(EVENTS_MAX + 1)).unwrap_err(), EventLogError::TooManyEvents);
    let most = small.repeat(EVENTS_MAX);
    let log = EventLog::parse(&most).unwrap();
    let problems = log.problems();
    assert_eq!(problems.len(), PROBLEMS_MAX);
    assert_eq!(problems[0].code, ProblemCode::PcrOutOfRange);
    assert_eq!(problems[PROBLEMS_MAX - 1].code, ProblemCode::TooManyProblems);
    assert_eq!(log.replay().extended(Bank::Sha1).count(), 0);
}

#[test]
fn a_startup_locality_too_late_twice_or_malformed_does_not_count() {
    let locality = |byte: &[u8]| event(0, EventType::NO_ACTION, &[b"StartupLocality\0", byte].concat());
    let start = |drafts: &[super::build::Draft]| {
        let bytes = write(drafts);
        let log = EventLog::parse(&bytes).unwrap();
        (log.start_locality(), log.problems().iter().any(|problem| problem.code == ProblemCode::StartupLocality))
    };
    assert_eq!(start(&[vec![locality(&[4])], clean()].concat()), (4, false));
    assert_eq!(start(&[clean(), vec![locality(&[3])]].concat()), (0, true));
    assert_eq!(start(&[vec![locality(&[3]), locality(&[4])], clean()].concat()), (3, true));
    for bad in [&[][..], &[1], &[3, 3]] {
        assert_eq!(start(&[vec![locality(bad)], clean()].concat()), (0, true));
    }
}

#[test]
fn values_are_compared_with_what_the_tpm_starts_from_where_the_log_is_silent() {
    let bytes = write(&clean());
    let replay = EventLog::parse(&bytes).unwrap().replay();
    let (zeros, ones) = ([0; 32], [0xFF; 32]);
    assert_eq!(
        compare(&replay, Bank::Sha256, [(10, &zeros[..]), (16, &zeros), (17, &ones), (22, &ones), (23, &zeros)]),
        []
    );
    let odd = compare(&replay, Bank::Sha256, [(10, &ones[..]), (17, &zeros), (7, &zeros), (24, &zeros)]);
    let codes: Vec<&str> = odd.iter().map(|mismatch| mismatch.code.code()).collect();
    assert_eq!(codes, ["pcr-not-recorded", "pcr-not-recorded", "pcr-mismatch", "bank-not-recorded"]);
    // A value of another length, even an empty one, agrees with nothing.
    assert_eq!(compare(&replay, Bank::Sha256, [(10, &zeros[..31]), (11, &[])]).len(), 2);
    assert_eq!(compare(&replay, Bank::Sha512, [(0, &[0; 64][..])])[0].code, MismatchCode::Bank);
}
