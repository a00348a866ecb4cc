//! Who serves which target: units the manager that owns them, groups of our own ourselves.

use std::path::Path;

use quotary_common::envelope::{BackendKind, CgroupPath, ControlValue};
use quotary_common::plan::{ShapedControl, Target};

use super::ShapeError;
use super::backend::{Backend, Override, Place, Prior, Undo};
use super::controller::{Reading, Value};
use super::groups::Groups;
use super::holds::{Holds, Home, Made};
use super::systemd::Systemd;
use crate::enforce::controls::{Knob, Setting};
use crate::enforce::direct::Enabling;
use crate::enforce::group::GroupPath;
use crate::enforce::probe::Survey;
use crate::enforce::{self, Device};

/// The backends of this host.
#[derive(Debug)]
pub(crate) struct Owners {
    pub(super) systemd: Option<Systemd>,
    pub(super) groups: Option<Groups>,
}

impl Owners {
    /// Who holds what runs under grants on the host below `root`, with groups of our own below `parent`, made by `kernel`.
    pub(crate) fn for_grants(
        root: &Path,
        survey: Survey,
        parent: &GroupPath,
        devices: Vec<Device>,
        kernel: Box<dyn enforce::Groups>,
    ) -> Self {
        let systemd = Systemd::connect(root, devices.clone(), false).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "scopes cannot be held");
            None
        });
        Self { systemd, groups: Groups::over(root, survey, parent, devices, kernel) }
    }

    fn serving(&self, target: &Target) -> Result<&dyn Backend, ShapeError> {
        self.look(target).ok_or_else(|| ShapeError::Nobody { target: target.to_string() })
    }

    fn asking(&mut self, target: &Target) -> Result<&mut dyn Backend, ShapeError> {
        self.of(target).ok_or_else(|| ShapeError::Nobody { target: target.to_string() })
    }

    fn of(&mut self, target: &Target) -> Option<&mut dyn Backend> {
        match target {
            Target::Unit(_) => self.systemd.as_mut().map(|systemd| systemd as &mut dyn Backend),
            Target::Cgroup(_) => self.groups.as_mut().map(|groups| groups as &mut dyn Backend),
        }
    }

    fn look(&self, target: &Target) -> Option<&dyn Backend> {
        match target {
            Target::Unit(_) => self.systemd.as_ref().map(|systemd| systemd as &dyn Backend),
            Target::Cgroup(_) => self.groups.as_ref().map(|groups| groups as &dyn Backend),
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Backend> {
        let systemd = self.systemd.as_ref().map(|systemd| systemd as &dyn Backend);
        systemd.into_iter().chain(self.groups.as_ref().map(|groups| groups as &dyn Backend))
    }
}

impl Backend for Owners {
    fn kind_of(&self, target: &Target) -> BackendKind {
        self.look(target).map_or(BackendKind::None, |backend| backend.kind_of(target))
    }

    fn supports(&self, control: ShapedControl) -> bool {
        self.all().any(|backend| backend.supports(control))
    }

    fn acts_on(&self, target: &Target, control: ShapedControl) -> bool {
        self.look(target).is_some_and(|backend| backend.acts_on(target, control))
    }

    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError> {
        let Some(backend) = self.of(target) else { return Ok(None) };
        let found = backend.find(target)?;
        Ok(found.map(|place| Place { is_unit: matches!(target, Target::Unit(_)), ..place }))
    }

    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading {
        let systemd = self.systemd.as_ref().filter(|_| place.is_unit).map(|systemd| systemd as &dyn Backend);
        let groups = self.groups.as_ref().map(|groups| groups as &dyn Backend);
        systemd.or(groups).map_or_else(Reading::default, |backend| backend.read(place, controls))
    }

    fn overridden(&mut self, target: &Target, control: ShapedControl) -> Result<Override, ShapeError> {
        self.of(target).map_or(Ok(Override::None), |backend| backend.overridden(target, control))
    }

    fn prior(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError> {
        let backend = self.of(target).ok_or(ShapeError::Unsupported(control))?;
        backend.prior(target, control, value)
    }

    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError> {
        let backend = self.of(target).ok_or(ShapeError::Unsupported(control))?;
        backend.write(target, control, value)
    }

    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let (units, groups): (Vec<Undo>, Vec<Undo>) =
            undos.into_iter().partition(|undo| matches!(undo.target, Target::Unit(_)));
        let mut failed = Vec::new();
        for undos in [units, groups] {
            let Some(target) = undos.first().map(|undo| undo.target.clone()) else { continue };
            match self.of(&target) {
                Some(backend) => failed.extend(backend.undo(undos)),
                None => failed.extend(undos.into_iter().map(|undo| {
                    let control = undo.control;
                    (undo, ShapeError::Unsupported(control))
                })),
            }
        }
        failed
    }

    fn enabled_for_siblings(&self, place: &Place) -> Option<String> {
        let systemd = self.systemd.as_ref().filter(|_| place.is_unit).map(|systemd| systemd as &dyn Backend);
        let groups = self.groups.as_ref().map(|groups| groups as &dyn Backend);
        systemd.or(groups).and_then(|backend| backend.enabled_for_siblings(place))
    }

    fn take_reclaimed(&mut self, place: &Place) -> Option<bool> {
        match (&mut self.systemd, &mut self.groups) {
            (Some(systemd), _) if place.is_unit => systemd.take_reclaimed(place),
            (_, Some(groups)) => groups.take_reclaimed(place),
            _ => None,
        }
    }

    fn reclaim(&mut self, place: &Place, bytes: u64) {
        match (&mut self.systemd, &mut self.groups) {
            (Some(systemd), _) if place.is_unit => systemd.reclaim(place, bytes),
            (_, Some(groups)) => groups.reclaim(place, bytes),
            _ => {}
        }
    }
}

impl Holds for Owners {
    fn has(&self, target: &Target) -> bool {
        self.look(target).is_some_and(|backend| backend.has(target))
    }

    fn is_empty(&self, target: &Target) -> Result<bool, ShapeError> {
        self.look(target).map_or(Ok(true), |backend| backend.is_empty(target))
    }

    fn show(&self, target: &Target, knob: Knob) -> Result<Option<ControlValue>, ShapeError> {
        self.serving(target)?.show(target, knob)
    }

    fn is_bounded_above(&self, target: &Target, knob: Knob, value: &ControlValue) -> bool {
        self.look(target).is_some_and(|backend| backend.is_bounded_above(target, knob, value))
    }

    fn along(&self, target: &Target) -> Vec<(CgroupPath, String)> {
        self.look(target).map_or_else(Vec::new, |backend| backend.along(target))
    }

    fn to_enable(&self, parent: &GroupPath) -> Vec<Enabling> {
        self.groups.as_ref().map_or_else(Vec::new, |groups| groups.to_enable(parent))
    }

    fn enable(&mut self, enabling: &Enabling) -> Result<Option<ControlValue>, ShapeError> {
        self.groups.as_mut().map_or(Ok(None), |groups| groups.enable(enabling))
    }

    fn make(&mut self, target: &Target) -> Result<Made, ShapeError> {
        self.asking(target)?.make(target)
    }

    fn enter(&mut self, target: &Target, pid: u32, about: &str) -> Result<(), ShapeError> {
        self.asking(target)?.enter(target, pid, about)
    }

    fn take_back(&mut self, target: &Target, pid: u32, home: Home<'_>) -> Result<(), ShapeError> {
        self.asking(target)?.take_back(target, pid, home)
    }

    fn is_ready(&mut self, target: &Target, setting: &Setting) -> bool {
        self.of(target).is_none_or(|backend| backend.is_ready(target, setting))
    }

    fn set(&mut self, target: &Target, setting: &Setting) -> Result<(), ShapeError> {
        self.asking(target)?.set(target, setting)
    }

    fn take_down(&mut self, target: &Target, values: &[Setting], home: Home<'_>) -> Result<(), ShapeError> {
        // What nobody on this host can hold is not there: another boot had another owner.
        self.of(target).map_or(Ok(()), |backend| backend.take_down(target, values, home))
    }

    fn remove_parent(&mut self, parent: &GroupPath) -> Result<(), ShapeError> {
        self.groups.as_mut().map_or(Ok(()), |groups| groups.remove_parent(parent))
    }
}
