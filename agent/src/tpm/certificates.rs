//! EK certificates in the TPM's NV memory (TCG EK Credential Profile 2.5, §2.2.1.4-5 and §2.2.1.5.2).

use tss_esapi::Context;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::CapabilityData;

use super::error::{Step, TpmError};

/// Indices of the certificates that stand between the EK's and the manufacturer's root.
const CHAIN_INDICES: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;
/// More than any chain seen; the TPM is not trusted to be modest.
const MAX_CHAIN_BYTES: usize = 64 * 1024;
const MAX_CERTIFICATES: usize = 16;
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

/// The EK certificate at `index` followed by the chain, each as DER; empty if there is none.
pub(super) fn read_with_chain(context: &mut Context, index: u32) -> Result<Vec<Vec<u8>>, TpmError> {
    if !exists(context, index)? {
        return Ok(Vec::new());
    }
    let leaf = read_nv(context, index)?;
    // Indices may be larger than what they hold; bytes that are no DER go to the verifier as they are.
    let mut certificates = match split_der(&leaf).into_iter().next() {
        Some(certificate) => vec![certificate],
        None => vec![leaf],
    };
    let mut chain = Vec::new();
    for handle in handles(context, *CHAIN_INDICES.start(), *CHAIN_INDICES.end())? {
        let part = read_nv(context, handle.into())?;
        if chain.len() + part.len() > MAX_CHAIN_BYTES {
            break;
        }
        chain.extend(part);
    }
    certificates.extend(split_der(&chain));
    certificates.truncate(MAX_CERTIFICATES);
    Ok(certificates)
}

/// Whether the NV index is defined.
pub(super) fn exists(context: &mut Context, index: u32) -> Result<bool, TpmError> {
    Ok(!handles(context, index, index)?.is_empty())
}

fn read_nv(context: &mut Context, index: u32) -> Result<Vec<u8>, TpmError> {
    let mut handle = NvIndexTpmHandle::new(index)
        .and_then(|index| context.tr_from_tpm_public(index.into()))
        .map_err(TpmError::command(Step::ReadCertificate))?;
    let read = read_open_nv(context, handle);
    let closed = context.tr_close(&mut handle);
    let bytes = read.map_err(TpmError::command(Step::ReadCertificate))?;
    closed.map_err(TpmError::command(Step::ReadCertificate))?;
    Ok(bytes)
}

fn read_open_nv(context: &mut Context, handle: ObjectHandle) -> tss_esapi::Result<Vec<u8>> {
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
    Ok(bytes)
}

/// Cuts concatenated DER sequences apart; stops at the first byte that begins none.
fn split_der(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some(length) = der_length(bytes) {
        let (part, rest) = bytes.split_at(length);
        parts.push(part.to_vec());
        bytes = rest;
        if parts.len() == MAX_CERTIFICATES {
            break;
        }
    }
    parts
}

/// Length of the DER sequence at the front, header included, if it is whole (X.690 §8.1.3).
fn der_length(bytes: &[u8]) -> Option<usize> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if tag != DER_SEQUENCE {
        return None;
    }
    let (header, content) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x83 => {
            let digits = usize::from(first & 0x7f);
            let content = rest.get(..digits)?.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
            (2 + digits, content)
        }
        _ => return None,
    };
    let length = header + content;
    (length <= bytes.len()).then_some(length)
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

    #[test]
    fn padding_behind_a_certificate_is_cut_off() {
        let mut bytes = sequence(&[7; 300]);
        let whole = bytes.clone();
        bytes.extend([0xff; 40]);
        assert_eq!(split_der(&bytes), vec![whole]);
    }

    #[test]
    fn a_truncated_certificate_is_none() {
        let bytes = sequence(&[7; 300]);
        assert!(split_der(&bytes[..bytes.len() - 1]).is_empty());
    }

    proptest! {
        #[test]
        fn concatenated_sequences_come_apart_again(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
        ) {
            let parts: Vec<Vec<u8>> = contents.iter().map(|content| sequence(content)).collect();
            prop_assert_eq!(split_der(&parts.concat()), parts);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let parts = split_der(&bytes);
            prop_assert!(bytes.starts_with(&parts.concat()));
        }
    }
}
