//! Lists for the tests. The published vectors are ASCII; the binary forms are made from them, or from scratch, by
//! the code here, which lays out entries as `ima_measurements_show` does.

mod allow;
mod bounds;
mod fold;
mod hostile;
mod properties;
mod vectors;

use quotary_common::id::Digest;
use sha2::Digest as _;

use super::*;

/// A test vector by its file name.
macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../../../tests/data/attestation/ima/", $name)).as_slice()
    };
}
pub(super) use vector;

/// One field of template data.
fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

/// `d-ng|n-ng` of a file with this SHA-256.
fn ng_data(path: &[u8], digest: &[u8; 32]) -> Vec<u8> {
    [field(&[b"sha256:\0", &digest[..]].concat()), field(&[path, b"\0"].concat())].concat()
}

/// A file's digest, made from its path.
fn digest_of(path: &[u8]) -> [u8; 32] {
    *Digest::of(&[b"content of ", path]).as_bytes()
}

/// A binary entry with this template hash.
fn binary_entry(hash: &[u8], template: &str, data: &[u8]) -> Vec<u8> {
    [&10_u32.to_le_bytes()[..], hash, &field(template.as_bytes()), &field(data)].concat()
}

/// A binary `ima-ng` entry with the right SHA-256 template hash.
fn ng(path: &[u8]) -> Vec<u8> {
    let data = ng_data(path, &digest_of(path));
    binary_entry(Digest::of(&[&data]).as_bytes(), "ima-ng", &data)
}

/// The binary form of an ASCII list, with its SHA-1 template hashes or with SHA-256 ones.
fn to_binary(ascii: &[u8], form: ListForm) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in Entries::new(ListForm::Ascii, ascii) {
        let entry = entry.unwrap();
        let name = match entry.template {
            Template::ImaNg => "ima-ng",
            Template::ImaSig => "ima-sig",
            Template::ImaBuf => "ima-buf",
            other => unreachable!("no vector has {other:?}"),
        };
        let hash = match form {
            ListForm::BinarySha256 => Digest::of(&[&entry.data]).as_bytes().to_vec(),
            _ => entry.listed_hash.as_bytes().to_vec(),
        };
        out.extend(binary_entry(&hash, name, &entry.data));
    }
    out
}

/// PCR 10 of the SHA-256 bank after these template data, `None` for a violation.
fn pcr10(data: &[Option<&[u8]>]) -> Digest {
    let mut pcr = [0_u8; 32];
    for data in data {
        let extension = data.map_or([0xff; 32], |data| sha2::Sha256::digest(data).into());
        pcr = sha2::Sha256::digest([pcr, extension].concat()).into();
    }
    Digest::new(pcr)
}

/// A reference that allows these pairs, and nothing else in it.
fn allowing(pairs: Vec<(Vec<u8>, Digest)>) -> Reference {
    Reference::new(AllowList::new(pairs).unwrap(), SignerKeys::default(), vec![], vec![]).unwrap()
}

/// A list of `ng` entries of these paths, all of which the reference allows, and the PCR after each number of them.
struct World {
    list: Vec<u8>,
    pcrs: Vec<Digest>,
    reference: Reference,
}

fn world(paths: &[&[u8]]) -> World {
    let data: Vec<Vec<u8>> = paths.iter().map(|path| ng_data(path, &digest_of(path))).collect();
    let data: Vec<Option<&[u8]>> = data.iter().map(|data| Some(&data[..])).collect();
    World {
        list: paths.iter().flat_map(|path| ng(path)).collect(),
        pcrs: (0..=data.len()).map(|count| pcr10(&data[..count])).collect(),
        reference: allowing(paths.iter().map(|path| (path.to_vec(), Digest::new(digest_of(path)))).collect()),
    }
}

fn codes(findings: &Findings) -> Vec<&'static str> {
    findings.told().iter().map(|finding| finding.code.as_str()).collect()
}

/// Appraises a whole list.
fn findings_of(list: &[u8], form: ListForm, reference: &Reference) -> Vec<&'static str> {
    let mut state = Aggregate::start(1, form, reference.digest());
    let mut findings = Findings::default();
    let mut entries = Entries::new(form, list);
    assert!(!appraise(&mut entries, None, reference, &mut state, &mut findings).unwrap());
    assert!(entries.rest().is_empty());
    assert_eq!(state.findings(), findings.count());
    codes(&findings)
}
