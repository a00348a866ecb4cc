//! What limits would have done on hosts that only watch: counted with the evidence that shows it, in one commit.

use std::sync::Arc;

use quotary_common::envelope::Mode;
use quotary_decide::allocate::GrantRecord;
use quotary_decide::attest::VerifiedEvidence;
use quotary_decide::history::BoundedLoad;
use quotary_decide::observe::Observation;
use quotary_decide::registry::Host;

use super::state::{State, Step};
use super::tables;
use crate::store::Partition;

impl State {
    /// Counts an accepted evidence, by what was in force before it; `host` is as it was before, too.
    pub(super) fn observe(
        &mut self,
        step: &mut Step,
        host: &Host,
        (evidence, load): (&VerifiedEvidence, &BoundedLoad),
        now_ms: u64,
    ) {
        let (id, envelope) = (host.record.host, evidence.claims());
        if envelope.backend.mode == Mode::Enforce {
            return;
        }
        let plans: Vec<_> = self.plans.of_host(&id).cloned().collect();
        let grants: Vec<&GrantRecord> =
            self.book.host(&id).into_iter().flat_map(|share| share.entries()).map(|entry| &entry.record).collect();
        let seen = Observation {
            envelope,
            load,
            plans: &plans,
            grants: &grants,
            capacity: &host.record.capacity,
            epoch: host.progress.epoch,
            before_ms: host.last_known_ms(),
            now_ms,
            lease_ms: self.settings.timing.lease_ms,
        };
        let observed = Arc::make_mut(self.observed.entry(id).or_default());
        if observed.note(&seen) {
            let batch = std::mem::take(&mut step.batch);
            step.batch = batch.put(tables::OBSERVED, Partition::of_host(&id), *id.as_bytes(), observed.to_bytes());
        }
    }
}
