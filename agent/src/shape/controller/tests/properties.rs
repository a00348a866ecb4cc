//! Random workloads, plans, rules, faults: what every run must hold.

use proptest::prelude::*;

use super::ShapedControl::{CpuIdle, CpuQuota, CpuWeight, IoReadMax, MemoryHigh, MemoryLow, NetworkEgress};
use super::*;

const CONTROLS: [ShapedControl; 7] = [MemoryHigh, CpuWeight, CpuQuota, CpuIdle, IoReadMax, MemoryLow, NetworkEgress];

fn demand() -> impl Strategy<Value = Demand> {
    (0..4_000_u64, 1..400_u64, 0..300_u64, 0..300_u64, 0..200_u64).prop_map(|(cpu_millicores, anon, hot, cold, io)| {
        Demand {
            cpu_millicores,
            anon_bytes: anon * MIB,
            hot_bytes: hot * MIB,
            cold_bytes: cold * MIB,
            io_bytes_per_second: io * MIB,
        }
    })
}

/// A workload that changes up to three times, its host, and what else happens to it.
fn kernel() -> impl Strategy<Value = Kernel> {
    let changes = prop::collection::vec((0..300_u64, demand()), 0..3);
    let host = (0..4_000_u64, 400..2_000_u64, prop::option::of(100..600_u16), 0..30_u64, any::<bool>(), 0..2_u64);
    let before = prop::collection::vec((0..CONTROLS.len(), value()), 0..3);
    (demand(), changes, host, before).prop_map(|(demand, mut changes, host, before)| {
        let mut kernel = Kernel::new(demand);
        changes.sort_by_key(|(at_s, _)| *at_s);
        kernel.demands.extend(changes.into_iter().map(|(at_s, demand)| (at_s * 1_000 + 1_000, demand)));
        kernel.neighbour_millicores = host.0;
        kernel.memory_max = host.1 * MIB;
        kernel.oomd_limit_permille = host.2;
        kernel.cached_bytes_per_second = host.3 * MIB;
        kernel.tells_of_reclaim = host.4;
        kernel.lag_ms = host.5 * 900;
        for (index, part) in before {
            kernel.set(CONTROLS[index], Value::Value(scaled(CONTROLS[index], part)));
        }
        kernel
    })
}

/// A value as a part of what a control may have here, thousandths.
fn value() -> impl Strategy<Value = u64> {
    0..=1_000_u64
}

fn scaled(control: ShapedControl, part: u64) -> u64 {
    let (least, most) = match control {
        CpuWeight => (1, 400),
        CpuIdle => (0, 1),
        CpuQuota => (100, 4_000),
        IoReadMax => (MIB, 300 * MIB),
        NetworkEgress => (1_000_000, 1_000_000_000),
        _ => (50 * MIB, 900 * MIB),
    };
    least + (most - least) * part / 1_000
}

/// A plan of up to four controls, each with up to three setpoints, over up to five minutes.
fn plan() -> impl Strategy<Value = Plan> {
    let course = (0..CONTROLS.len(), prop::collection::vec((0..1_000_u64, value()), 0..2), value());
    let courses = prop::collection::vec(course, 1..4);
    let pressure = prop::bool::ANY.prop_map(|proceed| if proceed { OnPressure::Proceed } else { OnPressure::Hold });
    (0..300_000_u64, courses, pressure, 0..300_000_u64).prop_map(|(over_ms, courses, on_pressure, hold_ms_max)| {
        let mut plan = plan_over(over_ms, &[]);
        let mut made: Vec<Course> = Vec::new();
        for (index, between, last) in courses {
            let control = CONTROLS[index];
            if made.iter().any(|course| course.control == control) {
                continue;
            }
            let mut setpoints: Vec<Setpoint> = between
                .into_iter()
                .map(|(at, part)| Setpoint {
                    at_ms: START_UNIX_MS + over_ms * at / 1_000,
                    value: scaled(control, part),
                })
                .collect();
            setpoints.push(Setpoint { at_ms: plan.effective_at_ms, value: scaled(control, last) });
            setpoints.sort_by_key(|setpoint| setpoint.at_ms);
            setpoints.reverse();
            setpoints.dedup_by_key(|setpoint| setpoint.at_ms);
            setpoints.reverse();
            made.push(Course { control, setpoints: Bounded::new(setpoints).unwrap() });
        }
        plan.courses = Bounded::new(made).unwrap();
        Plan { on_pressure, hold_ms_max, ..plan }
    })
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let ticks = prop::sample::select(vec![500_u64, 1_000, 2_000]);
    let steps = (1..30_u16, 30..200_u16, 0..1_000_u16);
    let floor = prop::option::of(60..300_u64);
    (ticks, 0..5_000_u64, steps, 5..60_u16, floor, 2_000..60_000_u64).prop_map(
        |(tick_ms, dwell_ms, (step_permille, step_permille_max, dead_band_permille), headroom, floor, retry_ms)| {
            let dead_band_permille = dead_band_permille % step_permille.min(headroom);
            let floors = floor.into_iter().map(|mib| (MemoryHigh, mib * MIB)).collect();
            Rules {
                tick_ms,
                dwell_ms,
                step_permille,
                step_permille_max,
                dead_band_permille,
                memory_headroom_permille: headroom,
                floors,
                retry_ms,
                decay_ms: 60_000,
                ..rules()
            }
        },
    )
}

fn number(value: Value) -> u64 {
    match value {
        Value::Value(value) => value,
        Value::Unlimited => u64::MAX,
    }
}

/// The greatest step from what is shown, which kernel and manager have rounded.
fn step(control: ShapedControl, shown: u64, rules: &Rules) -> u64 {
    ((shown + shown / 100) * u64::from(rules.greatest_step_permille(control)) / 1_000).max(1)
}

/// What every tick of every plan must hold.
fn assert_ticks_hold(run: &Run) {
    let rules = &run.rules;
    let hold = run.plan.plan().on_pressure == OnPressure::Hold;
    let mut tightened: BTreeMap<ShapedControl, u64> = BTreeMap::new();
    let mut stands: BTreeMap<ShapedControl, Value> = BTreeMap::new();
    for (index, row) in run.rows.iter().enumerate() {
        let Some(Write { control, value }) = row.decision.write else { continue };
        let at = || format!("{control} to {value:?} at {} ms\n{}", Run::at_ms(row), run.story());
        let track = run.shaping.kept().tracks.iter().find(|track| track.control == control).unwrap();
        let to = number(value);
        let is_home = value == track.baseline;
        assert!(is_home || (rules.floor(control)..=rules.ceiling(control)).contains(&to), "bounds: {}", at());
        let Some(shown) = Value::shown_by(row.reading.actual(control)) else { panic!("absent: {}", at()) };
        // What was written last, where what is shown is that, late or rounded.
        let is_close = |was: &Value| number(*was).abs_diff(number(shown)) <= number(*was) / 100 + 65_536;
        let before = stands.insert(control, value).filter(is_close).unwrap_or(shown);
        if !control.is_gradual() || number(before) <= to {
            continue;
        }
        let reading = &row.reading;
        let (pressure, current) = (reading.memory_pressure_permille.unwrap(), reading.memory_current_bytes.unwrap());
        let is_first = number(before) > rules.ceiling(control);
        let is_above_use = control == MemoryHigh && to >= current;
        let is_small = || number(before) - to <= step(control, number(before), rules) + number(before) / 100;
        assert!(is_first || is_above_use || is_small(), "step: {}", at());
        let is_memory = matches!(control, MemoryHigh | MemoryLow);
        assert!(!(hold && is_memory && pressure >= rules.memory.hold_permille), "guard: {}", at());
        assert!(reading.oomd_limit_permille.is_none_or(|limit| pressure * 4 < limit), "oomd: {}", at());
        let killed_before = index.checked_sub(1).map(|index| run.rows[index].reading.counters.oom_kill);
        assert!(!is_memory || killed_before.is_none_or(|before| before == reading.counters.oom_kill), "oom: {}", at());
        if control == MemoryHigh {
            let least = current - current * u64::from(rules.memory_headroom_permille) / 1_000;
            assert!(to + 1 >= least, "headroom: {}", at());
        }
        let last = tightened.insert(control, row.now.boottime_ms);
        let is_final = Some(to) == track.target && row.now.unix_ms <= run.plan.plan().effective_at_ms;
        let rested_ms = last.map_or(u64::MAX, |last| row.now.boottime_ms - last);
        assert!(is_final || rested_ms >= rules.dwell_ms, "dwell: {}", at());
    }
}

/// Each change is told once: nobody is held who is, nor goes on who was not.
fn assert_notes_alternate(run: &Run) {
    let mut held: BTreeMap<ShapedControl, bool> = BTreeMap::new();
    let mut late: BTreeMap<ShapedControl, usize> = BTreeMap::new();
    for (at_ms, note) in run.notes() {
        let is_held = held.entry(note.control()).or_default();
        match note {
            Note::Held { .. } => assert!(!std::mem::replace(is_held, true), "{note:?} at {at_ms}\n{}", run.story()),
            Note::Resumed { .. } => assert!(std::mem::replace(is_held, false), "{note:?} at {at_ms}"),
            Note::GivenUp { .. } => assert!(std::mem::replace(is_held, false), "{note:?} at {at_ms}"),
            Note::Contested { .. } => *is_held = false,
            Note::Late { control, .. } => *late.entry(control).or_default() += 1,
            _ => {}
        }
    }
    assert!(late.values().all(|count| *count == 1), "{late:?}");
}

/// At the effective time each control stands at its target, or a note of that tick or before says why it does not.
fn assert_in_time_or_told(run: &Run) {
    let effective_ms = run.plan.plan().effective_at_ms;
    let turns = u64::try_from(run.plan.controls().count()).unwrap() + 1;
    for control in run.plan.controls() {
        let grace_ms = if control.is_gradual() { 0 } else { turns * run.rules.tick_ms };
        let Some(index) = run.rows.iter().position(|row| row.now.unix_ms > effective_ms + grace_ms) else { continue };
        let target = run.rules.bounded(control, run.plan.target_value(control).unwrap());
        let told = run.rows[..=index].iter().flat_map(|row| &row.decision.notes).find(|note| {
            note.control() == control
                && matches!(note, Note::Late { .. } | Note::RolledBack { .. } | Note::Contested { .. })
        });
        let last = run.rows[..index].iter().rev().find_map(|row| row.decision.write.filter(|w| w.control == control));
        let stands = last.map_or_else(|| Value::shown_by(run.rows[index].reading.actual(control)), |w| Some(w.value));
        assert!(told.is_some() || stands == Some(Value::Value(target)), "{control} at {stands:?}\n{}", run.story());
    }
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, max_global_rejects: count * 2, ..ProptestConfig::with_cases(count) }
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn no_tick_of_any_plan_breaks_a_rule_and_who_is_late_says_so(
        kernel in kernel(), rules in any_rules(), plan in plan(),
        foreign in prop::collection::vec((0..400_u64, 0..CONTROLS.len(), value()), 0..2),
    ) {
        let mut kernel = kernel;
        kernel.foreign = foreign
            .into_iter()
            .map(|(at_s, index, part)| (at_s * 1_000, CONTROLS[index], Value::Value(scaled(CONTROLS[index], part))))
            .collect();
        let mut run = Run::new(kernel, rules, plan);
        run.follow_for(600_000);
        assert_ticks_hold(&run);
        assert_notes_alternate(&run);
        assert_in_time_or_told(&run);
        let gap_ms = run.rules.tick_ms * GAP_TICKS;
        assert!(run.shaping.state().held_ms <= run.plan.plan().hold_ms_max + gap_ms);
    }

    #[test]
    fn under_constant_load_it_comes_to_rest(kernel in kernel(), rules in any_rules(), plan in plan()) {
        let mut kernel = kernel;
        kernel.demands.truncate(1);
        let mut run = Run::new(kernel, rules, plan);
        run.follow_for(2_400_000);
        // Each try after a rollback waits twice as long, and all of it counts as held: so many tries there are.
        let tries = (run.plan.plan().hold_ms_max / run.rules.retry_ms + 1).ilog2() as usize + 1;
        for control in run.plan.controls() {
            let (turns, bends) = (run.turns(control), 2 * 3);
            assert!(turns <= 2 * tries + bends, "{control} turned {turns} times\n{}", run.story());
        }
        let quiet_from_ms = 1_800_000;
        let late = run.rows.iter().find(|row| Run::at_ms(row) > quiet_from_ms && row.decision.write.is_some());
        assert!(late.is_none(), "{:?} at {}\n{}", late.unwrap().decision, Run::at_ms(late.unwrap()), run.story());
    }

    #[test]
    fn decay_always_ends_at_the_baseline(
        kernel in kernel(), rules in any_rules(), plan in plan(), after_s in 0..400_u64,
    ) {
        let mut run = Run::new(kernel, rules, plan);
        run.follow_for(after_s * 1_000);
        let before: Vec<_> = run.shaping.kept().tracks.iter().map(|track| (track.control, track.baseline)).collect();
        let controls = u64::try_from(before.len()).unwrap();
        // A manager that shows a write a tick late keeps each waiting for as long.
        let turns = controls * (1 + run.kernel.lag_ms.div_ceil(run.rules.tick_ms)) + 2;
        run.decay_for(run.rules.decay_ms + run.rules.tick_ms * turns);
        assert!(run.shaping.is_at_baseline(), "{}", run.story());
        for (control, baseline) in before {
            let is_weight = matches!(control, CpuWeight | CpuIdle | MemoryLow);
            let shown = Value::shown_by(run.kernel.reading().actual(control)).unwrap();
            let close = number(shown).abs_diff(number(baseline)) <= number(baseline) / 100 + 65_536;
            assert!(close || (is_weight && baseline == Value::Unlimited), "{control} {shown:?} {baseline:?}");
        }
    }

    #[test]
    fn what_is_kept_goes_on_with_the_same_decisions(
        kernel in kernel(), rules in any_rules(), plan in plan(), at in 0..400_usize, decay_at in 0..600_usize,
    ) {
        let mut run = Run::new(kernel, rules, plan);
        let mut twin: Option<Shaping> = None;
        for tick in 0..600 {
            if tick == at {
                let bytes = minicbor::to_vec(run.shaping.kept()).unwrap();
                twin = Some(Shaping::resume(minicbor::decode(&bytes).unwrap()));
            }
            let (now, reading) = (run.kernel.now(), run.kernel.reading());
            run.tick(tick < decay_at);
            if let Some(twin) = &mut twin {
                let phase = if tick < decay_at { Phase::Plan(&run.plan) } else { Phase::Decay };
                let decision = twin.step(phase, &reading, &run.rules, now);
                assert_eq!(&decision, &run.rows.last().unwrap().decision);
            }
            run.kernel.run(run.rules.tick_ms);
        }
        assert_eq!(twin.unwrap(), run.shaping);
    }

    #[test]
    fn a_clock_that_jumps_makes_no_great_step(
        rules in any_rules(), plan in plan(),
        jumps in prop::collection::vec((0..300_u64, -400_000..400_000_i64, 0..400_000_u64), 1..4),
    ) {
        let calm = Demand { anon_bytes: MIB, cold_bytes: 400 * MIB, ..Demand::default() };
        let mut kernel = Kernel::new(calm);
        for control in CONTROLS {
            kernel.set(control, Value::Value(scaled(control, 1_000)));
        }
        // One setpoint each: the line itself only goes one way.
        let courses = plan.courses.iter().map(|course| {
            let setpoints = vec![*course.setpoints.last().unwrap()];
            Course { control: course.control, setpoints: Bounded::new(setpoints).unwrap() }
        });
        let plan = Plan { courses: Bounded::new(courses.collect()).unwrap(), ..plan };
        let mut run = Run::new(kernel, rules, plan);
        for tick in 0..600_u64 {
            for (_, wall_ms, suspended_ms) in jumps.iter().filter(|(at, ..)| *at == tick) {
                run.kernel.wall_offset_ms += wall_ms;
                run.kernel.suspended_ms += suspended_ms;
            }
            run.follow_for(run.rules.tick_ms);
        }
        for row in &run.rows {
            let Some(Write { control, value }) = row.decision.write else { continue };
            let before = number(Value::shown_by(row.reading.actual(control)).unwrap());
            let is_above_use = control == MemoryHigh && number(value) >= row.reading.memory_current_bytes.unwrap();
            let is_small = before.abs_diff(number(value)) <= step(control, before, &run.rules) + before / 100;
            assert!(is_small || is_above_use || !control.is_gradual(), "{control} {before} to {value:?}\n{}", run.story());
        }
        assert_eq!(run.shaping.state().held_ms, 0);
    }

    #[test]
    fn a_plan_that_the_rules_allow_reaches_every_target_in_time_when_nothing_presses(
        rules in any_rules(), plan in plan(), cached in 0..3_u64, jitter_ms in prop::collection::vec(0..15_i64, 16),
        begins_ms in 0..2_000_i64,
    ) {
        // What the dead band leaves must fit into the last step.
        let most = rules.step_permille_max.min(rules.memory_headroom_permille) / 4;
        let rules = Rules { dead_band_permille: rules.dead_band_permille.min(most), ..rules };
        let mut kernel = Kernel::new(Demand { anon_bytes: MIB, cold_bytes: 400 * MIB, ..Demand::default() });
        kernel.cached_bytes_per_second = cached * MIB;
        kernel.wall_offset_ms = begins_ms;
        for control in CONTROLS {
            kernel.set(control, Value::Value(scaled(control, 1_000)));
        }
        // Long enough that no line asks for more than a half of a step between two turns.
        let turn_ms = rules.dwell_ms.max(u64::try_from(plan.courses.len()).unwrap() * rules.tick_ms) + rules.tick_ms;
        let over_ms = |course: &Course| {
            let (from, to) = (scaled(course.control, 1_000), course.setpoints.last().unwrap().value);
            let to = to.max(rules.floors.get(&course.control).copied().unwrap_or(1));
            let step = u64::from(rules.step_permille_max.min(rules.memory_headroom_permille));
            from.saturating_sub(to) * 2_000 / (to * step).max(1) * turn_ms + 10 * turn_ms
        };
        let over_ms = plan.courses.iter().map(over_ms).max().unwrap() + 2_000;
        prop_assume!(over_ms < 3_600_000);
        let targets: Vec<_> = plan.courses.iter().map(|course| (course.control, course.setpoints.last().unwrap().value)).collect();
        let mut run = Run::new(kernel, rules, plan_over(over_ms, &targets));
        for jitter_ms in jitter_ms.iter().cycle().take(usize::try_from(over_ms / run.rules.tick_ms + 20).unwrap()) {
            run.kernel.wall_offset_ms = begins_ms + jitter_ms;
            run.follow_for(run.rules.tick_ms);
        }
        for control in run.plan.controls().filter(|control| control.is_gradual()) {
            let codes: Vec<_> = run.codes(control).into_iter().filter(|code| *code != "floored").collect();
            assert_eq!(codes, ["reached"], "{control}\n{}", run.story());
            let Note::Reached { late_by_ms, .. } = run.notes().map(|(_, note)| note).find(|note| {
                note.control() == control && note.code() == "reached"
            }).unwrap() else { panic!() };
            assert_eq!(late_by_ms, 0, "{control}\n{}", run.story());
        }
    }

    #[test]
    fn pressure_is_answered_in_the_tick_in_which_it_shows(kernel in kernel(), rules in any_rules(), plan in plan()) {
        let mut run = Run::new(kernel, rules, plan);
        for _ in 0..400 {
            let was = run.shaping.clone();
            run.tick(true);
            let row = run.rows.last().unwrap();
            let kills = |counters: &Counters| counters.oom_kill.unwrap();
            let is_new = kills(&row.reading.counters) > kills(&was.kept().seen);
            let track = was.kept().tracks.iter().find(|track| track.control == MemoryHigh);
            let is_shown = |track: &&Track| {
                let shown = Value::shown_by(row.reading.actual(MemoryHigh));
                shown.is_some_and(|shown| number(shown).abs_diff(number(track.expected)) <= 65_536)
            };
            if let Some(track) = track.filter(is_shown)
                && is_new
                && number(track.expected) < number(track.baseline)
            {
                let write = row.decision.write.unwrap();
                assert_eq!(write.control, MemoryHigh);
                assert!(number(write.value) > number(track.expected), "{}", run.story());
            }
            run.kernel.run(run.rules.tick_ms);
        }
    }
}
