//! What changes have no plan for, and why: told in the log once, and shown with the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::id::ChangeId;
use quotary_decide::shape::Without;

/// Lines that are kept of one change at most.
const LINES_MAX: usize = 64;

/// What changes have no plan for; clones share it. After a restart it is found anew.
#[derive(Debug, Clone, Default)]
pub struct LeftOut(Arc<RwLock<BTreeMap<ChangeId, Vec<String>>>>);

impl LeftOut {
    /// For what a change has no plan, and why.
    pub fn of(&self, id: &ChangeId) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    /// Takes note of what a look found; what is news is logged.
    pub(super) fn tell<'w>(&self, id: ChangeId, without: impl IntoIterator<Item = &'w Without>) {
        let lines: Vec<String> = without.into_iter().map(ToString::to_string).take(LINES_MAX).collect();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(id).or_default();
        for why in lines.iter().filter(|line| !known.contains(line)) {
            tracing::warn!(change = %id, why, "no plan for one of its units");
        }
        *known = lines;
        if known.is_empty() {
            all.remove(&id);
        }
    }

    /// Lets go of all changes but these.
    pub(super) fn keep(&self, ids: &BTreeSet<ChangeId>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| ids.contains(id));
    }
}
