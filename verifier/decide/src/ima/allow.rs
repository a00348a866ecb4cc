//! The allow-list: which digest each path may have, and which digests are good under any path.
//!
//! Text form, one pair a line, as `sha256sum` writes it with the algorithm before it: `sha256:HEX  PATH`. The path `*`
//! stands for any path. A line that starts with a backslash has `\\`, `\n` and `\r` in its path written so.

use std::hash::Hasher as _;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use quotary_common::id::Digest;

use super::limits::{ALLOWED_MAX, PATH_BYTES_MAX};

/// Stands for any path.
pub const ANY_PATH: &[u8] = b"*";

/// Why a text is no allow-list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowListError {
    /// A line is not of the form.
    #[error("line {line}: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A path cannot be measured.
    #[error("a path is empty, longer than {PATH_BYTES_MAX} bytes or has a NUL")]
    Path,
    /// More pairs, or longer paths, than can be held.
    #[error("more than {ALLOWED_MAX} pairs, or 4 GiB of paths")]
    TooLarge,
}

/// What is known of a digest under a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It is allowed.
    Allowed,
    /// Other digests are allowed under this path.
    OtherDigest,
    /// The path is not in the list.
    UnknownPath,
}

/// (path, digest) pairs, prepared for fast look-up: a table of 32-bit slots over pairs in order, and each path once.
/// A pair takes 48 bytes, a slot of 4 bytes at most four times, and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    /// Sorted by path, then digest; no two are equal.
    pairs: Vec<Pair>,
    /// All paths, one after the other, sorted.
    path_bytes: Vec<u8>,
    /// Where each path ends in `path_bytes`.
    path_ends: Vec<u32>,
    /// Open addressing over `pairs`, at most half full.
    slots: Vec<u32>,
    has_any_path: bool,
    digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    digest: [u8; 32],
    /// Compared in place of the path, which lies elsewhere in memory. For a false match a path on the operator's list would
    /// have to collide with another, and the file still has an allowed content.
    path_hash: u64,
    path: u32,
}

const EMPTY: u32 = u32::MAX;

impl AllowList {
    /// A list of these (path, digest) pairs; repeated ones count once.
    ///
    /// # Errors
    /// [`AllowListError`] when a path cannot be measured or there are too many.
    pub fn new(mut given: Vec<(Vec<u8>, Digest)>) -> Result<Self, AllowListError> {
        if given.len() > ALLOWED_MAX {
            return Err(AllowListError::TooLarge);
        }
        if given.iter().any(|(path, _)| path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains(&0)) {
            return Err(AllowListError::Path);
        }
        given.sort_unstable();
        given.dedup();
        let mut list = Self {
            pairs: Vec::with_capacity(given.len()),
            path_bytes: Vec::new(),
            path_ends: Vec::new(),
            slots: vec![EMPTY; given.len().saturating_mul(2).next_power_of_two()],
            has_any_path: given.iter().any(|(path, _)| path == ANY_PATH),
            digest: Digest::new([0; 32]),
        };
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut last: Option<&[u8]> = None;
        for (path, digest) in &given {
            if last != Some(path) {
                list.path_bytes.extend_from_slice(path);
                let end = u32::try_from(list.path_bytes.len()).map_err(|_| AllowListError::TooLarge)?;
                list.path_ends.push(end);
                last = Some(path);
            }
            // Bounded by ALLOWED_MAX.
            let path_index = u32::try_from(list.path_ends.len() - 1).map_err(|_| AllowListError::TooLarge)?;
            list.insert(Pair { digest: *digest.as_bytes(), path_hash: path_hash(path), path: path_index })?;
            hash.update(digest.as_bytes());
            hash.update(path);
            hash.update(&[0]);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        list.digest = Digest::new(digest);
        Ok(list)
    }
    fn insert(&mut self, pair: Pair) -> Result<(), AllowListError> {
        let number = u32::try_from(self.pairs.len()).map_err(|_| AllowListError::TooLarge)?;
        let mut at = self.first_slot(pair.path_hash, &pair.digest);
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = number;
        self.pairs.push(pair);
        Ok(())
    }
    /// Where a pair's slot is searched from. The hash has no secret: a host chooses what is looked up, never what the
    /// table holds, so it cannot make the table slow.
    pub(super) fn first_slot(&self, path_hash: u64, digest: &[u8; 32]) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = *digest;
        let mixed = path_hash ^ u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        usize::try_from(mixed & (self.slots.len() as u64 - 1)).unwrap_or(0)
    }
    fn path(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.path_ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.path_ends.get(index).map_or(start, |end| *end as usize);
        self.path_bytes.get(start..end).unwrap_or_default()
    }
    fn has_pair(&self, path: &[u8], digest: &[u8; 32]) -> bool {
        let path_hash = path_hash(path);
        let mut at = self.first_slot(path_hash, digest);
        while let Some(pair) = self.slots.get(at).and_then(|slot| self.pairs.get(*slot as usize)) {
            if pair.path_hash == path_hash && pair.digest == *digest {
                return true;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        false
    }
    fn has_path(&self, path: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.path_ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.path(middle).cmp(path) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }
    /// What is known of `digest` (SHA-256 of a file) under `path`.
    pub fn look_up(&self, path: &[u8], digest: &[u8; 32]) -> Lookup {
        if self.has_pair(path, digest) || (self.has_any_path && self.has_pair(ANY_PATH, digest)) {
            Lookup::Allowed
        } else if self.has_path(path) {
            Lookup::OtherDigest
        } else {
            Lookup::UnknownPath
        }
    }
    /// Whether `digest` may stand under `path`.
    pub fn contains(&self, path: &[u8], digest: &Digest) -> bool {
        self.look_up(path, digest.as_bytes()) == Lookup::Allowed
    }
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
    /// SHA-256 over the pairs in order: equal lists have equal digests.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// The pairs, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Digest)> {
        self.pairs.iter().map(|pair| (self.path(pair.path as usize), Digest::new(pair.digest)))
    }
    /// Reads the text form. Empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// [`AllowListError`] at the first line that is not of the form.
    pub fn parse(text: &[u8]) -> Result<Self, AllowListError> {
        let mut pairs = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if pairs.len() == ALLOWED_MAX {
                return Err(AllowListError::TooLarge);
            }
            pairs.push(parse_line(line).map_err(|what| AllowListError::Line { line: index + 1, what })?);
        }
        Self::new(pairs)
    }
    /// The text form of the whole list.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (path, digest) in self.iter() {
            write_line(&mut text, path, &digest);
        }
        text
    }
}

pub(super) fn path_hash(path: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(path);
    hasher.finish()
}

/// Appends the line of one pair, its newline included.
pub fn write_line(text: &mut Vec<u8>, path: &[u8], digest: &Digest) {
    let is_escaped = path.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if is_escaped {
        text.push(b'\\');
    }
    text.extend_from_slice(b"sha256:");
    text.extend_from_slice(HEXLOWER.encode(digest.as_bytes()).as_bytes());
    text.extend_from_slice(b"  ");
    for byte in path {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            other => text.push(*other),
        }
    }
    text.push(b'\n');
}

fn parse_line(line: &[u8]) -> Result<(Vec<u8>, Digest), &'static str> {
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let rest = line.strip_prefix(b"sha256:").ok_or("the line does not start with `sha256:`")?;
    let (hex, rest) = rest.split_at_checked(64).ok_or("the digest is not 64 hexadecimal characters")?;
    let digest = HEXLOWER_PERMISSIVE.decode(hex).map_err(|_| "the digest is not 64 hexadecimal characters")?;
    let digest = <[u8; 32]>::try_from(digest).map_err(|_| "the digest is not 64 hexadecimal characters")?;
    let path = rest.strip_prefix(b"  ").ok_or("no two spaces between digest and path")?;
    let path = if is_escaped { unescape(path)? } else { path.to_vec() };
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains(&0) {
        return Err("the path is empty, too long or has a NUL");
    }
    Ok((path, Digest::new(digest)))
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        path.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next() {
                Some(b'\\') => b'\\',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                _ => return Err("a backslash escapes nothing"),
            },
            (other, false) => *other,
        });
    }
    Ok(path)
}
