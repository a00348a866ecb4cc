//! How much a series was short of late: events that decay.
//!
//! An OOM kill or throttling says that demand was above what there was, and by how much nobody knows. So it raises a
//! figure and changes no sample. The figure is capped, and of a minute the gravest event counts, once: what is made of it
//! cannot feed on itself, as a recommendation that grows with each kill does (kubernetes/autoscaler #9521).

use quotary_common::envelope::EventKind;

/// After so long, half of it is left: 6 h.
pub const PRESSURE_HALF_LIFE_MS: u64 = 6 * 3_600_000;
/// Of the same series, of events within so long the gravest counts, once.
const REFRACTORY_MS: u64 = 60_000;
/// The figure, in thousandths, is never above.
const PERMILLE_MAX: f32 = 1000.0;

/// A decaying figure between 0 and 1000 thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pressure {
    permille: f32,
    at_ms: u64,
    /// What the events of the last minute added together.
    last: u16,
}

/// What an event of this kind adds, in thousandths.
pub(super) const fn weight(kind: EventKind) -> u16 {
    match kind {
        EventKind::OomKill => 500,
        // Throttling counts by its share of the periods of a window: see the bounds.
        EventKind::CpuThrottled | EventKind::MemoryHigh => 50,
        _ => 0,
    }
}

impl Pressure {
    /// One that stood at `permille` at `at_ms`.
    pub(super) fn new(permille: u16, at_ms: u64) -> Self {
        Self { permille: f32::from(permille).min(PERMILLE_MAX), at_ms, last: 0 }
    }

    /// What it was raised to last, in thousandths rounded up, and when.
    pub(super) fn raised(&self) -> (u16, u64) {
        (whole(self.permille), self.at_ms)
    }

    /// Adds an event that was seen at `at_ms`, however often it was counted.
    pub(super) fn add(&mut self, weight: u16, at_ms: u64) {
        let is_same = self.last > 0 && at_ms.abs_diff(self.at_ms) < REFRACTORY_MS;
        let counted = if is_same { self.last } else { 0 };
        let more = weight.saturating_sub(counted);
        if more == 0 {
            return;
        }
        // One more of the same minute stands where the first stood: a chain of them has an end.
        let now_ms = if is_same { self.at_ms } else { at_ms.max(self.at_ms) };
        let added = Self::new(more, at_ms.min(now_ms)).decayed(now_ms);
        let permille = (self.decayed(now_ms) + added).min(PERMILLE_MAX);
        *self = Self { permille, at_ms: now_ms, last: counted + more };
    }

    /// Stands at least where `other` stood: of one read back and one at hand, the greater.
    pub(super) fn raise_to(&mut self, other: Self) {
        let now_ms = self.at_ms.max(other.at_ms);
        let permille = self.decayed(now_ms).max(other.decayed(now_ms));
        *self = Self { permille, at_ms: now_ms, last: self.last.max(other.last) };
    }

    /// What is left of it at `now_ms`, in thousandths.
    pub(super) fn permille(&self, now_ms: u64) -> u16 {
        whole(self.decayed(now_ms))
    }

    fn decayed(&self, now_ms: u64) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "a share of a half-life")]
        let half_lives = now_ms.saturating_sub(self.at_ms) as f32 / PRESSURE_HALF_LIFE_MS as f32;
        self.permille * (-half_lives).exp2()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
fn whole(permille: f32) -> u16 {
    permille.round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const OOM: u16 = weight(EventKind::OomKill);

    #[test]
    fn it_halves_in_a_half_life_and_ends_at_nothing() {
        let mut pressure = Pressure::default();
        pressure.add(OOM, 1_000_000);
        assert_eq!(pressure.permille(1_000_000), 500);
        assert_eq!(pressure.permille(1_000_000 + PRESSURE_HALF_LIFE_MS), 250);
        assert_eq!(pressure.permille(1_000_000 + 20 * PRESSURE_HALF_LIFE_MS), 0);
        assert_eq!(pressure.permille(u64::MAX), 0);
    }

    #[test]
    fn a_crash_loop_never_drives_it_beyond_its_cap() {
        let mut pressure = Pressure::default();
        for second in 0..100_000 {
            pressure.add(OOM, second * 1000);
            assert!(pressure.permille(second * 1000) <= 1000);
        }
        assert!(pressure.permille(100_000_000) > 990);
        // What happens within a minute is one event, as grave as the gravest.
        let mut graver = Pressure::default();
        [weight(EventKind::MemoryHigh), OOM, OOM]
            .into_iter()
            .zip(0..)
            .for_each(|(w, n)| graver.add(w, 5_000_000 + n * 9_000));
        assert_eq!(graver.permille(5_000_000), 500);
        let mut once = Pressure::default();
        (0..59).for_each(|second| once.add(OOM, 5_000_000 + second * 1000));
        assert_eq!(once.permille(5_000_000), 500);
    }

    #[test]
    fn an_event_that_is_told_late_counts_for_what_is_left_of_it() {
        let (early, late) = (1_000_000, 1_000_000 + PRESSURE_HALF_LIFE_MS);
        let mut in_order = Pressure::default();
        [early, late].into_iter().for_each(|at_ms| in_order.add(OOM, at_ms));
        let mut out_of_order = Pressure::default();
        [late, early].into_iter().for_each(|at_ms| out_of_order.add(OOM, at_ms));
        assert_eq!((in_order.permille(late), out_of_order.permille(late)), (750, 750));
        let mut kept = Pressure::new(100, late);
        kept.raise_to(in_order);
        assert_eq!(kept.permille(late), 750);
    }
}
