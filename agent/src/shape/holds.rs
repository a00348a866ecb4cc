//! What a grant needs of whoever owns the cgroup of its processes: the half of the backend's door that the enforcer uses.

use quotary_common::envelope::{ControlValue, Name};
use quotary_common::id::GrantId;
use quotary_common::plan::{ShapedControl, Target};

use super::ShapeError;
use super::above::Above;
use crate::enforce::controls::{Knob, Setting};
use crate::enforce::direct::Enabling;
use crate::enforce::group::GroupPath;
use crate::enforce::probe::Mount;

/// The slice in which the scopes of grants stand, where systemd owns the tree.
pub const SLICE: &str = "quotary.slice";
/// How the names of our scopes begin.
const SCOPE_HEAD: &str = "quotary-";
const SCOPE_TAIL: &str = ".scope";

/// The scope of a grant: `/quotary.slice/quotary-` and the first 26 characters of the grant's base32 form.
pub fn scope_of_grant(grant: &GrantId) -> Option<GroupPath> {
    let shown = grant.to_string();
    let short = shown.split_once('-').map_or(shown.as_str(), |(_, short)| short);
    GroupPath::parse(&format!("/{SLICE}/{SCOPE_HEAD}{short}{SCOPE_TAIL}"))
}

/// What holds a group of a grant, by where it stands: one of our scopes is systemd's, everything else ours.
pub fn target_of(group: &GroupPath) -> Target {
    let unit = scope_in(group).and_then(Name::new);
    unit.map_or_else(|| Target::Cgroup(group.as_cgroup().clone()), Target::Unit)
}

/// Whether a group is one of our scopes.
pub fn is_scope(group: &GroupPath) -> bool {
    scope_in(group).is_some()
}

/// Whether a unit is named as one of our scopes is.
pub fn is_scope_name(unit: &str) -> bool {
    unit.starts_with(SCOPE_HEAD) && unit.ends_with(SCOPE_TAIL)
}

/// Where a unit of ours stands.
pub(super) fn group_of_scope(target: &Target) -> Option<GroupPath> {
    match target {
        Target::Unit(unit) if is_scope_name(unit.as_str()) => GroupPath::parse(&format!("/{SLICE}/{unit}")),
        Target::Unit(_) | Target::Cgroup(_) => None,
    }
}

fn scope_in(group: &GroupPath) -> Option<&str> {
    let unit = group.relative().strip_prefix(SLICE)?.strip_prefix('/')?;
    (!unit.contains('/') && is_scope_name(unit)).then_some(unit)
}

/// Whether a plan that moves a control moves what a grant sets by a knob.
pub fn is_moved_by(knob: Knob, control: ShapedControl) -> bool {
    use crate::enforce::controls::Control;
    match knob.control {
        Control::CpuShares | Control::CpuWeight => {
            matches!(control, ShapedControl::CpuWeight | ShapedControl::CpuIdle)
        }
        Control::CpuPeriod | Control::CpuQuota | Control::CpuMax => control == ShapedControl::CpuQuota,
        Control::MemorySoftLimit | Control::MemoryHigh => control == ShapedControl::MemoryHigh,
        Control::MemoryLow => control == ShapedControl::MemoryLow,
        Control::DiskReadThrottle => control == ShapedControl::IoReadMax,
        Control::DiskWriteThrottle => control == ShapedControl::IoWriteMax,
        Control::DiskMax => matches!(control, ShapedControl::IoReadMax | ShapedControl::IoWriteMax),
    }
}

/// Whether a group is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is.
    Now,
    /// It comes about when the first process enters: a scope cannot be without one.
    WithFirst,
}

/// Where a process is to go back to, by mount.
pub type Home<'a> = &'a dyn Fn(u32, &Mount) -> Option<GroupPath>;

/// Holds the processes of grants, and their limits. What only looks says what the cgroup tree shows, whoever owns it.
///
/// A backend that only moves what others hold implements nothing of it: it holds nobody.
pub trait Holds {
    /// Whether the target is there.
    fn has(&self, _: &Target) -> bool {
        false
    }

    /// Whether no process is in it or below it. One that is not there is empty.
    ///
    /// # Errors
    /// [`ShapeError`] when that cannot be told: then somebody may be in it.
    fn is_empty(&self, _: &Target) -> Result<bool, ShapeError> {
        Ok(true)
    }

    /// What a control of it shows, in the kernel's own form.
    ///
    /// # Errors
    /// [`ShapeError`] when it cannot be read.
    fn show(&self, target: &Target, _: Knob) -> Result<Option<ControlValue>, ShapeError> {
        Err(nobody(target))
    }

    /// Whether a group above holds a stricter limit than `value`, so that `value` is not what takes effect.
    fn is_bounded_above(&self, _: &Target, _: Knob, _: &ControlValue) -> bool {
        false
    }

    /// Which controllers the children of the groups above the target have.
    fn above(&self, _: &Target) -> Above {
        Above::default()
    }

    /// Controllers that must be turned on for the groups below `parent`, where that is ours to do.
    fn to_enable(&self, _: &GroupPath) -> Vec<Enabling> {
        Vec::new()
    }

    /// Turns them on, and gives what is on then.
    ///
    /// # Errors
    /// [`ShapeError`] when the kernel refuses.
    fn enable(&mut self, _: &Enabling) -> Result<Option<ControlValue>, ShapeError> {
        Ok(None)
    }

    /// Makes the target, if its owner lets it be without a process.
    ///
    /// # Errors
    /// [`ShapeError`] when it is not there afterwards.
    fn make(&mut self, target: &Target) -> Result<Made, ShapeError> {
        Err(nobody(target))
    }

    /// Moves a process into it. `about` says for people what it is.
    ///
    /// # Errors
    /// [`ShapeError`]; the process may be in it all the same: see [`Holds::take_back`].
    fn enter(&mut self, target: &Target, _: u32, _: &str) -> Result<(), ShapeError> {
        Err(nobody(target))
    }

    /// Takes a process out again that must not be in it.
    ///
    /// # Errors
    /// [`ShapeError`] when it is still in it. That the process is gone is none.
    fn take_back(&mut self, _: &Target, _: u32, _: Home<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    /// Whether a value can be set now. Where memory has to be given back first that begins by this, and it is asked again.
    fn is_ready(&mut self, _: &Target, _: &Setting) -> bool {
        true
    }

    /// Sets a control.
    ///
    /// # Errors
    /// [`ShapeError`] when it was not taken.
    fn set(&mut self, target: &Target, _: &Setting) -> Result<(), ShapeError> {
        Err(nobody(target))
    }

    /// Ends it: its processes are without its limits afterwards, wherever they are, and nothing of it is left that could
    /// limit them again. `values` are what its controls had at first, `yielded` what we last set where another writer has
    /// changed it since: that writer's value stays, unless its owner would bring ours back.
    ///
    /// # Errors
    /// [`ShapeError`] when something is left: to be tried again.
    fn take_down(&mut self, _: &Target, _: &[Setting], _: &[Setting], _: Home<'_>) -> Result<(), ShapeError> {
        Ok(())
    }

    /// Removes the parent of groups of ours if nobody uses it.
    ///
    /// # Errors
    /// [`ShapeError`] when it is in use, or cannot be removed.
    fn remove_parent(&mut self, _: &GroupPath) -> Result<(), ShapeError> {
        Ok(())
    }
}

fn nobody(target: &Target) -> ShapeError {
    ShapeError::Nobody { target: target.to_string() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_our_scopes_are_systemds() {
        let scope = scope_of_grant(&GrantId::new([7; 32])).unwrap();
        assert_eq!(scope.parts().nth(1).unwrap().len(), "quotary-".len() + 26 + ".scope".len());
        let target = target_of(&scope);
        assert!(matches!(&target, Target::Unit(unit) if is_scope_name(unit.as_str())));
        assert_eq!(group_of_scope(&target), Some(scope));
        for other in
            ["/quotary/run-a", "/quotary.slice/a.scope", "/x/quotary-a.scope", "/quotary.slice/a/quotary-b.scope"]
        {
            let group = GroupPath::parse(other).unwrap();
            assert_eq!(target_of(&group), Target::Cgroup(group.as_cgroup().clone()), "{other}");
            assert!(!is_scope(&group));
        }
        assert_eq!(group_of_scope(&Target::Unit(Name::lossy("web.service"))), None);
    }
}
