//! One quote: read the PCRs, quote them, and check that both speak of the same values.

use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tss_esapi::Context;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Attest, AttestInfo, Data, PcrSelectionList, PcrSlot, Public, Signature, SignatureScheme,
};
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::{TPML_PCR_SELECTION, TPMS_PCR_SELECTION};

use super::error::{Step, TpmError};

/// PCRs 0 to 23 exist on every PC client TPM; the selection's bitmap has three bytes.
const PCR_COUNT: u8 = 24;
const SELECT_BYTES: u8 = 3;
const MAX_BANKS: usize = 16;
/// TPML_DIGEST holds eight.
const PCRS_PER_READ: usize = 8;
/// PCRs may be extended between reading and quoting (IMA does); then both are done again.
const MAX_ATTEMPTS: u32 = 5;
const COORDINATE_BYTES: usize = 32;

/// The PCRs of one bank that a quote shall cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSelection {
    /// TPM_ALG_ID of the bank (SHA-256 is 0x000b).
    pub hash_alg: u16,
    /// PCR numbers, 0 to 23.
    pub pcrs: Vec<u8>,
}

/// A quote as the TPM made it, not yet judged by anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawQuote {
    /// Bare TPMS_ATTEST, big endian, without size prefix: exactly the bytes that are signed.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// Bank, PCR number and value, in the order of the selection, numbers ascending. Their
    /// digest is the quote's.
    pub pcr_values: Vec<(u16, u8, Vec<u8>)>,
    /// How long the TPM took for everything.
    pub took: Duration,
}

/// A selection that a TPM can take: known banks, each once, existing PCR numbers, none twice.
#[derive(Debug, Clone)]
pub(super) struct CheckedSelection {
    banks: Vec<(HashingAlgorithm, u16, Vec<u8>)>,
}

impl CheckedSelection {
    pub(super) fn check(selection: &[PcrSelection]) -> Result<Self, TpmError> {
        let fault = |detail| TpmError::Input {
            what: "PCR selection",
            detail,
        };
        if selection.is_empty() || selection.len() > MAX_BANKS {
            return Err(fault(format!(
                "it has {} banks, not 1 to {MAX_BANKS}",
                selection.len()
            )));
        }
        let mut banks: Vec<(HashingAlgorithm, u16, Vec<u8>)> = Vec::new();
        for bank in selection {
            let number = bank.hash_alg;
            let algorithm = HashingAlgorithm::try_from(number)
                .map_err(|_| fault(format!("0x{number:04x} is no hash algorithm")))?;
            if banks.iter().any(|(_, other, _)| *other == number) {
                return Err(fault(format!("bank 0x{number:04x} stands in it twice")));
            }
            let mut pcrs = bank.pcrs.clone();
            pcrs.sort_unstable();
            pcrs.dedup();
            if pcrs.len() != bank.pcrs.len() || pcrs.is_empty() {
                return Err(fault(format!(
                    "bank 0x{number:04x} names no PCR, or one twice"
                )));
            }
            if let Some(index) = pcrs.iter().find(|index| **index >= PCR_COUNT) {
                return Err(fault(format!("there is no PCR {index}")));
            }
            banks.push((algorithm, number, pcrs));
        }
        Ok(Self { banks })
    }

    /// In the order given: the TSS's own builder has none.
    fn to_tss(&self) -> tss_esapi::Result<PcrSelectionList> {
        to_tss(
            self.banks
                .iter()
                .map(|(_, number, pcrs)| (*number, pcrs.as_slice())),
        )
    }
}

fn to_tss<'a>(banks: impl Iterator<Item = (u16, &'a [u8])>) -> tss_esapi::Result<PcrSelectionList> {
    let mut list = TPML_PCR_SELECTION::default();
    for (entry, (hash, pcrs)) in list.pcrSelections.iter_mut().zip(banks) {
        let mut bitmap = 0_u32;
        for index in pcrs {
            bitmap |= 1 << index;
        }
        *entry = TPMS_PCR_SELECTION {
            hash,
            sizeofSelect: SELECT_BYTES,
            pcrSelect: bitmap.to_le_bytes(),
        };
        list.count += 1;
    }
    PcrSelectionList::try_from(list)
}

/// Quotes the selection with the AK over `qualifying_data`.
pub(super) fn quote(
    context: &mut Context,
    ak: KeyHandle,
    ak_public: &Public,
    qualifying_data: &[u8; 32],
    selection: &CheckedSelection,
) -> Result<RawQuote, TpmError> {
    let started = Instant::now();
    let wanted = selection.to_tss().map_err(TpmError::command(Step::Quote))?;
    for _ in 0..MAX_ATTEMPTS {
        let pcr_values = read_pcrs(context, selection)?;
        let (attest, signature) = context
            .execute_with_session(Some(AuthSession::Password), |context| {
                let data = Data::try_from(qualifying_data.as_slice())?;
                context.quote(ak, data, SignatureScheme::Null, wanted.clone())
            })
            .map_err(TpmError::command(Step::Quote))?;
        if !covers(&attest, qualifying_data, &wanted, &pcr_values)? {
            continue;
        }
        let message = attest.marshall().map_err(TpmError::command(Step::Quote))?;
        if !verifies(ak_public, &message, &signature) {
            return Err(TpmError::QuoteSignature);
        }
        let signature = signature
            .marshall()
            .map_err(TpmError::command(Step::Quote))?;
        return Ok(RawQuote {
            attest: message,
            signature,
            pcr_values,
            took: started.elapsed(),
        });
    }
    Err(TpmError::PcrsMoving {
        attempts: MAX_ATTEMPTS,
    })
}

type PcrValues = Vec<(u16, u8, Vec<u8>)>;

fn read_pcrs(context: &mut Context, selection: &CheckedSelection) -> Result<PcrValues, TpmError> {
    let mut values = Vec::new();
    for (_, number, pcrs) in &selection.banks {
        let mut left = pcrs.as_slice();
        while !left.is_empty() {
            let (now, _) = left.split_at(left.len().min(PCRS_PER_READ));
            let (_, answered, digests) = to_tss(std::iter::once((*number, now)))
                .and_then(|list| context.pcr_read(list))
                .map_err(TpmError::command(Step::ReadPcrs))?;
            // The TPM may answer fewer than asked, but in ascending order, and none only if there is none.
            let got = answered
                .get_selections()
                .first()
                .map(|bank| bank.selected());
            let got: Vec<u32> = got
                .unwrap_or_default()
                .into_iter()
                .map(PcrSlot::into)
                .map(u32::trailing_zeros)
                .collect();
            let asked = now.iter().map(|index| u32::from(*index)).take(got.len());
            if got.len() != digests.len() || !asked.eq(got.iter().copied()) {
                return Err(no_such_pcr(*number, now, &got));
            }
            if got.is_empty() {
                return Err(no_such_pcr(*number, now, &got));
            }
            let (done, rest) = left.split_at(got.len());
            for (index, digest) in done.iter().zip(digests.value()) {
                values.push((*number, *index, digest.value().to_vec()));
            }
            left = rest;
        }
    }
    Ok(values)
}

fn no_such_pcr(hash_alg: u16, asked: &[u8], got: &[u32]) -> TpmError {
    let missing = asked
        .iter()
        .find(|index| !got.contains(&u32::from(**index)));
    match missing.or_else(|| asked.first()) {
        Some(index) => TpmError::NoSuchPcr {
            hash_alg,
            index: *index,
        },
        None => TpmError::Unexpected {
            step: Step::ReadPcrs,
            detail: "PCRs that nobody asked for".to_owned(),
        },
    }
}

/// Whether the quote speaks of the PCR values that were read (they may have moved). A quote over
/// another selection or other data is not a matter of timing, and an error.
fn covers(
    attest: &Attest,
    qualifying_data: &[u8; 32],
    wanted: &PcrSelectionList,
    values: &PcrValues,
) -> Result<bool, TpmError> {
    let fault = |detail: &str| TpmError::Unexpected {
        step: Step::Quote,
        detail: detail.to_owned(),
    };
    let AttestInfo::Quote { info } = attest.attested() else {
        return Err(fault("an attestation that is no quote"));
    };
    if attest.extra_data().value() != qualifying_data {
        return Err(fault("a quote over other data"));
    }
    if info.pcr_selection() != wanted {
        return Err(fault("a quote over other PCRs"));
    }
    let concatenated: Vec<u8> = values
        .iter()
        .flat_map(|(_, _, value)| value)
        .copied()
        .collect();
    Ok(info.pcr_digest().value() == digest(&SHA256, &concatenated).as_ref())
}

/// Whether the signature covers the bytes that will be sent. The TSS has parsed and written them
/// again; this shows that nothing was lost on the way.
fn verifies(ak_public: &Public, message: &[u8], signature: &Signature) -> bool {
    let (Public::Ecc { unique, .. }, Signature::EcDsa(signature)) = (ak_public, signature) else {
        return false;
    };
    let point = [
        Some(vec![0x04]),
        fixed(unique.x().value()),
        fixed(unique.y().value()),
    ];
    let numbers = [
        fixed(signature.signature_r().value()),
        fixed(signature.signature_s().value()),
    ];
    let (Some(point), Some(numbers)) = (
        point.into_iter().collect::<Option<Vec<_>>>(),
        numbers.into_iter().collect::<Option<Vec<_>>>(),
    ) else {
        return false;
    };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.concat())
        .verify(message, &numbers.concat())
        .is_ok()
}

/// A number padded to 32 bytes: TPMs leave leading zeros out, or not.
fn fixed(number: &[u8]) -> Option<Vec<u8>> {
    let padding = COORDINATE_BYTES.checked_sub(number.len())?;
    let mut padded = vec![0; padding];
    padded.extend_from_slice(number);
    Some(padded)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bank(hash_alg: u16, pcrs: &[u8]) -> PcrSelection {
        PcrSelection {
            hash_alg,
            pcrs: pcrs.to_vec(),
        }
    }

    #[test]
    fn a_selection_keeps_the_order_of_its_banks() {
        let checked = CheckedSelection::check(&[bank(0xc, &[7, 0]), bank(0xb, &[23])]).unwrap();
        let list = TPML_PCR_SELECTION::from(checked.to_tss().unwrap());
        assert_eq!(list.count, 2);
        assert_eq!(list.pcrSelections[0].hash, 0xc);
        assert_eq!(list.pcrSelections[0].pcrSelect, [0x81, 0, 0, 0]);
        assert_eq!(list.pcrSelections[0].sizeofSelect, 3);
        assert_eq!(list.pcrSelections[1].pcrSelect, [0, 0, 0x80, 0]);
    }

    #[test]
    fn selections_that_no_tpm_takes_are_refused() {
        for wrong in [
            vec![],
            vec![bank(0xb, &[])],
            vec![bank(0xb, &[24])],
            vec![bank(0xb, &[1, 1])],
            vec![bank(0xb, &[1]), bank(0xb, &[2])],
            vec![bank(0x1, &[1])],
        ] {
            assert!(CheckedSelection::check(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_selection_is_survived(
            banks in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..30)), 0..20),
        ) {
            let banks: Vec<_> = banks.iter().map(|(hash, pcrs)| bank(*hash, pcrs)).collect();
            if let Ok(checked) = CheckedSelection::check(&banks) {
                prop_assert_eq!(checked.to_tss().unwrap().len(), banks.len());
            }
        }
    }
}
