//! How fast people let a control be tightened: its line goes no faster than that.
//!
//! A plan that was kept back, comes late, or takes another one's place under way has a line far from where its control
//! stands. Then the control goes there at the pace that was decided, and is late: whoever makes plans cannot make a
//! cliff of what was held back. Going back to more takes no time.

use quotary_common::plan::{CheckedPlan, Setpoint};

use super::kept::Track;
use super::reading::Now;
use super::rules::CheckedRules;

/// So late a plan may come to its host and still be where it should be: twice the time from one evidence to the next,
/// ms.
const LATE_MS: u64 = 60_000;

impl Track {
    /// A plan is begun: its pace counts from its start, or from a little before now.
    pub(super) fn begin_pace(&mut self, plan: &CheckedPlan, now: Now) {
        let at_ms = plan.plan().starts_at_ms.max(now.unix_ms.saturating_sub(LATE_MS));
        self.paced = Some(Setpoint { at_ms, value: self.found });
    }

    /// Where the line may be now, given where the plan has it and where the control stands.
    pub(super) fn keep_pace(&mut self, line: u64, stands: u64, rules: &CheckedRules, now: Now) -> u64 {
        let Some(slew) = rules.slew(self.control) else {
            self.paced = None;
            return line;
        };
        let from = *self.paced.get_or_insert(Setpoint { at_ms: now.unix_ms, value: stands });
        let line = bounded(line, from, slew, now.unix_ms);
        // What the line did not use of its time stays, up to as much as a plan may be late: standing still saves up no
        // cliff.
        if now.unix_ms.saturating_sub(from.at_ms) > LATE_MS || line > from.value {
            let gone = u128::from(from.value.saturating_sub(line)) * 1_000_000;
            let used_ms = gone.div_ceil(u128::from(slew.max(1)));
            let until_ms = from.at_ms.saturating_add(u64::try_from(used_ms).unwrap_or(u64::MAX));
            let at_ms = until_ms.max(now.unix_ms.saturating_sub(LATE_MS)).min(now.unix_ms);
            self.paced = Some(Setpoint { at_ms, value: line });
        }
        line
    }

    /// Where the line may be at an instant to come, Unix ms.
    pub(super) fn paced_at(&self, line: u64, rules: &CheckedRules, at_ms: u64) -> u64 {
        match (rules.slew(self.control), self.paced) {
            (Some(slew), Some(from)) => bounded(line, from, slew, at_ms),
            _ => line,
        }
    }
}

/// A line no lower than a slew (thousandths of the control's unit per second) leads from a setpoint. Time in which
/// nobody looked counts no more than twice as long as a plan may be late.
fn bounded(line: u64, from: Setpoint, slew: u64, at_ms: u64) -> u64 {
    let gone = u128::from(slew) * u128::from(at_ms.saturating_sub(from.at_ms).min(2 * LATE_MS)) / 1_000_000;
    line.max(from.value.saturating_sub(u64::try_from(gone).unwrap_or(u64::MAX)))
}
