//! What the shaper tells of itself.

use quotary_common::cbor::Text;
use quotary_common::envelope::{BackendKind, ControlState, Support};
use quotary_common::id::PlanId;
use quotary_common::plan::{ShapedControl, Target};

use super::shaper::{Live, Shaper, TargetView};

impl Shaper {
    /// Whether units can be shaped here, and by whom.
    pub fn kind(&self) -> BackendKind {
        self.kind
    }

    /// Who serves a target.
    pub(super) fn kind_of(&self, target: &Target) -> BackendKind {
        self.backend.as_ref().map_or(BackendKind::None, |backend| backend.kind_of(target))
    }

    /// Looks which controls the host has, and tells of those that it has not.
    pub fn look(&mut self) {
        if let Some(backend) = &mut self.backend {
            backend.look();
        }
        for (control, why) in self.why_not() {
            tracing::info!(%control, %why, "a control is not there: it is reported as unsupported");
        }
    }

    /// What each control can do for units here.
    pub fn controls(&self) -> Vec<ControlState> {
        let Some(backend) = &self.backend else { return Vec::new() };
        let state = |control: &ShapedControl| ControlState {
            control: Text::lossy(control.file_name()),
            support: if backend.supports(*control) { Support::Effective } else { Support::Unsupported },
        };
        ShapedControl::ALL.iter().map(state).collect()
    }

    /// The targets that are shaped.
    pub fn targets(&self) -> Vec<TargetView> {
        let one = |(target, live): (&Target, &Live)| TargetView {
            target: target.clone(),
            plan: live.plan,
            backend: self.kind_of(target),
            cgroup: live.place.cgroup.as_cgroup().clone(),
            state: live.shaping.state(),
        };
        self.live.iter().map(one).collect()
    }

    /// When the next of the plans that are given is to be at its target, Unix ms; `None`: all are, or there is none.
    pub fn next_effective_ms(&self, now_unix_ms: u64) -> Option<u64> {
        let all = self.plans.values().map(|plan| plan.checked().plan().effective_at_ms);
        all.filter(|at_ms| *at_ms > now_unix_ms).min()
    }

    /// Plans that are given and that no target follows, with why.
    pub fn not_followed(&self) -> Vec<(Target, PlanId, String)> {
        let given = self.plans.iter().map(|(target, plan)| (target, plan.checked().plan().id));
        let left = given.filter(|(target, id)| self.live.get(*target).is_none_or(|live| live.plan != *id));
        left.map(|(target, id)| {
            let told = self.refused.get(target).filter(|(plan, _)| *plan == id);
            let why = told.map_or_else(|| "it has not begun".to_owned(), |(_, why)| why.clone());
            (target.clone(), id, why)
        })
        .collect()
    }

    /// Controls that the host has not, or not for each target, where it is known why.
    pub fn why_not(&self) -> Vec<(ShapedControl, String)> {
        let Some(backend) = &self.backend else { return Vec::new() };
        ShapedControl::ALL.iter().filter_map(|control| Some((*control, backend.why_not(*control)?))).collect()
    }
}
