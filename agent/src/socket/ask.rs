//! What the sockets ask the loop.

use std::sync::Arc;

use quotary_common::id::RequestId;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{
    AgentView, GaugeStatement, GaugesHeld, GrantRequest, LocalGrant, RequestReply, RestoreReply,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::Peer;

/// Longest wait for an answer, ms (the local route table).
pub const WAIT_MS_MAX: u64 = 300_000;
const NAME_BYTES_MAX: usize = 64;

/// How a caller names a grant: its id or its short form. It only finds: whether the grant is the caller's is the
/// loop's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantName(String);

impl GrantName {
    /// Reads it; anything else is not found, as an unknown grant is.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain && (1..=NAME_BYTES_MAX).contains(&text.len())).then(|| Self(text.to_owned()))
    }
    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where an answer goes: a value of the route, or a refusal with its status.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// One question. Its asker is gone when the reply's receiver is.
#[derive(Debug)]
pub enum Ask {
    /// For resources. While the receiver lives, the request waits.
    Request {
        /// Who.
        peer: Arc<Peer>,
        /// The fresh id of the request.
        id: RequestId,
        /// What.
        request: GrantRequest,
        /// `CLOCK_BOOTTIME` when it came, microseconds.
        arrived_us: u64,
        /// The answer.
        reply: Reply<RequestReply>,
    },
    /// For the peer's own grant.
    Show {
        /// Who.
        peer: Arc<Peer>,
        /// Which.
        grant: GrantName,
        /// The answer.
        reply: Reply<LocalGrant>,
    },
    /// To give it back.
    Release {
        /// Who.
        peer: Arc<Peer>,
        /// Which.
        grant: GrantName,
        /// The answer, once nothing of it is enforced any more.
        reply: Reply<()>,
    },
    /// For each change of it.
    Watch {
        /// Who.
        peer: Arc<Peer>,
        /// Which.
        grant: GrantName,
        /// The answer: its state now, and each after.
        reply: Reply<watch::Receiver<LocalGrant>>,
    },
    /// To be moved into its cgroup.
    Enter {
        /// Who, and who is moved.
        peer: Arc<Peer>,
        /// Which.
        grant: GrantName,
        /// The answer, once it was moved.
        reply: Reply<LocalGrant>,
    },
    /// To state the peer's own gauges.
    StateGauges {
        /// Who.
        peer: Arc<Peer>,
        /// Under which grant.
        grant: GrantName,
        /// What; within bounds.
        gauges: GaugeStatement,
        /// The answer.
        reply: Reply<GaugesHeld>,
    },
    /// Root: what the agent is.
    ShowAgent {
        /// The answer.
        reply: Reply<AgentView>,
    },
    /// Root: put everything back.
    RestoreAll {
        /// The answer.
        reply: Reply<RestoreReply>,
    },
}

/// The way to the loop. Full, it refuses: a flood waits nowhere.
#[derive(Debug, Clone)]
pub struct Asks {
    queue: mpsc::Sender<Ask>,
    /// Why there may be no answer to a request now.
    obstacle: watch::Receiver<String>,
}

impl Asks {
    /// A queue of `capacity`, its receiving end for the loop, and where the loop says what is in the way.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Ask>, watch::Sender<String>) {
        let (queue, asked) = mpsc::channel(capacity);
        let (say, obstacle) = watch::channel(String::new());
        (Self { queue, obstacle }, asked, say)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Puts a question; the answer comes to its reply.
    pub(super) fn send(&self, ask: Ask) -> Result<(), Refusal> {
        self.queue.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::new(Reason::Busy, "the agent has too many questions before this one: come back later")
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })
    }

    /// Why there may be no answer to a request now.
    pub(super) fn obstacle(&self) -> String {
        self.obstacle.borrow().clone()
    }
}

fn stopping() -> Refusal {
    Refusal::new(Reason::Unavailable, "the agent is stopping")
}
