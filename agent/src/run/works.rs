//! What the enforcement thread owns, and how it carries out an order: grants in groups of our own, plans in units, and the
//! switch that ends both.

use std::collections::BTreeSet;
use std::path::PathBuf;

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{Backend, BackendKind, CgroupPath, Hierarchy, Mode};
use quotary_common::id::{BootId, GrantId};
use quotary_common::plan::Target;

use super::enforcement::{Can, Done, EnforcementError, Enrolment, Holding, Order, Shaped};
use crate::clock;
use crate::enforce::{Config, Enforcer, Outcome};
use crate::shape::controller::Now;
use crate::shape::{self, Shaper, TargetView};

/// Names that are told of what could not be put back.
const LEFT_TOLD_MAX: usize = 100;

/// Enforcer and shaper.
pub(super) struct Works {
    pub(super) enforcer: Enforcer,
    shaper: Shaper,
    /// While this file is there, nothing is enforced.
    switch: PathBuf,
    is_off: bool,
}

/// What came of putting back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutBack {
    /// Grants of which nothing is left.
    pub grants: u64,
    /// Units and groups that plans moved and that have their own values again.
    pub targets: u64,
    /// What could not be put back: grants, units and groups, by name; of very many the first.
    pub left: Vec<String>,
}

impl PutBack {
    fn of(outcome: &Outcome, ending: Vec<GrantId>, left: Vec<(Target, CgroupPath)>) -> Self {
        let grants = outcome.ended.iter().filter(|(grant, _)| !ending.contains(grant)).count() as u64;
        let written = outcome.writes.iter().filter(|write| write.plan.is_some() && !write.dry_run);
        let is_left = |cgroup: &CgroupPath| left.iter().any(|(_, other)| other == cgroup);
        let targets: BTreeSet<_> = written.map(|write| &write.cgroup).filter(|cgroup| !is_left(cgroup)).collect();
        let targets = targets.len() as u64;
        let of_grants = ending.iter().map(|grant| format!("grant {grant}"));
        let of_plans = left.iter().map(|(target, _)| target.to_string());
        Self { grants, targets, left: of_grants.chain(of_plans).take(LEFT_TOLD_MAX).collect() }
    }
}

fn now() -> Now {
    Now { unix_ms: clock::unix_ms(), boottime_ms: clock::boottime_ms() }
}

impl Works {
    /// Opens both: what a running lease covers stays, the rest is put back.
    pub(super) fn open(
        config: Config,
        shape: shape::Config,
        switch: PathBuf,
        boot_id: BootId,
    ) -> Result<(Self, Outcome), EnforcementError> {
        let now = now();
        let (enforcer, mut outcome) = Enforcer::open(config, boot_id, now.boottime_ms)?;
        // Where the host lets nothing be enforced, units are not written either.
        let mode = if shape.mode == Mode::Enforce { enforcer.mode() } else { shape.mode };
        let grants = enforcer.for_plans();
        let (shaper, shaped) = Shaper::open(shape::Config { mode, grants, ..shape }, boot_id, now)?;
        outcome.append(shaped);
        Ok((Self { enforcer, shaper, switch, is_off: false }, outcome))
    }

    /// Looks which controls the host has.
    pub(super) fn look(&mut self) {
        self.shaper.look();
    }

    /// What can be enforced now, and what not.
    pub(super) fn can(&self) -> Can {
        Can { backend: self.backend(), unsupported: self.shaper.why_not() }
    }

    /// How the envelope describes enforcement: who writes, and what each control can do.
    fn backend(&self) -> Backend {
        let mut backend = self.enforcer.backend();
        if self.shaper.kind() == BackendKind::Systemd {
            backend.kind = self.shaper.kind();
        }
        let mut controls = std::mem::take(&mut backend.controls).into_vec();
        // On version 1 the enforcer knows its files by their own names.
        let more = if backend.hierarchy == Hierarchy::V1 { Vec::new() } else { self.shaper.controls() };
        for more in more {
            match controls.iter_mut().find(|known| known.control == more.control) {
                Some(known) => *known = more,
                None => controls.push(more),
            }
        }
        Backend { controls: Bounded::truncating(controls).0, ..backend }
    }

    /// Whether the kill switch was set or taken away since the last look.
    pub(super) fn look_at_switch(&mut self) -> Option<(Done, Outcome)> {
        let is_off = self.is_switch_set();
        if is_off == self.is_off {
            return None;
        }
        self.is_off = is_off;
        if is_off {
            tracing::warn!(file = %self.switch.display(), "the kill switch is set: everything is put back");
            return Some((Done::Switched { is_off }, self.restore_all()));
        }
        tracing::warn!(file = %self.switch.display(), "the kill switch is gone: the next grant set is applied again");
        Some((Done::Switched { is_off }, Outcome::default()))
    }

    /// Whether the kill switch is set.
    pub(super) fn is_switch_set(&self) -> bool {
        // A link counts as well, wherever it leads: whoever made it meant it.
        std::fs::symlink_metadata(&self.switch).is_ok()
    }

    /// What came of putting back everything: an outcome of [`Works::restore_all`], and of what was ended before.
    pub(super) fn tell_all(&self, outcome: &Outcome) -> PutBack {
        PutBack::of(outcome, self.enforcer.ending(), self.shaper.held())
    }

    /// What came of putting back what no lease covers, which opening did.
    pub(super) fn tell_ended(&self, outcome: &Outcome) -> PutBack {
        PutBack::of(outcome, self.enforcer.ending(), self.shaper.held_without_lease(now()))
    }

    /// Puts back the state before Quotary.
    pub(super) fn restore_all(&mut self) -> Outcome {
        let now = now();
        let mut outcome = self.enforcer.restore_all(now.boottime_ms);
        // Grants first: what a plan then puts back in a scope is no grant's value any more.
        self.shaper.note_grants(self.enforcer.for_plans());
        outcome.append(self.shaper.restore_all(now));
        outcome
    }

    /// Carries out an order.
    pub(super) fn carry_out(&mut self, order: Order) -> (Done, Outcome) {
        let now = now();
        let now_ms = now.boottime_ms;
        let enforcer = &mut self.enforcer;
        match order {
            Order::Tick => {
                let mut outcome = enforcer.tick(now_ms);
                self.shaper.note_grants(enforcer.for_plans());
                outcome.append(self.shaper.tick(now));
                let moved = |view: TargetView| {
                    (view.cgroup, view.state.controls.iter().map(|control| control.control).collect())
                };
                enforcer.leave_to_plans(self.shaper.targets().into_iter().map(moved).collect());
                (Done::Ticked, outcome)
            }
            Order::Enrol(Enrolment { deployment, epoch, is_new }) => {
                let begin = if is_new { Enforcer::begin_enrolment } else { Enforcer::resume_enrolment };
                (Done::Enrolled, begin(enforcer, deployment, epoch, now_ms))
            }
            Order::Apply { set, .. } if self.is_off => (Done::Applied(set), Outcome::default()),
            Order::Apply { set, plans, askers, trust } => {
                let mut outcome = enforcer.apply(&set, &askers, now_ms);
                self.shaper.note_trust(*trust, &plans, now);
                self.shaper.note_grants(enforcer.for_plans());
                outcome.append(self.shaper.take(plans, now));
                (Done::Applied(set), outcome)
            }
            Order::Enter { grant, pid, start_time_ticks, uid, reply } => {
                let (result, outcome) = match enforcer.enter(&grant, pid, start_time_ticks, uid, now_ms) {
                    Ok(outcome) => (Ok(()), outcome),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, %grant, pid, "a process was not moved");
                        (Err(error.refusal()), Outcome::default())
                    }
                };
                (Done::Entered { grant, result, reply }, outcome)
            }
            Order::Release { grants, reply } => {
                let mut outcome = Outcome::default();
                for grant in grants {
                    // What is not held (any more) needs no release.
                    if let Ok(released) = enforcer.release(&grant, now_ms) {
                        outcome.append(released);
                    }
                }
                (Done::Released { reply }, outcome)
            }
            Order::RestoreAll { reply } => {
                let outcome = self.restore_all();
                (Done::Restored { put_back: self.tell_all(&outcome), reply }, outcome)
            }
            // Taken before; it has no report.
            Order::Stop { .. } => (Done::Ticked, Outcome::default()),
        }
    }

    /// What is held after an order.
    pub(super) fn holding(&self, shaped: Shaped) -> Holding {
        let enforcer = &self.enforcer;
        let held: Vec<_> = enforcer.held().into_iter().map(|grant| (grant, enforcer.lease(&grant))).collect();
        let owners = held.iter().filter_map(|(grant, _)| Some((*grant, enforcer.owner(grant)?))).collect();
        Holding { held, owners, groups: enforcer.groups(), shaped }
    }

    /// What came of the plans.
    pub(super) fn shaped(&self) -> Shaped {
        let (targets, not_followed) = (self.shaper.targets(), self.shaper.not_followed());
        Shaped {
            targets,
            not_followed,
            can: Some(self.can()),
            in_force: self.shaper.texts_in_force(),
            next_effective_ms: self.shaper.next_effective_ms(now().unix_ms),
        }
    }
}
