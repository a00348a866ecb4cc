//! Beginning a plan, and moving its target one step.

use std::collections::BTreeMap;
use std::time::Duration;

use quotary_common::cbor::Text;
use quotary_common::envelope::{CgroupPath, ControlValue, EnforcementWrite, EventKind, Mode};
use quotary_common::id::PlanId;
use quotary_common::plan::{ShapedControl, Target, VerifiedPlan};

use super::ShapeError;
use super::above::TurnedOnBy;
use super::backend::{Backend, Override, Place, Prior};
use super::controller::{Actual, Decision, Note, Now, Reading, Shaping, Standing, Value, Write};
use super::permitting::{NotBegun, Slews};
use super::record::Record;
use super::shaper::{Live, Shaper, happened, rest_ticks};
use super::turns::{Budget, TOGETHER, in_turn};
use crate::enforce::Outcome;

/// So often controllers above a target are looked at after a write, once a tick.
const ABOVE_LOOKS: u8 = 10;
/// So often, and each time so much later, a value is read again that does not show yet.
const READ_AGAIN: u8 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// A write that was decided and is journaled before it is made.
struct Due {
    target: Target,
    plan: PlanId,
    place: Place,
    write: Write,
    before: Option<Value>,
}

impl Shaper {
    /// Begins what has its time and is not live yet, and takes up newer plans of what is.
    pub(super) fn begin_due(&mut self, now: Now, outcome: &mut Outcome) {
        let due: Vec<Target> = self
            .plans
            .iter()
            .filter(|(target, plan)| {
                let generation = plan.checked().plan().generation;
                let known = self.live.get(*target).is_some_and(|live| live.generation >= generation);
                let lease = plan.lease();
                !known
                    && plan.checked().is_on(now.unix_ms)
                    && lease.is_running(self.boot_id, lease.epoch, now.boottime_ms)
            })
            .map(|(target, _)| target.clone())
            .collect();
        let budget = Budget::of(self.work_max);
        for some in in_turn(due, self.last_begun.as_ref()).chunks(TOGETHER) {
            for target in some {
                match self.begin(target, now) {
                    Ok(()) => {}
                    Err(NotBegun::Waits(why)) => self.note_wait(target, why),
                    Err(NotBegun::Refused(why)) => self.refuse(target, &why, now, outcome),
                }
            }
            self.last_begun = some.last().cloned();
            if budget.is_spent() {
                break;
            }
        }
    }

    /// Begins one plan.
    ///
    /// # Errors
    /// Why it is not begun, in a sentence: it is tried again.
    fn begin(&mut self, target: &Target, now: Now) -> Result<(), NotBegun> {
        let plan = self.plans.get(target).cloned().ok_or("it is gone")?;
        if let Some(rule) = self.local.protects(target) {
            return Err(format!("{target} is protected on this host (`{rule}`)").into());
        }
        if self.is_left_over(target) {
            return Err(format!("the grant of {target} is over").into());
        }
        let is_known = self.held.targets.contains_key(target);
        // One that has begun is taken up again after whatever came between.
        let has_begun = self.held.begun.get(target) == Some(&plan.checked().plan().id);
        let is_first = !is_known && !has_begun && !self.live.contains_key(target);
        if !is_known && !has_begun && now.unix_ms > plan.checked().plan().not_after_ms {
            return Err("it came too late to begin".into());
        }
        let backend = self.backend.as_mut().ok_or("nothing can be shaped on this host")?;
        let place = backend.find(target).map_err(told)?.ok_or_else(|| not_found(target))?;
        if place.is_unit
            && let Some(unit) = self.local.protects_below(&self.root, &place.cgroup)
        {
            return Err(format!("{target} is not moved on this host: {unit}, which is protected, is in it").into());
        }
        let controls = Self::controls_of(&plan);
        for control in &controls {
            if self.held.targets.get(target).is_some_and(|held| held.has_prior_beside(*control)) {
                continue;
            }
            match backend.overridden(target, *control).map_err(told)? {
                Override::None => {}
                Override::Runtime if plan.checked().plan().overrides => {}
                Override::Runtime => {
                    return Err(
                        format!("an administrator has set {control} of {target}: draft it with --override").into()
                    );
                }
                Override::Persistent => {
                    return Err(format!(
                        "an administrator has set {control} of {target} for good (systemctl set-property or edit)"
                    )
                    .into());
                }
            }
        }
        let held = self.held.targets.get(target).map(|held| &held.priors);
        let also = held.into_iter().flat_map(|priors| priors.keys().copied());
        let all: Vec<ShapedControl> = controls.iter().copied().chain(also).collect();
        let reading = backend.read(&place, &all);
        let slews = self.permits_begin(plan.checked(), &place, &reading, is_first, now)?;
        Ok(self.take_up(target, &plan, slews, (place, &reading), now).map_err(told)?)
    }

    fn take_up(
        &mut self,
        target: &Target,
        plan: &VerifiedPlan,
        slews: Slews,
        (place, reading): (Place, &Reading),
        now: Now,
    ) -> Result<(), ShapeError> {
        let (checked, form) = (plan.checked(), plan.checked().plan());
        let rules = self.rules_for(place.cgroup.as_cgroup());
        if self.mode == Mode::Enforce {
            self.announce(&[Record::Taken {
                target: target.clone(),
                plan: form.id,
                generation: form.generation,
                cgroup: place.cgroup.as_cgroup().clone(),
                lease: plan.lease().into(),
            }])?;
        }
        tracing::info!(plan = %form.id, %target, cgroup = %place.cgroup, "a plan begins");
        match self.live.get_mut(target) {
            Some(live) => {
                live.shaping.replan(checked, reading, &rules, now);
                (live.plan, live.generation, live.place, live.rest) = (form.id, form.generation, place, 0);
                (live.following, live.slews) = (Some(checked.clone()), slews);
            }
            None => {
                // What stood there before our first write, and not what we wrote before the unit was away.
                let priors = self.held.targets.get(target).into_iter().flat_map(|held| &held.priors);
                let baseline: BTreeMap<ShapedControl, Value> =
                    priors.map(|(control, prior)| (*control, prior.value)).collect();
                let shaping = Shaping::begin(checked, &baseline, reading, &rules, now);
                let (plan, generation) = (form.id, form.generation);
                let following = Some(checked.clone());
                let live = Live { plan, generation, following, shaping, slews, place, rest: 0, above: None };
                self.live.insert(target.clone(), live);
            }
        }
        self.refused.remove(target);
        self.undo_again.remove(target);
        Ok(())
    }

    fn refuse(&mut self, target: &Target, why: &str, now: Now, outcome: &mut Outcome) {
        let Some(plan) = self.plans.get(target).map(|plan| plan.checked().plan().id) else { return };
        if self.refused.get(target).is_some_and(|(known, told)| *known == plan && told == why) {
            return;
        }
        tracing::warn!(%plan, %target, %why, "a plan is not followed");
        let cgroup = CgroupPath::lossy(&target.to_string());
        outcome.events.push(happened(EventKind::PlanRefused, &cgroup, now));
        self.refused.insert(target.clone(), (plan, why.to_owned()));
    }

    /// One step of everything that is live, as far as the time of a tick goes. Writes are journaled together, then made.
    pub(super) fn move_all(&mut self, now: Now, outcome: &mut Outcome) {
        let targets: Vec<Target> = self.live.keys().cloned().collect();
        let budget = Budget::of(self.work_max);
        for some in in_turn(targets, self.last_moved.as_ref()).chunks(TOGETHER) {
            self.move_some(some, now, outcome);
            self.last_moved = some.last().cloned();
            if budget.is_spent() {
                break;
            }
        }
    }

    fn move_some(&mut self, targets: &[Target], now: Now, outcome: &mut Outcome) {
        let (mut due, mut ended) = (Vec::new(), Vec::new());
        for target in targets {
            match self.decide(target, now, outcome) {
                Step::Nothing => {}
                Step::Write(write) => due.push(*write),
                Step::Gone => {
                    // Its values stand for its next run, and come back with it; the journal still knows them.
                    self.live.remove(target);
                }
                Step::AtBaseline => ended.push(target.clone()),
            }
        }
        self.write_all(due, now, outcome);
        outcome.append(self.end_all(&ended, now, None));
    }

    fn decide(&mut self, target: &Target, now: Now, outcome: &mut Outcome) -> Step {
        self.tell_above(target, now, outcome);
        let rules = |live: &Live| self.rules_for(live.place.cgroup.as_cgroup()).paced(live.slews.clone());
        let Some(rules) = self.live.get(target).map(rules) else {
            return Step::Nothing;
        };
        let Some(backend) = self.backend.as_mut() else { return Step::Nothing };
        let Some(live) = self.live.get_mut(target) else { return Step::Nothing };
        // After a restart of the agent: what its lease covers stays as it is until the plan is given again.
        let lease = self.held.targets.get(target).map(|held| held.lease);
        if (live.following.is_none() || !self.plans.contains_key(target))
            && lease.is_some_and(|lease| lease.is_running(self.boot_id, lease.epoch, now.boottime_ms))
        {
            return Step::Nothing;
        }
        if live.rest > 0 {
            live.rest -= 1;
            return Step::Nothing;
        }
        match backend.find(target) {
            Ok(Some(place)) => live.place = place,
            Ok(None) => return Step::Gone,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, %target, "it cannot be told where it is");
                return Step::Nothing;
            }
        }
        let controls: Vec<ShapedControl> = live.shaping.kept().tracks.iter().map(|track| track.control).collect();
        let mut reading = backend.read(&live.place, &controls);
        reading.reclaim_fell_short = backend.take_reclaimed(&live.place);
        if self.mode != Mode::Enforce {
            as_if_written(&mut reading, &live.shaping);
        }
        let phase = Self::phase(live.following.as_ref(), self.plans.get(target), self.boot_id, now);
        let Decision { write, reclaim_bytes, notes } = live.shaping.step(phase, &reading, &rules, now);
        let is_decaying = matches!(phase, super::controller::Phase::Decay);
        if let Some(bytes) = reclaim_bytes.filter(|_| self.mode == Mode::Enforce) {
            backend.reclaim(&live.place, bytes);
        }
        tell(&notes, target, live, now, outcome);
        let standing = live.shaping.state();
        live.rest = rest_ticks(!is_decaying && standing.controls.iter().all(|one| one.standing == Standing::Reached));
        if is_decaying && write.is_none() && live.shaping.is_at_baseline() {
            return Step::AtBaseline;
        }
        let (plan, place) = (live.plan, live.place.clone());
        if !notes.is_empty() && write.is_none() && self.mode == Mode::Enforce {
            let kept = live.shaping.kept().clone();
            self.conclude(&[Record::Kept { target: target.clone(), kept }]);
        }
        let Some(write) = write else { return Step::Nothing };
        let before = Value::shown_by(reading.actual(write.control));
        Step::Write(Box::new(Due { target: target.clone(), plan, place, write, before }))
    }

    fn write_all(&mut self, due: Vec<Due>, now: Now, outcome: &mut Outcome) {
        if self.mode != Mode::Enforce {
            // What would be written: shown in a dry run, and only thought of in `observe`.
            let shown = due.iter().filter(|_| self.mode == Mode::DryRun);
            outcome.writes.extend(shown.map(|due| self.report(due, None, now)));
            return;
        }
        let mut announced = Vec::new();
        for due in due {
            match self.announcement(&due) {
                Ok(records) => announced.push((due, records)),
                Err(error) => self.not_written(&due, &error, now),
            }
        }
        let records: Vec<Record> = announced.iter().flat_map(|(_, records)| records.clone()).collect();
        if records.is_empty() {
            return;
        }
        if let Err(error) = self.announce(&records) {
            for (due, _) in &announced {
                self.not_written(due, &error, now);
            }
            return;
        }
        let wrote: Vec<Record> = announced.into_iter().map(|(due, _)| self.write_one(&due, now, outcome)).collect();
        self.conclude(&wrote);
    }

    /// What is journaled before a write: its intent, with what an undo puts back, and where the controller stands.
    fn announcement(&mut self, due: &Due) -> Result<Vec<Record>, ShapeError> {
        let control = due.write.control;
        let held = self.held.targets.get(&due.target);
        let is_first = held.is_none_or(|held| !held.priors.contains_key(&control));
        let mut prior: Option<Prior> = match (&mut self.backend, is_first) {
            (Some(backend), true) => {
                Some(backend.prior(&due.target, control, due.before.unwrap_or(Value::Unlimited))?)
            }
            _ => None,
        };
        // Two controls of one drop-in: what stands there now is ours, of the other one.
        if let (Some(prior), Some(held)) = (&mut prior, held)
            && let Some(other) = held.priors.values().find(|other| other.is_beside(prior))
        {
            prior.drop_in.clone_from(&other.drop_in);
        }
        let (target, after) = (due.target.clone(), due.write.value);
        let mut records = vec![Record::Writing { target, control, prior, before: due.before, after }];
        let kept = self.live.get(&due.target).map(|live| live.shaping.kept().clone());
        records.extend(kept.map(|kept| Record::Kept { target: due.target.clone(), kept }));
        Ok(records)
    }

    fn write_one(&mut self, due: &Due, now: Now, outcome: &mut Outcome) -> Record {
        let (control, value) = (due.write.control, due.write.value);
        let (mut actual, mut drop_in, mut refused) = (None, None, None);
        if let Some(backend) = self.backend.as_mut() {
            let before = backend.enabled_above(&due.place);
            refused = backend.write(&due.target, control, value).err();
            actual = read_back(backend.as_ref(), due);
            drop_in = backend.made(&due.target, control);
            if let Some(live) = self.live.get_mut(&due.target) {
                live.above.get_or_insert((before, ABOVE_LOOKS));
            }
        }
        self.tell_above(&due.target, now, outcome);
        match refused {
            Some(error) => self.not_written(due, &error, now),
            None => outcome.writes.push(self.report(due, actual, now)),
        }
        Record::Wrote { target: due.target.clone(), control, actual, drop_in }
    }

    /// Tells which controllers came on above a target since its write: systemd answers first, and turns them on when it can.
    fn tell_above(&mut self, target: &Target, now: Now, outcome: &mut Outcome) {
        let backend_kind = self.kind_of(target);
        let (Some(backend), Some(live)) = (&self.backend, self.live.get_mut(target)) else { return };
        let Some((before, looks)) = live.above.take() else { return };
        let after = backend.enabled_above(&live.place);
        let by = TurnedOnBy { plan: Some(live.plan), backend: backend_kind, at_ms: now.boottime_ms };
        outcome.writes.extend(before.turned_on(after.clone(), by));
        live.above = looks.checked_sub(1).map(|looks| (after, looks));
    }

    fn not_written(&mut self, due: &Due, error: &ShapeError, now: Now) {
        let (target, control) = (&due.target, due.write.control);
        tracing::warn!(error = error as &dyn std::error::Error, %target, %control, "a control was not written");
        if let Some(live) = self.live.get_mut(target) {
            live.shaping.not_written(control, &self.rules, now);
        }
    }

    fn report(&self, due: &Due, actual: Option<Value>, now: Now) -> EnforcementWrite {
        let text = |value: Value| ControlValue::lossy(&shown(value));
        let Write { control, value } = due.write;
        let is_effective = |shown: Value| {
            let backend = self.backend.as_ref();
            agrees(control, value, shown)
                && backend.is_some_and(|backend| backend.takes_effect(&due.target, &due.place, control, shown))
        };
        EnforcementWrite {
            plan: Some(due.plan),
            grant: None,
            cgroup: due.place.cgroup.as_cgroup().clone(),
            backend: self.kind_of(&due.target),
            control: Text::lossy(control.file_name()),
            before: due.before.map(text),
            after: text(value),
            actual: actual.map(text),
            effective: actual.is_some_and(is_effective),
            at_ms: now.boottime_ms,
            dry_run: self.mode != Mode::Enforce,
        }
    }
}

/// What a control shows after a write. systemd answers before it has done it, mostly by a moment.
fn read_back(backend: &dyn Backend, due: &Due) -> Option<Value> {
    let (control, value) = (due.write.control, due.write.value);
    let look = || Value::shown_by(backend.read(&due.place, &[control]).actual(control));
    let mut actual = look();
    for _ in 0..READ_AGAIN {
        if actual.is_none_or(|actual| agrees(control, value, actual)) {
            break;
        }
        std::thread::sleep(READ_AGAIN_AFTER);
        actual = look();
    }
    actual
}

/// Why a target is not found.
fn not_found(target: &Target) -> String {
    match target {
        Target::Unit(_) => format!("{target} does not run"),
        Target::Cgroup(_) => format!("{target} is no group of Quotary's own that is there"),
    }
}

/// What a tick asks of a target.
enum Step {
    Nothing,
    Write(Box<Due>),
    Gone,
    AtBaseline,
}

fn told(error: ShapeError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Where nothing is written, the kernel would show what was decided.
fn as_if_written(reading: &mut Reading, shaping: &Shaping) {
    for one in shaping.state().controls {
        let actual = match one.present {
            Value::Unlimited => Actual::Unlimited,
            Value::Value(value) => Actual::Value(value),
        };
        if reading.actual(one.control) != Actual::Absent {
            reading.actual.insert(one.control, actual);
        }
    }
}

/// A value as it stands in an envelope.
pub(super) fn shown(value: Value) -> String {
    match value {
        Value::Unlimited => "max".to_owned(),
        Value::Value(value) => value.to_string(),
    }
}

/// Whether what was read back is what was asked for.
pub(super) fn agrees(control: ShapedControl, asked: Value, actual: Value) -> bool {
    match (asked, actual) {
        (Value::Value(asked), Value::Value(actual)) => asked.abs_diff(actual) <= control.slack(asked),
        (asked, actual) => asked == actual,
    }
}

fn tell(notes: &[Note], target: &Target, live: &Live, now: Now, outcome: &mut Outcome) {
    let cgroup = live.place.cgroup.as_cgroup();
    for note in notes {
        tracing::info!(plan = %live.plan, %target, control = %note.control(), what = note.code(), detail = ?note, "shaping");
        let kind = match note {
            Note::Held { .. } => EventKind::PlanHeld,
            Note::RolledBack { .. } => EventKind::PlanRolledBack,
            Note::Late { .. } => EventKind::PlanLate,
            Note::GivenUp { .. } => EventKind::PlanGivenUp,
            Note::Contested { .. } => EventKind::Contested,
            Note::AtBaseline { .. } => EventKind::Restored,
            _ => continue,
        };
        outcome.events.push(happened(kind, cgroup, now));
    }
}
