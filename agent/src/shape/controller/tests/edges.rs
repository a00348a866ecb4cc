//! What is decided at the edges: of a hold, of a plan, of reclaim.

use super::ShapedControl::{CpuIdle, CpuQuota, CpuWeight, MemoryHigh};
use super::pressures::Script;
use super::*;

#[test]
fn a_rollback_goes_to_the_last_good_value_where_that_is_further_than_a_step() {
    let rules = rules().check().unwrap();
    let track = Track {
        good: Value::Value(300 * MIB),
        baseline: Value::Unlimited,
        ..Track::new(MemoryHigh, Value::Unlimited, Value::Value(200 * MIB))
    };
    assert_eq!(super::super::step::rolled_back(&track, &rules), Some(Value::Value(300 * MIB)));
}

#[test]
fn what_the_kernel_says_of_reclaim_counts_more_than_what_is_in_use() {
    for (fell_short, stalled) in [(Some(true), 1), (Some(false), 0), (None, 0)] {
        let mut kept =
            Kept { reclaim: Reclaim { asked_bytes: MIB, current_bytes: GIB, stalled_ticks: 0 }, ..Kept::default() };
        let reading = Reading {
            actual: [(MemoryHigh, Actual::Value(GIB))].into(),
            memory_current_bytes: Some(GIB),
            reclaim_fell_short: fell_short,
            ..Reading::default()
        };
        super::super::step::account_reclaim(&mut kept, &reading);
        assert_eq!(kept.reclaim.stalled_ticks, stalled, "{fell_short:?}");
    }
}

#[test]
fn after_a_hold_the_first_step_is_the_least_and_the_next_are_greater() {
    let mut script = Script::new(OnPressure::Hold, &[(CpuQuota, 1_000)]);
    script.ticks(10);
    script.reading.cpu_pressure_permille = Some(900);
    script.ticks(120);
    script.reading.cpu_pressure_permille = Some(0);
    let quota = |script: &Script| match script.reading.actual(CpuQuota) {
        Actual::Value(quota) => quota,
        other => panic!("{other:?}"),
    };
    let mut quotas = vec![quota(&script)];
    for _ in 0..16 {
        script.tick();
        if *quotas.last().unwrap() != quota(&script) {
            quotas.push(quota(&script));
        }
    }
    let steps: Vec<u64> = quotas.windows(2).map(|pair| (pair[0] - pair[1]) * 1_000 / pair[0]).collect();
    assert!(steps[0] <= 10 && steps[1] <= 20 && steps[1] > steps[0], "{steps:?}");
    assert!(steps.iter().all(|step| *step <= 100) && steps.iter().any(|step| *step > 30), "{steps:?}");
}

#[test]
fn a_plan_that_proceeds_is_not_held_by_reclaim_that_falls_short() {
    let mut script = Script::new(OnPressure::Proceed, &[(MemoryHigh, 200 * MIB)]);
    let mut notes = Vec::new();
    for _ in 0..60 {
        let decision = script.tick();
        script.reading.reclaim_fell_short = decision.reclaim_bytes.map(|_| true);
        script.reading.memory_current_bytes = Some(script.high() + 4 * MIB);
        notes.extend(decision.notes);
    }
    assert!(notes.is_empty(), "{notes:?}");
    assert!(script.high() < 370 * MIB, "{}", script.high() / MIB);
}

#[test]
fn a_line_that_passes_its_target_and_comes_back_is_reached_at_its_end_alone() {
    let course = |setpoints: &[(u64, u64)]| {
        let setpoints = setpoints.iter().map(|&(at_ms, value)| Setpoint { at_ms: START_UNIX_MS + at_ms, value });
        Course { control: CpuWeight, setpoints: Bounded::new(setpoints.collect()).unwrap() }
    };
    let courses = vec![course(&[(50_000, 80), (60_000, 80), (100_000, 50), (150_000, 80)])];
    let mut script = Script::new(OnPressure::Hold, &[(CpuWeight, 80)]);
    script.plan = check(Plan { courses: Bounded::new(courses).unwrap(), ..plan_over(150_000, &[]) }).unwrap();
    script.shaping = Shaping::begin(&script.plan, &BTreeMap::new(), &script.reading, &script.rules, script.now);
    assert!(script.codes(100).is_empty(), "not when it passes");
    // From here on it loosens, and stops short of its end: another writer has it.
    assert!(script.codes(10).is_empty());
    script.reading.actual.insert(CpuWeight, Actual::Value(7));
    assert_eq!(script.codes(60), ["contested", "late"], "that it stood there once does not count");
}

#[test]
fn idle_goes_off_before_anything_else_moves() {
    let mut script = Script::new(OnPressure::Hold, &[(CpuIdle, 0), (MemoryHigh, 200 * MIB), (CpuWeight, 50)]);
    script.reading.actual.insert(CpuIdle, Actual::Value(1));
    script.plan = check(plan_over(1_000, &[(CpuIdle, 0), (MemoryHigh, 200 * MIB), (CpuWeight, 50)])).unwrap();
    script.now.unix_ms += 1_000;
    script.shaping = Shaping::begin(&script.plan, &BTreeMap::new(), &script.reading, &script.rules, script.now);
    script.now.unix_ms += 60_000;
    let decision = script.tick();
    assert_eq!(decision.write, Some(Write { control: CpuIdle, value: Value::Value(0) }));
}

#[test]
fn a_line_starts_at_the_target_where_that_is_above_what_is_in_use() {
    let mut script = Script::new(OnPressure::Hold, &[(MemoryHigh, 900 * MIB)]);
    script.reading.actual.insert(MemoryHigh, Actual::Unlimited);
    script.shaping = Shaping::begin(&script.plan, &BTreeMap::new(), &script.reading, &script.rules, script.now);
    let decision = script.tick();
    assert_eq!(decision.write, Some(Write { control: MemoryHigh, value: Value::Value(900 * MIB) }));
    assert!(script.codes(298).is_empty(), "and stays there");
    assert_eq!(script.high(), 900 * MIB);
}

#[test]
fn a_newer_plan_has_its_own_patience_and_pressure_from_before_a_decay_is_forgotten() {
    let mut script = Script::new(OnPressure::Hold, &[(CpuWeight, 50)]);
    script.ticks(30);
    script.reading.cpu_pressure_permille = Some(900);
    script.ticks(100);
    assert!(script.shaping.state().held_ms > 90_000);
    script.shaping.replan(&script.plan, &script.reading, &script.rules, script.now);
    assert_eq!(script.shaping.state().held_ms, 0);
    script.tick();
    let decay = script.shaping.step(Phase::Decay, &script.reading, &script.rules, script.now);
    assert_eq!(decay.notes.iter().map(Note::code).collect::<Vec<_>>(), ["decaying"]);
    assert_eq!(script.shaping.kept().cpu, None);
}
