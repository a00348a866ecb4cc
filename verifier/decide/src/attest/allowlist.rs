//! EKs that an operator admits one by one: by the SHA-256 of their SubjectPublicKeyInfo, which is the host's id too.

use std::collections::BTreeSet;

use quotary_common::id::HostId;
use quotary_common::reason::{Reason, Refusal};

use super::CheckedEnrolment;

/// Largest text of a list, in bytes: a hundred thousand hosts.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The admitted EKs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EkAllowList(BTreeSet<HostId>);

/// A list that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("EK allow-list, line {line}: expected the SHA-256 of an EK's SubjectPublicKeyInfo, 64 hexadecimal characters")]
pub struct EkAllowListError {
    line: usize,
}

impl EkAllowList {
    /// From hashes.
    pub fn new(keys: impl IntoIterator<Item = HostId>) -> Self {
        Self(keys.into_iter().collect())
    }
    /// Reads a text: one hash a line; empty lines and what follows a `#` are left out.
    ///
    /// # Errors
    /// [`EkAllowListError`] with the first line that is none (0: the text is too large).
    pub fn from_text(text: &str) -> Result<Self, EkAllowListError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EkAllowListError { line: 0 });
        }
        let mut keys = BTreeSet::new();
        for (i, line) in text.lines().enumerate() {
            let hash = line.split('#').next().unwrap_or_default().trim();
            if !hash.is_empty() {
                keys.insert(hash.parse().map_err(|_| EkAllowListError { line: i + 1 })?);
            }
        }
        Ok(Self(keys))
    }
    /// Whether this EK is admitted.
    pub fn contains(&self, host: &HostId) -> bool {
        self.0.contains(host)
    }
    /// For an admission by rule `ek-allowlist`.
    ///
    /// # Errors
    /// A [`Refusal`] `ek-chain` when the EK is not on the list.
    pub fn require(&self, checked: &CheckedEnrolment) -> Result<(), Refusal> {
        let host = checked.host_id();
        if self.contains(&host) {
            return Ok(());
        }
        let detail = format!("the endorsement key {} is not on the allow-list: add this hash to it", host.hex());
        Err(Refusal::new(Reason::EkChain, detail))
    }
}
