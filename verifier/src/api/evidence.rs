//! Nonces out, evidence in: precheck, verify in parallel, commit in the writer, reply.

use std::sync::Arc;

use quotary_common::id::Digest;
use quotary_common::nonce::NonceScope;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{AskNonce, Base64, EvidenceReply, NonceReply, PcrBank, SendEvidence};
use quotary_decide::attest::{Arrival, OutOfOrderEvidence, Prechecked, precheck, verify, verify_out_of_order};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::App;
use super::auth::Caller;
use super::mount::Call;
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
    let (checkpoint, consistency) = app.audit.note_since(witnessed);
    let banks = app.selection.banks().iter();
    Ok(NonceReply {
        nonce: Base64(app.nonce_key.mint(&scope, expiry_ms, random).as_bytes().to_vec()),
        pcr_selection: banks.map(|bank| PcrBank { hash_alg: bank.hash_alg, pcrs: bank.indices().collect() }).collect(),
        next_sequence: progress.sequence.saturating_add(1),
        predecessor: progress.envelope,
        checkpoint,
        consistency,
    })
}

pub(super) async fn send(call: Call<SendEvidence>) -> Result<EvidenceReply, Refusal> {
    let (snapshot, key) = of_host(&call.caller)?;
    let (app, bytes) = (&call.app, &call.body.evidence.0);
    let host = snapshot.host.record.host;
    let arrival = Arrival { deployment: app.deployment, host, tls_key: key, evidence: bytes };
    let prechecked = precheck(&arrival, Some(snapshot.host.enrolled()), &app.nonce_key, app.clock.now_ms());
    let verified = match prechecked {
        Ok(Prechecked::Repeat(_)) => return reply(app, snapshot),
        Ok(Prechecked::Next(evidence)) => verify(*evidence, snapshot.host.enrolled(), &app.selection),
        Ok(Prechecked::OutOfOrder(evidence)) => Err(out_of_order(app, snapshot, &evidence)),
        Err(refusal) => Err(refusal),
    };
    match verified {
        Ok(evidence) => {
            let evidence = Box::new(evidence);
            if let Err(refusal) = app.queue.ask(|answer| Command::Accept { evidence, answer }).await {
                // The writer has written the leaf of an appraisal's refusal; here it is only counted.
                app.view.count_refused(Some(&host), "evidence", &refusal, app.clock.now_ms());
                return Err(refusal);
            }
            let snapshot = app.view.host(&host).ok_or_else(|| Refusal::new(Reason::UnknownHost, "the host is gone"))?;
            reply(app, &snapshot)
        }
        Err(refusal) if refusal.reason.raises_epoch() => {
            let (found, input) = (refusal.clone(), Digest::of(&[bytes]));
            tracing::warn!(%host, reason = refusal.reason.code(), "a finding under a valid signature: the epoch rises");
            app.view.count_refused(Some(&host), "evidence", &refusal, app.clock.now_ms());
            app.queue.ask(|answer| Command::Finding { host, refusal: found, input, answer }).await?;
            Err(refusal)
        }
        Err(refusal) => Err(app.refuse(Some(&host), "evidence", refusal, bytes).await),
    }
}

fn out_of_order(app: &App, snapshot: &HostSnapshot, evidence: &OutOfOrderEvidence) -> Refusal {
    if !snapshot.tally.may_check_out_of_order(app.clock.now_ms()) {
        return evidence.refuse_unverified();
    }
    let record = &snapshot.host.record;
    let key = crate::core::tables::sequence_key(record, evidence.sequence());
    let reader = app.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let row = reader.get(crate::core::tables::SEQUENCES, Partition::of_host(&record.host), &key).ok().flatten();
    drop(reader);
    let committed = row.and_then(|row| crate::core::tables::SequenceRow::from_bytes(&row)).map(|row| row.envelope);
    verify_out_of_order(evidence, snapshot.host.enrolled(), committed)
}

/// The reply to the host's last committed evidence: the same whether it came once or again.
fn reply(app: &App, snapshot: &HostSnapshot) -> Result<EvidenceReply, Refusal> {
    let progress = &snapshot.host.progress;
    let gone = || Refusal::new(Reason::NotFound, "there is no reply to repeat: send the next evidence");
    Ok(EvidenceReply {
        evidence: progress.evidence.ok_or_else(gone)?,
        zone: progress.zone.as_ref().map(|zone| zone.as_str().to_owned()).unwrap_or_default(),
        findings: progress.findings.iter().map(|finding| finding.as_str().to_owned()).collect(),
        valid_until_ms: progress.valid_until_ms,
        grant_set: Base64(snapshot.reply.as_ref().ok_or_else(gone)?.as_ref().clone()),
        plans: Vec::new(),
        next: next(app, snapshot)?,
    })
}
