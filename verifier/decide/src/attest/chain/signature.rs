//! Signatures on certificates, checked over the bytes that were signed (RFC 5280, 4.1.1; RFC 8017; RFC 5758).

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::der_parser::oid;
use x509_parser::oid_registry as registry;
use x509_parser::prelude::X509Certificate;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Why a certificate's signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignatureFault {
    /// Made with SHA-1 or MD5: it proves nothing.
    Weak,
    /// An algorithm or a curve that is not implemented here (its name).
    Unsupported(String),
    /// Not the issuer's signature over these bytes, or the certificate names two algorithms.
    Wrong,
}

type Verifier = &'static dyn VerificationAlgorithm;

/// Checks that `issuer`'s key signed `certificate`.
pub(super) fn check(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Result<(), SignatureFault> {
    // The algorithm that is signed decides; the one beside the signature must name the same.
    let (algorithm, outer) = (&certificate.tbs_certificate.signature, &certificate.signature_algorithm);
    if is_weak(algorithm) || is_weak(outer) {
        return Err(SignatureFault::Weak);
    }
    // RSASSA-PSS says in its parameters which hash it uses; elsewhere a NULL too many changes nothing.
    let pss = algorithm.algorithm == registry::OID_PKCS1_RSASSAPSS;
    let whole_bytes = certificate.signature_value.unused_bits == 0;
    if !whole_bytes || outer.algorithm != algorithm.algorithm || pss && outer != algorithm {
        return Err(SignatureFault::Wrong);
    }
    let verifier = verifier(algorithm, issuer.public_key())?;
    let key = UnparsedPublicKey::new(verifier, issuer.public_key().subject_public_key.data.as_ref());
    key.verify(certificate.tbs_certificate.as_ref(), certificate.signature_value.data.as_ref())
        .map_err(|_| SignatureFault::Wrong)
}

fn is_weak(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let weak = [
        registry::OID_PKCS1_SHA1WITHRSA,
        registry::OID_SHA1_WITH_RSA,
        oid!(1.2.840.113549.1.1.4), // md5WithRSAEncryption
        oid!(1.2.840.10045.4.1),    // ecdsa-with-SHA1
    ];
    // Without parameters RSASSA-PSS means SHA-1.
    let weak_pss = algorithm.algorithm == registry::OID_PKCS1_RSASSAPSS && pss_hash_bits(algorithm) == Some(160);
    weak.contains(&algorithm.algorithm) || weak_pss
}

/// Bits of the hash that RSASSA-PSS names in its parameters; `None` for one that is not known.
fn pss_hash_bits(algorithm: &AlgorithmIdentifier<'_>) -> Option<u16> {
    let Some(parameters) = algorithm.parameters.as_ref() else { return Some(160) };
    let parameters = RsaSsaPssParams::try_from(parameters).ok()?;
    let known = [
        (registry::OID_HASH_SHA1, 160),
        (registry::OID_NIST_HASH_SHA256, 256),
        (registry::OID_NIST_HASH_SHA384, 384),
        (registry::OID_NIST_HASH_SHA512, 512),
    ];
    known.iter().find(|(id, _)| id == parameters.hash_algorithm_oid()).map(|(_, bits)| *bits)
}

fn verifier(algorithm: &AlgorithmIdentifier<'_>, key: &SubjectPublicKeyInfo<'_>) -> Result<Verifier, SignatureFault> {
    let unsupported = || SignatureFault::Unsupported(name(algorithm));
    let is_rsa = [registry::OID_PKCS1_RSAENCRYPTION, registry::OID_PKCS1_RSASSAPSS].contains(&key.algorithm.algorithm);
    let id = &algorithm.algorithm;
    let rsa: Option<Verifier> = if *id == registry::OID_PKCS1_SHA256WITHRSA {
        Some(&RSA_PKCS1_2048_8192_SHA256)
    } else if *id == registry::OID_PKCS1_SHA384WITHRSA {
        Some(&RSA_PKCS1_2048_8192_SHA384)
    } else if *id == registry::OID_PKCS1_SHA512WITHRSA {
        Some(&RSA_PKCS1_2048_8192_SHA512)
    } else if *id == registry::OID_PKCS1_RSASSAPSS {
        Some(pss(algorithm).ok_or_else(unsupported)?)
    } else {
        None
    };
    match rsa {
        Some(verifier) if is_rsa => Ok(verifier),
        Some(_) => Err(SignatureFault::Wrong),
        None => ecdsa(algorithm, key),
    }
}

fn pss(algorithm: &AlgorithmIdentifier<'_>) -> Option<Verifier> {
    match pss_hash_bits(algorithm)? {
        256 => Some(&RSA_PSS_2048_8192_SHA256),
        384 => Some(&RSA_PSS_2048_8192_SHA384),
        512 => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn ecdsa(algorithm: &AlgorithmIdentifier<'_>, key: &SubjectPublicKeyInfo<'_>) -> Result<Verifier, SignatureFault> {
    let unsupported = |what: &str| Err(SignatureFault::Unsupported(format!("{} {what}", name(algorithm))));
    let sha256 = algorithm.algorithm == registry::OID_SIG_ECDSA_WITH_SHA256;
    if !sha256 && algorithm.algorithm != registry::OID_SIG_ECDSA_WITH_SHA384 {
        return unsupported("is not implemented");
    }
    if key.algorithm.algorithm != registry::OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(SignatureFault::Wrong);
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
    match (curve, sha256) {
        (Some(curve), true) if curve == registry::OID_EC_P256 => Ok(&ECDSA_P256_SHA256_ASN1),
        (Some(curve), false) if curve == registry::OID_EC_P256 => Ok(&ECDSA_P256_SHA384_ASN1),
        (Some(curve), true) if curve == registry::OID_NIST_EC_P384 => Ok(&ECDSA_P384_SHA256_ASN1),
        (Some(curve), false) if curve == registry::OID_NIST_EC_P384 => Ok(&ECDSA_P384_SHA384_ASN1),
        _ => unsupported("on this curve is not implemented"),
    }
}

/// What an explanation calls the algorithm.
pub(super) fn name(algorithm: &AlgorithmIdentifier<'_>) -> String {
    let names = [
        (registry::OID_PKCS1_SHA256WITHRSA, "rsassa-sha256"),
        (registry::OID_PKCS1_SHA384WITHRSA, "rsassa-sha384"),
        (registry::OID_PKCS1_SHA512WITHRSA, "rsassa-sha512"),
        (registry::OID_PKCS1_SHA1WITHRSA, "rsassa-sha1"),
        (registry::OID_PKCS1_RSASSAPSS, "rsapss"),
        (registry::OID_SIG_ECDSA_WITH_SHA256, "ecdsa-sha256"),
        (registry::OID_SIG_ECDSA_WITH_SHA384, "ecdsa-sha384"),
        (registry::OID_SIG_ECDSA_WITH_SHA512, "ecdsa-sha512"),
    ];
    let found = names.iter().find(|(id, _)| *id == algorithm.algorithm);
    found.map_or_else(|| algorithm.algorithm.to_id_string(), |(_, name)| (*name).to_owned())
}
