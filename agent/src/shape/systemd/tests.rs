//! Values of a unit over a manager in a tree of files: how they go when something is in the way.

use std::fs;
use std::sync::atomic::Ordering;

use quotary_common::envelope::Name;
use quotary_common::plan::{ShapedControl, Target};
use tempfile::TempDir;

use super::fake::FakeManager;
use crate::enforce::tests::fake::FakeKernel;
use crate::shape::ShapeError;
use crate::shape::backend::{Backend, Override, Undo};
use crate::shape::controller::Value;

const UNIT: &str = "quotary-abc.scope";

struct World {
    temp: TempDir,
    manager: FakeManager,
    door: Box<dyn Backend>,
    unit: Target,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("sys/fs/cgroup/quotary.slice").join(UNIT);
        fs::create_dir_all(&dir).unwrap();
        fs::write(temp.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu io memory pids\n").unwrap();
        for (name, text) in [("memory.high", "max"), ("cpu.weight", "100")] {
            fs::write(dir.join(name), text).unwrap();
        }
        let manager = FakeManager::of(temp.path());
        let door = manager.door(Vec::new(), Box::new(FakeKernel::default()));
        Self { temp, manager, door, unit: Target::Unit(Name::lossy(UNIT)) }
    }

    fn shows(&self, name: &str) -> String {
        let group = self.temp.path().join("sys/fs/cgroup/quotary.slice").join(UNIT);
        fs::read_to_string(group.join(name)).unwrap()
    }

    /// Writes a control; what takes it back.
    fn write(&mut self, control: ShapedControl, before: Value, value: u64) -> Undo {
        let prior = self.door.prior(&self.unit, control, before).unwrap();
        self.door.write(&self.unit, control, Value::Value(value)).unwrap();
        // As a restarted agent knows it, from its journal.
        let ours = self.door.made(&self.unit, control);
        Undo { target: self.unit.clone(), control, prior, is_contested: false, ours }
    }
}

#[test]
fn a_manager_that_is_away_at_the_undo_leaves_it_to_be_done() {
    let mut world = World::new();
    let undo = world.write(ShapedControl::MemoryHigh, Value::Unlimited, 4096);
    world.manager.is_away.store(true, Ordering::Relaxed);
    let failed = world.door.undo(vec![undo.clone()]);
    assert_eq!((failed.len(), world.shows("memory.high").as_str()), (1, "4096"));
    world.manager.is_away.store(false, Ordering::Relaxed);
    assert!(world.door.undo(vec![undo]).is_empty());
    assert_eq!((world.shows("memory.high").as_str(), world.manager.drop_ins()), ("max", vec![]));
}

#[test]
fn a_unit_is_known_by_its_own_name_alone() {
    let mut world = World::new();
    world.manager.aliases.lock().unwrap().insert(UNIT.to_owned(), "real.scope".to_owned());
    let told = world.door.find(&world.unit);
    assert!(matches!(&told, Err(ShapeError::Alias { unit, .. }) if unit == "real.scope"), "{told:?}");
}

#[test]
fn what_another_writer_made_of_our_drop_in_stays_and_our_own_goes() {
    let mut world = World::new();
    let contested = |undo: Undo| Undo { is_contested: true, ..undo };
    let theirs = world.temp.path().join(format!("run/systemd/transient/{UNIT}.d/50-CPUWeight.conf"));
    let undo = contested(world.write(ShapedControl::CpuWeight, Value::Value(100), 50));
    fs::write(&theirs, "[Scope]\nCPUWeight=7\n").unwrap();
    assert!(world.door.undo(vec![undo]).is_empty());
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "[Scope]\nCPUWeight=7\n");
    // Past the manager: its drop-in is ours still, and would come back.
    let undo = contested(world.write(ShapedControl::MemoryHigh, Value::Unlimited, 4096));
    assert!(world.door.undo(vec![undo]).is_empty());
    assert_eq!(world.manager.drop_ins(), ["50-CPUWeight.conf"]);
}

#[test]
fn an_administrators_drop_in_that_comes_after_ours_is_an_override_for_good() {
    let mut world = World::new();
    let file = world.temp.path().join("override.conf");
    let early = world.temp.path().join("10-early.conf");
    fs::write(&early, "[Service]\nMemoryHigh=1G\n").unwrap();
    let paths = [&early, &file].map(|path| path.display().to_string()).to_vec();
    *world.manager.drop_in_paths.lock().unwrap() = paths;
    let mut of = |text: &str, control| {
        fs::write(&file, text).unwrap();
        world.door.overridden(&world.unit, control).unwrap()
    };
    assert_eq!(of("[Service]\n  MemoryHigh = 1G\n", ShapedControl::MemoryHigh), Override::Persistent);
    assert_eq!(of("[Service]\nMemoryHigh=1G\n", ShapedControl::CpuWeight), Override::None);
    assert_eq!(of("[Service]\n#MemoryHigh=1G\nMemoryHighest=1\n", ShapedControl::MemoryHigh), Override::None);
    assert_eq!(of(&"#".repeat(70_000), ShapedControl::MemoryHigh), Override::Persistent, "it may say anything");
    // As configuration management links them.
    let stored = world.temp.path().join("stored");
    fs::write(&stored, "[Service]\nTasksMax=9\n").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&stored, &file).unwrap();
    assert_eq!(world.door.overridden(&world.unit, ShapedControl::MemoryHigh).unwrap(), Override::None);
    fs::write(&stored, "[Service]\nMemoryHigh=9\n").unwrap();
    assert_eq!(world.door.overridden(&world.unit, ShapedControl::MemoryHigh).unwrap(), Override::Persistent);
}
