//! One quote: read the PCRs, quote them, and check that both speak of the same values.

use std::time::{Duration, Instant};

use quotary_common::tpm::{AkKey, HashAlg, PcrBank, PcrSelection as CheckedSelection, Quote};
use tss_esapi::Context;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Data, PcrSelectionList, SignatureScheme};
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::{TPML_PCR_SELECTION, TPMS_PCR_SELECTION};

use super::error::{Step, TpmError};

/// The PCRs of one bank that a quote shall cover, as the verifier sends them with a nonce.
pub use quotary_common::wire::PcrBank as PcrSelection;

/// `sizeofSelect`: 24 PCRs.
const SELECT_BYTES: u8 = 3;
/// TPML_DIGEST holds eight.
const PCRS_PER_READ: usize = 8;
/// PCRs may be extended between reading and quoting (IMA does); then both are done again.
const MAX_ATTEMPTS: u32 = 5;

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

/// A selection that evidence may cover: banks that the verifier knows, each once, PCRs 0 to 23, none twice.
pub(super) fn check(selection: &[PcrSelection]) -> Result<CheckedSelection, TpmError> {
    let fault = |detail| TpmError::Input { what: "PCR selection", detail };
    let mut banks = Vec::new();
    for bank in selection {
        let number = bank.hash_alg;
        let hash = HashAlg::from_id(number)
            .ok_or_else(|| fault(format!("0x{number:04x} is no bank that evidence may cover")))?;
        let checked = PcrBank::new(hash, &bank.pcrs)
            .filter(|checked| checked.indices().count() == bank.pcrs.len())
            .ok_or_else(|| fault(format!("bank 0x{number:04x} names no PCR, one twice, or one above 23")))?;
        banks.push(checked);
    }
    CheckedSelection::new(banks).ok_or_else(|| fault("it has no bank, too many, or one twice".to_owned()))
}

/// In the order given: the TSS's own builder has none.
fn to_tss(banks: &[PcrBank]) -> tss_esapi::Result<PcrSelectionList> {
    let mut list = TPML_PCR_SELECTION::default();
    for (entry, bank) in list.pcrSelections.iter_mut().zip(banks) {
        let bitmap = bank.indices().fold(0_u32, |bitmap, index| bitmap | (1 << index));
        *entry =
            TPMS_PCR_SELECTION { hash: bank.hash_alg, sizeofSelect: SELECT_BYTES, pcrSelect: bitmap.to_le_bytes() };
        list.count += 1;
    }
    PcrSelectionList::try_from(list)
}

/// Quotes the selection with the AK over `qualifying_data`.
pub(super) fn quote(
    context: &mut Context,
    ak: KeyHandle,
    ak_key: &AkKey,
    qualifying_data: &[u8; 32],
    selection: &CheckedSelection,
) -> Result<RawQuote, TpmError> {
    let started = Instant::now();
    let wanted = to_tss(selection.banks()).map_err(TpmError::command(Step::Quote))?;
    for _ in 0..MAX_ATTEMPTS {
        let pcr_values = read_pcrs(context, selection)?;
        let (attest, signature) = context
            .execute_with_session(Some(AuthSession::Password), |context| {
                let data = Data::try_from(qualifying_data.as_slice())?;
                let (attest, signature) = context.quote(ak, data, SignatureScheme::Null, wanted.clone())?;
                Ok((attest.marshall()?, signature.marshall()?))
            })
            .map_err(TpmError::command(Step::Quote))?;
        if !covers(&attest, ak_key, qualifying_data, selection, &pcr_values)? {
            continue;
        }
        // The TSS has parsed both and written them again; this shows that nothing was lost on the way.
        ak_key.verify(&attest, &signature).map_err(|source| TpmError::QuoteSignature { source })?;
        return Ok(RawQuote { attest, signature, pcr_values, took: started.elapsed() });
    }
    Err(TpmError::PcrsMoving { attempts: MAX_ATTEMPTS })
}

type PcrValues = Vec<(u16, u8, Vec<u8>)>;

fn read_pcrs(context: &mut Context, selection: &CheckedSelection) -> Result<PcrValues, TpmError> {
    let mut values = Vec::new();
    for bank in selection.banks() {
        let hash_alg = bank.hash_alg;
        let pcrs: Vec<u8> = bank.indices().collect();
        let mut left = pcrs.as_slice();
        while let Some(first) = left.first() {
            let asked = &left[..left.len().min(PCRS_PER_READ)];
            let (got, digests) = read_some(context, hash_alg, asked).map_err(TpmError::command(Step::ReadPcrs))?;
            // The TPM may answer fewer than asked, but ascending; none, if the first does not exist.
            if got.is_empty() || !asked.starts_with(&got) || digests.len() != got.len() {
                let missing = asked.iter().find(|index| !got.contains(*index)).unwrap_or(first);
                return Err(TpmError::NoSuchPcr { hash_alg, index: *missing });
            }
            values.extend(got.iter().zip(digests).map(|(index, value)| (hash_alg, *index, value)));
            left = &left[got.len()..];
        }
    }
    Ok(values)
}

/// One TPM2_PCR_Read: which of the PCRs it answered, and their values.
fn read_some(context: &mut Context, hash_alg: u16, pcrs: &[u8]) -> tss_esapi::Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let banks: Vec<PcrBank> =
        HashAlg::from_id(hash_alg).and_then(|hash| PcrBank::new(hash, pcrs)).into_iter().collect();
    let (_, answered, digests) = context.pcr_read(to_tss(&banks)?)?;
    let slots = answered.get_selections().first().map(|bank| bank.selected()).unwrap_or_default();
    let got = slots.into_iter().filter_map(|slot| u8::try_from(u32::from(slot).trailing_zeros()).ok()).collect();
    Ok((got, digests.value().iter().map(|digest| digest.value().to_vec()).collect()))
}

/// Whether the quote speaks of the PCR values that were read (they may have moved). A quote over
/// another selection or other data is not a matter of timing, and an error.
fn covers(
    attest: &[u8],
    ak_key: &AkKey,
    qualifying_data: &[u8; 32],
    selection: &CheckedSelection,
    values: &PcrValues,
) -> Result<bool, TpmError> {
    let fault = |detail: String| TpmError::Unexpected { step: Step::Quote, detail };
    let quote = Quote::parse(attest).map_err(|error| fault(error.to_string()))?;
    if quote.extra_data != qualifying_data {
        return Err(fault("a quote over other data".to_owned()));
    }
    if quote.selection != *selection {
        return Err(fault(format!("a quote over {}, not {selection}", quote.selection)));
    }
    let digest = ak_key.hash().digest(values.iter().map(|(_, _, value)| value.as_slice()));
    Ok(quote.pcr_digest == digest.as_ref())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bank(hash_alg: u16, pcrs: &[u8]) -> PcrSelection {
        PcrSelection { hash_alg, pcrs: pcrs.to_vec() }
    }

    #[test]
    fn a_selection_keeps_the_order_of_its_banks() {
        let checked = check(&[bank(0xc, &[7, 0]), bank(0xb, &[23])]).unwrap();
        let list = TPML_PCR_SELECTION::from(to_tss(checked.banks()).unwrap());
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
            vec![bank(0x4, &[1])],
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_selection_is_survived(
            banks in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..30)), 0..20),
        ) {
            let banks: Vec<_> = banks.iter().map(|(hash, pcrs)| bank(*hash, pcrs)).collect();
            if let Ok(checked) = check(&banks) {
                prop_assert_eq!(to_tss(checked.banks()).unwrap().len(), banks.len());
            }
        }
    }
}
