//! Reclaims memory of groups in a thread that may block (`memory.reclaim`, Linux 5.19).
//!
//! The file holds no state: nothing has to be put back. A write blocks until the kernel has reclaimed or given up, so
//! that it happens here, never in PID 1 and never in the thread that moves controls.

use std::collections::BTreeSet;
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
    in_hand: Arc<Mutex<BTreeSet<GroupPath>>>,
}

impl Reclaimer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(mount: Mount) -> std::io::Result<Self> {
        let (orders, queue) = sync_channel::<(GroupPath, u64)>(WAITING_MAX);
        let in_hand: Arc<Mutex<BTreeSet<GroupPath>>> = Arc::default();
        let done = Arc::clone(&in_hand);
        // It ends with its queue: nobody waits for it, since a write may block for long.
        std::thread::Builder::new().name("reclaim".to_owned()).stack_size(128 * 1024).spawn(move || {
            for (group, bytes) in queue {
                if let Err(error) = write_file(&mount, Some(&group), "memory.reclaim", &bytes.to_string()) {
                    // EAGAIN: less was reclaimed than asked for; the controller sees what is in use.
                    tracing::debug!(error = &error as &dyn std::error::Error, %group, bytes, "not all was reclaimed");
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
            }
        })?;
        Ok(Self { orders, in_hand })
    }

    /// Has memory of a group reclaimed, unless that is under way.
    pub(super) fn reclaim(&self, group: &GroupPath, bytes: u64) {
        let is_new = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone());
        if !is_new {
            return;
        }
        match self.orders.try_send((group.clone(), bytes)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
            }
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
        reclaimer.in_hand.lock().unwrap().insert(group.clone());
        reclaimer.reclaim(&group, 1);
        reclaimer.in_hand.lock().unwrap().clear();
        reclaimer.reclaim(&group, 4096);
        let since = Instant::now();
        while !reclaimer.in_hand.lock().unwrap().is_empty() && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "4096");
    }
}
