//! What is told of the log: events of committed leaves, the newest at hand, the older read from the store.
//!
//! Whoever listens keeps a place in the log and asks for what stands after it. So nobody's slowness costs memory here,
//! and nobody misses anything, before or after a restart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quotary_common::wire::HostEvent;
use quotary_decide::audit::event_of;
use tokio::sync::watch;

use crate::store::{Reader, StoreError};

/// Events at hand: those of the last so many leaves that tell one.
const RECENT_MAX: usize = 1024;
/// Events of one page at most.
const PAGE_EVENTS_MAX: usize = 100;
/// Leaves that are read from the store at once at most (fewer when they are large).
const PAGE_LEAVES_MAX: usize = 512;

/// What stands after a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Events, in the order of their leaves.
    pub events: Vec<HostEvent>,
    /// The place after them, and after the leaves between that tell nothing.
    pub next_leaf: u64,
    /// Whether more leaves were committed than this page covers.
    pub more: bool,
}

#[derive(Debug)]
struct Recent {
    events: VecDeque<HostEvent>,
    /// Every event of a leaf from this one on is at hand.
    first_leaf: u64,
    /// Leaves that are published.
    size: u64,
}

/// The events of the log.
#[derive(Debug)]
pub struct EventLog {
    recent: Mutex<Recent>,
    grown: watch::Sender<u64>,
    reader: Mutex<Box<dyn Reader>>,
}

impl EventLog {
    /// The events of the leaves that `reader` has, and of those that follow.
    ///
    /// # Errors
    /// [`StoreError`] when the leaves cannot be counted.
    pub fn new(reader: Box<dyn Reader>) -> Result<Arc<Self>, StoreError> {
        let size = reader.leaf_count()?;
        let recent = Recent { events: VecDeque::new(), first_leaf: size, size };
        let grown = watch::Sender::new(size);
        Ok(Arc::new(Self { recent: Mutex::new(recent), grown, reader: Mutex::new(reader) }))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes committed leaves, the next ones of the log, and wakes who waits if one of them tells something.
    pub(super) fn publish(&self, leaves: &[Vec<u8>]) {
        let mut recent = self.recent();
        let mut told = false;
        for leaf in leaves {
            if let Some(event) = event_of(recent.size, leaf) {
                told = true;
                recent.events.push_back(event);
            }
            recent.size += 1;
        }
        while recent.events.len() > RECENT_MAX {
            if let Some(gone) = recent.events.pop_front() {
                recent.first_leaf = gone.leaf_index + 1;
            }
        }
        let size = recent.size;
        drop(recent);
        if told {
            self.grown.send_replace(size);
        }
    }

    /// Changes each time that there is more to tell. Subscribe before you read, and nothing comes between.
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.recent().size
    }

    /// What stands from leaf `from` on: at most a page.
    ///
    /// # Errors
    /// [`StoreError`] when older leaves cannot be read.
    pub async fn page(self: &Arc<Self>, from: u64) -> Result<Page, StoreError> {
        if let Some(page) = self.at_hand(from) {
            return Ok(page);
        }
        let log = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || log.read(from)).await;
        // Only a runtime that ends lets go of such a task; whoever asked ends with it.
        read.unwrap_or_else(|_| Ok(Page { events: Vec::new(), next_leaf: from, more: false }))
    }

    fn at_hand(&self, from: u64) -> Option<Page> {
        let recent = self.recent();
        if from < recent.first_leaf {
            return None;
        }
        let start = recent.events.partition_point(|event| event.leaf_index < from);
        let events: Vec<HostEvent> = recent.events.range(start..).take(PAGE_EVENTS_MAX).cloned().collect();
        let more = start + events.len() < recent.events.len();
        let last = events.last().filter(|_| more).map(|event| event.leaf_index + 1);
        Some(Page { events, next_leaf: last.unwrap_or(recent.size).max(from), more })
    }

    /// What the store says: leaves that are not published yet are left for later.
    fn read(&self, from: u64) -> Result<Page, StoreError> {
        let size = self.size();
        let count = size.saturating_sub(from).min(PAGE_LEAVES_MAX as u64);
        let limit = usize::try_from(count).unwrap_or(PAGE_LEAVES_MAX);
        let leaves = self.reader.lock().unwrap_or_else(PoisonError::into_inner).leaves(from, limit)?;
        let mut page = Page { events: Vec::new(), next_leaf: from, more: false };
        for leaf in &leaves {
            page.events.extend(event_of(page.next_leaf, leaf));
            page.next_leaf += 1;
            if page.events.len() == PAGE_EVENTS_MAX {
                break;
            }
        }
        page.more = page.next_leaf > from && page.next_leaf < size;
        Ok(page)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;
    use crate::store::{Batch, MemoryStore, Store as _};
    use quotary_common::cbor::{Text, Version};
    use quotary_common::id::{Digest, HostId};
    use quotary_common::leaf::{Decision, EpochRaised, Leaf, Started};
    use quotary_common::reason::{Reason, Refusal};

    /// A leaf that tells an event of epoch `epoch`, or one that tells nothing.
    pub(crate) fn leaf(epoch: Option<u64>) -> Vec<u8> {
        let decision = match epoch {
            Some(epoch) => Decision::EpochRaised(EpochRaised {
                host: HostId::of(&[b"h"]),
                epoch,
                refusal: Refusal::new(Reason::Revoked, "why"),
                input: Digest::of(&[]),
            }),
            None => Decision::Started(Started {
                version: Text::lossy("0"),
                configuration: Digest::of(&[]),
                witnessed: None,
            }),
        };
        Leaf { version: Version, at_ms: 5, actor: Text::lossy("verifier"), decision }.to_bytes()
    }

    /// A log in memory, and what commits to it.
    pub(crate) struct Growing {
        pub(crate) log: Arc<EventLog>,
        store: MemoryStore,
    }

    impl Growing {
        pub(crate) fn new() -> Self {
            Self::over(MemoryStore::new())
        }
        fn over(store: MemoryStore) -> Self {
            Self { log: EventLog::new(store.reader().unwrap()).unwrap(), store }
        }
        /// Commits leaves, as the writer does.
        pub(crate) fn commit(&mut self, leaves: &[Vec<u8>]) {
            let batch = leaves.iter().fold(Batch::default(), |batch, leaf| batch.leaf(leaf.clone()));
            self.store.commit(&[batch]).unwrap();
            self.log.publish(leaves);
        }
        /// The log after a restart: nothing is at hand.
        pub(crate) fn restarted(&self) -> Self {
            Self::over(self.store.clone())
        }
    }

    async fn all(log: &Arc<EventLog>, mut from: u64) -> (Vec<u64>, u64) {
        let mut told = Vec::new();
        loop {
            let page = log.page(from).await.unwrap();
            assert!(page.events.len() <= PAGE_EVENTS_MAX);
            told.extend(page.events.iter().map(|event| event.leaf_index));
            from = page.next_leaf;
            if !page.more {
                return (told, from);
            }
        }
    }

    /// Every third leaf tells an event.
    fn leaves(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        numbers.map(|n| leaf((n % 3 == 0).then_some(n))).collect()
    }

    #[tokio::test]
    async fn from_any_place_the_same_is_told_at_hand_and_from_the_store() {
        const LEAVES: u64 = 5_000;
        let mut growing = Growing::new();
        for first in (0..LEAVES).step_by(50) {
            growing.commit(&leaves(first..first + 50));
        }
        assert_eq!(growing.log.recent().events.len(), RECENT_MAX);
        let restarted = growing.restarted();
        for from in [0, 1, 500, 1_923, 1_926, 1_927, 1_928, 1_929, 4_700, 4_999, LEAVES] {
            let expected: Vec<u64> = (from..LEAVES).filter(|n| n % 3 == 0).collect();
            assert_eq!(all(&growing.log, from).await, (expected.clone(), LEAVES), "from {from}");
            assert_eq!(all(&restarted.log, from).await, (expected, LEAVES), "from {from}, restarted");
        }
        // A place that the log has not reached yet tells nothing, and goes nowhere.
        assert_eq!(all(&growing.log, LEAVES + 9).await, (Vec::new(), LEAVES + 9));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_tells_something_and_by_nothing_else() {
        let mut growing = Growing::new();
        let mut grown = growing.log.grown();
        growing.commit(&[leaf(None)]);
        assert!(!grown.has_changed().unwrap());
        growing.commit(&[leaf(None), leaf(Some(1)), leaf(None)]);
        assert!(grown.has_changed().unwrap());
        assert_eq!(*grown.borrow_and_update(), 4);
        assert_eq!(all(&growing.log, 0).await, (vec![2], 4));
    }
}
