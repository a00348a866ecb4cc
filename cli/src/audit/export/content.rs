//! What an export's files hold: the quote in the forms of other people's tools.

use quotary_common::evidence::{Evidence, PcrValue};
use quotary_common::id::Digest;
use quotary_common::tpm::{Quote, Scheme, Signature, TpmPublic};
use quotary_decide::inspect::{InspectQuote, QuoteReport, quote, serialize_pcrs};

use super::find::Found;
use crate::exit::{Code, Failure, with_causes};

const CHECK: &str = include_str!("check.sh.in");
const README: &str = include_str!("README.txt.in");

/// A file of the export.
pub(super) type NamedFile = (&'static str, Vec<u8>);

/// The files, and what the verifier's own code says of them.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) files: Vec<NamedFile>,
    pub(super) report: QuoteReport,
}

/// Makes them of an evidence and the leaves that it rests on.
pub(super) fn content(bytes: &[u8], found: &Found) -> Result<Content, Failure> {
    let evidence = Evidence::from_bytes(bytes).map_err(|error| unreadable("the evidence", &error))?;
    let attest = Quote::parse(&evidence.attest).map_err(|error| unreadable("the quote", &error))?;
    let signature = Signature::parse(&evidence.signature).map_err(|error| unreadable("the signature", &error))?;
    let public = &found.enrolled.ak_public;
    let ak = TpmPublic::parse(public).map_err(|error| unreadable("the attestation key", &error))?;
    let values = ordered(&evidence, &attest)?;
    let serialized = serialize_pcrs(&values, &attest.selection).ok_or_else(unfitting)?;
    let report = quote(&InspectQuote {
        ak: public,
        message: &evidence.attest,
        signature: &evidence.signature,
        pcrs: Some(&serialized),
        nonce: Some(&evidence.nonce),
        envelope: Some(&evidence.envelope),
    })
    .map_err(|error| unreadable("the quote", &error))?;
    let mut files: Vec<NamedFile> = vec![
        ("ak.pem", pem(&ak.spki_der())),
        ("ak.tpm2b", sized(public)),
        ("check.sh", filled(CHECK, found, &evidence, &attest, &signature).into_bytes()),
        ("envelope.cbor", evidence.envelope.clone()),
        ("evidence.cbor", bytes.to_vec()),
        ("extra-data.hex", line(attest.extra_data)),
        ("nonce.bin", evidence.nonce.to_vec()),
        ("nonce.hex", line(&evidence.nonce)),
        ("quote.msg", evidence.attest.clone()),
        ("quote.pcrs", serialized),
        ("quote.sig", evidence.signature.clone()),
        ("quote.values", values.into_iter().flat_map(|value| value.value).collect()),
        ("README.txt", filled(README, found, &evidence, &attest, &signature).into_bytes()),
        ("sig.der", plain_signature(&signature)),
    ];
    files.extend(evidence.boot_log.as_deref().map(|log| ("boot.log", log.to_vec())));
    files.extend(evidence.ima.as_ref().map(|ima| ("ima.part", ima.bytes.to_vec())));
    files.extend(evidence.measure_log.as_deref().map(|log| ("measure.log", log.to_vec())));
    let sums: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(&[bytes]).hex())).collect();
    files.push(("SHA256SUMS", sums.into_bytes()));
    Ok(Content { files, report })
}

fn unreadable(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Unreadable, format!("{what} does not read: {}", with_causes(error)))
}

fn unfitting() -> Failure {
    Failure::new(Code::Refused, "the PCR values of the evidence are not those of the signed selection")
}

/// The values in the order of the signed selection.
fn ordered(evidence: &Evidence, attest: &Quote<'_>) -> Result<Vec<PcrValue>, Failure> {
    let find = |(hash_alg, index)| {
        evidence.pcr_values.iter().find(|value| value.hash_alg == hash_alg && value.index == index).cloned()
    };
    attest.selection.iter().map(find).collect::<Option<_>>().ok_or_else(unfitting)
}

/// `TPM2B_PUBLIC` of a `TPMT_PUBLIC`, which was bounded when it was parsed.
fn sized(public: &[u8]) -> Vec<u8> {
    let length = u16::try_from(public.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), public].concat()
}

fn line(bytes: &[u8]) -> Vec<u8> {
    (data_encoding::HEXLOWER.encode(bytes) + "\n").into_bytes()
}

/// A SubjectPublicKeyInfo in PEM (RFC 7468).
fn pem(spki: &[u8]) -> Vec<u8> {
    let text = data_encoding::BASE64.encode(spki);
    let lines: String = text.as_bytes().chunks(64).map(|part| String::from_utf8_lossy(part) + "\n").collect();
    format!("-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----\n").into_bytes()
}

/// The signature without TPM structures: as PKCS #1 has it, or `Ecdsa-Sig-Value` (RFC 3279).
fn plain_signature(signature: &Signature<'_>) -> Vec<u8> {
    match signature {
        Signature::RsaSsa { bytes, .. } | Signature::RsaPss { bytes, .. } => bytes.to_vec(),
        Signature::Ecdsa { r, s, .. } => tlv(0x30, &[unsigned(r), unsigned(s)].concat()),
    }
}

/// Tag, length, content; a coordinate has at most 48 bytes, so the length of two takes one byte.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap_or(0x7F)], content].concat()
}

fn unsigned(digits: &[u8]) -> Vec<u8> {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = &digits[zeros..];
    match digits.first() {
        Some(first) if *first < 0x80 => tlv(2, digits),
        _ => tlv(2, &[&[0], digits].concat()),
    }
}

/// A template with this quote's words. Every one of them is hexadecimal, a number, or a name of our own.
fn filled(template: &str, found: &Found, evidence: &Evidence, attest: &Quote<'_>, signature: &Signature<'_>) -> String {
    let (scheme, hash, padding) = match signature.scheme() {
        Scheme::Ecdsa(hash) => ("ecdsa", hash.name(), ""),
        Scheme::RsaPss(hash) => ("rsapss", hash.name(), " -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
        Scheme::RsaSsa(hash) => ("rsassa", hash.name(), ""),
        Scheme::Null | Scheme::Other(_) => ("null", "sha256", ""),
    };
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let words = [
        ("@HOST@", found.verdict.host.hex()),
        ("@SEQUENCE@", found.verdict.sequence.to_string()),
        ("@EVIDENCE@", found.verdict.evidence.hex()),
        ("@VERDICT_LEAF@", found.verdict_leaf.to_string()),
        ("@ENROLLED_LEAF@", found.enrolled_leaf.to_string()),
        ("@SCHEME@", scheme.to_owned()),
        ("@HASH@", hash.to_owned()),
        ("@PADDING@", padding.to_owned()),
        ("@EXTRA_DATA@", hex(attest.extra_data)),
        ("@NONCE@", hex(&evidence.nonce)),
        ("@PCRS@", attest.selection.to_string()),
    ];
    words.iter().fold(template.to_owned(), |text, (name, word)| text.replace(name, word))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use quotary_common::tpm::HashAlg;

    #[test]
    fn coordinates_become_positive_integers_without_leading_zeros() {
        let signature = Signature::Ecdsa { hash: HashAlg::Sha256, r: &[0, 0, 0x80, 1], s: &[0, 7] };
        assert_eq!(plain_signature(&signature), [0x30, 8, 2, 3, 0, 0x80, 1, 2, 1, 7]);
        let zero = Signature::Ecdsa { hash: HashAlg::Sha256, r: &[0], s: &[0x7F; 48] };
        assert_eq!(plain_signature(&zero)[..5], [0x30, 53, 2, 1, 0]);
        let rsa = Signature::RsaSsa { hash: HashAlg::Sha256, bytes: &[9; 256] };
        assert_eq!(plain_signature(&rsa), [9; 256]);
    }

    #[test]
    fn pem_has_lines_of_64_characters() {
        let text = String::from_utf8(pem(&[0; 91])).unwrap();
        let lines: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lines, [26, 64, 60, 24]);
        assert_eq!(sized(&[1, 2, 3]), [0, 3, 1, 2, 3]);
    }
}
