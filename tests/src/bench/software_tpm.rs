//! A TPM in software for load: real P-256 keys, real structures, real activation, and quotes as fast as a core signs.
//!
//! It holds one endorsement key, made for one activation, and one attestation key. What it signs is a
//! `TPMS_ATTEST` as a TPM would marshal it (TPM 2.0 Library, Part 2, 10.12), so the verifier has all its work.

use aes::cipher::{AsyncStreamCipher as _, KeyIvInit as _};
use anyhow::{Context as _, anyhow, ensure};
use quotary_common::evidence::PcrValue;
use quotary_common::tpm::{GENERATED_VALUE, HashAlg, PcrSelection, TYPE_QUOTE, TpmName, TpmPublic, qualified_signer};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

/// A restricted decryption key, fixed to its TPM (TCG EK Credential Profile, B.3).
const EK_ATTRIBUTES: u32 = 0x0003_00B2;
/// A restricted signing key, fixed to its TPM, without dictionary-attack protection.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// What a PC Client TPM calls its firmware.
const FIRMWARE_VERSION: u64 = 0x2019_1023_0016_3636;
const COORDINATE_BYTES: usize = 32;

/// The TPM.
pub(super) struct SoftwareTpm {
    random: SystemRandom,
    /// Used up by the one activation that it serves.
    ek: Option<EphemeralPrivateKey>,
    ek_point: Vec<u8>,
    ek_public: Vec<u8>,
    ak: EcdsaKeyPair,
    ak_public: Vec<u8>,
    ak_name: TpmName,
    qualified_signer: TpmName,
}

/// What a quote gives.
#[derive(Debug, Clone)]
pub(super) struct Quoted {
    /// `TPMS_ATTEST`.
    pub(super) attest: Vec<u8>,
    /// `TPMT_SIGNATURE` over it.
    pub(super) signature: Vec<u8>,
    /// The same signature as `r ‖ s`, for a bare check.
    pub(super) bare_signature: Vec<u8>,
}

impl SoftwareTpm {
    /// A TPM with new keys.
    pub(super) fn new() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let broken = |_| anyhow!("the random source failed");
        let ek = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(broken)?;
        let ek_point = ek.compute_public_key().map_err(broken)?.as_ref().to_vec();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(broken)?;
        let ak = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .map_err(|rejected| anyhow!("a new key was rejected: {rejected}"))?;
        // Symmetric cipher and scheme: AES-128-CFB and none for the EK, none and ECDSA with SHA-256 for the AK.
        let ek_public = ecc_public(EK_ATTRIBUTES, &[0, 6, 0, 0x80, 0, 0x43, 0, 0x10], &ek_point);
        let ak_public = ecc_public(AK_ATTRIBUTES, &[0, 0x10, 0, 0x18, 0, 0x0B], ak.public_key().as_ref());
        let name = |public: &[u8]| TpmPublic::parse(public).map(|public| public.name()).context("own public area");
        let ak_name = name(&ak_public)?;
        let qualified_signer = qualified_signer(&name(&ek_public)?, &ak_name);
        Ok(Self { random, ek: Some(ek), ek_point, ek_public, ak, ak_public, ak_name, qualified_signer })
    }

    /// `TPMT_PUBLIC` of the endorsement key.
    pub(super) fn ek_public(&self) -> &[u8] {
        &self.ek_public
    }

    /// `TPMT_PUBLIC` of the attestation key.
    pub(super) fn ak_public(&self) -> &[u8] {
        &self.ak_public
    }

    /// The attestation key's uncompressed point.
    pub(super) fn ak_point(&self) -> &[u8] {
        self.ak.public_key().as_ref()
    }

    /// `TPM2_ActivateCredential` (Part 1, 24): the secret, if the credential was made for these two keys.
    pub(super) fn activate(&mut self, credential_blob: &[u8], encrypted_secret: &[u8]) -> anyhow::Result<Vec<u8>> {
        let ek = self.ek.take().ok_or_else(|| anyhow!("the endorsement key served its one activation already"))?;
        let (point, _) = take_sized(encrypted_secret)?;
        let (x, rest) = take_sized(point)?;
        let (y, _) = take_sized(rest)?;
        let ephemeral = [&[4][..], &padded(x)?, &padded(y)?].concat();
        let (ephemeral_x, ek_x) = (padded(x)?, self.ek_point.get(1..=COORDINATE_BYTES).unwrap_or_default());
        let seed = agree_ephemeral(ek, &UnparsedPublicKey::new(&ECDH_P256, ephemeral), |z| {
            // KDFe (Part 1, 11.4.10.3), one block.
            HashAlg::Sha256.digest([&1_u32.to_be_bytes()[..], z, b"IDENTITY\0", &ephemeral_x, ek_x])
        })
        .map_err(|_| anyhow!("the credential's point is none of P-256"))?;
        let (object, _) = take_sized(credential_blob)?;
        let (mac, identity) = take_sized(object)?;
        let mut expected = hmac::Context::with_key(&hmac_key(&kdf_a(seed.as_ref(), b"INTEGRITY\0", &[], 256)));
        expected.update(identity);
        expected.update(self.ak_name.as_bytes());
        ensure!(expected.sign().as_ref() == mac, "the credential was made for other keys");
        let key = kdf_a(seed.as_ref(), b"STORAGE\0", self.ak_name.as_bytes(), 128);
        let mut secret = identity.to_vec();
        let cipher = cfb_mode::Decryptor::<aes::Aes128>::new_from_slices(key.get(..16).unwrap_or_default(), &[0; 16]);
        cipher.map_err(|_| anyhow!("the storage key has another length"))?.decrypt(&mut secret);
        Ok(take_sized(&secret)?.0.to_vec())
    }

    /// `TPM2_Quote` over the PCRs of these values (SHA-256, ascending), at `clock_ms` of the TPM's time.
    pub(super) fn quote(&self, extra_data: &[u8; 32], values: &[PcrValue], clock_ms: u64) -> anyhow::Result<Quoted> {
        let pcr_digest = HashAlg::Sha256.digest(values.iter().map(|value| value.value.as_slice()));
        let mut pcrs = [0_u8; 3];
        for value in values {
            if let Some(byte) = pcrs.get_mut(usize::from(value.index / 8)) {
                *byte |= 1 << (value.index % 8);
            }
        }
        let attest = [
            &GENERATED_VALUE.to_be_bytes()[..],
            &TYPE_QUOTE.to_be_bytes(),
            &sized(self.qualified_signer.as_bytes()),
            &sized(extra_data),
            &clock_ms.to_be_bytes(),
            &5_u32.to_be_bytes(), // resets
            &2_u32.to_be_bytes(), // restarts
            &[1],                 // the clock is safe
            &FIRMWARE_VERSION.to_be_bytes(),
            &[0, 0, 0, 1, 0, 0x0B, 3], // one bank, SHA-256
            &pcrs,
            &sized(pcr_digest.as_ref()),
        ]
        .concat();
        let signed = self.ak.sign(&self.random, &attest).map_err(|_| anyhow!("the random source failed"))?;
        let bare_signature = signed.as_ref().to_vec();
        let (r, s) = bare_signature.split_at(COORDINATE_BYTES);
        let signature = [&[0, 0x18, 0, 0x0B][..], &sized(r), &sized(s)].concat();
        Ok(Quoted { attest, signature, bare_signature })
    }
}

/// Values of the PCRs that firmware extends: the same on every host, as in a fleet of one kind.
pub(super) fn pcr_values() -> Vec<PcrValue> {
    PcrSelection::firmware()
        .iter()
        .map(|(hash_alg, index)| PcrValue { hash_alg, index, value: vec![index.wrapping_mul(17); 32] })
        .collect()
}

/// `TPMT_PUBLIC` of a P-256 key with SHA-256 names, without policy and KDF.
fn ecc_public(attributes: u32, cipher_and_scheme: &[u8], point: &[u8]) -> Vec<u8> {
    let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(COORDINATE_BYTES).unwrap_or_default();
    let head = [&[0, 0x23, 0, 0x0B][..], &attributes.to_be_bytes(), &[0, 0], cipher_and_scheme].concat();
    [&head[..], &[0, 3, 0, 0x10], &sized(x), &sized(y)].concat()
}

/// A `TPM2B`; none here is longer than some hundred bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()[..], bytes].concat()
}

/// Content of the `TPM2B` that `bytes` begin with, and what follows it.
fn take_sized(bytes: &[u8]) -> anyhow::Result<(&[u8], &[u8])> {
    let split = bytes
        .split_first_chunk::<2>()
        .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
    split.context("a TPM2B is shorter than its length says")
}

fn padded(digits: &[u8]) -> anyhow::Result<[u8; COORDINATE_BYTES]> {
    let start = COORDINATE_BYTES.checked_sub(digits.len()).context("a coordinate is longer than 32 bytes")?;
    let mut out = [0; COORDINATE_BYTES];
    out[start..].copy_from_slice(digits);
    Ok(out)
}

fn hmac_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// KDFa (Part 1, 11.4.10.2), one block of SHA-256.
fn kdf_a(seed: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let mut mac = hmac::Context::with_key(&hmac_key(seed));
    for part in [&1_u32.to_be_bytes()[..], label, context, &bits.to_be_bytes()] {
        mac.update(part);
    }
    mac.sign().as_ref().to_vec()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use quotary_decide::attest::make_credential;

    fn credential(ek: &SoftwareTpm, ak: &SoftwareTpm, secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let public = TpmPublic::parse(ek.ek_public()).unwrap();
        let made = make_credential(&public, &ak.ak_name, secret, &SystemRandom::new()).unwrap();
        (sized(&made.id_object), sized(&made.encrypted_secret))
    }

    #[test]
    fn it_activates_what_the_verifier_makes_for_it_and_nothing_else() {
        let (mut tpm, mut other) = (SoftwareTpm::new().unwrap(), SoftwareTpm::new().unwrap());
        let (blob, seed) = credential(&tpm, &tpm, &[7; 32]);
        assert!(other.activate(&blob, &seed).is_err(), "another EK");
        assert_eq!(tpm.activate(&blob, &seed).unwrap(), [7; 32]);
        assert!(tpm.activate(&blob, &seed).is_err(), "an endorsement key of this kind serves once");
        let (mut tpm, other) = (SoftwareTpm::new().unwrap(), SoftwareTpm::new().unwrap());
        let (blob, seed) = credential(&tpm, &other, &[7; 32]);
        assert!(tpm.activate(&blob, &seed).is_err(), "another AK");
    }
}
