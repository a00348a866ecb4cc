//! UEFI event logs: what firmware and boot loaders say they measured, replayed and judged.
//!
//! Does: reads logs of the TCG PC Client Platform Firmware Profile 1.06, crypto-agile and legacy ([`EventLog`]), and
//! systemd's log of what the running system measured ([`MeasureLog`]); replays them into every bank ([`Replay`]), holds
//! the values against given ones ([`compare`]), judges Secure Boot ([`secure_boot()`]), sorts all measurements into boot
//! stages ([`boot_stages`]) and tells what is odd ([`Problem`]).
//! May assume: nothing; every byte comes from a host that may lie.
//! Promises: pure, total, and linear in the bytes given (at most 1 MiB); a log that does not parse is an error with event
//! and offset, a log that parses is judged by values with fixed codes.
//! Must never: believe an event's type, or data that does not hash to the digest; build trust on SHA-1; take a replayed
//! value for a PCR's value, which only a quote can say.
//!
//! # What is proven, and by what
//!
//! A PCR that replays to its quoted value proves the order and the digests of its events in that bank. It proves neither
//! types nor data. So [`secure_boot()`] accepts only data that hashes to the digest in every strong bank, and each
//! measurement stands in exactly one stage of [`boot_stages`], by its PCR first; the text beside it is marked as measured
//! or merely claimed.

mod bank;
mod check;
mod efi;
mod event;
mod measurelog;
mod parse;
mod problem;
mod reader;
mod replay;
mod report;
mod secure_boot;
mod stages;
mod text;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

pub use bank::{Bank, BankDigest};
pub use efi::SignatureDatabase;
pub use event::{Event, EventType};
pub use measurelog::{MEASURE_LOG_BYTES_MAX, MeasureLog, MeasureLogError, MeasureRecord, RECORDS_MAX};
pub use parse::{BANKS_MAX, EVENTS_MAX, EventLog, EventLogError, LOG_BYTES_MAX};
pub use problem::{PROBLEMS_MAX, Problem, ProblemCode};
pub use replay::{Comparison, Leniency, Mismatch, MismatchCode, Replay, compare, compare_with};
pub use report::{EventLogReport, EventReport};
pub use secure_boot::{BootAuthority, SecureBoot, secure_boot};
pub use stages::{BootStages, Measurement, Stage, boot_stages};
pub use text::{EVENT_TEXT_BYTES_MAX, EventText, EventWords, event_words};
