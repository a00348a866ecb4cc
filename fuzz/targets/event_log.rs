//! Event logs: each event lies in the bytes where it says, the replay is that of a second, plain replay, what is told is
//! bounded, and Secure Boot has no state beside a problem.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quotary_decide::eventlog::{
    Bank, EVENTS_MAX, Event, EventLog, EventLogReport, LOG_BYTES_MAX, MEASURE_LOG_BYTES_MAX, MeasureLog, PROBLEMS_MAX,
    RECORDS_MAX, boot_stages, compare, secure_boot,
};
use quotary_decide::eventlog::{EVENT_TEXT_BYTES_MAX, EventType};

fuzz_target!(|data: &[u8]| {
    let userspace = MeasureLog::parse(data);
    if let Ok(userspace) = &userspace {
        let started = data.iter().filter(|byte| **byte == 0x1e).count();
        assert!(data.len() <= MEASURE_LOG_BYTES_MAX && started <= RECORDS_MAX);
        assert_eq!(userspace.records().len() + userspace.without_pcr(), started, "a record for each separator");
        assert!(userspace.records().iter().all(|record| record.pcr() < 24));
    }
    let Ok(log) = EventLog::parse(data) else { return };
    assert!(data.len() <= LOG_BYTES_MAX && log.events().len() <= EVENTS_MAX);
    check_events(&log, data);
    check_replay(&log);
    check_verdicts(&log);
    let nothing = MeasureLog::parse(b"").expect("an empty log");
    assert_eq!(log.replay().then(&nothing), log.replay());
});

/// Each event stands in the bytes at its offset, one after the other to the end.
fn check_events(log: &EventLog<'_>, data: &[u8]) {
    let within =
        |part: &[u8]| data.as_ptr_range().start <= part.as_ptr() && part.as_ptr_range().end <= data.as_ptr_range().end;
    let mut end = 0;
    for (number, event) in log.events().iter().enumerate() {
        assert_eq!(usize::try_from(event.number()), Ok(number));
        assert!(event.offset() >= end, "events overlap");
        let head = [event.pcr().to_le_bytes(), event.event_type().0.to_le_bytes()].concat();
        assert!(data[event.offset()..].starts_with(&head));
        assert!(event.data().is_empty() || within(event.data()));
        let mut digest_bytes = 0;
        for (bank, digest) in event.digests() {
            assert!(within(digest) && digest.len() == bank.length());
            digest_bytes += digest.len();
        }
        end = event.offset() + 12 + digest_bytes + event.data().len();
    }
    assert!(end <= data.len());
    if !log.is_crypto_agile() {
        assert_eq!(log.events().iter().flat_map(encode).collect::<Vec<_>>(), data, "a legacy log has one encoding");
    }
}

/// `TCG_PCR_EVENT`.
fn encode(event: &Event<'_>) -> Vec<u8> {
    let mut out = [event.pcr().to_le_bytes(), event.event_type().0.to_le_bytes()].concat();
    out.extend_from_slice(event.digest(Bank::Sha1).expect("a legacy event has its digest"));
    out.extend_from_slice(&u32::try_from(event.data().len()).expect("it was read as such").to_le_bytes());
    out.extend_from_slice(event.data());
    out
}

fn check_replay(log: &EventLog<'_>) {
    let replay = log.replay();
    assert_eq!(replay.banks().collect::<Vec<_>>(), log.banks());
    for bank in log.banks() {
        let plain: Vec<(u8, Vec<u8>)> = (0..24).map(|pcr| (pcr, plain_replay(log, bank, pcr))).collect();
        let differing = compare(&replay, bank, plain.iter().map(|(pcr, value)| (*pcr, value.as_slice())));
        assert!(differing.is_empty(), "{differing:?}");
    }
}

fn plain_replay(log: &EventLog<'_>, bank: Bank, pcr: u8) -> Vec<u8> {
    let mut value = vec![if (17..23).contains(&pcr) { 0xFF } else { 0 }; bank.length()];
    if pcr == 0 {
        *value.last_mut().expect("no digest is empty") = log.start_locality();
    }
    for event in log.events().iter().filter(|event| event.event_type() != EventType::NO_ACTION) {
        if event.pcr() == u32::from(pcr)
            && let Some(digest) = event.digest(bank)
        {
            value = bank.digest(&[&value, digest]).as_bytes().to_vec();
        }
    }
    value
}

fn check_verdicts(log: &EventLog<'_>) {
    let report = EventLogReport::new(log);
    assert_eq!(report.events.len(), log.events().len());
    assert!(report.problems.len() <= PROBLEMS_MAX);
    let short = |text: &str| text.len() <= EVENT_TEXT_BYTES_MAX && !text.chars().any(char::is_control);
    assert!(report.events.iter().filter_map(|event| event.text.as_ref()).all(|text| short(text.as_str())));
    let verdict = secure_boot(log);
    assert!(verdict.state.is_none() || verdict.problems.is_empty(), "a state beside a problem");
    assert!(verdict.problems.len() <= PROBLEMS_MAX);
    let measured = |event: &&Event<'_>| event.extends().is_some() && event.digest(Bank::Sha256).is_some();
    let expected = log.events().iter().filter(measured).count();
    assert_eq!(boot_stages(log).measurements().len(), expected, "each measurement stands in exactly one stage");
}
