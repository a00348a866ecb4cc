//! The phase of the plan: which control moves at a tick, and which waits.

use quotary_common::plan::{CheckedPlan, OnPressure, Setpoint};

use super::kept::{Kept, Track};
use super::moving::{candidate, given_up_at, orphan, reclaim};
use super::note::{Cause, LateBecause, Note, Standing};
use super::pressure::Verdict;
use super::reading::{Now, Reading, Value};
use super::rules::CheckedRules;
use super::step::{Candidate, PRESSURE_LAG_MS, STALLED_TICKS, is_in_dead_band, is_tighter};
use super::track::{Sight, is_open};

/// A part of a tick by which ticks may come late without the last writes missing the effective time.
const TICK_JITTER_PART: u64 = 20;

/// What a tick brings while a plan is followed.
pub(super) struct Tick<'a> {
    pub(super) plan: &'a CheckedPlan,
    pub(super) reading: &'a Reading,
    pub(super) rules: &'a CheckedRules,
    pub(super) now: Now,
    pub(super) verdict: Verdict,
    /// Time since the last decision that counts as held, ms.
    pub(super) counted_ms: u64,
}

/// Where a control is and is to be at a tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim {
    pub(super) is_ours: bool,
    /// Another writer has it, or it is not there.
    pub(super) is_left: bool,
    /// What stands there as a number.
    pub(super) present: u64,
    /// Nothing limits it yet.
    pub(super) is_open: bool,
    /// Where its line is.
    pub(super) line: u64,
    pub(super) target: u64,
    /// Its line is behind the plan's: more was not decided.
    pub(super) is_paced: bool,
    /// Why it must not be tightened.
    pub(super) held: Option<Cause>,
}

impl Aim {
    /// Whether the line asks for a tighter value than what stands there, by more than the dead band.
    fn wants_tighter(&self, track: &Track, rules: &CheckedRules) -> bool {
        let is_small = is_in_dead_band(self.present, self.line, rules) && self.line != self.target;
        self.is_open || (is_tighter(track.control, self.line, self.present) && !is_small)
    }

    fn is_at_target(&self, track: &Track) -> bool {
        track.expected == Value::Value(self.target) || (!self.is_open && self.present == self.target)
    }
}

/// Decides a tick of the plan: what is written, and what is reclaimed.
pub(super) fn follow(kept: &mut Kept, tick: &Tick<'_>, notes: &mut Vec<Note>) -> (Option<Candidate>, Option<u64>) {
    let aims: Vec<Option<Aim>> = kept.tracks.iter_mut().map(|track| aim(track, tick, notes)).collect();
    block_stalled_reclaim(kept, tick);
    let is_last_call = is_last_call(kept, &aims, tick);
    hold(kept, &aims, tick, notes);
    let mut best = None;
    let mut reclaim_bytes = None;
    for (index, (track, aim)) in kept.tracks.iter().zip(&aims).enumerate() {
        let candidate = match aim {
            Some(aim) if aim.is_ours => {
                if track.is_memory_high() {
                    reclaim_bytes = reclaim(track, aim, kept, tick);
                }
                candidate(index, track, aim, is_last_call, kept, tick)
            }
            Some(_) => None,
            None => orphan(index, track, tick),
        };
        if let Some(candidate) = candidate {
            best = Candidate::better(best, candidate);
        }
    }
    settle(kept, &aims, tick, notes);
    let is_looser = |aim: &Aim| aim.line > aim.present && !is_in_dead_band(aim.present, aim.line, tick.rules);
    kept.is_easing &= aims.iter().flatten().any(is_looser);
    (best, reclaim_bytes)
}

/// Looks at a control; `None` for one that the plan does not move.
fn aim(track: &mut Track, tick: &Tick<'_>, notes: &mut Vec<Note>) -> Option<Aim> {
    let (rules, now, control) = (tick.rules, tick.now, track.control);
    let sight = track.look(tick.reading, rules, now, notes);
    let asked = tick.plan.target_value(control)?;
    let target = rules.bounded(control, asked);
    track.target = Some(target);
    if !track.is_bounded {
        track.is_bounded = true;
        if target > asked {
            notes.push(Note::Floored { control, asked, floor: target });
        } else if target < asked {
            notes.push(Note::Capped { control, asked, ceiling: target });
        }
    }
    let taken_up = Setpoint { at_ms: track.found_at_unix_ms, value: track.found };
    let asked_line = tick.plan.setpoint_from(control, taken_up, now.unix_ms).unwrap_or(target);
    let is_open = is_open(control, track.expected, rules);
    let present = track.level(track.expected, tick.reading, rules);
    // A first limit changes nothing yet.
    let stands = if is_open { present.max(target) } else { present };
    let line = track.keep_pace(asked_line, stands, rules, now);
    let verdict = &tick.verdict;
    if verdict.hold(control).is_none() {
        track.rollbacks = 0;
    }
    track.prove(sight != Sight::Left && verdict.is_calm(control), now);
    let held = verdict.hold(control).or(track.backs_off_for(now)).filter(|_| track.given_up.is_none());
    let mut aim = Aim {
        is_ours: sight == Sight::Ours,
        is_left: sight == Sight::Left,
        present,
        is_open,
        line: rules.bounded(control, line),
        target,
        is_paced: line != asked_line,
        held,
    };
    // What was brought to its target a few ticks ahead, in its turn, stays there.
    let ahead_ms = tick.plan.plan().effective_at_ms.saturating_sub(now.unix_ms);
    let turns = u64::try_from(tick.plan.plan().courses.len()).unwrap_or(u64::MAX).saturating_add(2);
    if control.is_gradual() && aim.is_at_target(track) && ahead_ms <= rules.tick_ms.saturating_mul(turns) {
        aim.line = target;
    }
    Some(aim)
}

/// Reclaim that gives nothing is pressure: `memory.high` waits. With `proceed` it goes on in steps that the kernel
/// itself makes true.
fn block_stalled_reclaim(kept: &mut Kept, tick: &Tick<'_>) {
    if kept.reclaim.stalled_ticks < STALLED_TICKS || tick.plan.plan().on_pressure == OnPressure::Proceed {
        return;
    }
    kept.reclaim.stalled_ticks = 0;
    if let Some(track) = kept.tracks.iter_mut().find(|track| track.is_memory_high()) {
        track.back_off(Cause::ReclaimStalled, tick.rules, tick.now);
    }
}

/// Whether there are no more ticks up to the effective time than controls that are not at their target yet: then each
/// write brings one there.
fn is_last_call(kept: &Kept, aims: &[Option<Aim>], tick: &Tick<'_>) -> bool {
    let plan = tick.plan.plan();
    let (now_ms, tick_ms) = (tick.now.unix_ms, tick.rules.tick_ms);
    let Some(left_ms) = plan.effective_at_ms.checked_sub(now_ms).filter(|_| now_ms >= plan.starts_at_ms) else {
        return false;
    };
    let ticks_left = left_ms.saturating_sub(tick_ms / TICK_JITTER_PART) / tick_ms + 1;
    let is_open = |(track, aim): &(&Track, &Option<Aim>)| {
        let may = |aim: &Aim| !aim.is_left && aim.held.is_none() && !aim.is_at_target(track);
        track.control.is_gradual() && track.given_up.is_none() && aim.as_ref().is_some_and(may)
    };
    let missing = kept.tracks.iter().zip(aims).filter(is_open).count();
    u64::try_from(missing).is_ok_and(|missing| missing >= ticks_left)
}

/// Counts the time in which pressure holds a control that should be tightened, and gives up when the plan's patience
/// is over.
fn hold(kept: &mut Kept, aims: &[Option<Aim>], tick: &Tick<'_>, notes: &mut Vec<Note>) {
    let now_ms = tick.now.boottime_ms;
    let mut is_held = false;
    for (track, aim) in kept.tracks.iter_mut().zip(aims) {
        let Some(aim) = aim.filter(|aim| aim.is_ours) else { continue };
        let held = aim.held.filter(|_| aim.wants_tighter(track, tick.rules));
        match (track.standing, held) {
            (Standing::Held { .. }, Some(_)) => is_held = true,
            (_, Some(by)) => {
                track.standing = Standing::Held { since_boottime_ms: now_ms, by };
                (track.was_held, is_held) = (true, true);
                notes.push(Note::Held { control: track.control, by });
            }
            (Standing::Held { since_boottime_ms, .. }, None) => {
                track.standing = Standing::Moving;
                let held_ms = now_ms.saturating_sub(since_boottime_ms);
                notes.push(Note::Resumed { control: track.control, held_ms });
            }
            (_, None) => {}
        }
        if held.is_some() {
            // What the line does meanwhile is no reason for a great step later.
            (track.line, track.stride_permille) = (aim.line, tick.rules.step_permille);
        }
    }
    if !is_held {
        return;
    }
    kept.held_ms = kept.held_ms.saturating_add(tick.counted_ms);
    if kept.held_ms < tick.plan.plan().hold_ms_max {
        return;
    }
    for track in &mut kept.tracks {
        if let Standing::Held { by, .. } = track.standing {
            track.given_up = Some(by);
            track.standing = Standing::GivenUp { by };
            let at = given_up_at(track, tick.rules).unwrap_or(track.expected);
            notes.push(Note::GivenUp { control: track.control, at, by });
        }
    }
}

/// Tells who is at the target and who is late.
fn settle(kept: &mut Kept, aims: &[Option<Aim>], tick: &Tick<'_>, notes: &mut Vec<Note>) {
    let (now, rules, effective_ms) = (tick.now, tick.rules, tick.plan.plan().effective_at_ms);
    for (track, aim) in kept.tracks.iter_mut().zip(aims) {
        let control = track.control;
        let Some(aim) = aim else {
            let is_home = track.before.is_none() && track.is_at_baseline(rules);
            if is_home && !matches!(track.standing, Standing::Contested | Standing::Unsupported | Standing::AtBaseline)
            {
                track.standing = Standing::AtBaseline;
                notes.push(Note::AtBaseline { control });
            }
            continue;
        };
        // Before the effective time a line may pass its target and leave it again.
        let is_there = aim.is_ours && now.unix_ms >= effective_ms && aim.is_at_target(track);
        if is_there {
            // Never written, it stood there all the time.
            let found_ms = if track.written_at_ms.is_none() { effective_ms } else { now.unix_ms };
            let at_ms = *track.reached_at_unix_ms.get_or_insert(found_ms);
            let late_by_ms = at_ms.saturating_sub(effective_ms);
            let rested_ms = track.rested_ms(now);
            let is_fine = tick.verdict.is_calm(control) && rested_ms >= track.retry_wait_ms.max(4 * PRESSURE_LAG_MS);
            if is_fine {
                track.retry_wait_ms = 0;
            }
            if matches!(track.standing, Standing::Moving) {
                (track.standing, track.was_reached) = (Standing::Reached, true);
                track.late_by_ms = (late_by_ms > 0).then_some(late_by_ms);
                notes.push(Note::Reached { control, late_by_ms });
            }
            continue;
        }
        if track.standing == Standing::Reached {
            track.standing = Standing::Moving;
        }
        let is_on_its_way = !aim.is_ours && !aim.is_left && aim.is_at_target(track);
        let is_awaited = !track.was_reached && !is_on_its_way && track.standing != Standing::Unsupported;
        let by_ms = now.unix_ms.saturating_sub(effective_ms);
        // What is on or off is never turned on ahead of its time, so that it may come a turn after it.
        let turns = u64::try_from(aims.len()).unwrap_or(u64::MAX).saturating_add(1);
        let grace_ms = if control.is_gradual() { 0 } else { turns.saturating_mul(rules.tick_ms) };
        if is_awaited && by_ms > grace_ms {
            if track.late_by_ms.is_none() {
                let because = late_because(track);
                notes.push(Note::Late { control, by_ms, at: track.expected, target: aim.target, because });
            }
            track.late_by_ms = Some(by_ms);
        }
    }
}

fn late_because(track: &Track) -> LateBecause {
    match track.standing {
        Standing::Contested => LateBecause::Contested,
        Standing::GivenUp { .. } => LateBecause::GivenUp,
        _ if track.was_held => LateBecause::Held,
        _ => LateBecause::Clipped,
    }
}
