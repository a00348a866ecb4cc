//! What systemd measured after the firmware handed over: `/run/log/systemd/tpm2-measure.log`, a JSON text sequence
//! (RFC 7464) of objects near to TCG CEL-JSON (systemd, "TPM2 PCR Measurements Made by systemd").

use serde::Deserialize;

use super::bank::{Bank, BankDigest};
use super::text::{EventText, printable};

/// Largest log, in bytes.
pub const MEASURE_LOG_BYTES_MAX: usize = 1024 * 1024;
/// Most records.
pub const RECORDS_MAX: usize = 4096;
/// Largest record, in bytes.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// RFC 7464, section 2.2: each record starts with it.
const RECORD_SEPARATOR: u8 = 0x1E;

/// Bytes that are no such log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureLogError {
    /// There are more bytes than [`MEASURE_LOG_BYTES_MAX`].
    #[error("the measurement log has {bytes} bytes, more than the {MEASURE_LOG_BYTES_MAX} that are read")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// There are more records than [`RECORDS_MAX`].
    #[error("the measurement log has more than {RECORDS_MAX} records")]
    TooManyRecords,
    /// A record does not read; also one that is cut off, as after a crash while it was written.
    #[error("record {number}: {what}")]
    Record {
        /// Its number, from 0.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// One measurement of the running system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasureRecord {
    number: u32,
    offset_bytes: usize,
    pcr: u8,
    digests: [Option<BankDigest>; 4],
    text: Option<EventText>,
    event_type: Option<EventText>,
    text_measured: bool,
}

impl MeasureRecord {
    /// Its place in the log, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }
    /// Where it begins, in bytes from the start of the log: a log that is cut there lacks it and what follows.
    pub fn offset_bytes(&self) -> usize {
        self.offset_bytes
    }
    /// The PCR that it extends, below 24.
    pub fn pcr(&self) -> u8 {
        self.pcr
    }
    /// Its digest in a bank.
    pub fn digest(&self, bank: Bank) -> Option<&BankDigest> {
        self.digests.get(bank.place())?.as_ref()
    }
    /// What it says was measured (`enter-initrd`, `machine-id:…`).
    pub fn text(&self) -> Option<&EventText> {
        self.text.as_ref()
    }
    /// systemd's name of the kind (`phase`, `machine-id`, `filesystem`).
    pub fn event_type(&self) -> Option<&EventText> {
        self.event_type.as_ref()
    }
    /// Whether the digests, SHA-1 not counted, are those of the text. A volume key's is not: it is an HMAC.
    pub fn text_measured(&self) -> bool {
        self.text_measured
    }
}

/// A parsed log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeasureLog {
    records: Vec<MeasureRecord>,
    without_pcr: usize,
}

#[derive(Deserialize)]
struct RawRecord {
    pcr: Option<u32>,
    #[serde(default)]
    digests: Vec<RawDigest>,
    content: Option<RawContent>,
}
#[derive(Deserialize)]
struct RawDigest {
    #[serde(rename = "hashAlg")]
    hash_alg: String,
    digest: String,
}
#[derive(Deserialize)]
struct RawContent {
    string: Option<String>,
    #[serde(rename = "eventType")]
    event_type: Option<String>,
}

impl MeasureLog {
    /// Reads a whole log; nothing is an empty one.
    ///
    /// # Errors
    /// [`MeasureLogError`] with the record that is none. A record without `pcr` extends an NV index, no PCR: it is
    /// counted and otherwise passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, MeasureLogError> {
        if bytes.len() > MEASURE_LOG_BYTES_MAX {
            return Err(MeasureLogError::TooLarge { bytes: bytes.len() });
        }
        let mut log = Self::default();
        if bytes.is_empty() {
            return Ok(log);
        }
        let fault = |number, what| MeasureLogError::Record { number, what };
        let sequence = bytes.strip_prefix(&[RECORD_SEPARATOR]).ok_or(fault(0, "no record separator before it"))?;
        let mut offset_bytes = 0;
        for (number, record) in sequence.split(|byte| *byte == RECORD_SEPARATOR).enumerate() {
            let begin = offset_bytes;
            offset_bytes += 1 + record.len();
            if number >= RECORDS_MAX {
                return Err(MeasureLogError::TooManyRecords);
            }
            if record.len() > RECORD_BYTES_MAX {
                return Err(fault(number, "it is larger than is read"));
            }
            let record = record.strip_suffix(b"\n").ok_or(fault(number, "it is cut off"))?;
            let raw: RawRecord =
                serde_json::from_slice(record).map_err(|_| fault(number, "it is no record in JSON"))?;
            match checked(number, begin, raw).map_err(|what| fault(number, what))? {
                Some(record) => log.records.push(record),
                None => log.without_pcr += 1,
            }
        }
        Ok(log)
    }
    /// The records that extend a PCR, in order.
    pub fn records(&self) -> &[MeasureRecord] {
        &self.records
    }
    /// How many records extend an NV index instead.
    pub fn without_pcr(&self) -> usize {
        self.without_pcr
    }
}

fn checked(number: usize, offset_bytes: usize, raw: RawRecord) -> Result<Option<MeasureRecord>, &'static str> {
    let Some(pcr) = raw.pcr else { return Ok(None) };
    let pcr = u8::try_from(pcr).ok().filter(|pcr| *pcr < 24).ok_or("it names a PCR that does not exist")?;
    let number = u32::try_from(number).map_err(|_| "its number is too large")?;
    let mut digests = [None; 4];
    for digest in &raw.digests {
        let Some(bank) = Bank::from_name(&digest.hash_alg) else { continue };
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digest.digest.as_bytes());
        let bytes = bytes.ok().filter(|bytes| bytes.len() == bank.length()).ok_or("a digest is not one of its bank")?;
        let place = digests.get_mut(bank.place()).ok_or("a digest of no bank")?;
        if place.replace(BankDigest::copied(&bytes)).is_some() {
            return Err("two digests of one bank");
        }
    }
    if digests.iter().all(Option::is_none) {
        return Err("it has no digest of a known bank");
    }
    let content = raw.content.unwrap_or(RawContent { string: None, event_type: None });
    let text = content.string.as_deref();
    let text_measured = text.is_some_and(|text| is_measured(text, &digests));
    Ok(Some(MeasureRecord {
        number,
        offset_bytes,
        pcr,
        digests,
        text: text.map(printable),
        event_type: content.event_type.as_deref().map(printable),
        text_measured,
    }))
}

/// Whether every digest is that of the text, and one of them is stronger than SHA-1.
fn is_measured(text: &str, digests: &[Option<BankDigest>; 4]) -> bool {
    let given = || Bank::ALL.into_iter().zip(digests).filter_map(|(bank, digest)| Some((bank, digest.as_ref()?)));
    given().any(|(bank, _)| bank.strong().is_some())
        && given().all(|(b, digest)| *digest == b.digest(&[text.as_bytes()]))
}
