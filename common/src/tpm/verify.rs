//! Signature checks under an attestation key that was prepared once, at enrolment or at start.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};

use super::spki::rsa_public_key;
use super::{Curve, HashAlg, KeyParameters, Scheme, Signature, TpmError, TpmPublic};

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The structure does not read.
    #[error(transparent)]
    Form(#[from] TpmError),
    /// Another algorithm or hash than the key's own.
    #[error("the signature's algorithm or hash is not the key's")]
    Algorithm,
    /// `r` or `s` is longer than the curve's order.
    #[error("a coordinate of the signature is longer than the curve's")]
    Coordinate,
    /// It is not the key's signature over these bytes.
    #[error("the signature does not hold over these bytes")]
    Wrong,
}

/// An attestation key, ready to check signatures: nothing of it is parsed again at a check.
#[derive(Clone)]
pub struct AkKey {
    key: UnparsedPublicKey<Vec<u8>>,
    scheme: Scheme,
    hash: HashAlg,
    coordinate_bytes: usize,
}

impl AkKey {
    /// Prepares the key of a public area whose scheme is fixed to one that signs quotes: ECDSA P-256 with SHA-256,
    /// ECDSA P-384 with SHA-384, RSASSA or RSAPSS of 2048 bits and more with SHA-256 or longer.
    ///
    /// # Errors
    /// [`TpmError::Unsupported`] when key and scheme are another pair.
    pub fn from_public(public: &TpmPublic) -> Result<Self, TpmError> {
        Self::from_key(public.key(), public.scheme())
    }
    /// Prepares a key that is known without its public area, with the scheme that it is said to have (an auditor's PEM
    /// file names none: [`Signature::scheme`] of the signature at hand is taken then). The accepted pairs are the same.
    ///
    /// # Errors
    /// [`TpmError::Unsupported`] when key and scheme are another pair.
    pub fn from_key(key: &KeyParameters, scheme: Scheme) -> Result<Self, TpmError> {
        let unsupported = |value| TpmError::Unsupported { structure: "TPMT_PUBLIC", field: "scheme", value };
        let (algorithm, hash): (&'static dyn VerificationAlgorithm, HashAlg) = match (key, scheme) {
            (KeyParameters::Ecc { curve: Curve::P256, .. }, Scheme::Ecdsa(HashAlg::Sha256)) => {
                (&ECDSA_P256_SHA256_FIXED, HashAlg::Sha256)
            }
            (KeyParameters::Ecc { curve: Curve::P384, .. }, Scheme::Ecdsa(HashAlg::Sha384)) => {
                (&ECDSA_P384_SHA384_FIXED, HashAlg::Sha384)
            }
            (KeyParameters::Rsa { .. }, Scheme::RsaSsa(hash)) => (rsa_ssa(hash), hash),
            (KeyParameters::Rsa { .. }, Scheme::RsaPss(hash)) => (rsa_pss(hash), hash),
            (_, Scheme::Ecdsa(hash) | Scheme::RsaSsa(hash) | Scheme::RsaPss(hash)) => {
                return Err(unsupported(u32::from(hash.id())));
            }
            (_, Scheme::Other(alg)) => return Err(unsupported(u32::from(alg))),
            (_, Scheme::Null) => return Err(unsupported(0x0010)),
        };
        let (bytes, coordinate_bytes) = match key {
            KeyParameters::Rsa { modulus, exponent, .. } => (rsa_public_key(modulus, *exponent), 0),
            KeyParameters::Ecc { curve, point } => (point.clone(), curve.coordinate_bytes()),
        };
        Ok(Self { key: UnparsedPublicKey::new(algorithm, bytes), scheme, hash, coordinate_bytes })
    }
    /// Reads a `TPMT_PUBLIC` and prepares its key.
    ///
    /// # Errors
    /// [`TpmError`] as [`TpmPublic::parse`] and [`AkKey::from_public`].
    pub fn from_public_bytes(bytes: &[u8]) -> Result<Self, TpmError> {
        Self::from_public(&TpmPublic::parse(bytes)?)
    }
    /// The hash of the key's scheme: also that of `pcrDigest` in its quotes (Part 3, TPM2_Quote).
    pub fn hash(&self) -> HashAlg {
        self.hash
    }
    /// Whether `signature` (a `TPMT_SIGNATURE`) is this key's over the raw `attest` bytes. Algorithm and hash must
    /// be the key's own; short coordinates are padded on the left.
    ///
    /// # Errors
    /// [`SignatureFault`].
    pub fn verify(&self, attest: &[u8], signature: &[u8]) -> Result<(), SignatureFault> {
        match (Signature::parse(signature)?, self.scheme) {
            (Signature::Ecdsa { hash, r, s }, Scheme::Ecdsa(own)) if hash == own => {
                let mut fixed = [0; 96];
                let fixed = &mut fixed[..2 * self.coordinate_bytes];
                let (left, right) = fixed.split_at_mut(self.coordinate_bytes);
                pad_left(left, r)?;
                pad_left(right, s)?;
                self.check(attest, fixed)
            }
            (Signature::RsaSsa { hash, bytes }, Scheme::RsaSsa(own)) if hash == own => self.check(attest, bytes),
            (Signature::RsaPss { hash, bytes }, Scheme::RsaPss(own)) if hash == own => self.check(attest, bytes),
            _ => Err(SignatureFault::Algorithm),
        }
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureFault> {
        self.key.verify(message, signature).map_err(|_| SignatureFault::Wrong)
    }
}

impl std::fmt::Debug for AkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AkKey({:?})", self.scheme)
    }
}

fn pad_left(to: &mut [u8], digits: &[u8]) -> Result<(), SignatureFault> {
    let start = to.len().checked_sub(digits.len()).ok_or(SignatureFault::Coordinate)?;
    to[start..].copy_from_slice(digits);
    Ok(())
}

fn rsa_ssa(hash: HashAlg) -> &'static dyn VerificationAlgorithm {
    match hash {
        HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        HashAlg::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
        HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
    }
}

fn rsa_pss(hash: HashAlg) -> &'static dyn VerificationAlgorithm {
    match hash {
        HashAlg::Sha256 => &RSA_PSS_2048_8192_SHA256,
        HashAlg::Sha384 => &RSA_PSS_2048_8192_SHA384,
        HashAlg::Sha512 => &RSA_PSS_2048_8192_SHA512,
    }
}
