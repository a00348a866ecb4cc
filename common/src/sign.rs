//! Signed forms: Ed25519 over `"quotary-<form>-v1\0" ‖ bytes` (wire.md, Forms).
//!
//! The form's name is part of what is signed, so a signature over one form never stands for another.

use minicbor::{Decode, Encode};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::cbor::{self, CborError, Version};
use crate::limits::SIGNED_BYTES_MAX;

/// A form that is signed, with its name.
pub trait SignedForm: Encode<()> + for<'b> Decode<'b, ()> {
    /// The name in the signature's prefix: `quotary-<FORM>-v1`.
    const FORM: &'static str;
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// 64 hexadecimal characters.
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}
impl<C> Encode<C> for PublicKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}
impl<'b, C> Decode<'b, C> for PublicKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        <[u8; 32]>::try_from(d.bytes()?)
            .map(Self)
            .map_err(|_| minicbor::decode::Error::message("an Ed25519 public key is 32 bytes"))
    }
}

/// A private key for one purpose.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey(public {})", self.public().hex())
    }
}

/// A signed form that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The key file is not PKCS#8 Ed25519.
    #[error("not an Ed25519 key in PKCS#8 form")]
    Key,
    /// The signature is not this key's over this form and these bytes.
    #[error("the signature over the {form} does not hold under key {key}")]
    Signature {
        /// Which form.
        form: &'static str,
        /// Which key was tried, in hexadecimal.
        key: String,
    },
    /// The bytes are not the form.
    #[error("the signed {form} is not readable")]
    Form {
        /// Which form.
        form: &'static str,
        /// Why.
        #[source]
        source: CborError,
    },
}

fn message(form: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(form.len() + bytes.len() + 12);
    out.extend_from_slice(b"quotary-");
    out.extend_from_slice(form.as_bytes());
    out.extend_from_slice(b"-v1\0");
    out.extend_from_slice(bytes);
    out
}

impl SigningKey {
    /// Reads a PKCS#8 document.
    ///
    /// # Errors
    /// [`SignedError::Key`] when it is none.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, SignedError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map(Self).map_err(|_| SignedError::Key)
    }
    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }
    /// Signs bare bytes: for forms that fix their own prefix (signed notes).
    pub fn sign_bare(&self, bytes: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.0.sign(bytes).as_ref());
        out
    }
    /// Signs a form.
    pub fn sign<T: SignedForm>(&self, value: &T) -> Signed {
        let bytes = cbor::to_bytes(value);
        let signature = self.sign_bare(&message(T::FORM, &bytes));
        Signed { version: Version, bytes, signature }
    }
}

/// Whether `signature` is `key`'s over bare `bytes`.
pub fn verify_bare(key: &PublicKey, bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0).verify(bytes, signature).is_ok()
}

/// Bytes of a form and a signature over them: claimed until [`Signed::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signed {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// Canonical bytes of the form.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Ed25519 signature.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

impl Signed {
    /// Canonical bytes of the pair.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// Reads the pair.
    ///
    /// # Errors
    /// [`CborError`] when it is too large or not canonical.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_bytes(bytes, SIGNED_BYTES_MAX)
    }
    /// Checks the signature over the raw bytes first, then reads them.
    ///
    /// # Errors
    /// [`SignedError::Signature`] or [`SignedError::Form`].
    pub fn verify<T: SignedForm>(&self, key: &PublicKey) -> Result<T, SignedError> {
        if !verify_bare(key, &message(T::FORM, &self.bytes), &self.signature) {
            return Err(SignedError::Signature { form: T::FORM, key: key.hex() });
        }
        cbor::from_bytes(&self.bytes, SIGNED_BYTES_MAX).map_err(|source| SignedError::Form { form: T::FORM, source })
    }
}
