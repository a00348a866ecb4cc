//! The chain of envelopes: what was committed last, and what is on its way.

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, CborError, Version};
use quotary_common::envelope::{ClaimedEnvelope, WitnessedCheckpoint};
use quotary_common::grant::Accepted;
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::limits::ENVELOPE_BYTES_MAX;

use crate::state::{StateDir, StateError};

/// The chain's file in the state directory.
pub const CHAIN_FILE: &str = "chain.cbor";
const CHAIN_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 4096;

/// As kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    deployment: DeploymentId,
    #[n(2)]
    host: HostId,
    #[n(3)]
    sequence: u64,
    #[n(4)]
    digest: Digest,
    #[n(5)]
    epoch: u64,
    #[n(6)]
    generation: u64,
    #[n(7)]
    witnessed: Option<WitnessedCheckpoint>,
    #[n(8)]
    seen: Option<WitnessedCheckpoint>,
    #[cbor(n(9), with = "minicbor::bytes")]
    pending: Option<Vec<u8>>,
}

/// Where the next envelope stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence number.
    pub sequence: u64,
    /// SHA-256 of the one before; zeros before the first.
    pub predecessor: Digest,
}

/// The chain of one enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    record: Record,
    pending: Option<ClaimedEnvelope>,
}

/// A chain that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// It cannot be read or written.
    #[error("the chain of envelopes is not kept")]
    State(#[from] StateError),
    /// The file is not a chain, or its pending envelope is none.
    #[error(
        "{CHAIN_FILE} in the state directory is damaged: remove identity.cbor and {CHAIN_FILE}, and enrol the host again"
    )]
    Damaged(#[source] CborError),
    /// The file is not there, though the host is enrolled.
    #[error("{CHAIN_FILE} is missing from the state directory: remove identity.cbor and enrol the host again")]
    Missing,
    /// It is the chain of another enrolment.
    #[error("{CHAIN_FILE} is of host {found}, this is {host}: remove identity.cbor and enrol the host again")]
    OtherHost {
        /// Whose chain it is.
        found: HostId,
        /// Who we are.
        host: HostId,
    },
    /// An envelope that does not follow, or while another is on its way.
    #[error("the envelope does not follow the last committed one, or another is on its way")]
    NotNext,
    /// The agent was stopped while it was written.
    #[error("the agent was stopped while the chain was written")]
    Interrupted,
}

impl Chain {
    /// The chain of a fresh enrolment under `epoch`.
    pub fn begin(deployment: DeploymentId, host: HostId, epoch: u64) -> Self {
        let record = Record {
            version: Version,
            deployment,
            host,
            sequence: 0,
            digest: Digest::new([0; 32]),
            epoch,
            generation: 0,
            witnessed: None,
            seen: None,
            pending: None,
        };
        Self { record, pending: None }
    }

    /// Reads the chain of `host`.
    ///
    /// # Errors
    /// [`ChainError`] when it is missing, damaged, or another host's.
    pub fn load(state: &StateDir, deployment: DeploymentId, host: HostId) -> Result<Self, ChainError> {
        let bytes = state.read(CHAIN_FILE, CHAIN_BYTES_MAX)?.ok_or(ChainError::Missing)?;
        let record: Record = cbor::from_bytes(&bytes, CHAIN_BYTES_MAX).map_err(ChainError::Damaged)?;
        if (record.deployment, record.host) != (deployment, host) {
            return Err(ChainError::OtherHost { found: record.host, host });
        }
        let pending = record.pending.as_deref().map(ClaimedEnvelope::parse).transpose().map_err(ChainError::Damaged)?;
        Ok(Self { record, pending })
    }

    /// Makes the chain as it is now last.
    ///
    /// # Errors
    /// [`ChainError::State`] when it could not be written.
    pub fn store(&self, state: &StateDir) -> Result<(), ChainError> {
        Ok(state.write(CHAIN_FILE, &cbor::to_bytes(&self.record))?)
    }

    /// Where the next envelope stands.
    pub fn next_place(&self) -> Place {
        Place { sequence: self.record.sequence + 1, predecessor: self.record.digest }
    }

    /// Last committed sequence number; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.record.sequence
    }

    /// The envelope on its way.
    pub fn pending(&self) -> Option<&ClaimedEnvelope> {
        self.pending.as_ref()
    }

    /// Epoch and generation of the last grant set that held.
    pub fn accepted(&self) -> Accepted {
        Accepted { epoch: self.record.epoch, generation: self.record.generation }
    }

    /// The checkpoint that the last committed envelope witnessed: the verifier proves consistency from it.
    pub fn witnessed(&self) -> Option<WitnessedCheckpoint> {
        self.record.witnessed
    }

    /// The newest checkpoint that was checked: what the next envelope witnesses.
    pub fn seen(&self) -> Option<WitnessedCheckpoint> {
        self.record.seen
    }

    /// Puts an envelope on its way. [`Chain::store`] must succeed before it is quoted.
    ///
    /// # Errors
    /// [`ChainError::NotNext`] when it does not follow, or another is on its way.
    pub fn propose(&mut self, envelope: ClaimedEnvelope) -> Result<(), ChainError> {
        let claims = envelope.claims();
        let place = Place { sequence: claims.sequence, predecessor: claims.predecessor };
        let is_ours = (claims.deployment, claims.host) == (self.record.deployment, self.record.host);
        if self.pending.is_some() || place != self.next_place() || !is_ours {
            return Err(ChainError::NotNext);
        }
        self.record.pending = Some(envelope.bytes().to_vec());
        self.pending = Some(envelope);
        Ok(())
    }

    /// The verifier has committed the envelope on its way, and gave what is `accepted`.
    pub fn commit(&mut self, accepted: Accepted, checkpoint: Option<WitnessedCheckpoint>) -> Option<ClaimedEnvelope> {
        let envelope = self.pending.take()?;
        self.record.pending = None;
        self.record.sequence = envelope.claims().sequence;
        self.record.digest = envelope.digest();
        self.record.witnessed = envelope.claims().checkpoint;
        self.record.epoch = accepted.epoch;
        self.record.generation = accepted.generation;
        self.record.seen = checkpoint.or(self.record.seen);
        Some(envelope)
    }

    /// Takes back the envelope on its way: only where the verifier refused it unread (malformed, too large), so
    /// that no second one on this predecessor can ever meet the first.
    pub fn withdraw(&mut self) -> Option<ClaimedEnvelope> {
        self.record.pending = None;
        self.pending.take()
    }
}
