//! Which write a control would have at a tick of its plan.

use quotary_common::plan::{OnPressure, Setpoint};

use super::following::{Aim, Tick};
use super::kept::{Kept, Track};
use super::note::{Cause, Standing};
use super::reading::Value;
use super::rules::CheckedRules;
use super::step::{
    Candidate, PRESSURE_LAG_MS, Urgency, behind, is_in_dead_band, is_tighter, rolled_back, tightened, within_headroom,
};
use super::track::permille;

/// The write that a control of the plan would have now.
pub(super) fn candidate(
    index: usize,
    track: &Track,
    aim: &Aim,
    is_last_call: bool,
    kept: &Kept,
    tick: &Tick<'_>,
) -> Option<Candidate> {
    let rules = tick.rules;
    let candidate = |value: u64, urgency: Urgency| Candidate {
        index,
        value: Value::Value(value),
        is_tighter: is_tighter(track.control, value, aim.present),
        urgency,
        behind: behind(aim.present, aim.line, track.span),
        line: aim.line,
        rollback: None,
    };
    if let Some((value, rollback)) = back(track, tick) {
        let base = candidate(aim.present, Urgency::Release);
        return Some(Candidate { value, is_tighter: false, rollback, ..base });
    }
    let may_tighten =
        aim.held.is_none() && track.given_up.is_none() && tick.now.unix_ms >= tick.plan.plan().starts_at_ms;
    if !track.control.is_gradual() {
        let is_off = is_tighter(track.control, aim.present, aim.line);
        let urgency = if is_off { Urgency::Release } else { Urgency::Follow };
        return (aim.present != aim.line && (is_off || may_tighten)).then(|| candidate(aim.line, urgency));
    }
    let goal = if is_last_call && !aim.is_paced { aim.target } else { aim.line };
    if aim.is_open {
        // The first limit changes nothing yet.
        let first = candidate(aim.present.max(goal), Urgency::Follow);
        return may_tighten.then_some(Candidate { is_tighter: true, behind: u64::MAX, ..first });
    }
    if goal > aim.present {
        let most = rules.step_permille_max;
        let step = permille(aim.present, most).max(1);
        let to = if kept.is_easing { goal.min(aim.present.saturating_add(step)) } else { goal };
        let is_small = goal != aim.target && is_in_dead_band(aim.present, goal, rules);
        return (!is_small).then(|| candidate(to, Urgency::Follow));
    }
    if !may_tighten || goal == aim.present {
        return None;
    }
    tighten(track, aim, goal, kept, tick).map(|to| candidate(to, Urgency::Follow))
}

/// Where a control goes back to now, and whether for pressure at this tick: a rollback that is due, or the last good
/// value of one that was given up.
fn back(track: &Track, tick: &Tick<'_>) -> Option<(Value, Option<Cause>)> {
    if let Some(by) = tick.verdict.rollback(track.control) {
        let rested_ms = track.rested_ms(tick.now);
        let is_due = track.rollbacks == 0 || by == Cause::OutOfMemory || rested_ms >= PRESSURE_LAG_MS;
        if let Some(value) = rolled_back(track, tick.rules).filter(|_| is_due) {
            return Some((value, Some(by)));
        }
    }
    track.given_up.and(given_up_at(track, tick.rules)).map(|value| (value, None))
}

/// Where a control that is tightened comes to, if it may move now.
fn tighten(track: &Track, aim: &Aim, goal: u64, kept: &Kept, tick: &Tick<'_>) -> Option<u64> {
    let rules = tick.rules;
    let mut to = tightened(track, aim.present, goal, rules);
    if track.is_known_in_use(tick.reading) {
        // Down to what is in use it changes nothing for the target: that is no step of it.
        let in_use = track.level(Value::Unlimited, tick.reading, rules);
        if in_use < aim.present {
            to = to.min(in_use.max(goal));
        }
    }
    if track.is_memory_high() {
        let is_stalled = kept.reclaim.stalled_ticks > 0 && tick.plan.plan().on_pressure == OnPressure::Hold;
        let least = within_headroom(tick.reading, to, is_stalled, rules).0.min(aim.present);
        if least > to && is_in_dead_band(aim.present, least, rules) {
            return None; // next to nothing of the step may be made before memory comes free
        }
        to = least;
    }
    let is_in_time = tick.now.unix_ms <= tick.plan.plan().effective_at_ms;
    let is_final = to == aim.target;
    let since_ms = track.since_tightened_ms(tick.now);
    let is_rested = since_ms >= rules.dwell_ms || (is_final && is_in_time);
    // The dead band is for what is left to go: a step may be less, where the greatest step is.
    let is_small = goal != aim.target && is_in_dead_band(aim.present, goal, rules);
    (is_rested && !is_small && to < aim.present).then_some(to)
}

/// What is to be reclaimed so that the next write of `memory.high` makes nobody wait.
pub(super) fn reclaim(track: &Track, aim: &Aim, kept: &Kept, tick: &Tick<'_>) -> Option<u64> {
    let (plan, rules) = (tick.plan, tick.rules);
    if aim.held.is_some() || track.given_up.is_some() || aim.is_open || kept.is_easing {
        return None;
    }
    let turns = u64::try_from(kept.tracks.len()).unwrap_or(u64::MAX);
    let ahead_ms = rules.dwell_ms.max(rules.tick_ms.saturating_mul(turns));
    let taken_up = Setpoint { at_ms: track.found_at_unix_ms, value: track.found };
    let ahead_unix_ms = tick.now.unix_ms.saturating_add(ahead_ms);
    let next = plan.setpoint_from(track.control, taken_up, ahead_unix_ms)?;
    let next = track.paced_at(next, rules, ahead_unix_ms);
    let step = permille(aim.present, rules.step_permille_max).max(1);
    let next = rules.bounded(track.control, next).max(aim.present.saturating_sub(step));
    (next < aim.present).then(|| within_headroom(tick.reading, next, false, rules).1).flatten()
}

/// A control that an older plan moved and this one does not: back to its baseline, at once where that is looser.
pub(super) fn orphan(index: usize, track: &Track, tick: &Tick<'_>) -> Option<Candidate> {
    let rules = tick.rules;
    let is_left = matches!(track.standing, Standing::Contested | Standing::Unsupported);
    if is_left || track.before.is_some() || track.is_at_baseline(rules) {
        return None;
    }
    let present = track.level(track.expected, tick.reading, rules);
    let base = Candidate {
        index,
        value: track.baseline,
        is_tighter: false,
        urgency: Urgency::Follow,
        behind: 1_000_000,
        line: track.line,
        rollback: None,
    };
    match track.baseline {
        Value::Value(baseline) if is_tighter(track.control, baseline, present) && track.control.is_gradual() => {
            let since_ms = track.since_tightened_ms(tick.now);
            let mut to = tightened(track, present, baseline, rules);
            if track.is_memory_high() {
                to = within_headroom(tick.reading, to, false, rules).0.min(present);
            }
            let may = tick.verdict.hold(track.control).is_none() && since_ms >= rules.dwell_ms && to < present;
            may.then_some(Candidate { value: Value::Value(to), is_tighter: true, ..base })
        }
        _ => Some(base),
    }
}

/// What a control that was given up goes back to: its last good value, where that is looser.
pub(super) fn given_up_at(track: &Track, rules: &CheckedRules) -> Option<Value> {
    let level = |value: Value| match value {
        Value::Value(value) => value,
        Value::Unlimited => rules.unlimited_worth(track.control),
    };
    is_tighter(track.control, level(track.expected), level(track.good)).then_some(track.good)
}
