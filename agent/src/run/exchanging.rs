//! Evidence from the loop's side: what goes into it, and what its acceptance or refusal means here.

use std::error::Error;
use std::sync::Arc;

use quotary_common::envelope::{Backend, BackendKind, Mode, Name};
use quotary_common::id::Digest;
use quotary_common::limits::defaults;
use quotary_common::wire::RequestReply;

use super::agent::Agent;
use super::enforcement::Order;
use super::linking::{Pause, Stage, Worked};
use crate::evidence::{self, Chain, Contents, Frame};
use crate::identity::Identity;
use crate::link::{self, Answer, LinkError, Reaction};

/// A nonce that is older is not worth a quote: it may have expired on the way.
const NONCE_AGE_MAX_MS: u64 = defaults::NONCE_MS / 2;

impl Agent {
    /// Has the envelope on its way sent; builds the next one if there is none.
    pub(super) fn send_evidence(&mut self, now_ms: u64) {
        let Stage::Enrolled { exchange, tls_key, chain, nonce } = &mut self.linking.stage else { return };
        let Some(mut chain) = chain.take() else { return };
        let (exchange, tls_key) = (Arc::clone(exchange), *tls_key);
        let nonce = nonce.take().filter(|(_, since_ms)| now_ms.saturating_sub(*since_ms) < NONCE_AGE_MAX_MS);
        self.schedule.started(now_ms);
        if chain.pending().is_none()
            && let Err(error) = self.propose(&mut chain, &exchange.identity, tls_key, now_ms)
        {
            // The budgets of `evidence::build` exclude it; should it come about, nothing was stated, and the next try
            // builds another.
            tracing::error!(error = error.as_ref() as &dyn Error, "no envelope was built");
        }
        self.linking.spawn(async move {
            let (chain, outcome) = link::exchange(&exchange, *chain, nonce.map(|(nonce, _)| nonce)).await;
            Worked::Exchanged(Box::new(chain), Box::new(outcome))
        });
    }

    /// Builds the next envelope from all that waits to be told, and puts it on its way.
    fn propose(
        &mut self,
        chain: &mut Chain,
        identity: &Identity,
        tls_key: Digest,
        now_ms: u64,
    ) -> Result<(), Box<dyn Error>> {
        let frame = Frame {
            deployment: identity.deployment(),
            host: identity.host(),
            boot_id: self.boot_id,
            tls_key,
            checkpoint: chain.seen(),
            agent_version: Name::lossy(env!("CARGO_PKG_VERSION")),
            built_at_ms: now_ms,
            backend: self.backend(),
            facts: self.host_facts.clone(),
        };
        let contents = Contents {
            windows: self.fold.take_closed(now_ms),
            events: std::mem::take(&mut self.events),
            writes: std::mem::take(&mut self.writes).into(),
            requests: self.requests.pending(),
            held: self.holding.held.iter().map(|(grant, _)| *grant).collect(),
        };
        let (envelope, waiting) = evidence::build(frame, chain.next_place(), contents)?;
        self.writes = waiting.into();
        chain.propose(envelope)?;
        Ok(())
    }

    /// How the agent enforces now.
    pub(super) fn backend(&self) -> Backend {
        let mut backend = self.enforcement_facts.can.backend.clone();
        if self.why_halted().is_some() {
            backend.mode = Mode::Observe;
            backend.kind = BackendKind::None;
        }
        backend
    }

    /// Takes up what accepted evidence brought.
    pub(super) fn accepted(&mut self, answer: Answer, now_ms: u64) {
        let Answer { envelope, grants, plans, authority, quorum_decisions, next, zone, findings, quotes_took } = answer;
        if !self.linking.logged.is_empty() {
            tracing::info!("evidence is accepted again");
            self.linking.logged.clear();
        }
        tracing::debug!(sequence = envelope.claims().sequence, %zone, ?findings, "evidence accepted");
        quotes_took.into_iter().for_each(|took| self.figures.quote_us.add_duration(took));
        self.figures.sequence = envelope.claims().sequence;
        self.figures.accepted_at_ms = Some(now_ms);
        self.figures.last_refusal = None;
        self.figures.alarm = None;
        self.linking.backoff.succeeded();
        self.schedule.accepted(envelope.claims().built_at_ms, now_ms);
        self.obstacle.send_replace("the verifier answers, and has not decided about this request yet".to_owned());
        if findings.iter().any(|finding| finding == "ima-behind" || finding == "ima-offset") {
            // The verifier waits for more of the list: it need not wait a whole interval.
            self.schedule.requested(0, now_ms);
        }
        if let Stage::Enrolled { nonce, .. } = &mut self.linking.stage {
            *nonce = Some((next, now_ms));
        }
        for refusal in grants.set().refusals.iter() {
            if let Some(waiting) = self.requests.answered(&refusal.request) {
                tracing::info!(request = %refusal.request, why = %refusal.refusal, "refused");
                let error = (&refusal.refusal).into();
                let _ = waiting.reply.send(Ok(RequestReply::Refused { request: refusal.request, error }));
            }
        }
        self.learn_if_behind(authority);
        self.hear_if_other(quorum_decisions, now_ms);
        if self.why_halted().is_some() {
            return;
        }
        let Some(trust) = self.trust().map(Box::new) else { return };
        self.owners = envelope.claims().requests.iter().map(|request| (request.id, request.uid)).collect();
        let (set, askers) = (Box::new(grants), self.owners.clone());
        match self.enforcement.order(Order::Apply { set, plans, askers, trust }) {
            Ok(()) => self.changing += 1,
            // The next set says it again; who waits stays waiting.
            Err(_) => tracing::error!("enforcement is busy: a grant set was not applied"),
        }
    }

    /// Reacts to evidence that was not accepted.
    pub(super) fn refused(&mut self, error: &LinkError, now_ms: u64) {
        if let Some(refusal) = error.refusal() {
            self.figures.last_refusal = Some(refusal);
        }
        if let LinkError::Log(alarm) = error {
            self.figures.alarm = Some(alarm.to_string());
        }
        match error.reaction() {
            Reaction::FreshNonce | Reaction::Later => self.failed(error, Pause::Short, error.is_alarm(), now_ms),
            Reaction::Finding => self.failed(error, Pause::Long, true, now_ms),
            Reaction::Rebuild => {
                self.withdraw();
                self.failed(error, Pause::Short, true, now_ms);
            }
            Reaction::Enrol => {
                self.failed(error, Pause::Long, true, now_ms);
                self.enrol_again(now_ms);
            }
        }
    }

    /// Takes back an envelope that the verifier refused unread; what was done is told again, its windows are lost.
    fn withdraw(&mut self) {
        let Stage::Enrolled { chain: Some(chain), .. } = &mut self.linking.stage else { return };
        let Some(envelope) = chain.withdraw() else { return };
        let claims = envelope.claims();
        for write in claims.writes.iter().rev() {
            self.writes.push_front(write.clone());
        }
        claims.events.iter().for_each(|event| evidence::add_event(&mut self.events, event.clone()));
    }
}
