//! MakeCredential against the known answers of keylime (tests/data/attestation/makecredential.json).

use quotary_common::reason::Reason;
use quotary_common::tpm::{Curve, HashAlg, KeyParameters, TpmName, TpmPublic};
use ring::rand::SystemRandom;
use rsa::rand_core::RngCore;

use super::super::credential::{RandomAdapter, ecc_point, id_object, seed_from_agreement};
use super::super::{CredentialError, activation_digest, check_activation, make_credential};
use super::data;
use super::software_tpm::{AK_ATTRIBUTES, SoftwareTpm};

/// x of the agreement of the vector's fixed ephemeral scalar with its EK, computed apart (the file does not state it).
const SHARED_X: &str = "83e30b25d80d2eb0ae5792bcbe64fe4dc59926b60a47dda98bea642541570a20";

fn unhex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// A known answer: the text of its object in the file, whose fields are strings on one line.
struct Answer(String);

impl Answer {
    fn read(kind: &str) -> Self {
        let text = String::from_utf8(data("makecredential.json")).unwrap();
        let (_, object) = text.split_once(&format!("\"{kind}\": {{")).unwrap();
        Self(object.split_once('}').unwrap().0.to_owned())
    }
    fn hex(&self, field: &str) -> Vec<u8> {
        let (_, value) = self.0.split_once(&format!("\"{field}\": \"")).unwrap();
        unhex(value.split_once('"').unwrap().0)
    }
    fn ek(&self) -> TpmPublic {
        TpmPublic::parse(&self.hex("ek_public_tpm2b_hex")[2..]).unwrap()
    }
    fn id_object(&self) -> Vec<u8> {
        id_object(&self.ek(), &self.hex("ak_name_hex"), &self.hex("credential_value_hex"), &self.hex("seed_hex"))
            .unwrap()
    }
}

#[test]
fn the_id_objects_are_the_known_ones_for_rsa_and_ecc() {
    for kind in ["rsa2048", "ecc_p256"] {
        let answer = Answer::read(kind);
        assert_eq!(answer.id_object(), answer.hex("id_object_hex"), "{kind}");
    }
}

#[test]
fn seed_and_encrypted_secret_of_an_agreement_are_the_known_ones() {
    let answer = Answer::read("ecc_p256");
    let point = [vec![4], answer.hex("ephemeral_public_x_hex"), answer.hex("ephemeral_public_y_hex")].concat();
    assert_eq!(ecc_point(Curve::P256, &point), answer.hex("encrypted_secret_hex"));
    let ek = answer.ek();
    let KeyParameters::Ecc { point: ek_point, .. } = ek.key() else { panic!("not ECC") };
    let z = unhex(SHARED_X);
    let seed = seed_from_agreement(HashAlg::Sha256, Curve::P256, &z, &point, ek_point);
    assert_eq!(seed.to_vec(), answer.hex("seed_hex"));
}

fn ak_name() -> TpmName {
    SoftwareTpm::new().ak_public().name()
}

#[test]
fn a_credential_has_the_form_that_a_tpm_takes_and_is_never_the_same_twice() {
    for (path, id_length, secret_length) in
        [("swtpm/p384/ek.public", 2 + 48 + 34, 100), ("swtpm/rsa2048/ek.public", 2 + 32 + 34, 256)]
    {
        let ek = TpmPublic::parse(&data(path)).unwrap();
        let make = || make_credential(&ek, &ak_name(), &[7; 32], &SystemRandom::new()).unwrap();
        let (one, other) = (make(), make());
        assert_eq!((one.id_object.len(), one.encrypted_secret.len()), (id_length, secret_length));
        assert!(one.id_object != other.id_object && one.encrypted_secret != other.encrypted_secret);
    }
}

#[test]
fn a_secret_too_long_for_the_ek_and_a_key_that_stores_nothing_are_refused() {
    let tpm = SoftwareTpm::new();
    let random = SystemRandom::new();
    let too_long = make_credential(&tpm.ek_public(), &ak_name(), &[7; 33], &random);
    assert_eq!(too_long, Err(CredentialError::SecretTooLong { bytes: 33, bytes_max: 32 }));
    let signing = TpmPublic::parse(&tpm.ak.ak_public(AK_ATTRIBUTES)).unwrap();
    assert_eq!(make_credential(&signing, &ak_name(), &[7; 32], &random), Err(CredentialError::NotAStorageKey));
}

#[test]
fn a_point_off_the_curve_is_no_key() {
    let mut public = SoftwareTpm::new().ek.ek_public(super::software_tpm::EK_ATTRIBUTES);
    *public.last_mut().unwrap() ^= 1;
    let ek = TpmPublic::parse(&public).unwrap();
    assert_eq!(make_credential(&ek, &ak_name(), &[7; 32], &SystemRandom::new()), Err(CredentialError::Key));
}

/// `TPMT_PUBLIC` of a P-384 EK with another name algorithm and AES key size.
fn ek_with(name_alg: u16, aes_bits: u16) -> TpmPublic {
    let mut public = data("swtpm/p384/ek.public");
    public[2..4].copy_from_slice(&name_alg.to_be_bytes());
    // type, nameAlg, attributes, then a policy of 48 bytes, AES and its key size.
    let at = 2 + 2 + 4 + 2 + 48 + 2;
    public[at..at + 2].copy_from_slice(&aes_bits.to_be_bytes());
    TpmPublic::parse(&public).unwrap()
}

#[test]
fn the_id_objects_of_high_templates_are_those_that_were_computed_apart() {
    let vectors: serde_json::Value = serde_json::from_slice(&data("makecredential-high.json")).unwrap();
    for (name, name_alg, aes_bits) in
        [("sha256_aes256", 0x0B, 256), ("sha384_aes256", 0x0C, 256), ("sha384_aes128", 0x0C, 128)]
    {
        let field = |field: &str| unhex(vectors[name][field].as_str().unwrap());
        let ek = ek_with(name_alg, aes_bits);
        let made = id_object(&ek, &field("ak_name_hex"), &field("credential_value_hex"), &field("seed_hex"));
        assert_eq!(made.unwrap(), field("id_object_hex"), "{name}");
    }
    let field = |field: &str| unhex(vectors["ecc_p384"][field].as_str().unwrap());
    let point = |x: &str, y: &str| [vec![4], field(x), field(y)].concat();
    let ephemeral = point("ephemeral_public_x_hex", "ephemeral_public_y_hex");
    let ek = point("ek_x_hex", "ek_y_hex");
    let seed = seed_from_agreement(HashAlg::Sha384, Curve::P384, &field("shared_x_hex"), &ephemeral, &ek);
    assert_eq!(seed.to_vec(), field("seed_hex"));
}

#[test]
fn every_ek_template_that_reads_gets_a_credential_and_the_others_are_refused_when_read() {
    let random = SystemRandom::new();
    for (bits, name_alg, aes_bits) in [(2048, 0x0B, 128), (3072, 0x0C, 256), (4096, 0x0C, 256), (2048, 0x0D, 256)] {
        let ek = TpmPublic::parse(&rsa_ek(bits, name_alg, aes_bits)).unwrap();
        let made = make_credential(&ek, &ak_name(), &[7; 32], &random).unwrap();
        assert_eq!(made.encrypted_secret.len(), usize::from(bits / 8));
        assert_eq!(made.id_object.len(), 2 + ek.name_alg().length() + 34);
    }
    for (what, bits, name_alg, aes_bits) in [
        ("1024 bits", 1024, 0x0B, 128),
        ("SHA-1", 2048, 0x04, 128),
        ("SM3", 2048, 0x12, 128),
        ("AES-192", 2048, 0x0B, 192),
    ] {
        assert!(TpmPublic::parse(&rsa_ek(bits, name_alg, aes_bits)).is_err(), "{what}");
    }
}

/// `TPMT_PUBLIC` of an RSA EK with some modulus.
fn rsa_ek(bits: u16, name_alg: u16, aes_bits: u16) -> Vec<u8> {
    let mut modulus = vec![0xC5; usize::from(bits / 8)];
    modulus[1] = 0x11;
    let mut public = super::software_tpm::rsa_ek_public(&modulus);
    public[2..4].copy_from_slice(&name_alg.to_be_bytes());
    public[12..14].copy_from_slice(&aes_bits.to_be_bytes());
    public
}

#[test]
fn only_the_secret_itself_activates() {
    let expected = activation_digest(&[7; 32]);
    assert_eq!(check_activation(&expected, &[7; 32]), Ok(()));
    for wrong in [&[7; 31][..], &[8; 32], &[7; 65], &[], expected.as_bytes()] {
        assert_eq!(check_activation(&expected, wrong).unwrap_err().reason, Reason::Activation);
    }
}

#[test]
fn the_padding_of_rsa_gets_what_the_random_source_gives_and_a_failure_is_kept() {
    let fill = |to: &mut [u8]| {
        to.fill(7);
        Ok(())
    };
    let mut source = RandomAdapter::new(&fill);
    let (mut one, mut other) = ([0; 3], [0; 5]);
    source.fill_bytes(&mut one);
    source.try_fill_bytes(&mut other).unwrap();
    assert_eq!((one, other), ([7; 3], [7; 5]));
    assert_eq!((source.next_u32(), source.next_u64()), (0x0707_0707, 0x0707_0707_0707_0707));
    assert!(!source.failed);
    let failing = std::cell::Cell::new(true);
    let fill = |_: &mut [u8]| if failing.take() { Err(ring::error::Unspecified) } else { Ok(()) };
    let mut source = RandomAdapter::new(&fill);
    source.fill_bytes(&mut one);
    assert!(source.failed);
    source.fill_bytes(&mut one);
    assert!(source.failed, "what comes after a failure does not undo it");
}
