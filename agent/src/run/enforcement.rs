//! The thread that owns the enforcer: its files and fsyncs never hold up the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use quotary_common::envelope::{Backend, CgroupPath, Mode};
use quotary_common::grant::VerifiedGrantSet;
use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, PlanId, RequestId};
use quotary_common::lease::Lease;
use quotary_common::plan::{ShapedControl, Target, VerifiedPlan};
use quotary_common::reason::Refusal;
use quotary_common::wire::{LocalGrant, RestoreReply};
use tokio::sync::{mpsc, oneshot};

use super::works::{PutBack, Works};
use crate::authority::Trust;
use crate::enforce::{Config, EnforceError, Outcome, Owner};
use crate::shape::{self, ShapeError, TargetView};
use crate::socket::Reply;

/// Orders that may wait: more than sockets can have open at once.
const ORDERS_MAX: usize = 2048;
/// If the loop hangs or is gone, leases still end: the thread ticks by itself after so long without orders.
const OWN_TICK: Duration = Duration::from_secs(3);

/// An enrolment, as the enforcer must know of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Enrolment {
    pub(super) deployment: DeploymentId,
    /// The epoch of the last set that was accepted, or that it begins with.
    pub(super) epoch: u64,
    /// Whether it came about just now.
    pub(super) is_new: bool,
}

/// What the enforcer is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Bring the host to a grant set and the plans that came with it; the uids that asked, by request, and whom this host
    /// believes about the plans.
    Apply { set: Box<VerifiedGrantSet>, plans: Vec<VerifiedPlan>, askers: BTreeMap<RequestId, u32>, trust: Box<Trust> },
    /// Bring what is held to the host's enrolment.
    Enrol(Enrolment),
    /// Move a process into a grant's group.
    Enter { grant: GrantId, pid: u32, start_time_ticks: u64, uid: u32, reply: Reply<LocalGrant> },
    /// End grants that were given back.
    Release { grants: Vec<GrantId>, reply: Option<Reply<()>> },
    /// See what time brought.
    Tick,
    /// Put everything back, for root.
    RestoreAll { reply: Reply<RestoreReply> },
    /// Put everything back, and end.
    Stop { done: oneshot::Sender<()> },
}

/// What came of an order.
#[derive(Debug)]
pub(super) enum Done {
    Ticked,
    Enrolled,
    Applied(Box<VerifiedGrantSet>),
    Entered {
        grant: GrantId,
        result: Result<(), Refusal>,
        reply: Reply<LocalGrant>,
    },
    Released {
        reply: Option<Reply<()>>,
    },
    Restored {
        put_back: PutBack,
        reply: Reply<RestoreReply>,
    },
    /// The kill switch was found, or is gone.
    Switched {
        is_off: bool,
    },
}

/// What the enforcer holds, after an order.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding {
    /// Grants in use.
    pub(super) held: Vec<(GrantId, Option<Lease>)>,
    /// Whose the grants are, where the journal says.
    pub(super) owners: Vec<(GrantId, Owner)>,
    /// Groups: path, grant, uid that entered first.
    pub(super) groups: Vec<(CgroupPath, GrantId, Option<u32>)>,
    /// What plans move, and which are not followed.
    pub(super) shaped: Shaped,
}

/// What came of the plans that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shaped {
    /// What they move.
    pub(super) targets: Vec<TargetView>,
    /// Those that are not followed, with why.
    pub(super) not_followed: Vec<(Target, PlanId, String)>,
    /// What can be enforced now.
    pub(super) can: Option<Can>,
    /// The texts of the quorum decisions in force here.
    pub(super) in_force: BTreeSet<Digest>,
    /// When the next of the plans is to be at its target, Unix ms.
    pub(super) next_effective_ms: Option<u64>,
}

/// One report per order.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) done: Done,
    pub(super) outcome: Outcome,
    /// Absent where nothing changed.
    pub(super) holding: Option<Holding>,
}

/// How enforcement is set up on this host.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) mode: Mode,
    pub(super) can: Can,
    pub(super) why_not: Option<String>,
}

/// What can be enforced: it may change, as interfaces come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Can {
    /// How the envelope describes enforcement.
    pub(super) backend: Backend,
    /// Controls that the host has not, with why.
    pub(super) unsupported: Vec<(ShapedControl, String)>,
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Enforcement {
    orders: SyncSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What opening the enforcer gave.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) enforcement: Enforcement,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) facts: Facts,
    pub(super) outcome: Outcome,
    pub(super) holding: Holding,
}

/// Enforcement that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum EnforcementError {
    /// The enforcer cannot be opened.
    #[error("enforcement cannot begin")]
    Enforcer(#[from] EnforceError),
    /// The shaper cannot be opened.
    #[error("shaping cannot begin")]
    Shaper(#[from] ShapeError),
    /// No thread.
    #[error("the enforcement thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Enforcement {
    /// Opens enforcer and shaper (which keep what a running lease covers, and put back the rest), then gives them a thread.
    pub(super) fn open(
        config: Config,
        shape: shape::Config,
        switch: PathBuf,
        boot_id: BootId,
    ) -> Result<Opened, EnforcementError> {
        let (mut works, outcome) = Works::open(config, shape, switch, boot_id)?;
        works.look();
        let facts = Facts {
            mode: works.enforcer.mode(),
            can: works.can(),
            why_not: works.enforcer.capabilities().why_not.clone(),
        };
        let holding = works.holding(works.shaped());
        let (orders, queue) = sync_channel(ORDERS_MAX);
        // One report per order, and orders are bounded.
        let (to, reports) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("enforce".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || serve(works, &queue, &to))
            .map_err(EnforcementError::Thread)?;
        Ok(Opened { enforcement: Self { orders, thread: Some(thread) }, reports, facts, outcome, holding })
    }

    /// Gives an order; gives it back when the thread cannot take it.
    pub(super) fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(order) | TrySendError::Disconnected(order) => order,
        })
    }

    /// Puts everything back and ends the thread. Waits for it at most `limit`.
    pub(super) async fn stop(mut self, limit: Duration) -> bool {
        let (done, is_done) = oneshot::channel();
        let orders = self.orders.clone();
        // Behind whatever waits; the queue is drained quickly.
        let ordered = tokio::task::spawn_blocking(move || orders.send(Order::Stop { done }).is_ok());
        let stopped = tokio::time::timeout(limit, async { ordered.await.unwrap_or(false) && is_done.await.is_ok() });
        let is_stopped = stopped.await.unwrap_or(false);
        if is_stopped && let Some(thread) = self.thread.take() {
            return thread.join().is_ok();
        }
        is_stopped
    }
}

#[cfg(test)]
impl Opened {
    /// The same with a thread that hangs: it takes orders, and none is answered while what is returned is kept.
    pub(super) fn hang(self) -> (Self, (Receiver<Order>, mpsc::UnboundedSender<Report>)) {
        let (orders, queue) = sync_channel(ORDERS_MAX);
        let (to, reports) = mpsc::unbounded_channel();
        (Self { enforcement: Enforcement { orders, thread: None }, reports, ..self }, (queue, to))
    }
}

fn serve(mut works: Works, orders: &Receiver<Order>, reports: &mpsc::UnboundedSender<Report>) {
    let mut told = Shaped::default();
    loop {
        let order = match orders.recv_timeout(OWN_TICK) {
            Ok(order) => order,
            Err(RecvTimeoutError::Timeout) => Order::Tick,
            // The loop is gone without a word: as after a crash, what a running lease covers stays.
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Order::Stop { done } = order {
            works.restore_all();
            let _ = done.send(());
            return;
        }
        if let Some((done, outcome)) = works.look_at_switch() {
            let report = Report { done, outcome, holding: Some(works.holding(works.shaped())) };
            if reports.send(report).is_err() {
                return;
            }
        }
        let (done, outcome) = works.carry_out(order);
        // In `observe` nothing is written, and still targets come, move and go.
        let shaped = works.shaped();
        let changed = !matches!(done, Done::Ticked) || outcome != Outcome::default() || shaped != told;
        let holding = changed.then(|| works.holding(shaped.clone()));
        told = shaped;
        if reports.send(Report { done, outcome, holding }).is_err() {
            return;
        }
    }
}
