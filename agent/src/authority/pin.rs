//! The pin: who decides, as this host holds it from one start to the next.

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Version};
use quotary_common::id::DeploymentId;
use quotary_common::quorum::authority::Authority;
use quotary_common::sign::PublicKey;

use super::AuthorityError;
use crate::state::StateDir;

/// The file of the pin in the state directory.
pub const PIN_FILE: &str = "authority.cbor";
/// Largest such file, in bytes; it takes under 200.
const PIN_BYTES_MAX: usize = 1024;

/// The pin as kept: what it says holds for a host that this root's deployment has enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct PinRecord {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    root: PublicKey,
    #[n(2)]
    authority: Authority,
    /// Since when this host has known who decides, Unix ms by its own clock; pins of earlier versions do not say.
    #[n(3)]
    since_ms: Option<u64>,
}

/// What is pinned, and where it is kept.
#[derive(Debug)]
pub struct Pin {
    state: StateDir,
    root: PublicKey,
    deployment: DeploymentId,
    authority: Option<Authority>,
    since_ms: Option<u64>,
}

impl Pin {
    /// What was pinned under this root for this deployment, if anything. What another one left counts as nothing, and
    /// stays until something is pinned.
    ///
    /// # Errors
    /// [`AuthorityError::Pin`] and [`AuthorityError::PinForm`] when there is something that does not read: the file stays.
    pub fn load(state: StateDir, root: PublicKey, deployment: DeploymentId) -> Result<Self, AuthorityError> {
        let mut pin = Self { state, root, deployment, authority: None, since_ms: None };
        let Some(bytes) = pin.state.read(PIN_FILE, PIN_BYTES_MAX).map_err(AuthorityError::Pin)? else {
            return Ok(pin);
        };
        let record: PinRecord = cbor::from_bytes(&bytes, PIN_BYTES_MAX)
            .map_err(|source| AuthorityError::PinForm { path: pin.state.file(PIN_FILE), source })?;
        if record.root == root && record.authority.deployment == deployment {
            (pin.authority, pin.since_ms) = (Some(record.authority), record.since_ms);
        } else {
            tracing::warn!(deployment = %record.authority.deployment, "who decides was pinned for another deployment: that counts no more");
        }
        Ok(pin)
    }

    /// Who decides; `None`: nobody has said so yet.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Since when this host has known who decides, Unix ms: what it could not take before, nobody kept from it. `None`: for longer than
    /// anybody knows.
    pub fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }

    /// Under which root.
    pub fn root(&self) -> &PublicKey {
        &self.root
    }

    /// For which deployment.
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// Whether somebody who counts `number` changes knows more.
    pub fn is_behind(&self, number: u64) -> bool {
        self.authority.is_none_or(|authority| authority.number < number)
    }

    /// Pins it at `now_ms` (Unix ms): on the disk first, then here. It must be of this deployment, which [`super::Walk`] sees to.
    ///
    /// # Errors
    /// [`AuthorityError::Back`] when it is not above what is pinned (the same again is no fault), [`AuthorityError::Pin`]
    /// when it could not be written: then the old one holds.
    pub fn advance(&mut self, to: Authority, now_ms: u64) -> Result<(), AuthorityError> {
        if self.authority == Some(to) {
            return Ok(());
        }
        if let Some(from) = self.authority
            && from.number >= to.number
        {
            return Err(AuthorityError::Back { from: from.number, to: to.number });
        }
        let since_ms = if self.authority.is_some() { self.since_ms } else { Some(now_ms) };
        let record = PinRecord { version: Version, root: self.root, authority: to, since_ms };
        self.state.write(PIN_FILE, &cbor::to_bytes(&record)).map_err(AuthorityError::Pin)?;
        (self.authority, self.since_ms) = (Some(to), since_ms);
        Ok(())
    }
}
