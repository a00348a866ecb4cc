//! What waiting for a hand may cost: one that is slow, or silent, must delay nothing but its own controls. Pure.

/// After a request that took too long nothing is asked for so long, ms.
const SILENT_MS: u64 = 30_000;
/// From one look to the next, whosever it is, ms; and so many times what the one before took.
const APART_MS: u64 = 1_000;
const APART_TIMES: u64 = 10;
/// What a tick may spend on looks and writes, and on putting back, ms: the rest waits for the next. (One request may take
/// longer than what is left: the enforcement thread gives a sign of life once a minute at least.)
const TICK_MS: u64 = 5_000;
const UNDO_MS: u64 = 15_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shape) enum Work {
    /// To know what is used: it can wait.
    Look,
    /// To move a control.
    Write,
    /// To put back: it is tried whatever became of the others.
    Undo,
}

/// What was spent, and until when nothing is asked.
#[derive(Debug, Default)]
pub(in crate::shape) struct Patience {
    spent_ms: u64,
    look_from_ms: u64,
    silent_until_ms: u64,
    undo_silent_until_ms: u64,
}

impl Patience {
    /// A new tick begins.
    pub(in crate::shape) fn tick(&mut self) {
        self.spent_ms = 0;
    }

    /// Whether the hand may be asked now.
    pub(in crate::shape) fn may(&self, work: Work, now_ms: u64) -> bool {
        match work {
            Work::Look => self.may(Work::Write, now_ms) && now_ms >= self.look_from_ms,
            Work::Write => now_ms >= self.silent_until_ms && self.spent_ms < TICK_MS,
            Work::Undo => now_ms >= self.undo_silent_until_ms && self.spent_ms < TICK_MS + UNDO_MS,
        }
    }

    /// It was asked.
    pub(in crate::shape) fn asked(&mut self, work: Work, from_ms: u64, now_ms: u64, is_timeout: bool) {
        let took_ms = now_ms.saturating_sub(from_ms);
        self.spent_ms = self.spent_ms.saturating_add(took_ms);
        self.look_from_ms = now_ms.saturating_add(took_ms.saturating_mul(APART_TIMES).max(APART_MS));
        if is_timeout {
            self.silent_until_ms = now_ms.saturating_add(SILENT_MS);
            if work == Work::Undo {
                self.undo_silent_until_ms = self.silent_until_ms;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_time_out_nothing_is_asked_for_a_while_but_an_undo_once() {
        let mut patience = Patience::default();
        patience.asked(Work::Look, 0, 10_000, true);
        patience.tick();
        assert!(!patience.may(Work::Look, 39_999) && !patience.may(Work::Write, 39_999));
        assert!(patience.may(Work::Undo, 10_001));
        patience.asked(Work::Undo, 11_000, 21_000, true);
        patience.tick();
        assert!(!patience.may(Work::Undo, 50_999) && !patience.may(Work::Write, 50_999));
        assert!(patience.may(Work::Undo, 51_000) && patience.may(Work::Write, 51_000));
    }

    #[test]
    fn looks_stand_apart_and_the_more_so_the_slower_they_are() {
        let mut patience = Patience::default();
        patience.asked(Work::Look, 0, 20, false);
        assert!(!patience.may(Work::Look, 1_019) && patience.may(Work::Look, 1_020));
        assert!(patience.may(Work::Write, 20), "writes do not wait for that");
        patience.asked(Work::Look, 2_000, 2_500, false);
        assert!(!patience.may(Work::Look, 7_499) && patience.may(Work::Look, 7_500));
    }

    #[test]
    fn a_tick_waits_for_a_slow_hand_only_so_long() {
        let mut patience = Patience::default();
        patience.asked(Work::Write, 0, 3_000, false);
        assert!(patience.may(Work::Write, 3_000));
        patience.asked(Work::Write, 3_000, 6_000, false);
        assert!(!patience.may(Work::Write, 6_000) && patience.may(Work::Undo, 6_000));
        patience.asked(Work::Undo, 6_000, 20_000, false);
        assert!(!patience.may(Work::Undo, 20_000));
        patience.tick();
        assert!(patience.may(Work::Write, 20_000) && patience.may(Work::Undo, 20_000));
    }
}
