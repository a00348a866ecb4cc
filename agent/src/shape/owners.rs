//! Who serves which target: units the manager that owns them, groups of our own ourselves; and the controls that no cgroup
//! has, which stand beside both.

use std::collections::BTreeMap;
use std::path::Path;

use quotary_common::envelope::{BackendKind, CgroupPath, ControlValue};
use quotary_common::plan::{ShapedControl, Target};

use super::ShapeError;
use super::above::Above;
use super::backend::{Backend, Override, Place, Prior, Undo};
use super::controller::{Reading, Value};
use super::egress::Egress;
use super::groups::Groups;
use super::holds::{Holds, Home, Made};
use super::storage::Storage;
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
    /// Why not, where it is not there.
    pub(super) egress: Result<Egress, String>,
    pub(super) storage: Storage,
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
        Self::of_cgroups(root, systemd, Groups::over(root, survey, parent, devices, kernel))
    }

    /// Those who own cgroups, without the controls that stand beside them: these are for plans.
    pub(crate) fn of_cgroups(root: &Path, systemd: Option<Systemd>, groups: Option<Groups>) -> Self {
        Self { systemd, groups, egress: Err("plans alone move it".to_owned()), storage: Storage::open(root, &[]) }
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

    /// Puts back controls that no cgroup has: egress of all targets at once.
    fn undo_beside(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let (egress, storage): (Vec<Undo>, Vec<Undo>) =
            undos.into_iter().partition(|undo| undo.control == ShapedControl::NetworkEgress);
        let mut failed: Vec<(Undo, ShapeError)> = Vec::new();
        let targets: Vec<(Target, Option<Vec<u8>>)> =
            egress.iter().map(|undo| (undo.target.clone(), undo.prior.note.clone())).collect();
        let why = match &mut self.egress {
            _ if targets.is_empty() => None,
            Ok(known) => known.undo(&targets).err().map(|error| error.told()),
            Err(why) => Some(why.clone()),
        };
        if let Some(why) = why {
            let missing = |undo: &Undo| ShapeError::Missing { control: undo.control, why: why.clone() };
            failed.extend(egress.into_iter().map(|undo| (undo.clone(), missing(&undo))));
        }
        for undo in storage {
            // Whether it is contested does not matter: the hand looks whose value stands there.
            if let Err(error) = self.storage.undo(&undo.target, &undo.prior) {
                failed.push((undo, error));
            }
        }
        failed
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
        match control {
            ShapedControl::NetworkEgress => self.why_not(control).is_none(),
            ShapedControl::Storage => self.storage.is_there(),
            _ => self.all().any(|backend| backend.supports(control)),
        }
    }

    fn why_not(&self, control: ShapedControl) -> Option<String> {
        match control {
            ShapedControl::NetworkEgress => match &self.egress {
                Ok(egress) => egress.why_not().map(str::to_owned),
                Err(why) => Some(why.clone()),
            },
            ShapedControl::Storage => self.storage.why_not(),
            _ => None,
        }
    }

    fn look(&mut self) {
        if let Ok(egress) = &mut self.egress {
            egress.look_again();
        }
        self.storage.look_around();
    }

    fn recall(&mut self, held: &[Undo]) {
        for undo in held {
            if let (ShapedControl::NetworkEgress, Ok(egress), Some(note)) =
                (undo.control, &mut self.egress, &undo.prior.note)
            {
                egress.recall(&undo.target, note);
            }
            if undo.control == ShapedControl::Storage {
                self.storage.recall(&undo.target, &undo.prior);
            }
        }
    }

    fn tick(&mut self) {
        if let Ok(egress) = &mut self.egress {
            egress.tick();
        }
        self.storage.tick();
    }

    fn most(&self, cgroup: &CgroupPath) -> BTreeMap<ShapedControl, u64> {
        let cgroup = GroupPath::parse(cgroup.as_str());
        let bytes = cgroup.and_then(|cgroup| self.storage.most_bytes(&cgroup));
        bytes.map(|bytes| (ShapedControl::Storage, bytes)).into_iter().collect()
    }

    fn takes_effect(&self, target: &Target, place: &Place, control: ShapedControl, shown: Value) -> bool {
        match control {
            ShapedControl::NetworkEgress => {
                // Packets that leave by a network of the unit's own are not given to our classes.
                let is_apart = self.systemd.as_ref().is_some_and(|systemd| systemd.has_own_network(target));
                return self.supports(control) && !is_apart;
            }
            ShapedControl::Storage => return self.storage.has(target),
            _ => {}
        }
        self.look(target).is_some_and(|backend| backend.takes_effect(target, place, control, shown))
    }

    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError> {
        let Some(backend) = self.of(target) else { return Ok(None) };
        let found = backend.find(target)?;
        let place = found.map(|place| Place { is_unit: matches!(target, Target::Unit(_)), ..place });
        if let Ok(egress) = &mut self.egress {
            egress.follow(target, place.as_ref());
        }
        self.storage.follow(target, place.as_ref());
        Ok(place)
    }

    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading {
        let systemd = self.systemd.as_ref().filter(|_| place.is_unit).map(|systemd| systemd as &dyn Backend);
        let groups = self.groups.as_ref().map(|groups| groups as &dyn Backend);
        let mut reading = systemd.or(groups).map_or_else(Reading::default, |backend| backend.read(place, controls));
        if let Ok(egress) = &self.egress
            && controls.contains(&ShapedControl::NetworkEgress)
        {
            reading.actual.insert(ShapedControl::NetworkEgress, egress.actual(&place.cgroup));
            reading.egress_bits_per_second = egress.used_bits(&place.cgroup);
        }
        if controls.contains(&ShapedControl::Storage) {
            reading.actual.insert(ShapedControl::Storage, self.storage.actual(&place.cgroup));
            reading.storage_used_bytes = self.storage.used_bytes(&place.cgroup);
        }
        reading
    }

    fn overridden(&mut self, target: &Target, control: ShapedControl) -> Result<Override, ShapeError> {
        if control == ShapedControl::Storage {
            return self.storage.overridden(target);
        }
        self.of(target).map_or(Ok(Override::None), |backend| backend.overridden(target, control))
    }

    fn prior(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError> {
        if let (ShapedControl::NetworkEgress, Ok(egress)) = (control, &mut self.egress) {
            // What was there is no limit: another's would not be ours to replace.
            let note = Some(egress.prior(target)?);
            return Ok(Prior { value: Value::Unlimited, drop_in: None, drop_in_path: None, note });
        }
        if control == ShapedControl::Storage {
            return self.storage.prior(target);
        }
        let backend = self.of(target).ok_or(ShapeError::Unsupported(control))?;
        backend.prior(target, control, value)
    }

    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError> {
        if let (ShapedControl::NetworkEgress, Ok(egress)) = (control, &mut self.egress) {
            return egress.write(target, value);
        }
        if control == ShapedControl::Storage {
            return self.storage.write(target, value);
        }
        let backend = self.of(target).ok_or(ShapeError::Unsupported(control))?;
        backend.write(target, control, value)
    }

    fn made(&mut self, target: &Target, control: ShapedControl) -> Option<Vec<u8>> {
        self.of(target)?.made(target, control)
    }

    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let stands_beside = |control| matches!(control, ShapedControl::NetworkEgress | ShapedControl::Storage);
        let (beside, undos): (Vec<Undo>, Vec<Undo>) = undos.into_iter().partition(|undo| stands_beside(undo.control));
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
        // Last: a hand that is slow keeps nothing else from being put back.
        failed.extend(self.undo_beside(beside));
        failed
    }

    fn enabled_above(&self, place: &Place) -> Above {
        let systemd = self.systemd.as_ref().filter(|_| place.is_unit).map(|systemd| systemd as &dyn Backend);
        let groups = self.groups.as_ref().map(|groups| groups as &dyn Backend);
        systemd.or(groups).map(|backend| backend.enabled_above(place)).unwrap_or_default()
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

    fn above(&self, target: &Target) -> Above {
        self.look(target).map(|backend| backend.above(target)).unwrap_or_default()
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

    fn take_down(
        &mut self,
        target: &Target,
        values: &[Setting],
        yielded: &[Setting],
        home: Home<'_>,
    ) -> Result<(), ShapeError> {
        // What nobody on this host can hold is not there: another boot had another owner.
        self.of(target).map_or(Ok(()), |backend| backend.take_down(target, values, yielded, home))
    }

    fn remove_parent(&mut self, parent: &GroupPath) -> Result<(), ShapeError> {
        self.groups.as_mut().map_or(Ok(()), |groups| groups.remove_parent(parent))
    }
}
