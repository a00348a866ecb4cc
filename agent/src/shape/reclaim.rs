//! Reclaims memory of groups in a thread that may block (`memory.reclaim`, Linux 5.19).
//!
//! The file holds no state: nothing has to be put back. A write blocks until the kernel has reclaimed or given up, so
//! that it happens here, never in PID 1 and never in the thread that moves controls.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::enforce::direct::write_file;
use crate::enforce::group::GroupPath;
use crate::enforce::probe::Mount;

/// Groups that may wait to be reclaimed from.
const WAITING_MAX: usize = 256;

/// The thread, and what it has in hand.
#[derive(Debug)]
pub(super) struct Reclaimer {
    orders: SyncSender<(GroupPath, u64)>,
    in_hand: Arc<Mutex<BTreeMap<GroupPath, State>>>,
}

/// How a reclaim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Done { fell_short: bool },
}

impl Reclaimer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(mount: Mount) -> std::io::Result<Self> {
        let (orders, queue) = sync_channel::<(GroupPath, u64)>(WAITING_MAX);
        let in_hand: Arc<Mutex<BTreeMap<GroupPath, State>>> = Arc::default();
        let done = Arc::clone(&in_hand);
        // It ends with its queue: nobody waits for it, since a write may block for long.
        std::thread::Builder::new().name("reclaim".to_owned()).stack_size(128 * 1024).spawn(move || {
            for (group, bytes) in queue {
                let reclaimed = write_file(&mount, Some(&group), "memory.reclaim", &bytes.to_string());
                if let Err(error) = &reclaimed {
                    // EAGAIN: less was reclaimed than asked for.
                    tracing::debug!(error = error as &dyn std::error::Error, %group, bytes, "not all was reclaimed");
                }
                let state = State::Done { fell_short: reclaimed.is_err() };
                done.lock().unwrap_or_else(PoisonError::into_inner).insert(group, state);
            }
        })?;
        Ok(Self { orders, in_hand })
    }

    /// Has memory of a group reclaimed, unless that is under way.
    pub(super) fn reclaim(&self, group: &GroupPath, bytes: u64) {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if in_hand.get(group) == Some(&State::Running) {
            return;
        }
        // What is known of groups that nobody asks about any more.
        if in_hand.len() >= WAITING_MAX {
            in_hand.retain(|_, state| *state == State::Running);
        }
        in_hand.insert(group.clone(), State::Running);
        drop(in_hand);
        match self.orders.try_send((group.clone(), bytes)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
            }
        }
    }
}

impl Reclaimer {
    /// Whether the last reclaim of a group freed less than was asked for; `None` where none was, it still runs, or that was
    /// asked before.
    pub(super) fn take_outcome(&self, group: &GroupPath) -> Option<bool> {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        match in_hand.get(group) {
            Some(&State::Done { fell_short }) => {
                in_hand.remove(group);
                Some(fell_short)
            }
            Some(State::Running) | None => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_is_asked_for_is_written_and_a_group_that_is_in_hand_is_not_asked_twice() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a/memory.reclaim");
        std::fs::create_dir_all(temp.path().join("a")).unwrap();
        std::fs::write(&file, "").unwrap();
        let mount = Mount { controllers: Vec::new(), dir: temp.path().to_path_buf() };
        let reclaimer = Reclaimer::start(mount).unwrap();
        let group = GroupPath::parse("/a").unwrap();
        assert_eq!(reclaimer.take_outcome(&group), None);
        reclaimer.in_hand.lock().unwrap().insert(group.clone(), State::Running);
        reclaimer.reclaim(&group, 1);
        reclaimer.in_hand.lock().unwrap().clear();
        reclaimer.reclaim(&group, 4096);
        assert_eq!(outcome_of(&reclaimer, &group), Some(false));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "4096");
        std::fs::remove_file(&file).unwrap();
        reclaimer.reclaim(&group, 1);
        assert_eq!(outcome_of(&reclaimer, &group), Some(true), "a kernel that refuses freed less");
        assert_eq!(reclaimer.take_outcome(&group), None, "told once");
    }

    fn outcome_of(reclaimer: &Reclaimer, group: &GroupPath) -> Option<bool> {
        let since = Instant::now();
        loop {
            let outcome = reclaimer.take_outcome(group);
            if outcome.is_some() || since.elapsed() > Duration::from_secs(10) {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
