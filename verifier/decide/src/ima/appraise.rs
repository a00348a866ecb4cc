//! One entry after the other: extend the aggregate, then say what is wrong with what was measured.

use quotary_common::id::Digest;

use super::aggregate::{Aggregate, IMA_PCR};
use super::allow::Lookup;
use super::boot::sha1;
use super::entry::{Entry, FileDigest, Measured};
use super::finding::{Code, Findings, shown};
use super::list::{Entries, Malformed};
use super::reference::Reference;
use super::signer::{SignatureFault, check_form};

/// The name of the first entry.
const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";

/// Appraises the whole entries of `entries` and extends `state` by them, until `state` holds `until` (the quoted PCR 10)
/// or nothing whole is left. Says whether `until` was reached.
///
/// A SHA-1 template hash is checked only where there is no `until`: a quoted SHA-256 PCR covers the data themselves, and
/// the check costs as much as all the rest.
///
/// # Errors
/// [`Malformed`] when bytes come that are no entry.
pub fn appraise(
    entries: &mut Entries<'_>,
    until: Option<Digest>,
    reference: &Reference,
    state: &mut Aggregate,
    findings: &mut Findings,
) -> Result<bool, Malformed> {
    let before = findings.count();
    let mut is_reached = until == Some(state.pcr10);
    let mut result = Ok(());
    while !is_reached {
        let start = entries.consumed();
        match entries.next() {
            None => break,
            Some(Err(malformed)) => {
                result = Err(malformed);
                break;
            }
            Some(Ok(entry)) => {
                appraise_entry(&entry, entries.consumed() - start, until.is_none(), reference, state, findings);
                is_reached = until == Some(state.pcr10);
            }
        }
    }
    state.findings = state.findings.saturating_add(findings.count() - before);
    result.map(|()| is_reached)
}

fn appraise_entry(
    entry: &Entry<'_>,
    length_bytes: usize,
    checks_sha1: bool,
    reference: &Reference,
    state: &mut Aggregate,
    findings: &mut Findings,
) {
    let number = state.entries;
    let data_hash = state.extend(entry, length_bytes);
    if let Some(measured) =
        check_entry(entry, &data_hash, checks_sha1, number, |path| reference.excludes(path), findings)
    {
        if measured.path == BOOT_AGGREGATE {
            boot_aggregate(measured.digest, number, state, findings);
        } else if !reference.excludes(measured.path)
            && check_file(&measured, number, reference, findings)
            && let Some(index) = reference.required().iter().position(|path| path == measured.path)
        {
            state.required_seen |= 1_u32.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        }
    }
}

/// Checks what needs no reference; what was measured, if its data may be believed.
pub(super) fn check_entry<'e>(
    entry: &'e Entry<'_>,
    data_hash: &Digest,
    checks_sha1: bool,
    number: u64,
    is_excluded: impl Fn(&[u8]) -> bool,
    findings: &mut Findings,
) -> Option<Measured<'e>> {
    if entry.pcr != IMA_PCR {
        findings.add(Code::OtherPcr, number, || format!("the entry extends PCR {}", entry.pcr));
    }
    let measured = entry.measured();
    if entry.listed_hash.is_violation() {
        if !measured.as_ref().is_ok_and(|measured| is_excluded(measured.path)) {
            findings.add(Code::Violation, number, || measured.map_or_else(|_| String::new(), |m| shown(m.path)));
        }
        return None;
    }
    if !is_hash_of_data(entry, data_hash, checks_sha1) {
        findings.add(Code::TemplateHash, number, || measured.map_or_else(|_| String::new(), |m| shown(m.path)));
        return None;
    }
    let measured = match measured {
        Ok(measured) => measured,
        Err(fault) => {
            findings.add(Code::Malformed, number, || fault.to_string());
            return None;
        }
    };
    if let Some(buffer) = measured.buffer
        && measured.digest.algorithm == b"sha256"
        && measured.digest.bytes != Digest::of(&[buffer]).as_bytes()
    {
        findings.add(Code::BufferDigest, number, || shown(measured.path));
        return None;
    }
    Some(measured)
}

fn is_hash_of_data(entry: &Entry<'_>, data_hash: &Digest, checks_sha1: bool) -> bool {
    let listed = entry.listed_hash.as_bytes();
    match listed.len() {
        32 => listed == data_hash.as_bytes(),
        _ => !checks_sha1 || listed == sha1(&entry.data),
    }
}

/// Finds the first entry whose SHA-1 template hash does not match: why a list does not replay.
pub(super) fn locate_sha1_mismatch(entries: Entries<'_>, first: u64, findings: &mut Findings) {
    for (number, entry) in (first..).zip(entries) {
        let Ok(entry) = entry else { return };
        if entry.listed_hash.as_bytes().len() == 20
            && !entry.listed_hash.is_violation()
            && !is_hash_of_data(&entry, &Digest::new([0; 32]), true)
        {
            let path = entry.measured().map_or_else(|_| String::new(), |measured| shown(measured.path));
            findings.add(Code::TemplateHash, number, || path);
            return;
        }
    }
}

/// A kernel started by kexec adds its own boot aggregate to the list that it inherits; the PCRs, and so the digest, are
/// still the same. A file may be called so too, where its path cannot be told.
fn boot_aggregate(digest: FileDigest<'_>, number: u64, state: &mut Aggregate, findings: &mut Findings) {
    let digest = sha256_of(digest).map(Digest::new);
    if digest.is_none() {
        findings.add(Code::Algorithm, number, || "the boot aggregate is not SHA-256".to_owned());
    } else if number == 0 {
        state.boot_aggregate = digest;
    } else if digest != state.boot_aggregate {
        findings.add(Code::BootAggregate, number, || "a later boot aggregate differs from the first".to_owned());
    }
}

fn sha256_of(digest: FileDigest<'_>) -> Option<[u8; 32]> {
    if digest.algorithm == b"sha256" { <[u8; 32]>::try_from(digest.bytes).ok() } else { None }
}

/// Whether the file is allowed, by its digest or by a signer.
fn check_file(measured: &Measured<'_>, number: u64, reference: &Reference, findings: &mut Findings) -> bool {
    let known = sha256_of(measured.digest).map(|digest| reference.allowed().look_up(measured.path, &digest));
    let verified = match (known, measured.signature) {
        // A signature of an allowed file is not verified, which costs much, but it must be one.
        (Some(Lookup::Allowed), Some(signature)) => Some(check_form(signature)),
        (_, Some(signature)) => Some(reference.signers().verify(signature, measured.digest)),
        (_, None) => None,
    };
    let by_digest = match known {
        Some(Lookup::Allowed) => None,
        Some(Lookup::OtherDigest) => Some(Code::WrongHash),
        Some(Lookup::UnknownPath) => Some(Code::UnknownFile),
        None => Some(Code::Algorithm),
    };
    let code = match (by_digest, verified) {
        (_, Some(Err(SignatureFault::Malformed | SignatureFault::Wrong))) => Some(Code::Signature),
        (None, _) | (_, Some(Ok(()))) => None,
        (Some(Code::UnknownFile), Some(Err(SignatureFault::UnknownKey))) => Some(Code::UnknownKey),
        (Some(Code::UnknownFile), Some(Err(SignatureFault::Algorithm))) => Some(Code::SignatureAlgorithm),
        (Some(code), _) => Some(code),
    };
    if let Some(code) = code {
        findings.add(code, number, || shown(measured.path));
    }
    code.is_none()
}
