//! Reads a log: the header tells the form, then event by event (PC Client Platform Firmware Profile 1.06, section 10.4).

use super::bank::Bank;
use super::event::{Event, EventType};
use super::problem::{Problem, ProblemCode, Problems};
use super::reader::Reader;

/// Largest log, in bytes. Firmware sets 64 KiB aside; Windows logs reach 80 KiB.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Most events of one log.
pub const EVENTS_MAX: usize = 16_384;
/// Most digest algorithms that a header may name.
pub const BANKS_MAX: usize = 5;
/// Longest digest of an algorithm that is not known, in bytes.
const UNKNOWN_DIGEST_BYTES_MAX: u16 = 64;

const SIGNATURE_AGILE: &[u8; 16] = b"Spec ID Event03\0";

/// Bytes that are no event log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// There is nothing.
    #[error("the event log is empty")]
    Empty,
    /// There are more bytes than [`LOG_BYTES_MAX`].
    #[error("the event log has {bytes} bytes, more than the {LOG_BYTES_MAX} that are read")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// There are more events than [`EVENTS_MAX`].
    #[error("the event log has more than {EVENTS_MAX} events")]
    TooManyEvents,
    /// An event does not read: it is cut off, or a size in it cannot be.
    #[error("event {number} at offset {offset}: {what}")]
    Event {
        /// The event's number; the header is 0.
        number: u32,
        /// Where the fault lies, in bytes from the log's start.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// How events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    /// `TCG_PCR_EVENT`: SHA-1 only.
    Legacy,
    /// `TCG_PCR_EVENT2`, with the digest sizes of the header.
    CryptoAgile(Vec<(u16, u16)>),
}

/// A parsed log. It parsed: no more is said about it. Each event lies within the bytes it borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog<'a> {
    format: Format,
    events: Vec<Event<'a>>,
    start_locality: u8,
    /// Whether PCR 0 was extended, or its start told, already.
    pcr_0_begun: bool,
    problems: Problems,
}

impl<'a> EventLog<'a> {
    /// Reads a whole log, crypto-agile (`TCG_EfiSpecIDEvent` first) or legacy (SHA-1).
    ///
    /// # Errors
    /// [`EventLogError`] with the event and the offset at which the log stops to be one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        if bytes.is_empty() {
            return Err(EventLogError::Empty);
        }
        if bytes.len() > LOG_BYTES_MAX {
            return Err(EventLogError::TooLarge { bytes: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let first = legacy_event(&mut reader, 0)?;
        let mut problems = Problems::default();
        let mut log = Self {
            format: Format::Legacy,
            events: Vec::new(),
            start_locality: 0,
            pcr_0_begun: false,
            problems: Problems::default(),
        };
        if first.event_type == EventType::NO_ACTION && first.pcr == 0 && first.data.starts_with(SIGNATURE_AGILE) {
            log.format = Format::CryptoAgile(header_algorithms(first.data, &mut reader, &mut problems)?);
        }
        log.problems = problems;
        log.accept(Event { digests: header_digests(&first, &log.format), ..first });
        while !reader.is_empty() {
            if log.events.len() >= EVENTS_MAX {
                return Err(EventLogError::TooManyEvents);
            }
            // EVENTS_MAX fits.
            let number = u32::try_from(log.events.len()).map_err(|_| EventLogError::TooManyEvents)?;
            let event = match &log.format {
                Format::Legacy => legacy_event(&mut reader, number)?,
                Format::CryptoAgile(algorithms) => agile_event(&mut reader, number, algorithms)?,
            };
            log.accept(event);
        }
        log.note_missing_digests();
        Ok(log)
    }
    /// The events in order; the first is the header, if there is one.
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }
    /// Whether the log is crypto-agile; a legacy log has SHA-1 only.
    pub fn is_crypto_agile(&self) -> bool {
        self.format != Format::Legacy
    }
    /// The banks that the header names and that can be replayed, ascending by algorithm id.
    pub fn banks(&self) -> Vec<Bank> {
        let has = |bank: &Bank| match &self.format {
            Format::Legacy => *bank == Bank::Sha1,
            Format::CryptoAgile(algorithms) => algorithms.iter().any(|(id, _)| Bank::from_id(*id) == Some(*bank)),
        };
        Bank::ALL.iter().copied().filter(has).collect()
    }
    /// The banks against which event data is checked: the strong ones, or SHA-1 where the log has nothing else.
    pub(super) fn banks_to_check(&self) -> Vec<Bank> {
        let banks = self.banks();
        let strong: Vec<Bank> = banks.iter().copied().filter(|bank| bank.strong().is_some()).collect();
        if strong.is_empty() { banks } else { strong }
    }
    /// The locality from which the TPM was started: the last byte of PCR 0 before the first extension (0, 3 or 4).
    pub fn start_locality(&self) -> u8 {
        self.start_locality
    }
    /// What was odd while reading.
    pub(super) fn reading_problems(&self) -> &[Problem] {
        self.problems.as_slice()
    }

    fn accept(&mut self, event: Event<'a>) {
        let number = Some(event.number);
        if event.event_type == EventType::NO_ACTION {
            if let Some(locality) = event.data.strip_prefix(b"StartupLocality\0") {
                match locality {
                    [locality @ (0 | 3 | 4)] if !self.pcr_0_begun && event.pcr == 0 => self.start_locality = *locality,
                    _ => self.problems.push(ProblemCode::StartupLocality, number, "not the first word about PCR 0"),
                }
                self.pcr_0_begun = true;
            }
        } else if event.extends() == Some(0) {
            self.pcr_0_begun = true;
        } else if event.extends().is_none() {
            self.problems.push(ProblemCode::PcrOutOfRange, number, &format!("PCR {}", event.pcr));
        }
        self.events.push(event);
    }
    /// Says of each bank which event is the first without a digest in it: from there the bank's replay is worthless.
    fn note_missing_digests(&mut self) {
        for bank in self.banks() {
            let lacks = |event: &&Event<'_>| event.extends().is_some() && event.digest(bank).is_none();
            if let Some(event) = self.events.iter().find(lacks) {
                let detail = format!("no {} digest, which the header names", bank.name());
                self.problems.push(ProblemCode::DigestMissing, Some(event.number), &detail);
            }
        }
    }
}

/// The Spec ID event has a SHA-1 field of zeros that belongs to no bank.
fn header_digests<'a>(first: &Event<'a>, format: &Format) -> [Option<&'a [u8]>; 4] {
    if *format == Format::Legacy { first.digests } else { [None; 4] }
}

fn fault(reader: &Reader<'_>, number: u32, what: &'static str) -> EventLogError {
    EventLogError::Event { number, offset: reader.offset(), what }
}

/// `TCG_PCR_EVENT`: PCR, type, SHA-1 digest, size, data.
fn legacy_event<'a>(reader: &mut Reader<'a>, number: u32) -> Result<Event<'a>, EventLogError> {
    let offset = reader.offset();
    let cut = |reader: &Reader<'_>| fault(reader, number, "the log ends within the head of an event");
    let pcr = reader.u32().ok_or_else(|| cut(reader))?;
    let event_type = EventType(reader.u32().ok_or_else(|| cut(reader))?);
    let digest = reader.take(Bank::Sha1.length()).ok_or_else(|| cut(reader))?;
    let data = event_data(reader, number)?;
    Ok(Event { number, offset, pcr, event_type, digests: [Some(digest), None, None, None], data })
}

/// `TCG_PCR_EVENT2`: PCR, type, digests each with its algorithm, size, data.
fn agile_event<'a>(
    reader: &mut Reader<'a>,
    number: u32,
    algorithms: &[(u16, u16)],
) -> Result<Event<'a>, EventLogError> {
    let offset = reader.offset();
    let cut = |reader: &Reader<'_>| fault(reader, number, "the log ends within the head of an event");
    let pcr = reader.u32().ok_or_else(|| cut(reader))?;
    let event_type = EventType(reader.u32().ok_or_else(|| cut(reader))?);
    let count = reader.u32().ok_or_else(|| cut(reader))?;
    if count == 0 || usize::try_from(count).map_or(true, |count| count > algorithms.len()) {
        return Err(fault(reader, number, "an event has no digest, or more than the header has algorithms"));
    }
    let mut digests = [None; 4];
    let mut seen = [false; BANKS_MAX];
    for _ in 0..count {
        let id = reader.u16().ok_or_else(|| cut(reader))?;
        let known = algorithms.iter().zip(&mut seen).find(|((have, _), _)| *have == id);
        let Some(((_, size), seen)) = known else {
            return Err(fault(reader, number, "a digest of an algorithm that the header does not name"));
        };
        if std::mem::replace(seen, true) {
            return Err(fault(reader, number, "two digests of one algorithm"));
        }
        let digest = reader.take(usize::from(*size)).ok_or_else(|| cut(reader))?;
        if let Some(place) = Bank::from_id(id).and_then(|bank| digests.get_mut(bank.place())) {
            *place = Some(digest);
        }
    }
    let data = event_data(reader, number)?;
    Ok(Event { number, offset, pcr, event_type, digests, data })
}

fn event_data<'a>(reader: &mut Reader<'a>, number: u32) -> Result<&'a [u8], EventLogError> {
    let size = reader.u32().ok_or_else(|| fault(reader, number, "the log ends within the head of an event"))?;
    reader
        .take_claimed(u64::from(size))
        .ok_or_else(|| fault(reader, number, "an event claims more data than the log has"))
}

/// `TCG_EfiSpecIDEvent`: signature, platform class, versions, algorithms with their digest sizes, vendor bytes.
fn header_algorithms(
    data: &[u8],
    log: &mut Reader<'_>,
    problems: &mut Problems,
) -> Result<Vec<(u16, u16)>, EventLogError> {
    let mut reader = Reader::new(data);
    // The data follows 32 bytes of head.
    let bad = |reader: &Reader<'_>, what| EventLogError::Event { number: 0, offset: 32 + reader.offset(), what };
    let cut = |reader: &Reader<'_>| bad(reader, "the Spec ID event is cut off");
    // Signature, platform class, minor, major, errata, uintn size.
    reader.take(24).ok_or_else(|| cut(&reader))?;
    let count = reader.u32().ok_or_else(|| cut(&reader))?;
    if count == 0 || usize::try_from(count).map_or(true, |count| count > BANKS_MAX) {
        return Err(bad(&reader, "the number of digest algorithms is not 1 to 5"));
    }
    let mut algorithms: Vec<(u16, u16)> = Vec::new();
    for _ in 0..count {
        let id = reader.u16().ok_or_else(|| cut(&reader))?;
        let size = reader.u16().ok_or_else(|| cut(&reader))?;
        let fits = match Bank::from_id(id) {
            Some(bank) => usize::from(size) == bank.length(),
            None => (1..=UNKNOWN_DIGEST_BYTES_MAX).contains(&size),
        };
        if !fits {
            return Err(bad(&reader, "a digest size is not that of its algorithm"));
        }
        if algorithms.iter().any(|(have, _)| *have == id) {
            return Err(bad(&reader, "a digest algorithm twice"));
        }
        algorithms.push((id, size));
    }
    let vendor_bytes = usize::from(reader.u8().ok_or_else(|| cut(&reader))?);
    if reader.take(vendor_bytes).is_none() {
        // Some firmware leaves the vendor bytes out of the stated size; then none of them lies inside.
        if !reader.is_empty() || log.take(vendor_bytes).is_none() {
            return Err(cut(&reader));
        }
        let detail = format!("{vendor_bytes} vendor bytes follow the event");
        problems.push(ProblemCode::HeaderVendorOutside, Some(0), &detail);
    }
    if reader.is_empty() { Ok(algorithms) } else { Err(bad(&reader, "bytes after the end of the Spec ID event")) }
}
