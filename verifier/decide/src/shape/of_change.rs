//! The plans of a change: for every unit whose limits or guarantees it moves, a course for each control, from what is to what shall be.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::cbor::Bounded;
use quotary_common::id::{DeploymentId, HostId};
use quotary_common::limits::PLANS_MAX;
use quotary_common::plan::{CheckedPlan, Course, Plan, ShapedControl, Target};
use quotary_common::quorum::change::Change;
use quotary_common::quorum::coverage::{DEFAULT_WEIGHT, allows, resource_of, weight_of};
use quotary_common::reason::Refusal;
use quotary_common::units::{ResourceKind, Resources};

use super::frame::Frame;
use super::phase::{Demand, PhasedPlan, Refused, SLEW_OF_MEAN, Transition, phase};
use super::record::PlanRecord;
use crate::policy::{Edit, Enforcing, Holding, PolicyResourceMap, Shaping, Standing, Unit};
use crate::registry::Host;

/// Setpoints of a course where the policy does not say how fine it is to be.
const STEPS: u64 = 60;
/// How long a plan takes that is made after its change took effect, ms: for a unit that came later.
pub(super) const LATE_MS: u64 = 10_000;
/// Why a control is left out that its host stated not to have.
pub(super) const LACKING: &str = "the host has no such control";
/// How late a host may begin such a plan, ms: what is in force holds on a host that comes back, too. A hundred years.
pub(super) const BEGIN_WITHIN_MS: u64 = 100 * 366 * 86_400_000;
/// Between what and what pressure may hold such a plan, ms; in between a quarter of its window.
const HOLD_MS: (u64, u64) = (10_000, 600_000);

/// A host as it stands: what a plan for it is held against.
#[derive(Debug, Clone, Copy)]
pub struct HostNow<'a> {
    /// It.
    pub host: &'a Host,
    /// Its plans, those that are over too.
    pub plans: &'a [Arc<PlanRecord>],
}

/// What plans are made from.
pub struct Scene<'a> {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The policies in force.
    pub map: &'a PolicyResourceMap,
    /// Hosts, and what runs on them.
    pub standing: &'a Standing,
    /// Every host that is known.
    pub hosts: &'a BTreeMap<HostId, HostNow<'a>>,
    /// What a unit is forecast to want.
    pub demand: &'a dyn Fn(&Unit, ResourceKind) -> Demand,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The change.
    pub change: &'a Change,
    /// What it does to the policies in force.
    pub edit: &'a Edit,
    /// How limits move.
    pub shaping: &'a Shaping,
    /// The quorum decision that the plans carry: canonical bytes; none for a preview.
    pub decision: Option<&'a [u8]>,
}

/// One control of one unit on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The control.
    pub control: ShapedControl,
    /// What holds now, if anything does.
    pub now: Option<u64>,
    /// Where it goes, and how.
    pub phased: PhasedPlan,
    /// The forecast that it was made for.
    pub demand: Demand,
}

/// The plan of one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitPlan {
    /// The unit.
    pub unit: Unit,
    /// The plan as it would be signed.
    pub plan: CheckedPlan,
    /// Each of its controls.
    pub ways: Vec<Way>,
}

/// What came of planning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Planned {
    /// The plans.
    pub plans: Vec<UnitPlan>,
    /// For what there is none, and why.
    pub without: Vec<Without>,
    /// When the time does not suffice for the slew: the earliest effective time that would, Unix ms.
    pub earliest_ms: Option<u64>,
}

/// What there is no plan for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    /// The unit's host.
    pub host: HostId,
    /// The unit.
    pub target: Target,
    /// Whether that is for want of time.
    pub is_too_soon: bool,
    /// Why, and of which control where it is not of all.
    pub why: String,
}

impl std::fmt::Display for Without {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}: {}", self.target, self.host, self.why)
    }
}

/// The plans that lead to what a change says: for every unit that its policy holds for, before or after.
pub fn plans_of(wanted: &Wanted<'_>, scene: &Scene<'_>) -> Planned {
    let after_map = wanted.edit.applied_to(scene.map);
    let (before, after) = (scene.standing.held(scene.map), scene.standing.held(&after_map));
    let is_own = |holding: &Holding| holding.policy.name == *wanted.edit.name();
    let mut out = Planned::default();
    for ((unit, before), after) in scene.standing.units.iter().zip(&before.holdings).zip(&after.holdings) {
        if before.iter().chain(after).any(is_own) {
            let moves = moves(before.as_ref(), after.as_ref());
            plan_unit(&mut out, &moves, (wanted, 0), scene, unit);
        }
    }
    out
}

/// The plan of a unit that a policy in force holds for and that has none of its, added to `out`: not before an instant (Unix ms), as
/// soon as its slew allows.
pub(super) fn plan_late(out: &mut Planned, wanted: (&Wanted<'_>, u64), scene: &Scene<'_>, unit: &Unit, held: &Holding) {
    plan_unit(out, &moves(None, Some(held)), wanted, scene, unit);
}

/// The controls that a change would move of a unit which nothing is planned for yet.
pub(super) fn would_move(before: Option<&Holding>, after: Option<&Holding>, unit: &Unit) -> Vec<ShapedControl> {
    let moves = moves(before, after);
    moves.iter().filter(|one| one.is_for_plan((unit, None))).map(|one| one.control).collect()
}

/// Whether a policy says anything that a plan would hold.
pub(super) fn says_anything(held: &Holding) -> bool {
    !moves(None, Some(held)).is_empty()
}

/// Whether a plan moves what nothing in force says anything of.
pub(super) fn says_more(plan: &Plan, held: &Holding) -> bool {
    let said = moves(None, Some(held));
    plan.courses.iter().any(|course| said.iter().all(|one| one.control != course.control))
}

fn plan_unit(
    out: &mut Planned,
    moves: &[Moves],
    (wanted, not_before_ms): (&Wanted<'_>, u64),
    scene: &Scene<'_>,
    unit: &Unit,
) {
    if moves.is_empty() {
        return;
    }
    let left_out =
        |why: &str| Without { host: unit.host, target: unit.target.clone(), is_too_soon: false, why: why.to_owned() };
    let Some(now) = scene.hosts.get(&unit.host) else {
        out.without.push(left_out("the host is not known"));
        return;
    };
    if let Err(why) = takes(now.host, &unit.target, scene.now_ms) {
        out.without.push(left_out(why));
        return;
    }
    let others = now.plans.iter().filter(|record| record.over().is_none() && record.plan().target != unit.target);
    if others.count() >= PLANS_MAX {
        out.without.push(left_out("the host has as many plans as it takes"));
        return;
    }
    let lacks = now.host.progress.seen.as_ref().and_then(|seen| seen.lacks.as_ref());
    let running =
        now.plans.iter().filter(|record| record.over().is_none()).find(|record| record.plan().target == unit.target);
    let has = |one: &&Moves| lacks.is_none_or(|lacks| !lacks.contains(&one.control));
    let of_unit = (unit, running.map(|record| &**record));
    let for_plan = moves.iter().filter(|one| one.is_for_plan(of_unit));
    let (moves, lacking): (Vec<&Moves>, Vec<&Moves>) = for_plan.partition(has);
    out.without.extend(lacking.iter().map(|one| left_out(&format!("{}: {LACKING}", one.control))));
    let at = |effective_at_ms| -> Vec<(&Moves, Result<Way, Refused>)> {
        moves.iter().map(|one| (*one, way(one, of_unit, wanted, (scene, effective_at_ms)))).collect()
    };
    let mut effective_at_ms = effective_at_ms(wanted.change, scene.now_ms).max(not_before_ms);
    let mut found = at(effective_at_ms);
    // What is in force already waits for nobody, and what nothing limits yet keeps no change of others from its time: for such a unit it
    // takes as long as the slew asks for.
    let is_in_force = wanted.change.effective_ms <= scene.now_ms;
    let may_be_later = |one: &Moves| is_in_force || now_of(one, unit, of_unit.1, scene.now_ms).is_none();
    let later = found.iter().filter(|(one, _)| may_be_later(one)).filter_map(|(_, way)| earliest_ms(way));
    if let Some(earliest_ms) = later.max() {
        effective_at_ms = effective_at_ms.max(earliest_ms);
        found = at(effective_at_ms);
    }
    let mut ways = Vec::new();
    for (one, way) in found {
        match way {
            Ok(way) => ways.push(way),
            Err(Refused::TooSoon { earliest_ms }) => {
                out.earliest_ms = Some(out.earliest_ms.map_or(earliest_ms, |known| known.max(earliest_ms)));
                let why = left_out(&format!("{}: {}", one.control, Refused::TooSoon { earliest_ms }));
                out.without.push(Without { is_too_soon: true, ..why });
            }
            Err(why) => out.without.push(left_out(&format!("{}: {why}", one.control))),
        }
    }
    if ways.is_empty() {
        return;
    }
    match framed(&ways, (unit, now), wanted, (scene, effective_at_ms)) {
        Ok(plan) => out.plans.push(UnitPlan { unit: unit.clone(), plan, ways }),
        Err(refusal) => out.without.push(left_out(refusal.detail.as_str())),
    }
}

/// Whether a host takes a plan for a target, by what it stated last.
pub(super) fn takes(host: &Host, target: &Target, now_ms: u64) -> Result<(), &'static str> {
    let seen = host.progress.seen.as_ref().filter(|_| host.is_trusted(now_ms)).ok_or("the host is not trusted now")?;
    Enforcing::can_set(seen.backend, target)
}

/// A control that goes from one value to another.
#[derive(Debug, Clone, Copy)]
struct Moves {
    control: ShapedControl,
    kind: ResourceKind,
    /// What the policies before say, in the control's unit.
    before: Option<u64>,
    to: u64,
    /// What it never goes below.
    least: u64,
}

/// The controls of a limit.
const fn limited_by(kind: ResourceKind) -> &'static [ShapedControl] {
    match kind {
        ResourceKind::Cpu => &[ShapedControl::CpuQuota],
        ResourceKind::Memory => &[ShapedControl::MemoryHigh],
        ResourceKind::Storage => &[ShapedControl::Storage],
        ResourceKind::Disk => &[ShapedControl::IoReadMax, ShapedControl::IoWriteMax],
        ResourceKind::Network => &[ShapedControl::NetworkEgress],
    }
}

impl Moves {
    /// Whether a plan of the unit needs a course for it. What a grant limits already, and this leaves as it is, the grant goes on limiting.
    fn is_for_plan(&self, (unit, running): (&Unit, Option<&PlanRecord>)) -> bool {
        let is_planned =
            running.is_some_and(|record| record.plan().courses.iter().any(|course| course.control == self.control));
        let is_granted = is_limit(self.control) && unit.granted.get(self.kind).is_some();
        is_planned || !is_granted || self.before != Some(self.to)
    }
}

/// Whether demand runs into it: what is kept, and what is shared by weight, is no such line.
pub(super) const fn is_limit(control: ShapedControl) -> bool {
    !matches!(control, ShapedControl::MemoryLow | ShapedControl::CpuWeight)
}

/// Every control of which a unit's policies say something, from what is said before to what is said after; a plan has all of them, since it
/// takes the place of the one before. What is said of no more after stays as it is until the effective time; then the plan is replaced by one without
/// it, or ends.
fn moves(before: Option<&Holding>, after: Option<&Holding>) -> Vec<Moves> {
    // Where nothing is said after, the plan before ends when that comes into force, and nothing has to move.
    if after.is_none() {
        return Vec::new();
    }
    let of = |holding: Option<&Holding>, amounts: fn(&Holding) -> &Resources, kind| {
        holding.and_then(|holding| amounts(holding).get(kind))
    };
    let mut out = Vec::new();
    for kind in ResourceKind::ALL {
        let [limit_old, limit_new] = [before, after].map(|holding| of(holding, |held| &held.limit, kind));
        let [kept_old, kept_new] = [before, after].map(|holding| of(holding, |held| &held.guarantee, kind));
        if let Some(to) = limit_new.or(limit_old) {
            let least = kept_new.unwrap_or(0);
            let one = |control: &ShapedControl| Moves { control: *control, kind, before: limit_old, to, least };
            out.extend(limited_by(kind).iter().map(one));
        }
        let Some(to) = kept_new.or(kept_old) else { continue };
        let (control, before, to) = match kind {
            ResourceKind::Memory => (ShapedControl::MemoryLow, kept_old.unwrap_or(0), to),
            ResourceKind::Cpu => (ShapedControl::CpuWeight, kept_old.map_or(DEFAULT_WEIGHT, weight_of), weight_of(to)),
            _ => continue,
        };
        out.push(Moves { control, kind, before: Some(before), to, least: 0 });
    }
    out
}

/// When a way that has too little time could be there at the earliest, Unix ms.
fn earliest_ms(way: &Result<Way, Refused>) -> Option<u64> {
    match way {
        Err(Refused::TooSoon { earliest_ms }) => Some(*earliest_ms),
        _ => None,
    }
}

fn way(
    one: &Moves,
    (unit, running): (&Unit, Option<&PlanRecord>),
    wanted: &Wanted<'_>,
    (scene, effective_at_ms): (&Scene<'_>, u64),
) -> Result<Way, Refused> {
    let (least, most) = one.control.range();
    let now = now_of(one, unit, running, scene.now_ms);
    let from = now.unwrap_or_else(|| begins_at(one, unit, scene)).clamp(least, most);
    let starts_at_ms = Transition::start(effective_at_ms, scene.now_ms);
    let window_s = (effective_at_ms - starts_at_ms).div_euclid(1_000).max(1);
    let slew = wanted.change.slew.get(one.kind).map(|slew| match one.control {
        ShapedControl::CpuWeight => weight_of(slew),
        _ => slew,
    });
    let mean = from.abs_diff(one.to).div_ceil(window_s);
    let transition = Transition {
        from,
        to: one.to,
        guarantee: one.least.min(one.to).min(from),
        starts_at_ms,
        effective_at_ms,
        resolution_s: wanted.shaping.resolution_s.unwrap_or_else(|| window_s.div_ceil(STEPS)).max(1),
        slew_per_s: slew.unwrap_or_else(|| mean.saturating_mul(SLEW_OF_MEAN)).max(1),
        freed_permille: 500,
    };
    let demand = if is_limit(one.control) { (scene.demand)(unit, one.kind) } else { Demand::default() };
    let phased = phase(&transition, &demand)?;
    Ok(Way { control: one.control, now, phased, demand })
}

/// When the change's plans reach their targets: at its effective time; where that has passed, soon.
const fn effective_at_ms(change: &Change, now_ms: u64) -> u64 {
    if change.effective_ms > now_ms { change.effective_ms } else { now_ms.saturating_add(LATE_MS) }
}

/// Where a running plan has a control now. Before its first setpoint that is between there and what its host read last.
pub(super) fn stands(running: &PlanRecord, control: ShapedControl, now_ms: u64) -> Option<u64> {
    let plan = running.plan();
    let first = plan.courses.iter().find(|course| course.control == control)?.setpoints.first()?.value;
    running.checked().setpoint(control, running.actual(control).unwrap_or(first), now_ms)
}

/// What a control is at now: by the plan that runs, by the grant, by the policies before.
fn now_of(one: &Moves, unit: &Unit, running: Option<&PlanRecord>, now_ms: u64) -> Option<u64> {
    let planned = running.and_then(|record| stands(record, one.control, now_ms));
    let granted = || match one.control {
        ShapedControl::MemoryLow | ShapedControl::CpuWeight => None,
        _ => resource_of(one.control).and_then(|kind| unit.granted.get(kind)),
    };
    planned.or_else(granted).or(one.before)
}

/// Where a control begins that nothing limits yet: at what its unit wants with room to spare, so that the whole window serves.
fn begins_at(one: &Moves, unit: &Unit, scene: &Scene<'_>) -> u64 {
    let capacity = scene.standing.hosts.get(&unit.host).and_then(|host| host.capacity.get(one.kind));
    let wants = unit.wants(one.kind).map(|wants| wants.saturating_add(wants / 4).max(one.to));
    match (wants, capacity) {
        (Some(wants), Some(capacity)) => wants.min(capacity.max(one.to)),
        (Some(amount), None) | (None, Some(amount)) => amount.max(one.to),
        (None, None) => one.to,
    }
}

/// Whether what was decided allows every setpoint for a unit, as its host will look at it.
fn is_covered(way: &Way, unit: &Unit, change: &Change) -> bool {
    let of_unit = change.covers.iter().filter(|cover| {
        (&cover.application, &cover.tenant) == (&unit.application, &unit.tenant)
            && cover.host.is_none_or(|host| host == unit.host)
    });
    let mut of_unit = of_unit.peekable();
    of_unit.peek().is_none()
        || of_unit.any(|cover| way.phased.setpoints().iter().all(|at| allows(cover, way.control, at.value)))
}

fn framed(
    ways: &[Way],
    (unit, now): (&Unit, &HostNow<'_>),
    wanted: &Wanted<'_>,
    (scene, effective_at_ms): (&Scene<'_>, u64),
) -> Result<CheckedPlan, Refusal> {
    let starts_at_ms = Transition::start(effective_at_ms, scene.now_ms);
    let courses = ways.iter().map(|way| {
        let setpoints = way.phased.setpoints();
        let last = setpoints.len().saturating_sub(1);
        // From beyond what was decided it goes back in a straight line: hosts take no value beyond.
        let from = if is_covered(way, unit, wanted.change) { 0 } else { last };
        let setpoints = setpoints.get(from..).unwrap_or_default().to_vec();
        Course { control: way.control, setpoints: Bounded::truncating(setpoints).0 }
    });
    let of_target = now.plans.iter().filter(|record| record.plan().target == unit.target);
    let last_generation = of_target.map(|record| record.plan().generation).max().unwrap_or_default();
    Frame {
        deployment: scene.deployment,
        host: unit.host,
        epoch: now.host.progress.epoch,
        target: unit.target.clone(),
        last_generation,
        starts_at_ms,
        effective_at_ms,
        ends_at_ms: wanted.change.until_ms,
        on_pressure: wanted.change.on_pressure,
        begin_within_ms: BEGIN_WITHIN_MS,
        hold_ms_max: ((effective_at_ms - starts_at_ms) / 4).clamp(HOLD_MS.0, HOLD_MS.1),
        overrides: false,
        decision: wanted.decision.map(<[u8]>::to_vec),
        now_ms: scene.now_ms,
    }
    .plan(courses.collect())
}
