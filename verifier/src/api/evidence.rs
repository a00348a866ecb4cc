//! Nonces out, evidence in: precheck, verify in parallel, commit in the writer, reply.

use std::sync::Arc;

use quotary_common::id::Digest;
use quotary_common::nonce::NonceScope;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{AskNonce, Base64, EvidenceReply, NonceReply, PcrBank, SendEvidence};
use quotary_decide::attest::{
    Arrival, HeldLogs, Measured, OutOfOrderEvidence, Prechecked, VerifiedEvidence, measure, precheck, verify,
    verify_out_of_order,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::App;
use super::auth::Caller;
use super::mount::Call;
use crate::core::tables::{self, SequenceRow};
use crate::core::{Command, HostSnapshot};
use crate::store::Partition;

fn of_host(caller: &Caller) -> Result<(&Arc<HostSnapshot>, Digest), Refusal> {
    match caller {
        Caller::Host(snapshot, key) => Ok((snapshot, *key)),
        _ => Err(Refusal::new(Reason::Forbidden, "this route is for the host itself")),
    }
}

pub(super) async fn nonce(call: Call<AskNonce>) -> Result<NonceReply, Refusal> {
    let (snapshot, _) = of_host(&call.caller)?;
    next(&call.app, snapshot)
}

/// What the host's next evidence needs.
fn next(app: &App, snapshot: &HostSnapshot) -> Result<NonceReply, Refusal> {
    let progress = &snapshot.host.progress;
    let scope = NonceScope {
        deployment: app.deployment,
        host: snapshot.host.record.host,
        committed_sequence: progress.sequence,
    };
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| Refusal::new(Reason::Unavailable, "the random source failed"))?;
    let expiry_ms = app.clock.now_ms().saturating_add(app.timing.nonce_ms);
    let witnessed = progress.seen.as_ref().and_then(|seen| seen.witnessed).map_or(0, |checkpoint| checkpoint.size);
    let (checkpoint, consistency) = app.audit.note_since(witnessed).ok_or_else(|| {
        Refusal::new(Reason::Unavailable, "the audit log cannot be read now: see the verifier's journal")
    })?;
    let banks = app.selection.banks().iter();
    Ok(NonceReply {
        nonce: Base64(app.nonce_key.mint(&scope, expiry_ms, random).as_bytes().to_vec()),
        pcr_selection: banks.map(|bank| PcrBank { hash_alg: bank.hash_alg, pcrs: bank.indices().collect() }).collect(),
        next_sequence: progress.sequence.saturating_add(1),
        predecessor: progress.envelope,
        checkpoint,
        consistency,
        logs: HeldLogs::wanted(progress.logs.as_ref(), &app.ground.zones),
    })
}

pub(super) async fn send(call: Call<SendEvidence>) -> Result<EvidenceReply, Refusal> {
    let (before, key) = of_host(&call.caller)?;
    let (app, bytes) = (&call.app, &call.body.evidence.0);
    let host = before.host.record.host;
    // The body took its time: what was committed meanwhile counts.
    let gone = || Refusal::new(Reason::UnknownHost, "the host is gone");
    let snapshot = app.view.host(&host).ok_or_else(gone)?;
    let Some(_place) = snapshot.tally.enter() else {
        return Err(Refusal::new(Reason::Busy, "evidence of this host is being looked at: wait for its reply"));
    };
    let enrolled_at_ms = snapshot.host.record.enrolled_at_ms;
    let (found, envelope) = match look_at(app, &snapshot, key, bytes) {
        Look::Repeat => return reply(app, &snapshot),
        Look::Good(evidence, measured) => {
            let command = |answer| Command::Accept { evidence, measured, enrolled_at_ms, answer };
            let accepted = app.queue.ask(command).await;
            return match accepted {
                Ok(()) => reply(app, &*app.view.host(&host).ok_or_else(gone)?),
                Err(refusal) => Err(app.refuse(Some(&host), "evidence", refusal, bytes).await),
            };
        }
        Look::Refused(refusal, envelope) => (refusal, envelope),
    };
    let Some(envelope) = envelope.filter(|_| found.reason.raises_epoch()) else {
        return Err(app.refuse(Some(&host), "evidence", found, bytes).await);
    };
    let (refusal, input) = (found.clone(), Digest::of(&[bytes]));
    let command = |answer| Command::Finding { host, refusal, input, envelope, enrolled_at_ms, answer };
    if app.queue.ask(command).await? {
        tracing::warn!(%host, reason = found.reason.code(), "a finding under a valid signature: the epoch rose");
        app.view.note_refused(Some(&host), &found);
        return Err(found);
    }
    Err(app.refuse(Some(&host), "evidence", found, bytes).await)
}

/// What evidence is, before the writer sees it.
enum Look {
    Repeat,
    Good(Box<VerifiedEvidence>, Box<Measured>),
    /// Why not, and which envelope it was about, if that reads.
    Refused(Refusal, Option<Digest>),
}

fn look_at(app: &App, snapshot: &HostSnapshot, tls_key: Digest, bytes: &[u8]) -> Look {
    let enrolled = snapshot.host.enrolled();
    let arrival = Arrival { deployment: app.deployment, host: enrolled.host, tls_key, evidence: bytes };
    match precheck(&arrival, Some(enrolled), &app.nonce_key, app.clock.now_ms()) {
        Ok(Prechecked::Repeat(_)) => Look::Repeat,
        Ok(Prechecked::Next(evidence)) => {
            let envelope = evidence.envelope().digest();
            let verified = verify(*evidence, enrolled, &app.selection);
            match verified.and_then(|evidence| minted_since(app, snapshot, evidence)) {
                Ok(evidence) => {
                    // Its name, made here: handlers are many, the writer is one.
                    let _name = evidence.evidence_digest();
                    let measured = measure(snapshot.host.progress.logs.as_ref(), &evidence, &app.ground.zones);
                    Look::Good(Box::new(evidence), Box::new(measured))
                }
                Err(refusal) => Look::Refused(refusal, Some(envelope)),
            }
        }
        Ok(Prechecked::OutOfOrder(evidence)) => {
            Look::Refused(out_of_order(app, snapshot, &evidence), Some(evidence.envelope_digest()))
        }
        Err(refusal) => Look::Refused(refusal, None),
    }
}

/// Nonces bind to the sequence, which starts anew with each enrolment: one of an earlier enrolment does not count.
fn minted_since(app: &App, snapshot: &HostSnapshot, evidence: VerifiedEvidence) -> Result<VerifiedEvidence, Refusal> {
    let first_expiry_ms = snapshot.host.record.enrolled_at_ms.saturating_add(app.timing.nonce_ms);
    if evidence.nonce().expiry_ms() < first_expiry_ms {
        return Err(Refusal::new(Reason::NonceUnknown, "the nonce is of an earlier enrolment: ask for another"));
    }
    Ok(evidence)
}

fn out_of_order(app: &App, snapshot: &HostSnapshot, evidence: &OutOfOrderEvidence) -> Refusal {
    let record = &snapshot.host.record;
    let key = tables::sequence_key(record, evidence.sequence());
    let reader = app.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let row = reader.get(tables::SEQUENCES, Partition::of_host(&record.host), &key).ok().flatten();
    drop(reader);
    let committed = row.and_then(|row| SequenceRow::from_bytes(&row)).map(|row| row.envelope);
    // A replay costs no signature check, and none of the few that a fork may cost.
    if committed == Some(evidence.envelope_digest()) || !snapshot.tally.may_check_out_of_order(app.clock.now_ms()) {
        return evidence.refuse_unverified();
    }
    verify_out_of_order(evidence, snapshot.host.enrolled(), committed)
}

/// The reply to the host's last committed evidence: the same whether it came once or again.
fn reply(app: &App, snapshot: &HostSnapshot) -> Result<EvidenceReply, Refusal> {
    let progress = &snapshot.host.progress;
    let gone = || Refusal::new(Reason::NotFound, "there is no reply to repeat: send the next evidence");
    let last = snapshot.reply.as_ref().ok_or_else(gone)?;
    let book = app.view.changes();
    Ok(EvidenceReply {
        evidence: progress.evidence.ok_or_else(gone)?,
        zone: progress.zone.as_ref().map(|zone| zone.as_str().to_owned()).unwrap_or_default(),
        findings: progress.findings.iter().map(|finding| finding.as_str().to_owned()).collect(),
        valid_until_ms: progress.valid_until_ms,
        grant_set: Base64(last.set.clone()),
        plans: last.plans.iter().map(|record| Base64(record.signed().to_vec())).collect(),
        authority: book.governing().map(|governing| governing.pin().number),
        quorum_decisions: book.in_force_name(&snapshot.host.record.host),
        next: next(app, snapshot)?,
    })
}
