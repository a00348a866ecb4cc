//! The direct backend: moves groups of Quotary's own, by their files.
//!
//! Does: reads and writes the controls of groups below our parent, on version 1 and version 2.
//! May assume: nobody else writes there; the parent is ours (the enforcer made it, or an administrator delegated it).
//! Promises: no file outside our subtree is touched, no link followed.
//! Must never: write a group that systemd made.
//!
//! On version 1 a weight is `cpu.shares`, and `memory.high` is the soft limit, which the kernel takes and does not act upon
//! (wire.md, settled question 16). Forms: kernel documentation, admin-guide/cgroup-v1/ and scheduler/sched-bwc.rst.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use quotary_common::envelope::{BackendKind, ControlValue, Hierarchy};
use quotary_common::plan::{ShapedControl, Target};

use super::ShapeError;
use super::above::Above;
use super::backend::{Backend, Override, Place, Prior, Undo};
use super::controller::{Actual, Counters, Reading, Value};
use super::groups_held::group_of;
use super::kernel::{Tree, keyed};
use super::reclaim::Reclaimer;
use crate::enforce::controls::{Control, Controller, Knob, PERIOD_US};
use crate::enforce::direct::{Direct, read_file, write_file};
use crate::enforce::group::GroupPath;
use crate::enforce::probe::{Mount, Survey, probe};
use crate::enforce::{self, CgroupsRs, Device};

/// The backend.
#[derive(Debug)]
pub struct Groups {
    hierarchy: Hierarchy,
    mounts: Vec<Mount>,
    /// The unified tree, where controllers are on it.
    tree: Option<(Tree, Reclaimer)>,
    /// Makes, enters and removes the groups of grants.
    pub(super) held: Direct,
    parent: GroupPath,
    devices: Vec<Device>,
}

impl Groups {
    /// The groups below `parent` in the tree below `root`; `None` where nothing can be written.
    pub fn below(root: &Path, parent: &GroupPath, devices: Vec<Device>) -> Option<Self> {
        let survey = probe(root, parent);
        let is_usable = survey.capabilities.writable && survey.capabilities.hierarchy != Hierarchy::None;
        if is_usable { Self::over(root, survey, parent, devices, Box::new(CgroupsRs)) } else { None }
    }

    /// As [`Groups::below`], in a tree that was looked at, with `kernel` making and removing groups.
    pub(super) fn over(
        root: &Path,
        survey: Survey,
        parent: &GroupPath,
        devices: Vec<Device>,
        kernel: Box<dyn enforce::Groups>,
    ) -> Option<Self> {
        let Survey { capabilities, mounts } = survey;
        let tree = match capabilities.hierarchy {
            Hierarchy::V2 => {
                let tree = Tree::of(root)?;
                let reclaimer = Reclaimer::start(tree.mount().clone()).ok()?;
                Some((tree, reclaimer))
            }
            Hierarchy::V1 | Hierarchy::None => None,
        };
        let hierarchy = capabilities.hierarchy;
        let held = Direct::new(hierarchy, mounts.clone(), kernel);
        Some(Self { hierarchy, mounts, tree, held, parent: parent.clone(), devices })
    }

    /// The group, where it is one of ours.
    fn group_of(&self, target: &Target) -> Option<GroupPath> {
        let group = group_of(target).ok()?;
        let inside = group.as_str().strip_prefix(self.parent.as_str()).is_some_and(|rest| rest.starts_with('/'));
        inside.then_some(group)
    }

    fn mount(&self, controller: Controller) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.controllers.contains(&controller))
    }

    fn text(&self, controller: Controller, group: &GroupPath, name: &str) -> Option<String> {
        read_file(self.mount(controller)?, Some(group), name).ok()
    }

    fn actual_legacy(&self, group: &GroupPath, control: ShapedControl) -> Actual {
        let number = |controller, name: &str| self.text(controller, group, name)?.trim().parse::<u64>().ok();
        match control {
            ShapedControl::CpuWeight => {
                let shares = number(Controller::Cpu, "cpu.shares");
                shares.map_or(Actual::Absent, |shares| Actual::Value((shares * 100 + 512) / 1024))
            }
            ShapedControl::CpuQuota => self.quota_legacy(group),
            ShapedControl::MemoryHigh => match number(Controller::Memory, "memory.soft_limit_in_bytes") {
                None => Actual::Absent,
                // The largest page count: no limit.
                Some(bytes) if bytes >= 1 << 62 => Actual::Unlimited,
                Some(bytes) => Actual::Value(bytes),
            },
            ShapedControl::IoReadMax => self.throttle_legacy(group, READ_THROTTLE),
            ShapedControl::IoWriteMax => self.throttle_legacy(group, WRITE_THROTTLE),
            _ => Actual::Absent,
        }
    }

    fn quota_legacy(&self, group: &GroupPath) -> Actual {
        let number =
            |name: &str| self.text(Controller::Cpu, group, name).and_then(|text| text.trim().parse::<i64>().ok());
        match (number("cpu.cfs_quota_us"), number("cpu.cfs_period_us")) {
            (Some(quota), _) if quota < 0 => Actual::Unlimited,
            (Some(quota), Some(period)) if period > 0 => {
                u64::try_from(quota.saturating_mul(1000) / period).map_or(Actual::Absent, Actual::Value)
            }
            _ => Actual::Absent,
        }
    }

    fn throttle_legacy(&self, group: &GroupPath, name: &str) -> Actual {
        let Some(text) = self.text(Controller::Disk, group, name) else { return Actual::Absent };
        let rates = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
        rates.min().map_or(Actual::Unlimited, Actual::Value)
    }

    fn read_legacy(&self, group: &GroupPath, controls: &[ShapedControl]) -> Reading {
        let actual: BTreeMap<_, _> =
            controls.iter().map(|control| (*control, self.actual_legacy(group, *control))).collect();
        let cpu = self.text(Controller::Cpu, group, "cpu.stat").unwrap_or_default();
        let memory = self.text(Controller::Memory, group, "memory.oom_control").unwrap_or_default();
        let usage = self.text(Controller::Memory, group, "memory.usage_in_bytes");
        Reading {
            actual,
            memory_current_bytes: usage.and_then(|text| text.trim().parse().ok()),
            counters: Counters {
                memory_high: None,
                oom: None,
                oom_kill: keyed(&memory, "oom_kill"),
                nr_throttled: keyed(&cpu, "nr_throttled"),
                throttled_us: keyed(&cpu, "throttled_time").map(|nanoseconds| nanoseconds / 1000),
            },
            ..Reading::default()
        }
    }

    fn write_files(
        &self,
        group: &GroupPath,
        control: ShapedControl,
        value: Value,
        disks: &[Device],
    ) -> Result<(), ShapeError> {
        for (controller, name, text) in self.files(control, value, disks).ok_or(ShapeError::Unsupported(control))? {
            let mount = self.mount(controller).ok_or(ShapeError::Unsupported(control))?;
            write_file(mount, Some(group), name, &text)?;
        }
        Ok(())
    }

    /// Which files to write, with what.
    fn files(
        &self,
        control: ShapedControl,
        value: Value,
        disks: &[Device],
    ) -> Option<Vec<(Controller, &'static str, String)>> {
        let or_max = |word: &str| match value {
            Value::Unlimited => word.to_owned(),
            Value::Value(number) => number.to_string(),
        };
        let one = |controller, name, text| Some(vec![(controller, name, text)]);
        let quota_us = |millicores: u64| millicores.saturating_mul(PERIOD_US) / 1000;
        let is_unified = self.hierarchy == Hierarchy::V2;
        match (control, value) {
            (ShapedControl::CpuWeight, _) if is_unified => one(Controller::Cpu, "cpu.weight", or_max("100")),
            (ShapedControl::CpuWeight, _) => {
                let weight = if let Value::Value(weight) = value { weight } else { 100 };
                one(Controller::Cpu, "cpu.shares", (weight.saturating_mul(1024) / 100).max(2).to_string())
            }
            (ShapedControl::CpuIdle, _) if is_unified => one(Controller::Cpu, "cpu.idle", or_max("0")),
            (ShapedControl::CpuQuota, Value::Unlimited) if is_unified => one(Controller::Cpu, "cpu.max", "max".into()),
            (ShapedControl::CpuQuota, Value::Value(millicores)) if is_unified => {
                one(Controller::Cpu, "cpu.max", format!("{} {PERIOD_US}", quota_us(millicores)))
            }
            (ShapedControl::CpuQuota, Value::Unlimited) => one(Controller::Cpu, "cpu.cfs_quota_us", "-1".into()),
            (ShapedControl::CpuQuota, Value::Value(millicores)) => Some(vec![
                (Controller::Cpu, "cpu.cfs_period_us", PERIOD_US.to_string()),
                (Controller::Cpu, "cpu.cfs_quota_us", quota_us(millicores).to_string()),
            ]),
            (ShapedControl::MemoryHigh, _) if is_unified => one(Controller::Memory, "memory.high", or_max("max")),
            (ShapedControl::MemoryHigh, _) => one(Controller::Memory, "memory.soft_limit_in_bytes", or_max("-1")),
            (ShapedControl::MemoryLow, _) if is_unified => one(Controller::Memory, "memory.low", or_max("max")),
            (ShapedControl::IoWeight, _) if is_unified => one(Controller::Disk, "io.weight", or_max("100")),
            (ShapedControl::IoReadMax, _) => self.disk_files("rbps", READ_THROTTLE, value, disks),
            (ShapedControl::IoWriteMax, _) => self.disk_files("wbps", WRITE_THROTTLE, value, disks),
            _ => None,
        }
    }

    fn disk_files(
        &self,
        key: &str,
        legacy: &'static str,
        value: Value,
        disks: &[Device],
    ) -> Option<Vec<(Controller, &'static str, String)>> {
        let one = |device: &Device| {
            let Device { major, minor } = device;
            match (self.hierarchy, value) {
                (Hierarchy::V2, Value::Unlimited) => (Controller::Disk, "io.max", format!("{major}:{minor} {key}=max")),
                (Hierarchy::V2, Value::Value(rate)) => {
                    (Controller::Disk, "io.max", format!("{major}:{minor} {key}={rate}"))
                }
                (_, Value::Unlimited) => (Controller::Disk, legacy, format!("{major}:{minor} 0")),
                (_, Value::Value(rate)) => (Controller::Disk, legacy, format!("{major}:{minor} {rate}")),
            }
        };
        (!disks.is_empty()).then(|| disks.iter().map(one).collect())
    }

    fn dir_of(&self, group: &GroupPath) -> Option<PathBuf> {
        self.mounts.first().map(|mount| mount.dir.join(group.relative()))
    }
}

const READ_THROTTLE: &str = "blkio.throttle.read_bps_device";
const WRITE_THROTTLE: &str = "blkio.throttle.write_bps_device";

impl Backend for Groups {
    fn kind_of(&self, _: &Target) -> BackendKind {
        BackendKind::Direct
    }

    fn supports(&self, control: ShapedControl) -> bool {
        let files = self.files(control, Value::Value(control.range().1), &self.devices).unwrap_or_default();
        files.first().is_some_and(|(controller, ..)| self.mount(*controller).is_some())
    }

    fn takes_effect(&self, _: &Target, place: &Place, control: ShapedControl, shown: Value) -> bool {
        let is_so = match (&self.tree, control) {
            (Some((tree, _)), _) => tree.takes_effect(&place.cgroup, control, shown),
            // Version 1 has a soft limit that it acts upon only when all memory is short, if at all.
            (None, ShapedControl::MemoryHigh) => false,
            (None, ShapedControl::CpuQuota) => {
                let files = self.files(control, shown, &self.devices).unwrap_or_default();
                let quota = files.iter().find(|(_, file, _)| *file == Control::CpuQuota.file_name());
                let knob = Knob { control: Control::CpuQuota, device: None };
                quota.is_some_and(|(.., text)| {
                    !self.held.is_bounded_above(&place.cgroup, knob, &ControlValue::lossy(text))
                })
            }
            (None, _) => true,
        };
        self.supports(control) && is_so
    }

    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError> {
        let Some(cgroup) = self.group_of(target) else { return Ok(None) };
        let facts = self.dir_of(&cgroup).and_then(|dir| std::fs::symlink_metadata(dir).ok());
        Ok(facts.filter(std::fs::Metadata::is_dir).map(|facts| Place {
            cgroup,
            instance: facts.ino().to_string(),
            oomd_limit_permille: None,
            is_unit: false,
        }))
    }

    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading {
        match &self.tree {
            Some((tree, _)) => tree.read(&place.cgroup, controls),
            None => self.read_legacy(&place.cgroup, controls),
        }
    }

    fn overridden(&mut self, _: &Target, _: ShapedControl) -> Result<Override, ShapeError> {
        Ok(Override::None)
    }

    fn prior(&mut self, _: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError> {
        let note = Prior::note_of_disks(control, &self.devices);
        Ok(Prior { value, drop_in: None, drop_in_path: None, note })
    }

    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError> {
        let group = self.group_of(target).ok_or(ShapeError::Unsupported(control))?;
        self.write_files(&group, control, value, &self.devices)
    }

    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let mut failed = Vec::new();
        for undo in undos {
            if undo.is_contested {
                continue;
            }
            // Wherever it stands: the configured parent may have changed since it was written.
            let Ok(group) = group_of(&undo.target) else { continue };
            let disks = undo.prior.disks(&self.devices);
            // A group that is gone took its values along.
            let is_there = self.dir_of(&group).is_some_and(|dir| dir.is_dir());
            if is_there && let Err(error) = self.write_files(&group, undo.control, undo.prior.value, &disks) {
                failed.push((undo, error));
            }
        }
        failed
    }

    fn enabled_above(&self, place: &Place) -> Above {
        self.tree.as_ref().map(|(tree, _)| tree.enabled_above(&place.cgroup)).unwrap_or_default()
    }

    fn take_reclaimed(&mut self, place: &Place) -> Option<bool> {
        self.tree.as_ref().and_then(|(_, reclaimer)| reclaimer.take_outcome(&place.cgroup))
    }

    fn reclaim(&mut self, place: &Place, bytes: u64) {
        if let Some((_, reclaimer)) = &self.tree {
            reclaimer.reclaim(&place.cgroup, bytes);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::CgroupPath;

    use super::*;
    use crate::enforce::tests::fake::{FakeKernel, Host};

    fn groups(host: &Host, parent: &str, devices: Vec<Device>) -> Groups {
        let parent = GroupPath::parse(parent).unwrap();
        let survey = probe(&host.path(""), &parent);
        Groups::over(&host.path(""), survey, &parent, devices, Box::new(FakeKernel::default())).unwrap()
    }

    #[test]
    fn what_was_written_is_put_back_whatever_parent_and_disks_are_configured_by_then() {
        let host = Host::version_2();
        host.put("sys/fs/cgroup/quotary/a/io.max", "");
        host.put("sys/fs/cgroup/quotary/a/cpu.weight", "70");
        let (old, new) = (Device { major: 8, minor: 0 }, Device { major: 8, minor: 16 });
        let target = Target::Cgroup(CgroupPath::lossy("/quotary/a"));
        let mut before = groups(&host, "/quotary", vec![old]);
        let undos: Vec<Undo> =
            [(ShapedControl::IoReadMax, Value::Unlimited), (ShapedControl::CpuWeight, Value::Value(70))]
                .map(|(control, value)| {
                    let prior = before.prior(&target, control, value).unwrap();
                    before.write(&target, control, Value::Value(50)).unwrap();
                    Undo { target: target.clone(), control, prior, is_contested: false, ours: None }
                })
                .into();
        assert_eq!(host.get("sys/fs/cgroup/quotary/a/io.max"), "8:0 rbps=50");
        let mut after = groups(&host, "/other", vec![]);
        assert!(after.write(&target, ShapedControl::CpuWeight, Value::Value(40)).is_err(), "none of its own");
        assert_eq!(undos[0].prior.disks(&[new]), [old, new]);
        assert!(after.undo(undos).is_empty());
        assert_eq!(host.get("sys/fs/cgroup/quotary/a/io.max"), "8:0 rbps=max");
        assert_eq!(host.get("sys/fs/cgroup/quotary/a/cpu.weight"), "70");
    }
}
