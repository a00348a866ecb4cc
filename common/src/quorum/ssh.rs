//! SSH keys and signatures (PROTOCOL.sshsig, PROTOCOL.u2f): encoded by `ssh-key`, checked by `ring`.

use data_encoding::{BASE64, BASE64_NOPAD};
use minicbor::{Decode, Encode};
use ring::digest::{SHA256, SHA512, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use ssh_encoding::{Decode as _, Encode as _, Reader as _};
use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, Mpint, PublicKey, SshSig};

use crate::id::{Digest, sha256};
use crate::limits::{SSH_KEY_BYTES_MAX, SSH_SIGNATURE_BYTES_MAX};

const ARMOUR_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const ARMOUR_END: &str = "-----END SSH SIGNATURE-----";
/// As `ssh-keygen` writes them.
const ARMOUR_COLUMNS: usize = 70;
/// Flags and counter, which a security key signs along with the message.
const SECURITY_KEY_TRAILER_BYTES: usize = 5;
/// The flag of a security key that says that somebody touched it.
const USER_PRESENT: u8 = 1;

/// Why a key or a signature is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshFault {
    /// Longer than any key or signature of its kind.
    #[error("is longer than any SSH key or signature that is accepted")]
    TooLarge,
    /// Not a public key in one line, as `ssh-keygen` writes it.
    #[error("is not an SSH public key in one line, like `ssh-ed25519 AAAA… comment`")]
    Key,
    /// A kind of key that cannot be checked here.
    #[error(
        "is a kind of key that is not accepted: use ed25519, ecdsa on P-256 or P-384, RSA of 2048 bits and more, or a security key"
    )]
    Kind,
    /// Not an SSH signature, as `ssh-keygen -Y sign` writes it.
    #[error("is not an SSH signature, as `ssh-keygen -Y sign` writes it")]
    Signature,
    /// A signature for another purpose.
    #[error("was made in another namespace")]
    Namespace,
    /// The signature's algorithm is not its key's.
    #[error("has an algorithm that its key does not have")]
    Algorithm,
    /// It is not the key's signature over these bytes.
    #[error("does not hold over these bytes")]
    Wrong,
}

/// A public key's fingerprint: SHA-256 of its encoding, as `ssh-keygen -l` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Fingerprint(#[n(0)] pub Digest);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SHA256:{}", BASE64_NOPAD.encode(self.0.as_bytes()))
    }
}

/// A public key that can be checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    data: KeyData,
    fingerprint: Fingerprint,
}

impl SshKey {
    /// Reads a key in one line: algorithm, base64, and a comment that is not kept.
    ///
    /// # Errors
    /// [`SshFault`], also for another encoding of the key than the one that `ssh-keygen` writes.
    pub fn parse(line: &str) -> Result<Self, SshFault> {
        if line.len() > SSH_KEY_BYTES_MAX {
            return Err(SshFault::TooLarge);
        }
        let data = PublicKey::from_openssh(line).map_err(|_| SshFault::Key)?.key_data().clone();
        let key = Self::of(data)?;
        let mut rest = line.split(' ');
        let is_canonical = (rest.next(), rest.next()) == (Some(key.algorithm()), Some(key.base64()?.as_str()));
        if is_canonical { Ok(key) } else { Err(SshFault::Key) }
    }

    fn of(data: KeyData) -> Result<Self, SshFault> {
        let is_accepted = match &data {
            KeyData::Ed25519(_) => true,
            KeyData::Ecdsa(key) => {
                key.curve() != EcdsaCurve::NistP521 && key.as_sec1_bytes().first() == Some(&UNCOMPRESSED)
            }
            KeyData::Rsa(key) => key.n.as_positive_bytes().is_some_and(|n| (256..=1024).contains(&n.len())),
            KeyData::SkEd25519(key) => key.application().starts_with("ssh:"),
            KeyData::SkEcdsaSha2NistP256(key) => {
                key.application().starts_with("ssh:") && key.ec_point().as_bytes().first() == Some(&UNCOMPRESSED)
            }
            _ => false,
        };
        if !is_accepted {
            return Err(SshFault::Kind);
        }
        let fingerprint = Fingerprint(Digest::of(&[&encoded(&data)?]));
        Ok(Self { data, fingerprint })
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The algorithm's name in key files.
    pub fn algorithm(&self) -> &'static str {
        match &self.data {
            KeyData::Ed25519(_) => "ssh-ed25519",
            KeyData::Ecdsa(EcdsaPublicKey::NistP256(_)) => "ecdsa-sha2-nistp256",
            KeyData::Ecdsa(_) => "ecdsa-sha2-nistp384",
            KeyData::Rsa(_) => "ssh-rsa",
            KeyData::SkEd25519(_) => "sk-ssh-ed25519@openssh.com",
            _ => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// Whether the private half lives in a security key, which can tell that somebody touched it.
    pub fn is_security_key(&self) -> bool {
        matches!(self.data, KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
    }

    /// The numbers of the key alone: two encodings of one key, or one key under two algorithms, have the same.
    pub fn material(&self) -> Digest {
        let (kind, numbers): (&[u8], &[u8]) = match &self.data {
            KeyData::Ed25519(key) => (b"ed25519", &key.0),
            KeyData::SkEd25519(key) => (b"ed25519", &key.public_key().0),
            KeyData::Ecdsa(key) => (b"ecdsa", key.as_sec1_bytes()),
            KeyData::SkEcdsaSha2NistP256(key) => (b"ecdsa", key.ec_point().as_bytes()),
            KeyData::Rsa(key) => (b"rsa", key.n.as_bytes()),
            _ => (b"", self.fingerprint.0.as_bytes()),
        };
        Digest::of(&[kind, b"\0", numbers])
    }

    fn base64(&self) -> Result<String, SshFault> {
        Ok(BASE64.encode(&encoded(&self.data)?))
    }

    /// Algorithm and base64, as they stand in key files and lists of allowed signers.
    pub fn line(&self) -> String {
        format!("{} {}", self.algorithm(), self.base64().unwrap_or_default())
    }
}

/// The first byte of a point with both coordinates (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;

fn encoded(data: &KeyData) -> Result<Vec<u8>, SshFault> {
    let mut bytes = Vec::new();
    data.encode(&mut bytes).map_err(|_| SshFault::Key)?;
    Ok(bytes)
}

/// What is signed, by both digests that SSH signatures take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    sha256: [u8; 32],
    sha512: [u8; 64],
}

impl Hashes {
    /// The digests of `message`.
    pub fn of(message: &[u8]) -> Self {
        let mut sha512 = [0; 64];
        sha512.copy_from_slice(digest(&SHA512, message).as_ref());
        Self { sha256: sha256(&[message]), sha512 }
    }
    /// SHA-256.
    pub fn sha256(&self) -> Digest {
        Digest::new(self.sha256)
    }
}

/// What a signature shows beyond its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shown {
    /// Whose it is.
    pub key: Fingerprint,
    /// Whether a security key made it and says that somebody touched it.
    pub is_user_present: bool,
}

/// An SSH signature: claimed until [`SshSignature::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature {
    bytes: Vec<u8>,
    key: SshKey,
    form: SshSig,
}

impl SshSignature {
    /// Reads a signature with its armour.
    ///
    /// # Errors
    /// [`SshFault`].
    pub fn parse(armoured: &str) -> Result<Self, SshFault> {
        if armoured.len() > SSH_SIGNATURE_BYTES_MAX * 3 / 2 {
            return Err(SshFault::TooLarge);
        }
        let mut lines = armoured.trim().lines().map(str::trim_end);
        let body: Vec<&str> = match (lines.next(), lines.next_back()) {
            (Some(ARMOUR_BEGIN), Some(ARMOUR_END)) => lines.collect(),
            _ => return Err(SshFault::Signature),
        };
        Self::from_bytes(&BASE64.decode(body.concat().as_bytes()).map_err(|_| SshFault::Signature)?)
    }

    /// Reads a signature without its armour.
    ///
    /// # Errors
    /// [`SshFault`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SshFault> {
        if bytes.len() > SSH_SIGNATURE_BYTES_MAX {
            return Err(SshFault::TooLarge);
        }
        let mut reader = bytes;
        let form = SshSig::decode(&mut reader).map_err(|_| SshFault::Signature)?;
        let form = reader.finish(form).map_err(|_| SshFault::Signature)?;
        if form.version() != SshSig::VERSION || !form.reserved().is_empty() {
            return Err(SshFault::Signature);
        }
        // The reader does not hold the lengths of nested parts against each other; one signature has one encoding.
        if encoding_of(&form)? != bytes {
            return Err(SshFault::Signature);
        }
        let key = SshKey::of(form.public_key().clone())?;
        Ok(Self { bytes: bytes.to_vec(), key, form })
    }

    /// The bytes without armour.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// With its armour, as `ssh-keygen` reads and writes it.
    pub fn armoured(&self) -> String {
        let body = BASE64.encode(&self.bytes);
        let mut text = format!("{ARMOUR_BEGIN}\n");
        for line in body.as_bytes().chunks(ARMOUR_COLUMNS) {
            text.extend(line.iter().map(|byte| char::from(*byte)));
            text.push('\n');
        }
        text + ARMOUR_END + "\n"
    }

    /// The key that it claims to be made with.
    pub fn key(&self) -> &SshKey {
        &self.key
    }

    /// The purpose that it claims to be made for.
    pub fn namespace(&self) -> &str {
        self.form.namespace()
    }

    /// Checks it over what `hashes` are the digests of, in `namespace`.
    ///
    /// # Errors
    /// [`SshFault::Namespace`], [`SshFault::Algorithm`] or [`SshFault::Wrong`].
    pub fn verify(&self, namespace: &str, hashes: &Hashes) -> Result<Shown, SshFault> {
        if self.form.namespace() != namespace {
            return Err(SshFault::Namespace);
        }
        let (hash_name, hash): (&[u8], &[u8]) = match self.form.hash_alg() {
            HashAlg::Sha256 => (b"sha256", &hashes.sha256),
            HashAlg::Sha512 => (b"sha512", &hashes.sha512),
            _ => return Err(SshFault::Algorithm),
        };
        let mut message = b"SSHSIG".to_vec();
        for part in [namespace.as_bytes(), b"", hash_name, hash] {
            message.extend_from_slice(&u32::try_from(part.len()).map_err(|_| SshFault::TooLarge)?.to_be_bytes());
            message.extend_from_slice(part);
        }
        let flags = self.check(&message)?;
        let is_user_present = flags.is_some_and(|flags| flags & USER_PRESENT != 0);
        Ok(Shown { key: self.key.fingerprint, is_user_present })
    }

    /// The flags of a security key, if one made it.
    fn check(&self, message: &[u8]) -> Result<Option<u8>, SshFault> {
        let signature = self.form.signature();
        let bytes = signature.as_bytes();
        match (&self.key.data, signature.algorithm()) {
            (KeyData::Ed25519(key), Algorithm::Ed25519) => {
                holds(UnparsedPublicKey::new(&ED25519, &key.0).verify(message, bytes))?;
            }
            (KeyData::Ecdsa(EcdsaPublicKey::NistP256(key)), Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }) => {
                let fixed = fixed_coordinates::<32, 64>(bytes)?;
                holds(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_bytes()).verify(message, &fixed))?;
            }
            (KeyData::Ecdsa(EcdsaPublicKey::NistP384(key)), Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 }) => {
                let fixed = fixed_coordinates::<48, 96>(bytes)?;
                holds(UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key.as_bytes()).verify(message, &fixed))?;
            }
            (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(hash) }) => rsa_holds(key, hash, message, bytes)?,
            (KeyData::SkEd25519(key), Algorithm::SkEd25519) => {
                let (bytes, trailer) = split_trailer(bytes)?;
                let touched = security_key_message(key.application(), trailer, message);
                holds(UnparsedPublicKey::new(&ED25519, &key.public_key().0).verify(&touched, bytes))?;
                return Ok(trailer.first().copied());
            }
            (KeyData::SkEcdsaSha2NistP256(key), Algorithm::SkEcdsaSha2NistP256) => {
                let (bytes, trailer) = split_trailer(bytes)?;
                let touched = security_key_message(key.application(), trailer, message);
                let fixed = fixed_coordinates::<32, 64>(bytes)?;
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.ec_point().as_bytes());
                holds(key.verify(&touched, &fixed))?;
                return Ok(trailer.first().copied());
            }
            _ => return Err(SshFault::Algorithm),
        }
        Ok(None)
    }
}

/// The one encoding of a signature.
fn encoding_of(form: &SshSig) -> Result<Vec<u8>, SshFault> {
    let mut bytes = Vec::new();
    form.encode(&mut bytes).map_err(|_| SshFault::Signature)?;
    let signature = form.signature();
    if signature.algorithm() == Algorithm::SkEcdsaSha2NistP256 {
        // `ssh-key` 0.6 counts flags and counter into the length before the two numbers, where they are not.
        let numbers_at = bytes.len().checked_sub(signature.as_bytes().len()).ok_or(SshFault::Signature)?;
        let length = signature.as_bytes().len().checked_sub(SECURITY_KEY_TRAILER_BYTES).ok_or(SshFault::Signature)?;
        let length = u32::try_from(length).map_err(|_| SshFault::TooLarge)?.to_be_bytes();
        let prefix = numbers_at.checked_sub(length.len()).and_then(|from| bytes.get_mut(from..numbers_at));
        prefix.ok_or(SshFault::Signature)?.copy_from_slice(&length);
    }
    Ok(bytes)
}

fn holds(checked: Result<(), ring::error::Unspecified>) -> Result<(), SshFault> {
    checked.map_err(|_| SshFault::Wrong)
}

fn rsa_holds(key: &RsaPublicKey, hash: HashAlg, message: &[u8], signature: &[u8]) -> Result<(), SshFault> {
    let (Some(n), Some(e)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else { return Err(SshFault::Kind) };
    // Some tools leave leading zeros out (RFC 8332 allows neither, OpenSSH reads both).
    let missing = n.len().checked_sub(signature.len()).ok_or(SshFault::Wrong)?;
    let padded = [vec![0; missing], signature.to_vec()].concat();
    let algorithm = match hash {
        HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(SshFault::Algorithm),
    };
    holds(RsaPublicKeyComponents { n, e }.verify(algorithm, message, &padded))
}

/// What a security key signs in place of the message (PROTOCOL.u2f): application, flags, counter, message.
fn security_key_message(application: &str, trailer: &[u8], message: &[u8]) -> Vec<u8> {
    [digest(&SHA256, application.as_bytes()).as_ref(), trailer, digest(&SHA256, message).as_ref()].concat()
}

fn split_trailer(bytes: &[u8]) -> Result<(&[u8], &[u8]), SshFault> {
    bytes.split_at_checked(bytes.len().wrapping_sub(SECURITY_KEY_TRAILER_BYTES)).ok_or(SshFault::Signature)
}

/// Two numbers of `COORDINATE` bytes each, as ring takes them, from SSH's two numbers of any length.
fn fixed_coordinates<const COORDINATE: usize, const BOTH: usize>(bytes: &[u8]) -> Result<[u8; BOTH], SshFault> {
    let mut reader = bytes;
    let mut fixed = [0; BOTH];
    for half in fixed.chunks_mut(COORDINATE) {
        let number = Mpint::decode(&mut reader).map_err(|_| SshFault::Signature)?;
        let digits = number.as_positive_bytes().ok_or(SshFault::Signature)?;
        let start = COORDINATE.checked_sub(digits.len()).ok_or(SshFault::Signature)?;
        half[start..].copy_from_slice(digits);
    }
    if reader.is_empty() { Ok(fixed) } else { Err(SshFault::Signature) }
}
