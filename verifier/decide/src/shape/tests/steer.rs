//! What follows while a plan runs from what its host tells.

use std::sync::Arc;

use quotary_common::envelope::{BackendKind, CgroupPath, ControlValue, Envelope, Event, EventKind, Name};
use quotary_common::id::{Digest, PlanId};
use quotary_common::plan::{Plan, ShapedControl};
use quotary_common::units::{ResourceKind, Resources};

use super::book::envelope;
use super::draft::NOW_MS;
use super::of_change::{EFFECTIVE_MS, GIB, World, policy};
use super::*;
use crate::forecast::QUANTILE_LEVELS;
use crate::policy::Unit;
use crate::shape::phase::{Demand, Stretch};

/// About a middle, a tenth of it to either side, as long as the plan runs.
fn about(middle: u64) -> Demand {
    let quantiles = QUANTILE_LEVELS.map(|level| middle as f64 * (0.9 + 0.2 * level));
    Demand::new(vec![Stretch { from_ms: NOW_MS, until_ms: EFFECTIVE_MS, quantiles }]).unwrap()
}

/// A service whose memory goes from a gibibyte and a quarter to a half in ten minutes, planned for three quarters.
fn running() -> (World, Steered) {
    let mut world = World::new(BackendKind::Systemd);
    let mut planned = world.plan(&policy(1, "[limit]\nmemory_bytes = 536870912\n"), Resources::default());
    planned.plans[0].ways[0].demand = about(GIB / 4 * 3);
    world.give(&planned);
    let steered = Steered::new(world.plans[0].plan(), planned.plans[0].ways.clone());
    (world, steered)
}

/// One evidence so many seconds after the start, of a service that uses so much.
fn tell(world: &mut World, steered: &mut Steered, after_s: u64, memory_bytes: u64) -> Steps {
    let now_ms = NOW_MS + after_s * 1_000;
    world.now_ms = now_ms;
    world.standing.units[0].usage.memory_bytes = Some(memory_bytes);
    let demand = |_: &Unit, kind: ResourceKind| {
        assert_eq!(kind, ResourceKind::Memory);
        about(memory_bytes)
    };
    steered.look((&world.standing.units[0], &world.plans[0]), (now_ms, now_ms), demand)
}

/// The host has read back so much.
fn read_back(world: &mut World, value: u64) {
    let mut record = (*world.plans[0]).clone();
    let value = ControlValue::lossy(&value.to_string());
    record.note(PlanWrite {
        control: Name::lossy(ShapedControl::MemoryHigh.file_name()),
        after: value.clone(),
        actual: Some(value),
        effective: true,
        dry_run: false,
        evidence: Digest::new([0; 32]),
        committed_at_ms: world.now_ms,
    });
    world.plans = vec![Arc::new(record)];
}

#[test]
fn demand_beyond_its_band_makes_the_rest_anew_and_then_not_again_for_a_while() {
    let (mut world, mut steered) = running();
    assert_eq!(tell(&mut world, &mut steered, 30, GIB / 4 * 3), Steps::default());
    for after_s in [60, 90] {
        assert_eq!(tell(&mut world, &mut steered, after_s, GIB), Steps::default());
    }
    // What was looked at already says nothing new.
    assert_eq!(tell(&mut world, &mut steered, 90, GIB), Steps::default());
    let steps = tell(&mut world, &mut steered, 120, GIB);
    let ways = steps.anew.unwrap();
    let transition = ways[0].phased.transition();
    assert_eq!((transition.starts_at_ms, transition.effective_at_ms), (NOW_MS + 120_000, EFFECTIVE_MS));
    assert_eq!((transition.to, &ways[0].demand, steps.off), (GIB / 2, &about(GIB), Vec::new()));
    // Until its plan is there it is asked for again; then the next one is due when it had its twelfth of ten minutes, though demand is beyond all the time.
    steered.await_plan(PlanId::new([9; 32]), ways.clone());
    assert!(steered.runs_as(world.plans[0].plan()));
    assert!(tell(&mut world, &mut steered, 125, GIB).anew.is_some());
    steered.await_plan(PlanId::new([9; 32]), ways);
    let anew = Plan { id: PlanId::new([9; 32]), starts_at_ms: NOW_MS + 125_000, ..world.plans[0].plan().clone() };
    assert!(steered.runs_as(&anew) && !steered.runs_as(world.plans[0].plan()));
    let is_anew = |world: &mut World, steered: &mut Steered, after_s| {
        let is_anew = tell(world, steered, after_s, 2 * GIB).anew.is_some();
        if is_anew {
            let id = PlanId::new([u8::try_from(after_s / 4).unwrap(); 32]);
            steered.await_plan(id, Vec::new());
            assert!(steered.runs_as(&Plan { id, starts_at_ms: world.now_ms, ..anew.clone() }));
        }
        is_anew
    };
    let when: Vec<u64> = (130..600).step_by(5).filter(|at_s| is_anew(&mut world, &mut steered, *at_s)).collect();
    assert_eq!(when, [175], "without a way there is nothing to make anew");
}

#[test]
fn an_actual_off_its_line_is_told_once_and_the_rest_begins_there() {
    let (mut world, mut steered) = running();
    let stuck = GIB + GIB / 4;
    read_back(&mut world, stuck);
    let steps: Vec<Steps> = [100, 110, 120, 130].map(|after_s| tell(&mut world, &mut steered, after_s, GIB / 2)).into();
    let is_quiet = [0, 1].map(|step: usize| steps[step] == Steps::default());
    assert_eq!(
        is_quiet,
        [true; 2],
        "{:?}",
        steps.iter().map(|steps| (&steps.off, steps.anew.is_some())).collect::<Vec<_>>()
    );
    let why = format!("web.service on {}: memory-high is {stuck}, and its plan has ", world.host.record.host);
    assert!(steps[2].off.len() == 1 && steps[2].off[0].starts_with(&why), "{:?}", steps[2].off);
    assert_eq!(steps[2].anew.as_ref().unwrap()[0].phased.transition().from, stuck);
    // As long as no other plan is there it is asked for again; it is told once.
    assert!(steps[3].anew.is_some() && steps[3].off.is_empty());
}

#[test]
fn what_cannot_be_there_in_time_any_more_is_told_with_the_earliest_time() {
    let (mut world, mut steered) = running();
    read_back(&mut world, 8 * GIB);
    let all = [400, 410, 420, 430, 440].map(|after_s| tell(&mut world, &mut steered, after_s, GIB / 2));
    let late: Vec<&String> = all.iter().flat_map(|steps| &steps.late).collect();
    assert!(
        late.len() == 1 && late[0].contains("memory-high cannot reach its target in time any more, at "),
        "{late:?}"
    );
    assert_eq!(all.iter().map(|steps| steps.off.len()).collect::<Vec<_>>(), [0, 0, 1, 0, 0]);
}

#[test]
fn what_its_host_holds_is_told_and_left_to_its_patience() {
    for kind in [EventKind::PlanHeld, EventKind::PlanGivenUp, EventKind::Contested] {
        let (mut world, mut steered) = running();
        read_back(&mut world, GIB + GIB / 4);
        let mut record = (*world.plans[0]).clone();
        let event = Event { kind, cgroup: Some(CgroupPath::lossy("/system.slice/web.service")), count: 1, at_ms: 1 };
        let told = Envelope { events: Bounded::new(vec![event]).unwrap(), ..envelope(1, kind) };
        assert!(record.note_told(&told, None, (Digest::new([1; 32]), 1)));
        world.plans = vec![Arc::new(record)];
        let all = [100, 110, 120, 130, 140].map(|after_s| tell(&mut world, &mut steered, after_s, GIB / 2));
        assert!(all.iter().all(|steps| steps.anew.is_none()), "{kind:?}");
        assert_eq!(all.iter().flat_map(|steps| &steps.off).count(), 1, "{kind:?}");
    }
}

#[test]
fn what_the_kernel_rounds_and_the_agents_dead_band_leave_is_not_off() {
    let (mut world, mut steered) = running();
    for after_s in [100, 110, 120, 130] {
        let line =
            world.plans[0].checked().setpoint(ShapedControl::MemoryHigh, GIB + GIB / 4, NOW_MS + after_s * 1_000);
        read_back(&mut world, line.unwrap() / 1_000 * 1_009);
        assert_eq!(tell(&mut world, &mut steered, after_s, GIB / 2), Steps::default());
    }
    // One that has nowhere to go: a first limit over a service that uses far less.
    let mut world = World::new(BackendKind::Systemd);
    world.standing.units[0].usage.memory_bytes = Some(100_000_000);
    let planned = world.plan(&policy(1, "[limit]\nmemory_bytes = 500000000\n"), Resources::default());
    world.give(&planned);
    let mut steered = Steered::new(world.plans[0].plan(), planned.plans[0].ways.clone());
    read_back(&mut world, 499_998_720);
    for after_s in [100, 110, 120, 130] {
        assert_eq!(tell(&mut world, &mut steered, after_s, 100_000_000), Steps::default());
    }
}

#[test]
fn two_controls_are_made_anew_together_and_one_without_a_way_goes_on_as_it_went() {
    let mut world = World::new(BackendKind::Systemd);
    let edit =
        policy(1, "[guarantee]\ncpu_millicores = 100\n[limit]\nmemory_bytes = 536870912\ncpu_millicores = 200\n");
    let planned = world.plan(&edit, Resources::default());
    world.give(&planned);
    let quota = |ways: &[Way]| ways.iter().position(|way| way.control == ShapedControl::CpuQuota);
    let mut ways = planned.plans[0].ways.clone();
    ways.remove(quota(&ways).unwrap());
    let mut steered = Steered::new(world.plans[0].plan(), ways);
    read_back(&mut world, GIB + GIB / 4);
    for after_s in [300, 310] {
        assert_eq!(tell(&mut world, &mut steered, after_s, GIB / 2), Steps::default());
    }
    let ways = tell(&mut world, &mut steered, 320, GIB / 2).anew.unwrap();
    assert!(quota(&ways).is_none());
    world.host.progress.valid_until_ms = world.now_ms + 1;
    let change = super::of_change::change(Resources::default());
    let again = world.with(|scene| plan_again(&world.plans[0], &change, &ways, scene)).unwrap();
    let of = |plan: &Plan| {
        let course = plan.courses.iter().find(|course| course.control == ShapedControl::CpuQuota).unwrap();
        course.setpoints.iter().filter(|at| at.at_ms > world.now_ms).copied().collect::<Vec<_>>()
    };
    let (old, new) = (world.plans[0].plan(), again.plan());
    assert_eq!(new.courses.len(), old.courses.len());
    assert_eq!(of(old), of(new));
}

#[test]
fn a_plan_that_is_taken_up_late_is_held_against_its_own_line() {
    let (mut world, _) = running();
    world.now_ms = NOW_MS + 300_000;
    world.host.progress.valid_until_ms = world.now_ms + 1;
    // As it would be made now: from where it stands.
    let planned = world.plan(&policy(1, "[limit]\nmemory_bytes = 536870912\n"), Resources::default());
    let mut steered = Steered::new(world.plans[0].plan(), planned.plans[0].ways.clone());
    assert!(steered.runs_as(world.plans[0].plan()));
    for after_s in [310, 320, 330, 340] {
        let at_ms = NOW_MS + after_s * 1_000;
        let line = world.plans[0].checked().setpoint(ShapedControl::MemoryHigh, GIB, at_ms).unwrap();
        read_back(&mut world, line);
        assert_eq!(tell(&mut world, &mut steered, after_s, GIB / 2), Steps::default());
    }
    read_back(&mut world, GIB + GIB / 4);
    let anew = [350, 360, 370].map(|after_s| tell(&mut world, &mut steered, after_s, GIB / 2).anew.is_some());
    assert_eq!(anew, [false, false, true]);
}
