//! What `quotary inspect eventlog --json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bank::Bank;
use super::parse::EventLog;
use super::problem::{Problem, Problems};
use super::secure_boot::secure_boot;
use super::stages::{BootStages, Stage, boot_stages};
use super::text::{EventText, event_words};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventReport {
    /// Its number in the log.
    pub number: u32,
    /// Its PCR as the log has it.
    pub pcr: u32,
    /// What it claims to be: the specification's name, or the number in hexadecimal.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Digest by name of the bank, lower-case hexadecimal.
    pub digests: BTreeMap<&'static str, String>,
    /// What it says in words.
    pub text: Option<EventText>,
    /// Whether a digest covers these words.
    pub text_measured: bool,
    /// The boot stage; `null` when it is no measurement of the SHA-256 bank.
    pub stage: Option<Stage>,
}

/// A log, replayed and judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventLogReport {
    /// By name of the bank and PCR: the value, lower-case hexadecimal; only PCRs that the log extends.
    pub banks: BTreeMap<&'static str, BTreeMap<u8, String>>,
    /// Secure Boot on, off, or `null`: it cannot be said.
    pub secure_boot: Option<bool>,
    /// The events in order.
    pub events: Vec<EventReport>,
    /// All that is odd; empty for a log without a blemish.
    pub problems: Vec<Problem>,
}

impl EventLogReport {
    /// Replays and judges a log.
    pub fn new(log: &EventLog<'_>) -> Self {
        let replay = log.replay();
        let values = |bank| replay.extended(bank).map(|(pcr, value)| (pcr, value.to_hex())).collect();
        let banks = replay.banks().map(|bank| (bank.name(), values(bank)));
        let banks = banks.filter(|(_, values): &(_, BTreeMap<u8, String>)| !values.is_empty()).collect();
        let judged = secure_boot(log);
        let mut problems = Problems::default();
        problems.extend(&log.problems());
        problems.extend(&judged.problems);
        let events = event_reports(log, &boot_stages(log));
        Self { banks, secure_boot: judged.state, events, problems: problems.into_vec() }
    }
}

fn event_reports(log: &EventLog<'_>, stages: &BootStages) -> Vec<EventReport> {
    let bank = log.banks_to_check().first().copied().unwrap_or(Bank::Sha256);
    // Both are in the order of the log.
    let mut measurements = stages.measurements().iter().peekable();
    let report = |event: &super::Event<'_>| {
        let words = event_words(event, bank);
        let stage = measurements.next_if(|measurement| measurement.event == event.number()).map(|m| m.stage);
        EventReport {
            number: event.number(),
            pcr: event.pcr(),
            event_type: event.event_type().to_string(),
            digests: event
                .digests()
                .map(|(bank, digest)| (bank.name(), data_encoding::HEXLOWER.encode(digest)))
                .collect(),
            text_measured: words.as_ref().is_some_and(|words| words.measured),
            text: words.map(|words| words.text),
            stage,
        }
    };
    log.events().iter().map(report).collect()
}
