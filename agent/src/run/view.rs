//! What root is shown, and the figures behind it.

use std::collections::VecDeque;
use std::time::Duration;

use quotary_common::id::PlanId;
use quotary_common::plan::{ShapedControl, Target};
use quotary_common::quorum::authority::Authority;
use quotary_common::wire::{
    self, PinnedAuthority, PlanNotFollowed, ShapedControlView, ShapedTarget, UnsupportedControl,
};

use crate::shape::TargetView;
use crate::shape::controller::{ControlState, Standing, Value};

/// How many figures are kept.
const FIGURES_MAX: usize = 1024;

/// The last figures of a kind, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<u64>);

impl Ring {
    /// Adds one; the oldest goes where there are too many.
    pub(super) fn add(&mut self, value: u64) {
        if self.0.len() >= FIGURES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Adds a duration in microseconds.
    pub(super) fn add_duration(&mut self, value: Duration) {
        self.add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }

    /// All, oldest first.
    pub(super) fn to_vec(&self) -> Vec<u64> {
        self.0.iter().copied().collect()
    }
}

/// How the agent fares.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) quote_us: Ring,
    pub(super) request_to_enforced_us: Ring,
    pub(super) sequence: u64,
    pub(super) accepted_at_ms: Option<u64>,
    pub(super) last_refusal: Option<wire::Error>,
    /// An alarm about the audit log, until a checkpoint follows again.
    pub(super) alarm: Option<String>,
}

/// A target as root is shown it.
pub(super) fn shaped(view: &TargetView) -> ShapedTarget {
    ShapedTarget {
        target: view.target.clone(),
        plan: view.plan,
        id: view.plan.to_string(),
        backend: view.backend,
        cgroup: view.cgroup.as_str().to_owned(),
        held_ms: view.state.held_ms,
        controls: view.state.controls.iter().map(control).collect(),
    }
}

fn control(state: &ControlState) -> ShapedControlView {
    let limit = |value| match value {
        Value::Unlimited => None,
        Value::Value(value) => Some(value),
    };
    let by = match state.standing {
        Standing::Held { by, .. } | Standing::GivenUp { by } => Some(by.code().to_owned()),
        _ => None,
    };
    ShapedControlView {
        control: state.control,
        unit: state.control.unit().to_owned(),
        standing: state.standing.code().to_owned(),
        by,
        present: limit(state.present),
        setpoint: state.setpoint,
        target: state.target,
        baseline: limit(state.baseline),
        late_by_ms: state.late_by_ms,
    }
}

/// A plan that is not followed, as root is shown it.
pub(super) fn not_followed((target, plan, why): &(Target, PlanId, String)) -> PlanNotFollowed {
    PlanNotFollowed { target: target.clone(), plan: *plan, id: plan.to_string(), why: why.clone() }
}

/// Who decides, as root is shown it.
pub(super) fn pinned(authority: &Authority) -> PinnedAuthority {
    PinnedAuthority { number: authority.number, roster: authority.roster, rules: authority.rules }
}

/// A control that the host has not, as root is shown it.
pub(super) fn unsupported((control, why): &(ShapedControl, String)) -> UnsupportedControl {
    UnsupportedControl { control: *control, why: why.clone() }
}

#[cfg(test)]
mod tests {
    use quotary_common::envelope::{BackendKind, CgroupPath, Name};

    use super::*;
    use crate::shape::controller::{Cause, State};

    #[test]
    fn a_target_is_shown_with_what_holds_it_and_where_there_is_no_limit() {
        let held = ControlState {
            control: ShapedControl::MemoryHigh,
            standing: Standing::Held { since_boottime_ms: 7, by: Cause::MemoryPressure },
            baseline: Value::Unlimited,
            present: Value::Value(300),
            setpoint: Some(250),
            target: Some(200),
            late_by_ms: Some(5),
        };
        let back = ControlState {
            control: ShapedControl::CpuWeight,
            standing: Standing::Decaying,
            baseline: Value::Value(100),
            present: Value::Value(60),
            setpoint: None,
            target: None,
            late_by_ms: None,
        };
        let view = shaped(&TargetView {
            target: Target::Unit(Name::lossy("web.service")),
            plan: PlanId::new([1; 32]),
            backend: BackendKind::Systemd,
            cgroup: CgroupPath::lossy("/system.slice/web.service"),
            state: State { controls: vec![held, back], held_ms: 9 },
        });
        assert_eq!((view.id.as_str(), view.held_ms), (PlanId::new([1; 32]).to_string().as_str(), 9));
        let figures = |one: &ShapedControlView| (one.baseline, one.present, one.setpoint, one.target, one.late_by_ms);
        let words = |one: &ShapedControlView| (one.standing.clone(), one.by.clone());
        let [memory, weight] = view.controls.as_slice() else { unreachable!("two controls") };
        assert_eq!(figures(memory), (None, Some(300), Some(250), Some(200), Some(5)));
        assert_eq!(words(memory), ("held".to_owned(), Some("memory-pressure".to_owned())));
        assert_eq!(figures(weight), (Some(100), Some(60), None, None, None));
        assert_eq!(words(weight), ("decaying".to_owned(), None));
    }

    #[test]
    fn a_ring_keeps_the_newest() {
        let mut ring = Ring::default();
        (0..2_000).for_each(|n| ring.add(n));
        let kept = ring.to_vec();
        assert_eq!((kept.len(), kept.first(), kept.last()), (1024, Some(&976), Some(&1999)));
    }
}
