//! Whether people decided that a plan may move its target: what [`crate::authority`] is asked, and what it is shown.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::Digest;
use quotary_common::plan::{CheckedPlan, ShapedControl, Target, VerifiedPlan};

use super::backend::Place;
use super::controller::{Actual, Now, Reading, Value};
use super::shaper::Shaper;
use crate::authority::{Objection, Seen, Trust};

/// How fast people let controls be tightened, thousandths of their units per second.
pub(super) type Slews = BTreeMap<ShapedControl, u64>;

/// For so long after its start the agent brings back what was in force before as fast as it can, ms.
const AGAIN_WITHIN_MS: u64 = 600_000;

/// Why a plan is not begun, in a sentence.
pub(super) enum NotBegun {
    /// Time alone may mend it: nobody is told.
    Waits(String),
    /// It is refused.
    Refused(String),
}

impl From<String> for NotBegun {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<&str> for NotBegun {
    fn from(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl From<Objection> for NotBegun {
    fn from(objection: Objection) -> Self {
        if objection.waits() { Self::Waits(objection.to_string()) } else { Self::Refused(objection.to_string()) }
    }
}

impl Shaper {
    /// Takes note of whom this host believes, and of the plans that come with it, before they are taken.
    pub fn note_trust(&mut self, trust: Trust, plans: &[VerifiedPlan], now: Now) {
        self.judge.given(trust, plans.iter().map(VerifiedPlan::checked), now.unix_ms);
    }

    /// The texts of the quorum decisions that are in force here.
    pub fn texts_in_force(&self) -> BTreeSet<Digest> {
        self.judge.texts_in_force()
    }

    /// Whether a plan may begin. `is_first`: nothing of Quotary's moves its target yet.
    pub(super) fn permits_begin(
        &mut self,
        plan: &CheckedPlan,
        place: &Place,
        reading: &Reading,
        is_first: bool,
        now: Now,
    ) -> Result<Slews, Objection> {
        let controls = plan.controls().filter_map(|control| match reading.actual(control) {
            Actual::Value(value) => Some((control, value)),
            _ => None,
        });
        let present: BTreeMap<ShapedControl, u64> = controls.collect();
        let from = if is_first { from_present(plan, &present) } else { from_its_line(plan) };
        let mut stood = present.clone();
        for (control, prior) in self.held.targets.get(&plan.plan().target).into_iter().flat_map(|held| &held.priors) {
            match prior.value {
                Value::Value(value) => stood.insert(*control, value),
                Value::Unlimited => stood.remove(control),
            };
        }
        let seen = self.seen(plan, place, [present, from, stood]);
        let permit = self.judge.permits(plan, &seen, now.unix_ms)?;
        // After a start what was in force before it holds again at once.
        let is_again = permit.is_of_before
            && !self.live.contains_key(&plan.plan().target)
            && now.boottime_ms.saturating_sub(self.opened_boottime_ms) < AGAIN_WITHIN_MS;
        Ok(if is_again { Slews::new() } else { permit.slews })
    }

    /// Judges whatever is live again, with each reply: a policy may have come into force, or a plan have changed under its
    /// name. What is given again is followed then; gives what must end.
    pub(super) fn judge_live(&mut self, given: &BTreeMap<Target, VerifiedPlan>, now: Now) -> Vec<Target> {
        let mut over = Vec::new();
        let targets: Vec<Target> = self.live.keys().cloned().collect();
        for target in targets {
            let Some(live) = self.live.get(&target) else { continue };
            let again =
                given.get(&target).map(VerifiedPlan::checked).filter(|plan| plan.plan().id == live.plan).cloned();
            let Some(plan) = again.clone().or_else(|| live.following.clone()) else { continue };
            let controls = live.shaping.state().controls;
            let present = values(controls.iter().map(|one| (one.control, one.present)));
            let stood = values(controls.iter().map(|one| (one.control, one.baseline)));
            let seen = self.seen(&plan, &live.place, [present, from_its_line(&plan), stood]);
            match self.judge.permits(&plan, &seen, now.unix_ms) {
                Ok(permit) => {
                    if let Some(live) = self.live.get_mut(&target).filter(|_| again.is_some()) {
                        let before = live.following.as_ref().map(|plan| &plan.plan().decision);
                        if before != Some(&plan.plan().decision) {
                            live.slews = permit.slews;
                        }
                        live.following = again;
                    }
                }
                Err(objection) if objection.waits() => {}
                Err(objection) => {
                    tracing::warn!(plan = %plan.plan().id, %target, why = %objection, "a plan is followed no more");
                    over.push(target);
                }
            }
        }
        over
    }

    /// Notes that a plan waits, for whoever asks.
    pub(super) fn note_wait(&mut self, target: &Target, why: String) {
        if let Some(plan) = self.plans.get(target).map(|plan| plan.checked().plan().id) {
            self.refused.insert(target.clone(), (plan, why));
        }
    }

    fn seen(
        &self,
        plan: &CheckedPlan,
        place: &Place,
        [present, from, stood]: [BTreeMap<ShapedControl, u64>; 3],
    ) -> Seen {
        let cgroup = place.cgroup.as_cgroup().clone();
        let unit = match &plan.plan().target {
            Target::Unit(unit) if place.is_unit => Some(unit.clone()),
            Target::Unit(_) | Target::Cgroup(_) => None,
        };
        // What stands below a grant's group is the grant's too.
        let is_within = |group: &str| {
            let below = cgroup.as_str().strip_prefix(group);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        let uid = self.grants.uids.iter().find(|(group, _)| is_within(group.as_str())).map(|(_, uid)| *uid);
        Seen { unit, cgroup, uid, present, from, stood }
    }
}

/// Those that are limited.
fn values(controls: impl Iterator<Item = (ShapedControl, Value)>) -> BTreeMap<ShapedControl, u64> {
    let value = |present| match present {
        Value::Value(value) => Some(value),
        Value::Unlimited => None,
    };
    controls.filter_map(|(control, present)| Some((control, value(present)?))).collect()
}

/// Where a plan's first step begins: at what is there, but for what rounding in the kernel makes of it. Going back to more
/// than is there takes no time: a slew is there for what tightens.
fn from_present(plan: &CheckedPlan, present: &BTreeMap<ShapedControl, u64>) -> BTreeMap<ShapedControl, u64> {
    let first = first_setpoints(plan).filter_map(|(control, first)| {
        let stands = *present.get(&control)?;
        if control.is_tighter_when_less() && first >= stands {
            return Some((control, first));
        }
        let slack = control.slack(stands);
        Some((control, first.clamp(stands.saturating_sub(slack), stands.saturating_add(slack))))
    });
    first.collect()
}

/// One that goes on, or takes another one's place, goes on from wherever that one's line, or pressure, has left it: between
/// here and its first setpoint the host's own rules say how fast.
fn from_its_line(plan: &CheckedPlan) -> BTreeMap<ShapedControl, u64> {
    first_setpoints(plan).collect()
}

fn first_setpoints(plan: &CheckedPlan) -> impl Iterator<Item = (ShapedControl, u64)> + '_ {
    plan.plan().courses.iter().filter_map(|course| Some((course.control, course.setpoints.first()?.value)))
}
