//! MakeCredential in software (TPM 2.0 Library, Part 1, 24 "Credential Protection"): only the TPM that holds both the
//! EK and an object of the given name gets the secret back.

use aes::cipher::{AsyncStreamCipher, KeyIvInit};
use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::{Curve, HashAlg, KeyParameters, Symmetric, TpmName, TpmPublic};
use ring::agreement::{ECDH_P256, ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hmac;
use ring::rand::SecureRandom;
use rsa::rand_core::{self, CryptoRng, RngCore};
use rsa::{BigUint, Oaep, RsaPublicKey};
use zeroize::Zeroizing;

/// A credential for one TPM: both parts as `TPM2_ActivateCredential` takes them, without their `TPM2B` size prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Content of `TPM2B_ID_OBJECT`: the HMAC (itself a `TPM2B`), then the encrypted secret.
    pub id_object: Vec<u8>,
    /// Content of `TPM2B_ENCRYPTED_SECRET`: the seed under the EK.
    pub encrypted_secret: Vec<u8>,
}

/// Why no credential can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The EK is no storage key with AES.
    #[error("the endorsement key has no AES-CFB: it is no storage key")]
    NotAStorageKey,
    /// The EK's public part is no key.
    #[error("the endorsement key's public part is not a valid key of its kind")]
    Key,
    /// The secret is longer than the EK's name algorithm allows.
    #[error("the secret is {bytes} bytes long, the endorsement key's name algorithm allows {bytes_max}")]
    SecretTooLong {
        /// Its length.
        bytes: usize,
        /// The longest that a TPM takes.
        bytes_max: usize,
    },
    /// The random source failed.
    #[error("the random source failed")]
    Random,
}

/// What a pending enrolment keeps of its secret: a digest, so that the record gives nothing away.
pub fn activation_digest(secret: &[u8]) -> Digest {
    Digest::of(&[b"quotary-activation-v1", secret])
}

/// Whether `answer` is the activated secret of which `expected` is the [`activation_digest`]. The caller deletes the
/// pending enrolment when it is not.
///
/// # Errors
/// A [`Refusal`] `activation` that says nothing else.
pub fn check_activation(expected: &Digest, answer: &[u8]) -> Result<(), Refusal> {
    // Digests are compared: how long that takes tells nothing of the secret.
    if answer.len() <= 64 && activation_digest(answer) == *expected {
        return Ok(());
    }
    Err(Refusal::new(Reason::Activation, "the credential was not activated: start the enrolment again"))
}

/// Makes a credential for the TPM of `ek` that holds the object named `ak_name`. `secret` is at most as long as a
/// digest of the EK's name algorithm (32 bytes always fit).
///
/// # Errors
/// [`CredentialError`].
pub fn make_credential(
    ek: &TpmPublic,
    ak_name: &TpmName,
    secret: &[u8],
    random: &dyn SecureRandom,
) -> Result<Credential, CredentialError> {
    let bytes_max = ek.name_alg().length();
    if secret.len() > bytes_max {
        return Err(CredentialError::SecretTooLong { bytes: secret.len(), bytes_max });
    }
    let (seed, encrypted_secret) = match ek.key() {
        KeyParameters::Rsa { modulus, exponent, .. } => seal_seed_rsa(ek.name_alg(), modulus, *exponent, random)?,
        KeyParameters::Ecc { curve, point } => agree_seed_ecc(ek.name_alg(), *curve, point, random)?,
    };
    Ok(Credential { id_object: id_object(ek, ak_name.as_bytes(), secret, &seed)?, encrypted_secret })
}

type Seed = Zeroizing<Vec<u8>>;

/// RSA: a random seed under OAEP with the label `IDENTITY\0` (Part 1, B.10.3).
fn seal_seed_rsa(
    hash: HashAlg,
    modulus: &[u8],
    exponent: u32,
    random: &dyn SecureRandom,
) -> Result<(Seed, Vec<u8>), CredentialError> {
    let key = RsaPublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from(exponent));
    let key = key.map_err(|_| CredentialError::Key)?;
    let mut seed = Zeroizing::new(vec![0; hash.length()]);
    random.fill(&mut seed).map_err(|_| CredentialError::Random)?;
    let padding = match hash {
        HashAlg::Sha256 => Oaep::new_with_label::<sha2::Sha256, _>("IDENTITY\0"),
        HashAlg::Sha384 => Oaep::new_with_label::<sha2::Sha384, _>("IDENTITY\0"),
        HashAlg::Sha512 => Oaep::new_with_label::<sha2::Sha512, _>("IDENTITY\0"),
    };
    let fill = |to: &mut [u8]| random.fill(to);
    let mut source = RandomAdapter::new(&fill);
    let sealed = key.encrypt(&mut source, padding, &seed);
    if source.failed {
        return Err(CredentialError::Random);
    }
    Ok((seed, sealed.map_err(|_| CredentialError::Key)?))
}

type Fill<'a> = &'a dyn Fn(&mut [u8]) -> Result<(), ring::error::Unspecified>;

/// `ring`'s random source for the `rsa` crate; a failure is kept, since `fill_bytes` cannot report it.
pub(super) struct RandomAdapter<'a> {
    fill: Fill<'a>,
    pub(super) failed: bool,
}

impl<'a> RandomAdapter<'a> {
    pub(super) fn new(fill: Fill<'a>) -> Self {
        Self { fill, failed: false }
    }
}

impl RngCore for RandomAdapter<'_> {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, to: &mut [u8]) {
        self.failed |= (self.fill)(to).is_err();
    }
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(to);
        Ok(())
    }
}
impl CryptoRng for RandomAdapter<'_> {}

/// ECC: an ephemeral key agrees on the seed (Part 1, C.6.1); the TPM gets the ephemeral point as `TPMS_ECC_POINT`.
fn agree_seed_ecc(
    hash: HashAlg,
    curve: Curve,
    ek_point: &[u8],
    random: &dyn SecureRandom,
) -> Result<(Seed, Vec<u8>), CredentialError> {
    let algorithm = match curve {
        Curve::P256 => &ECDH_P256,
        Curve::P384 => &ECDH_P384,
    };
    let ephemeral = EphemeralPrivateKey::generate(algorithm, random).map_err(|_| CredentialError::Random)?;
    let public = ephemeral.compute_public_key().map_err(|_| CredentialError::Random)?;
    let seed = agree_ephemeral(ephemeral, &UnparsedPublicKey::new(algorithm, ek_point), |z| {
        seed_from_agreement(hash, curve, z, public.as_ref(), ek_point)
    });
    Ok((seed.map_err(|_| CredentialError::Key)?, ecc_point(curve, public.as_ref())))
}

/// The coordinates of an uncompressed point.
fn coordinates(curve: Curve, point: &[u8]) -> (&[u8], &[u8]) {
    point.get(1..).unwrap_or_default().split_at_checked(curve.coordinate_bytes()).unwrap_or_default()
}

pub(super) fn ecc_point(curve: Curve, point: &[u8]) -> Vec<u8> {
    let (x, y) = coordinates(curve, point);
    [sized(x), sized(y)].concat()
}

pub(super) fn seed_from_agreement(hash: HashAlg, curve: Curve, z: &[u8], ephemeral: &[u8], ek: &[u8]) -> Seed {
    let (ephemeral_x, _) = coordinates(curve, ephemeral);
    let (ek_x, _) = coordinates(curve, ek);
    kdf_e(hash, z, b"IDENTITY\0", ephemeral_x, ek_x)
}

/// The encrypted secret and its HMAC (Part 1, 24.5).
pub(super) fn id_object(
    ek: &TpmPublic,
    ak_name: &[u8],
    secret: &[u8],
    seed: &[u8],
) -> Result<Vec<u8>, CredentialError> {
    let hash = ek.name_alg();
    let Symmetric::AesCfb(bits) = ek.symmetric() else { return Err(CredentialError::NotAStorageKey) };
    let key = kdf_a(hash, seed, b"STORAGE\0", ak_name, bits);
    let mut identity = sized(secret);
    encrypt_cfb(&key, &mut identity)?;
    let mac_bits = u16::try_from(hash.length() * 8).map_err(|_| CredentialError::Key)?;
    let mac_key = kdf_a(hash, seed, b"INTEGRITY\0", &[], mac_bits);
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac_alg(hash), &mac_key));
    mac.update(&identity);
    mac.update(ak_name);
    Ok([sized(mac.sign().as_ref()), identity].concat())
}

/// AES in CFB mode with an IV of zeros: each key is used once.
fn encrypt_cfb(key: &[u8], data: &mut [u8]) -> Result<(), CredentialError> {
    let iv = [0_u8; 16];
    match key.len() {
        16 => cfb_mode::Encryptor::<aes::Aes128>::new_from_slices(key, &iv).map(|cipher| cipher.encrypt(data)),
        _ => cfb_mode::Encryptor::<aes::Aes256>::new_from_slices(key, &iv).map(|cipher| cipher.encrypt(data)),
    }
    .map_err(|_| CredentialError::NotAStorageKey)
}

/// A `TPM2B`; what stands in one here is at most 66 bytes long.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn hmac_alg(hash: HashAlg) -> hmac::Algorithm {
    match hash {
        HashAlg::Sha256 => hmac::HMAC_SHA256,
        HashAlg::Sha384 => hmac::HMAC_SHA384,
        HashAlg::Sha512 => hmac::HMAC_SHA512,
    }
}

/// KDFa (Part 1, 11.4.10.2) for at most one block: every key here is no longer than a digest.
fn kdf_a(hash: HashAlg, key: &[u8], label: &[u8], context: &[u8], bits: u16) -> Seed {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac_alg(hash), key));
    for part in [&1_u32.to_be_bytes(), label, context, &u32::from(bits).to_be_bytes()] {
        mac.update(part);
    }
    let mut out = Zeroizing::new(mac.sign().as_ref().to_vec());
    out.truncate(usize::from(bits / 8));
    out
}

/// KDFe (Part 1, 11.4.10.3) for one block: the seed is as long as a digest.
fn kdf_e(hash: HashAlg, z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Seed {
    Zeroizing::new(hash.digest([&1_u32.to_be_bytes(), z, label, party_u, party_v]).as_ref().to_vec())
}
