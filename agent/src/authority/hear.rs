//! Asks the verifier which quorum decisions are in force, and verifies those that this host does not know to be.

use std::collections::BTreeSet;
use std::sync::Arc;

use quotary_client::{Client, ClientError};
use quotary_common::id::{Digest, HostId};
use quotary_common::limits::{DECISIONS_KEPT_BYTES_MAX, DECISIONS_KEPT_MAX};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::decision::{VerifiedDecision, verify_as_of};
use quotary_common::wire::{
    ListQuorumDecisions, Nothing, QuorumDecisionReply, QuorumDecisionsReply, ShowQuorumDecision,
};

use super::error::in_a_line;
use super::judge::{as_of, text_of};
use crate::clock;

/// A decision that the verifier says is in force, and that holds here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its canonical bytes.
    pub(super) bytes: Vec<u8>,
    /// What people decided.
    pub(super) verified: VerifiedDecision,
    /// Under whom it held.
    pub(super) under: Authority,
    /// The instant that it was held against, Unix ms.
    pub(super) as_of_ms: u64,
}

impl Heard {
    /// Under whom it held.
    pub fn under(&self) -> &Authority {
        &self.under
    }

    /// SHA-256 of its text.
    pub fn text(&self) -> Digest {
        self.verified.text().digest()
    }
}

/// Where hearing begins.
#[derive(Debug, Clone)]
pub struct Before {
    /// Who decides.
    pub pin: Authority,
    /// Since when this host has known who decides, Unix ms.
    pub since_ms: Option<u64>,
    /// Texts of the decisions that it knows to be in force, or has heard of.
    pub known: BTreeSet<Digest>,
}

/// What hearing came to.
#[derive(Debug, Default)]
pub struct Told {
    /// Stands for what is in force, as the verifier says; `None`: nothing is.
    pub name: Option<Digest>,
    /// All of it, by the SHA-256 of the texts.
    pub listed: BTreeSet<Digest>,
    /// What this host did not know to be.
    pub decisions: Vec<Arc<Heard>>,
    /// What it has not taken, each with why, in a sentence.
    pub missed: Vec<String>,
    /// Why the verifier was not asked to the end.
    pub broke_off: Option<ClientError>,
}

/// Asks, and verifies.
///
/// # Errors
/// [`ClientError`] when the verifier does not say which decisions are in force. What was heard before it broke off comes back; one that it refuses to
/// show is missed.
pub async fn hear(client: &Client, host: &HostId, before: Before) -> Result<Told, ClientError> {
    let (host, client) = (host.hex(), client.clone());
    let listed = client.call::<ListQuorumDecisions>(&[&host], &Nothing {}).await?;
    let show = |text: Digest| {
        let (client, host) = (client.clone(), host.clone());
        async move { client.call::<ShowQuorumDecision>(&[&host, &text.hex()], &Nothing {}).await }
    };
    Ok(hear_by(listed, show, before, clock::unix_ms).await)
}

/// As [`hear`], by whoever answers; `now_ms` reads the clock, Unix ms.
pub(super) async fn hear_by<Shown>(
    listed: QuorumDecisionsReply,
    show: impl Fn(Digest) -> Shown,
    before: Before,
    now_ms: fn() -> u64,
) -> Told
where
    Shown: Future<Output = Result<QuorumDecisionReply, ClientError>>,
{
    let QuorumDecisionsReply { name, texts } = listed;
    let mut told = Told { name, listed: texts.into_iter().collect(), ..Told::default() };
    let mut room_bytes = DECISIONS_KEPT_BYTES_MAX;
    let texts = told.listed.clone();
    let beyond = texts.len().saturating_sub(DECISIONS_KEPT_MAX);
    if beyond > 0 {
        told.missed.push(format!("{beyond} more than the {DECISIONS_KEPT_MAX} that a host keeps"));
    }
    for text in texts.into_iter().take(DECISIONS_KEPT_MAX).filter(|text| !before.known.contains(text)) {
        let missed = |why: String| format!("the one over text {}: {why}", text.hex());
        let bytes = match show(text).await {
            Ok(reply) => reply.decision.0,
            Err(error) if error.may_retry() => {
                told.broke_off = Some(error);
                break;
            }
            Err(error) => {
                told.missed.push(missed(in_a_line(&error)));
                continue;
            }
        };
        let Some(left_bytes) = room_bytes.checked_sub(bytes.len()) else {
            told.missed.push(missed("there is no room for it".to_owned()));
            continue;
        };
        room_bytes = left_bytes;
        // Signatures of many people: not on the thread that everything else runs on.
        let (pin, since_ms) = (before.pin, before.since_ms);
        let held = tokio::task::spawn_blocking(move || held(bytes, text, pin, since_ms, now_ms())).await;
        match held {
            Ok(Ok(heard)) => told.decisions.push(Arc::new(heard)),
            Ok(Err(why)) => told.missed.push(missed(why)),
            Err(_) => told.missed.push(missed("verifying it broke off".to_owned())),
        }
    }
    told
}

/// Holds one against who decides, at `now_ms` (Unix ms).
fn held(bytes: Vec<u8>, text: Digest, pin: Authority, since_ms: Option<u64>, now_ms: u64) -> Result<Heard, String> {
    if text_of(&bytes) != Some(text) {
        return Err("another decision was shown in its place".to_owned());
    }
    let as_of_ms = as_of(&bytes, since_ms, now_ms);
    let verified =
        verify_as_of(&bytes, &pin, &pin.deployment, (as_of_ms, now_ms)).map_err(|fault| in_a_line(&fault))?;
    Ok(Heard { bytes, verified, under: pin, as_of_ms })
}
