//! The way up: open the TPM, enrol, exchange evidence; one step at a time, beside the loop.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use quotary_client::ClientError;
use quotary_common::id::{Digest, HostId};
use quotary_common::wire::NonceReply;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::agent::Agent;
use super::enforcement::{Enrolment, Order};
use crate::authority::in_a_line;
use crate::clock;
use crate::enrol::{self, EnrolError};
use crate::evidence::Chain;
use crate::identity::{Identity, TlsIdentity};
use crate::link::{Answer, Backoff, Exchange, LinkError, MeasuredLogs};
use crate::tpm::{TpmError, TpmHandle, TpmIdentity};

/// How far up we are.
pub(super) enum Stage {
    /// The TPM is not open.
    Closed,
    /// The TPM is open, the host is not (or no longer) enrolled.
    Open { tpm: TpmHandle },
    /// Enrolled. The chain is away while an exchange has it.
    Enrolled { exchange: Arc<Exchange>, tls_key: Digest, chain: Option<Box<Chain>>, nonce: Option<(NonceReply, u64)> },
}

/// What a step came to.
pub(super) enum Worked {
    TpmOpened(Result<(TpmHandle, TpmIdentity), TpmError>),
    Enrolled(Result<Box<(Identity, Chain)>, EnrolError>),
    Exchanged(Box<Chain>, Box<Result<Answer, LinkError>>),
}

/// How long to pause after a failure.
#[derive(Clone, Copy)]
pub(super) enum Pause {
    /// As often as it failed.
    Short,
    /// As long as may be: time alone does not mend it.
    Long,
}

/// The way up and the step that is being done.
pub(super) struct Linking {
    pub(super) stage: Stage,
    working: Option<JoinHandle<()>>,
    pub(super) backoff: Backoff,
    /// The id that the host had before, if it was enrolled.
    claim: Option<HostId>,
    /// The last failure that was logged: the same is not logged again and again.
    pub(super) logged: String,
    done: mpsc::Sender<Worked>,
    pub(super) results: mpsc::Receiver<Worked>,
}

impl Linking {
    pub(super) fn new(retry_max_ms: u64) -> Self {
        let (done, results) = mpsc::channel(1);
        Self {
            stage: Stage::Closed,
            working: None,
            backoff: Backoff::new(retry_max_ms),
            claim: None,
            logged: String::new(),
            done,
            results,
        }
    }

    pub(super) fn is_working(&self) -> bool {
        self.working.is_some()
    }

    pub(super) fn host(&self) -> Option<HostId> {
        match &self.stage {
            Stage::Enrolled { exchange, .. } => Some(exchange.identity.host()),
            _ => self.claim,
        }
    }

    pub(super) fn tpm(&self) -> Option<TpmHandle> {
        match &self.stage {
            Stage::Closed => None,
            Stage::Open { tpm } => Some(tpm.clone()),
            Stage::Enrolled { exchange, .. } => Some(exchange.tpm.clone()),
        }
    }

    /// Does a step beside the loop.
    pub(super) fn spawn(&mut self, step: impl Future<Output = Worked> + Send + 'static) {
        let done = self.done.clone();
        self.working = Some(tokio::spawn(async move {
            let worked = step.await;
            // The loop is gone: so is what was worked for.
            let _ = done.send(worked).await;
        }));
    }

    /// Ends the step that is being done, and the TPM in order.
    pub(super) async fn stop(mut self) {
        if let Some(working) = self.working.take() {
            working.abort();
            let _ = working.await;
        }
        if let Some(tpm) = self.tpm()
            && let Err(error) = tpm.shutdown().await
        {
            tracing::warn!(error = &error as &dyn Error, "the TPM was not shut down in order");
        }
    }
}

impl Agent {
    /// Begins the next step up.
    pub(super) fn work(&mut self, now_ms: u64) {
        match &self.linking.stage {
            Stage::Closed => {
                let config = self.config.tpm.clone();
                self.linking.spawn(async move {
                    let opened = async {
                        let tpm = TpmHandle::start(config).await?;
                        let facts = tpm.identity().await?;
                        Ok((tpm, facts))
                    };
                    Worked::TpmOpened(opened.await)
                });
            }
            Stage::Open { tpm } => {
                let (tpm, state, claim) = (tpm.clone(), self.state.clone(), self.linking.claim);
                let token_file = self.config.join_token_file.clone();
                let timeout = Duration::from_millis(self.config.verifier_timeout_ms);
                self.linking.spawn(async move {
                    let enrolled = async {
                        let token = enrol::read_token(token_file.as_deref())?;
                        enrol::enrol(&state, &tpm, &token, claim, timeout).await.map(Box::new)
                    };
                    Worked::Enrolled(enrolled.await)
                });
            }
            Stage::Enrolled { .. } => self.send_evidence(now_ms),
        }
    }

    /// Takes up what a step came to.
    pub(super) fn worked(&mut self, worked: Worked) {
        let now_ms = clock::boottime_ms();
        self.linking.working = None;
        match worked {
            Worked::TpmOpened(Ok((tpm, facts))) => self.settle(tpm, &facts, now_ms),
            Worked::TpmOpened(Err(error)) => self.failed(&error, Pause::Short, false, now_ms),
            Worked::Enrolled(Ok(enrolled)) => {
                let (identity, chain) = *enrolled;
                tracing::info!(host = %identity.host(), deployment = %identity.deployment(), "the host is enrolled");
                if let Stage::Open { tpm } = &self.linking.stage {
                    let tpm = tpm.clone();
                    self.enrolled(tpm, identity, chain, true, now_ms);
                }
            }
            Worked::Enrolled(Err(error)) => {
                if let EnrolError::Verifier(ClientError::Refused { error, .. }) = &error {
                    self.figures.last_refusal = Some(error.clone());
                }
                let pause = if error.needs_a_person() { Pause::Long } else { Pause::Short };
                self.failed(&error, pause, error.needs_a_person(), now_ms);
            }
            Worked::Exchanged(back, outcome) => {
                if let Stage::Enrolled { chain, .. } = &mut self.linking.stage {
                    *chain = Some(back);
                }
                match *outcome {
                    Ok(answer) => self.accepted(answer, now_ms),
                    Err(error) => self.refused(&error, now_ms),
                }
            }
        }
    }

    /// The TPM is open: is this host enrolled with the key that it holds?
    fn settle(&mut self, tpm: TpmHandle, facts: &TpmIdentity, now_ms: u64) {
        let found =
            Identity::load(&self.state, clock::unix_ms()).map_err(|error| in_a_line(&error)).and_then(|identity| {
                let Some(identity) = identity else { return Ok(None) };
                self.linking.claim = Some(identity.host());
                if identity.ak_name() != facts.ak_name {
                    return Err("the TPM holds another attestation key than the one that was enrolled".to_owned());
                }
                let chain =
                    Chain::load(&self.state, identity.deployment(), identity.host()).map_err(|e| in_a_line(&e))?;
                Ok(Some((identity, chain)))
            });
        self.linking.stage = Stage::Open { tpm: tpm.clone() };
        self.schedule.begin(now_ms);
        match found {
            Ok(Some((identity, chain))) => self.enrolled(tpm, identity, chain, false, now_ms),
            Ok(None) => {}
            Err(why) => tracing::warn!(%why, "the host must be enrolled again"),
        }
    }

    fn enrolled(&mut self, tpm: TpmHandle, identity: Identity, chain: Chain, is_new: bool, now_ms: u64) {
        let (deployment, epoch) = (identity.deployment(), chain.accepted().epoch);
        self.learning.begin(self.state.clone(), &identity);
        self.hearing.begin();
        // Before anything that may fail: what is held is of this enrolment, or ends.
        self.enrolment = Some(Enrolment { deployment, epoch, is_new });
        let timeout = Duration::from_millis(self.config.verifier_timeout_ms);
        let made = TlsIdentity::open(&self.state).map_err(|error| in_a_line(&error)).and_then(|tls| {
            let client =
                tls.client(identity.verifier(), identity.ca_spki(), timeout).map_err(|error| in_a_line(&error))?;
            Ok((tls.spki(), client))
        });
        let (tls_key, client) = match made {
            Ok(made) => made,
            Err(why) => return tracing::error!(%why, "the verifier cannot be reached"),
        };
        self.linking.claim = Some(identity.host());
        self.linking.backoff.succeeded();
        self.figures.sequence = chain.sequence();
        self.take_timing(identity.timing());
        let exchange = Exchange {
            state: self.state.clone(),
            identity: Arc::new(identity),
            client,
            tpm,
            logs: MeasuredLogs::new(&self.config.root),
        };
        self.linking.stage =
            Stage::Enrolled { exchange: Arc::new(exchange), tls_key, chain: Some(Box::new(chain)), nonce: None };
        self.schedule.begin(now_ms);
    }

    /// Has the enforcer take up the enrolment; if it is busy, at the next turn.
    pub(super) fn tell_enrolment(&mut self) {
        if let Some(enrolment) = self.enrolment
            && self.enforcement.order(Order::Enrol(enrolment)).is_ok()
        {
            self.enrolment = None;
            self.changing += 1;
        }
    }

    /// Goes back to before the enrolment, if there is a token to enrol with.
    pub(super) fn enrol_again(&mut self, now_ms: u64) {
        let Stage::Enrolled { exchange, .. } = &self.linking.stage else { return };
        if let Err(error) = enrol::read_token(self.config.join_token_file.as_deref()) {
            return tracing::error!(error = &error as &dyn Error, "the verifier does not know this host any more");
        }
        tracing::warn!("the verifier does not know this host any more: enrolling again");
        let (tpm, host) = (exchange.tpm.clone(), exchange.identity.host());
        self.linking.claim = Some(host);
        self.linking.stage = Stage::Open { tpm };
        // Should that be refused too, its own pause follows.
        self.schedule.begin(now_ms);
    }

    /// Pauses after a failure, and says what it was, once.
    pub(super) fn failed(&mut self, error: &dyn Error, pause: Pause, is_alarm: bool, now_ms: u64) {
        let mut random = [0; 8];
        // Without random bytes the pauses are merely not jittered.
        let _ = SystemRandom::new().fill(&mut random);
        let random = u64::from_be_bytes(random);
        let backoff = &mut self.linking.backoff;
        let pause_ms = match pause {
            Pause::Short => backoff.failed(random),
            Pause::Long => backoff.failed_for_long(random),
        };
        self.schedule.failed(pause_ms, now_ms);
        let why = in_a_line(error);
        if why == self.linking.logged {
            tracing::debug!(%why, pause_ms, "failed again");
        } else if is_alarm {
            tracing::error!(%why, pause_ms, "the way to the verifier is blocked; what is held stays until its lease ends");
        } else {
            tracing::warn!(%why, pause_ms, "no way to the verifier now; trying again");
        }
        self.obstacle.send_replace(format!("no answer from the verifier: {why}"));
        self.linking.logged = why;
    }
}
