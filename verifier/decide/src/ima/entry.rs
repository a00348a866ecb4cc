//! One entry of a measurement list, and what its template data says.
//!
//! Both forms of the list lead to the same value: the template data exactly as the kernel hashes them
//! (`ima_calc_field_array_hash`), borrowed from a binary list, rebuilt from an ASCII one.

use std::borrow::Cow;

use super::finding::Fault;
use super::limits::PATH_BYTES_MAX;

/// Length of the padded file name that the legacy template `ima` hashes (`IMA_EVENT_NAME_LEN_MAX` + 1).
pub(super) const LEGACY_NAME_BYTES: usize = 256;
/// Length of the digest of the legacy template `ima`.
pub(super) const LEGACY_DIGEST_BYTES: usize = 20;

/// How the template data of an entry are laid out (`Documentation/security/IMA-templates.rst` of Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// `ima`: `d|n`, a SHA-1 or MD5 digest and a name of at most 255 bytes.
    Ima,
    /// `ima-ng`: `d-ng|n-ng`.
    ImaNg,
    /// `ima-sig`: `d-ng|n-ng|sig`.
    ImaSig,
    /// `ima-buf`: `d-ng|n-ng|buf`.
    ImaBuf,
    /// `ima-modsig`: `d-ng|n-ng|sig|d-modsig|modsig`.
    ImaModsig,
    /// `ima-ngv2`: `d-ngv2|n-ng`.
    ImaNgV2,
    /// `ima-sigv2`: `d-ngv2|n-ng|sig`.
    ImaSigV2,
    /// Any other: its data are hashed, and nothing in them is understood.
    Other,
}

impl Template {
    /// The template of a name.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"ima" => Self::Ima,
            b"ima-ng" => Self::ImaNg,
            b"ima-sig" => Self::ImaSig,
            b"ima-buf" => Self::ImaBuf,
            b"ima-modsig" => Self::ImaModsig,
            b"ima-ngv2" => Self::ImaNgV2,
            b"ima-sigv2" => Self::ImaSigV2,
            _ => Self::Other,
        }
    }
    /// Whether the digest field also names its kind (`ima:` or `verity:`).
    pub(super) const fn has_digest_kind(self) -> bool {
        matches!(self, Self::ImaNgV2 | Self::ImaSigV2)
    }
}

/// The template hash that a list states, of 20 (SHA-1) or 32 (SHA-256) bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedHash {
    bytes: [u8; 32],
    length: usize,
}

impl ListedHash {
    /// A hash of `bytes`, if there are 20 or 32 of them.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut hash = Self { bytes: [0; 32], length: bytes.len() };
        match bytes.len() {
            20 | 32 => hash.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes),
            _ => return None,
        }
        Some(hash)
    }
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
    /// Whether all bytes are zero: the entry stands for a violation.
    pub fn is_violation(&self) -> bool {
        self.bytes == [0; 32]
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'l> {
    /// The PCR that was extended.
    pub pcr: u32,
    /// The template hash that the list states. The PCR's other banks were extended with other hashes of the same data.
    pub listed_hash: ListedHash,
    /// How `data` are laid out.
    pub template: Template,
    /// The template data as the kernel hashes them.
    pub data: Cow<'l, [u8]>,
}

/// A file's digest: the kernel's name of its algorithm (as in `sha256`) and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest<'e> {
    /// `sha256`, `sha1`, `md5`, …; `verity:sha256` for the digest of an fs-verity file.
    pub algorithm: &'e [u8],
    /// The digest.
    pub bytes: &'e [u8],
}

/// What the template data say was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured<'e> {
    /// The digest of the file or buffer.
    pub digest: FileDigest<'e>,
    /// The file's path, or a buffer's name. Not always UTF-8, never with a NUL.
    pub path: &'e [u8],
    /// The file's signature (`security.ima`), where there is one.
    pub signature: Option<&'e [u8]>,
    /// The buffer itself, for `ima-buf`.
    pub buffer: Option<&'e [u8]>,
}

/// Field after field of template data: a little-endian length, then that many bytes.
struct Fields<'e>(&'e [u8]);

impl<'e> Fields<'e> {
    fn next(&mut self, what: &'static str) -> Result<&'e [u8], Fault> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(Fault::Field(what))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Fault::Field(what))?;
        let (field, rest) = rest.split_at_checked(length).ok_or(Fault::Field(what))?;
        self.0 = rest;
        Ok(field)
    }
}

impl Entry<'_> {
    /// What was measured.
    ///
    /// # Errors
    /// [`Fault`] when the data are not laid out as the template says, or the template is not known.
    pub fn measured(&self) -> Result<Measured<'_>, Fault> {
        match self.template {
            Template::Other => return Err(Fault::Template),
            Template::Ima => return self.measured_legacy(),
            _ => {}
        }
        let mut fields = Fields(&self.data);
        let digest = digest_field(fields.next("the file digest")?, self.template.has_digest_kind())?;
        let path = path_field(fields.next("the path")?)?;
        let mut measured = Measured { digest, path, signature: None, buffer: None };
        match self.template {
            Template::ImaSig | Template::ImaSigV2 | Template::ImaModsig => {
                let signature = fields.next("the signature")?;
                measured.signature = (!signature.is_empty()).then_some(signature);
            }
            Template::ImaBuf => measured.buffer = Some(fields.next("the buffer")?),
            _ => {}
        }
        if self.template == Template::ImaModsig {
            // The digest without the appended signature, and that signature (PKCS#7): not used in a decision.
            fields.next("the digest under the appended signature")?;
            fields.next("the appended signature")?;
        }
        if fields.0.is_empty() { Ok(measured) } else { Err(Fault::Field("bytes after the last field")) }
    }
    fn measured_legacy(&self) -> Result<Measured<'_>, Fault> {
        let (digest, name) = self.data.split_at_checked(LEGACY_DIGEST_BYTES).ok_or(Fault::Field("the file digest"))?;
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let (path, padding) = name.split_at(length);
        if path.is_empty() || padding.iter().any(|byte| *byte != 0) {
            return Err(Fault::Field("the path"));
        }
        let digest = FileDigest { algorithm: b"sha1", bytes: digest };
        Ok(Measured { digest, path, signature: None, buffer: None })
    }
}

/// `algorithm:` NUL digest; with a kind, `ima:algorithm:` NUL digest.
fn digest_field(field: &[u8], has_kind: bool) -> Result<FileDigest<'_>, Fault> {
    const WHAT: Fault = Fault::Field("the file digest");
    // The longest prefix is that of `verity:` and the kernel's longest algorithm name.
    let end = field.iter().take(96).position(|byte| *byte == 0).ok_or(WHAT)?;
    let (name, digest) = field.split_at(end);
    let algorithm = name.strip_suffix(b":").ok_or(WHAT)?;
    // The name of the usual kind adds nothing; that of another stays, so that its digest is never taken for a file's.
    let algorithm = if has_kind { algorithm.strip_prefix(b"ima:").unwrap_or(algorithm) } else { algorithm };
    let bytes = digest.get(1..).ok_or(WHAT)?;
    let expected = digest_length(algorithm.rsplit(|byte| *byte == b':').next().unwrap_or(algorithm));
    if algorithm.is_empty() || bytes.is_empty() || expected.is_some_and(|length| length != bytes.len()) {
        return Err(WHAT);
    }
    Ok(FileDigest { algorithm, bytes })
}

/// Length of a digest by the kernel's name of its algorithm, where we know it, in bytes.
fn digest_length(algorithm: &[u8]) -> Option<usize> {
    match algorithm {
        b"md5" => Some(16),
        b"sha1" => Some(20),
        b"sha224" => Some(28),
        b"sha256" => Some(32),
        b"sha384" => Some(48),
        b"sha512" => Some(64),
        _ => None,
    }
}

/// A path with its final NUL and no other.
fn path_field(field: &[u8]) -> Result<&[u8], Fault> {
    match field.split_last() {
        Some((0, path)) if !path.is_empty() && path.len() <= PATH_BYTES_MAX && !path.contains(&0) => Ok(path),
        _ => Err(Fault::Field("the path")),
    }
}
