//! PCR banks of a log, and digests in them. SHA-1 is here to be replayed, never to be trusted.

use quotary_common::tpm::HashAlg;
use ring::digest;

/// A PCR bank, by its TCG algorithm id.
///
/// Other than [`HashAlg`] it knows SHA-1: a log that has only that bank replays, but [`Bank::strong`] is `None` for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// `TPM_ALG_SHA1`, 0x0004.
    Sha1,
    /// `TPM_ALG_SHA256`, 0x000B.
    Sha256,
    /// `TPM_ALG_SHA384`, 0x000C.
    Sha384,
    /// `TPM_ALG_SHA512`, 0x000D.
    Sha512,
}

impl Bank {
    /// All banks that replay, ascending by id.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The bank of a TCG algorithm id.
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }
    /// The bank of the name that TPM tools use.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.name() == name)
    }
    /// The name that TPM tools use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
    /// Length of a digest, in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
    /// The algorithm on which trust may be built; `None` for SHA-1.
    pub const fn strong(self) -> Option<HashAlg> {
        match self {
            Self::Sha1 => None,
            Self::Sha256 => Some(HashAlg::Sha256),
            Self::Sha384 => Some(HashAlg::Sha384),
            Self::Sha512 => Some(HashAlg::Sha512),
        }
    }
    /// The digest of the parts, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> BankDigest {
        let algorithm = match self.strong() {
            Some(strong) => strong.ring(),
            None => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        };
        let mut context = digest::Context::new(algorithm);
        for part in parts {
            context.update(part);
        }
        BankDigest::copied(context.finish().as_ref())
    }
    /// Place in tables of four banks.
    pub(super) const fn place(self) -> usize {
        match self {
            Self::Sha1 => 0,
            Self::Sha256 => 1,
            Self::Sha384 => 2,
            Self::Sha512 => 3,
        }
    }
}

impl From<HashAlg> for Bank {
    fn from(alg: HashAlg) -> Self {
        match alg {
            HashAlg::Sha256 => Self::Sha256,
            HashAlg::Sha384 => Self::Sha384,
            HashAlg::Sha512 => Self::Sha512,
        }
    }
}

/// A digest or PCR value of any bank, without a place on the heap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BankDigest {
    bytes: [u8; 64],
    length: u8,
}

impl BankDigest {
    /// The first 64 of these bytes; no bank has more.
    pub(super) fn copied(from: &[u8]) -> Self {
        let mut bytes = [0; 64];
        let mut length = 0_u8;
        for (to, byte) in bytes.iter_mut().zip(from) {
            *to = *byte;
            length += 1;
        }
        Self { bytes, length }
    }
    /// A PCR of a bank with every byte the same.
    pub(super) fn filled(bank: Bank, byte: u8) -> Self {
        Self::copied(&[byte; 64][..bank.length()])
    }
    /// The same, but for its last byte.
    pub(super) fn with_last(mut self, last: u8) -> Self {
        if let Some(byte) = self.bytes.get_mut(usize::from(self.length).saturating_sub(1)) {
            *byte = last;
        }
        self
    }
    /// Its bytes, as many as the bank's digests have.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length).min(64)]
    }
    /// Lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(self.as_bytes())
    }
}

impl std::fmt::Debug for BankDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}
