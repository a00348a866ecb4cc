//! The hash algorithms that are accepted: SHA-256 and longer. SHA-1 has no value here, so it cannot be chosen.

use ring::digest;

/// A hash algorithm, by its TCG algorithm id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlg {
    /// `TPM_ALG_SHA256`, 0x000B.
    Sha256,
    /// `TPM_ALG_SHA384`, 0x000C.
    Sha384,
    /// `TPM_ALG_SHA512`, 0x000D.
    Sha512,
}

impl HashAlg {
    /// The algorithm of a TCG id, if it is accepted.
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }
    /// Its TCG id.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        }
    }
    /// Length of a digest, in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
    /// The name that TPM tools use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
    /// The algorithm of such a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|alg| alg.name() == name)
    }
    /// `ring`'s implementation.
    pub fn ring(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
    /// The digest of the parts, one after the other.
    pub fn digest<'p>(self, parts: impl IntoIterator<Item = &'p [u8]>) -> digest::Digest {
        let mut context = digest::Context::new(self.ring());
        for part in parts {
            context.update(part);
        }
        context.finish()
    }
}
