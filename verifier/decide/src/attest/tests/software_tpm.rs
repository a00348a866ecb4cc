//! A software TPM for tests: it marshals and signs `TPMS_ATTEST`, also such as no TPM would.

use quotary_common::tpm::{AkKey, TpmPublic};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

pub(crate) const EK_ATTRIBUTES: u32 = 0x0003_00B2;
pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// What this TPM calls its firmware.
pub(crate) const FIRMWARE_VERSION: u64 = 0x2019_1023_0016_3636;

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A P-256 key pair.
pub(crate) struct Pair(EcdsaKeyPair);

impl Pair {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }
    /// The uncompressed point.
    pub(crate) fn point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
    /// `TPMT_PUBLIC` of a restricted signing key (ECDSA, SHA-256).
    pub(crate) fn ak_public(&self, attributes: u32) -> Vec<u8> {
        let head = [&[0, 0x23, 0, 0x0B][..], &attributes.to_be_bytes(), &[0, 0, 0, 0x10, 0, 0x18, 0, 0x0B]].concat();
        self.ecc_public(&head)
    }
    /// `TPMT_PUBLIC` of an endorsement key (AES-128-CFB).
    pub(crate) fn ek_public(&self, attributes: u32) -> Vec<u8> {
        let head =
            [&[0, 0x23, 0, 0x0B][..], &attributes.to_be_bytes(), &[0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10]].concat();
        self.ecc_public(&head)
    }
    fn ecc_public(&self, head: &[u8]) -> Vec<u8> {
        let (x, y) = self.point()[1..].split_at(32);
        [head, &[0, 3, 0, 0x10], &sized(x), &sized(y)].concat()
    }
    /// `TPMT_SIGNATURE` over the bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), bytes).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        [&[0, 0x18, 0, 0x0B][..], &sized(r), &sized(s)].concat()
    }
}

/// `TPMT_PUBLIC` of an RSA endorsement key (AES-128-CFB).
pub(crate) fn rsa_ek_public(modulus: &[u8]) -> Vec<u8> {
    let bits = u16::try_from(modulus.len() * 8).unwrap();
    let head = [&[0, 1, 0, 0x0B][..], &EK_ATTRIBUTES.to_be_bytes(), &[0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10]].concat();
    [&head[..], &bits.to_be_bytes(), &[0; 4], &sized(modulus)].concat()
}

/// A quote, field by field.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) qualified_signer: Vec<u8>,
    /// What the evidence's nonce and envelope demand, when `None`.
    pub(crate) extra_data: Option<Vec<u8>>,
    pub(crate) clock_ms: u64,
    pub(crate) reset_count: u32,
    pub(crate) restart_count: u32,
    pub(crate) safe: u8,
    /// `TPML_PCR_SELECTION`.
    pub(crate) selection: Vec<u8>,
    pub(crate) pcr_digest: Vec<u8>,
    pub(crate) trailing: Vec<u8>,
}

impl Shape {
    pub(crate) fn marshal(&self, extra_data: &[u8]) -> Vec<u8> {
        [
            &self.magic.to_be_bytes()[..],
            &self.kind.to_be_bytes(),
            &sized(&self.qualified_signer),
            &sized(self.extra_data.as_deref().unwrap_or(extra_data)),
            &self.clock_ms.to_be_bytes(),
            &self.reset_count.to_be_bytes(),
            &self.restart_count.to_be_bytes(),
            &[self.safe],
            &FIRMWARE_VERSION.to_be_bytes(),
            &self.selection,
            &sized(&self.pcr_digest),
            &self.trailing,
        ]
        .concat()
    }
}

/// An endorsement key and an attestation key.
pub(crate) struct SoftwareTpm {
    pub(crate) ek: Pair,
    pub(crate) ak: Pair,
}

impl SoftwareTpm {
    pub(crate) fn new() -> Self {
        Self { ek: Pair::new(), ak: Pair::new() }
    }
    pub(crate) fn ek_public(&self) -> TpmPublic {
        TpmPublic::parse(&self.ek.ek_public(EK_ATTRIBUTES)).unwrap()
    }
    pub(crate) fn ak_public(&self) -> TpmPublic {
        TpmPublic::parse(&self.ak.ak_public(AK_ATTRIBUTES)).unwrap()
    }
    pub(crate) fn ak_key(&self) -> AkKey {
        AkKey::from_public(&self.ak_public()).unwrap()
    }
}
