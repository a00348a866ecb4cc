//! Debian packages (deb(5)): an `ar` archive whose member `data.tar`, mostly compressed, holds the files.
//!
//! Everything is streamed: a file is hashed as it is unpacked, and nothing of it is kept.

use std::collections::HashMap;
use std::io::{self, Read};

use quotary_common::id::Digest;
use ring::digest::{Context, SHA256};

/// Most bytes that a package may unpack to.
const UNPACKED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most files of a package.
const FILES_MAX: usize = 500_000;
/// Longest path, in bytes.
const PATH_BYTES_MAX: u64 = 4096;
/// Most members before `data.tar`; there are two.
const MEMBERS_MAX: usize = 16;
/// Largest member before `data.tar`, in bytes: the control files of the largest packages take some MiB.
const SKIPPED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DebError {
    /// It cannot be read, or its compressed data are broken.
    #[error("the package cannot be read")]
    Read(#[from] io::Error),
    /// It is not laid out as a package is.
    #[error("not a Debian package: {0}")]
    Form(&'static str),
    /// Its data are compressed in a way that is not read here.
    #[error("its data are compressed as `{0}`, which is not read here")]
    Compression(String),
    /// It holds more than is read.
    #[error("it unpacks to more than {UNPACKED_BYTES_MAX} bytes, or holds more than {FILES_MAX} files")]
    TooLarge,
}

/// The regular files of a package with SHA-256 of each, under both spellings of a merged `/usr`.
///
/// # Errors
/// [`DebError`] when it is no package, is too large, or cannot be read.
pub(super) fn files(mut package: impl Read) -> Result<Vec<(Vec<u8>, Digest)>, DebError> {
    let mut magic = [0; 8];
    package.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(DebError::Form("it does not start as an ar archive"));
    }
    for number in 0..MEMBERS_MAX {
        let (name, length) = member(&mut package)?;
        if number == 0 && name != "debian-binary" {
            return Err(DebError::Form("its first member is not `debian-binary`"));
        }
        if let Some(compression) = name.strip_prefix("data.tar") {
            return unpack(compression, package.take(length));
        }
        let padded = length + length % 2;
        if length > SKIPPED_BYTES_MAX || io::copy(&mut (&mut package).take(padded), &mut io::sink())? != padded {
            return Err(DebError::Form("a member before its data is too large or cut"));
        }
    }
    Err(DebError::Form("it has no member `data.tar`"))
}

/// The name and length, in bytes, of the next member of an `ar` archive.
fn member(package: &mut impl Read) -> Result<(String, u64), DebError> {
    let mut header = [0; 60];
    package.read_exact(&mut header)?;
    let text = std::str::from_utf8(&header).map_err(|_| DebError::Form("a member's header is not text"))?;
    let field = |from: usize, to: usize| text.get(from..to).map(str::trim_end);
    match (field(0, 16), field(48, 58).and_then(|length| length.parse().ok()), text.get(58..60)) {
        (Some(name), Some(length), Some("`\n")) => Ok((name.trim_end_matches('/').to_owned(), length)),
        _ => Err(DebError::Form("a member's header cannot be read")),
    }
}

fn unpack(compression: &str, mut data: io::Take<impl Read>) -> Result<Vec<(Vec<u8>, Digest)>, DebError> {
    let files = match compression {
        "" => tar_files(&mut data),
        ".gz" => tar_files(flate2::read::GzDecoder::new(&mut data)),
        ".xz" => tar_files(lzma_rust2::XzReader::new(&mut data, true)),
        ".zst" => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&mut data)
                .map_err(|error| DebError::Read(io::Error::new(io::ErrorKind::InvalidData, error)))?;
            tar_files(decoder)
        }
        other => Err(DebError::Compression(other.chars().filter(|c| c.is_ascii_graphic()).take(16).collect())),
    }?;
    io::copy(&mut data, &mut io::sink())?;
    if data.limit() > 0 {
        return Err(DebError::Form("its data are cut"));
    }
    Ok(files)
}

/// The regular files of a tar archive. Of the extensions only GNU's long names are known, as to dpkg itself.
fn tar_files(unpacked: impl Read) -> Result<Vec<(Vec<u8>, Digest)>, DebError> {
    // One byte beyond the bound, so that an archive of just that size can be told from a longer one.
    let mut archive = tar::Archive::new(unpacked.take(UNPACKED_BYTES_MAX + 1));
    let mut seen: HashMap<Vec<u8>, Digest> = HashMap::new();
    let (mut long_path, mut long_target) = (None, None);
    let mut unpacked_bytes = 0_u64;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        unpacked_bytes = unpacked_bytes.saturating_add(entry.size());
        if unpacked_bytes > UNPACKED_BYTES_MAX || seen.len() >= FILES_MAX {
            return Err(DebError::TooLarge);
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            long_path = Some(long_name(&mut entry)?);
            continue;
        }
        if kind.is_gnu_longlink() {
            long_target = Some(long_name(&mut entry)?);
            continue;
        }
        if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() || kind.is_gnu_sparse() {
            return Err(DebError::Form("its data have entries that dpkg does not know"));
        }
        let path = long_path.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let target = long_target.take().or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned));
        if kind.is_file() || kind.is_contiguous() {
            seen.insert(absolute(&path)?, hash(&mut entry)?);
        } else if kind.is_hard_link() {
            let target = absolute(&target.unwrap_or_default())?;
            let digest = *seen.get(&target).ok_or(DebError::Form("a hard link to a file that did not come before"))?;
            seen.insert(absolute(&path)?, digest);
        }
    }
    // What follows the archive's end is padding, and the check value of the compressed data, which is read so.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    if rest.limit() == 0 {
        return Err(DebError::TooLarge);
    }
    Ok(seen.into_iter().flat_map(|(path, digest)| spellings(path).map(move |path| (path, digest))).collect())
}

fn long_name(entry: &mut impl Read) -> Result<Vec<u8>, DebError> {
    let mut name = Vec::new();
    entry.take(PATH_BYTES_MAX + 1).read_to_end(&mut name)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn hash(file: &mut impl Read) -> Result<Digest, DebError> {
    let mut context = Context::new(&SHA256);
    let mut buffer = [0; 16 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => context.update(buffer.get(..read).unwrap_or_default()),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(Digest::new(digest))
}

/// `./usr/bin/x` as `/usr/bin/x`.
fn absolute(path: &[u8]) -> Result<Vec<u8>, DebError> {
    let path = path.strip_prefix(b".").unwrap_or(path);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let is_plain = path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if !is_plain || path.contains(&0) || path.len() as u64 >= PATH_BYTES_MAX {
        return Err(DebError::Form("a path is empty, too long, or leads out of the package"));
    }
    Ok([b"/", path].concat())
}

/// A path, and the other one by which it is reached where `/bin`, `/sbin` and `/lib*` are links into `/usr`.
fn spellings(path: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    const MERGED: [&[u8]; 6] = [b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/"];
    let is_merged = |path: &[u8]| MERGED.iter().any(|root| path.starts_with(root));
    let other = match path.strip_prefix(b"/usr") {
        Some(rest) if is_merged(rest) => Some(rest.to_vec()),
        _ if is_merged(&path) => Some([b"/usr", &path[..]].concat()),
        _ => None,
    };
    std::iter::once(path).chain(other)
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
