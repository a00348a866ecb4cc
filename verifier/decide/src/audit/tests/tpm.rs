//! A TPM's signing side in a few lines: keys, and quotes marshalled as TPM 2.0 Part 2 says.

use quotary_common::evidence::PcrValue;
use quotary_common::id::{Digest, HostId, sha256};
use quotary_common::tpm::{TpmPublic, qualified_signer};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

pub(super) struct Key {
    pair: EcdsaKeyPair,
    pub(super) public: Vec<u8>,
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl Key {
    /// `attributes`, then what stands between policy and curve: symmetric cipher and scheme.
    fn new(attributes: u32, parameters: &[u16]) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let words = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let public = [
            words(&[0x0023, 0x000B]),
            attributes.to_be_bytes().to_vec(),
            sized(&[]),
            words(parameters),
            words(&[0x0003, 0x0010]),
            sized(x),
            sized(y),
        ];
        Self { pair, public: public.concat() }
    }

    /// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign; no cipher, ECDSA with SHA-256.
    pub(super) fn attestation() -> Self {
        Self::new(0x0005_0072, &[0x0010, 0x0018, 0x000B])
    }

    /// The same with decrypt for sign; AES-128-CFB, no scheme.
    pub(super) fn endorsement() -> Self {
        Self::new(0x0003_0072, &[0x0006, 128, 0x0043, 0x0010])
    }

    pub(super) fn host(&self) -> HostId {
        HostId::of(&[&TpmPublic::parse(&self.public).unwrap().spki_der()])
    }

    /// `TPMT_SIGNATURE`.
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        [vec![0x00, 0x18, 0x00, 0x0B], sized(r), sized(s)].concat()
    }
}

/// PCRs 0 to 7 of the SHA-256 bank.
pub(super) fn pcr_values() -> Vec<PcrValue> {
    (0..8).map(|index| PcrValue { hash_alg: 0x000B, index, value: sha256(&[&[index]]).to_vec() }).collect()
}

/// `TPMS_ATTEST` of a quote over [`pcr_values`] and its signature.
pub(super) fn quote(ek: &Key, ak: &Key, extra_data: &[u8], clock_ms: u64) -> (Vec<u8>, Vec<u8>) {
    let name = |key: &Key| TpmPublic::parse(&key.public).unwrap().name();
    let values = pcr_values();
    let digest = Digest::of(&values.iter().map(|value| value.value.as_slice()).collect::<Vec<_>>());
    let attest = [
        0xFF54_4347_u32.to_be_bytes().to_vec(),
        vec![0x80, 0x18],
        sized(qualified_signer(&name(ek), &name(ak)).as_bytes()),
        sized(extra_data),
        clock_ms.to_be_bytes().to_vec(),
        [5_u32.to_be_bytes(), 1_u32.to_be_bytes()].concat(),
        vec![1],
        7_u64.to_be_bytes().to_vec(),
        vec![0, 0, 0, 1, 0x00, 0x0B, 3, 0xFF, 0, 0],
        sized(digest.as_bytes()),
    ]
    .concat();
    let signature = ak.sign(&attest);
    (attest, signature)
}
