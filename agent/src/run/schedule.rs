//! When the next evidence is due: regularly, earlier on a request, later after a failure. Pure.

use std::collections::BTreeMap;

/// Requests that come within so long of the first share one evidence, ms.
const COALESCE_MS: u64 = 2;
/// What is worth telling soon, but not at once (a grant that was given back), waits so long for more of its kind, ms.
const SOON_MS: u64 = 1_000;

/// When evidence is due, on `CLOCK_BOOTTIME`.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    evidence_ms: u64,
    request_min_interval_ms: u64,
    regular_ms: u64,
    early_ms: Option<u64>,
    not_before_ms: u64,
    /// Uids whose requests wait to be told.
    asking: Vec<u32>,
    /// When a uid's requests last brought evidence forward; only within the minimal interval.
    brought: BTreeMap<u32, u64>,
}

impl Schedule {
    pub(super) fn new(evidence_ms: u64, request_min_interval_ms: u64, now_ms: u64) -> Self {
        Self {
            evidence_ms,
            request_min_interval_ms,
            regular_ms: now_ms,
            early_ms: None,
            not_before_ms: 0,
            asking: Vec::new(),
            brought: BTreeMap::new(),
        }
    }

    /// From now on at this interval.
    pub(super) fn set_interval(&mut self, evidence_ms: u64) {
        self.evidence_ms = evidence_ms;
    }

    /// The next is due at once.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.regular_ms = now_ms;
        self.not_before_ms = 0;
    }

    /// A request of `uid` came: evidence as soon as its share of early ones allows.
    pub(super) fn requested(&mut self, uid: u32, now_ms: u64) {
        let allowed_ms = self.brought.get(&uid).map_or(0, |last| last.saturating_add(self.request_min_interval_ms));
        self.bring(allowed_ms.max(now_ms.saturating_add(COALESCE_MS)));
        if !self.asking.contains(&uid) {
            self.asking.push(uid);
        }
    }

    /// Something happened that the verifier should know soon.
    pub(super) fn soon(&mut self, now_ms: u64) {
        self.bring(now_ms.saturating_add(SOON_MS));
    }

    fn bring(&mut self, due_ms: u64) {
        self.early_ms = Some(self.early_ms.map_or(due_ms, |early| early.min(due_ms)));
    }

    /// An envelope is being built: it carries what waits now.
    pub(super) fn started(&mut self, now_ms: u64) {
        let within_ms = self.request_min_interval_ms;
        self.brought.retain(|_, last| now_ms.saturating_sub(*last) < within_ms);
        for uid in self.asking.drain(..) {
            self.brought.insert(uid, now_ms);
        }
        self.early_ms = None;
    }

    /// The envelope built at `built_at_ms` was accepted. One that was long on its way answers nothing new, so the
    /// next is due at once.
    pub(super) fn accepted(&mut self, built_at_ms: u64, now_ms: u64) {
        self.not_before_ms = 0;
        self.regular_ms = built_at_ms.saturating_add(self.evidence_ms).max(now_ms);
        // After another boot the clock began anew.
        self.regular_ms = self.regular_ms.min(now_ms.saturating_add(self.evidence_ms));
    }

    /// It failed: again after `pause_ms`, whoever asks.
    pub(super) fn failed(&mut self, pause_ms: u64, now_ms: u64) {
        self.not_before_ms = now_ms.saturating_add(pause_ms);
        self.regular_ms = self.not_before_ms;
    }

    /// When the next is due, ms.
    pub(super) fn due_ms(&self) -> u64 {
        self.early_ms.map_or(self.regular_ms, |early| early.min(self.regular_ms)).max(self.not_before_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_regular_and_a_request_brings_it_forward_once_per_interval() {
        let mut schedule = Schedule::new(30_000, 1_000, 100_000);
        assert_eq!(schedule.due_ms(), 100_000, "the first is due at once");
        schedule.started(100_000);
        schedule.accepted(100_000, 100_050);
        assert_eq!(schedule.due_ms(), 130_000);
        schedule.requested(7, 110_000);
        schedule.requested(7, 110_001);
        schedule.requested(8, 110_001);
        assert_eq!(schedule.due_ms(), 110_002, "requests share one");
        schedule.started(110_002);
        schedule.accepted(110_002, 110_010);
        assert_eq!(schedule.due_ms(), 140_002);
        schedule.requested(7, 110_300);
        assert_eq!(schedule.due_ms(), 111_002, "a uid has its share");
        schedule.requested(9, 110_400);
        assert_eq!(schedule.due_ms(), 110_402, "another uid does not wait for it");
    }

    #[test]
    fn after_a_failure_nobody_hurries_it() {
        let mut schedule = Schedule::new(30_000, 0, 0);
        schedule.started(0);
        schedule.failed(5_000, 10);
        schedule.requested(7, 20);
        assert_eq!(schedule.due_ms(), 5_010);
        schedule.started(5_010);
        schedule.accepted(0, 5_020);
        assert_eq!(schedule.due_ms(), 30_000);
    }

    #[test]
    fn an_envelope_long_on_its_way_is_followed_at_once() {
        let mut schedule = Schedule::new(30_000, 0, 0);
        schedule.failed(60_000, 100);
        schedule.begin(200);
        assert_eq!(schedule.due_ms(), 200, "after an enrolment nothing is waited for");
        schedule.accepted(1_000, 400_000);
        assert_eq!(schedule.due_ms(), 400_000);
        schedule.accepted(900_000_000, 400_000);
        assert_eq!(schedule.due_ms(), 430_000, "built under another boot's clock");
    }

    #[test]
    fn what_is_remembered_of_uids_is_bounded_by_the_interval() {
        let mut schedule = Schedule::new(30_000, 1_000, 0);
        for n in 0..10_000u32 {
            schedule.requested(n, u64::from(n) * 10);
            schedule.started(u64::from(n) * 10);
        }
        assert!(schedule.brought.len() <= 101, "{}", schedule.brought.len());
    }
}
