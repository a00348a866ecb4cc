//! Pressure as a script: what a reading says, and what the next decision makes of it.

use super::ShapedControl::{CpuQuota, CpuWeight, MemoryHigh};
use super::*;

/// A target whose readings the test writes itself; what is decided shows at once.
pub(super) struct Script {
    pub(super) shaping: Shaping,
    pub(super) plan: CheckedPlan,
    pub(super) rules: CheckedRules,
    pub(super) reading: Reading,
    pub(super) now: Now,
}

impl Script {
    /// 400 MiB in use under a limit of 400 MiB, and a plan over five minutes.
    pub(super) fn new(on_pressure: OnPressure, targets: &[(ShapedControl, u64)]) -> Self {
        let plan = check(Plan { on_pressure, ..plan_over(300_000, targets) }).unwrap();
        let rules = rules().check().unwrap();
        let actual =
            [(MemoryHigh, Actual::Value(400 * MIB)), (CpuWeight, Actual::Value(100)), (CpuQuota, Actual::Value(4_000))];
        let reading = Reading {
            actual: actual.into(),
            memory_current_bytes: Some(400 * MIB),
            counters: Kernel::new(Demand::default()).reading().counters,
            ..Reading::default()
        };
        let now = Now { unix_ms: START_UNIX_MS, boottime_ms: 0 };
        let shaping = Shaping::begin(&plan, &BTreeMap::new(), &reading, &rules, now);
        Self { shaping, plan, rules, reading, now }
    }

    pub(super) fn memory(on_pressure: OnPressure) -> Self {
        let mut script = Self::new(on_pressure, &[(MemoryHigh, 200 * MIB)]);
        script.ticks(150);
        assert!(script.high() < 310 * MIB);
        script
    }

    pub(super) fn tick(&mut self) -> Decision {
        let decision = self.shaping.step(Phase::Plan(&self.plan), &self.reading, &self.rules, self.now);
        if let Some(Write { control, value: Value::Value(value) }) = decision.write {
            self.reading.actual.insert(control, Actual::Value(value));
            if control == MemoryHigh {
                self.reading.memory_current_bytes = self.reading.memory_current_bytes.map(|bytes| bytes.min(value));
            }
        }
        self.now.unix_ms += 1_000;
        self.now.boottime_ms += 1_000;
        decision
    }

    pub(super) fn ticks(&mut self, count: usize) -> Vec<Note> {
        (0..count).flat_map(|_| self.tick().notes).collect()
    }

    pub(super) fn codes(&mut self, count: usize) -> Vec<&'static str> {
        self.ticks(count).iter().map(Note::code).collect()
    }

    pub(super) fn high(&self) -> u64 {
        let Actual::Value(high) = self.reading.actual(MemoryHigh) else { panic!() };
        high
    }
}

#[test]
fn memory_that_could_not_be_had_and_a_process_killed_for_it_roll_back_each_by_itself() {
    for on_pressure in [OnPressure::Hold, OnPressure::Proceed] {
        for is_kill in [false, true] {
            let mut script = Script::memory(on_pressure);
            let before = script.high();
            let counters = &mut script.reading.counters;
            let counter = if is_kill { &mut counters.oom_kill } else { &mut counters.oom };
            *counter = Some(1);
            let notes = script.ticks(1);
            let is_rollback = |note: &Note| matches!(note, Note::RolledBack { by: Cause::OutOfMemory, .. });
            assert!(notes.iter().any(is_rollback), "{notes:?}");
            assert!(script.high() > before);
            // A second one does not wait for the first one's effect to show.
            let counters = &mut script.reading.counters;
            counters.oom = Some(2);
            assert!(script.ticks(1).iter().any(is_rollback));
        }
    }
}

#[test]
fn a_quarter_of_what_oomd_allows_holds_everything_and_half_of_it_rolls_back() {
    for on_pressure in [OnPressure::Hold, OnPressure::Proceed] {
        let mut script = Script::new(on_pressure, &[(MemoryHigh, 200 * MIB), (CpuWeight, 50)]);
        script.ticks(30);
        script.reading.oomd_limit_permille = Some(160);
        script.reading.memory_pressure_permille = Some(40);
        let before = script.reading.actual.clone();
        let mut codes = script.codes(4);
        codes.sort_unstable();
        assert_eq!(codes, ["held", "held"], "a share of CPU waits too: nothing may add to it");
        assert_eq!(script.reading.actual, before);
        script.reading.memory_pressure_permille = Some(79);
        assert!(script.codes(20).is_empty());
        script.reading.memory_pressure_permille = Some(80);
        assert_eq!(script.codes(1), ["rolled-back"]);
        script.reading.memory_pressure_permille = Some(20);
        assert!(script.codes(60).is_empty(), "an eighth is not calm yet");
        script.reading.memory_pressure_permille = Some(19);
        assert_eq!(script.codes(60), ["resumed", "resumed"]);
    }
}

#[test]
fn what_does_not_bind_is_held_and_not_released() {
    let mut script = Script::memory(OnPressure::Hold);
    script.reading.memory_current_bytes = Some(script.high() / 2);
    script.reading.memory_pressure_permille = Some(300);
    assert_eq!(script.codes(20), ["held"]);
    script.reading.counters.memory_high = Some(1);
    assert_eq!(script.codes(1), ["rolled-back"], "it was run into after all");
    let mut script = Script::memory(OnPressure::Hold);
    script.reading.memory_pressure_permille = Some(300);
    assert_eq!(script.codes(1), ["held", "rolled-back"], "all of it is in use");
}

#[test]
fn a_hold_ends_when_the_pressure_was_under_the_lower_level_for_a_dwell() {
    let mut script = Script::memory(OnPressure::Hold);
    script.reading.memory_pressure_permille = Some(50);
    assert_eq!(script.codes(5), ["held"]);
    script.reading.memory_pressure_permille = Some(20);
    assert!(script.codes(30).is_empty(), "between the levels it goes on");
    script.reading.memory_pressure_permille = Some(19);
    assert!(script.codes(1).is_empty());
    script.reading.memory_pressure_permille = Some(20);
    assert!(script.codes(1).is_empty());
    script.reading.memory_pressure_permille = Some(19);
    assert!(script.codes(2).is_empty(), "the dwell begins anew");
    let before = script.high();
    let notes = script.ticks(1);
    assert_eq!(notes, [Note::Resumed { control: MemoryHigh, held_ms: 39_000 }]);
    assert!(script.high() <= before);
}

#[test]
fn a_further_rollback_waits_until_the_last_one_can_show() {
    let mut script = Script::memory(OnPressure::Hold);
    // Pressure has been there all the time, just under its guard: no value of the plan was good.
    script.reading.memory_pressure_permille = Some(49);
    script.ticks(60);
    script.reading.memory_pressure_permille = Some(200);
    let mut rolled = Vec::new();
    for second in 0..35_u64 {
        for note in script.ticks(1) {
            if let Note::RolledBack { from: Value::Value(from), to: Value::Value(to), .. } = note {
                assert!(to > from);
                rolled.push(second);
            }
        }
        script.reading.memory_current_bytes = Some(script.high());
    }
    assert_eq!(rolled, [0, 10, 20]);
}

#[test]
fn a_rollback_without_a_good_value_near_goes_a_step_and_each_further_one_twice_as_far() {
    let rules = rules().check().unwrap();
    let track = |rollbacks| Track {
        rollbacks,
        baseline: Value::Value(1_000 * MIB),
        ..Track::new(MemoryHigh, Value::Unlimited, Value::Value(200 * MIB))
    };
    let to = |rollbacks| super::super::step::rolled_back(&track(rollbacks), &rules).unwrap();
    let steps = [0, 1, 2, 6, 200].map(to);
    let mib = |mib: u64| Value::Value(mib * MIB);
    assert_eq!(steps, [mib(220), mib(240), mib(280), mib(1_000), mib(1_000)]);
}

#[test]
fn throttling_between_half_of_what_is_allowed_and_all_of_it_ends_no_hold() {
    let mut script = Script::new(OnPressure::Hold, &[(CpuQuota, 1_000)]);
    script.ticks(30);
    let throttle = |script: &mut Script, permille: u64, count: usize| {
        let mut codes = Vec::new();
        for _ in 0..count {
            let counters = &mut script.reading.counters;
            counters.throttled_us = counters.throttled_us.map(|us| us + permille * 1_000);
            codes.extend(script.codes(1));
        }
        codes
    };
    assert!(throttle(&mut script, 499, 10).is_empty());
    assert_eq!(throttle(&mut script, 500, 5), ["held"]);
    assert!(throttle(&mut script, 250, 20).is_empty());
    assert_eq!(throttle(&mut script, 249, 5), ["resumed"]);
    // Where the kernel does not count the time, its periods of 100 ms are counted.
    script.reading.counters.throttled_us = None;
    script.ticks(2);
    script.reading.counters.nr_throttled = Some(5);
    assert_eq!(script.codes(1), ["held"]);
}

#[test]
fn reclaim_is_bounded_and_what_falls_short_is_pressure() {
    let stuck = |fell_short| {
        let mut script = Script::memory(OnPressure::Hold);
        let mut notes = Vec::new();
        let mut most = 0;
        for _ in 0..40 {
            // It is in use again each time, as far as the limit allows.
            script.reading.memory_current_bytes = Some(script.high());
            let decision = script.tick();
            most = most.max(decision.reclaim_bytes.unwrap_or(0));
            script.reading.reclaim_fell_short = decision.reclaim_bytes.and(fell_short);
            notes.extend(decision.notes);
        }
        (notes, most)
    };
    assert!(stuck(Some(false)).0.is_empty());
    assert!(stuck(None).0.is_empty(), "what was freed may have been filled again");
    // The steps of this plan are so small that none needs reclaim; a shorter one's do.
    let mut script = Script::new(OnPressure::Hold, &[(MemoryHigh, 100 * MIB)]);
    script.now.unix_ms += 200_000;
    script.shaping = Shaping::begin(&script.plan, &BTreeMap::new(), &script.reading, &script.rules, script.now);
    script.reading.memory_current_bytes = Some(4 * GIB);
    let (mut most, mut notes) = (0, Vec::new());
    let begin = script.high();
    for _ in 0..20 {
        let decision = script.tick();
        script.reading.memory_current_bytes = Some(4 * GIB);
        script.reading.reclaim_fell_short = decision.reclaim_bytes.map(|_| true);
        most = most.max(decision.reclaim_bytes.unwrap_or(0));
        notes.extend(decision.notes);
    }
    assert_eq!(most, 64 * MIB);
    assert_eq!(notes, [Note::Held { control: MemoryHigh, by: Cause::ReclaimStalled }]);
    assert_eq!(script.high(), begin, "nothing is set under what is in use");
}

#[test]
fn after_reclaim_fell_short_nothing_is_set_under_what_is_in_use() {
    let rules = rules().check().unwrap();
    let reading = Reading { memory_current_bytes: Some(1_000 * MIB), ..Reading::default() };
    let within = |to: u64, is_stalled| super::super::step::within_headroom(&reading, to * MIB, is_stalled, &rules);
    assert_eq!(within(980, false), (980 * MIB, None));
    assert_eq!(within(979, false), (980 * MIB, Some(21 * MIB)));
    assert_eq!(within(979, true), (1_000 * MIB, Some(21 * MIB)));
    assert_eq!(within(100, false), (980 * MIB, Some(64 * MIB)));
}

#[test]
fn what_was_in_time_and_goes_back_later_is_not_late() {
    let mut script = Script::new(OnPressure::Hold, &[(CpuWeight, 50)]);
    assert_eq!(script.codes(305), ["reached"]);
    script.reading.cpu_pressure_permille = Some(960);
    assert_eq!(script.codes(3), ["rolled-back", "held"]);
    assert!(script.codes(300).iter().all(|code| *code != "late"));
}

#[test]
fn a_clock_that_went_back_and_came_again_leaves_release_immediate() {
    let mut script = Script::new(OnPressure::Hold, &[(CpuWeight, 50)]);
    script.ticks(200);
    script.now.unix_ms -= 100_000;
    script.ticks(150);
    let plan = plan_over(300_000, &[(CpuWeight, 400)]);
    script.plan = check(plan).unwrap();
    script.shaping.replan(&script.plan, &script.reading, &script.rules, script.now);
    script.now.unix_ms += 40_000;
    script.now.boottime_ms += 40_000;
    let decision = script.tick();
    let Some(Write { value: Value::Value(value), .. }) = decision.write else { panic!("{decision:?}") };
    assert!(value > 150, "straight to its line: {value}");
}
