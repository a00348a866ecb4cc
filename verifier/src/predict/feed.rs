//! What reaches the forecaster: committed load as it comes, what a restart reads back, and questions.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use quotary_common::id::HostId;
use quotary_decide::history::{BoundedLoad, Chunk, History, SeriesKey, Watermark};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::hours::{Hours, HoursWanted};
use super::known::AllKnown;

/// Committed evidence and questions that wait for the forecaster at most.
const FEED_MAX: usize = 1024;
/// Questions that wait at most.
const QUESTIONS_MAX: usize = 16;
/// What was read back and waits at most: whoever reads waits.
const REPLAYED_MAX: usize = 16;

/// What is fed while the verifier runs.
pub(crate) enum Fed {
    /// Committed load, and when it was committed (Unix ms).
    Load(BoundedLoad, u64),
    /// What does no chunk hold yet?
    Ask(Option<HostId>, oneshot::Sender<Live>, OwnedSemaphorePermit),
    /// What was used hour by hour?
    AskHours(HoursWanted, oneshot::Sender<Hours>, OwnedSemaphorePermit),
    /// What was used of late by these, in hours and steps?
    AskKnown(Vec<SeriesKey>, oneshot::Sender<AllKnown>, OwnedSemaphorePermit),
}

/// What a restart reads back.
pub(crate) enum Replayed {
    /// A chunk of a host's series, or of sums.
    Chunk(Option<HostId>, Chunk),
    /// Load of evidence that no chunk holds, and when it was committed.
    Load(BoundedLoad, u64),
    /// Load of the last evidence that chunks hold: whose its series are.
    Place(BoundedLoad),
    /// That was all.
    End,
}

/// What no chunk holds yet.
#[derive(Debug)]
pub struct Live {
    /// Where the chunk before it reached: what a later chunk holds is in here.
    pub begins: Watermark,
    /// The points.
    pub chunk: Chunk,
}

/// Where the load of committed evidence goes.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Places for questions: readers must not take the places of committed load.
    questions: Arc<Semaphore>,
    fed: SyncSender<Fed>,
    replayed: SyncSender<Replayed>,
}

/// The forecaster's ends of a feed.
pub(crate) struct Ends {
    pub(super) fed: Receiver<Fed>,
    pub(super) replayed: Receiver<Replayed>,
}

impl Feed {
    pub(crate) fn new() -> (Self, Ends) {
        let (fed_sender, fed) = sync_channel(FEED_MAX);
        let (replayed_sender, replayed) = sync_channel(REPLAYED_MAX);
        (
            Self { questions: Arc::new(Semaphore::new(QUESTIONS_MAX)), fed: fed_sender, replayed: replayed_sender },
            Ends { fed, replayed },
        )
    }

    /// Hands load over; when the forecaster is behind, it is left out (a gap in its history).
    pub fn record(&self, load: BoundedLoad, committed_at_ms: u64) {
        if self.fed.try_send(Fed::Load(load, committed_at_ms)).is_err() {
            tracing::debug!("the forecaster is behind: a gap in its history");
        }
    }

    /// Asks for what no chunk of a host (none: of sums) holds yet; `None` when the forecaster is behind or gone.
    pub async fn live(&self, host: Option<HostId>) -> Option<Live> {
        let permit = Arc::clone(&self.questions).try_acquire_owned().ok()?;
        let (answer, answered) = oneshot::channel();
        self.fed.try_send(Fed::Ask(host, answer, permit)).ok()?;
        answered.await.ok()
    }

    /// Asks for a page of series with their hours; `None` when the forecaster is behind or gone.
    pub async fn hours(&self, wanted: HoursWanted) -> Option<Hours> {
        let permit = Arc::clone(&self.questions).try_acquire_owned().ok()?;
        let (answer, answered) = oneshot::channel();
        self.fed.try_send(Fed::AskHours(wanted, answer, permit)).ok()?;
        answered.await.ok()
    }

    /// Asks for hours and steps of so many series as are answered at once; waits for a place. `None` when the forecaster is behind or gone.
    pub(super) async fn known(&self, keys: Vec<SeriesKey>) -> Option<AllKnown> {
        let permit = Arc::clone(&self.questions).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        self.fed.try_send(Fed::AskKnown(keys, answer, permit)).ok()?;
        answered.await.ok()
    }

    /// Hands over what was read back, waiting for room; whether anybody is there.
    pub(super) fn replay(&self, replayed: Replayed) -> bool {
        self.replayed.send(replayed).is_ok()
    }
}

/// Answers a question; who asked may be gone.
pub(super) fn answer(history: &History, host: Option<HostId>, to: oneshot::Sender<Live>) {
    let (begins, chunk) = history.unkept(host.as_ref());
    let _gone = to.send(Live { begins, chunk }).is_err();
}
