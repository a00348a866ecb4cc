//! Letting go of metric history that is older than it is kept.

use super::state::{State, Step};
use super::tables;
use crate::store::{Reader, Scan};

/// Rows that are looked at for each commit of new ones: more than come in, so that the whole table has its turn.
const SWEPT: usize = 32;

impl State {
    /// Looks at the next rows of the table, and deletes those that are too old.
    pub(super) fn sweep_history(&mut self, step: &mut Step, store: &dyn Reader, now_ms: u64) {
        let mut scan = Scan::all(tables::HISTORY).limit(SWEPT);
        scan.after = self.history_swept.take();
        let rows = match store.scan(&scan) {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!(%error, "old history could not be let go"),
        };
        // After the last row it begins again.
        self.history_swept = rows.last().filter(|_| rows.len() == SWEPT).map(|row| (row.partition, row.key.clone()));
        let oldest_ms = now_ms.saturating_sub(self.settings.history_keep_ms);
        for row in rows {
            if tables::history_made_at_ms(&row.key).is_none_or(|made_at_ms| made_at_ms < oldest_ms) {
                step.delete(tables::HISTORY, row.partition, row.key);
            }
        }
    }
}
