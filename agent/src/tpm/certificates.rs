//! EK certificates in the TPM's NV memory (TCG EK Credential Profile 2.5, §2.2.1.4-5 and §2.2.1.5.2).

use quotary_common::limits::{CERTIFICATE_BYTES_MAX, EK_CHAIN_MAX};
use tss_esapi::Context;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::CapabilityData;

use super::error::{Step, TpmError};

/// Indices of the certificates that stand between the EK's and the manufacturer's root.
const CHAIN_INDICES: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;
/// Most of these indices that are read: chips have one to four. The TPM is not trusted to be modest.
const CHAIN_INDICES_MAX: usize = 32;
/// Most bytes that are read of all of them.
const CHAIN_BYTES_MAX: usize = EK_CHAIN_MAX * CERTIFICATE_BYTES_MAX;
/// Every TPM reads this much at once (PTP 1.05 §4.6.1 asks for 512 and more).
const NV_READ_BYTES: u16 = 512;
const HANDLES_PER_ANSWER: u32 = 64;
const DER_SEQUENCE: u8 = 0x30;

/// The handles of one kind that exist, from `first` on, up to `last`.
pub(super) fn handles(context: &mut Context, first: u32, last: u32) -> Result<Vec<TpmHandle>, TpmError> {
    let mut found = Vec::new();
    let mut next = first;
    while next <= last {
        let (data, more) = context
            .get_capability(CapabilityType::Handles, next, HANDLES_PER_ANSWER)
            .map_err(TpmError::command(Step::Capability))?;
        let CapabilityData::Handles(list) = data else {
            return Err(TpmError::Unexpected {
                step: Step::Capability,
                detail: "asked for handles, got something else".to_owned(),
            });
        };
        let numbers: Vec<(u32, TpmHandle)> =
            list.into_inner().into_iter().map(|handle| (u32::from(handle), handle)).collect();
        let highest = numbers.iter().map(|(number, _)| *number).max();
        found
            .extend(numbers.into_iter().filter(|(number, _)| (next..=last).contains(number)).map(|(_, handle)| handle));
        match highest.and_then(|number| number.checked_add(1)) {
            Some(number) if more && number > next => next = number,
            _ => break,
        }
    }
    Ok(found)
}

/// The EK certificate at `index` followed by the chain in index order, each as DER; empty if there is no certificate.
/// What of the chain cannot be read, or is none, is left out with a warning: the verifier says whether it needed it.
pub(super) fn read_with_chain(context: &mut Context, index: u32) -> Result<Vec<Vec<u8>>, TpmError> {
    if !exists(context, index)? {
        return Ok(Vec::new());
    }
    let leaf = read_nv(context, index, usize::from(u16::MAX))?;
    // Indices may be larger than what they hold; bytes that are no DER go to the verifier as they are.
    let leaf = first_der(&leaf).map_or_else(|| leaf.clone(), <[u8]>::to_vec);
    let mut certificates = vec![leaf];
    certificates.extend(read_chain(context));
    Ok(certificates)
}

/// The certificates of the chain indices, within what an enrolment may carry beside the EK's own.
fn read_chain(context: &mut Context) -> Vec<Vec<u8>> {
    let indices = match handles(context, *CHAIN_INDICES.start(), *CHAIN_INDICES.end()) {
        Ok(indices) => indices,
        Err(error) => {
            tracing::warn!(%error, "whether the TPM holds a chain of its EK certificate cannot be told");
            return Vec::new();
        }
    };
    if indices.len() > CHAIN_INDICES_MAX {
        tracing::warn!(have = indices.len(), "of the TPM's chain indices only the first {CHAIN_INDICES_MAX} are read");
    }
    let mut chain = ChainParts::default();
    let mut bytes_left = CHAIN_BYTES_MAX;
    for handle in indices.into_iter().take(CHAIN_INDICES_MAX) {
        let index = u32::from(handle);
        match read_nv(context, index, bytes_left) {
            Ok(part) => {
                bytes_left -= part.len();
                let left_out = chain.add(&part);
                if left_out > 0 {
                    tracing::warn!("NV index 0x{index:08x}: {left_out} bytes are no certificate and are left out");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "NV index 0x{index:08x} is left out of the chain of the EK certificate");
                chain.begin_anew();
            }
        }
    }
    let found = chain.into_certificates();
    if found.len() >= EK_CHAIN_MAX {
        tracing::warn!(have = found.len(), "of the TPM's chain only the first {} are sent", EK_CHAIN_MAX - 1);
    }
    found.into_iter().take(EK_CHAIN_MAX - 1).collect()
}

/// Takes the chain's indices apart. The profile has their bytes be one sequence of certificates, so that one may end in
/// the next index; an index that holds something else must not cost the others.
#[derive(Default)]
struct ChainParts {
    found: Vec<Vec<u8>>,
    /// A certificate that has begun and not ended.
    open: Vec<u8>,
}

impl ChainParts {
    /// Adds the bytes of the next index; says how many of them are neither certificate, nor the start of one, nor padding.
    fn add(&mut self, part: &[u8]) -> usize {
        let joined = [self.open.as_slice(), part].concat();
        let is_continued = !self.open.is_empty() && first_der(&joined).is_some();
        let lost = if is_continued { 0 } else { self.open.len() };
        let mut rest = if is_continued { joined.as_slice() } else { part };
        while let Some(certificate) = first_der(rest) {
            self.found.push(certificate.to_vec());
            rest = rest.get(certificate.len()..).unwrap_or_default();
        }
        let is_open = matches!(der_length(rest), Der::Cut);
        self.open = if is_open { rest.to_vec() } else { Vec::new() };
        let is_padding = rest.iter().all(|byte| *byte == 0) || rest.iter().all(|byte| *byte == 0xff);
        lost + if is_open || is_padding { 0 } else { rest.len() }
    }

    /// What follows does not continue what came before.
    fn begin_anew(&mut self) {
        self.open.clear();
    }

    fn into_certificates(self) -> Vec<Vec<u8>> {
        self.found
    }
}

/// Whether the NV index is defined.
pub(super) fn exists(context: &mut Context, index: u32) -> Result<bool, TpmError> {
    Ok(!handles(context, index, index)?.is_empty())
}

/// The bytes of an NV index, of which there must not be more than `bytes_max`.
fn read_nv(context: &mut Context, index: u32, bytes_max: usize) -> Result<Vec<u8>, TpmError> {
    let mut handle = NvIndexTpmHandle::new(index)
        .and_then(|index| context.tr_from_tpm_public(index.into()))
        .map_err(TpmError::command(Step::ReadCertificate))?;
    let read = read_open_nv(context, handle, bytes_max);
    let closed = context.tr_close(&mut handle);
    let bytes = read.map_err(TpmError::command(Step::ReadCertificate))?;
    closed.map_err(TpmError::command(Step::ReadCertificate))?;
    bytes.ok_or_else(|| TpmError::Unexpected {
        step: Step::ReadCertificate,
        detail: format!("NV index 0x{index:08x} holds more than the {bytes_max} bytes that are read"),
    })
}

/// `None` when it holds more than `bytes_max`.
fn read_open_nv(context: &mut Context, handle: ObjectHandle, bytes_max: usize) -> tss_esapi::Result<Option<Vec<u8>>> {
    let index = NvIndexHandle::from(handle);
    let (public, _name) = context.nv_read_public(index)?;
    let attributes = public.attributes();
    let authority =
        if !attributes.auth_read() && attributes.owner_read() { NvAuth::Owner } else { NvAuth::NvIndex(index) };
    let at_once = context
        .get_tpm_property(PropertyTag::NvBufferMax)?
        .and_then(|size| u16::try_from(size).ok())
        .filter(|size| *size > 0)
        .map_or(NV_READ_BYTES, |size| size.min(NV_READ_BYTES));
    // Sizes in an NV public area are 16 bits wide.
    let size = u16::try_from(public.data_size()).unwrap_or(u16::MAX);
    if usize::from(size) > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::from(size));
    let mut offset = 0;
    while offset < size {
        let wanted = at_once.min(size - offset);
        let part = context.execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_read(authority, index, wanted, offset)
        })?;
        bytes.extend_from_slice(part.value());
        offset += wanted;
    }
    Ok(Some(bytes))
}

/// The DER sequence at the front, if it is whole.
fn first_der(bytes: &[u8]) -> Option<&[u8]> {
    match der_length(bytes) {
        Der::Whole(length) => bytes.get(..length),
        Der::Cut | Der::None => None,
    }
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Der {
    /// A sequence of so many bytes, header included.
    Whole(usize),
    /// The start of one that may be a certificate.
    Cut,
    /// No sequence, or one that is larger than a certificate.
    None,
}

/// Reads tag and length (X.690 §8.1.3).
fn der_length(bytes: &[u8]) -> Der {
    let header: &[u8] = bytes.get(..bytes.len().min(5)).unwrap_or_default();
    let (digits, content) = match *header {
        [] => return Der::None,
        [tag, ..] if tag != DER_SEQUENCE => return Der::None,
        [_] | [_, 0x81] | [_, 0x82] | [_, 0x82, _] => return Der::Cut,
        [_, short @ 0..=0x7f, ..] => (0, usize::from(short)),
        [_, 0x81, length, ..] => (1, usize::from(length)),
        [_, 0x82, high, low, ..] => (2, usize::from(u16::from_be_bytes([high, low]))),
        _ => return Der::None,
    };
    let length = 2 + digits + content;
    match length {
        _ if length > CERTIFICATE_BYTES_MAX => Der::None,
        _ if length > bytes.len() => Der::Cut,
        _ => Der::Whole(length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sequence(content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut der = vec![DER_SEQUENCE];
        let [.., high, low] = length.to_be_bytes();
        match length {
            0..=0x7f => der.push(low),
            0x80..=0xff => der.extend([0x81, low]),
            _ => der.extend([0x82, high, low]),
        }
        der.extend(content);
        der
    }

    fn taken_apart(parts: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<usize>) {
        let mut chain = ChainParts::default();
        let left_out = parts.iter().map(|part| chain.add(part)).collect();
        (chain.into_certificates(), left_out)
    }

    #[test]
    fn padding_behind_a_certificate_is_cut_off() {
        let whole = sequence(&[7; 300]);
        let padded = [whole.as_slice(), &[0xff; 40]].concat();
        assert_eq!(first_der(&padded), Some(whole.as_slice()));
        assert_eq!(taken_apart(&[&padded, &[0; 9], &whole]), (vec![whole.clone(), whole], vec![0, 0, 0]));
    }

    #[test]
    fn a_truncated_certificate_is_none() {
        let bytes = sequence(&[7; 300]);
        assert_eq!(first_der(&bytes[..bytes.len() - 1]), None);
        assert_eq!(taken_apart(&[&bytes[..bytes.len() - 1]]), (vec![], vec![0]));
    }

    #[test]
    fn an_index_of_anything_else_costs_no_certificate_of_another() {
        let (one, two) = (sequence(&[7; 300]), sequence(&[8; 200]));
        let text = b"no certificate at all".as_slice();
        let huge = [DER_SEQUENCE, 0x82, 0xff, 0xff];
        let cut = [DER_SEQUENCE, 0x82, 0x10, 0x00, 1, 2, 3];
        for garbage in [text, &huge, &cut] {
            let (found, left_out) = taken_apart(&[garbage, &one, garbage, &two]);
            assert_eq!(found, vec![one.clone(), two.clone()], "{garbage:?}");
            assert_eq!(left_out.iter().sum::<usize>(), 2 * garbage.len());
        }
        let behind = [one.as_slice(), text].concat();
        assert_eq!(taken_apart(&[&behind, &two]), (vec![one, two], vec![text.len(), 0]));
    }

    #[test]
    fn a_certificate_is_not_continued_across_an_index_that_cannot_be_read() {
        let whole = sequence(&[7; 300]);
        let (front, back) = whole.split_at(100);
        let mut chain = ChainParts::default();
        assert_eq!(chain.add(front), 0);
        chain.begin_anew();
        assert_eq!(chain.add(back), back.len());
        assert!(chain.into_certificates().is_empty());
    }

    proptest! {
        #[test]
        fn certificates_come_apart_again_wherever_the_indices_end(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..8),
            at in any::<prop::sample::Index>(),
        ) {
            let parts: Vec<Vec<u8>> = contents.iter().map(|content| sequence(content)).collect();
            let bytes = parts.concat();
            let (front, back) = bytes.split_at(at.index(bytes.len()));
            prop_assert_eq!(taken_apart(&[front, back]), (parts, vec![0, 0]));
        }

        #[test]
        fn any_bytes_are_survived(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..4)) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let (found, left_out) = taken_apart(&parts);
            let all: usize = parts.iter().map(|part| part.len()).sum();
            prop_assert!(found.iter().map(Vec::len).sum::<usize>() + left_out.iter().sum::<usize>() <= all);
            prop_assert!(found.iter().all(|one| first_der(one) == Some(one.as_slice())));
        }
    }
}
