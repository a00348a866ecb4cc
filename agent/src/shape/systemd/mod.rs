//! The systemd backend: moves units, slices and scopes by runtime properties, over the system bus.
//!
//! Does: asks the manager that owns a cgroup to change it (`SetUnitProperties`, runtime), keeps what its drop-in took the
//! place of, and puts that back exactly.
//! May assume: it runs as root on a host whose PID 1 is systemd, with the unified cgroup tree.
//! Promises: no file of a cgroup that systemd owns is written but `memory.reclaim`, which holds no state; an
//! administrator's own values are found before they are replaced; a value that is put back is the drop-in state that was
//! there before, not a value in its place (`infinity` would mask the unit file).
//! Must never: `systemctl revert` (it also removes what an administrator set), set a hard memory limit.
//!
//! Sources: org.freedesktop.systemd1(5), systemd.resource-control(5), Control Group APIs and Delegation.

mod bus;
mod drop_in;
mod property;
mod watch;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use quotary_common::envelope::BackendKind;
use quotary_common::plan::{ShapedControl, Target};

pub(super) use self::bus::Bus;
use self::drop_in::DropIns;
use self::property::assignment;
use self::watch::Watch;
use super::ShapeError;
use super::backend::{Backend, Override, Place, Prior, Undo};
use super::controller::{Reading, Value};
use super::kernel::Tree;
use super::reclaim::Reclaimer;
use crate::enforce::Device;
use crate::enforce::group::GroupPath;

/// The backend.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
    tree: Tree,
    drop_ins: DropIns,
    reclaimer: Reclaimer,
    watch: Watch,
    devices: Vec<Device>,
    places: BTreeMap<String, Known>,
}

/// Where a unit was found, and the inode of its cgroup: another inode is another run of it.
#[derive(Debug, Clone)]
struct Known {
    place: Place,
    dir: PathBuf,
}

impl Systemd {
    /// The manager of this host; `None` where PID 1 is another, or its controllers are not on version 2.
    ///
    /// # Errors
    /// [`ShapeError`] when there is a systemd that cannot be asked.
    pub fn connect(root: &Path, devices: Vec<Device>) -> Result<Option<Self>, ShapeError> {
        // sd_booted(3)
        if !root.join("run/systemd/system").is_dir() {
            return Ok(None);
        }
        let Some(tree) = Tree::of(root) else { return Ok(None) };
        let bus = Bus::connect()?;
        let watch = Watch::start()?;
        let reclaimer = Reclaimer::start(tree.mount().clone()).map_err(|source| ShapeError::File {
            step: "start the thread that writes",
            path: PathBuf::from("memory.reclaim"),
            source,
        })?;
        Ok(Some(Self { bus, tree, drop_ins: DropIns::below(root), reclaimer, watch, devices, places: BTreeMap::new() }))
    }

    fn look_up(&mut self, unit: &str) -> Result<Option<Known>, ShapeError> {
        let Some(seen) = self.bus.unit(unit)? else { return Ok(None) };
        let Some(cgroup) = GroupPath::parse(&seen.control_group) else { return Ok(None) };
        let dir = self.tree.mount().dir.join(cgroup.relative());
        let Some(instance) = inode(&dir) else { return Ok(None) };
        let oomd_limit_permille = self.bus.oomd_limit_permille(&seen)?;
        Ok(Some(Known { place: Place { cgroup, instance, oomd_limit_permille, is_unit: true }, dir }))
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

    fn acts_on(&self, _: &Target, control: ShapedControl) -> bool {
        self.supports(control)
    }

    fn supports(&self, control: ShapedControl) -> bool {
        self.tree.offers(control) && property::drop_in_name(control).is_some()
    }

    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError> {
        let Some(unit) = unit_of(target) else { return Ok(None) };
        if self.watch.take_changed() {
            self.places.clear();
        }
        if let Some(known) = self.places.get(unit)
            && inode(&known.dir).as_ref() == Some(&known.place.instance)
        {
            return Ok(Some(known.place.clone()));
        }
        let known = self.look_up(unit)?;
        match &known {
            Some(known) => self.places.insert(unit.to_owned(), known.clone()),
            None => self.places.remove(unit),
        };
        Ok(known.map(|known| known.place))
    }

    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading {
        Reading { oomd_limit_permille: place.oomd_limit_permille, ..self.tree.read(&place.cgroup, controls) }
    }

    fn overridden(&mut self, target: &Target, control: ShapedControl) -> Result<Override, ShapeError> {
        let (Some(unit), Some(name)) = (unit_of(target), property::drop_in_name(control)) else {
            return Ok(Override::None);
        };
        self.drop_ins.overridden(unit, name)
    }

    fn prior(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError> {
        let (Some(unit), Some(name)) = (unit_of(target), property::drop_in_name(control)) else {
            return Err(ShapeError::Unsupported(control));
        };
        let is_transient = self.bus.unit(unit)?.is_some_and(|seen| seen.is_transient);
        let path = self.drop_ins.path(unit, name, is_transient);
        let drop_in = self.drop_ins.read(&path)?;
        Ok(Prior { value, drop_in, drop_in_path: Some(path.display().to_string()), note: None })
    }

    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError> {
        let (Some(unit), Some(assignment)) = (unit_of(target), assignment(control, value, &self.devices)) else {
            return Err(ShapeError::Unsupported(control));
        };
        self.bus.set(unit, &assignment)
    }

    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let mut failed = Vec::new();
        let mut files = false;
        for undo in undos {
            // First the value, which takes effect at once; then the drop-in state, from which it follows for good.
            if let (Some(unit), Some(assignment)) =
                (unit_of(&undo.target), assignment(undo.control, undo.prior.value, &self.devices))
                && let Err(error) = self.bus.set(unit, &assignment)
            {
                tracing::debug!(error = &error as &dyn std::error::Error, unit, "not set on the way back");
            }
            match self.drop_ins.put_back(&undo.prior) {
                Ok(()) => files = true,
                Err(error) => failed.push((undo, error)),
            }
        }
        if files && let Err(error) = self.bus.reload() {
            // The files are right: the next reload, whoever asks for it, finds them so.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "systemd did not reload after values were put back"
            );
        }
        self.places.clear();
        failed
    }

    fn enabled_for_siblings(&self, place: &Place) -> Option<String> {
        self.tree.enabled_in(place.cgroup.parent().as_ref())
    }

    fn take_reclaimed(&mut self, place: &Place) -> Option<bool> {
        self.reclaimer.take_outcome(&place.cgroup)
    }

    fn reclaim(&mut self, place: &Place, bytes: u64) {
        self.reclaimer.reclaim(&place.cgroup, bytes);
    }
}
