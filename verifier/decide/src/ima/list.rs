//! Reading a measurement list entry by entry, in its binary or its ASCII form.

use super::entry::Entry;
use super::{ascii, binary};

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum ListForm {
    /// `ascii_runtime_measurements`: a line an entry. A path with a newline breaks its line, and one with spaces can be
    /// told from a signature only by its place, so this form serves people; the wire carries a binary one.
    #[n(0)]
    Ascii,
    /// `binary_runtime_measurements`, with SHA-1 template hashes.
    #[n(1)]
    BinarySha1,
    /// `binary_runtime_measurements_sha256`, with those of the SHA-256 bank (Linux 6.10 and later).
    #[n(2)]
    BinarySha256,
}

impl ListForm {
    /// The form that a list seems to have: a PCR number in little-endian has zero bytes, text has none.
    pub fn detect(list: &[u8]) -> Self {
        match list.get(1..4) {
            Some([0, 0, 0]) if binary::has_template_name(list, 32) && !binary::has_template_name(list, 20) => {
                Self::BinarySha256
            }
            Some([0, 0, 0]) => Self::BinarySha1,
            _ => Self::Ascii,
        }
    }
}

/// Bytes that are no entry; nothing after them can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}, in the entry at byte {offset_bytes}")]
pub struct Malformed {
    /// Where the entry starts, in bytes from the start of what is read.
    pub offset_bytes: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// The whole entries of `bytes`, in order. What follows the last whole one is left for the next increment, so a list may
/// be cut at any byte.
#[derive(Debug, Clone)]
pub struct Entries<'l> {
    form: ListForm,
    bytes: &'l [u8],
    consumed: usize,
    ended: bool,
}

impl<'l> Entries<'l> {
    /// Starts at the first of `bytes`, which is the first of an entry.
    pub fn new(form: ListForm, bytes: &'l [u8]) -> Self {
        Self { form, bytes, consumed: 0, ended: false }
    }
    /// Bytes of the entries so far: where the next one starts.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
    /// Bytes after those entries.
    pub fn rest(&self) -> &'l [u8] {
        self.bytes.get(self.consumed..).unwrap_or_default()
    }
}

impl<'l> Iterator for Entries<'l> {
    type Item = Result<Entry<'l>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = match self.form {
            ListForm::Ascii => ascii::next(self.rest()),
            ListForm::BinarySha1 => binary::next(self.rest(), 20),
            ListForm::BinarySha256 => binary::next(self.rest(), 32),
        };
        match read {
            Ok(Some((entry, length))) => {
                self.consumed += length;
                Some(Ok(entry))
            }
            Ok(None) => None,
            Err(what) => {
                self.ended = true;
                Some(Err(Malformed { offset_bytes: self.consumed, what }))
            }
        }
    }
}
