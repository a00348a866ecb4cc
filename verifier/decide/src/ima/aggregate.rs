//! The running aggregate of a host's list: all that is kept between two increments.

use minicbor::{Decode, Encode};
use quotary_common::cbor::Version;
use quotary_common::id::Digest;
use sha2::{Digest as _, Sha256};

use super::entry::Entry;
use super::list::ListForm;

/// The PCR that IMA extends unless its policy says otherwise.
pub const IMA_PCR: u32 = 10;

/// Largest canonical form of an [`Aggregate`], in bytes: it is part of a host's state of 4 KiB.
pub const AGGREGATE_BYTES_MAX: usize = 200;

/// How far a host's list is known in its present boot, and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Aggregate {
    #[n(0)]
    version: Version<1>,
    /// The TPM's reset count: another one means another boot and a new list.
    #[n(1)]
    pub(super) reset_count: u32,
    #[n(2)]
    pub(super) form: ListForm,
    /// SHA-256 of what the entries were appraised by.
    #[n(3)]
    pub(super) reference: Digest,
    #[n(4)]
    pub(super) offset_bytes: u64,
    #[n(5)]
    pub(super) entries: u64,
    #[n(6)]
    pub(super) pcr10: Digest,
    #[n(7)]
    pub(super) violations: u64,
    #[n(8)]
    pub(super) findings: u64,
    #[n(9)]
    pub(super) boot_aggregate: Option<Digest>,
    /// A bit for each path that the reference demands, in its order: set when it was measured and allowed.
    #[n(10)]
    pub(super) required_seen: u32,
}

impl Aggregate {
    /// Before the first entry of a boot: PCR 10 is zero.
    pub fn start(reset_count: u32, form: ListForm, reference: Digest) -> Self {
        Self {
            version: Version,
            reset_count,
            form,
            reference,
            offset_bytes: 0,
            entries: 0,
            pcr10: Digest::new([0; 32]),
            violations: 0,
            findings: 0,
            boot_aggregate: None,
            required_seen: 0,
        }
    }
    /// The boot that the list belongs to, by the TPM's reset count.
    pub fn reset_count(&self) -> u32 {
        self.reset_count
    }
    /// SHA-256 of what its entries were appraised by ([`Reference::digest`](super::Reference::digest)).
    pub fn reference(&self) -> Digest {
        self.reference
    }
    /// Where the next entry starts, in bytes from the start of the list: what the agent sends from.
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }
    /// How many entries there are up to that place.
    pub fn entries(&self) -> u64 {
        self.entries
    }
    /// What PCR 10 of the SHA-256 bank holds after these entries.
    pub fn pcr10_sha256(&self) -> Digest {
        self.pcr10
    }
    /// How many of the entries are violations, those of excluded paths included.
    pub fn violations(&self) -> u64 {
        self.violations
    }
    /// How many findings these entries gave, in all increments.
    pub fn findings(&self) -> u64 {
        self.findings
    }
    /// The digest of the first entry, `boot_aggregate`, if it is SHA-256; to be compared with
    /// [`boot_aggregate_sha256`](super::boot_aggregate_sha256).
    pub fn boot_aggregate(&self) -> Option<Digest> {
        self.boot_aggregate
    }
    /// Extends PCR 10 by an entry that takes `length_bytes` in the list, and counts it. Returns SHA-256 of its template
    /// data. An entry of another PCR is counted only.
    ///
    /// Since Linux 5.8 each bank is extended with its own hash of the data. Older kernels extend the SHA-256 bank with the
    /// SHA-1 hash padded with zeros; their lists end as [`PcrMismatch`](super::Code::PcrMismatch).
    pub fn extend(&mut self, entry: &Entry<'_>, length_bytes: usize) -> Digest {
        let data_hash: [u8; 32] = Sha256::digest(&entry.data).into();
        if entry.pcr == IMA_PCR {
            // For a violation the kernel extends ones, so that the list can be matched and nothing can be sealed to it.
            let extension = if entry.listed_hash.is_violation() { [0xff; 32] } else { data_hash };
            let mut hash = Sha256::new();
            hash.update(self.pcr10.as_bytes());
            hash.update(extension);
            self.pcr10 = Digest::new(hash.finalize().into());
        }
        self.entries = self.entries.saturating_add(1);
        self.violations = self.violations.saturating_add(u64::from(entry.listed_hash.is_violation()));
        self.offset_bytes = self.offset_bytes.saturating_add(length_bytes as u64);
        Digest::new(data_hash)
    }
}
