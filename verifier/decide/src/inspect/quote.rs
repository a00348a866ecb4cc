//! A quote by itself: signature, form, nonce or envelope, and PCR values.

use std::collections::BTreeMap;

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::{PcrValue, extra_data};
use quotary_common::limits::{ATTEST_BYTES_MAX, SIGNATURE_BYTES_MAX};
use quotary_common::nonce::Nonce;
use quotary_common::reason::Reason;
use quotary_common::tpm::{AkKey, GENERATED_VALUE, HashAlg, Quote, TYPE_QUOTE};
use serde::Serialize;

use super::ak::GivenAk;
use super::pcrs::{PCRS_BYTES_MAX, SuppliedPcrs};
use super::{Finding, InspectError};
use crate::attest::proven_values;

/// Longest nonce, in bytes: what `extraData` can hold.
const NONCE_BYTES_MAX: usize = 66;

/// The files of a quote, as tpm2-tools write them.
#[derive(Debug, Clone, Copy)]
pub struct InspectQuote<'a> {
    /// The attestation key: SubjectPublicKeyInfo in PEM, `TPM2B_PUBLIC` or `TPMT_PUBLIC`.
    pub ak: &'a [u8],
    /// The bare `TPMS_ATTEST`.
    pub message: &'a [u8],
    /// The `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// PCR values, serialized or alone.
    pub pcrs: Option<&'a [u8]>,
    /// The nonce: what `extraData` must be, or half of what it must cover when there is an envelope.
    pub nonce: Option<&'a [u8]>,
    /// The envelope: `extraData` must then be that of design §5.
    pub envelope: Option<&'a [u8]>,
}

/// What a quote says; it holds only if the report is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttestReport {
    /// `TPM_GENERATED_VALUE`, hexadecimal.
    pub magic: String,
    /// `TPM_ST_ATTEST_QUOTE`, hexadecimal.
    #[serde(rename = "type")]
    pub kind: String,
    /// Hexadecimal.
    pub qualified_signer: String,
    /// Hexadecimal.
    pub extra_data: String,
    /// Milliseconds that the TPM was powered since it was last cleared.
    pub clock_ms: u64,
    /// TPM resets since then.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether no greater clock value can have been reported before.
    pub safe: bool,
    /// As its vendor counts, hexadecimal: JSON numbers do not hold 64 bits everywhere.
    pub firmware_version: String,
    /// The signed selection, in its order.
    pub pcr_select: Vec<BankReport>,
    /// Hexadecimal.
    pub pcr_digest: String,
}

/// The signed PCRs of a bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BankReport {
    /// Name of the bank.
    pub bank: String,
    /// The indices, ascending.
    pub pcrs: Vec<u8>,
}

/// The verdict on a quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuoteReport {
    /// Whether there is no reason against it.
    pub verified: bool,
    /// Why not.
    pub reasons: Vec<Finding>,
    /// What it says; `None` where it is no quote.
    pub attest: Option<AttestReport>,
    /// The values that the signed digest proves, by bank and index, hexadecimal; empty where none is proven.
    pub pcrs: BTreeMap<String, BTreeMap<u8, String>>,
}

/// Judges a quote: the key's signature over the raw message, that the message is a quote that a TPM generated, its
/// `extraData` (where a nonce is given), and PCR values against the signed selection and digest (where they are given).
/// Everything that is wrong is told, not the first alone.
///
/// # Errors
/// [`InspectError`] when a file is empty, too large, or cannot be read as what it should be.
pub fn quote(files: &InspectQuote<'_>) -> Result<QuoteReport, InspectError> {
    check_sizes(files)?;
    let ak = GivenAk::read(files.ak)?;
    let expected = expected_extra_data(files)?;
    let mut reasons = Vec::new();
    let ak = match ak.prepare(files.signature) {
        Ok(ak) => Some(ak),
        Err(refusal) => {
            reasons.push(Finding::from(refusal));
            None
        }
    };
    if let Some(Err(fault)) = ak.as_ref().map(|ak| ak.verify(files.message, files.signature)) {
        reasons.push(Finding::of(Reason::Signature, fault.to_string()));
    }
    let read = match Quote::parse(files.message) {
        Ok(read) => Some(read),
        Err(error) => {
            let hint =
                if is_tpm12(files.message) { " (this is a quote of a TPM 1.2, which is not accepted)" } else { "" };
            reasons.push(Finding::of(Reason::NotAQuote, format!("{error}{hint}")));
            None
        }
    };
    let mut values = Vec::new();
    if let Some(read) = &read {
        reasons.extend(check_extra_data(read, expected.as_deref()));
        match check_pcrs(read, files.pcrs, ak.as_ref()) {
            Ok(proven) => values = proven,
            Err(reason) => reasons.push(reason),
        }
    }
    let verified = reasons.is_empty();
    let pcrs = if verified { by_bank(&values) } else { BTreeMap::new() };
    Ok(QuoteReport { verified, reasons, attest: read.as_ref().map(AttestReport::of), pcrs })
}

fn check_sizes(files: &InspectQuote<'_>) -> Result<(), InspectError> {
    let sizes = [
        ("the message", Some(files.message), ATTEST_BYTES_MAX),
        ("the signature", Some(files.signature), SIGNATURE_BYTES_MAX),
        ("the PCR values", files.pcrs, PCRS_BYTES_MAX),
        ("the nonce", files.nonce, NONCE_BYTES_MAX),
    ];
    for (what, bytes, bytes_max) in sizes {
        if let Some(bytes) = bytes
            && (bytes.is_empty() || bytes.len() > bytes_max)
        {
            return Err(InspectError::Size { what, bytes: bytes.len(), bytes_max });
        }
    }
    Ok(())
}

/// What `extraData` must be, if the files say so.
fn expected_extra_data(files: &InspectQuote<'_>) -> Result<Option<Vec<u8>>, InspectError> {
    let Some(envelope) = files.envelope else { return Ok(files.nonce.map(<[u8]>::to_vec)) };
    let nonce = files.nonce.and_then(|nonce| <[u8; 32]>::try_from(nonce).ok()).ok_or(InspectError::EnvelopeNonce)?;
    let envelope = ClaimedEnvelope::parse(envelope)?;
    Ok(Some(extra_data(&Nonce::new(nonce), &envelope.digest()).to_vec()))
}

fn check_extra_data(quote: &Quote<'_>, expected: Option<&[u8]>) -> Option<Finding> {
    let expected = expected.filter(|expected| *expected != quote.extra_data)?;
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let detail = format!("extraData is {}, expected is {}", hex(quote.extra_data), hex(expected));
    Some(Finding::of(Reason::ExtraData, detail))
}

/// The proven values: by the verifier's own check, with the signed selection as the required one.
fn check_pcrs(quote: &Quote<'_>, pcrs: Option<&[u8]>, ak: Option<&AkKey>) -> Result<Vec<PcrValue>, Finding> {
    let selection = |detail: String| Finding::of(Reason::PcrSelection, detail);
    if let Some(weak) = quote.selection.banks().iter().find(|bank| HashAlg::from_id(bank.hash_alg).is_none()) {
        return Err(selection(format!("the signed bank {} is not accepted", bank_name(weak.hash_alg))));
    }
    let Some(pcrs) = pcrs else { return Ok(Vec::new()) };
    let supplied = SuppliedPcrs::read(pcrs, &quote.selection).map_err(selection)?;
    // Without a usable key its hash is unknown; the digest's length names it as well.
    let hash = ak.map(AkKey::hash).or_else(|| by_length(quote.pcr_digest));
    let Some(hash) = hash else {
        return Err(Finding::of(Reason::PcrDigest, "the signed PCR digest is of no hash that is accepted"));
    };
    proven_values(quote, supplied.values().to_vec(), &quote.selection, hash).map_err(Finding::from)
}

fn by_length(digest: &[u8]) -> Option<HashAlg> {
    [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512].into_iter().find(|hash| hash.length() == digest.len())
}

fn by_bank(values: &[PcrValue]) -> BTreeMap<String, BTreeMap<u8, String>> {
    let mut banks: BTreeMap<String, BTreeMap<u8, String>> = BTreeMap::new();
    for value in values {
        let bank = banks.entry(bank_name(value.hash_alg)).or_default();
        bank.insert(value.index, data_encoding::HEXLOWER.encode(&value.value));
    }
    banks
}

fn bank_name(hash_alg: u16) -> String {
    match (hash_alg, HashAlg::from_id(hash_alg)) {
        (_, Some(alg)) => alg.name().to_owned(),
        (0x0004, None) => "sha1".to_owned(),
        _ => format!("0x{hash_alg:04x}"),
    }
}

/// `TPM_QUOTE_INFO` of TPM 1.2: a structure version 1.1.0.0, then `QUOT`.
fn is_tpm12(message: &[u8]) -> bool {
    message.starts_with(b"\x01\x01\x00\x00QUOT")
}

impl AttestReport {
    fn of(quote: &Quote<'_>) -> Self {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let banks = quote.selection.banks().iter();
        Self {
            magic: format!("{GENERATED_VALUE:08x}"),
            kind: format!("{TYPE_QUOTE:04x}"),
            qualified_signer: hex(quote.qualified_signer),
            extra_data: hex(quote.extra_data),
            clock_ms: quote.clock.clock_ms,
            reset_count: quote.clock.reset_count,
            restart_count: quote.clock.restart_count,
            safe: quote.clock.safe,
            firmware_version: format!("{:016x}", quote.firmware_version),
            pcr_select: banks
                .map(|bank| BankReport { bank: bank_name(bank.hash_alg), pcrs: bank.indices().collect() })
                .collect(),
            pcr_digest: hex(quote.pcr_digest),
        }
    }
}
