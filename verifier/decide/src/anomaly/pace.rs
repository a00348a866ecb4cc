//! When values come: in time, after a gap, or out of order.

/// So many usual steps without a value are a gap after which the series begins anew, once so many points are known.
const GAP_STEPS: f64 = 12.0;
const GAP_LEAST: u32 = 20;
/// How quickly the usual step follows.
const STEP_FOLLOWS: f64 = 1.02;

/// When the last value came, and how far apart values usually are.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pace {
    last_ms: Option<i64>,
    usual_ms: f64,
}

/// How a value follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    InTime,
    AfterAGap,
    Backwards,
}

impl Pace {
    /// How a value at `time_ms` follows, the next after so many points.
    pub(super) fn follows(&mut self, time_ms: i64, points: u32) -> Follows {
        let Some(last_ms) = self.last_ms.replace(time_ms) else {
            return Follows::InTime;
        };
        if time_ms < last_ms {
            return Follows::Backwards;
        }
        let step_ms = time_ms.saturating_sub(last_ms) as f64;
        let is_gap = points >= GAP_LEAST && step_ms > GAP_STEPS * self.usual_ms;
        self.usual_ms = match self.usual_ms {
            unknown if unknown < 1.0 => step_ms,
            usual if step_ms > usual => usual * STEP_FOLLOWS,
            usual if step_ms < usual => usual / STEP_FOLLOWS,
            usual => usual,
        };
        if is_gap { Follows::AfterAGap } else { Follows::InTime }
    }
}
