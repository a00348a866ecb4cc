//! The way back to the baseline.

use super::ShapedControl::{CpuIdle, CpuWeight, MemoryHigh};
use super::*;

fn small_service() -> Demand {
    Demand {
        cpu_millicores: 1_000,
        anon_bytes: 100 * MIB,
        hot_bytes: 50 * MIB,
        cold_bytes: 250 * MIB,
        ..Demand::default()
    }
}

fn halved(kernel: Kernel) -> Run {
    let mut run = Run::new(kernel, rules(), plan_over(120_000, &[(MemoryHigh, 200 * MIB), (CpuWeight, 50)]));
    run.follow_for(130_000);
    assert_eq!(run.value(MemoryHigh), Value::Value(200 * MIB));
    run.rows.clear();
    run
}

#[test]
fn it_goes_back_in_a_line_and_ends_where_it_was_before() {
    let mut run = halved(Kernel::new(small_service()));
    run.decay_for(122_000);
    assert!(run.shaping.is_at_baseline());
    run.decay_for(2_000);
    assert_eq!(run.value(MemoryHigh), Value::Unlimited);
    assert_eq!(run.value(CpuWeight), Value::Value(100));
    for control in [MemoryHigh, CpuWeight] {
        assert_eq!(run.codes(control), ["decaying", "at-baseline"]);
        assert_eq!(run.turns(control), 0);
    }
    let weights = run.writes(CpuWeight);
    let (at_ms, half) = weights[weights.len() / 2];
    assert!((185_000..195_000).contains(&at_ms), "a line, and no cliff: {weights:?}");
    assert!(matches!(half, Value::Value(70..80)), "{half:?}");
    assert!(run.writes(MemoryHigh).len() > 40);
    run.rows.clear();
    run.decay_for(10_000);
    assert!(run.rows.iter().all(|row| row.decision == Decision::default()), "and nothing more");
}

#[test]
fn it_goes_back_to_what_an_administrator_had_set() {
    let mut kernel = Kernel::new(small_service());
    kernel.set(MemoryHigh, Value::Value(500 * MIB));
    kernel.set(CpuWeight, Value::Value(300));
    let mut run = halved(kernel);
    run.decay_for(122_000);
    assert_eq!(run.value(MemoryHigh), Value::Value(500 * MIB));
    assert_eq!(run.value(CpuWeight), Value::Value(300));
    assert!(run.shaping.is_at_baseline());
}

#[test]
fn a_baseline_tighter_than_the_plan_is_reached_too_and_memory_is_reclaimed_before() {
    let mut kernel = Kernel::new(Demand { cold_bytes: 400 * MIB, ..small_service() });
    kernel.set(MemoryHigh, Value::Value(250 * MIB));
    kernel.run(10_000);
    let mut run = Run::new(kernel, rules(), plan_over(60_000, &[(MemoryHigh, 500 * MIB)]));
    run.follow_for(300_000);
    assert_eq!(run.value(MemoryHigh), Value::Value(500 * MIB));
    assert!(run.kernel.memory_current() > 490 * MIB);
    run.rows.clear();
    run.decay_for(121_000);
    assert_eq!(run.value(MemoryHigh), Value::Value(250 * MIB));
    for row in &run.rows {
        if let Some(Write { value: Value::Value(value), .. }) = row.decision.write {
            let current = row.reading.memory_current_bytes.unwrap();
            assert!(value >= current / 1000 * 979, "{value} with {current} in use");
        }
    }
}

#[test]
fn a_verifier_that_is_back_halfway_finds_the_plan_caught_up_in_small_steps() {
    let mut run = halved(Kernel::new(small_service()));
    run.decay_for(60_000);
    let Value::Value(halfway) = run.value(CpuWeight) else { panic!() };
    assert!((70..80).contains(&halfway), "{halfway}");
    run.rows.clear();
    run.follow_for(120_000);
    assert_eq!(run.value(CpuWeight), Value::Value(50));
    assert_eq!(run.value(MemoryHigh), Value::Value(200 * MIB), "{}", run.story());
    let mut before = halfway;
    for (_, value) in run.writes(CpuWeight) {
        let Value::Value(value) = value else { panic!() };
        assert!(before - value <= (before / 10).max(1), "{before} to {value}");
        before = value;
    }
}

#[test]
fn idle_is_off_at_once() {
    let mut run = Run::new(Kernel::new(small_service()), rules(), plan_over(5_000, &[(CpuIdle, 1), (CpuWeight, 90)]));
    run.follow_for(20_000);
    assert_eq!(run.value(CpuIdle), Value::Value(1));
    run.rows.clear();
    run.decay_for(1_000);
    assert_eq!(run.value(CpuIdle), Value::Value(0));
}

#[test]
fn what_another_writer_has_is_left_to_it() {
    let mut kernel = Kernel::new(small_service());
    kernel.foreign = vec![(140_000, CpuWeight, Value::Value(77))];
    let mut run = halved(kernel);
    run.decay_for(130_000);
    assert_eq!(run.value(CpuWeight), Value::Value(77));
    assert_eq!(run.value(MemoryHigh), Value::Unlimited);
    assert!(run.shaping.is_at_baseline(), "what is not ours is not waited for");
}

#[test]
fn a_suspend_on_the_way_back_makes_no_cliff_where_it_tightens() {
    let mut kernel = Kernel::new(small_service());
    kernel.set(CpuWeight, Value::Value(50));
    let mut run = Run::new(kernel, rules(), plan_over(60_000, &[(CpuWeight, 200)]));
    run.follow_for(70_000).decay_for(20_000);
    run.kernel.suspended_ms += 3_600_000;
    run.rows.clear();
    run.decay_for(110_000);
    let mut before = 180;
    for (_, value) in run.writes(CpuWeight) {
        let Value::Value(value) = value else { panic!() };
        assert!(value <= before && (before - value) * 10 <= before, "{before} to {value}");
        before = value;
    }
    assert_eq!(run.value(CpuWeight), Value::Value(50));
}
