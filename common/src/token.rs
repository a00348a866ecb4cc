//! Join tokens: the bootstrap of trust (design §5).
//!
//! `qjt1.` and base64url of canonical CBOR. A token carries what an agent must know before it trusts anyone
//! (where the verifier is, the SPKI hash of its CA, the deployment root key) and one secret that admits one
//! host. What the host may be (zone, labels, inventory) stays with the verifier, under the token's id.

use data_encoding::BASE64URL_NOPAD;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::cbor::{self, Text, Version};
use crate::id::{Digest, TokenId};
use crate::sign::PublicKey;

const PREFIX: &str = "qjt1.";
const TOKEN_TEXT_BYTES_MAX: usize = 2048;

/// A join token, version 1.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct JoinToken {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// `https://host:port` of the verifier.
    #[n(1)]
    pub verifier: Text<256>,
    /// SHA-256 of the SubjectPublicKeyInfo of the CA that the verifier's TLS certificate chains to.
    #[n(2)]
    pub ca_spki: Digest,
    /// The deployment root key.
    #[n(3)]
    pub root: PublicKey,
    /// The secret: 32 random bytes; the verifier keeps its hash only.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub secret: [u8; 32],
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({} at {}, secret)", self.id(), self.verifier)
    }
}

/// Text that is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected `qjt1.` and base64url, as `quotary token join` prints it")]
pub struct TokenError;

/// The id under which a secret is kept: its hash, with a prefix of its own.
pub fn token_id(secret: &[u8; 32]) -> TokenId {
    TokenId::of(&[b"quotary-token-v1", secret])
}

impl JoinToken {
    /// Its public id.
    pub fn id(&self) -> TokenId {
        token_id(&self.secret)
    }
    /// The text that is handed to a host: secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&cbor::to_bytes(self))))
    }
    /// Reads the text.
    ///
    /// # Errors
    /// [`TokenError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(TokenError);
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TokenError)?);
        cbor::from_bytes(&bytes, TOKEN_TEXT_BYTES_MAX).map_err(|_| TokenError)
    }
}

/// An operator's token: `qot1.` and base64url of 32 random bytes; the verifier keeps its hash only.
pub mod operator {
    use super::{BASE64URL_NOPAD, TokenError, Zeroizing};

    const PREFIX: &str = "qot1.";

    /// The text that is handed to a person: secret.
    pub fn to_text(secret: &[u8; 32]) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(secret)))
    }
    /// Reads the text.
    ///
    /// # Errors
    /// [`TokenError`] when it is none.
    pub fn parse(text: &str) -> Result<[u8; 32], TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError)?;
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TokenError)?;
        bytes.try_into().map_err(|_| TokenError)
    }
}
