//! One exchange: the envelope on its way becomes evidence, and what comes back is checked.

use std::sync::Arc;
use std::time::Duration;

use quotary_client::{Client, ClientError};
use quotary_common::cbor::{Bounded, CborError};
use quotary_common::envelope::{ClaimedEnvelope, WitnessedCheckpoint};
use quotary_common::evidence::{Evidence, EvidenceVersion, PcrValue, extra_data};
use quotary_common::grant::{self, Accepted, VerifiedGrantSet};
use quotary_common::id::Digest;
use quotary_common::keys::KeysError;
use quotary_common::nonce::Nonce;
use quotary_common::plan::{self, VerifiedPlan};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::sign::Signed;
use quotary_common::wire::{AskNonce, Base64, EvidenceReply, EvidenceRequest, NonceReply, Nothing, SendEvidence};

use super::logs::{MeasuredLogs, ReadLogs};
use super::position::{Position, position};
use super::refusal::{Reaction, classify};
use super::witness::{LogAlarm, witness};
use crate::clock;
use crate::evidence::{Chain, ChainError};
use crate::identity::Identity;
use crate::state::StateDir;
use crate::tpm::{RawQuote, TpmError, TpmHandle};

/// Nonces that one exchange asks for at most.
const NONCES_MAX: u32 = 3;

/// What an exchange needs besides the chain.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where the chain is kept.
    pub state: StateDir,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// The way to the verifier.
    pub client: Client,
    /// The TPM.
    pub tpm: TpmHandle,
    /// The kernel's logs.
    pub logs: MeasuredLogs,
}

/// What accepted evidence brought, checked.
#[derive(Debug)]
pub struct Answer {
    /// The envelope that was committed.
    pub envelope: ClaimedEnvelope,
    /// What the host may use.
    pub grants: VerifiedGrantSet,
    /// The shaping plans that it is to follow: all of them.
    pub plans: Vec<VerifiedPlan>,
    /// How many times who decides was changed, where anybody was put in force.
    pub authority: Option<u64>,
    /// Stands for the quorum decisions in force that may reach the host, where there are any.
    pub quorum_decisions: Option<Digest>,
    /// What the next evidence needs.
    pub next: NonceReply,
    /// The zone that the host is in.
    pub zone: String,
    /// Findings that did not refuse it, as codes.
    pub findings: Vec<String>,
    /// How long the quotes took.
    pub quotes_took: Vec<Duration>,
}

/// An exchange that brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no envelope to send.
    #[error("there is no envelope on its way")]
    Nothing,
    /// The chain cannot be kept: nothing was quoted.
    #[error("the chain of envelopes cannot be kept: nothing was sent")]
    Chain(#[from] ChainError),
    /// The verifier did not answer, or refused.
    #[error("no accepted evidence")]
    Verifier(#[from] ClientError),
    /// The verifier's nonce is not one.
    #[error("the verifier's nonce has {0} bytes instead of 32: are both ends of the same version?")]
    Nonce(usize),
    /// The TPM did not quote.
    #[error("the TPM did not quote")]
    Tpm(#[from] TpmError),
    /// The verifier has less of this host's chain than it committed before.
    #[error(
        "the verifier waits for envelope {waits_for}, we are at {ours}: was it restored from a backup? Nothing was sent"
    )]
    Behind {
        /// Its next sequence number.
        waits_for: u64,
        /// Ours.
        ours: u64,
    },
    /// The verifier's key certificate has ended.
    #[error("the verifier's keys have ended")]
    Keys(#[from] KeysError),
    /// The grant set is not readable.
    #[error("the grant set is not readable")]
    GrantForm(#[source] CborError),
    /// The grant set does not hold.
    #[error("the grant set was refused, nothing of it is applied: {0}")]
    Grants(#[source] Refusal),
    /// The audit log is not what we saw.
    #[error("audit log alarm: {0}")]
    Log(#[from] LogAlarm),
}

impl LinkError {
    /// The refusal behind it, if it is one: the verifier's, or ours of what it sent.
    pub fn refusal(&self) -> Option<quotary_common::wire::Error> {
        match self {
            Self::Verifier(ClientError::Refused { error, .. }) => Some(error.clone()),
            Self::Grants(refusal) => Some(refusal.into()),
            Self::GrantForm(source) => {
                Some((&Refusal::new(Reason::GrantSignature, format!("the grant set is not readable: {source}"))).into())
            }
            _ => None,
        }
    }

    /// Whether it shows that somebody lies, not that something is out of order: worth an alarm.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Log(_) | Self::Behind { .. })
            || self.refusal().is_some_and(|refusal| refusal.reason.is_finding())
    }

    /// What to do about it.
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Verifier(ClientError::Refused { error, .. }) => classify(error.reason),
            Self::Verifier(error) if error.may_retry() => Reaction::Later,
            Self::Tpm(_) | Self::Chain(_) | Self::Nothing | Self::Grants(_) | Self::GrantForm(_) => Reaction::Later,
            Self::Keys(_) => Reaction::Enrol,
            Self::Verifier(_) | Self::Nonce(_) | Self::Behind { .. } | Self::Log(_) => Reaction::Finding,
        }
    }
}

/// Sends the envelope on its way in `chain`, with `nonce` if one is at hand, and checks what comes back. The chain
/// comes back in any case: moved on only when everything held.
///
/// # Errors
/// [`LinkError`] naming the step; the envelope is then still on its way.
pub async fn exchange(
    with: &Exchange,
    mut chain: Chain,
    nonce: Option<NonceReply>,
) -> (Chain, Result<Answer, LinkError>) {
    let outcome = attempt(with, &mut chain, nonce).await;
    (chain, outcome)
}

async fn attempt(with: &Exchange, chain: &mut Chain, nonce: Option<NonceReply>) -> Result<Answer, LinkError> {
    store(with, chain).await?;
    let pending = chain.pending().ok_or(LinkError::Nothing)?.clone();
    let mut quotes_took = Vec::new();
    let mut nonce = nonce;
    for asked in 0..NONCES_MAX {
        let given = match nonce.take() {
            Some(given) => given,
            None => with.client.call::<AskNonce>(&[&with.identity.host().hex()], &Nothing {}).await?,
        };
        let place = position(&given, &pending);
        if place == Position::Behind {
            return Err(LinkError::Behind { waits_for: given.next_sequence, ours: pending.claims().sequence });
        }
        let (evidence, took) = quote(with, &pending, &given).await?;
        quotes_took.push(took);
        let request = EvidenceRequest { evidence: Base64(evidence) };
        match with.client.call::<SendEvidence>(&[&with.identity.host().hex()], &request).await {
            Ok(reply) => return accept(with, chain, reply, quotes_took).await,
            // A stale nonce, or a reply that was lost: look again where the verifier stands.
            Err(ClientError::Refused { error, .. })
                if classify(error.reason) == Reaction::FreshNonce && asked + 1 < NONCES_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(LinkError::Nothing)
}

async fn quote(
    with: &Exchange,
    pending: &ClaimedEnvelope,
    given: &NonceReply,
) -> Result<(Vec<u8>, Duration), LinkError> {
    let nonce = <[u8; 32]>::try_from(given.nonce.0.as_slice()).map_err(|_| LinkError::Nonce(given.nonce.0.len()))?;
    let covered = extra_data(&Nonce::new(nonce), &pending.digest());
    let RawQuote { attest, signature, pcr_values, took } = with.tpm.quote(covered, &given.pcr_selection).await?;
    // After the quote: what is measured in between is more than the quote covers, never less.
    let ReadLogs { boot_log, ima, measure_log } = with.logs.read(&given.logs, pending.claims().boot_id).await;
    let values = pcr_values.into_iter().map(|(hash_alg, index, value)| PcrValue { hash_alg, index, value }).collect();
    let evidence = Evidence {
        version: EvidenceVersion::of(boot_log.is_some() || ima.is_some(), measure_log.is_some()),
        nonce,
        envelope: pending.bytes().to_vec(),
        attest,
        signature,
        pcr_values: Bounded::truncating(values).0,
        boot_log,
        ima,
        measure_log,
    };
    Ok((evidence.to_bytes(), took))
}

/// Checks a reply whole, then moves the chain and makes that last.
async fn accept(
    with: &Exchange,
    chain: &mut Chain,
    reply: EvidenceReply,
    quotes_took: Vec<Duration>,
) -> Result<Answer, LinkError> {
    let Checked { grants, plans, checkpoint } = check(&with.identity, chain, &reply, clock::unix_ms())?;
    let accepted = Accepted { epoch: grants.set().epoch, generation: grants.set().generation };
    let before = chain.clone();
    let envelope = chain.commit(accepted, Some(checkpoint)).ok_or(LinkError::Nothing)?;
    if let Err(error) = store(with, chain).await {
        // On disk the envelope is still on its way: so it must be here.
        *chain = before;
        return Err(error.into());
    }
    let EvidenceReply { authority, quorum_decisions, next, zone, findings, .. } = reply;
    Ok(Answer { envelope, grants, plans, authority, quorum_decisions, next, zone, findings, quotes_took })
}

/// What a reply says that holds.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) grants: VerifiedGrantSet,
    pub(super) plans: Vec<VerifiedPlan>,
    pub(super) checkpoint: WitnessedCheckpoint,
}

/// What holds of a reply to the envelope on its way in `chain`, at `now_ms` (Unix time). Pure.
pub(super) fn check(
    identity: &Identity,
    chain: &Chain,
    reply: &EvidenceReply,
    now_ms: u64,
) -> Result<Checked, LinkError> {
    let pending = chain.pending().ok_or(LinkError::Nothing)?;
    let keys = identity.keys(now_ms)?;
    let signed = Signed::from_bytes(&reply.grant_set.0).map_err(LinkError::GrantForm)?;
    let grants = grant::verify(&signed, keys, (pending.claims(), &pending.digest()), chain.accepted())
        .map_err(LinkError::Grants)?;
    let signed: Vec<&[u8]> = reply.plans.iter().map(|plan| plan.0.as_slice()).collect();
    let plans = plan::verify(&signed, keys, &grants).map_err(LinkError::Grants)?;
    let log_key = &keys.certificate().log_key;
    let base = pending.claims().checkpoint;
    let checkpoint = witness(&reply.next, &identity.deployment(), log_key, base, chain.seen())?;
    Ok(Checked { grants, plans, checkpoint })
}

/// Writes the chain away from the thread that everything else runs on: an fsync may take long.
async fn store(with: &Exchange, chain: &Chain) -> Result<(), ChainError> {
    let (state, copy) = (with.state.clone(), chain.clone());
    match tokio::task::spawn_blocking(move || copy.store(&state)).await {
        Ok(outcome) => outcome,
        // The runtime is shutting down: whether it was written is unknown, so it counts as not written.
        Err(_) => Err(ChainError::Interrupted),
    }
}
