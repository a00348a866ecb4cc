//! What holds has its plans: units that come late, what was taken back, held or dropped, and what nothing stands behind.

use std::collections::BTreeMap;

use quotary_common::envelope::{BackendKind, Name};
use quotary_common::id::ChangeId;
use quotary_common::plan::{Plan, ShapedControl};
use quotary_common::quorum::change::Change;
use quotary_common::units::Resources;

use super::draft::NOW_MS;
use super::of_change::{EFFECTIVE_MS, GIB, World, change, policy};
use super::*;
use crate::policy::{Edit, Shaping};

/// The change of the policy in force.
const RULING: ChangeId = ChangeId::new([9; 32]);
/// Another one.
const OTHER: ChangeId = ChangeId::new([8; 32]);

const HALF: &str = "[limit]\nmemory_bytes = 536870912\n";
const BOTH: &str = "[limit]\nmemory_bytes = 536870912\ncpu_millicores = 2000\n";

/// A world some time after its policy came into force.
fn under(edit: &Edit) -> World {
    let mut world = World::new(BackendKind::Systemd);
    world.map = edit.applied_to(&world.map);
    at(&mut world, EFFECTIVE_MS + 60_000);
    world
}

fn at(world: &mut World, now_ms: u64) {
    world.now_ms = now_ms;
    world.host.progress.valid_until_ms = now_ms + 1;
}

fn settled(world: &World, edit: &Edit, slew: Resources, behind: impl Fn(&PlanRecord) -> Behind) -> Settled {
    let (change, shaping) = (change(slew), Shaping::default());
    let wanted = Wanted { change: &change, edit, shaping: &shaping, decision: Some(b"decided") };
    let ruling = Ruling { change: RULING, wanted };
    let rulings = if edit.puts().is_some() { [(Name::lossy("web"), ruling)].into() } else { BTreeMap::new() };
    world.with(|scene| settle(&rulings, behind, |_| false, scene))
}

fn made(settled: &Settled) -> Option<&Plan> {
    let plans = settled.planned.get(&RULING).map(|planned| planned.plans.as_slice()).unwrap_or_default();
    assert!(plans.len() < 2);
    plans.first().map(|one| one.plan.plan())
}

fn last(plan: &Plan, control: ShapedControl) -> Option<u64> {
    let course = plan.courses.iter().find(|course| course.control == control)?;
    course.setpoints.last().map(|setpoint| setpoint.value)
}

fn nobody(_: &PlanRecord) -> Behind {
    unreachable!("there is no plan")
}

#[test]
fn what_comes_later_gets_the_same_and_what_has_it_is_left_alone() {
    let edit = policy(1, HALF);
    let mut world = under(&edit);
    let late = settled(&world, &edit, Resources::default(), nobody);
    let plan = made(&late).unwrap();
    assert!(plan.effective_at_ms > world.now_ms && plan.effective_at_ms < world.now_ms + 60_000);
    assert_eq!(last(plan, ShapedControl::MemoryHigh), Some(GIB / 2));
    // With a slew it takes as long as that: 768 MiB at one a second, from what it uses and some more.
    let slow = Resources { memory_bytes: Some(1 << 20), ..Resources::default() };
    let slowly = settled(&world, &edit, slow, nobody);
    assert_eq!(made(&slowly).unwrap().effective_at_ms, world.now_ms + 768_000);
    world.give(&late.planned[&RULING]);
    assert_eq!(settled(&world, &edit, slow, |_| Behind::Change(RULING)), Settled::default());
    // A plan of another change, in force before, makes room for it; what a person or a moving change gave does not.
    assert!(made(&settled(&world, &edit, slow, |_| Behind::Change(OTHER))).is_some());
    assert_eq!(settled(&world, &edit, slow, |_| Behind::LeaveAlone), Settled::default());
}

#[test]
fn an_alteration_of_one_amount_keeps_the_others_where_they_are() {
    let (before, edit) = (policy(1, BOTH), policy(2, "[limit]\nmemory_bytes = 268435456\ncpu_millicores = 2000\n"));
    let mut world = World::new(BackendKind::Systemd);
    world.map = before.applied_to(&world.map);
    let planned = world.plan(&edit, Resources::default());
    let plan = planned.plans[0].plan.plan();
    assert_eq!(last(plan, ShapedControl::MemoryHigh), Some(GIB / 4));
    let cpu = plan.courses.iter().find(|course| course.control == ShapedControl::CpuQuota).unwrap();
    assert!(cpu.setpoints.iter().all(|setpoint| setpoint.value == 2_000), "{cpu:?}");
    // What another policy holds for is none of its.
    assert!(world.plan(&Edit::Revoke(Name::lossy("other")), Resources::default()).plans.is_empty());
}

#[test]
fn what_is_said_of_no_more_holds_until_the_effective_time_and_then_ends() {
    let (before, edit) = (policy(1, BOTH), policy(2, HALF));
    let mut world = World::new(BackendKind::Systemd);
    world.map = before.applied_to(&world.map);
    let planned = world.plan(&edit, Resources::default());
    assert_eq!(last(planned.plans[0].plan.plan(), ShapedControl::CpuQuota), Some(2_000));
    world.give(&planned);
    world.map = edit.applied_to(&world.map);
    at(&mut world, EFFECTIVE_MS + 1);
    let then = settled(&world, &edit, Resources::default(), |_| Behind::Change(RULING));
    let plan = made(&then).unwrap();
    assert_eq!((last(plan, ShapedControl::CpuQuota), last(plan, ShapedControl::MemoryHigh)), (None, Some(GIB / 2)));
    assert!(plan.courses[0].setpoints.iter().all(|setpoint| setpoint.value == GIB / 2), "it is there already");
    world.give(&then.planned[&RULING]);
    assert_eq!(settled(&world, &edit, Resources::default(), |_| Behind::Change(RULING)), Settled::default());
    // A revocation ends it.
    let gone = Edit::Revoke(Name::lossy("web"));
    world.map = gone.applied_to(&world.map);
    let end = settled(&world, &gone, Resources::default(), |_| Behind::Change(RULING));
    assert_eq!(end.ending, [(RULING, HOST, world.plans[0].plan().id)]);
}

#[test]
fn a_first_share_of_cpu_begins_at_the_kernels_own() {
    let planned =
        World::new(BackendKind::Systemd).plan(&policy(1, "[guarantee]\ncpu_millicores = 500\n"), Resources::default());
    let way = &planned.plans[0].ways[0];
    assert_eq!((way.control, way.now, way.phased.transition().to), (ShapedControl::CpuWeight, Some(100), 50));
    assert!(way.phased.setpoints().iter().all(|setpoint| (50..=100).contains(&setpoint.value)));
}

#[test]
fn what_was_taken_back_goes_back_as_slowly_as_it_came_by_what_holds() {
    let (before, edit) = (policy(1, "[limit]\nmemory_bytes = 2147483648\n"), policy(2, HALF));
    let mut world = World::new(BackendKind::Systemd);
    world.map = before.applied_to(&world.map);
    world.give(&world.plan(&edit, Resources::default()));
    at(&mut world, EFFECTIVE_MS - 480_000);
    let back = settled(&world, &before, Resources::default(), |_| Behind::TakenBack);
    let plan = made(&back).unwrap();
    assert_eq!(last(plan, ShapedControl::MemoryHigh), Some(2 * GIB));
    let way = &back.planned[&RULING].plans[0].ways[0];
    assert!(way.now.unwrap() < 2 * GIB && way.now.unwrap() > GIB, "from where it stands: {:?}", way.now);
    assert_eq!(
        plan.effective_at_ms,
        EFFECTIVE_MS.max(world.now_ms + 120_000),
        "the ruling change is not ahead of itself"
    );
    at(&mut world, EFFECTIVE_MS + 5_000);
    let back = settled(&world, &before, Resources::default(), |_| Behind::TakenBack);
    assert_eq!(made(&back).unwrap().effective_at_ms, world.now_ms + 600_000, "it went for ten minutes");
    // Nothing was before: it ends.
    let gone = Edit::Revoke(Name::lossy("web"));
    world.map = gone.applied_to(&world.map);
    assert_eq!(settled(&world, &gone, Resources::default(), |_| Behind::TakenBack).ending.len(), 1);
}

#[test]
fn from_beyond_what_was_decided_it_goes_back_in_a_line_that_hosts_take() {
    let edit = policy(2, "[limit]\nmemory_bytes = 536870912\n");
    let world = under(&edit);
    let line = |before: &str| {
        format!("application=web tenant=shop unit=web.service class=burstable memory_bytes.limit={before}>536870912")
    };
    for (before, setpoints) in [("none", 10), ("268435456", 1)] {
        let mut change = change(Resources::default());
        change.covers = vec![line(before).parse().unwrap()];
        let shaping = Shaping::default();
        let wanted = Wanted { change: &change, edit: &edit, shaping: &shaping, decision: Some(b"decided") };
        let rulings = [(Name::lossy("web"), Ruling { change: RULING, wanted })].into();
        let late = world.with(|scene| settle(&rulings, nobody, |_| false, scene));
        let plan = made(&late).unwrap();
        // It uses twice as much.
        assert_eq!(plan.courses[0].setpoints.len(), setpoints, "{before}");
        assert_eq!(last(plan, ShapedControl::MemoryHigh), Some(GIB / 2));
    }
}

#[test]
fn what_is_held_stays_where_it_is_and_goes_on_when_nobody_holds_it_any_more() {
    let edit = policy(1, HALF);
    let mut world = World::new(BackendKind::Systemd);
    world.give(&world.plan(&edit, Resources::default()));
    at(&mut world, NOW_MS + 300_000);
    let held = change(Resources::default());
    let still_by = |decision: &[u8], covers: &[&str]| {
        let held = Change { covers: covers.iter().map(|line| line.parse().unwrap()).collect(), ..held.clone() };
        world.with(|scene| plan_still(&world.plans[0], (&held, Some(decision)), scene)).unwrap()
    };
    let still = still_by(b"decided", &[]);
    let running = world.plans[0].plan();
    // By a newer decision, where others have come to decide; and never at what was not decided.
    assert_eq!(still_by(b"anew", &[]).plan().decision.as_deref(), Some(&b"anew"[..]));
    let cover = "application=web tenant=shop unit=web.service class=burstable memory_bytes.limit=536870912>536870912";
    let nearest = running.courses[0].setpoints[0].value;
    assert_eq!(still_by(b"decided", &[cover]).target_value(ShapedControl::MemoryHigh), Some(nearest));
    let stands = world.plans[0].checked().setpoint(ShapedControl::MemoryHigh, 0, world.now_ms).unwrap();
    assert!(stands < GIB && stands > GIB / 2);
    assert_eq!(still.plan().decision, running.decision, "by the same decision");
    assert!(still.plan().courses[0].setpoints.iter().all(|setpoint| setpoint.value == stands));
    let record = PlanRecord::new(still, &key(), "change", world.now_ms).of_change(RULING);
    world.plans = vec![std::sync::Arc::new(record)];
    world.map = edit.applied_to(&world.map);
    at(&mut world, EFFECTIVE_MS + 900_000);
    let on = settled(&world, &edit, Resources::default(), |_| Behind::Thawed);
    assert_eq!(last(made(&on).unwrap(), ShapedControl::MemoryHigh), Some(GIB / 2));
    assert_eq!(on.planned[&RULING].plans[0].ways[0].now, Some(stands));
}

#[test]
fn of_a_unit_that_does_not_run_and_where_policies_are_tied_nothing_is_known() {
    let edit = policy(1, HALF);
    let mut world = under(&edit);
    let late = settled(&world, &edit, Resources::default(), nobody);
    world.give(&late.planned[&RULING]);
    let twin = "name = 'twin'\nversion = 1\ncriticality = 'low'\n[select]\napplication = 'web'\n[limit]\nmemory_bytes = 1073741824\n";
    let twin = Edit::Put(std::sync::Arc::new(crate::policy::read(twin.as_bytes(), None).unwrap()));
    let tied = twin.applied_to(&world.map);
    let alone = std::mem::replace(&mut world.map, tied);
    for behind in [Behind::Change(OTHER), Behind::TakenBack, Behind::Change(RULING)] {
        assert_eq!(settled(&world, &edit, Resources::default(), |_| behind), Settled::default(), "tied: {behind:?}");
    }
    world.map = alone;
    world.standing.units.clear();
    let ends = |behind| settled(&world, &edit, Resources::default(), |_| behind).ending.len();
    let all = [Behind::Change(RULING), Behind::Thawed, Behind::LeaveAlone, Behind::Change(OTHER), Behind::TakenBack];
    assert_eq!(all.map(ends), [0, 0, 0, 1, 1]);
    let gone = world.with(|scene| settle(&BTreeMap::new(), |_| Behind::Change(RULING), |_| true, scene));
    assert_eq!(gone.ending.len(), 1, "what never comes back has no plan");
}
