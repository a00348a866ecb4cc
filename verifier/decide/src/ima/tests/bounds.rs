//! Entries at their bounds: the last that reads and the first that does not, each alone.

use data_encoding::HEXLOWER;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;

use super::super::inspect::check_size;
use super::*;
use crate::attest::tests::authority::{CertificateAuthority, tlv};

const SHA256_LIST: ListForm = ListForm::BinarySha256;

fn one(data: &[u8], template: &str) -> Vec<u8> {
    binary_entry(Digest::of(&[data]).as_bytes(), template, data)
}

/// Whether a line of these words reads.
fn reads(line: &[u8]) -> bool {
    matches!(Entries::new(ListForm::Ascii, &[line, b"\n"].concat()).next(), Some(Ok(_)))
}

fn pcr_of(word: &str) -> Option<u32> {
    let line = format!("{word} {} ima-ng sha256:{} /a\n", "11".repeat(20), "22".repeat(32));
    Some(Entries::new(ListForm::Ascii, line.as_bytes()).next()?.ok()?.pcr)
}

#[test]
fn a_pcr_in_text_is_a_number_of_one_or_two_places_up_to_23() {
    for pcr in 0..=23 {
        assert_eq!(pcr_of(&pcr.to_string()), Some(pcr));
        assert_eq!(pcr_of(&format!("{pcr:>2}")), Some(pcr), "padded, as the kernel writes it");
        assert_eq!(pcr_of(&format!("{pcr:02}")), Some(pcr));
    }
    for bad in ["24", "29", "30", "010", "1a", "a", "-1", ""] {
        assert_eq!(pcr_of(bad), None, "{bad}");
    }
}

#[test]
fn a_template_hash_in_text_is_that_of_sha1_or_sha256() {
    for (bytes, expected) in [(19, false), (20, true), (21, false), (31, false), (32, true), (33, false), (64, false)] {
        let line = format!("10 {} ima-ng sha256:{} /a", "11".repeat(bytes), "22".repeat(32));
        assert_eq!(reads(line.as_bytes()), expected, "{bytes}");
    }
}

#[test]
fn a_path_in_text_has_one_to_4096_bytes_and_no_nul() {
    let ng = |path: &[u8]| {
        reads(&[format!("10 {} ima-ng sha256:{} ", "11".repeat(20), "22".repeat(32)).as_bytes(), path].concat())
    };
    assert!(ng(b"/") && ng(&[b'a'; 4096]));
    assert!(!ng(b"") && !ng(&[b'a'; 4097]) && !ng(b"/a\0b"));
    let legacy = |digest: usize, path: &[u8]| {
        reads(&[format!("10 {} ima {} ", "11".repeat(20), "22".repeat(digest)).as_bytes(), path].concat())
    };
    assert!(legacy(20, b"/") && legacy(20, &[b'a'; 255]));
    assert!(!legacy(19, b"/a") && !legacy(21, b"/a"));
    assert!(!legacy(20, b"") && !legacy(20, &[b'a'; 256]) && !legacy(20, b"/a\0b"));
}

#[test]
fn the_data_of_an_entry_are_bounded_and_those_of_a_buffer_less_so() {
    // 4 + 40 bytes of digest, 4 + 3 of path, 4 before the last field.
    let line = |template: &str, data_bytes: usize| {
        let last = HEXLOWER.encode(&vec![7; data_bytes - 55]);
        reads(format!("10 {} {template} sha256:{} /a {last}", "11".repeat(20), "22".repeat(32)).as_bytes())
    };
    for (template, max) in
        [("ima-sig", ENTRY_BYTES_MAX), ("ima-sigv2", ENTRY_BYTES_MAX), ("ima-buf", BUFFER_ENTRY_BYTES_MAX)]
    {
        assert!(line(template, max) && !line(template, max + 1), "{template}");
    }
    let binary = |template: &str, bytes: usize| {
        let list = one(&vec![7; bytes], template);
        matches!(Entries::new(SHA256_LIST, &list).next(), Some(Ok(_)))
    };
    for (template, max) in
        [("ima-ng", ENTRY_BYTES_MAX), ("other", ENTRY_BYTES_MAX), ("ima-buf", BUFFER_ENTRY_BYTES_MAX)]
    {
        assert!(binary(template, max) && !binary(template, max + 1), "{template}");
    }
}

#[test]
fn a_template_that_is_not_known_cannot_be_rebuilt_from_text() {
    assert!(!reads(format!("10 {} ima-x sha256:{} /a", "11".repeat(20), "22".repeat(32)).as_bytes()));
}

#[test]
fn a_line_without_an_end_is_waited_for_up_to_its_bound() {
    let line = vec![b'x'; LINE_BYTES_MAX];
    assert!(Entries::new(ListForm::Ascii, &line[1..]).next().is_none());
    assert!(matches!(Entries::new(ListForm::Ascii, &line).next(), Some(Err(_))));
}

#[test]
fn the_form_is_told_by_where_the_template_name_stands() {
    let (sha1, sha256) = (binary_entry(&[7; 20], "ima-ng", b""), binary_entry(&[7; 32], "ima-ng", b""));
    assert_eq!((ListForm::detect(&sha1), ListForm::detect(&sha256)), (ListForm::BinarySha1, SHA256_LIST));
    assert_eq!(ListForm::detect(&[10, 0, 0, 0]), ListForm::BinarySha1, "no name anywhere");
    assert_eq!(ListForm::detect(b"10 0"), ListForm::Ascii);
    // Bytes that could be both are the older form.
    let both = [&sha1[..34], &[0, 0, 1, 0, 0, 0, b'x']].concat();
    assert_eq!(ListForm::detect(&both), ListForm::BinarySha1);
    // What stands where SHA-1's name would is no name: empty in a violation, a control character, a length beyond all.
    for at_24 in [&[0; 4][..], &[1, 0, 0, 0, 1], &[0, 1, 0, 0]] {
        let mut list = sha256.clone();
        list[24..24 + at_24.len()].copy_from_slice(at_24);
        assert_eq!(ListForm::detect(&list), SHA256_LIST, "{at_24:?}");
    }
}

#[test]
fn a_file_digest_has_the_length_of_its_algorithm() {
    let fault = |name: &[u8], bytes: usize| {
        let digest = field(&[name, b"\0", &vec![7; bytes]].concat());
        findings_of(&one(&[digest, field(b"/a\0")].concat(), "ima-ng"), SHA256_LIST, &allowing(vec![]))
    };
    for (name, length) in [("md5", 16), ("sha1", 20), ("sha224", 28), ("sha256", 32), ("sha384", 48), ("sha512", 64)] {
        let expected = if name == "sha256" { "ima-unknown-file" } else { "ima-algorithm" };
        assert_eq!(fault(format!("{name}:").as_bytes(), length), [expected], "{name}");
        assert_eq!(fault(format!("verity:{name}:").as_bytes(), length), ["ima-algorithm"], "verity:{name}");
        for wrong in [length - 1, length + 1] {
            assert_eq!(fault(format!("{name}:").as_bytes(), wrong), ["ima-malformed"], "{name} of {wrong} bytes");
            assert_eq!(fault(format!("verity:{name}:").as_bytes(), wrong), ["ima-malformed"], "verity:{name}");
        }
    }
    assert_eq!(fault(b"streebog256:", 32), ["ima-algorithm"], "a length that we do not know");
    for (name, bytes) in [(&b":"[..], 32), (b"sm3:", 0), (b":", 0), (b"sha256", 32), (&[b'x'; 96], 32)] {
        assert_eq!(fault(name, bytes), ["ima-malformed"], "{name:?}");
    }
}

#[test]
fn only_the_second_versions_name_a_kind_of_digest() {
    let reference = allowing(vec![(b"/a".to_vec(), Digest::new([7; 32]))]);
    let data = [field(&[&b"ima:sha256:\0"[..], &[7; 32]].concat()), field(b"/a\0")].concat();
    assert_eq!(findings_of(&one(&data, "ima-ng"), SHA256_LIST, &reference), ["ima-algorithm"]);
    assert!(findings_of(&one(&data, "ima-ngv2"), SHA256_LIST, &reference).is_empty());
}

#[test]
fn files_signed_over_longer_digests_pass_by_their_signature() {
    let signer = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let draft = CertificateAuthority::new("x").draft();
    let spki =
        [&draft.spki[..draft.spki.len() - 65], signer.verifying_key().to_encoded_point(false).as_bytes()].concat();
    let key = SignerKey::from_spki(&spki).unwrap();
    assert_eq!(key.spki(), spki);
    let reference =
        Reference::new(AllowList::new(vec![]).unwrap(), SignerKeys::new(vec![key.clone()]).unwrap(), vec![], vec![])
            .unwrap();
    for (name, number, bytes) in [("sha256", 4, 32), ("sha384", 5, 48), ("sha512", 6, 64)] {
        let digest = vec![7; bytes];
        let signature: p256::ecdsa::Signature = signer.sign_prehash(&digest).unwrap();
        let signature = signature.to_der();
        let length = u16::try_from(signature.as_bytes().len()).unwrap().to_be_bytes();
        let header = [&[3, 2, number][..], &key.id(), &length, signature.as_bytes()].concat();
        let digest = field(&[format!("{name}:\0").as_bytes(), &digest].concat());
        let list = one(&[digest, field(b"/a\0"), field(&header)].concat(), "ima-sig");
        assert!(findings_of(&list, SHA256_LIST, &reference).is_empty(), "{name}");
    }
}

#[test]
fn the_key_of_a_certificate_has_the_id_that_the_certificate_gives_it() {
    let authority = CertificateAuthority::new("signer");
    let pem = |der: &[u8]| {
        let body = data_encoding::BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let plain = SignerKey::from_pem(pem(&authority.self_signed()).as_bytes()).unwrap();
    let mut draft = authority.draft();
    assert_eq!((plain.spki(), plain.id()), (&draft.spki[..], SignerKey::from_spki(&draft.spki).unwrap().id()));
    // 2.5.29.14, the subject key identifier.
    draft.more.push((&[0x55, 0x1D, 0x0E], false, tlv(4, &[9, 9, 1, 2, 3, 4])));
    let named = SignerKey::from_pem(pem(&authority.sign(&draft)).as_bytes()).unwrap();
    assert_eq!((named.spki(), named.id()), (&draft.spki[..], [1, 2, 3, 4]));
}

#[test]
fn an_increment_at_its_bound_is_read() {
    let reference = allowing(vec![]);
    let bytes = vec![0; INCREMENT_BYTES_MAX];
    let increment = Increment { reset_count: 1, form: SHA256_LIST, offset_bytes: 0, bytes: &bytes, has_more: true };
    let start = Aggregate::start(1, SHA256_LIST, reference.digest());
    let folded = fold(&start, increment, &Digest::new([3; 32]), &reference);
    assert_eq!((folded.outcome, folded.state.entries()), (Outcome::Behind, INCREMENT_BYTES_MAX as u64 / 44));
}

#[test]
fn the_bounds_are_64_kib_an_entry_1_mib_a_buffer_4_mib_an_increment_and_512_mib_a_list() {
    assert_eq!((ENTRY_BYTES_MAX, BUFFER_ENTRY_BYTES_MAX), (65_536, 1_048_576));
    assert_eq!(LINE_BYTES_MAX, 2_098_176, "a buffer in hexadecimal, and what stands before it");
    assert_eq!((INCREMENT_BYTES_MAX, LIST_BYTES_MAX), (4_194_304, 536_870_912));
}

#[test]
fn a_list_at_its_bound_is_inspected_and_what_is_not_told_is_counted() {
    assert_eq!(check_size(LIST_BYTES_MAX), Ok(()));
    assert_eq!(check_size(LIST_BYTES_MAX + 1), Err(InspectError::TooLarge { bytes: LIST_BYTES_MAX + 1 }));
    let list = binary_entry(&[1; 32], "ima-ng", b"").repeat(FINDINGS_MAX + 3);
    let report = serde_json::to_value(inspect(&list).unwrap()).unwrap();
    assert_eq!((report["problems"].as_array().unwrap().len(), &report["problems_untold"]), (FINDINGS_MAX, &3.into()));
}

#[test]
fn findings_of_one_appraisal_are_not_counted_in_the_next() {
    let w = world(&[b"/a", b"/b"]);
    let reference = allowing(vec![]);
    let mut state = Aggregate::start(1, SHA256_LIST, reference.digest());
    let mut findings = Findings::default();
    for list in [ng(b"/a"), ng(b"/b")] {
        appraise(&mut Entries::new(SHA256_LIST, &list), None, &reference, &mut state, &mut findings).unwrap();
    }
    assert_eq!((state.findings(), findings.count(), state.pcr10_sha256()), (2, 2, w.pcrs[2]));
}
