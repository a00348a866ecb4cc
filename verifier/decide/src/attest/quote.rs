//! What a quote proves about evidence: from the signature to the PCR values.

use quotary_common::evidence::{Evidence, PcrValue, extra_data};
use quotary_common::id::Digest;
use quotary_common::nonce::Nonce;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::{AkKey, ClockInfo, HashAlg, PcrSelection, Quote};

use super::EnrolledHost;

/// Whose quote it must be.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The attestation key.
    pub ak: &'a AkKey,
    /// What `qualifiedSigner` must be.
    pub qualified_signer: &'a [u8],
}

impl EnrolledHost {
    /// Whose quotes this host's must be.
    pub fn signer(&self) -> Signer<'_> {
        Signer { ak: &self.ak, qualified_signer: &self.qualified_signer }
    }
}

/// What a quote proved: made only by [`prove_quote`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenQuote {
    clock: ClockInfo,
    firmware_version: u64,
    pcr_values: Vec<PcrValue>,
}

impl ProvenQuote {
    /// The TPM's time when it signed.
    pub fn clock(&self) -> ClockInfo {
        self.clock
    }
    /// The TPM's firmware version, as its vendor counts.
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
    /// The PCR values that the signed digest proves, in the order of the signed selection.
    pub fn pcr_values(&self) -> &[PcrValue] {
        &self.pcr_values
    }
    pub(super) fn into_pcr_values(self) -> Vec<PcrValue> {
        self.pcr_values
    }
}

/// Checks a quote by itself, without nonce, clock or chain: signature over the raw bytes, magic and type,
/// `qualifiedSigner`, `extraData`, PCR selection both ways, PCR digest. An auditor who takes the nonce's validity from
/// the log calls this; everybody else calls [`super::verify`].
///
/// # Errors
/// A [`Refusal`]: `signature`, `not-a-quote`, `qualified-signer`, `extra-data`, `pcr-selection` or `pcr-digest`.
pub fn prove_quote(
    mut evidence: Evidence,
    envelope: &Digest,
    signer: Signer<'_>,
    required: &PcrSelection,
) -> Result<ProvenQuote, Refusal> {
    let claimed = std::mem::take(&mut evidence.pcr_values).into_vec();
    let quote = covered_quote(&evidence, envelope, signer)?;
    let pcr_values = proven_values(&quote, claimed, required, signer.ak.hash())?;
    Ok(ProvenQuote { clock: quote.clock, firmware_version: quote.firmware_version, pcr_values })
}

/// The quote, if this signer signed it over this nonce and envelope.
pub(super) fn covered_quote<'e>(
    evidence: &'e Evidence,
    envelope: &Digest,
    signer: Signer<'_>,
) -> Result<Quote<'e>, Refusal> {
    let signature = signer.ak.verify(&evidence.attest, &evidence.signature);
    signature.map_err(|fault| Refusal::new(Reason::Signature, fault.to_string()))?;
    let quote = Quote::parse(&evidence.attest).map_err(|error| Refusal::new(Reason::NotAQuote, error.to_string()))?;
    if quote.qualified_signer != signer.qualified_signer {
        let detail =
            "qualifiedSigner is not that of the enrolled AK under the enrolled EK in the endorsement hierarchy";
        return Err(Refusal::new(Reason::QualifiedSigner, detail));
    }
    if quote.extra_data != extra_data(&Nonce::new(evidence.nonce), envelope) {
        return Err(Refusal::new(Reason::ExtraData, "the quote was made over another nonce or another envelope"));
    }
    Ok(quote)
}

/// The claimed values, once the signed digest is theirs and the signed PCRs are exactly the required ones.
pub(crate) fn proven_values(
    quote: &Quote<'_>,
    mut claimed: Vec<PcrValue>,
    required: &PcrSelection,
    digest_alg: HashAlg,
) -> Result<Vec<PcrValue>, Refusal> {
    let selection = |detail: String| Refusal::new(Reason::PcrSelection, detail);
    if !quote.selection.same_pcrs(required) {
        return Err(selection(format!("signed are {}, required are {required}", quote.selection)));
    }
    let mut values = Vec::with_capacity(claimed.len());
    for (hash_alg, index) in quote.selection.iter() {
        let at = claimed
            .iter()
            .position(|value| (value.hash_alg, value.index) == (hash_alg, index))
            .ok_or_else(|| selection(format!("PCR {index} of bank 0x{hash_alg:04x} was signed, but has no value")))?;
        let value = claimed.remove(at);
        if HashAlg::from_id(hash_alg).is_none_or(|alg| alg.length() != value.value.len()) {
            return Err(selection(format!("the value of PCR {index} has not the length of bank 0x{hash_alg:04x}")));
        }
        values.push(value);
    }
    if !claimed.is_empty() {
        let detail = format!(
            "{} values came for {} signed PCRs ({})",
            values.len() + claimed.len(),
            values.len(),
            quote.selection
        );
        return Err(selection(detail));
    }
    let digest = digest_alg.digest(values.iter().map(|value| value.value.as_slice()));
    if digest.as_ref() != quote.pcr_digest {
        return Err(Refusal::new(
            Reason::PcrDigest,
            "the signed PCR digest is not that of the values that came with it",
        ));
    }
    Ok(values)
}
