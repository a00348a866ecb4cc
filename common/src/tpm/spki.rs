//! SubjectPublicKeyInfo in DER: the one encoding of a key that host ids and certificates share.

use super::{Curve, KeyParameters};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// `SEQUENCE { OID 1.2.840.113549.1.1.1 (rsaEncryption), NULL }` (RFC 3279).
const RSA: &[u8] = &[0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `SEQUENCE { OID 1.2.840.10045.2.1 (id-ecPublicKey), OID 1.2.840.10045.3.1.7 (secp256r1) }` (RFC 5480).
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03,
    0x01, 0x07,
];
/// `SEQUENCE { OID 1.2.840.10045.2.1 (id-ecPublicKey), OID 1.3.132.0.34 (secp384r1) }` (RFC 5480).
const P384: &[u8] =
    &[0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];

/// Tag, length and content.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let digits = length.to_be_bytes();
    let digits = &digits[digits.iter().take_while(|digit| **digit == 0).count()..];
    match (length, u8::try_from(length), u8::try_from(digits.len())) {
        (0..=127, Ok(short), _) => out.push(short),
        // A length has at most eight digits, so the count fits beside the flag.
        (_, _, count) => {
            out.push(0x80 | count.unwrap_or(8));
            out.extend_from_slice(digits);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A non-negative integer: no leading zeros but the one that keeps it positive.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros.min(bytes.len().saturating_sub(1))..];
    match digits.first() {
        Some(first) if first & 0x80 == 0 => tlv(INTEGER, &[digits]),
        _ => tlv(INTEGER, &[&[0], digits]),
    }
}

/// `RSAPublicKey` (RFC 8017, A.1.1).
pub(super) fn rsa_public_key(modulus: &[u8], exponent: u32) -> Vec<u8> {
    tlv(SEQUENCE, &[&unsigned(modulus), &unsigned(&exponent.to_be_bytes())])
}

/// The key's SubjectPublicKeyInfo.
pub(super) fn encode(key: &KeyParameters) -> Vec<u8> {
    let (algorithm, key) = match key {
        KeyParameters::Rsa { exponent, modulus, .. } => (RSA, rsa_public_key(modulus, *exponent)),
        KeyParameters::Ecc { curve: Curve::P256, point } => (P256, point.clone()),
        KeyParameters::Ecc { curve: Curve::P384, point } => (P384, point.clone()),
    };
    tlv(SEQUENCE, &[algorithm, &tlv(BIT_STRING, &[&[0], &key])])
}
