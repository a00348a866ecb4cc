//! What moves a target's controls, whoever owns its cgroup: the one door through which plans and grants touch a target.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use quotary_common::cbor;
use quotary_common::envelope::{BackendKind, CgroupPath};
use quotary_common::plan::{ShapedControl, Target};

use super::ShapeError;
use super::above::Above;
use super::controller::{Reading, Value};
use super::holds::Holds;
use crate::enforce::Device;
use crate::enforce::group::GroupPath;

/// A target that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its cgroup.
    pub cgroup: GroupPath,
    /// What tells one run of it from the next.
    pub instance: String,
    /// At which memory pressure systemd-oomd kills it, thousandths, where it was told to.
    pub oomd_limit_permille: Option<u16>,
    /// Whether a manager owns it as a unit.
    pub is_unit: bool,
}

/// What stood there before Quotary: what an undo puts back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Prior {
    /// The control's value.
    #[n(0)]
    pub value: Value,
    /// The drop-in that our own takes the place of: its bytes; `None` where there was none.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub drop_in: Option<Vec<u8>>,
    /// Where that drop-in stands; `None` where the backend has none.
    #[n(2)]
    pub drop_in_path: Option<String>,
    /// What the backend itself has to know again after a restart; `None` where it needs nothing.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub note: Option<Vec<u8>>,
}

/// Most bytes of the note of disks.
const DISKS_BYTES_MAX: usize = 4096;

impl Prior {
    /// Notes the disks that a control with one value for each is about: the configuration may name others when it is undone.
    pub(super) fn note_of_disks(control: ShapedControl, disks: &[Device]) -> Option<Vec<u8>> {
        let is_per_disk = matches!(control, ShapedControl::IoReadMax | ShapedControl::IoWriteMax);
        is_per_disk.then(|| cbor::to_bytes(&disks.to_vec()))
    }

    /// The disks whose value is put back: those of the note, and those that the configuration names now.
    pub(super) fn disks(&self, now: &[Device]) -> Vec<Device> {
        let noted = self.note.as_deref().and_then(|note| cbor::from_bytes::<Vec<Device>>(note, DISKS_BYTES_MAX).ok());
        let mut all: Vec<Device> = noted.into_iter().flatten().chain(now.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether both stand in one drop-in.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.drop_in_path.is_some() && self.drop_in_path == other.drop_in_path
    }
}

/// Whether an administrator's own value is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Override {
    /// There is none.
    None,
    /// One until the next boot: a plan that says `overrides` takes its place, and puts it back.
    Runtime,
    /// One for good: it would come back with each `daemon-reload`, so that no plan takes its place.
    Persistent,
}

/// Moves controls of targets, and holds what runs under grants ([`Holds`]). One implementation for each owner of cgroups.
pub trait Backend: Holds + Send + std::fmt::Debug {
    /// Who serves a target, as envelopes say.
    fn kind_of(&self, target: &Target) -> BackendKind;

    /// Whether a value that the target's control shows is the one that takes effect: not only taken, nor bounded by a stricter limit
    /// of a group above.
    fn takes_effect(&self, target: &Target, place: &Place, control: ShapedControl, shown: Value) -> bool;

    /// Whether the host has a control at all.
    fn supports(&self, control: ShapedControl) -> bool;

    /// Why the host has a control not, or not for each target, in a sentence; `None` where it has, or where nothing more can be
    /// said.
    fn why_not(&self, _control: ShapedControl) -> Option<String> {
        None
    }

    /// Looks which controls can be used, once what was left behind is put back: that may take asking.
    fn look(&mut self) {}

    /// The most that the target in a cgroup may be given of controls that have not the same for all targets of a host.
    fn most(&self, _cgroup: &CgroupPath) -> BTreeMap<ShapedControl, u64> {
        BTreeMap::new()
    }

    /// Takes up what the journal holds, at a start, before anything is read.
    fn recall(&mut self, _held: &[Undo]) {}

    /// What a second brings, before targets are looked at.
    fn tick(&mut self) {}

    /// Where a target is; `None` when it does not run.
    ///
    /// # Errors
    /// [`ShapeError`] when nobody can tell.
    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError>;

    /// What a target's controls and pressure are.
    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading;

    /// Whether an administrator has set the control by hand.
    ///
    /// # Errors
    /// [`ShapeError`] when that cannot be told.
    fn overridden(&mut self, target: &Target, control: ShapedControl) -> Result<Override, ShapeError>;

    /// What an undo of the control will have to put back.
    ///
    /// # Errors
    /// [`ShapeError`] when it cannot be read: then the control must not be written.
    fn prior(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError>;

    /// Writes a control.
    ///
    /// # Errors
    /// [`ShapeError`] when it was not taken.
    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError>;

    /// What the owner made of the last write, where it keeps a drop-in: to know it again.
    fn made(&mut self, _target: &Target, _control: ShapedControl) -> Option<Vec<u8>> {
        None
    }

    /// Puts back what was before; those that could not be are given back with why.
    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)>;

    /// The same as [`Holds::above`] for a target that was found: a write may turn a controller on for its siblings, and for those
    /// of each group above.
    fn enabled_above(&self, place: &Place) -> Above;

    /// Whether the last reclaim of the target freed less than was asked for; told once, `None` while it runs.
    fn take_reclaimed(&mut self, place: &Place) -> Option<bool>;

    /// Asks the kernel to reclaim memory of the target; comes back at once.
    fn reclaim(&mut self, place: &Place, bytes: u64);
}

/// Whether a control's values outlive a boot: then the next start puts them back.
pub const fn outlives_boot(control: ShapedControl) -> bool {
    matches!(control, ShapedControl::Storage)
}

/// One control to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Of what.
    pub target: Target,
    /// Which.
    pub control: ShapedControl,
    /// To what.
    pub prior: Prior,
    /// Whether another writer has it by now: then what is not ours stays.
    pub is_contested: bool,
    /// What our last write made of the drop-in; `None` where that is not known.
    pub ours: Option<Vec<u8>>,
}
