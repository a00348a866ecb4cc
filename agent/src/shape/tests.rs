#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::{BackendKind, CgroupPath, EventKind, Mode, Name};
use quotary_common::id::{BootId, DeploymentId, HostId, PlanId};
use quotary_common::plan::{Course, OnPressure, Plan, Setpoint, ShapedControl, Target, VerifiedPlan};

use super::above::Above;
use super::backend::{Backend, Override, Place, Prior, Undo};
use super::controller::{Actual, CheckedRules, Now, Reading, Value};
use super::shaper::{Config, OfGrants, Shaper};
use super::{Local, ShapeError};
use crate::enforce::group::GroupPath;
use crate::enforce::tests::verified_with;
use crate::state::StateDir;

mod between;
mod decided;
mod many;
mod scopes;

const BOOT: BootId = BootId::new([1; 16]);
const MIB: u64 = 1 << 20;
const START_MS: u64 = 1_700_000_000_000;

/// A manager in memory: what each unit has, and how often it was asked to write.
#[derive(Debug, Default)]
struct World {
    units: BTreeMap<String, BTreeMap<ShapedControl, Value>>,
    writes: usize,
    overridden: Option<Override>,
    is_refusing: bool,
    /// The first write turns a controller on above.
    is_first_use: bool,
    /// It shows so many looks after the write.
    shows_after: usize,
}

#[derive(Debug, Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn with(unit: &str) -> Self {
        let fake = Self::default();
        let values = [(ShapedControl::MemoryHigh, Value::Unlimited), (ShapedControl::CpuWeight, Value::Value(100))];
        fake.0.lock().unwrap().units.insert(unit.to_owned(), BTreeMap::from(values));
        fake
    }
    fn get(&self, unit: &str, control: ShapedControl) -> Value {
        self.0.lock().unwrap().units[unit][&control]
    }
    fn set(&self, unit: &str, control: ShapedControl, value: Value) {
        if let Some(values) = self.0.lock().unwrap().units.get_mut(unit) {
            values.insert(control, value);
        }
    }
    fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }
}

impl super::holds::Holds for Fake {}

impl Backend for Fake {
    fn kind_of(&self, _: &Target) -> BackendKind {
        BackendKind::Systemd
    }
    fn takes_effect(&self, _: &Target, _: &Place, _: ShapedControl, _: Value) -> bool {
        true
    }
    fn supports(&self, _: ShapedControl) -> bool {
        true
    }
    fn find(&mut self, target: &Target) -> Result<Option<Place>, ShapeError> {
        let name = target.to_string();
        let is_there = self.0.lock().unwrap().units.contains_key(&name);
        let cgroup = GroupPath::parse(&format!("/system.slice/{name}")).unwrap();
        let place = Place { cgroup, instance: "1".to_owned(), oomd_limit_permille: None, is_unit: true };
        Ok(is_there.then_some(place))
    }
    fn read(&self, place: &Place, controls: &[ShapedControl]) -> Reading {
        let unit = place.cgroup.as_str().rsplit('/').next().unwrap().to_owned();
        let of = |control: &ShapedControl| match self.get(&unit, *control) {
            Value::Unlimited => (*control, Actual::Unlimited),
            Value::Value(value) => (*control, Actual::Value(value)),
        };
        Reading {
            actual: controls.iter().map(of).collect(),
            memory_current_bytes: Some(100 * MIB),
            ..Reading::default()
        }
    }
    fn overridden(&mut self, _: &Target, _: ShapedControl) -> Result<Override, ShapeError> {
        Ok(self.0.lock().unwrap().overridden.unwrap_or(Override::None))
    }
    fn prior(&mut self, _: &Target, control: ShapedControl, value: Value) -> Result<Prior, ShapeError> {
        let is_share = matches!(control, ShapedControl::CpuWeight | ShapedControl::CpuIdle);
        let stands: &[u8] = if self.writes() == 0 { b"first" } else { b"ours" };
        let drop_in = is_share.then(|| stands.to_vec());
        Ok(Prior { value, drop_in, drop_in_path: is_share.then(|| "share".to_owned()), note: None })
    }
    fn write(&mut self, target: &Target, control: ShapedControl, value: Value) -> Result<(), ShapeError> {
        if self.0.lock().unwrap().is_refusing {
            return Err(ShapeError::Unsupported(control));
        }
        self.set(&target.to_string(), control, value);
        self.0.lock().unwrap().writes += 1;
        Ok(())
    }
    fn undo(&mut self, undos: Vec<Undo>) -> Vec<(Undo, ShapeError)> {
        let is_refusing = self.0.lock().unwrap().is_refusing;
        undos
            .into_iter()
            .filter(|undo| !undo.is_contested)
            .filter_map(|undo| {
                if is_refusing {
                    let control = undo.control;
                    return Some((undo, ShapeError::Unsupported(control)));
                }
                self.set(&undo.target.to_string(), undo.control, undo.prior.value);
                None
            })
            .collect()
    }
    fn enabled_above(&self, _: &Place) -> Above {
        let mut world = self.0.lock().unwrap();
        if !world.is_first_use {
            return Above::default();
        }
        let above = ["/system.slice", "/"].map(CgroupPath::lossy);
        let is_on = world.writes > 0 && world.shows_after == 0;
        world.shows_after = world.shows_after.saturating_sub(usize::from(world.writes > 0));
        let on = if is_on { "cpu memory" } else { "memory" };
        above.into_iter().map(|path| (path, on.to_owned())).collect()
    }
    fn take_reclaimed(&mut self, _: &Place) -> Option<bool> {
        None
    }
    fn reclaim(&mut self, _: &Place, _: u64) {}
}

/// One host over its restarts.
struct Host {
    temp: tempfile::TempDir,
    state_dir: StateDir,
    fake: Fake,
    mode: Mode,
    shaper: Option<Shaper>,
    now: Now,
}

impl Host {
    fn new(mode: Mode) -> Self {
        let temp = crate::enforce::tests::fake::in_memory();
        let state_dir = StateDir::open(temp.path().join("state")).unwrap();
        let now = Now { unix_ms: START_MS, boottime_ms: 10_000 };
        let mut host = Self { temp, state_dir, fake: Fake::with("web.service"), mode, shaper: None, now };
        host.open(BOOT);
        host
    }

    /// Starts the agent's part anew, as after a crash.
    fn open(&mut self, boot_id: BootId) {
        self.shaper = None;
        let config = Config {
            root: self.temp.path().to_path_buf(),
            state_dir: self.state_dir.clone(),
            mode: self.mode,
            delegated_parent: None,
            devices: Vec::new(),
            egress_interfaces: None,
            storage: Vec::new(),
            rules: CheckedRules::default(),
            local: Local::default(),
            program: None,
            grants: OfGrants::default(),
        };
        let backend: Box<dyn Backend> = Box::new(self.fake.clone());
        let opened = Shaper::open_with(config, Some((BackendKind::Systemd, backend)), None, boot_id, self.now);
        self.shaper = Some(opened.unwrap().0);
    }

    fn shaper(&mut self) -> &mut Shaper {
        self.shaper.as_mut().unwrap()
    }

    fn give(&mut self, plans: Vec<VerifiedPlan>) -> crate::enforce::Outcome {
        let now = self.now;
        self.shaper().take(plans, now)
    }

    /// So many seconds pass; all that came of them.
    fn pass(&mut self, seconds: u64) -> crate::enforce::Outcome {
        let mut outcome = crate::enforce::Outcome::default();
        for _ in 0..seconds {
            self.now = Now { unix_ms: self.now.unix_ms + 1_000, boottime_ms: self.now.boottime_ms + 1_000 };
            let now = self.now;
            outcome.append(self.shaper().tick(now));
        }
        outcome
    }

    /// A plan of a minute for the web service, under a lease of so many ms from now.
    fn plan(&self, generation: u64, weight: u64, lease_ms: u64) -> VerifiedPlan {
        let setpoints = Bounded::new(vec![Setpoint { at_ms: START_MS + 61_000, value: weight }]).unwrap();
        let plan = Plan {
            version: Version,
            deployment: DeploymentId::new([1; 32]),
            host: HostId::new([2; 32]),
            id: PlanId::new([u8::try_from(generation).unwrap(); 32]),
            epoch: 1,
            target: Target::Unit(Name::lossy("web.service")),
            generation,
            starts_at_ms: START_MS + 1_000,
            effective_at_ms: START_MS + 61_000,
            ends_at_ms: Some(START_MS + 600_000),
            not_after_ms: START_MS + 120_000,
            courses: Bounded::new(vec![Course { control: ShapedControl::CpuWeight, setpoints }]).unwrap(),
            on_pressure: OnPressure::Hold,
            hold_ms_max: 60_000,
            overrides: false,
            decision: None,
        };
        one(plan, self.now.boottime_ms, lease_ms)
    }

    fn weight(&self) -> Value {
        self.fake.get("web.service", ShapedControl::CpuWeight)
    }
}

/// A plan that went the whole way.
fn one(plan: Plan, boottime_ms: u64, lease_ms: u64) -> VerifiedPlan {
    verified_with(vec![], &[plan], (BOOT, boottime_ms, lease_ms)).1.remove(0)
}

fn kinds(outcome: &crate::enforce::Outcome) -> Vec<EventKind> {
    outcome.events.iter().map(|event| event.kind).collect()
}

#[test]
fn a_plan_moves_its_unit_to_the_target_and_every_write_is_told() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    let outcome = host.pass(65);
    assert_eq!(host.weight(), Value::Value(50));
    assert!(outcome.writes.len() >= 5, "{}", outcome.writes.len());
    assert_eq!(outcome.writes.len(), host.fake.writes());
    let told: Vec<(String, String)> = outcome
        .writes
        .iter()
        .map(|write| (write.before.as_ref().unwrap().to_string(), write.after.to_string()))
        .collect();
    assert!(told.windows(2).all(|pair| pair[0].1 == pair[1].0), "each begins where the last ended: {told:?}");
    assert!(outcome.writes.iter().all(|write| write.effective && write.plan == Some(PlanId::new([1; 32]))));
}

#[test]
fn a_plan_that_is_no_longer_given_is_put_back_at_once() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(12);
    assert_ne!(host.weight(), Value::Value(100));
    let outcome = host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(100));
    assert_eq!(outcome.writes.last().unwrap().after.as_str(), "100");
    assert!(host.shaper().targets().is_empty());
    host.pass(5);
    assert_eq!(host.weight(), Value::Value(100));
}

#[test]
fn after_a_crash_what_a_running_lease_covers_stays_and_goes_on() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(10);
    let before = host.weight();
    host.open(BOOT);
    host.pass(20);
    assert_eq!(host.weight(), before, "the lease still runs, and nobody has said yet what to do");
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(60);
    assert_eq!(host.weight(), Value::Value(50));
    host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(100), "the value from before the crash is known still");
}

#[test]
fn after_a_crash_what_no_lease_covers_is_put_back_at_the_start() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 30_000)]);
    host.pass(10);
    host.shaper = None;
    host.now.boottime_ms += 60_000;
    host.now.unix_ms += 60_000;
    host.open(BOOT);
    assert_eq!(host.weight(), Value::Value(100));
}

#[test]
fn after_a_reboot_nothing_is_put_back_since_nothing_is_left() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(10);
    // The new boot's own value, which is nobody's to change.
    host.fake.set("web.service", ShapedControl::CpuWeight, Value::Value(77));
    host.open(BootId::new([9; 16]));
    assert_eq!(host.weight(), Value::Value(77));
    host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(77));
}

#[test]
fn when_the_lease_is_over_the_unit_goes_back_to_its_baseline() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 65_000)]);
    host.pass(64);
    assert_eq!(host.weight(), Value::Value(50));
    host.pass(30);
    let Value::Value(on_the_way) = host.weight() else { unreachable!("a weight") };
    assert!((51..100).contains(&on_the_way), "{on_the_way}: in a line, not at once");
    host.pass(120);
    assert_eq!(host.weight(), Value::Value(100));
    assert!(host.shaper().held.targets.is_empty() && host.shaper().targets().is_empty());
}

#[test]
fn a_newer_plan_for_the_same_unit_goes_on_from_where_it_is_and_an_older_one_never_comes_back() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(2, 50, 600_000)]);
    host.pass(65);
    host.give(vec![host.plan(1, 90, 600_000), host.plan(2, 50, 600_000)]);
    host.pass(10);
    assert_eq!(host.weight(), Value::Value(50));
    host.give(vec![host.plan(3, 80, 600_000)]);
    host.pass(10);
    assert_eq!(host.weight(), Value::Value(80));
    host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(100));
}

#[test]
fn what_an_administrator_set_is_left_alone_unless_the_plan_says_otherwise() {
    let mut host = Host::new(Mode::Enforce);
    host.fake.0.lock().unwrap().overridden = Some(Override::Runtime);
    host.give(vec![host.plan(1, 50, 600_000)]);
    let outcome = host.pass(65);
    assert_eq!((host.weight(), host.fake.writes()), (Value::Value(100), 0));
    assert_eq!(kinds(&outcome), [EventKind::PlanRefused], "told once");
    assert!(host.shaper().refused.values().next().unwrap().1.contains("--override"));
    let mut plan = host.plan(2, 50, 600_000).checked().plan().clone();
    plan.overrides = true;
    host.give(vec![one(plan.clone(), host.now.boottime_ms, 600_000)]);
    host.pass(65);
    assert_eq!(host.weight(), Value::Value(50));
    host.give(vec![]);
    host.fake.0.lock().unwrap().overridden = Some(Override::Persistent);
    host.give(vec![one(plan, host.now.boottime_ms, 600_000)]);
    host.pass(5);
    assert_eq!(host.weight(), Value::Value(100), "one for good would come back with each reload");
}

#[test]
fn a_protected_unit_and_one_that_does_not_run_are_refused_by_name() {
    for (unit, why) in [("ssh.service", "protected"), ("gone.service", "does not run")] {
        let mut host = Host::new(Mode::Enforce);
        let mut plan = host.plan(1, 50, 600_000).checked().plan().clone();
        plan.target = Target::Unit(Name::lossy(unit));
        host.give(vec![one(plan, host.now.boottime_ms, 600_000)]);
        let outcome = host.pass(3);
        assert_eq!(kinds(&outcome), [EventKind::PlanRefused]);
        let told = host.shaper().refused.values().next().unwrap().1.clone();
        assert!(told.contains(why) && told.contains(unit), "{told}");
    }
}

#[test]
fn a_plan_that_came_too_late_is_not_begun() {
    let mut host = Host::new(Mode::Enforce);
    let plan = host.plan(1, 50, 600_000);
    host.now.unix_ms = START_MS + 120_001;
    host.give(vec![plan]);
    host.pass(5);
    assert_eq!(host.fake.writes(), 0);
}

#[test]
fn in_a_dry_run_writes_are_shown_and_in_observe_not_even_that() {
    for mode in [Mode::DryRun, Mode::Observe] {
        let mut host = Host::new(mode);
        host.give(vec![host.plan(1, 50, 600_000)]);
        let outcome = host.pass(65);
        assert_eq!((host.weight(), host.fake.writes()), (Value::Value(100), 0));
        assert!(host.shaper().held.targets.is_empty(), "nothing is journaled");
        match mode {
            Mode::DryRun => {
                assert_eq!(outcome.writes.last().unwrap().after.as_str(), "50");
                assert!(outcome.writes.iter().all(|write| write.dry_run && !write.effective));
            }
            _ => assert!(outcome.writes.is_empty()),
        }
    }
}

#[test]
fn what_could_not_be_put_back_is_kept_and_put_back_later() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(65);
    host.fake.0.lock().unwrap().is_refusing = true;
    host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(50));
    assert_eq!(host.shaper().held.targets.len(), 1, "the journal knows it still");
    host.fake.0.lock().unwrap().is_refusing = false;
    host.give(vec![]);
    assert_eq!(host.weight(), Value::Value(100));
    assert!(host.shaper().held.targets.is_empty());
}

#[test]
fn a_write_that_is_refused_is_tried_again_and_never_told_as_done() {
    let mut host = Host::new(Mode::Enforce);
    host.fake.0.lock().unwrap().is_refusing = true;
    host.give(vec![host.plan(1, 50, 600_000)]);
    let outcome = host.pass(65);
    assert!(outcome.writes.is_empty());
    host.fake.0.lock().unwrap().is_refusing = false;
    let outcome = host.pass(120);
    assert_eq!(host.weight(), Value::Value(50));
    assert!(!outcome.writes.is_empty());
}

#[test]
fn a_unit_that_has_stopped_keeps_nothing_past_the_lease() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 30_000)]);
    host.pass(10);
    host.fake.0.lock().unwrap().units.clear();
    host.pass(15);
    assert_eq!(host.shaper().held.targets.len(), 1, "the lease still runs");
    host.pass(10);
    assert!(host.shaper().held.targets.is_empty(), "its next run must not find the old values");
}

#[test]
fn a_stop_puts_everything_back() {
    let mut host = Host::new(Mode::Enforce);
    host.give(vec![host.plan(1, 50, 600_000)]);
    host.pass(65);
    let now = host.now;
    host.shaper().restore_all(now);
    assert_eq!(host.weight(), Value::Value(100));
    host.open(BOOT);
    assert!(host.shaper().held.targets.is_empty());
}

#[test]
fn what_outlives_a_boot_is_put_back_by_the_next_start_and_stays_to_be_done_until_it_is() {
    let mut host = Host::new(Mode::Enforce);
    host.fake.set("web.service", ShapedControl::Storage, Value::Value(900 * MIB));
    let mut plan = host.plan(1, 50, 600_000).checked().plan().clone();
    let setpoints = Bounded::new(vec![Setpoint { at_ms: START_MS + 61_000, value: 800 * MIB }]).unwrap();
    let storage = Course { control: ShapedControl::Storage, setpoints };
    plan.courses = Bounded::new(plan.courses.iter().cloned().chain([storage]).collect()).unwrap();
    let given = one(plan, host.now.boottime_ms, 600_000);
    host.give(vec![given]);
    host.pass(65);
    let stands = |host: &Host| host.fake.get("web.service", ShapedControl::Storage);
    assert_eq!(stands(&host), Value::Value(800 * MIB));
    host.fake.0.lock().unwrap().is_refusing = true;
    host.open(BootId::new([2; 16]));
    assert_eq!(stands(&host), Value::Value(800 * MIB));
    let left = |host: &mut Host| host.shaper().held.targets.values().map(|held| held.priors.len()).sum::<usize>();
    assert_eq!(left(&mut host), 1, "the weight went with the boot before, the limit on the disk did not");
    host.fake.0.lock().unwrap().is_refusing = false;
    host.open(BootId::new([3; 16]));
    assert_eq!(stands(&host), Value::Value(900 * MIB));
    assert_eq!((left(&mut host), host.weight()), (0, Value::Value(50)), "nothing else is written");
}
