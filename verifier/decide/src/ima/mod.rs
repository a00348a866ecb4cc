//! IMA measurement lists: which files a host ran, and whether all of them are known.
//!
//! Does: reads a list entry by entry, ASCII or binary ([`Entries`]); takes it in increments against the quoted PCR 10
//! ([`fold`]) and keeps a small state between them ([`Aggregate`]); appraises entries by a zone's [`Reference`]; looks at
//! a whole list offline ([`inspect`]).
//! May assume: that the quoted PCR 10 and the reset count come from a quote that verified. Nothing about the list.
//! Promises: pure, total and bounded: no panic on any bytes, no allocation from a claimed length, work linear in the
//! bytes, [`AGGREGATE_BYTES_MAX`] of state, [`FINDINGS_MAX`] findings told.
//! Must never: believe an entry before the list replays to the quoted PCR ([`Outcome::Proven`]); report a host as clean
//! that is [`Outcome::Behind`]; trust SHA-1 for anything.
//!
//! # Forms
//! The wire carries a binary list. In the ASCII form a newline in a path breaks the line, so a hostile name can make a
//! list unreadable there (it is refused, never believed); in the binary form every byte of a path is told apart.
//!
//! # What is done with an entry, in order
//! PCR 10 is extended; a violation (template hash zero) is a finding; a SHA-256 template hash must match the data (a SHA-1 one where no quote covers them); the data
//! must have the template's fields; the first entry is the boot aggregate; an excluded path is skipped; then the digest is
//! looked up, and only for a file that is not allowed by digest is its signature verified. An `ima-buf` entry is looked up by the
//! buffer's name in place of a path. The appended signature of `ima-modsig` (PKCS#7) is hashed and not verified: such a file needs an allowed
//! digest or a `security.ima` signature.

mod aggregate;
mod allow;
mod appraise;
mod ascii;
mod binary;
mod boot;
mod entry;
mod finding;
mod fold;
mod inspect;
mod limits;
mod list;
mod reference;
mod signer;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use aggregate::{AGGREGATE_BYTES_MAX, Aggregate, IMA_PCR};
pub use allow::{ANY_PATH, AllowList, AllowListError, Lookup, write_line};
pub use appraise::appraise;
pub use boot::{boot_aggregate_sha1, boot_aggregate_sha256};
pub use entry::{Entry, FileDigest, ListedHash, Measured, Template};
pub use finding::{Code, Fault, Finding, Findings};
pub use fold::{Folded, Increment, Outcome, fold, not_measured};
pub use inspect::{ImaReport, InspectError, Pcr10, inspect};
pub use limits::*;
pub use list::{Entries, ListForm, Malformed};
pub use reference::{Reference, ReferenceError};
pub use signer::{SignerError, SignerKey, SignerKeys};
