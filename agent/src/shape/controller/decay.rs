//! The way back to the baseline when the lease is over: a line over the decay's time, then the baseline itself.

use super::kept::{Kept, Track};
use super::note::{Note, Standing};
use super::reading::{Now, Reading, Value};
use super::rules::CheckedRules;
use super::step::{Candidate, Urgency, behind, is_in_dead_band, within_headroom};
use super::track::{Sight, is_open, permille};

/// What a tick brings on the way back.
pub(super) struct Tick<'a> {
    pub(super) reading: &'a Reading,
    pub(super) rules: &'a CheckedRules,
    pub(super) now: Now,
    /// Time since the last decision that counts, ms.
    pub(super) counted_ms: u64,
}

/// Decides a tick of the way back: what is written, and what is reclaimed.
pub(super) fn decay(kept: &mut Kept, tick: &Tick<'_>, notes: &mut Vec<Note>) -> (Option<Candidate>, Option<u64>) {
    let decayed_ms = match kept.decayed_ms {
        Some(decayed_ms) => decayed_ms.saturating_add(tick.counted_ms),
        None => {
            begin(kept, tick);
            0
        }
    };
    kept.decayed_ms = Some(decayed_ms);
    let mut best = None;
    let mut reclaim_bytes = None;
    for (index, track) in kept.tracks.iter_mut().enumerate() {
        if track.look(tick.reading, tick.rules, tick.now, notes) != Sight::Ours {
            continue;
        }
        if track.is_at_baseline(tick.rules) {
            if track.standing != Standing::AtBaseline {
                track.standing = Standing::AtBaseline;
                notes.push(Note::AtBaseline { control: track.control });
            }
            continue;
        }
        if track.standing != Standing::Decaying {
            track.standing = Standing::Decaying;
            notes.push(Note::Decaying { control: track.control });
        }
        let (candidate, reclaim) = candidate(index, track, decayed_ms, tick);
        reclaim_bytes = reclaim_bytes.or(reclaim);
        if let Some(candidate) = candidate {
            best = Candidate::better(best, candidate);
        }
    }
    (best, reclaim_bytes)
}

fn begin(kept: &mut Kept, tick: &Tick<'_>) {
    (kept.memory, kept.cpu, kept.io) = (None, None, None);
    kept.is_easing = false;
    for track in &mut kept.tracks {
        track.decay_from = match track.expected {
            Value::Value(value) => value,
            Value::Unlimited => track.level(Value::Unlimited, tick.reading, tick.rules),
        };
    }
}

fn candidate(index: usize, track: &Track, decayed_ms: u64, tick: &Tick<'_>) -> (Option<Candidate>, Option<u64>) {
    let (rules, control) = (tick.rules, track.control);
    let present = track.level(track.expected, tick.reading, rules);
    let goal = match track.baseline {
        Value::Value(value) => value,
        Value::Unlimited => rules.unlimited_worth(control),
    };
    let span = track.decay_from.abs_diff(goal);
    let write = |value: Value, line: u64, is_tighter: bool| Candidate {
        index,
        value,
        is_tighter,
        urgency: Urgency::Follow,
        behind: behind(present, line, span),
        line,
        rollback: None,
    };
    let is_tighter = if control.is_tighter_when_less() { goal < present } else { goal > present };
    let is_over = decayed_ms >= rules.decay_ms;
    if is_over || (!control.is_gradual() && !is_tighter) {
        // All that is not home yet goes there, one after the other.
        let home = write(track.baseline, goal, is_tighter);
        return (Some(Candidate { behind: home.behind.max(1), ..home }), None);
    }
    if !control.is_gradual() {
        return (None, None);
    }
    let line = on_the_way(track.decay_from, goal, decayed_ms, rules.decay_ms);
    if !is_tighter {
        let is_small = line <= present || is_in_dead_band(present, line, rules);
        return ((!is_small).then(|| write(Value::Value(line), line, false)), None);
    }
    // Tightening on the way back obeys the greatest step, and the headroom of memory, but no guard.
    let mut to = line.max(present.saturating_sub(permille(present, rules.greatest_step_permille(control)).max(1)));
    let mut reclaim = None;
    if track.is_memory_high() {
        let (least, bytes) = within_headroom(tick.reading, to, false, rules);
        (to, reclaim) = (least.min(present), bytes);
    }
    let is_open = is_open(control, track.expected, rules);
    let is_small = !is_open && (to >= present || is_in_dead_band(present, line, rules));
    ((!is_small).then(|| write(Value::Value(to), line, true)), reclaim)
}

fn on_the_way(from: u64, to: u64, gone_ms: u64, of_ms: u64) -> u64 {
    let moved = u128::from(from.abs_diff(to)) * u128::from(gone_ms.min(of_ms)) / u128::from(of_ms.max(1));
    let moved = u64::try_from(moved).unwrap_or(u64::MAX);
    if to < from { from.saturating_sub(moved) } else { from.saturating_add(moved) }
}
