//! Rules, forms, and what needs no kernel.

use super::*;

#[test]
fn rules_that_do_not_hold_together_are_told_all_at_once() {
    let wrong = Rules {
        tick_ms: 10,
        dwell_ms: 700_000,
        dead_band_permille: 100,
        step_permille: 0,
        memory: Guard { resume_permille: 50, hold_permille: 50, rollback_permille: 40 },
        throttled_permille: 0,
        decay_ms: 1,
        reclaim_bytes_max: 1,
        memory_headroom_permille: 0,
        retry_ms: 5,
        contested_ms_max: 1,
        floors: [(ShapedControl::MemoryHigh, 2 * GIB)].into(),
        ceilings: [(ShapedControl::MemoryHigh, GIB)].into(),
        ..Rules::default()
    };
    let faults = wrong.check().unwrap_err();
    let expected = [
        RulesFault::Tick(10),
        RulesFault::Dwell(700_000),
        RulesFault::Steps,
        RulesFault::Guard("memory"),
        RulesFault::Throttled,
        RulesFault::Decay(1),
        RulesFault::Reclaim(1),
        RulesFault::Headroom(0),
        RulesFault::Wait("retry_ms"),
        RulesFault::Wait("contested_ms"),
        RulesFault::Bounds(ShapedControl::MemoryHigh),
    ];
    assert_eq!(faults, expected);
    assert_eq!(Rules::default().check(), Ok(CheckedRules::default()));
}

#[test]
fn what_a_journal_keeps_survives_its_form_and_junk_is_refused() {
    let mut run =
        Run::new(Kernel::new(Demand::default()), rules(), plan_over(60_000, &[(ShapedControl::CpuQuota, 500)]));
    run.follow_for(30_000);
    let bytes = minicbor::to_vec(run.shaping.kept()).unwrap();
    assert!(bytes.len() < 400, "{} bytes for one control", bytes.len());
    let back: Kept = minicbor::decode(&bytes).unwrap();
    assert_eq!(Shaping::resume(back), run.shaping);
    for end in 0..bytes.len() {
        assert!(minicbor::decode::<Kept>(&bytes[..end]).is_err());
    }
}

#[test]
fn the_state_tells_people_where_a_control_stands_and_why() {
    let demand = Demand { anon_bytes: 300 * MIB, cold_bytes: 100 * MIB, ..Demand::default() };
    let plan = plan_over(60_000, &[(ShapedControl::MemoryHigh, 200 * MIB)]);
    let mut run = Run::new(Kernel::new(demand), rules(), plan);
    run.follow_for(20_000);
    let moving = run.shaping.state().controls[0];
    assert_eq!((moving.standing.code(), moving.late_by_ms), ("moving", None));
    assert_eq!((moving.baseline, moving.target), (Value::Unlimited, Some(200 * MIB)));
    run.follow_for(60_000);
    let held = run.shaping.state().controls[0];
    assert_eq!(held.standing.code(), "held", "{held:?}");
    assert_eq!(held.late_by_ms, Some(19_000), "counted to the last tick");
    assert!(run.shaping.state().held_ms > 20_000);
}

#[test]
fn notes_have_codes_and_stand_for_one_control() {
    let control = ShapedControl::CpuWeight;
    let notes = [
        Note::Held { control, by: Cause::Oomd },
        Note::Resumed { control, held_ms: 1 },
        Note::RolledBack { control, from: Value::Value(1), to: Value::Unlimited, by: Cause::Oomd },
        Note::Late { control, by_ms: 1, at: Value::Value(1), target: 2, because: LateBecause::Clipped },
        Note::Reached { control, late_by_ms: 0 },
        Note::Contested { control, expected: Value::Value(1), found: Value::Value(2) },
        Note::Regained { control },
        Note::GivenUp { control, at: Value::Value(1), by: Cause::IoPressure },
        Note::Floored { control, asked: 1, floor: 2 },
        Note::Capped { control, asked: 2, ceiling: 1 },
        Note::Unsupported { control },
        Note::Decaying { control },
        Note::AtBaseline { control },
    ];
    let codes: std::collections::BTreeSet<&str> = notes.iter().map(Note::code).collect();
    assert_eq!(codes.len(), notes.len(), "each its own");
    assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    assert!(notes.iter().all(|note| note.control() == control));
}

#[test]
fn without_pressure_files_nothing_is_held_and_without_memory_in_use_a_line_starts_at_the_ceiling() {
    let rules = rules().check().unwrap();
    let plan = check(plan_over(60_000, &[(ShapedControl::MemoryHigh, GIB)])).unwrap();
    let reading = Reading { actual: [(ShapedControl::MemoryHigh, Actual::Unlimited)].into(), ..Reading::default() };
    let now = Now { unix_ms: START_UNIX_MS, boottime_ms: 1 };
    let mut shaping = Shaping::begin(&plan, &BTreeMap::new(), &reading, &rules, now);
    let decision = shaping.step(Phase::Plan(&plan), &reading, &rules, now);
    let write = Write { control: ShapedControl::MemoryHigh, value: Value::Value(64 * GIB) };
    assert_eq!(decision, Decision { write: Some(write), ..Decision::default() });
}

#[test]
fn a_plan_that_has_not_begun_moves_nothing() {
    let plan = Plan { starts_at_ms: START_UNIX_MS + 30_000, ..plan_over(60_000, &[(ShapedControl::CpuQuota, 500)]) };
    let mut run = Run::new(Kernel::new(Demand::default()), rules(), plan);
    run.follow_for(30_000);
    assert!(run.rows.iter().all(|row| row.decision == Decision::default()));
    run.follow_for(1_000);
    assert_eq!(run.writes(ShapedControl::CpuQuota), [(30_000, Value::Value(4_000))]);
}

#[test]
fn where_a_target_has_less_than_the_host_that_is_its_ceiling_and_unlimited_is_worth_it() {
    let rules = Rules {
        ceilings: BTreeMap::from([(ShapedControl::Storage, 100 << 30)]),
        floors: BTreeMap::from([(ShapedControl::Storage, 20 << 30)]),
        ..Rules::default()
    };
    let rules = rules.check().unwrap();
    let small = rules.below(&BTreeMap::from([(ShapedControl::Storage, 10 << 30)]));
    assert_eq!(rules.bounded(ShapedControl::Storage, 50 << 30), 50 << 30);
    assert_eq!(small.bounded(ShapedControl::Storage, 50 << 30), 10 << 30, "more would not show");
    assert_eq!(small.unlimited_worth(ShapedControl::Storage), 10 << 30);
    assert_eq!(small.floor(ShapedControl::Storage), 10 << 30, "no floor stands above it");
    let large = rules.below(&BTreeMap::from([(ShapedControl::Storage, 500 << 30)]));
    assert_eq!(large, rules);
    assert!((*small).clone().check().is_ok());
}
