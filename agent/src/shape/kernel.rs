//! What the kernel says of one cgroup (version 2): its controls, its pressure, its counts.
//!
//! Reading is always allowed, also below what systemd owns (systemd, Control Group APIs and Delegation). Forms: kernel
//! documentation, admin-guide/cgroup-v2.rst.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quotary_common::envelope::CgroupPath;
use quotary_common::plan::ShapedControl;

use super::above::Above;
use super::controller::{Actual, Counters, Reading, Value};
use crate::enforce::direct::read_file;
use crate::enforce::group::GroupPath;
use crate::enforce::probe::{Mount, list};

/// Most disks that are looked at for their schedulers.
const DISKS_MAX: usize = 1024;

/// The unified tree.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    mount: Mount,
    offered: Vec<String>,
    /// Where the host's disks are listed.
    disks: PathBuf,
}

impl Tree {
    /// The tree below `root`; `None` where its controllers are not on version 2.
    pub(super) fn of(root: &Path) -> Option<Self> {
        let dir = root.join("sys/fs/cgroup");
        let offered = list(&dir.join("cgroup.controllers"));
        let has = |name: &str| offered.iter().any(|word| word == name);
        let disks = root.join("sys/block");
        (has("cpu") || has("memory")).then(|| Self { mount: Mount { controllers: Vec::new(), dir }, offered, disks })
    }

    pub(super) fn mount(&self) -> &Mount {
        &self.mount
    }

    fn text(&self, group: &GroupPath, name: &str) -> Option<String> {
        read_file(&self.mount, Some(group), name).ok()
    }

    /// The controllers that the children of each group above one have, the innermost first and the root last.
    pub(super) fn enabled_above(&self, group: &GroupPath) -> Above {
        let above = std::iter::successors(group.parent(), GroupPath::parent);
        let all = above.map(Some).chain([None]);
        all.filter_map(|group| {
            let text = read_file(&self.mount, group.as_ref(), "cgroup.subtree_control").ok()?;
            let path = group.map_or_else(|| CgroupPath::lossy("/"), |group| group.as_cgroup().clone());
            Some((path, text.trim().to_owned()))
        })
        .collect()
    }

    /// Whether the host has the controller of a control at all.
    pub(super) fn offers(&self, control: ShapedControl) -> bool {
        let name = match control {
            ShapedControl::CpuWeight | ShapedControl::CpuIdle | ShapedControl::CpuQuota => "cpu",
            ShapedControl::MemoryHigh | ShapedControl::MemoryLow => "memory",
            ShapedControl::IoWeight | ShapedControl::IoReadMax | ShapedControl::IoWriteMax => "io",
            ShapedControl::NetworkEgress | ShapedControl::Storage => return false,
        };
        self.offered.iter().any(|word| word == name)
    }

    /// Whether a value that a group shows takes effect: no group above has a stricter limit, or keeps less memory back for those
    /// below; and a weight of disks has somebody who shares them out by it (cgroup-v2: "io.weight").
    pub(super) fn takes_effect(&self, group: &GroupPath, control: ShapedControl, shown: Value) -> bool {
        let own = match shown {
            Value::Value(value) => value,
            Value::Unlimited => u64::MAX,
        };
        let mut above = std::iter::successors(group.parent(), GroupPath::parent);
        let is_less = |actual: Actual| matches!(actual, Actual::Value(value) if value < own);
        match control {
            ShapedControl::MemoryHigh => !above.any(|group| {
                let hard = self.text(&group, "memory.max").and_then(|text| text.trim().parse().ok());
                is_less(self.actual(&group, control)) || hard.is_some_and(|hard: u64| hard < own)
            }),
            ShapedControl::CpuQuota
            | ShapedControl::MemoryLow
            | ShapedControl::IoReadMax
            | ShapedControl::IoWriteMax => !above.any(|group| is_less(self.actual(&group, control))),
            ShapedControl::IoWeight => self.shares_disks_by_weight(),
            _ => true,
        }
    }

    /// Whether io.cost is on for a disk, or a disk's scheduler is bfq.
    fn shares_disks_by_weight(&self) -> bool {
        let qos = read_file(&self.mount, None, "io.cost.qos").unwrap_or_default();
        let disks = std::fs::read_dir(&self.disks).into_iter().flatten().flatten();
        let mut schedulers =
            disks.take(DISKS_MAX).filter_map(|disk| std::fs::read_to_string(disk.path().join("queue/scheduler")).ok());
        qos.split_ascii_whitespace().any(|word| word == "enable=1") || schedulers.any(|list| list.contains("[bfq]"))
    }

    /// What a control shows.
    ///
    /// One whose controller is there but off for this group's siblings has its default: the first write turns it on.
    fn actual(&self, group: &GroupPath, control: ShapedControl) -> Actual {
        if !self.offers(control) {
            return Actual::Absent;
        }
        let file = control.file_name().split(' ').next().unwrap_or_default();
        let Some(text) = self.text(group, file) else {
            // A group that has the controller and not the file: this kernel does not know the control.
            let enabled = self.text(group, "cgroup.controllers").unwrap_or_default();
            let controller = file.split('.').next().unwrap_or_default();
            let is_on = enabled.split_ascii_whitespace().any(|word| word == controller);
            return if is_on { Actual::Absent } else { default_of(control) };
        };
        shown(control, text.trim())
    }

    /// All that the controller wants to know of a group.
    pub(super) fn read(&self, group: &GroupPath, controls: &[ShapedControl]) -> Reading {
        let actual: BTreeMap<_, _> = controls.iter().map(|control| (*control, self.actual(group, *control))).collect();
        let number = |name: &str| self.text(group, name)?.trim().parse().ok();
        let pressure = |name: &str| some_avg10_permille(&self.text(group, name)?);
        let memory = self.text(group, "memory.events").unwrap_or_default();
        let cpu = self.text(group, "cpu.stat").unwrap_or_default();
        Reading {
            actual,
            memory_current_bytes: number("memory.current"),
            memory_pressure_permille: pressure("memory.pressure"),
            cpu_pressure_permille: pressure("cpu.pressure"),
            io_pressure_permille: pressure("io.pressure"),
            counters: Counters {
                memory_high: keyed(&memory, "high"),
                oom: keyed(&memory, "oom"),
                oom_kill: keyed(&memory, "oom_kill"),
                nr_throttled: keyed(&cpu, "nr_throttled"),
                throttled_us: keyed(&cpu, "throttled_usec"),
            },
            ..Reading::default()
        }
    }
}

/// What a control is worth where nobody set it.
fn default_of(control: ShapedControl) -> Actual {
    match control {
        ShapedControl::CpuWeight | ShapedControl::IoWeight => Actual::Value(100),
        ShapedControl::CpuIdle | ShapedControl::MemoryLow => Actual::Value(0),
        _ => Actual::Unlimited,
    }
}

/// A control's file in the units of plans.
fn shown(control: ShapedControl, text: &str) -> Actual {
    let value = |text: &str| match text {
        "max" => Actual::Unlimited,
        number => number.parse().map_or(Actual::Absent, Actual::Value),
    };
    match control {
        ShapedControl::IoWeight => value(text.lines().next().unwrap_or_default().trim_start_matches("default ")),
        ShapedControl::CpuQuota => quota(text),
        ShapedControl::IoReadMax => io_max(text, "rbps="),
        ShapedControl::IoWriteMax => io_max(text, "wbps="),
        _ => value(text),
    }
}

/// `QUOTA PERIOD` in microseconds, as thousandths of a core.
fn quota(text: &str) -> Actual {
    let mut words = text.split_ascii_whitespace();
    let (quota, period) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if quota == "max" {
        return Actual::Unlimited;
    }
    let read = |text: &str| text.parse::<u128>().ok().filter(|number| *number > 0);
    let millicores =
        read(quota).zip(read(period)).and_then(|(quota, period)| u64::try_from(quota * 1000 / period).ok());
    millicores.map_or(Actual::Absent, Actual::Value)
}

/// The least of what any disk is given.
fn io_max(text: &str, key: &str) -> Actual {
    let words = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse().ok());
    words.min().map_or(Actual::Unlimited, Actual::Value)
}

/// `avg10` of PSI's `some` line, thousandths.
fn some_avg10_permille(text: &str) -> Option<u16> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let avg10 = some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    let (whole, part) = avg10.split_once('.')?;
    let tenth: u16 = part.get(..1)?.parse().ok()?;
    whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenth)
}

/// The number after `key` in a flat-keyed file.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree, GroupPath) {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("sys/fs/cgroup");
        fs::create_dir_all(base.join("a")).unwrap();
        fs::write(base.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        for (name, text) in files {
            fs::write(base.join("a").join(name), text).unwrap();
        }
        let tree = Tree::of(temp.path()).unwrap();
        (temp, tree, GroupPath::parse("/a").unwrap())
    }

    #[test]
    fn controls_are_read_in_the_units_of_plans() {
        let (_temp, tree, group) = tree(&[
            ("cpu.weight", "50\n"),
            ("cpu.max", "20000 100000\n"),
            ("memory.high", "max\n"),
            ("memory.low", "4096\n"),
            ("io.weight", "default 100\n8:0 200\n"),
            ("io.max", "8:0 rbps=2097152 wbps=max riops=max wiops=max\n259:0 rbps=1048576 wbps=max\n"),
        ]);
        use ShapedControl::*;
        let read = tree.read(&group, &ShapedControl::ALL);
        let all: Vec<Actual> = ShapedControl::ALL.iter().map(|control| read.actual(*control)).collect();
        let expected = [
            (CpuWeight, Actual::Value(50)),
            (CpuIdle, Actual::Value(0)),
            (CpuQuota, Actual::Value(200)),
            (MemoryHigh, Actual::Unlimited),
            (MemoryLow, Actual::Value(4096)),
            (IoWeight, Actual::Value(100)),
            (IoReadMax, Actual::Value(1_048_576)),
            (IoWriteMax, Actual::Unlimited),
            (NetworkEgress, Actual::Absent),
            (Storage, Actual::Absent),
        ];
        assert_eq!(all, expected.map(|(_, actual)| actual));
    }

    #[test]
    fn a_controller_that_is_off_shows_defaults_and_a_control_that_the_kernel_lacks_is_absent() {
        let (_temp, tree, group) = tree(&[("cgroup.controllers", "memory pids\n")]);
        let read = tree.read(&group, &[ShapedControl::CpuWeight, ShapedControl::MemoryHigh]);
        assert_eq!(read.actual(ShapedControl::CpuWeight), Actual::Value(100), "the first write turns it on");
        assert_eq!(read.actual(ShapedControl::MemoryHigh), Actual::Absent);
    }

    #[test]
    fn a_value_takes_effect_only_where_no_group_above_is_stricter_and_a_weight_only_where_disks_are_shared_by_it() {
        let (temp, tree, parent) = tree(&[]);
        let (above, group) = (tree.mount().dir.join("a"), GroupPath::parse("/a/b").unwrap());
        assert_eq!(group.parent(), Some(parent));
        let is_so = |control, value| tree.takes_effect(&group, control, value);
        use ShapedControl::*;
        let put = |file: &str, text: &str| fs::write(above.join(file), text).unwrap();
        assert!(is_so(MemoryHigh, Value::Value(100)) && is_so(MemoryHigh, Value::Unlimited));
        put("memory.high", "99\n");
        assert!(!is_so(MemoryHigh, Value::Value(100)) && is_so(MemoryHigh, Value::Value(99)));
        put("memory.high", "max\n");
        put("memory.max", "50\n");
        assert!(!is_so(MemoryHigh, Value::Value(99)));
        put("memory.low", "0\n");
        assert!(!is_so(MemoryLow, Value::Value(1)), "a group above that keeps nothing back keeps nothing back for it");
        put("memory.low", "1\n");
        assert!(is_so(MemoryLow, Value::Value(1)));
        put("cpu.max", "50000 100000\n");
        assert!(!is_so(CpuQuota, Value::Value(501)) && is_so(CpuQuota, Value::Value(500)));
        assert!(!is_so(IoWeight, Value::Value(50)));
        let queue = temp.path().join("sys/block/vda/queue");
        fs::create_dir_all(&queue).unwrap();
        fs::write(queue.join("scheduler"), "none [mq-deadline]\n").unwrap();
        assert!(!is_so(IoWeight, Value::Value(50)));
        fs::write(queue.join("scheduler"), "none [bfq]\n").unwrap();
        assert!(is_so(IoWeight, Value::Value(50)));
    }

    #[test]
    fn pressure_and_counts_are_read() {
        let (_temp, tree, group) = tree(&[
            (
                "memory.pressure",
                "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0 avg300=0 total=1\n",
            ),
            ("memory.current", "1048576\n"),
            ("memory.events", "low 0\nhigh 7\nmax 0\noom 1\noom_kill 2\n"),
            ("cpu.stat", "usage_usec 5\nnr_periods 3\nnr_throttled 2\nthrottled_usec 900\n"),
        ]);
        let read = tree.read(&group, &[]);
        assert_eq!(read.memory_pressure_permille, Some(123));
        assert_eq!(read.cpu_pressure_permille, None, "no PSI, no pressure");
        assert_eq!(read.memory_current_bytes, Some(1 << 20));
        let counters = Counters {
            memory_high: Some(7),
            oom: Some(1),
            oom_kill: Some(2),
            nr_throttled: Some(2),
            throttled_us: Some(900),
        };
        assert_eq!(read.counters, counters);
    }

    #[test]
    fn what_is_not_in_the_kernels_form_is_absent() {
        let (_temp, tree, group) =
            tree(&[("cpu.weight", "many\n"), ("cpu.max", "5\n"), ("memory.pressure", "some avg10=x\n")]);
        let read = tree.read(&group, &[ShapedControl::CpuWeight, ShapedControl::CpuQuota]);
        assert_eq!(read.actual(ShapedControl::CpuWeight), Actual::Absent);
        assert_eq!(read.actual(ShapedControl::CpuQuota), Actual::Absent);
        assert_eq!(read.memory_pressure_permille, None);
    }

    #[test]
    fn a_host_whose_controllers_are_on_version_1_has_no_tree() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("sys/fs/cgroup/unified")).unwrap();
        assert!(Tree::of(temp.path()).is_none());
    }
}
