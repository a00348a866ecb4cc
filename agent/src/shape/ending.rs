//! The end of shaping: everything of a target is put back.

use quotary_common::cbor::Text;
use quotary_common::envelope::{ControlValue, EnforcementWrite, EventKind};
use quotary_common::plan::{ShapedControl, Target};

use super::ShapeError;
use super::backend::{Prior, Undo, outlives_boot};
use super::controller::{Now, Value};
use super::moving::{agrees, shown};
use super::record::{HeldTarget, Record};
use super::shaper::{Shaper, happened};
use crate::enforce::Outcome;

/// What could not be put back is tried again after so long, and at last after so long, ms.
const UNDO_WAIT_MS: u64 = 2_000;
const UNDO_WAIT_MS_MAX: u64 = 60_000;

/// What stood there before was a grant's value, and the grant is over: no limit stands there instead.
fn to_nothing(undo: Undo) -> Undo {
    let value = match undo.control {
        ShapedControl::CpuWeight | ShapedControl::IoWeight => Value::Value(100),
        ShapedControl::CpuIdle | ShapedControl::MemoryLow => Value::Value(0),
        _ => Value::Unlimited,
    };
    Undo { prior: Prior { value, drop_in: None, ..undo.prior }, ..undo }
}

impl Shaper {
    /// Ends targets: what stood before the first write of each control stands again, but where another writer's value
    /// stands. What cannot be put back stays in the journal, is told when it is done, and is tried again.
    pub(super) fn end_all(&mut self, targets: &[Target], now: Now, event: Option<EventKind>) -> Outcome {
        let mut outcome = Outcome::default();
        if targets.is_empty() {
            return outcome;
        }
        let known: Vec<(Target, HeldTarget)> = targets
            .iter()
            .filter_map(|target| Some((target.clone(), self.held.targets.get(target)?.clone())))
            .collect();
        for target in targets {
            self.live.remove(target);
        }
        let of = |(target, held): &(Target, HeldTarget)| {
            let is_left_over = self.is_left_over(target);
            held.undos(target).into_iter().map(move |undo| if is_left_over { to_nothing(undo) } else { undo })
        };
        let undos: Vec<Undo> = known.iter().flat_map(of).collect();
        let ending = known.iter().filter(|(_, held)| !held.priors.is_empty() && !held.is_ending);
        let ending: Vec<Record> = ending.map(|(target, _)| Record::Ending { target: target.clone() }).collect();
        if !ending.is_empty() {
            self.undo_announced(&ending);
        }
        let failed = match (&mut self.backend, undos.is_empty()) {
            (_, true) => Vec::new(),
            (Some(backend), false) => backend.undo(undos.clone()),
            (None, false) => {
                tracing::error!("there is nobody to be asked: what was set stays until the next boot");
                return outcome;
            }
        };
        for (undo, error) in &failed {
            let (target, control) = (&undo.target, undo.control);
            tracing::error!(error = error as &dyn std::error::Error, %target, %control, "not put back: it is tried again");
        }
        let mut records = Vec::new();
        for undo in undos.iter().filter(|undo| !failed.iter().any(|(other, _)| other == *undo)) {
            records.push(Record::Undone { target: undo.target.clone(), control: undo.control });
        }
        for (target, held) in &known {
            if failed.iter().any(|(undo, _)| undo.target == *target) {
                self.undo_later(target, now);
                continue;
            }
            self.undo_again.remove(target);
            records.push(Record::Ended { target: target.clone() });
            tracing::info!(plan = %held.plan, %target, "shaping ends: what was before is put back");
            outcome.events.extend(event.map(|kind| happened(kind, &held.cgroup, now)));
            outcome.writes.extend(self.put_back(target, held, now));
        }
        self.undo_announced(&records);
        outcome
    }

    /// Something of a target could not be put back: it is tried again after a wait that doubles.
    fn undo_later(&mut self, target: &Target, now: Now) {
        let waited_ms = self.undo_again.get(target).map_or(0, |(_, wait_ms)| *wait_ms);
        let wait_ms = waited_ms.saturating_mul(2).clamp(UNDO_WAIT_MS, UNDO_WAIT_MS_MAX);
        self.undo_again.insert(target.clone(), (now.boottime_ms.saturating_add(wait_ms), wait_ms));
    }

    /// Ends a target of a boot before: nothing is left of it but what outlives a boot, and that is put back.
    pub(super) fn end_from_before(&mut self, target: &Target) {
        let undos = self.held.targets.get(target).map(|held| held.undos(target)).unwrap_or_default();
        let (lasting, gone): (Vec<Undo>, Vec<Undo>) = undos.into_iter().partition(|undo| outlives_boot(undo.control));
        let failed = match &mut self.backend {
            Some(backend) if !lasting.is_empty() => backend.undo(lasting),
            _ => lasting.into_iter().map(|undo| (undo.clone(), ShapeError::Unsupported(undo.control))).collect(),
        };
        for (undo, error) in &failed {
            let (target, control) = (&undo.target, undo.control);
            tracing::error!(error = error as &dyn std::error::Error, %target, %control, "not put back: it is tried again");
        }
        if failed.is_empty() {
            self.undo_announced(&[Record::Ended { target: target.clone() }]);
        } else {
            let undone = |undo: Undo| Record::Undone { target: undo.target, control: undo.control };
            let records: Vec<Record> = gone.into_iter().map(undone).collect();
            self.undo_announced(&records);
        }
    }

    /// What stands there now, as the envelope tells it.
    fn put_back(&mut self, target: &Target, held: &HeldTarget, now: Now) -> Vec<EnforcementWrite> {
        let kind = self.kind_of(target);
        let Some(backend) = self.backend.as_mut() else { return Vec::new() };
        let Some(place) = backend.find(target).ok().flatten() else { return Vec::new() };
        let is_ours = |undo: &Undo| !undo.is_contested;
        let controls: Vec<_> =
            held.undos(target).iter().filter(|undo| is_ours(undo)).map(|undo| undo.control).collect();
        let reading = backend.read(&place, &controls);
        let text = |value: Value| ControlValue::lossy(&shown(value));
        let one = |control| {
            let prior = held.priors.get(control)?;
            let actual = Value::shown_by(reading.actual(*control));
            let before = held.written.get(control).and_then(|step| step.actual.or(Some(step.setpoint)));
            Some(EnforcementWrite {
                plan: Some(held.plan),
                grant: None,
                cgroup: held.cgroup.clone(),
                backend: kind,
                control: Text::lossy(control.file_name()),
                before: before.map(text),
                after: text(prior.value),
                actual: actual.map(text),
                effective: actual.is_some_and(|actual| {
                    agrees(*control, prior.value, actual) && backend.takes_effect(target, &place, *control, actual)
                }),
                at_ms: now.boottime_ms,
                dry_run: false,
            })
        };
        controls.iter().filter_map(one).collect()
    }
}
