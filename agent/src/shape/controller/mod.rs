//! The controller of one target: what is written at a tick. Pure and synchronous.
//!
//! Does: follows a plan's lines from what is there to its targets ([`Shaping::step`]), holds and goes back when
//! pressure says so, yields to other writers, goes back to the baseline when the lease is over.
//! May assume: one call per tick and target; that a write which it gave was made, unless it is told otherwise.
//! Promises: at most one write per tick; no tightening greater than the greatest step, none out of floor and ceiling,
//! none faster than people decided, none under a hold; release at once; a control that is written stands exactly at its
//! target at the effective time, or a note says that it is late and why; what [`Shaping::kept`] gives goes on as if
//! nothing had happened.
//! Must never: read a clock or a file; tighten when an out-of-memory kill, by the kernel or by oomd, is near; fight
//! another writer; set `memory.high` far under what is in use.
//!
//! | module | what it holds |
//! |---|---|
//! | `reading`, `note`, `kept` | the values that go in and out, and that a journal keeps |
//! | `rules` | how fast, and where pressure stops it |
//! | `pressure` | holds and rollbacks |
//! | `track` | one control: its owner, its levels |
//! | `pace` | how fast people let it be tightened |
//! | `step` | the arithmetic of one step |
//! | `following` with `moving`, `decay` | the two phases |

mod decay;
mod following;
mod kept;
mod moving;
mod note;
mod pace;
mod pressure;
mod reading;
mod rules;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod simulated;
mod step;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod track;

use std::collections::BTreeMap;

use quotary_common::plan::{CheckedPlan, ShapedControl};

pub use self::kept::{Hold, Kept, Reclaim, Track, Trial};
pub use self::note::{Cause, ControlState, LateBecause, Note, Standing, State};
pub use self::reading::{Actual, Counters, Decision, Now, Phase, Reading, Value, Write};
pub use self::rules::{CheckedRules, Guard, Rules, RulesFault};

use self::step::Candidate;
use self::track::is_open;

/// A gap between two decisions counts as so many ticks at most: nobody was held, and nothing decayed, in a suspend.
const GAP_TICKS: u64 = 5;

/// The shaping of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaping {
    kept: Kept,
}

impl Shaping {
    /// Takes up a plan for a target that none has moved yet: its lines start at what is there.
    ///
    /// A control that has no entry in `baseline` goes back to what the reading shows; one that has, and that the plan does not
    /// move, goes back at once.
    pub fn begin(
        plan: &CheckedPlan,
        baseline: &BTreeMap<ShapedControl, Value>,
        reading: &Reading,
        rules: &CheckedRules,
        now: Now,
    ) -> Self {
        let kept = Kept {
            seen_unix_ms: now.unix_ms,
            seen_boottime_ms: now.boottime_ms,
            seen: reading.counters,
            found_cpu_permille: reading.cpu_pressure_permille.unwrap_or(0),
            found_io_permille: reading.io_pressure_permille.unwrap_or(0),
            ..Kept::default()
        };
        let mut shaping = Self { kept };
        shaping.take_up(plan, baseline, reading, rules, now);
        shaping.kept.tracks.iter_mut().for_each(|track| track.begin_pace(plan, now));
        // What the plan does not move, and a plan before has moved, goes back.
        let is_missing = |control: &ShapedControl| !plan.controls().any(|moved| moved == *control);
        for (control, value) in baseline.iter().filter(|(control, _)| is_missing(control)) {
            let shown = Value::shown_by(reading.actual(*control)).unwrap_or(*value);
            shaping.kept.tracks.push(Track::new(*control, *value, shown));
        }
        shaping
    }

    /// Goes on from what a journal kept, on the same boot.
    pub fn resume(kept: Kept) -> Self {
        Self { kept }
    }

    /// What a journal keeps.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Takes up a newer plan for the same target: its lines start at what is there, baselines stay, the time held
    /// counts anew. A control that it does not move goes back to its baseline; one that is contested stays so.
    pub fn replan(&mut self, plan: &CheckedPlan, reading: &Reading, rules: &CheckedRules, now: Now) {
        self.kept.held_ms = 0;
        self.kept.decayed_ms = None;
        for track in &mut self.kept.tracks {
            track.target = None;
        }
        self.take_up(plan, &BTreeMap::new(), reading, rules, now);
    }

    fn take_up(
        &mut self,
        plan: &CheckedPlan,
        baseline: &BTreeMap<ShapedControl, Value>,
        reading: &Reading,
        rules: &CheckedRules,
        now: Now,
    ) {
        for control in plan.controls() {
            let known = self.kept.tracks.iter().position(|track| track.control == control);
            let index = known.unwrap_or_else(|| {
                let shown = Value::shown_by(reading.actual(control));
                let baseline = baseline.get(&control).copied().or(shown).unwrap_or(Value::Unlimited);
                self.kept.tracks.push(Track::new(control, baseline, shown.unwrap_or(baseline)));
                self.kept.tracks.len() - 1
            });
            let (Some(track), Some(asked)) = (self.kept.tracks.get_mut(index), plan.target_value(control)) else {
                continue;
            };
            let target = rules.bounded(control, asked);
            let level = track.level(track.expected, reading, rules);
            track.found = if is_open(control, track.expected, rules) { level.max(target) } else { level };
            track.found_at_unix_ms = now.unix_ms.max(plan.plan().starts_at_ms);
            track.span = plan.span(control, track.found).unwrap_or(0);
            (track.line, track.target) = (track.found, Some(target));
            track.stride_permille = rules.step_permille;
            if known.is_none() {
                track.begin_pace(plan, now);
            }
            (track.given_up, track.was_held, track.was_reached) = (None, false, false);
            (track.reached_at_unix_ms, track.late_by_ms, track.is_bounded) = (None, None, false);
            if !matches!(track.standing, Standing::Contested | Standing::Unsupported) {
                track.standing = Standing::Moving;
            }
        }
    }

    /// Decides a tick.
    pub fn step(&mut self, phase: Phase<'_>, reading: &Reading, rules: &CheckedRules, now: Now) -> Decision {
        let kept = &mut self.kept;
        let elapsed_ms = now.boottime_ms.saturating_sub(kept.seen_boottime_ms);
        let counted_ms = elapsed_ms.min(rules.tick_ms.saturating_mul(GAP_TICKS));
        // The wall clock is where the boot clock says, give or take a tick, or it went back.
        let awaited_ms = kept.seen_unix_ms.saturating_add(elapsed_ms);
        if now.unix_ms.saturating_add(rules.tick_ms) < awaited_ms {
            kept.is_easing = true;
        }
        step::account_reclaim(kept, reading);
        let mut notes = Vec::new();
        let (chosen, reclaim_bytes) = match phase {
            Phase::Plan(plan) => {
                let look = pressure::Look {
                    reading,
                    rules,
                    on_pressure: plan.plan().on_pressure,
                    now_ms: now.boottime_ms,
                    elapsed_ms,
                };
                let verdict = pressure::watch(kept, &look);
                if kept.decayed_ms.take().is_some() {
                    resume_plan(kept);
                }
                let tick = following::Tick { plan, reading, rules, now, verdict, counted_ms };
                following::follow(kept, &tick, &mut notes)
            }
            Phase::Decay => decay::decay(kept, &decay::Tick { reading, rules, now, counted_ms }, &mut notes),
        };
        let write = chosen.and_then(|chosen| commit(kept, chosen, rules, now, &mut notes));
        (kept.seen_unix_ms, kept.seen_boottime_ms, kept.seen) = (now.unix_ms, now.boottime_ms, reading.counters);
        kept.reclaim.asked_bytes = reclaim_bytes.unwrap_or(0);
        kept.reclaim.current_bytes = reading.memory_current_bytes.unwrap_or(0);
        Decision { write, reclaim_bytes, notes }
    }

    /// A write that the last decision gave was not made, as far as is known: what stood there before still does. It is tried
    /// again after a wait that doubles. One that got no answer may have been made; it is known again when it shows.
    pub fn not_written(&mut self, control: ShapedControl, rules: &CheckedRules, now: Now) {
        if let Some(track) = self.kept.tracks.iter_mut().find(|track| track.control == control)
            && let Some(before) = track.before.take()
        {
            track.tried = Some(track.expected);
            track.expected = before;
            track.reached_at_unix_ms = None;
            track.refuse(rules, now);
        }
    }

    /// Whether every control that is ours stands at its baseline: one that another writer has, or that is gone, is
    /// not waited for.
    pub fn is_at_baseline(&self) -> bool {
        self.kept.tracks.iter().all(|track| {
            matches!(track.standing, Standing::Contested | Standing::Unsupported) || track.expected == track.baseline
        })
    }

    /// How the target stands, for people.
    pub fn state(&self) -> State {
        let control = |track: &Track| ControlState {
            control: track.control,
            standing: track.standing,
            baseline: track.baseline,
            present: track.expected,
            setpoint: track.target.map(|_| track.line),
            target: track.target,
            late_by_ms: track.late_by_ms,
        };
        State { controls: self.kept.tracks.iter().map(control).collect(), held_ms: self.kept.held_ms }
    }
}

/// The plan is followed again after a decay: what was released meanwhile is caught up in small steps.
fn resume_plan(kept: &mut Kept) {
    for track in &mut kept.tracks {
        if matches!(track.standing, Standing::Decaying | Standing::AtBaseline) {
            track.standing = Standing::Moving;
        }
        track.line = 0;
        track.stride_permille = 0;
        track.paced = None;
    }
}

/// The chosen write goes out.
fn commit(kept: &mut Kept, chosen: Candidate, rules: &CheckedRules, now: Now, notes: &mut Vec<Note>) -> Option<Write> {
    let track = kept.tracks.get_mut(chosen.index)?;
    let (control, from) = (track.control, track.expected);
    track.write(chosen.value, chosen.is_tighter, now);
    if let Some(by) = chosen.rollback {
        if track.rollbacks == 0 {
            track.back_off(by, rules, now);
        }
        track.rollbacks = track.rollbacks.saturating_add(1);
        track.was_held = true;
        notes.push(Note::RolledBack { control, from, to: chosen.value, by });
    } else if chosen.is_tighter {
        let is_behind = chosen.value != Value::Value(chosen.line);
        let doubled = track.stride_permille.saturating_mul(2).min(rules.greatest_step_permille(control));
        track.stride_permille = if is_behind { doubled } else { rules.step_permille };
    }
    track.line = chosen.line;
    let is_target = track.target.is_some_and(|target| chosen.value == Value::Value(target));
    track.reached_at_unix_ms = is_target.then_some(now.unix_ms);
    Some(Write { control, value: chosen.value })
}
