//! Taking a list in increments, as its host's agent sends them, against the PCR 10 that the same evidence quotes.

use quotary_common::id::Digest;

use super::aggregate::Aggregate;
use super::appraise::{appraise, locate_sha1_mismatch};
use super::finding::{Code, Findings, shown};
use super::limits::INCREMENT_BYTES_MAX;
use super::list::{Entries, ListForm};
use super::reference::Reference;

/// A part of a host's list.
#[derive(Debug, Clone, Copy)]
pub struct Increment<'l> {
    /// The boot that it belongs to: the reset count of the quote that covers it.
    pub reset_count: u32,
    /// Its form.
    pub form: ListForm,
    /// Where it starts, in bytes from the start of the list.
    pub offset_bytes: u64,
    /// Its bytes, [`INCREMENT_BYTES_MAX`] at most; the last entry may be cut.
    pub bytes: &'l [u8],
    /// Whether the list went on when this was read, beyond what one increment may carry.
    pub has_more: bool,
}

/// What came of an increment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The entries up to the new state replay to the quoted PCR.
    Proven,
    /// They do not yet, and more is announced. Nothing is proven: the host's trust goes on ageing.
    Behind,
    /// Nothing was taken: the list must be sent from the new state's offset.
    SendFrom,
    /// The list cannot be true, or cannot be read; the findings say why. It must be sent from the start.
    Refused,
}

/// An increment taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// What is to be kept. The next increment starts at its offset.
    pub state: Aggregate,
    /// What came of it.
    pub outcome: Outcome,
    /// What is wrong with the entries of this increment.
    pub findings: Findings,
    /// Bytes after the last entry taken: entries measured after the quote (a race), or a cut one. They wait for the next
    /// increment, which brings them again.
    pub surplus_bytes: usize,
}

/// Takes an increment, against the quoted value of PCR 10 (SHA-256 bank).
///
/// The state of another boot, of another form of list or appraised by another reference is left, and the list starts anew.
/// An increment from the state's offset goes on; one from the start replays everything, whatever was held; any other is
/// asked for again. So an agent that restarts, a verifier that restarts and a list sent whole come to the same state.
pub fn fold(held: &Aggregate, increment: Increment<'_>, quoted: &Digest, reference: &Reference) -> Folded {
    let fresh = Aggregate::start(increment.reset_count, increment.form, reference.digest());
    let goes_on = held.reset_count == fresh.reset_count && held.form == fresh.form && held.reference == fresh.reference;
    let (mut state, is_next) = match increment.offset_bytes {
        offset if goes_on && offset == held.offset_bytes => (*held, true),
        0 => (fresh, true),
        _ => (if goes_on { *held } else { fresh }, false),
    };
    let mut findings = Findings::default();
    if !is_next {
        return Folded { state, outcome: Outcome::SendFrom, findings, surplus_bytes: increment.bytes.len() };
    }
    if increment.bytes.len() > INCREMENT_BYTES_MAX {
        findings.add(Code::Malformed, state.entries, || format!("an increment of {} bytes", increment.bytes.len()));
        return Folded { state: fresh, outcome: Outcome::Refused, findings, surplus_bytes: increment.bytes.len() };
    }
    let first = state.entries;
    let mut entries = Entries::new(increment.form, increment.bytes);
    let outcome = match appraise(&mut entries, Some(*quoted), reference, &mut state, &mut findings) {
        Ok(true) => Outcome::Proven,
        Ok(false) if increment.has_more => Outcome::Behind,
        Ok(false) => {
            findings.add(Code::PcrMismatch, state.entries, || {
                format!("{} entries replay to {}, not to the quoted PCR 10", state.entries, state.pcr10.hex())
            });
            locate_sha1_mismatch(Entries::new(increment.form, increment.bytes), first, &mut findings);
            Outcome::Refused
        }
        Err(malformed) => {
            findings.add(Code::Malformed, state.entries, || malformed.to_string());
            Outcome::Refused
        }
    };
    let surplus_bytes = entries.rest().len();
    let state = if outcome == Outcome::Refused { fresh } else { state };
    Folded { state, outcome, findings, surplus_bytes }
}

/// The required paths of `reference` that no entry up to `state` measured with an allowed digest, as findings. To be asked
/// of a proven state.
pub fn not_measured(state: &Aggregate, reference: &Reference) -> Findings {
    let mut findings = Findings::default();
    for (index, path) in reference.required().iter().enumerate() {
        let is_seen = u32::try_from(index).ok().and_then(|index| state.required_seen.checked_shr(index));
        if is_seen.is_none_or(|bits| bits & 1 == 0) {
            findings.add(Code::NotMeasured, state.entries, || shown(path));
        }
    }
    findings
}
