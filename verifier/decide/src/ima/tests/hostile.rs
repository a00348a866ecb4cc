//! What a hostile or broken host may put in a list (A24 of the adversarial table).

use p256::ecdsa::signature::hazmat::PrehashSigner as _;

use super::*;

const SHA256_LIST: ListForm = ListForm::BinarySha256;

fn one(data: &[u8], template: &str) -> Vec<u8> {
    binary_entry(Digest::of(&[data]).as_bytes(), template, data)
}

/// `d-ng|n-ng|sig`.
fn sig_data(path: &[u8], signature: &[u8]) -> Vec<u8> {
    [ng_data(path, &digest_of(path)), field(signature)].concat()
}

#[test]
fn a_violation_extends_ones_and_is_a_finding() {
    let data = ng_data(b"/var/log/x", &[0; 32]);
    let list = [ng(b"/a"), binary_entry(&[0; 32], "ima-ng", &data), ng(b"/b")].concat();
    let good = [ng_data(b"/a", &digest_of(b"/a")), ng_data(b"/b", &digest_of(b"/b"))];
    let quoted = pcr10(&[Some(&good[0]), None, Some(&good[1])]);
    let reference = world(&[b"/a", b"/b"]).reference;
    let start = Aggregate::start(1, SHA256_LIST, reference.digest());
    let increment = Increment { reset_count: 1, form: SHA256_LIST, offset_bytes: 0, bytes: &list, has_more: false };
    let folded = fold(&start, increment, &quoted, &reference);
    assert_eq!((folded.outcome, folded.state.violations()), (Outcome::Proven, 1));
    assert_eq!(codes(&folded.findings), ["ima-violation"]);
    assert_eq!((folded.findings.told()[0].entry, &*folded.findings.told()[0].detail), (1, "/var/log/x"));
    let excluding =
        Reference::new(reference.allowed().clone(), SignerKeys::default(), vec![b"/var/log/".to_vec()], vec![]);
    assert!(findings_of(&list, SHA256_LIST, &excluding.unwrap()).is_empty());
    let report = inspect(&list).unwrap();
    assert_eq!((report.violations, report.pcr10.sha256), (1, quoted.hex()));
}

#[test]
fn a_sha1_violation_is_one_too() {
    let list =
        b"10 0000000000000000000000000000000000000000 ima-ng sha1:0000000000000000000000000000000000000000 /run/x\n";
    assert_eq!(findings_of(list, ListForm::Ascii, &allowing(vec![])), ["ima-violation"]);
    let report = inspect(list).unwrap();
    assert_eq!(report.violations, 1);
    // SHA-1 of 20 zero bytes and 20 ones.
    assert_eq!(report.pcr10.sha1, "bac37b84f007d0238af95af707cac8d61254870e");
}

#[test]
fn a_template_hash_of_other_data_or_another_algorithm_is_a_finding() {
    let data = ng_data(b"/a", &digest_of(b"/a"));
    let reference = world(&[b"/a"]).reference;
    let other = Digest::of(&[b"other"]);
    assert_eq!(
        findings_of(&binary_entry(other.as_bytes(), "ima-ng", &data), SHA256_LIST, &reference),
        ["ima-template-hash"]
    );
    // A SHA-1 list whose hash is a SHA-256 cut short.
    let sha256 = Digest::of(&[&data]);
    let cut = &sha256.as_bytes()[..20];
    assert_eq!(
        findings_of(&binary_entry(cut, "ima-ng", &data), ListForm::BinarySha1, &reference),
        ["ima-template-hash"]
    );
    let sha1 = boot::sha1(&data);
    assert!(findings_of(&binary_entry(&sha1, "ima-ng", &data), ListForm::BinarySha1, &reference).is_empty());
}

#[test]
fn a_changed_entry_of_a_sha1_list_is_named_when_the_list_does_not_replay() {
    let entry = |path: &[u8], hashed: &[u8]| {
        let hash = boot::sha1(&ng_data(hashed, &digest_of(hashed)));
        binary_entry(&hash, "ima-ng", &ng_data(path, &digest_of(path)))
    };
    let w = world(&[b"/a", b"/evil", b"/b"]);
    let good = world(&[b"/a", b"/b", b"/b"]);
    let list = [entry(b"/a", b"/a"), entry(b"/b", b"/evil"), entry(b"/b", b"/b")].concat();
    let form = ListForm::BinarySha1;
    let increment = Increment { reset_count: 1, form, offset_bytes: 0, bytes: &list, has_more: false };
    let start = Aggregate::start(1, form, w.reference.digest());
    let folded = fold(&start, increment, &w.pcrs[3], &w.reference);
    assert_eq!(
        (folded.outcome, codes(&folded.findings)),
        (Outcome::Refused, vec!["ima-pcr-mismatch", "ima-template-hash"])
    );
    assert_eq!((folded.findings.told()[1].entry, &*folded.findings.told()[1].detail), (1, "/b"));
    // Where the data replay to the quoted SHA-256 PCR, a wrong SHA-1 beside them says nothing.
    let folded = fold(&start, increment, &good.pcrs[3], &w.reference);
    assert_eq!((folded.outcome, folded.findings.count()), (Outcome::Proven, 0));
}

#[test]
fn a_file_digest_that_is_not_sha256_is_never_allowed() {
    for (name, length) in [("sha1", 20), ("md5", 16), ("sha512", 64), ("sha384", 48), ("verity:sha256", 32)] {
        let digest = field(&[format!("{name}:\0").as_bytes(), &vec![7; length]].concat());
        let reference = allowing(vec![(b"/a".to_vec(), Digest::new([7; 32]))]);
        let list = one(&[digest, field(b"/a\0")].concat(), "ima-ng");
        assert_eq!(findings_of(&list, SHA256_LIST, &reference), ["ima-algorithm"], "{name}");
    }
}

#[test]
fn the_second_versions_tell_a_file_from_an_fs_verity_digest() {
    let reference = allowing(vec![(b"/a".to_vec(), Digest::new([7; 32]))]);
    for (kind, expected) in [("ima", &[][..]), ("verity", &["ima-algorithm"])] {
        let digest = field(&[format!("{kind}:sha256:\0").as_bytes(), &[7; 32]].concat());
        let ng = [digest.clone(), field(b"/a\0")].concat();
        let sig = [digest, field(b"/a\0"), field(b"")].concat();
        let list = [one(&ng, "ima-ngv2"), one(&sig, "ima-sigv2")].concat();
        assert_eq!(findings_of(&list, SHA256_LIST, &reference), expected.repeat(2));
        let hex = "07".repeat(32);
        let ascii =
            format!("10 {} ima-ngv2 {kind}:sha256:{hex} /a\n", data_encoding::HEXLOWER.encode(&boot::sha1(&ng)));
        assert_eq!(findings_of(ascii.as_bytes(), ListForm::Ascii, &reference), expected);
    }
}

#[test]
fn paths_with_spaces_newlines_and_other_bytes_are_told_apart_in_the_binary_form() {
    let paths: [&[u8]; 6] = [b"/a b", b"/a\n10 00 ima-ng x", b"/a", b"/\xff\xfe", b"/a ", b"/ a\t"];
    let w = world(&paths);
    assert!(findings_of(&w.list, SHA256_LIST, &w.reference).is_empty());
    let unknown = world(&[b"/other"]).reference;
    assert_eq!(findings_of(&w.list, SHA256_LIST, &unknown), ["ima-unknown-file"; 6]);
    for path in [&b"/a\0b"[..], b"/a\0", b"", b"\0"] {
        let data = ng_data(path, &[7; 32]);
        assert_eq!(findings_of(&one(&data, "ima-ng"), SHA256_LIST, &w.reference), ["ima-malformed"], "{path:?}");
    }
    let unterminated = [field(&[b"sha256:\0", &[7; 32][..]].concat()), field(b"/a")].concat();
    assert_eq!(findings_of(&one(&unterminated, "ima-ng"), SHA256_LIST, &w.reference), ["ima-malformed"]);
}

#[test]
fn a_path_in_text_may_have_spaces_and_a_newline_breaks_its_line_only_to_be_refused() {
    let line = |path: &[u8], template: &str, data: &[u8], end: &str| {
        let hash = data_encoding::HEXLOWER.encode(&boot::sha1(data));
        let digest = data_encoding::HEXLOWER.encode(&digest_of(path));
        [format!("10 {hash} {template} sha256:{digest} ").as_bytes(), path, end.as_bytes(), b"\n"].concat()
    };
    let path = b"/opt/a b c";
    let reference = world(&[path]).reference;
    let ng_line = line(path, "ima-ng", &ng_data(path, &digest_of(path)), "");
    let unsigned = line(path, "ima-sig", &sig_data(path, b""), " ");
    let signed = line(path, "ima-sig", &sig_data(path, b"\x03\x02\x04abcd\0\x01z"), " 0302046162636400017a");
    assert!(findings_of(&[ng_line, unsigned, signed].concat(), ListForm::Ascii, &reference).is_empty());
    let path = b"/opt/x\n10 00";
    let mut state = Aggregate::start(1, ListForm::Ascii, reference.digest());
    let mut findings = Findings::default();
    let broken = line(path, "ima-ng", &ng_data(path, &digest_of(path)), "");
    let mut entries = Entries::new(ListForm::Ascii, &broken);
    assert!(appraise(&mut entries, None, &reference, &mut state, &mut findings).is_err());
    assert_eq!(codes(&findings), ["ima-template-hash"]);
}

#[test]
fn what_is_shown_of_a_path_has_no_control_character_and_an_end() {
    let path = [&b"/\x1b[31m\n\xff\xe2\x80\xae"[..], &[b'a'; 4000]].concat();
    let mut state = Aggregate::start(1, SHA256_LIST, Digest::new([0; 32]));
    let mut findings = Findings::default();
    let list = ng(&path);
    appraise(&mut Entries::new(SHA256_LIST, &list), None, &allowing(vec![]), &mut state, &mut findings).unwrap();
    let detail = &findings.told()[0].detail;
    assert!(detail.starts_with("/\\u{1b}[31m\\n\u{fffd}\\u{202e}aaa") && detail.ends_with('…'), "{detail}");
    assert!(detail.chars().count() < 300);
}

#[test]
fn claimed_lengths_beyond_the_bounds_are_refused_before_their_bytes_come() {
    let head = |pcr: u32, name: &[u8], length: u32| {
        [&pcr.to_le_bytes()[..], &[1; 32], &field(name), &length.to_le_bytes()].concat()
    };
    for bad in [
        head(24, b"ima-ng", 10),
        head(10, &[b'x'; 256], 10),
        head(10, b"ima-ng", 64 * 1024 + 1),
        head(10, b"ima-buf", 1024 * 1024 + 1),
        head(10, b"ima-ng", u32::MAX),
    ] {
        assert!(matches!(Entries::new(SHA256_LIST, &bad).next(), Some(Err(_))));
    }
    for cut in [head(23, b"ima-ng", 64 * 1024), head(10, b"ima-buf", 1024 * 1024)] {
        assert!(Entries::new(SHA256_LIST, &cut).next().is_none(), "waits for the rest");
    }
}

#[test]
fn nothing_is_read_after_an_entry_that_is_malformed() {
    let list = [ng(b"/a"), vec![0xff; 40], ng(b"/b")].concat();
    let mut entries = Entries::new(SHA256_LIST, &list);
    assert!(matches!(entries.next(), Some(Ok(_))));
    assert_eq!(entries.next().unwrap().unwrap_err().offset_bytes, ng(b"/a").len());
    assert!(entries.next().is_none());
    let w = world(&[b"/a"]);
    let increment = Increment { reset_count: 1, form: SHA256_LIST, offset_bytes: 0, bytes: &list, has_more: true };
    let start = Aggregate::start(1, SHA256_LIST, w.reference.digest());
    let folded = fold(&start, increment, &Digest::new([3; 32]), &w.reference);
    assert_eq!((folded.outcome, codes(&folded.findings)), (Outcome::Refused, vec!["ima-malformed"]));
    assert_eq!(folded.state, start);
}

#[test]
fn fields_must_fill_the_data_of_a_known_template() {
    let data = ng_data(b"/a", &digest_of(b"/a"));
    let reference = world(&[b"/a"]).reference;
    for (data, template) in [
        ([&data[..], &field(b"")].concat(), "ima-ng"),
        (data.clone(), "ima-sig"),
        (data.clone(), "ima-buf"),
        (data[..data.len() - 1].to_vec(), "ima-ng"),
        (sig_data(b"/a", b""), "ima-modsig"),
        (data.clone(), "ima-ngv3"),
        (vec![], "ima-ng"),
        (vec![0xff; 4], "ima-ng"),
    ] {
        assert_eq!(findings_of(&one(&data, template), SHA256_LIST, &reference), ["ima-malformed"], "{template}");
    }
    let modsig = [sig_data(b"/a", b""), field(b""), field(b"pkcs7")].concat();
    assert!(findings_of(&one(&modsig, "ima-modsig"), SHA256_LIST, &reference).is_empty());
    let hash = data_encoding::HEXLOWER.encode(&boot::sha1(&modsig));
    let hex = data_encoding::HEXLOWER.encode(&digest_of(b"/a"));
    let ascii = format!("10 {hash} ima-modsig sha256:{hex} /a   706b637337\n");
    assert!(findings_of(ascii.as_bytes(), ListForm::Ascii, &reference).is_empty());
}

#[test]
fn the_legacy_template_is_hashed_over_its_padded_name() {
    let mut data = [7; 20].to_vec();
    data.extend(b"/bin/sh");
    data.resize(276, 0);
    let head = [&10_u32.to_le_bytes()[..], &boot::sha1(&data), &field(b"ima")].concat();
    let list = [&head[..], &[7; 20], &field(b"/bin/sh")].concat();
    assert_eq!(findings_of(&list, ListForm::BinarySha1, &allowing(vec![])), ["ima-algorithm"]);
    let hash = data_encoding::HEXLOWER.encode(&boot::sha1(&data));
    let ascii = format!("10 {hash} ima {} /bin/sh\n", "07".repeat(20));
    assert_eq!(findings_of(ascii.as_bytes(), ListForm::Ascii, &allowing(vec![])), ["ima-algorithm"]);
    assert_eq!(inspect(&list).unwrap(), inspect(ascii.as_bytes()).unwrap());
    for name in [&b"/bin\0sh"[..], &[b'a'; 256], b""] {
        let list = [&head[..], &[7; 20], &field(name)].concat();
        let read = Entries::new(ListForm::BinarySha1, &list).next().unwrap();
        assert!(read.is_err() || read.unwrap().measured().is_err(), "{name:?}");
    }
}

#[test]
fn a_buffer_must_have_the_digest_beside_it() {
    let data = |buffer: &[u8]| [ng_data(b".ima", Digest::of(&[b"key"]).as_bytes()), field(buffer)].concat();
    let reference = allowing(vec![(b".ima".to_vec(), Digest::of(&[b"key"]))]);
    assert!(findings_of(&one(&data(b"key"), "ima-buf"), SHA256_LIST, &reference).is_empty());
    assert_eq!(findings_of(&one(&data(b"other"), "ima-buf"), SHA256_LIST, &reference), ["ima-buffer-digest"]);
}

#[test]
fn an_entry_of_another_pcr_is_not_covered_and_says_so() {
    let w = world(&[b"/a"]);
    let mut list = w.list.clone();
    list[0] = 11;
    assert_eq!(findings_of(&list, SHA256_LIST, &w.reference), ["ima-other-pcr"]);
    assert_eq!(inspect(&list).unwrap().pcr10.sha256, "00".repeat(32));
}

#[test]
fn the_first_entry_is_the_boot_aggregate_and_a_later_one_must_equal_it() {
    let of = |n: u8| one(&ng_data(b"boot_aggregate", &[n; 32]), "ima-ng");
    let w = world(&[b"/a"]);
    let run = |list: &[u8]| {
        let mut state = Aggregate::start(1, SHA256_LIST, w.reference.digest());
        let mut findings = Findings::default();
        appraise(&mut Entries::new(SHA256_LIST, list), None, &w.reference, &mut state, &mut findings).unwrap();
        (state.boot_aggregate(), codes(&findings))
    };
    let first = Some(Digest::new([1; 32]));
    assert_eq!(run(&[of(1), w.list.clone(), of(1)].concat()), (first, vec![]));
    assert_eq!(run(&[of(1), w.list.clone(), of(2)].concat()), (first, vec!["ima-boot-aggregate"]));
    assert_eq!(run(&[w.list.clone(), of(1)].concat()), (None, vec!["ima-boot-aggregate"]));
    let sha1 = [field(b"sha1:\0aaaaaaaaaaaaaaaaaaaa"), field(b"boot_aggregate\0")].concat();
    assert_eq!(run(&one(&sha1, "ima-ng")), (None, vec!["ima-algorithm"]));
}

#[test]
fn the_boot_aggregate_is_the_hash_of_the_pcrs_in_order() {
    let pcrs: [Digest; 10] = std::array::from_fn(|n| Digest::new([u8::try_from(n).unwrap(); 32]));
    assert_eq!(boot_aggregate_sha256(&pcrs).hex(), "a4cc7213a98bc92e113dad44ef63113826a16c3a6ca551d2b76244a49ae043dd");
    let pcrs: [[u8; 20]; 8] = std::array::from_fn(|n| [u8::try_from(n).unwrap(); 20]);
    assert_eq!(data_encoding::HEXLOWER.encode(&boot_aggregate_sha1(&pcrs)), "59348202947a48bc93f8827c12eb3f1b24a072d2");
}

/// SubjectPublicKeyInfo of a P-256 key, and the signature header and body over `digest`.
fn p256_signed(digest: &[u8; 32]) -> (SignerKey, Vec<u8>) {
    let signer = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let prefix = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let spki = [&prefix[..], signer.verifying_key().to_encoded_point(false).as_bytes()].concat();
    let key = SignerKey::from_spki(&spki).unwrap();
    let signature: p256::ecdsa::Signature = signer.sign_prehash(digest).unwrap();
    let signature = signature.to_der();
    let length = u16::try_from(signature.as_bytes().len()).unwrap().to_be_bytes();
    let id = key.id();
    (key, [&[3, 2, 4][..], &id, &length, signature.as_bytes()].concat())
}

#[test]
fn a_signature_passes_only_whole_and_over_the_files_own_digest() {
    let (key, signature) = p256_signed(&digest_of(b"/a"));
    let reference =
        |keys| Reference::new(AllowList::new(vec![]).unwrap(), SignerKeys::new(keys).unwrap(), vec![], vec![]).unwrap();
    let known = reference(vec![key]);
    let verdict = |path: &[u8], signature: &[u8], reference: &Reference| {
        findings_of(&one(&sig_data(path, signature), "ima-sig"), SHA256_LIST, reference)
    };
    assert!(verdict(b"/a", &signature, &known).is_empty());
    assert_eq!(verdict(b"/b", &signature, &known), ["ima-signature"]);
    assert_eq!(verdict(b"/a", &signature, &reference(vec![])), ["ima-unknown-key"]);
    assert_eq!(verdict(b"/a", b"", &known), ["ima-unknown-file"]);
    let changed = |at: usize, to: u8| {
        let mut signature = signature.clone();
        signature[at] = to;
        verdict(b"/a", &signature, &known)
    };
    assert_eq!(changed(0, 4), ["ima-signature"], "another type");
    assert_eq!(changed(0, 6), ["ima-signature-algorithm"], "an fs-verity signature");
    assert_eq!(changed(1, 3), ["ima-signature-algorithm"], "version 3");
    assert_eq!(changed(2, 2), ["ima-signature-algorithm"], "SHA-1");
    assert_eq!(changed(2, 5), ["ima-signature-algorithm"], "a digest of another algorithm than the file's");
    assert_eq!(changed(3, signature[3] ^ 1), ["ima-unknown-key"]);
    assert_eq!(changed(8, signature[8] + 1), ["ima-signature"], "a length that is not that of the rest");
    assert_eq!(changed(signature.len() - 1, signature[signature.len() - 1] ^ 1), ["ima-signature"]);
    for cut in [1, 8, 9, signature.len() - 1] {
        assert_eq!(verdict(b"/a", &signature[..cut], &known), ["ima-signature"], "{cut}");
    }
}

#[test]
fn a_malformed_signature_is_a_finding_even_of_an_allowed_file() {
    let reference = world(&[b"/a"]).reference;
    let (_, signature) = p256_signed(&digest_of(b"/b"));
    for (signature, expected) in
        [(&signature[..], &[][..]), (&signature[..20], &["ima-signature"]), (b"\x03", &["ima-signature"])]
    {
        assert_eq!(findings_of(&one(&sig_data(b"/a", signature), "ima-sig"), SHA256_LIST, &reference), expected);
    }
}

#[test]
fn findings_beyond_the_bound_are_counted() {
    let paths: Vec<Vec<u8>> = (0..FINDINGS_MAX + 10).map(|n| format!("/x{n}").into_bytes()).collect();
    let list: Vec<u8> = paths.iter().flat_map(|path| ng(path)).collect();
    let mut state = Aggregate::start(1, SHA256_LIST, Digest::new([0; 32]));
    let mut findings = Findings::default();
    appraise(&mut Entries::new(SHA256_LIST, &list), None, &allowing(vec![]), &mut state, &mut findings).unwrap();
    assert_eq!((findings.told().len(), findings.untold(), findings.is_empty()), (FINDINGS_MAX, 10, false));
    assert_eq!(state.findings(), FINDINGS_MAX as u64 + 10);
}

#[test]
fn an_inspected_list_that_is_cut_or_none_says_so() {
    let list = [ng(b"/a"), ng(b"/b")].concat();
    let report = inspect(&list[..list.len() - 1]).unwrap();
    assert_eq!((report.entries, report.problems[0].code, report.problems[0].entry), (1, Code::Malformed, 1));
    let ascii = vector!("ima-sig-unsigned.txt");
    assert_eq!(inspect(ascii.strip_suffix(b"\n").unwrap_or(ascii)).unwrap().entries, 3);
    assert!(inspect(b"hello\n").is_err());
    assert!(inspect(b"\x7fELF, something else").is_err());
    let empty = inspect(b"").unwrap();
    assert_eq!((empty.entries, empty.problems.len()), (0, 0));
    let junk = inspect(&[&list[..], &[0xff; 64]].concat()).unwrap();
    assert_eq!((junk.entries, junk.problems.len()), (2, 1));
}
