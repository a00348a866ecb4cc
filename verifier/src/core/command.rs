//! What the writer can be asked for, and the bounded queue to it.

use std::sync::Arc;

use quotary_common::anomaly::Anomaly;
use quotary_common::cbor::Text;
use quotary_common::id::{ChangeId, Digest, HostId, PlanId, TokenId};
use quotary_common::leaf::PolicyWatched;
use quotary_common::quorum::roster::Word;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::PlanRequest;
use quotary_decide::attest::{CheckedEnrolment, Measured, VerifiedEvidence};
use quotary_decide::registry::TokenRecord;
use quotary_decide::shape::PlanRecord;
use tokio::sync::{mpsc, oneshot};

use super::changes::{ChangeAsk, PlansMade};
use super::models::ModelsChange;
use crate::store::Batch;

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// A command.
#[derive(Debug)]
pub enum Command {
    /// Evidence that was verified.
    Accept {
        /// It.
        evidence: Box<VerifiedEvidence>,
        /// What its logs come to.
        measured: Box<Measured>,
        /// When the enrolment that it was verified under was made: another one since refuses it.
        enrolled_at_ms: u64,
        /// Answered when it is durable.
        answer: Answer<()>,
    },
    /// A finding under a valid signature: the host's epoch rises.
    Finding {
        /// The host.
        host: HostId,
        /// Why.
        refusal: Refusal,
        /// SHA-256 of the evidence that shows it.
        input: Digest,
        /// SHA-256 of the envelope in it: the same one raises the epoch once.
        envelope: Digest,
        /// When the enrolment that it was verified under was made: another one since refuses it.
        enrolled_at_ms: u64,
        /// Answered with whether it was new, when it is durable.
        answer: Answer<bool>,
    },
    /// Something was refused, and its leaf is due.
    Refused {
        /// About which host.
        host: Option<HostId>,
        /// What was tried.
        what: &'static str,
        /// Why.
        refusal: Refusal,
        /// SHA-256 of what was tried.
        input: Digest,
        /// How many alike since the last leaf.
        count: u64,
        /// Answered when it is durable.
        answer: Answer<()>,
    },
    /// An operator revokes a host.
    Revoke {
        /// The host.
        host: HostId,
        /// Why.
        why: Text<256>,
        /// By whom.
        actor: String,
        /// Answered with the host's epoch when it is durable.
        answer: Answer<u64>,
    },
    /// An enrolment was activated.
    Enrol {
        /// It.
        checked: Box<CheckedEnrolment>,
        /// The join token.
        token: TokenId,
        /// Answered with the host's epoch when it is durable.
        answer: Answer<u64>,
    },
    /// A token was made.
    MakeToken {
        /// It.
        record: Box<TokenRecord>,
        /// By whom.
        actor: String,
        /// Answered when it is durable.
        answer: Answer<()>,
    },
    /// An operator drafts a shaping plan by hand.
    DraftPlan {
        /// The host.
        host: HostId,
        /// What is asked for.
        request: Box<PlanRequest>,
        /// By whom.
        actor: String,
        /// Answered with the plan when it is durable.
        answer: Answer<Arc<PlanRecord>>,
    },
    /// An operator cancels a plan.
    CancelPlan {
        /// The host.
        host: HostId,
        /// The plan.
        plan: PlanId,
        /// By whom.
        actor: String,
        /// Answered with the plan when it is durable.
        answer: Answer<Arc<PlanRecord>>,
    },
    /// Somebody asks for a change, votes on one, or takes one back.
    Change {
        /// What.
        ask: Box<ChangeAsk>,
        /// Who, by his token.
        by: Word,
        /// The same for the log.
        actor: String,
        /// Answered with the change when it is durable.
        answer: Answer<ChangeId>,
    },
    /// Use went beyond a policy's threshold, or nobody needs the policy.
    PolicyWatched {
        /// What was seen.
        seen: Box<PolicyWatched>,
    },
    /// The planner made plans of a change.
    PlansMade {
        /// Them.
        made: Box<PlansMade>,
    },
    /// A webhook's receiver has acknowledged what was for it before a leaf.
    Acknowledged {
        /// SHA-256 of the webhook's url.
        webhook: Digest,
        /// The leaf.
        next_leaf: u64,
        /// Answered when it is durable.
        answer: Answer<()>,
    },
    /// Chunks of metric history.
    KeepHistory {
        /// Rows of them alone.
        batch: Batch,
    },
    /// Every step that ended before `until_ms` (Unix time) was judged.
    Judged {
        /// What is odd in them.
        alarms: Vec<Anomaly>,
        /// When they ended.
        until_ms: u64,
    },
    /// Another model is tried, or forecasts.
    ChangeModels {
        /// What is to change.
        change: ModelsChange,
        /// By whom.
        actor: String,
        /// Answered when it is durable.
        answer: Answer<()>,
    },
    /// The champion drifts: the model before it takes its place.
    ReturnModel {
        /// The champion.
        champion: Digest,
        /// What its 95 % line covered over the last day.
        covered: f64,
    },
    /// Time has passed: expire what is over.
    Tick,
    /// Does the writer still work? Nothing is changed.
    Answer {
        /// Answered in its turn.
        answer: Answer<()>,
    },
}

/// Commands that wait at most; beyond, callers are told to come back.
const QUEUE_MAX: usize = 4096;

/// The queue to the writer.
#[derive(Debug, Clone)]
pub struct Queue(mpsc::Sender<Command>);

impl Queue {
    /// A queue and its end.
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        (Self(sender), receiver)
    }

    /// Sends a command and waits until what follows is durable.
    ///
    /// # Errors
    /// The writer's refusal; `busy` when the queue is full, `unavailable` when the writer has stopped.
    pub async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(command(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::new(Reason::Busy, "the verifier's queue is full"),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answered.await.map_err(|_| stopped())?
    }

    /// Waits for room in the queue, however long, and then until the writer answers. Whether it did.
    pub async fn is_answered(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(Command::Answer { answer }).await.is_ok() && answered.await.is_ok()
    }

    /// Has what was seen of a policy written down. `false` where there is no room now.
    pub fn policy_watched(&self, seen: PolicyWatched) -> bool {
        self.0.try_send(Command::PolicyWatched { seen: Box::new(seen) }).is_ok()
    }

    /// Sends plans that were made of a change, if there is room: otherwise they are made again.
    pub fn plans_made(&self, made: PlansMade) {
        let _full = self.0.try_send(Command::PlansMade { made: Box::new(made) }).is_err();
    }

    /// Sends a tick, if there is room: another one follows.
    pub fn tick(&self) {
        let _full = self.0.try_send(Command::Tick).is_err();
    }
}

/// A way to the writer for a thread that the writer itself feeds: it keeps nobody waiting for its end.
#[derive(Debug, Clone)]
pub struct WeakQueue(mpsc::WeakSender<Command>);

impl Queue {
    /// The same for whom the writer must not wait.
    pub fn weak(&self) -> WeakQueue {
        WeakQueue(self.0.downgrade())
    }
}

impl WeakQueue {
    /// Sends chunks of history to be committed; gives them back when there is no room now.
    pub fn keep_history(&self, batch: Batch) -> Result<(), Batch> {
        // With the writer gone nothing is kept any more: it is read from evidence at the next start.
        let Some(queue) = self.0.upgrade() else { return Ok(()) };
        match queue.try_send(Command::KeepHistory { batch }) {
            Err(mpsc::error::TrySendError::Full(Command::KeepHistory { batch })) => Err(batch),
            _ => Ok(()),
        }
    }

    /// Sends alarms to be committed, and that every step that ended before `until_ms` was judged; gives them back when there is no room now.
    pub fn judged(&self, alarms: Vec<Anomaly>, until_ms: u64) -> Result<(), (Vec<Anomaly>, u64)> {
        // With the writer gone nothing is told any more: it is judged again at the next start.
        let Some(queue) = self.0.upgrade() else { return Ok(()) };
        match queue.try_send(Command::Judged { alarms, until_ms }) {
            Err(mpsc::error::TrySendError::Full(Command::Judged { alarms, until_ms })) => Err((alarms, until_ms)),
            _ => Ok(()),
        }
    }
}

impl WeakQueue {
    /// Asks that the model before this champion takes its place. With no room now it is asked again after the next step.
    pub fn return_model(&self, champion: Digest, covered: f64) {
        if let Some(queue) = self.0.upgrade() {
            let _full = queue.try_send(Command::ReturnModel { champion, covered }).is_err();
        }
    }
}

fn stopped() -> Refusal {
    Refusal::new(Reason::Unavailable, "the verifier is stopping: nothing was changed")
}
