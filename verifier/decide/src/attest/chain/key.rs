//! Keys as certificates and PEM files write them (RFC 3279, RFC 5480), read into the TPM's terms.

use quotary_common::tpm::{Curve, KeyParameters};
use x509_parser::der_parser::oid;
use x509_parser::oid_registry as registry;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Reads a SubjectPublicKeyInfo in DER, all of it.
pub(crate) fn from_spki_der(der: &[u8]) -> Result<KeyParameters, &'static str> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => from_spki(&spki),
        Ok(_) => Err("bytes follow the key"),
        Err(_) => Err("not a SubjectPublicKeyInfo"),
    }
}

/// The key of a SubjectPublicKeyInfo: RSA of 2048, 3072 or 4096 bits, or a point on P-256 or P-384. Old certificates
/// name RSA keys by the object identifier of RSAES-OAEP.
pub(crate) fn from_spki(spki: &SubjectPublicKeyInfo<'_>) -> Result<KeyParameters, &'static str> {
    let algorithm = &spki.algorithm.algorithm;
    let content = spki.subject_public_key.data.as_ref();
    if [registry::OID_PKCS1_RSAENCRYPTION, oid!(1.2.840.113549.1.1.7)].contains(algorithm) {
        return rsa(content);
    }
    if *algorithm != registry::OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err("neither an RSA nor an elliptic-curve key");
    }
    let named = spki.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
    let curve = match named {
        Some(named) if named == registry::OID_EC_P256 => Curve::P256,
        Some(named) if named == registry::OID_NIST_EC_P384 => Curve::P384,
        _ => return Err("on a curve that is not accepted: P-256 and P-384 are"),
    };
    match content {
        [4, coordinates @ ..] if coordinates.len() == 2 * curve.coordinate_bytes() => {
            Ok(KeyParameters::Ecc { curve, point: content.to_vec() })
        }
        _ => Err("not an uncompressed point of its curve"),
    }
}

fn rsa(content: &[u8]) -> Result<KeyParameters, &'static str> {
    let Ok(([], key)) = RSAPublicKey::from_der(content) else { return Err("not an RSA public key") };
    let modulus = without_zeros(key.modulus);
    let bits = match modulus.len() {
        256 => 2048,
        384 => 3072,
        512 => 4096,
        _ => return Err("RSA of a size that is not accepted: 2048, 3072 and 4096 bits are"),
    };
    if modulus.first().is_none_or(|first| first & 0x80 == 0) || modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err("an RSA modulus that is too short or even");
    }
    let exponent = without_zeros(key.exponent);
    if exponent.len() > 4 {
        return Err("an RSA exponent that no TPM has");
    }
    let exponent = exponent.iter().fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
    Ok(KeyParameters::Rsa { bits, exponent, modulus: modulus.to_vec() })
}

/// What an explanation calls the key.
pub(super) fn name(spki: &SubjectPublicKeyInfo<'_>) -> String {
    match from_spki(spki) {
        Ok(KeyParameters::Rsa { bits, .. }) => format!("rsa-{bits}"),
        Ok(KeyParameters::Ecc { curve: Curve::P256, .. }) => "ecc-p256".to_owned(),
        Ok(KeyParameters::Ecc { curve: Curve::P384, .. }) => "ecc-p384".to_owned(),
        Err(_) => "other".to_owned(),
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}
