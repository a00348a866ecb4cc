//! File signatures (`security.ima`) and the keys that may have made them.
//!
//! The form is Linux' `signature_v2_hdr`: type 0x03, version 2, hash algorithm, key id (4 bytes), size (2 bytes, both
//! big-endian), signature. It is over the file's digest: RSA PKCS#1 v1.5, or ECDSA in DER.

use k256::ecdsa as secp256k1;
use p256::ecdsa as p256_ecdsa;
use p256_ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::pkcs8::der::Decode as _;
use rsa::pkcs8::spki::SubjectPublicKeyInfoRef;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha2::{Sha256, Sha384, Sha512};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::boot::sha1;
use super::entry::FileDigest;
use super::limits::SIGNER_KEYS_MAX;

const HEADER_BYTES: usize = 9;
/// Shortest RSA key that is taken, in bytes of its modulus.
const RSA_BYTES_MIN: usize = 256;
/// Longest RSA key that is taken, in bytes: a signature check must stay cheap.
const RSA_BYTES_MAX: usize = 512;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Not a PEM public key or certificate, nor a SubjectPublicKeyInfo.
    #[error("not a public key or certificate")]
    Form,
    /// A key of another kind.
    #[error("neither RSA of 2048 to 4096 bits, nor ECDSA on P-256 or secp256k1")]
    Unsupported,
    /// Too many.
    #[error("more than {SIGNER_KEYS_MAX} signer keys")]
    TooMany,
}

/// Why a signature says nothing good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureFault {
    #[error("the signature is malformed")]
    Malformed,
    #[error("the signature is of a version or algorithm that is not verified here")]
    Algorithm,
    #[error("the signature is by an unknown key")]
    UnknownKey,
    #[error("the signature does not verify")]
    Wrong,
}

#[derive(Debug, Clone)]
enum Key {
    Rsa(RsaPublicKey),
    P256(p256_ecdsa::VerifyingKey),
    Secp256k1(secp256k1::VerifyingKey),
}

/// A key that may sign files.
#[derive(Debug, Clone)]
pub struct SignerKey {
    id: [u8; 4],
    key: Key,
    spki: Vec<u8>,
}

impl SignerKey {
    /// A key from its SubjectPublicKeyInfo in DER; its id is the last four bytes of SHA-1 of the public key bits.
    ///
    /// # Errors
    /// [`SignerError`] when it is not one, or of a kind that is not taken.
    pub fn from_spki(der: &[u8]) -> Result<Self, SignerError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| SignerError::Form)?;
        let [.., a, b, c, d] = sha1(spki.subject_public_key.raw_bytes());
        let key = if let Ok(key) = RsaPublicKey::from_public_key_der(der) {
            if !(RSA_BYTES_MIN..=RSA_BYTES_MAX).contains(&key.size()) {
                return Err(SignerError::Unsupported);
            }
            Key::Rsa(key)
        } else if let Ok(key) = p256_ecdsa::VerifyingKey::from_public_key_der(der) {
            Key::P256(key)
        } else if let Ok(key) = secp256k1::VerifyingKey::from_public_key_der(der) {
            Key::Secp256k1(key)
        } else {
            return Err(SignerError::Unsupported);
        };
        Ok(Self { id: [a, b, c, d], key, spki: der.to_vec() })
    }
    /// A key from a PEM text, `PUBLIC KEY` or `CERTIFICATE`. A certificate's subject key identifier gives the key id; its
    /// validity is not looked at: whoever configures it vouches for it.
    ///
    /// # Errors
    /// As [`SignerKey::from_spki`].
    pub fn from_pem(text: &[u8]) -> Result<Self, SignerError> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(text).map_err(|_| SignerError::Form)?;
        match pem.label.as_str() {
            "PUBLIC KEY" => Self::from_spki(&pem.contents),
            "CERTIFICATE" => {
                let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&pem.contents)
                    .map_err(|_| SignerError::Form)?;
                let mut key = Self::from_spki(certificate.public_key().raw)?;
                for extension in certificate.extensions() {
                    if let ParsedExtension::SubjectKeyIdentifier(identifier) = extension.parsed_extension()
                        && let Some(id) = identifier.0.last_chunk::<4>()
                    {
                        key.id = *id;
                    }
                }
                Ok(key)
            }
            _ => Err(SignerError::Form),
        }
    }
    /// The id by which signatures name it.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }
    /// Its SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
    fn verifies(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::Rsa(key) => {
                let scheme = match hash {
                    Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
                    Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
                    Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
                };
                key.verify(scheme, digest, signature).is_ok()
            }
            Key::P256(key) => p256_ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            // The crate takes the lower of the two equivalent values of s only, OpenSSL makes either.
            Key::Secp256k1(key) => secp256k1::Signature::from_der(signature).is_ok_and(|signature| {
                let signature = signature.normalize_s().unwrap_or(signature);
                key.verify_prehash(digest, &signature).is_ok()
            }),
        }
    }
}

/// The keys of a zone.
#[derive(Debug, Clone, Default)]
pub struct SignerKeys(Vec<SignerKey>);

impl SignerKeys {
    /// These keys. Two may have the same id.
    ///
    /// # Errors
    /// [`SignerError::TooMany`].
    pub fn new(keys: Vec<SignerKey>) -> Result<Self, SignerError> {
        if keys.len() > SIGNER_KEYS_MAX { Err(SignerError::TooMany) } else { Ok(Self(keys)) }
    }
    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &SignerKey> {
        self.0.iter()
    }
    /// Whether one of the keys signed `digest`.
    pub(super) fn verify(&self, signature: &[u8], digest: FileDigest<'_>) -> Result<(), SignatureFault> {
        let header = Header::parse(signature)?;
        if header.hash.name() != digest.algorithm {
            return Err(SignatureFault::Algorithm);
        }
        let mut fault = SignatureFault::UnknownKey;
        for key in self.0.iter().filter(|key| key.id == header.key_id) {
            if key.verifies(header.hash, digest.bytes, header.signature) {
                return Ok(());
            }
            fault = SignatureFault::Wrong;
        }
        Err(fault)
    }
}

/// A hash algorithm of a signature that is taken. SHA-1 is not one.
#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Sha256 => b"sha256",
            Self::Sha384 => b"sha384",
            Self::Sha512 => b"sha512",
        }
    }
}

struct Header<'s> {
    hash: Hash,
    key_id: [u8; 4],
    signature: &'s [u8],
}

impl<'s> Header<'s> {
    fn parse(bytes: &'s [u8]) -> Result<Self, SignatureFault> {
        let (header, signature) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(SignatureFault::Malformed)?;
        let [kind, version, hash, a, b, c, d, high, low] = *header;
        match (kind, version) {
            (0x03, 2) => {}
            // A signature of the first version, and that of an fs-verity digest (`IMA_VERITY_DIGSIG`).
            (0x03, 1 | 3) | (0x06, _) => return Err(SignatureFault::Algorithm),
            _ => return Err(SignatureFault::Malformed),
        }
        if usize::from(u16::from_be_bytes([high, low])) != signature.len() || signature.is_empty() {
            return Err(SignatureFault::Malformed);
        }
        // The numbers of `enum hash_algo` in Linux.
        let hash = match hash {
            4 => Hash::Sha256,
            5 => Hash::Sha384,
            6 => Hash::Sha512,
            _ => return Err(SignatureFault::Algorithm),
        };
        Ok(Self { hash, key_id: [a, b, c, d], signature })
    }
}

/// Whether a signature has the form of one, whoever made it.
pub(super) fn check_form(signature: &[u8]) -> Result<(), SignatureFault> {
    match Header::parse(signature) {
        Err(SignatureFault::Malformed) => Err(SignatureFault::Malformed),
        _ => Ok(()),
    }
}
