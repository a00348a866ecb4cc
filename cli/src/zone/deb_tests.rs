//! Packages made by dpkg-deb in each compression, and broken ones.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const PACKAGES: [(&str, &[u8]); 4] = [
    ("none", include_bytes!("../../../tests/data/deb/small-none.deb")),
    ("gzip", include_bytes!("../../../tests/data/deb/small-gzip.deb")),
    ("xz", include_bytes!("../../../tests/data/deb/small-xz.deb")),
    ("zstd", include_bytes!("../../../tests/data/deb/small-zstd.deb")),
];

/// What `sha256sum` says of the files that the packages were made from.
fn expected() -> Vec<(Vec<u8>, Digest)> {
    let small = "443825f6ca90a37acb3f11664cfbbdc8b59ecb247257631af664e9b9f1bc2eaf";
    let library = "1e6b62ba51f1b685d844b6b473a7518e5d4630c045f203e3fe3be2ce30b2a174";
    let long = format!("/usr/share/{}/x", "long".repeat(40));
    let mut files: Vec<(Vec<u8>, Digest)> = [
        ("/etc/a b", "8d959942e68567941eb6b381b5e734d6200fe749c449e4b0e0de7270da095f8b"),
        ("/etc/empty", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (&long, "bbdbb75b415ee9a40f0b3796a8b41a0b7723afe5726b870474ad220a4886d06d"),
        ("/usr/bin/small", small),
        ("/bin/small", small),
        ("/usr/bin/small-too", small),
        ("/bin/small-too", small),
        ("/lib/x86_64-linux-gnu/libsmall.so.1", library),
        ("/usr/lib/x86_64-linux-gnu/libsmall.so.1", library),
    ]
    .map(|(path, digest)| (path.as_bytes().to_vec(), digest.parse().unwrap()))
    .to_vec();
    files.sort();
    files
}

#[test]
fn each_compression_gives_the_files_with_their_digests_and_both_spellings() {
    for (name, package) in PACKAGES {
        let mut files = files(package).unwrap();
        files.sort();
        assert_eq!(files, expected(), "{name}");
    }
}

#[test]
fn a_package_cut_anywhere_in_its_data_is_an_error() {
    for (name, package) in PACKAGES.into_iter().filter(|(name, _)| *name != "none") {
        for cut in 0..package.len() - 1 {
            assert!(files(&package[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_package_is_named() {
    let member = |name: &str, data: &[u8]| {
        let mut out = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, data.len()).into_bytes();
        out.extend_from_slice(data);
        out.resize(out.len() + data.len() % 2, b'\n');
        out
    };
    let archive = |members: &[Vec<u8>]| [b"!<arch>\n".to_vec(), members.concat()].concat();
    let first = member("debian-binary", b"2.0\n");
    for (package, expected) in [
        (b"!<arcx>\n".to_vec(), "does not start"),
        (archive(&[member("data.tar", b"")]), "first member"),
        (archive(&[first.clone(), b"x".repeat(60)]), "header"),
        (archive(&vec![first.clone(); MEMBERS_MAX]), "no member"),
        (archive(&[first.clone(), member("data.tar.lz4", b"x")]), ".lz4"),
    ] {
        let error = files(&package[..]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn tar_of(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

/// A header with this name as it stands, whatever it leads to.
fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header
}

#[test]
fn paths_that_lead_out_and_links_to_nothing_are_refused() {
    for name in ["./usr/../../etc/passwd", "..", "./", "./a//b", "/a/./b"] {
        let tar = tar_of(|tar| tar.append(&header(name, tar::EntryType::Regular, 1), &b"x"[..]).unwrap());
        assert!(matches!(tar_files(&tar[..]), Err(DebError::Form(_))), "{name}");
    }
    let mut link = header("./a", tar::EntryType::Link, 0);
    link.as_gnu_mut().unwrap().linkname[..3].copy_from_slice(b"./b");
    link.set_cksum();
    let tar = tar_of(|tar| tar.append(&link, io::empty()).unwrap());
    assert!(matches!(tar_files(&tar[..]), Err(DebError::Form(_))));
    let tar = tar_of(|tar| tar.append(&header("pax", tar::EntryType::XHeader, 0), io::empty()).unwrap());
    assert!(matches!(tar_files(&tar[..]), Err(DebError::Form(_))));
}

#[test]
fn a_size_beyond_the_bound_is_refused_before_its_bytes_come() {
    let tar = header("./a", tar::EntryType::Regular, UNPACKED_BYTES_MAX + 1);
    assert!(matches!(tar_files(&tar.as_bytes()[..]), Err(DebError::TooLarge)));
}
