//! An authority for tests: it writes and signs certificates field by field, also such as no authority should.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// 2026-01-01 and 2036-01-01, as certificates write them.
pub(crate) const FROM: &str = "260101000000Z";
pub(crate) const UNTIL: &str = "360101000000Z";
/// A time between, in Unix seconds (2027-01-15).
pub(crate) const NOW_S: i64 = 1_800_000_000;

pub(crate) const KEY_AGREEMENT: u8 = 0x08;
pub(crate) const KEY_ENCIPHERMENT: u8 = 0x20;
pub(crate) const CERT_SIGN: u8 = 0x04;
pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
/// 2.23.133.8.1
pub(crate) const EK_USAGE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// 1.3.6.1.5.5.7.3.1, a TLS server
pub(crate) const SERVER_USAGE: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 3, 1];
/// 2.5.29.30
pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x1E];
/// 2.5.29.17
pub(crate) const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..=127 => vec![tag, u8::try_from(length).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    };
    [head, content.to_vec()].concat()
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv(0x06, bytes)
}

fn name(text: &str) -> Vec<u8> {
    let attribute = sequence(&[oid(&[0x55, 4, 3]), tlv(0x0C, text.as_bytes())]);
    sequence(&[tlv(0x31, &attribute)])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(1, &[0xFF]) } else { Vec::new() };
    sequence(&[oid(id), critical, tlv(4, value)])
}

/// SubjectPublicKeyInfo of a P-256 point.
pub(crate) fn p256_spki(point: &[u8]) -> Vec<u8> {
    let algorithm =
        sequence(&[oid(&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1]), oid(&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7])]);
    sequence(&[algorithm, tlv(3, &[&[0], point].concat())])
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) subject: &'static str,
    pub(crate) spki: Vec<u8>,
    pub(crate) valid: (&'static str, &'static str),
    /// Whether it is a CA, and with which path length; `None` leaves the extension out.
    pub(crate) ca: Option<(bool, Option<u8>)>,
    pub(crate) key_usage: Option<u8>,
    pub(crate) extended_usage: Option<&'static [u8]>,
    /// Further extensions: id, critical, value.
    pub(crate) more: Vec<(&'static [u8], bool, Vec<u8>)>,
}

impl Draft {
    /// An EK certificate.
    pub(crate) fn leaf(spki: Vec<u8>) -> Self {
        Self {
            subject: "",
            spki,
            valid: (FROM, UNTIL),
            ca: Some((false, None)),
            key_usage: Some(KEY_AGREEMENT),
            extended_usage: Some(EK_USAGE),
            more: Vec::new(),
        }
    }

    fn to_be_signed(&self, issuer: &str) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some((ca, path)) = self.ca {
            let ca = if ca { tlv(1, &[0xFF]) } else { Vec::new() };
            let path = path.map(|path| tlv(2, &[path])).unwrap_or_default();
            extensions.push(extension(&[0x55, 0x1D, 0x13], true, &sequence(&[ca, path])));
        }
        if let Some(usage) = self.key_usage {
            let unused = u8::try_from(usage.trailing_zeros()).unwrap();
            extensions.push(extension(&[0x55, 0x1D, 0x0F], true, &tlv(3, &[unused, usage])));
        }
        if let Some(usage) = self.extended_usage {
            extensions.push(extension(&[0x55, 0x1D, 0x25], false, &sequence(&[oid(usage)])));
        }
        for (id, critical, value) in &self.more {
            extensions.push(extension(id, *critical, value));
        }
        let time = |text: &str| tlv(if text.len() == 13 { 0x17 } else { 0x18 }, text.as_bytes());
        let subject = if self.subject.is_empty() { sequence(&[]) } else { name(self.subject) };
        sequence(&[
            tlv(0xA0, &tlv(2, &[2])),
            tlv(2, &[1]),
            signature_algorithm(),
            name(issuer),
            sequence(&[time(self.valid.0), time(self.valid.1)]),
            subject,
            self.spki.clone(),
            tlv(0xA3, &sequence(&extensions)),
        ])
    }
}

/// ecdsa-with-SHA256
fn signature_algorithm() -> Vec<u8> {
    sequence(&[oid(&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2])])
}

/// A key that certifies.
pub(crate) struct CertificateAuthority {
    pub(crate) name: &'static str,
    pair: EcdsaKeyPair,
}

impl CertificateAuthority {
    pub(crate) fn new(name: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { name, pair }
    }
    /// Its own certificate's content.
    pub(crate) fn draft(&self) -> Draft {
        Draft {
            subject: self.name,
            ca: Some((true, None)),
            key_usage: Some(CERT_SIGN),
            extended_usage: None,
            ..Draft::leaf(p256_spki(self.pair.public_key().as_ref()))
        }
    }
    pub(crate) fn sign(&self, draft: &Draft) -> Vec<u8> {
        let content = draft.to_be_signed(self.name);
        let signature = self.pair.sign(&SystemRandom::new(), &content).unwrap();
        sequence(&[content, signature_algorithm(), tlv(3, &[&[0], signature.as_ref()].concat())])
    }
    pub(crate) fn self_signed(&self) -> Vec<u8> {
        self.sign(&self.draft())
    }
}
