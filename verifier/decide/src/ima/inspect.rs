//! A whole list looked at offline, without a reference and without a quote.

use data_encoding::HEXLOWER;
use quotary_common::id::Digest;

use super::aggregate::{Aggregate, IMA_PCR};
use super::appraise::check_entry;
use super::boot::sha1;
use super::entry::Entry;
use super::finding::{Code, Finding, Findings};
use super::limits::LIST_BYTES_MAX;
use super::list::{Entries, ListForm};
use super::signer::check_form;

/// What a list is, in the form that `quotary inspect ima --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImaReport {
    /// How many whole entries were read.
    pub entries: u64,
    /// How many of them are violations.
    pub violations: u64,
    /// What PCR 10 holds after them, in hexadecimal, if it was zero before.
    pub pcr10: Pcr10,
    /// What is wrong: the first ones, in order.
    pub problems: Vec<Finding>,
    /// How many more there are than `problems` tells.
    #[serde(skip_serializing_if = "is_zero")]
    pub problems_untold: u64,
}

/// PCR 10 by bank.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pcr10 {
    /// The SHA-1 bank.
    pub sha1: String,
    /// The SHA-256 bank, as Linux 5.8 and later extend it.
    pub sha256: String,
}

/// A list that cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Too large.
    #[error("{bytes} bytes, at most {LIST_BYTES_MAX} are read")]
    TooLarge {
        /// How large it is, in bytes.
        bytes: usize,
    },
    /// Not one entry can be read.
    #[error("not a measurement list: {0}")]
    NotAList(#[source] super::list::Malformed),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub(super) fn check_size(bytes: usize) -> Result<(), InspectError> {
    if bytes > LIST_BYTES_MAX { Err(InspectError::TooLarge { bytes }) } else { Ok(()) }
}

/// Looks at a list, ASCII or binary. An empty one has no entries and no problem.
///
/// # Errors
/// [`InspectError`] when it is too large, or not even its first entry can be read.
pub fn inspect(list: &[u8]) -> Result<ImaReport, InspectError> {
    check_size(list.len())?;
    let form = ListForm::detect(list);
    // A text may lack the newline at its end.
    let with_newline =
        (form == ListForm::Ascii && !list.is_empty() && !list.ends_with(b"\n")).then(|| [list, b"\n"].concat());
    let list = with_newline.as_deref().unwrap_or(list);
    let mut state = Aggregate::start(0, form, Digest::new([0; 32]));
    let mut pcr10_sha1 = [0; 20];
    let mut findings = Findings::default();
    let mut entries = Entries::new(form, list);
    for entry in entries.by_ref() {
        let number = state.entries;
        match entry {
            Ok(entry) => {
                let data_hash = state.extend(&entry, 0);
                extend_sha1(&mut pcr10_sha1, &entry);
                check(&entry, &data_hash, number, &mut findings);
            }
            Err(malformed) if number == 0 => return Err(InspectError::NotAList(malformed)),
            Err(malformed) => findings.add(Code::Malformed, number, || malformed.to_string()),
        }
    }
    if !entries.rest().is_empty() && findings.told().last().is_none_or(|last| last.entry != state.entries) {
        findings.add(Code::Malformed, state.entries, || "the list ends within an entry".to_owned());
    }
    let pcr10 = Pcr10 { sha1: HEXLOWER.encode(&pcr10_sha1), sha256: state.pcr10.hex() };
    let problems_untold = findings.untold();
    let problems = findings.told().to_vec();
    Ok(ImaReport { entries: state.entries, violations: state.violations, pcr10, problems, problems_untold })
}

fn check(entry: &Entry<'_>, data_hash: &Digest, number: u64, findings: &mut Findings) {
    check_entry(entry, data_hash, true, number, |_| false, findings);
    if let Ok(measured) = entry.measured()
        && let Some(Err(fault)) = measured.signature.map(check_form)
    {
        findings.add(Code::Signature, number, || fault.to_string());
    }
}

/// Extends PCR 10 of the SHA-1 bank: with the hash that a SHA-1 list states, since that is what the kernel extended and
/// the data are only checked against it; another list does not state it.
fn extend_sha1(pcr: &mut [u8; 20], entry: &Entry<'_>) {
    if entry.pcr == IMA_PCR {
        let extension = match <[u8; 20]>::try_from(entry.listed_hash.as_bytes()) {
            _ if entry.listed_hash.is_violation() => [0xff; 20],
            Ok(listed) => listed,
            Err(_) => sha1(&entry.data),
        };
        *pcr = sha1(&[*pcr, extension].concat());
    }
}
