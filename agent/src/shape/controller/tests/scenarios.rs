//! Services as they are, by name.

use super::ShapedControl::{CpuIdle, CpuQuota, CpuWeight, IoReadMax, MemoryHigh};
use super::*;

const TWO_MINUTES_MS: u64 = 120_000;

/// 400 MiB in use, of which so much is in constant use, half of that files.
fn service(working_set_bytes: u64) -> Demand {
    let hot_bytes = working_set_bytes / 2;
    Demand {
        cpu_millicores: 1_500,
        anon_bytes: working_set_bytes - hot_bytes,
        hot_bytes,
        cold_bytes: 400 * MIB - working_set_bytes,
        io_bytes_per_second: 10 * MIB,
    }
}

fn beside_a_busy_neighbour(demand: Demand) -> Kernel {
    let mut kernel = Kernel::new(demand);
    kernel.neighbour_millicores = 4_000;
    kernel
}

fn halving() -> Plan {
    plan_over(TWO_MINUTES_MS, &[(MemoryHigh, 200 * MIB), (CpuWeight, 50)])
}

fn worst_memory_pressure(run: &Run) -> u16 {
    run.rows.iter().filter_map(|row| row.reading.memory_pressure_permille).max().unwrap()
}

fn bytes(value: Value) -> u64 {
    match value {
        Value::Value(value) => value,
        Value::Unlimited => u64::MAX,
    }
}

#[test]
fn memory_and_cpu_of_a_service_that_fits_are_halved_in_time_and_nobody_waits() {
    let mut run = Run::new(beside_a_busy_neighbour(service(150 * MIB)), rules(), halving());
    run.follow_for(TWO_MINUTES_MS + 60_000);
    for (control, target) in [(MemoryHigh, 200 * MIB), (CpuWeight, 50)] {
        let last = *run.writes(control).last().unwrap();
        assert_eq!(last.1, Value::Value(target), "{}", run.story());
        assert!((TWO_MINUTES_MS - 3_000..=TWO_MINUTES_MS).contains(&last.0), "{control} at {}", last.0);
        assert_eq!(run.codes(control), ["reached"], "{control}");
        assert_eq!(run.turns(control), 0);
    }
    assert!(worst_memory_pressure(&run) < 20);
    let first = run.writes(MemoryHigh)[0];
    assert_eq!(first, (0, Value::Value(408 * MIB)), "the first write changes nothing yet");
}

#[test]
fn a_working_set_larger_than_the_target_holds_is_late_says_so_and_is_given_up_where_it_was_fine() {
    for tells_of_reclaim in [true, false] {
        for (anon, hot) in [(150, 150), (300, 0)] {
            let demand =
                Demand { anon_bytes: anon * MIB, hot_bytes: hot * MIB, cold_bytes: 100 * MIB, ..Demand::default() };
            let mut kernel = Kernel::new(demand);
            kernel.tells_of_reclaim = tells_of_reclaim;
            let mut run = Run::new(kernel, rules(), halving());
            run.follow_for(1_200_000);
            let codes = run.codes(MemoryHigh);
            assert_eq!(codes[0], "held", "{}", run.story());
            assert!(codes.contains(&"late") && *codes.last().unwrap() == "given-up", "{codes:?}");
            let late = run.notes().find(|(_, note)| note.code() == "late").unwrap();
            let Note::Late { because, target, .. } = late.1 else { panic!("{late:?}") };
            assert_eq!((because, target), (LateBecause::Held, 200 * MIB));
            assert!((TWO_MINUTES_MS + 1..=TWO_MINUTES_MS + 1_000).contains(&late.0), "{late:?}");
            let stays = bytes(run.value(MemoryHigh));
            assert!((290 * MIB..350 * MIB).contains(&stays), "{anon}+{hot}: {} MiB", stays / MIB);
            assert!(worst_memory_pressure(&run) < 350, "{}", worst_memory_pressure(&run));
            assert!(run.rows.last().unwrap().reading.memory_pressure_permille.unwrap() < 20, "it is fine there");
            assert!(run.kernel.killed.is_empty());
            assert!(run.turns(MemoryHigh) <= 12, "{}", run.turns(MemoryHigh));
            assert_eq!(run.codes(CpuWeight), ["reached"], "the other control does not wait for it");
            let held_ms = run.shaping.state().held_ms;
            assert!((600_000..=601_000).contains(&held_ms), "{held_ms}");
        }
    }
}

#[test]
fn a_spike_of_pressure_halfway_holds_and_releases_at_once_and_the_plan_is_caught_up_in_small_steps() {
    let mut kernel = Kernel::new(service(150 * MIB));
    kernel.demands.push((60_000, Demand { hot_bytes: 300 * MIB, ..service(150 * MIB) }));
    kernel.demands.push((75_000, service(150 * MIB)));
    let mut run = Run::new(kernel, rules(), halving());
    run.follow_for(300_000);
    let codes = run.codes(MemoryHigh);
    assert_eq!(codes[..2], ["held", "rolled-back"], "{}", run.story());
    assert_eq!(*codes.last().unwrap(), "reached", "{codes:?}");
    assert_eq!(run.value(MemoryHigh), Value::Value(200 * MIB));
    let (rolled_at_ms, rolled) = run.notes().find(|(_, note)| note.code() == "rolled-back").unwrap();
    let Note::RolledBack { from, to, by, .. } = rolled else { panic!("{rolled:?}") };
    assert!(bytes(to) > bytes(from) && by == Cause::MemoryPressure);
    let breach = run.rows.iter().find(|row| row.reading.memory_pressure_permille >= Some(150)).unwrap();
    assert_eq!(rolled_at_ms, Run::at_ms(breach), "in the very tick");
    assert!(run.turns(MemoryHigh) <= 4, "{}", run.turns(MemoryHigh));
}

#[test]
fn oomd_is_never_brought_near_to_killing_whatever_the_plan_says_of_pressure() {
    for on_pressure in [OnPressure::Hold, OnPressure::Proceed] {
        let mut kernel = Kernel::new(service(350 * MIB));
        kernel.oomd_limit_permille = Some(400);
        let mut run = Run::new(kernel, rules(), Plan { on_pressure, ..halving() });
        run.follow_for(900_000);
        assert!(run.kernel.killed.is_empty());
        assert!(worst_memory_pressure(&run) < 400, "{on_pressure:?}: {}", worst_memory_pressure(&run));
        assert!(run.codes(MemoryHigh).contains(&"held"), "{on_pressure:?}");
        let tightened_near = |row: &&Row| {
            let write = row.decision.write.filter(|write| write.control == MemoryHigh);
            let Actual::Value(before) = row.reading.actual(MemoryHigh) else { return false };
            let is_near = row.reading.memory_pressure_permille >= Some(100);
            is_near && write.is_some_and(|write| bytes(write.value) < before)
        };
        assert!(!run.rows.iter().any(|row| tightened_near(&row)), "a quarter of the limit stops it");
    }
}

#[test]
fn a_plan_that_proceeds_reaches_its_target_in_spite_of_pressure() {
    let mut run =
        Run::new(Kernel::new(service(300 * MIB)), rules(), Plan { on_pressure: OnPressure::Proceed, ..halving() });
    run.follow_for(TWO_MINUTES_MS + 5_000);
    assert_eq!(run.codes(MemoryHigh), ["reached"], "{}", run.story());
    assert!(worst_memory_pressure(&run) > 150, "there was pressure: {}", worst_memory_pressure(&run));
}

#[test]
fn an_out_of_memory_kill_rolls_back_even_a_plan_that_proceeds() {
    let mut kernel = Kernel::new(service(150 * MIB));
    kernel.memory_max = 450 * MIB;
    kernel.demands.push((60_000, Demand { anon_bytes: 600 * MIB, ..service(150 * MIB) }));
    let mut run = Run::new(kernel, rules(), Plan { on_pressure: OnPressure::Proceed, ..halving() });
    run.follow_for(90_000);
    assert_eq!(run.kernel.killed.len(), 1);
    let rolled = run.notes().find(|(_, note)| note.code() == "rolled-back").unwrap();
    let killed_at_ms = run.kernel.killed[0].0;
    assert!((killed_at_ms..=killed_at_ms + 1_000).contains(&rolled.0), "{rolled:?}, killed at {killed_at_ms}");
    assert!(matches!(rolled.1, Note::RolledBack { by: Cause::OutOfMemory, .. }));
}

#[test]
fn a_foreign_writer_is_not_fought_and_the_control_is_ours_again_when_it_gives_way() {
    let mut kernel = Kernel::new(service(150 * MIB));
    kernel.foreign = vec![
        (30_000, MemoryHigh, Value::Value(399 * MIB)),
        (100_000, MemoryHigh, Value::Value(350 * MIB)),
        (250_000, MemoryHigh, Value::Unlimited),
    ];
    let mut run = Run::new(kernel, rules(), halving());
    run.follow_for(600_000);
    assert_eq!(run.codes(MemoryHigh), ["contested", "late", "regained", "reached"], "{}", run.story());
    let at = |code| run.notes().find(|(_, note)| note.control() == MemoryHigh && note.code() == code).unwrap();
    assert_eq!(at("contested").0, 31_000);
    let Note::Late { because, .. } = at("late").1 else { panic!() };
    assert_eq!(because, LateBecause::Contested);
    // Looked at 60 s after it was seen, then 120 s, then 240 s after that.
    assert_eq!(at("regained").0, 451_000);
    let between = run.writes(MemoryHigh).iter().filter(|(at_ms, _)| (31_000..451_000).contains(at_ms)).count();
    assert_eq!(between, 0, "nothing is written meanwhile");
    let after = *run.writes(MemoryHigh).iter().find(|(at_ms, _)| *at_ms >= 451_000).unwrap();
    assert!(bytes(after.1) > 400 * MIB, "it begins again at what is in use: {after:?}");
    assert_eq!(run.codes(CpuWeight), ["reached"]);
}

#[test]
fn an_agent_that_starts_again_midway_goes_on_as_if_nothing_had_happened() {
    let mut through = Run::new(Kernel::new(service(150 * MIB)), rules(), halving());
    through.follow_for(TWO_MINUTES_MS + 5_000);
    let mut broken = Run::new(Kernel::new(service(150 * MIB)), rules(), halving());
    broken.follow_for(60_000);
    let bytes = minicbor::to_vec(broken.shaping.kept()).unwrap();
    broken.shaping = Shaping::resume(minicbor::decode(&bytes).unwrap());
    broken.follow_for(TWO_MINUTES_MS - 55_000);
    let decisions = |run: &Run| run.rows.iter().map(|row| row.decision.clone()).collect::<Vec<_>>();
    assert_eq!(decisions(&broken), decisions(&through));
}

#[test]
fn an_agent_that_was_away_for_a_while_catches_up_in_small_steps() {
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), halving());
    run.follow_for(40_000);
    run.kernel.run(50_000);
    run.follow_for(60_000);
    let values: Vec<u64> = run.writes(MemoryHigh).iter().map(|(_, value)| bytes(*value)).collect();
    let is_small = |pair: &[u64]| (pair[0] - pair[1]) * 1000 <= pair[0] * 100;
    assert!(values.windows(2).all(is_small), "{values:?}");
    assert_eq!(run.codes(MemoryHigh), ["reached"], "{}", run.story());
}

#[test]
fn a_plan_of_no_length_goes_down_in_the_greatest_steps_and_says_how_late_it_is() {
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), plan_over(0, &[(MemoryHigh, 200 * MIB)]));
    run.follow_for(90_000);
    assert_eq!(run.codes(MemoryHigh), ["late", "reached"], "{}", run.story());
    let (_, reached) = run.notes().last().unwrap();
    let Note::Reached { late_by_ms, .. } = reached else { panic!("{reached:?}") };
    // 408 to 200 MiB in steps of at most 10 %, one each 2 s, as fast as memory comes free.
    assert!((14_000..=40_000).contains(&late_by_ms), "{late_by_ms}");
    assert_eq!(run.shaping.state().controls[0].late_by_ms, Some(late_by_ms));
    assert!(worst_memory_pressure(&run) < 50);
}

#[test]
fn a_plan_that_came_late_has_no_cliff_at_its_start() {
    let mut kernel = Kernel::new(service(150 * MIB));
    kernel.run(60_000);
    let mut run = Run::new(kernel, rules(), halving());
    run.follow_for(65_000);
    let values: Vec<u64> = run.writes(MemoryHigh).iter().map(|(_, value)| bytes(*value)).collect();
    let is_small = |pair: &[u64]| (pair[0] - pair[1]) * 1000 <= pair[0] * 100;
    assert!(values.windows(2).all(is_small), "{values:?}");
    assert_eq!(run.codes(MemoryHigh), ["reached"], "{}", run.story());
}

#[test]
fn idle_is_turned_on_only_at_its_setpoint_and_off_at_once() {
    let plan = plan_over(30_500, &[(CpuIdle, 1), (CpuWeight, 50)]);
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), plan);
    run.follow_for(40_000);
    assert_eq!(run.writes(CpuIdle), [(31_000, Value::Value(1))]);
    assert_eq!(run.codes(CpuIdle), ["reached"]);
    let plan = check(Plan { generation: 2, ..plan_over(40_000, &[(CpuIdle, 0)]) }).unwrap();
    run.shaping.replan(&plan, &run.kernel.reading(), &run.rules, run.kernel.now());
    run.plan = plan;
    run.tick(true);
    assert_eq!(run.rows.last().unwrap().decision.write, Some(Write { control: CpuIdle, value: Value::Value(0) }));
}

#[test]
fn a_quota_that_throttles_more_than_the_rules_allow_waits() {
    let plan = plan_over(240_000, &[(CpuQuota, 500)]);
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), Plan { hold_ms_max: 60_000, ..plan });
    run.follow_for(400_000);
    let codes = run.codes(CpuQuota);
    assert_eq!((codes[0], *codes.last().unwrap()), ("held", "given-up"), "{}", run.story());
    let held = run.notes().next().unwrap();
    assert_eq!(held.1, Note::Held { control: CpuQuota, by: Cause::Throttled });
    let Value::Value(quota) = run.value(CpuQuota) else { panic!() };
    assert!((1_000..1_600).contains(&quota), "{quota}");
}

#[test]
fn cpu_pressure_that_was_there_before_the_plan_is_not_held_against_it() {
    let busy = Demand { cpu_millicores: 4_000, ..service(150 * MIB) };
    let before = beside_a_busy_neighbour(busy).with_cpu_pressure(900);
    let mut run = Run::new(before, rules(), plan_over(60_000, &[(CpuWeight, 50)]));
    run.follow_for(65_000);
    assert_eq!(run.codes(CpuWeight), ["reached"], "{}", run.story());
    let mut run = Run::new(beside_a_busy_neighbour(busy), rules(), plan_over(300_000, &[(CpuWeight, 10)]));
    run.follow_for(400_000);
    assert_eq!(run.codes(CpuWeight)[0], "held", "{}", run.story());
}

#[test]
fn io_that_waits_for_a_limit_holds_it() {
    let busy = Demand { io_bytes_per_second: 100 * MIB, ..service(150 * MIB) };
    let mut run = Run::new(Kernel::new(busy), rules(), plan_over(900_000, &[(IoReadMax, 20 * MIB)]));
    run.follow_for(1_000_000);
    assert_eq!(run.codes(IoReadMax)[..2], ["held", "late"], "{}", run.story());
}

#[test]
fn a_control_that_is_not_there_is_left_out_and_told_once() {
    let mut kernel = Kernel::new(service(150 * MIB));
    kernel.absent.insert(CpuWeight);
    let mut run = Run::new(kernel, rules(), halving());
    run.follow_for(TWO_MINUTES_MS + 5_000);
    assert_eq!(run.codes(CpuWeight), ["unsupported"]);
    assert_eq!(run.codes(MemoryHigh), ["reached"]);
    assert!(run.writes(CpuWeight).is_empty());
}

#[test]
fn a_local_floor_is_not_crossed_and_a_ceiling_neither() {
    let mut rules = rules();
    rules.floors.insert(MemoryHigh, 300 * MIB);
    let plan = plan_over(60_000, &[(MemoryHigh, 200 * MIB), (CpuQuota, 9_000)]);
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules, plan);
    run.follow_for(70_000);
    assert_eq!(run.codes(MemoryHigh), ["floored", "reached"]);
    assert_eq!(run.codes(CpuQuota), ["capped", "reached"]);
    assert_eq!(run.value(MemoryHigh), Value::Value(300 * MIB));
    assert_eq!(run.value(CpuQuota), Value::Value(4_000 - 4_000 % 31));
}

#[test]
fn a_newer_plan_starts_at_what_is_and_what_it_does_not_move_goes_back() {
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), halving());
    run.follow_for(60_000);
    let midway = bytes(run.value(MemoryHigh));
    let plan =
        Plan { generation: 2, starts_at_ms: START_UNIX_MS + 60_000, ..plan_over(120_000, &[(MemoryHigh, 350 * MIB)]) };
    run.plan = check(plan).unwrap();
    run.shaping.replan(&run.plan, &run.kernel.reading(), &run.rules, run.kernel.now());
    run.follow_for(65_000);
    let after: Vec<_> = run.writes(MemoryHigh).into_iter().filter(|(at_ms, _)| *at_ms >= 60_000).collect();
    assert!(bytes(after[0].1).abs_diff(midway) < 3 * MIB, "{midway}: {after:?}");
    assert_eq!(run.value(MemoryHigh), Value::Value(350 * MIB));
    let weights = run.writes(CpuWeight);
    assert_eq!(weights.last().unwrap().1, Value::Value(100));
    assert!(weights.last().unwrap().0 <= 62_000, "at once: {weights:?}");
    assert_eq!(run.codes(CpuWeight), ["at-baseline"]);
    assert_eq!(run.codes(MemoryHigh), ["reached"]);
}

#[test]
fn a_write_that_was_refused_is_tried_again_after_a_wait() {
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), plan_over(300_000, &[(MemoryHigh, 200 * MIB)]));
    let mut tries = Vec::new();
    for _ in 0..200 {
        let (now, reading) = (run.kernel.now(), run.kernel.reading());
        let decision = run.shaping.step(Phase::Plan(&run.plan), &reading, &run.rules, now);
        assert!(decision.notes.is_empty(), "{:?}", decision.notes);
        if decision.write.is_some() {
            tries.push(now.boottime_ms - 5_000_000);
            run.shaping.not_written(MemoryHigh, &run.rules, now);
        }
        run.kernel.run(1_000);
    }
    assert_eq!(tries, [0, 30_000, 90_000]);
    run.follow_for(200_000);
    assert_eq!(run.codes(MemoryHigh), ["reached"], "{}", run.story());
}

#[test]
fn a_manager_that_shows_a_write_late_and_rounded_is_no_foreign_writer() {
    let mut kernel = Kernel::new(service(150 * MIB));
    kernel.lag_ms = 1_500;
    let plan = plan_over(TWO_MINUTES_MS, &[(MemoryHigh, 200 * MIB), (CpuQuota, 2_000), (CpuWeight, 50)]);
    let mut run = Run::new(kernel, rules(), plan);
    run.follow_for(TWO_MINUTES_MS + 10_000);
    for control in [MemoryHigh, CpuQuota, CpuWeight] {
        assert_eq!(run.codes(control), ["reached"], "{}", run.story());
    }
}

#[test]
fn a_manager_that_takes_long_over_a_write_is_waited_for() {
    let plan = plan_over(TWO_MINUTES_MS, &[(MemoryHigh, 200 * MIB)]);
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), plan);
    let mut is_first = true;
    for _ in 0..130 {
        let (now, reading) = (run.kernel.now(), run.kernel.reading());
        let decision = run.shaping.step(Phase::Plan(&run.plan), &reading, &run.rules, now);
        assert!(!decision.notes.iter().any(|note| matches!(note, Note::Contested { .. })), "{:?}", decision.notes);
        if let Some(write) = decision.write {
            // The call alone takes longer than any write needs to show, and then it does not show for another eight ticks.
            if std::mem::take(&mut is_first) {
                run.kernel.run(15_000);
                run.kernel.lag_ms = 8_000;
            }
            run.kernel.write(write);
            run.kernel.lag_ms = 0;
        }
        run.kernel.run(1_000);
    }
    assert_eq!(run.value(MemoryHigh), Value::Value(200 * MIB), "{}", run.story());
}

#[test]
fn a_write_without_an_answer_that_was_made_all_the_same_is_ours() {
    let plan = plan_over(TWO_MINUTES_MS, &[(MemoryHigh, 200 * MIB)]);
    let mut run = Run::new(Kernel::new(service(150 * MIB)), rules(), plan);
    let mut writes = 0;
    for _ in 0..170 {
        let (now, reading) = (run.kernel.now(), run.kernel.reading());
        let decision = run.shaping.step(Phase::Plan(&run.plan), &reading, &run.rules, now);
        assert!(!decision.notes.iter().any(|note| matches!(note, Note::Contested { .. })), "{:?}", decision.notes);
        if let Some(write) = decision.write {
            writes += 1;
            run.kernel.write(write);
            if writes == 3 {
                run.shaping.not_written(MemoryHigh, &run.rules, now);
            }
        }
        run.kernel.run(1_000);
    }
    assert!(writes > 3);
    assert_eq!(run.value(MemoryHigh), Value::Value(200 * MIB), "{}", run.story());
}

#[test]
fn egress_begins_a_little_above_what_is_sent_and_nothing_but_its_floor_holds_it() {
    let floors = [(ShapedControl::NetworkEgress, 8_000_000)].into();
    let rules = Rules { floors, ..rules() }.check().unwrap();
    let plan = check(plan_over(20_000, &[(ShapedControl::NetworkEgress, 1_000_000)])).unwrap();
    let mut now = Now { unix_ms: START_UNIX_MS, boottime_ms: 5_000_000 };
    let mut shows = Actual::Unlimited;
    // It would send 100 Mbit/s, and its host is under every pressure there is.
    let reading = |shows: Actual| Reading {
        actual: [(ShapedControl::NetworkEgress, shows)].into(),
        egress_bits_per_second: Some(match shows {
            Actual::Value(bits) => bits.min(100_000_000),
            _ => 100_000_000,
        }),
        memory_pressure_permille: Some(900),
        cpu_pressure_permille: Some(900),
        io_pressure_permille: Some(900),
        ..Reading::default()
    };
    let mut shaping = Shaping::begin(&plan, &BTreeMap::new(), &reading(shows), &rules, now);
    let mut writes = Vec::new();
    for _ in 0..40 {
        let decision = shaping.step(Phase::Plan(&plan), &reading(shows), &rules, now);
        if let Some(Write { value: Value::Value(bits), .. }) = decision.write {
            writes.push((now.unix_ms - START_UNIX_MS, bits));
            shows = Actual::Value(bits);
        }
        assert!(!decision.notes.iter().any(|note| matches!(note, Note::Held { .. } | Note::RolledBack { .. })));
        now = Now { unix_ms: now.unix_ms + 1_000, boottime_ms: now.boottime_ms + 1_000 };
    }
    assert_eq!(writes[0], (0, 110_000_000), "the first limit changes nothing yet: {writes:?}");
    assert_eq!(writes.last().unwrap().1, 8_000_000, "its floor, not what was asked: {writes:?}");
    assert!(writes.last().unwrap().0 <= 30_000, "{writes:?}");
    assert!(writes.windows(2).all(|pair| pair[1].1 >= pair[0].1 / 10 * 7 - 1), "{writes:?}");
}

#[test]
fn down_to_what_is_sent_egress_follows_its_line_in_steps_of_any_size() {
    let rules = rules().check().unwrap();
    let plan = check(plan_over(4_000, &[(ShapedControl::NetworkEgress, 8_000_000)])).unwrap();
    let mut now = Now { unix_ms: START_UNIX_MS, boottime_ms: 5_000_000 };
    // All of the host send 300 Mbit/s; this one 20, as its class shows once there is one.
    let reading = |shows: Actual| Reading {
        actual: [(ShapedControl::NetworkEgress, shows)].into(),
        egress_bits_per_second: Some(if shows == Actual::Unlimited { 300_000_000 } else { 20_000_000 }),
        ..Reading::default()
    };
    let mut shows = Actual::Unlimited;
    let mut shaping = Shaping::begin(&plan, &BTreeMap::new(), &reading(shows), &rules, now);
    let mut writes = Vec::new();
    for _ in 0..4 {
        if let Some(Write { value: Value::Value(bits), .. }) =
            shaping.step(Phase::Plan(&plan), &reading(shows), &rules, now).write
        {
            writes.push(bits);
            shows = Actual::Value(bits);
        }
        now = Now { unix_ms: now.unix_ms + 1_000, boottime_ms: now.boottime_ms + 1_000 };
    }
    assert_eq!(writes, [330_000_000, 169_000_000], "half of it in one step, and no further than the line");
}

#[test]
fn storage_begins_a_little_above_what_is_used() {
    let rules = Rules { ceilings: [(ShapedControl::Storage, 100 * GIB)].into(), ..rules() }.check().unwrap();
    let now = Now { unix_ms: START_UNIX_MS, boottime_ms: 5_000_000 };
    let reading = |used_bytes: Option<u64>| Reading {
        actual: [(ShapedControl::Storage, Actual::Unlimited)].into(),
        storage_used_bytes: used_bytes,
        ..Reading::default()
    };
    let first = |used_bytes: Option<u64>, target: u64| {
        let plan = check(plan_over(20_000, &[(ShapedControl::Storage, target)])).unwrap();
        let mut shaping = Shaping::begin(&plan, &BTreeMap::new(), &reading(used_bytes), &rules, now);
        shaping.step(Phase::Plan(&plan), &reading(used_bytes), &rules, now).write.unwrap().value
    };
    assert_eq!(first(Some(10 * GIB), GIB), Value::Value(10 * GIB + 10 * GIB * 20 / 1_000));
    assert_eq!(first(Some(GIB), 2 * GIB), Value::Value(2 * GIB), "room to grow is given at once");
    assert_eq!(first(None, GIB), Value::Value(100 * GIB));
}
