//! Keeps the history: takes what a restart reads back, and hands chunks to the writer.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use quotary_common::id::HostId;
use quotary_decide::history::{Chunk, HOUR_MS, History};

use super::anomalies::Alarms;
use super::feed::Replayed;
use crate::core::{WeakQueue, tables};
use crate::store::Batch;

/// How often it is looked for chunks that are due, ms.
const LOOK_EVERY_MS: u64 = 1_000;
/// Chunks that are made at once.
const CHUNKS_AT_ONCE: usize = 64;
/// What is taken of a replay at once.
const REPLAYED_AT_ONCE: usize = 64;

/// Where history comes from and where it goes.
pub(super) struct Keeping {
    replayed: Receiver<Replayed>,
    is_restored: bool,
    queue: Option<WeakQueue>,
    /// What the writer had no room for.
    unsent: VecDeque<Batch>,
    looked_at_ms: u64,
}

impl Keeping {
    pub(super) fn new(replayed: Receiver<Replayed>) -> Self {
        Self { replayed, is_restored: false, queue: None, unsent: VecDeque::new(), looked_at_ms: 0 }
    }

    /// Chunks go to this writer.
    pub(super) fn to(&mut self, queue: WeakQueue) {
        self.queue = Some(queue);
    }

    /// How long the forecaster waits for news: hardly, while there is something to read back.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(if self.is_restored { 250 } else { 1 })
    }

    /// Whether all was read back: until then sums would miss members, and chunks would say that they reach further than
    /// they do.
    pub(super) fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Takes of what is read back, while nothing newer waits.
    pub(super) fn take_replayed(&mut self, history: &mut History, alarms: &mut Alarms, now_ms: u64) {
        for _ in 0..REPLAYED_AT_ONCE {
            match self.replayed.try_recv() {
                Ok(Replayed::Chunk(host, chunk)) => {
                    history.restore(host, &chunk, now_ms);
                    alarms.relive(history, host, &chunk, now_ms);
                }
                Ok(Replayed::Load(load, at_ms)) => history.record(&load, at_ms),
                Ok(Replayed::Place(load)) => history.place(&load),
                Ok(Replayed::End) => {
                    self.is_restored = true;
                    return history.forget_silent(now_ms);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Hands over chunks that are due.
    pub(super) fn keep_due(&mut self, history: &mut History, now_ms: u64) {
        if !self.is_restored || now_ms.abs_diff(self.looked_at_ms) < LOOK_EVERY_MS {
            return;
        }
        if now_ms / HOUR_MS != self.looked_at_ms / HOUR_MS {
            history.forget_silent(now_ms);
        }
        self.looked_at_ms = now_ms;
        let Some(queue) = &self.queue else { return };
        if self.unsent.is_empty() {
            let due = history.take_due(now_ms, CHUNKS_AT_ONCE);
            self.unsent.extend(due.iter().map(|(host, chunk)| rows(host.as_ref(), chunk, now_ms)));
        }
        while let Some(batch) = self.unsent.pop_front() {
            if let Err(batch) = queue.keep_history(batch) {
                self.unsent.push_front(batch);
                return;
            }
        }
    }
}

/// The rows of a chunk, all in one batch: its parts stand or fall together.
fn rows(host: Option<&HostId>, chunk: &Chunk, now_ms: u64) -> Batch {
    let (partition, _) = tables::history_prefix(host);
    let parts = (0..=u16::MAX).zip(chunk.to_parts());
    parts.fold(Batch::default(), |batch, (number, part)| {
        batch.put(tables::HISTORY, partition, tables::history_key(host, now_ms, number), part)
    })
}
