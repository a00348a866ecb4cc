//! Enrolment: challenge and activation (design §5).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quotary_common::id::{Digest, EnrolmentId, TokenId};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::token::token_id;
use quotary_common::wire::{ActivateEnrolment, Base64, BeginEnrolment, EnrolmentChallenge, EnrolmentReply};
use quotary_decide::attest::{
    CheckedEnrolment, EnrolmentClaim, activation_digest, check_activation, check_enrolment, make_credential,
};
use quotary_decide::registry::check_join;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::auth::Caller;
use super::mount::Call;
use crate::core::Command;

/// Enrolments that wait at once; the oldest gives way.
const PENDING_MAX: usize = 1024;
/// How long one waits, ms.
const PENDING_MS: u64 = 60_000;

struct Pending {
    checked: Box<CheckedEnrolment>,
    token: TokenId,
    expected: Digest,
    since_ms: u64,
}

/// Enrolments that wait for their activation, under random ids: nobody can block a victim.
#[derive(Default)]
pub struct PendingEnrolments(Mutex<BTreeMap<EnrolmentId, Pending>>);

impl PendingEnrolments {
    fn put(&self, id: EnrolmentId, pending: Pending) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = pending.since_ms;
        all.retain(|_, other| now_ms.saturating_sub(other.since_ms) < PENDING_MS);
        // One token has one pending enrolment: it cannot fill the table.
        all.retain(|_, other| other.token != pending.token);
        while all.len() >= PENDING_MAX {
            let Some(oldest) = all.iter().min_by_key(|(_, other)| other.since_ms).map(|(id, _)| *id) else { break };
            all.remove(&oldest);
        }
        all.insert(id, pending);
    }

    /// Takes it out: one answer, right or wrong.
    fn take(&self, id: &EnrolmentId, now_ms: u64) -> Option<Pending> {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)?;
        (now_ms.saturating_sub(pending.since_ms) < PENDING_MS).then_some(pending)
    }
}

fn tls_key(caller: &Caller) -> Result<Digest, Refusal> {
    match caller {
        Caller::Joiner(key) => Ok(*key),
        _ => Err(Refusal::new(Reason::Forbidden, "enrolment is for hosts")),
    }
}

pub(super) async fn begin(call: Call<BeginEnrolment>) -> Result<EnrolmentChallenge, Refusal> {
    let input = call.body.ek_public.0.clone();
    match challenge(&call) {
        Ok(challenge) => Ok(challenge),
        Err(refusal) => Err(call.app.refuse(None, "enrolment", refusal, &input).await),
    }
}

fn challenge(call: &Call<BeginEnrolment>) -> Result<EnrolmentChallenge, Refusal> {
    let (app, body) = (&call.app, &call.body);
    let now_ms = app.clock.now_ms();
    let secret = Zeroizing::new(body.join_secret.0.clone());
    let secret: &[u8; 32] =
        secret.as_slice().try_into().map_err(|_| Refusal::new(Reason::JoinToken, "the join secret is not 32 bytes"))?;
    let token = token_id(secret);
    let record = app.view.token(&token);
    check_join(record.as_ref(), None, now_ms)?;
    let certificates: Vec<Vec<u8>> = body.ek_certificates.iter().map(|certificate| certificate.0.clone()).collect();
    let claim = EnrolmentClaim {
        ek_public: &body.ek_public.0,
        ek_certificates: &certificates,
        ak_public: &body.ak_public.0,
        claimed_host: body.host,
        tls_key: tls_key(&call.caller)?,
    };
    let checked = check_enrolment(&claim, &app.roots, i64::try_from(now_ms / 1000).unwrap_or(i64::MAX))?;
    check_join(record.as_ref(), Some(&checked.host_id()), now_ms)?;
    app.ek_allow_list.as_ref().map_or(Ok(()), |list| list.require(&checked))?;
    let random = SystemRandom::new();
    let unavailable = |_| Refusal::new(Reason::Unavailable, "the random source failed");
    let mut answer = Zeroizing::new([0u8; 32]);
    let mut id = [0u8; 32];
    random.fill(answer.as_mut()).map_err(unavailable)?;
    random.fill(&mut id).map_err(unavailable)?;
    let credential = make_credential(checked.ek(), checked.ak_name(), answer.as_slice(), &random)
        .map_err(|error| Refusal::new(Reason::EkMismatch, error.to_string()))?;
    let enrolment = EnrolmentId::new(id);
    let expected = activation_digest(answer.as_slice());
    app.pending.put(enrolment, Pending { checked: Box::new(checked), token, expected, since_ms: now_ms });
    Ok(EnrolmentChallenge {
        enrolment,
        credential_blob: Base64(sized(&credential.id_object)),
        encrypted_secret: Base64(sized(&credential.encrypted_secret)),
    })
}

/// With the 16-bit size that makes it a `TPM2B`.
fn sized(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().as_slice(), content].concat()
}

pub(super) async fn activate(call: Call<ActivateEnrolment>) -> Result<EnrolmentReply, Refusal> {
    let app = &call.app;
    let now_ms = app.clock.now_ms();
    let id = call.path.first().and_then(|text| text.parse::<EnrolmentId>().ok());
    let failed = || Refusal::new(Reason::Activation, "the credential was not activated: start the enrolment again");
    let key = tls_key(&call.caller)?;
    let answer = Zeroizing::new(call.body.secret.0.clone());
    let pending = id
        .and_then(|id| app.pending.take(&id, now_ms))
        .filter(|pending| pending.checked.tls_key() == key && check_activation(&pending.expected, &answer).is_ok());
    let Some(Pending { checked, token, .. }) = pending else {
        return Err(app.refuse(None, "activation", failed(), key.as_bytes()).await);
    };
    let host = checked.host_id();
    let epoch = app.queue.ask(|answer| Command::Enrol { checked, token, answer }).await?;
    tracing::info!(%host, epoch, "enrolled");
    Ok(EnrolmentReply {
        host,
        deployment: app.deployment,
        keys: Base64(app.certificate.clone()),
        epoch,
        timing: app.timing.for_agents(),
    })
}
