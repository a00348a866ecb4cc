//! Groups of our own: what runs under a grant, where nobody else owns the tree.

use quotary_common::envelope::ControlValue;
use quotary_common::plan::Target;

use super::ShapeError;
use super::groups::Groups;
use super::holds::{Holds, Home, Made};
use crate::enforce::controls::{Knob, Setting};
use crate::enforce::direct::Enabling;
use crate::enforce::group::GroupPath;

/// The group, wherever it stands: the configured parent may have changed since it was made.
pub(super) fn group_of(target: &Target) -> Result<GroupPath, ShapeError> {
    let group = match target {
        Target::Cgroup(path) => GroupPath::parse(path.as_str()),
        Target::Unit(_) => None,
    };
    group.ok_or_else(|| ShapeError::Nobody { target: target.to_string() })
}

impl Holds for Groups {
    fn has(&self, target: &Target) -> bool {
        group_of(target).is_ok_and(|group| self.held.exists(&group))
    }

    fn is_empty(&self, target: &Target) -> Result<bool, ShapeError> {
        Ok(self.held.is_empty(&group_of(target)?)?)
    }

    fn show(&self, target: &Target, knob: Knob) -> Result<Option<ControlValue>, ShapeError> {
        Ok(self.held.read(&group_of(target)?, knob)?)
    }

    fn is_bounded_above(&self, target: &Target, knob: Knob, value: &ControlValue) -> bool {
        group_of(target).is_ok_and(|group| self.held.is_bounded_above(&group, knob, value))
    }

    fn to_enable(&self, parent: &GroupPath) -> Vec<Enabling> {
        self.held.to_enable(parent)
    }

    fn enable(&mut self, enabling: &Enabling) -> Result<Option<ControlValue>, ShapeError> {
        Ok(self.held.enable(enabling)?)
    }

    fn make(&mut self, target: &Target) -> Result<Made, ShapeError> {
        self.held.make(&group_of(target)?)?;
        Ok(Made::Now)
    }

    fn enter(&mut self, target: &Target, pid: u32, _: &str) -> Result<(), ShapeError> {
        Ok(self.held.attach(&group_of(target)?, pid)?)
    }

    fn take_back(&mut self, _: &Target, pid: u32, home: Home<'_>) -> Result<(), ShapeError> {
        Ok(self.held.attach_home(pid, |mount| home(pid, mount))?)
    }

    fn set(&mut self, target: &Target, setting: &Setting) -> Result<(), ShapeError> {
        Ok(self.held.write(&group_of(target)?, setting.knob, &setting.value)?)
    }

    fn take_down(&mut self, target: &Target, _: &[Setting], _: &[Setting], home: Home<'_>) -> Result<(), ShapeError> {
        let group = group_of(target)?;
        self.held.move_out(&group, home)?;
        Ok(self.held.remove(&group)?)
    }

    fn remove_parent(&mut self, parent: &GroupPath) -> Result<(), ShapeError> {
        Ok(self.held.remove_parent(parent)?)
    }
}
