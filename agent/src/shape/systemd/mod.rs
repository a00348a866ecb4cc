//! The systemd backend: moves units, slices and scopes by runtime properties, over the system bus.
//!
//! Does: asks the manager that owns a cgroup to change it (`SetUnitProperties`, runtime), keeps what its drop-in took the
//! place of, and puts that back exactly.
//! May assume: it runs as root on a host whose PID 1 is systemd, with the unified cgroup tree.
//! Also holds what runs under grants, in transient scopes (`scope`), and gives them their values (`granted`).
//! Promises: no file of a cgroup that systemd owns is written but `memory.reclaim`, which holds no state; an
//! administrator's own values are found before they are replaced; a value that is put back is the drop-in state that was
//! there before, not a value in its place (`infinity` would mask the unit file).
//! Must never: `systemctl revert` (it also removes what an administrator set), set a hard memory limit.
//!
//! Sources: org.freedesktop.systemd1(5), systemd.resource-control(5), Control Group APIs and Delegation.

mod bus;
mod calls;
mod drop_in;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod fake;
mod granted;
mod property;
mod scope;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use quotary_common::envelope::{BackendKind, Hierarchy};
use quotary_common::plan::{ShapedControl, Target};

pub(super) use self::bus::Bus;
use self::calls::{Manager, UnitSeen};
use self::drop_in::DropIns;
use self::property::assignment;
use self::watch::{Changed, Watch};
use super::ShapeError;
use super::above::Above;
use super::backend::{Backend, Override, Place, Prior, Undo};
use super::controller::{Reading, Value};
use super::kernel::Tree;
use super::reclaim::Reclaimer;
use crate::enforce::controls::Controller;
use crate::enforce::direct::Direct;
use crate::enforce::group::GroupPath;
use crate::enforce::probe::Mount;
use crate::enforce::{CgroupsRs, Device};

/// The backend.
#[derive(Debug)]
pub struct Systemd {
    root: PathBuf,
    bus: Box<dyn Manager>,
    tree: Tree,
    /// Reads what stands in cgroups; writes nothing there.
    files: Direct,
    drop_ins: DropIns,
    reclaimer: Reclaimer,
    /// `None` where signals are not heard: then nothing that is known of a unit is used again.
    watch: Option<Watch>,
    devices: Vec<Device>,
    places: BTreeMap<String, Known>,
    /// The slices above them.
    slices: BTreeMap<String, UnitSeen>,
}

/// Where a unit was found, and the inode of its cgroup: another inode is another run of it.
#[derive(Debug, Clone)]
struct Known {
    place: Place,
    dir: PathBuf,
    is_transient: bool,
    drop_in_paths: Vec<String>,
    has_own_network: bool,
}

impl Systemd {
    /// Whether PID 1 of the host below `root` is systemd, and owns a unified tree.
    pub fn owns(root: &Path) -> bool {
        // sd_booted(3)
        root.join("run/systemd/system").is_dir() && Tree::of(root).is_some()
    }

    /// The manager of this host; `None` where PID 1 is another, or its controllers are not on version 2. One that cannot be
    /// reached now is asked again each time that it is needed. To `hear` of changes saves asking for what is known.
    ///
    /// # Errors
    /// [`ShapeError`] when there is no thread to be had.
    pub fn connect(root: &Path, devices: Vec<Device>, hear: bool) -> Result<Option<Self>, ShapeError> {
        if !Self::owns(root) {
            return Ok(None);
        }
        let watch = if hear { Watch::start() } else { return Self::over(root, Box::<Bus>::default(), None, devices) };
        let watch = watch.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "systemd is not heard: it is asked each time");
        });
        Self::over(root, Box::<Bus>::default(), watch.ok(), devices)
    }

    fn over(
        root: &Path,
        bus: Box<dyn Manager>,
        watch: Option<Watch>,
        devices: Vec<Device>,
    ) -> Result<Option<Self>, ShapeError> {
        let Some(tree) = Tree::of(root) else { return Ok(None) };
        let reclaimer = Reclaimer::start(tree.mount().clone()).map_err(|source| ShapeError::File {
            step: "start the thread that writes",
            path: PathBuf::from("memory.reclaim"),
            source,
        })?;
        let mount = Mount { controllers: Controller::ALL.to_vec(), dir: tree.mount().dir.clone() };
        Ok(Some(Self {
            root: root.to_path_buf(),
            bus,
            tree,
            files: Direct::new(Hierarchy::V2, vec![mount], Box::new(CgroupsRs)),
            drop_ins: DropIns::below(root),
            reclaimer,
            watch,
            devices,
            places: BTreeMap::new(),
            slices: BTreeMap::new(),
        }))
    }

    fn look_up(&mut self, unit: &str) -> Result<Option<Known>, ShapeError> {
        let Some(seen) = self.bus.unit(unit)? else { return Ok(None) };
        if seen.id != unit {
            return Err(ShapeError::Alias { alias: unit.to_owned(), unit: seen.id });
        }
        let Some(cgroup) = GroupPath::parse(&seen.control_group) else { return Ok(None) };
        let dir = self.tree.mount().dir.join(cgroup.relative());
        let Some(instance) = inode(&dir) else { return Ok(None) };
        let oomd_limit_permille = self.bus.oomd_limit_permille(&seen, &mut self.slices)?;
        let place = Place { cgroup, instance, oomd_limit_permille, is_unit: true };
        let (is_transient, has_own_network) = (seen.is_transient, seen.has_own_network);
        Ok(Some(Known { place, dir, is_transient, drop_in_paths: seen.drop_in_paths, has_own_network }))
    }

    /// Whether a service was found to have a network of its own. Of scopes and slices nobody can say.
    pub(super) fn has_own_network(&self, target: &Target) -> bool {
        unit_of(target).and_then(|unit| self.places.get(unit)).is_some_and(|known| known.has_own_network)
    }

    /// Forgets what may not be so any more.
    fn forget_changed(&mut self) {
        match self.watch.as_ref().map_or(Changed::All, Watch::take_changed) {
            Changed::All | Changed::Deaf => {
                self.places.clear();
                self.slices.clear();
            }
            Changed::Units(units) => {
                for unit in units {
                    self.places.remove(&unit);
                    self.slices.remove(&unit);
                }
            }
        }
    }

    /// Sets what stood there before; a unit that is gone took its values along.
    fn set_back(&self, undo: &Undo) -> Result<(), ShapeError> {
        let disks = undo.prior.disks(&self.devices);
        let assignment = assignment(undo.control, undo.prior.value, &disks);
        let (Some(unit), Some(assignment)) = (unit_of(&undo.target), assignment) else { return Ok(()) };
        match self.bus.set(unit, &[assignment]) {
            Err(_) if matches!(self.bus.unit(unit), Ok(None)) => Ok(()),
            set => set,
        }
    }

    /// Whether the drop-in that we made has become another one since.
    fn is_somebody_elses(&self, undo: &Undo) -> bool {
        let Some(path) = undo.prior.drop_in_path.as_deref().map(Path::new) else { return false };
        let stands = self.drop_ins.read(path).ok().flatten();
        matches!((&undo.ours, stands), (Some(ours), Some(stands)) if *ours != stands)
    }

    /// A unit that runs, asked for anew only where it may be another than before.
    fn known(&mut self, unit: &str) -> Result<Option<&Known>, ShapeError> {
        self.forget_changed();
        let is_there = |known: &Known| inode(&known.dir).as_ref() == Some(&known.place.instance);
        if !self.places.get(unit).is_some_and(is_there) {
            match self.look_up(unit)? {
                Some(known) => self.places.insert(unit.to_owned(), known),
                None => self.places.remove(unit),
            };
        }
        Ok(self.places.get(unit))
    }
}

fn inode(dir: &Path) -> Option<String> {
    std::fs::symlink_metadata(dir).ok().filter(|facts| facts.is_dir()).map(|facts| facts.ino().to_string())
}

fn unit_of(target: &Target) -> Option<&str> {
    match target {
        Target::Unit(unit) => Some(unit.as_str()),
        Target::Cgroup(_) => None,
    }
}

impl Backend for Systemd {
    fn kind_of(&self, _: &Target) -> BackendKind {
        BackendKind::Systemd
    }

    fn takes_effect(&self, _: &Target, place: &Place, control: ShapedControl, shown: Value) -> bool {
        self.supports(control) && self.tree.takes_effect(&place.cgroup, control, shown)
    }

    fn supports(&self, control: ShapedControl) -> bool {
        self.tree.offers(control) && property::drop_in_name(control).is_some()
    }

    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError> {
        let Some(unit) = unit_of(target) else { return Ok(None) };
        Ok(self.known(unit)?.map(|known| known.place.clone()))
    }

    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading {
        Reading { oomd_limit_permille: place.oomd_limit_permille, ..self.tree.read(&place.cgroup, controls) }
    }

    fn overridden(&mut self, target: &Target, control: ShapedControl) -> Result<Override, ShapeError> {
        let (Some(unit), Some(name)) = (unit_of(target), property::drop_in_name(control)) else {
            return Ok(Override::None);
        };
        if let Some(path) = self.known(unit)?.and_then(|known| DropIns::overridden_later(&known.drop_in_paths, name)) {
            tracing::debug!(unit, path, "a drop-in comes after ours and sets the same");
            return Ok(Override::Persistent);
        }
        self.drop_ins.overridden(unit, name)
    }

    fn prior(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError> {
        let (Some(unit), Some(name)) = (unit_of(target), property::drop_in_name(control)) else {
            return Err(ShapeError::Unsupported(control));
        };
        let is_transient = self.known(unit)?.is_some_and(|known| known.is_transient);
        let path = self.drop_ins.path(unit, name, is_transient);
        let drop_in = self.drop_ins.read(&path)?;
        Ok(Prior {
            value,
            drop_in,
            drop_in_path: Some(path.display().to_string()),
            note: Prior::note_of_disks(control, &self.devices),
        })
    }

    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError> {
        let (Some(unit), Some(assignment)) = (unit_of(target), assignment(control, value, &self.devices)) else {
            return Err(ShapeError::Unsupported(control));
        };
        self.bus.set(unit, &[assignment])
    }

    fn made(&mut self, target: &Target, control: ShapedControl) -> Option<Vec<u8>> {
        let (unit, name) = (unit_of(target)?, property::drop_in_name(control)?);
        let is_transient = self.known(unit).ok().flatten()?.is_transient;
        self.drop_ins.read(&self.drop_ins.path(unit, name, is_transient)).ok().flatten()
    }

    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let (mut failed, mut not_set) = (Vec::new(), Vec::new());
        let mut files = false;
        for undo in undos {
            if undo.is_contested && self.is_somebody_elses(&undo) {
                continue;
            }
            // First the value, which takes effect at once; then the drop-in state, from which it follows for good.
            let set = if undo.is_contested { Ok(()) } else { self.set_back(&undo) };
            match (self.drop_ins.put_back(&undo.prior), set) {
                (Ok(()), Ok(())) => files = true,
                (Ok(()), Err(error)) => {
                    files = true;
                    not_set.push((undo, error));
                }
                (Err(error), _) => failed.push((undo, error)),
            }
        }
        if files && let Err(error) = self.bus.reload() {
            // The files are right: the next reload, whoever asks for it, finds them so. What was not set stands until then.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "systemd did not reload after values were put back"
            );
            failed.append(&mut not_set);
        }
        failed
    }

    fn enabled_above(&self, place: &Place) -> Above {
        self.tree.enabled_above(&place.cgroup)
    }

    fn take_reclaimed(&mut self, place: &Place) -> Option<bool> {
        self.reclaimer.take_outcome(&place.cgroup)
    }

    fn reclaim(&mut self, place: &Place, bytes: u64) {
        self.reclaimer.reclaim(&place.cgroup, bytes);
    }
}
