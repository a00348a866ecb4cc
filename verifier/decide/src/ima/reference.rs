//! What a zone's lists are appraised by.

use quotary_common::id::Digest;

use super::allow::AllowList;
use super::limits::{EXCLUDES_MAX, PATH_BYTES_MAX, REQUIRED_PATHS_MAX};
use super::signer::{SignerKey, SignerKeys};

/// Why a reference cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A list is too long.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A path that excludes everything, or cannot be one.
    #[error("an excluded prefix or a required path is not absolute, is only `/`, is too long or has a NUL")]
    Path,
}

/// Allowed files, signers, excluded prefixes and required paths.
///
/// A host's root chooses what paths are measured inside a mount namespace: exclude only what no program runs from.
#[derive(Debug, Clone)]
pub struct Reference {
    allowed: AllowList,
    signers: SignerKeys,
    excluded: Vec<Vec<u8>>,
    required: Vec<Vec<u8>>,
    digest: Digest,
}

impl Reference {
    /// A reference of these parts. `excluded` are literal prefixes; `required` are paths that must have been measured and
    /// allowed.
    ///
    /// # Errors
    /// [`ReferenceError`] when there are too many, or one is not an absolute path.
    pub fn new(
        allowed: AllowList,
        signers: SignerKeys,
        excluded: Vec<Vec<u8>>,
        required: Vec<Vec<u8>>,
    ) -> Result<Self, ReferenceError> {
        if excluded.len() > EXCLUDES_MAX {
            return Err(ReferenceError::TooMany { what: "excluded prefixes", max: EXCLUDES_MAX });
        }
        if required.len() > REQUIRED_PATHS_MAX {
            return Err(ReferenceError::TooMany { what: "required paths", max: REQUIRED_PATHS_MAX });
        }
        let is_path = |path: &Vec<u8>| {
            path.starts_with(b"/") && path.len() > 1 && path.len() <= PATH_BYTES_MAX && !path.contains(&0)
        };
        if !excluded.iter().chain(&required).all(is_path) {
            return Err(ReferenceError::Path);
        }
        let digest = digest(&allowed, &signers, &excluded, &required);
        Ok(Self { allowed, signers, excluded, required, digest })
    }
    /// The allowed files.
    pub fn allowed(&self) -> &AllowList {
        &self.allowed
    }
    /// The signers.
    pub fn signers(&self) -> &SignerKeys {
        &self.signers
    }
    /// The paths that must have been measured, in order.
    pub fn required(&self) -> &[Vec<u8>] {
        &self.required
    }
    /// SHA-256 of all parts: when it differs from the one of an aggregate, the list is appraised anew.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        self.excluded.iter().any(|prefix| path.starts_with(prefix))
    }
}

fn digest(allowed: &AllowList, signers: &SignerKeys, excluded: &[Vec<u8>], required: &[Vec<u8>]) -> Digest {
    let mut bytes = b"quotary-ima-reference-v1\0".to_vec();
    bytes.extend_from_slice(allowed.digest().as_bytes());
    let mut list = |items: Vec<&[u8]>| {
        bytes.extend_from_slice(&(items.len() as u64).to_be_bytes());
        for item in items {
            bytes.extend_from_slice(&(item.len() as u64).to_be_bytes());
            bytes.extend_from_slice(item);
        }
    };
    let ids: Vec<[u8; 4]> = signers.iter().map(SignerKey::id).collect();
    list(ids.iter().map(|id| &id[..]).collect());
    list(signers.iter().map(SignerKey::spki).collect());
    list(excluded.iter().map(Vec::as_slice).collect());
    list(required.iter().map(Vec::as_slice).collect());
    Digest::of(&[&bytes])
}
