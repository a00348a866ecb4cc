//! What is wrong with a list or an entry, as values with fixed codes.

use super::limits::FINDINGS_MAX;

/// Why the data of an entry say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field is not laid out as its template says.
    #[error("{0} cannot be read")]
    Field(&'static str),
    /// The template is not one of those that are understood.
    #[error("the template is not known")]
    Template,
}

/// What was found; a code never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The kernel saw that the file may have changed between measurement and use.
    Violation,
    /// The template hash of the list does not match the data beside it.
    TemplateHash,
    /// No file of this path is known, nor this digest under any path.
    UnknownFile,
    /// Files of this path are known, and this digest is none of theirs.
    WrongHash,
    /// A signature is malformed, or does not verify under the key that it names.
    Signature,
    /// A signature is of a version or algorithm that is not verified here.
    SignatureAlgorithm,
    /// The file is known only by a signature of a key that is not configured.
    UnknownKey,
    /// The digest is not SHA-256, the only one that an allow-list holds.
    Algorithm,
    /// A buffer does not have the digest beside it.
    BufferDigest,
    /// A later boot aggregate differs from the first.
    BootAggregate,
    /// The entry extends a PCR other than 10, so the quoted PCR does not cover it.
    OtherPcr,
    /// Bytes that are no entry, or an entry whose data cannot be read.
    Malformed,
    /// The list does not replay to the quoted PCR.
    PcrMismatch,
    /// A file that the zone demands was not measured.
    NotMeasured,
}

impl Code {
    /// The fixed code, in kebab case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Violation => "ima-violation",
            Self::TemplateHash => "ima-template-hash",
            Self::UnknownFile => "ima-unknown-file",
            Self::WrongHash => "ima-wrong-hash",
            Self::Signature => "ima-signature",
            Self::SignatureAlgorithm => "ima-signature-algorithm",
            Self::UnknownKey => "ima-unknown-key",
            Self::Algorithm => "ima-algorithm",
            Self::BufferDigest => "ima-buffer-digest",
            Self::BootAggregate => "ima-boot-aggregate",
            Self::OtherPcr => "ima-other-pcr",
            Self::Malformed => "ima-malformed",
            Self::PcrMismatch => "ima-pcr-mismatch",
            Self::NotMeasured => "ima-not-measured",
        }
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// The number of the entry in the list, from 0; for a finding about the whole list, the number of entries read.
    pub entry: u64,
    /// For people: the path or the reason, without control characters, at most some 300 characters.
    pub detail: String,
}

/// Findings in order: the first [`FINDINGS_MAX`] of them, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    told: Vec<Finding>,
    count: u64,
}

impl Findings {
    /// Those that are told one by one.
    pub fn told(&self) -> &[Finding] {
        &self.told
    }
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// How many are only counted.
    pub fn untold(&self) -> u64 {
        self.count.saturating_sub(self.told.len() as u64)
    }
    /// Adds one; the detail is made only where it is told.
    pub(super) fn add(&mut self, code: Code, entry: u64, detail: impl FnOnce() -> String) {
        self.count = self.count.saturating_add(1);
        if self.told.len() < FINDINGS_MAX {
            self.told.push(Finding { code, entry, detail: detail() });
        }
    }
}

/// Bytes of a path for people: invalid UTF-8 is replaced, control characters and direction marks are escaped, and the end
/// of a long one is left out.
pub(super) fn shown(path: &[u8]) -> String {
    const CHARS_MAX: usize = 240;
    let mut out = String::new();
    for (count, c) in String::from_utf8_lossy(path).chars().enumerate() {
        if count == CHARS_MAX {
            out.push('…');
            break;
        }
        let is_direction_mark =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || is_direction_mark {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
