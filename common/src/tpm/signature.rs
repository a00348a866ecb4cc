//! `TPMT_SIGNATURE` (TPM 2.0 Library, Part 2, 11.3.4): ECDSA, RSASSA and RSAPSS over SHA-256 or longer.

use super::{Cursor, HashAlg, Scheme, TpmError};
use crate::limits::SIGNATURE_BYTES_MAX;

pub(super) const ALG_RSASSA: u16 = 0x0014;
pub(super) const ALG_RSAPSS: u16 = 0x0016;
pub(super) const ALG_ECDSA: u16 = 0x0018;
/// The longest coordinate: P-384.
const COORDINATE_BYTES_MAX: usize = 48;
/// The longest RSA signature: 4096 bits.
const RSA_BYTES_MAX: usize = 512;

/// A signature, read and borrowing from its bytes; it says by itself nothing about any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature<'a> {
    /// `TPM_ALG_ECDSA`.
    Ecdsa {
        /// Hash of what was signed.
        hash: HashAlg,
        /// `signatureR`, big-endian; a TPM may leave leading zeros out.
        r: &'a [u8],
        /// `signatureS`, likewise.
        s: &'a [u8],
    },
    /// `TPM_ALG_RSASSA` (PKCS #1 v1.5).
    RsaSsa {
        /// Hash of what was signed.
        hash: HashAlg,
        /// The signature, as long as the modulus.
        bytes: &'a [u8],
    },
    /// `TPM_ALG_RSAPSS`.
    RsaPss {
        /// Hash of what was signed.
        hash: HashAlg,
        /// The signature, as long as the modulus.
        bytes: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Reads all of `bytes`.
    ///
    /// # Errors
    /// [`TpmError`] with the offset: another algorithm, SHA-1, a field out of bounds, trailing bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TpmError> {
        let mut cursor = Cursor::new("TPMT_SIGNATURE", bytes, SIGNATURE_BYTES_MAX)?;
        let alg = cursor.u16("sigAlg")?;
        if ![ALG_ECDSA, ALG_RSASSA, ALG_RSAPSS].contains(&alg) {
            return Err(cursor.unsupported("sigAlg", alg));
        }
        let hash_id = cursor.u16("hash")?;
        let hash = HashAlg::from_id(hash_id).ok_or_else(|| cursor.unsupported("hash", hash_id))?;
        let signature = match alg {
            ALG_ECDSA => Self::Ecdsa {
                hash,
                r: cursor.sized(COORDINATE_BYTES_MAX, "signatureR")?,
                s: cursor.sized(COORDINATE_BYTES_MAX, "signatureS")?,
            },
            ALG_RSASSA => Self::RsaSsa { hash, bytes: cursor.sized(RSA_BYTES_MAX, "sig")? },
            _ => Self::RsaPss { hash, bytes: cursor.sized(RSA_BYTES_MAX, "sig")? },
        };
        cursor.end()?;
        Ok(signature)
    }
    /// The scheme that made it, as the signature itself says.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Ecdsa { hash, .. } => Scheme::Ecdsa(*hash),
            Self::RsaSsa { hash, .. } => Scheme::RsaSsa(*hash),
            Self::RsaPss { hash, .. } => Scheme::RsaPss(*hash),
        }
    }
}
