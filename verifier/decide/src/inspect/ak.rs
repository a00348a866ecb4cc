//! The attestation key in the forms that tpm2-tools write.

use quotary_common::limits::TPM_PUBLIC_BYTES_MAX;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::{AkKey, KeyParameters, Signature, TpmPublic};

use super::InspectError;
use crate::attest::{accept_ak, from_spki_der, is_pem, pem_blocks};

/// Largest PEM file of one key, in bytes.
const PEM_KEY_BYTES_MAX: usize = 16 * 1024;

/// A key as it was given.
#[derive(Debug)]
pub(super) enum GivenAk {
    /// A public area: what it may do is known.
    Public(Box<TpmPublic>),
    /// A bare key: what it may do is not known, and it has no scheme of its own.
    Bare(KeyParameters),
}

impl GivenAk {
    /// Reads a SubjectPublicKeyInfo in PEM, a `TPM2B_PUBLIC` (its size first) or a `TPMT_PUBLIC`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, InspectError> {
        let fault = |why: &str| InspectError::Ak(why.to_owned());
        if is_pem(bytes) {
            if bytes.len() > PEM_KEY_BYTES_MAX {
                return Err(fault("the PEM text is larger than one key's"));
            }
            let blocks = pem_blocks(bytes).map_err(fault)?;
            let [block] = blocks.as_slice() else { return Err(fault("the PEM text has more than one block")) };
            if block.label != "PUBLIC KEY" {
                return Err(fault("the PEM block is no PUBLIC KEY"));
            }
            return from_spki_der(&block.content).map(Self::Bare).map_err(fault);
        }
        if bytes.len() > TPM_PUBLIC_BYTES_MAX + 2 {
            return Err(fault("larger than a public area can be"));
        }
        let area = match bytes {
            // A TPMT_PUBLIC starts with its type, 0x0001 or 0x0023: no public area is that short.
            [a, b, area @ ..] if usize::from(u16::from_be_bytes([*a, *b])) == area.len() => area,
            _ => bytes,
        };
        TpmPublic::parse(area).map(|area| Self::Public(Box::new(area))).map_err(|why| fault(&why.to_string()))
    }

    /// The key, ready to check this signature. A bare key takes the scheme that the signature names: SHA-1 cannot be
    /// named, and ring refuses what the key cannot do.
    pub(super) fn prepare(&self, signature: &[u8]) -> Result<AkKey, Refusal> {
        match self {
            Self::Public(area) => accept_ak(area),
            Self::Bare(key) => {
                let unusable = |why: String| Refusal::new(Reason::Signature, why);
                let signature = Signature::parse(signature).map_err(|why| unusable(why.to_string()))?;
                AkKey::from_key(key, signature.scheme())
                    .map_err(|_| unusable("the signature's algorithm or hash is not one of this key's".to_owned()))
            }
        }
    }
}
