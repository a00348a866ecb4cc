//! The allow-list and the reference.

use super::super::allow::path_hash;
use super::*;

fn digest(n: u8) -> Digest {
    Digest::new([n; 32])
}

#[test]
fn a_pair_is_allowed_and_neither_half_alone() {
    let list = AllowList::new(vec![
        (b"/a".to_vec(), digest(1)),
        (b"/a".to_vec(), digest(2)),
        (b"/b".to_vec(), digest(3)),
        (b"/a".to_vec(), digest(1)),
    ])
    .unwrap();
    assert_eq!(list.len(), 3);
    for (path, n, expected) in [
        (&b"/a"[..], 1, Lookup::Allowed),
        (b"/a", 2, Lookup::Allowed),
        (b"/a", 3, Lookup::OtherDigest),
        (b"/b", 3, Lookup::Allowed),
        (b"/b", 1, Lookup::OtherDigest),
        (b"/c", 1, Lookup::UnknownPath),
        (b"/", 1, Lookup::UnknownPath),
        (b"/a/b", 1, Lookup::UnknownPath),
    ] {
        assert_eq!(list.look_up(path, digest(n).as_bytes()), expected, "{path:?} {n}");
    }
    assert!(list.contains(b"/b", &digest(3)) && !list.contains(b"/b", &digest(2)));
}

#[test]
fn a_digest_for_any_path_is_allowed_under_each() {
    let list = AllowList::new(vec![(ANY_PATH.to_vec(), digest(1)), (b"/a".to_vec(), digest(2))]).unwrap();
    assert!(list.contains(b"/anything", &digest(1)) && list.contains(b"/a", &digest(1)));
    assert!(!list.contains(b"/anything", &digest(2)));
}

#[test]
fn one_digest_under_many_paths_is_found_under_each_of_them() {
    let paths: Vec<Vec<u8>> = (0..20_000).map(|n| format!("/usr/share/{n}/empty").into_bytes()).collect();
    let list = AllowList::new(paths.iter().map(|path| (path.clone(), digest(0))).collect()).unwrap();
    assert!(paths.iter().all(|path| list.contains(path, &digest(0)) && !list.contains(path, &digest(1))));
}

#[test]
fn pairs_are_spread_over_the_slots_whichever_half_they_share() {
    const PAIRS: usize = 20_000;
    let path = |n: usize| format!("/usr/share/{n}").into_bytes();
    let of = |n: usize| Digest::of(&[&n.to_be_bytes()]);
    let spread = |pairs: Vec<(Vec<u8>, Digest)>| {
        let list = AllowList::new(pairs.clone()).unwrap();
        let slots = pairs.iter().map(|(path, digest)| list.first_slot(path_hash(path), digest.as_bytes()));
        slots.collect::<std::collections::BTreeSet<_>>().len()
    };
    // By chance some 17,000 of them differ.
    for pairs in [
        (0..PAIRS).map(|n| (path(n), of(n))).collect(),
        (0..PAIRS).map(|n| (path(n), of(0))).collect(),
        (0..PAIRS).map(|n| (b"*".to_vec(), of(n))).collect(),
    ] {
        let slots = spread(pairs);
        assert!(slots > 16_000, "{slots}");
    }
}

#[test]
fn an_empty_list_allows_nothing() {
    let list = AllowList::parse(b"# nothing\n\n").unwrap();
    assert!(list.is_empty());
    assert_eq!(list.look_up(b"/a", digest(0).as_bytes()), Lookup::UnknownPath);
}

#[test]
fn the_text_form_brings_back_every_path() {
    let paths: [&[u8]; 6] = [b"/a b", b"/new\nline", b"/back\\slash", b"/return\r", b"/latin-\xe9", b"*"];
    let list = AllowList::new(paths.iter().map(|path| (path.to_vec(), digest(7))).collect()).unwrap();
    assert_eq!(AllowList::parse(&list.to_text()).unwrap(), list);
    let hex = "07".repeat(32);
    let line = format!("\\sha256:{hex}  /new\\nline\n");
    assert!(list.to_text().windows(line.len()).any(|window| window == line.as_bytes()));
    assert_eq!(
        AllowList::parse(format!("sha256:{hex}  /a b").as_bytes()).unwrap().to_text(),
        format!("sha256:{hex}  /a b\n").as_bytes()
    );
}

#[test]
fn a_line_that_is_not_of_the_form_is_named() {
    let hex = "07".repeat(32);
    for bad in [
        format!("sha1:{hex}  /a"),
        format!("{hex}  /a"),
        format!("sha256:{hex} /a"),
        format!("sha256:{hex}  "),
        format!("sha256:{}  /a", "07".repeat(31)),
        format!("sha256:{}  /a", "zz".repeat(32)),
        format!("sha256:{hex}  /a\0"),
        format!("\\sha256:{hex}  /a\\x"),
        format!("sha256:{hex}  /{}", "a".repeat(PATH_BYTES_MAX)),
    ] {
        let text = format!("# first\n{bad}\n");
        assert!(matches!(AllowList::parse(text.as_bytes()), Err(AllowListError::Line { line: 2, .. })), "{bad}");
    }
}

#[test]
fn a_path_at_its_bound_is_allowed_and_a_list_with_one_pair_is_not_empty() {
    let path = [&b"/"[..], &[b'a'; PATH_BYTES_MAX - 1]].concat();
    let list = AllowList::new(vec![(path.clone(), digest(7))]).unwrap();
    assert!(!list.is_empty() && list.contains(&path, &digest(7)));
    assert_eq!(AllowList::parse(&list.to_text()).unwrap(), list);
    assert_eq!(AllowList::new(vec![([&path[..], b"a"].concat(), digest(7))]), Err(AllowListError::Path));
}

#[test]
fn a_reference_takes_absolute_paths_only_and_not_too_many() {
    let make = |excluded: Vec<&[u8]>, required: Vec<&[u8]>| {
        let owned = |paths: Vec<&[u8]>| paths.into_iter().map(<[u8]>::to_vec).collect();
        Reference::new(AllowList::new(vec![]).unwrap(), SignerKeys::default(), owned(excluded), owned(required))
    };
    assert!(make(vec![b"/var/log/"], vec![b"/usr/bin/a"]).is_ok());
    for bad in [&b"/"[..], b"", b"var", b"/a\0"] {
        assert_eq!(make(vec![bad], vec![]).unwrap_err(), ReferenceError::Path);
        assert_eq!(make(vec![], vec![bad]).unwrap_err(), ReferenceError::Path);
    }
    assert!(make(vec![b"/a"; EXCLUDES_MAX + 1], vec![]).is_err());
    assert!(make(vec![], vec![b"/a"; REQUIRED_PATHS_MAX + 1]).is_err());
    let digests = [
        make(vec![], vec![]),
        make(vec![b"/a"], vec![]),
        make(vec![], vec![b"/a"]),
        make(vec![b"/a", b"/b"], vec![]),
        make(vec![b"/a"], vec![b"/b"]),
    ]
    .map(|reference| reference.unwrap().digest());
    assert!((1..digests.len()).all(|n| !digests[..n].contains(&digests[n])), "each part counts");
}

#[test]
fn the_digest_of_a_reference_covers_its_signers() {
    let rsa = || SignerKey::from_pem(vector!("keys/rsa2048pub.pem")).unwrap();
    let ec = || SignerKey::from_pem(vector!("keys/secp256k1pub.pem")).unwrap();
    let digests = [vec![], vec![rsa()], vec![ec()], vec![rsa(), ec()]].map(|keys| {
        let keys = SignerKeys::new(keys).unwrap();
        Reference::new(AllowList::new(vec![]).unwrap(), keys, vec![], vec![]).unwrap().digest()
    });
    assert!((1..digests.len()).all(|n| !digests[..n].contains(&digests[n])));
}

#[test]
fn what_is_no_key_is_refused() {
    let err = |bytes: &[u8]| SignerKey::from_spki(bytes).unwrap_err();
    assert_eq!(err(b"\x30\x03\x02\x01\x01"), SignerError::Form);
    assert_eq!(SignerKey::from_pem(b"-----BEGIN X-----\nAAAA\n-----END X-----\n").unwrap_err(), SignerError::Form);
    // An Ed25519 key (RFC 8410).
    let ed25519 = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &[7; 32]].concat();
    assert_eq!(err(&ed25519), SignerError::Unsupported);
    let key = SignerKey::from_pem(vector!("keys/rsa2048pub.pem")).unwrap();
    assert_eq!(SignerKeys::new(vec![key; SIGNER_KEYS_MAX + 1]).unwrap_err(), SignerError::TooMany);
}
