//! Pressure as the kernel averages it (kernel/sched/psi.c, include/linux/sched/loadavg.h).

/// The kernel's fixed point.
const FIXED_1: u64 = 2048;
/// 1/exp(2 s / 10 s) in it.
const EXP_10S: u64 = 1677;
/// The kernel folds stall time into its averages every 2 s.
const PERIOD_MS: u64 = 2_000;

/// One kind of pressure.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::shape::controller) struct Pressure {
    stalled_us: u64,
    passed_ms: u64,
    avg10: u64,
}

impl Pressure {
    /// So much of a stretch of time somebody was stalled.
    pub(super) fn pass(&mut self, length_ms: u64, stalled_us: u64) {
        self.stalled_us += stalled_us.min(length_ms * 1000);
        self.passed_ms += length_ms;
        if self.passed_ms >= PERIOD_MS {
            let percent = self.stalled_us * 100 * FIXED_1 / (self.passed_ms * 1000);
            let mut load = self.avg10 * EXP_10S + percent * (FIXED_1 - EXP_10S);
            if percent >= self.avg10 {
                load += FIXED_1 - 1;
            }
            self.avg10 = load / FIXED_1;
            (self.stalled_us, self.passed_ms) = (0, 0);
        }
    }

    /// "some" avg10, thousandths.
    pub(super) fn permille(&self) -> u16 {
        u16::try_from(self.avg10 * 10 / FIXED_1).unwrap()
    }

    /// As if it had been so for long.
    pub(super) fn settled_at(permille: u64) -> Self {
        Self { avg10: permille * FIXED_1 / 10, ..Self::default() }
    }
}
