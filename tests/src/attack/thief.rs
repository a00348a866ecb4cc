//! Somebody who talks to the verifier in a host's name, from wherever they are.

use anyhow::{Result, bail};
use quotary_client::{Client, ClientError};
use quotary_common::id::{Digest, HostId};
use quotary_common::wire::{self, AskNonce, Base64, EvidenceRequest, NonceReply, Nothing, SendEvidence};
use tokio::runtime::Handle;

use super::stolen::StolenKey;

/// What came of an attempt.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// It was taken for the host's own word.
    Accepted,
    /// It was refused.
    Refused(wire::Error),
}

impl Attempt {
    /// The refusal.
    ///
    /// # Errors
    /// When there was none: the attack succeeded.
    pub fn refusal(self) -> Result<wire::Error> {
        match self {
            Self::Refused(error) => Ok(error),
            Self::Accepted => bail!("the attack was not refused"),
        }
    }

    /// From what the client says.
    pub(super) fn of<T>(outcome: Result<T, ClientError>) -> Result<Self> {
        match outcome {
            Ok(_) => Ok(Self::Accepted),
            Err(ClientError::Refused { error, .. }) => Ok(Self::Refused(error)),
            Err(other) => Err(other.into()),
        }
    }
}

/// A caller of the host routes with a key that is not theirs, or not the host's.
#[derive(Debug)]
pub struct Thief {
    runtime: Handle,
    client: Client,
    host: HostId,
}

impl Thief {
    /// Somebody who speaks for `host` with `key`.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(runtime: Handle, key: &StolenKey, verifier_url: &str, ca_pin: Digest, host: HostId) -> Result<Self> {
        Ok(Self { runtime, client: key.client(verifier_url, ca_pin)?, host })
    }

    /// Sends evidence in the host's name.
    ///
    /// # Errors
    /// When the verifier is not reached.
    pub fn send(&self, evidence: &[u8]) -> Result<Attempt> {
        let request = EvidenceRequest { evidence: Base64(evidence.to_vec()) };
        Attempt::of(self.runtime.block_on(self.client.call::<SendEvidence>(&[&self.host.hex()], &request)))
    }

    /// Asks for a nonce in the host's name.
    ///
    /// # Errors
    /// When the verifier is not reached, or refuses.
    pub fn nonce(&self) -> Result<NonceReply> {
        Ok(self.runtime.block_on(self.client.call::<AskNonce>(&[&self.host.hex()], &Nothing {}))?)
    }
}
