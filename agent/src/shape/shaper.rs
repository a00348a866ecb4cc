//! The shaper: which plans are followed, and what each second brings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use quotary_common::envelope::{BackendKind, CgroupPath, Event, EventKind, HostFacts, Mode};
use quotary_common::id::{BootId, PlanId};
use quotary_common::lease::Lease;
use quotary_common::plan::{CheckedPlan, ShapedControl, Target, VerifiedPlan};

use super::ShapeError;
use super::above::Above;
use super::backend::{Backend, Place, Undo};
use super::controller::{CheckedRules, Now, Phase, Rules, Shaping, State};
use super::deadline::{Deadline, Program};
use super::egress::Egress;
use super::groups::Groups;
use super::holds::is_scope_name;
use super::local::Local;
use super::owners::Owners;
use super::permitting::Slews;
use super::record::{Held, Record};
use super::storage::{Assigned, Storage};
use super::systemd::Systemd;
use super::turns::WORK_MAX;
use crate::authority::Judge;
use crate::enforce::group::{DEFAULT_PARENT, GroupPath};
use crate::enforce::{Device, Outcome};
use crate::state::StateDir;
use crate::state::log::{LOG_BYTES_MAX, Log, Tail};

/// The journal's file in the state directory.
const FILE_NAME: &str = "shape.journal";
/// Size from which the journal is replaced by the fewest records that mean the same, in bytes.
const COMPACT_BYTES_MIN: u64 = 1024 * 1024;
/// A target at rest, with all its controls where they belong, is looked at every so many ticks.
const REST_TICKS: u64 = 5;

/// How shaping is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where `proc`, `sys`, `run` and `etc` are found: `/` on a host.
    pub root: PathBuf,
    /// Where the journal is kept.
    pub state_dir: StateDir,
    /// How far the agent goes.
    pub mode: Mode,
    /// The cgroup below which our groups stand; the default parent where it is `None`.
    pub delegated_parent: Option<String>,
    /// The disks that disk rates are set on.
    pub devices: Vec<Device>,
    /// The interfaces that egress is limited on; those with hardware behind them where it is `None`.
    pub egress_interfaces: Option<Vec<String>>,
    /// The directories whose storage belongs to units.
    pub storage: Vec<Assigned>,
    /// How fast, and where pressure stops it.
    pub rules: CheckedRules,
    /// What no plan may do here.
    pub local: Local,
    /// What puts back when the agent is dead; `None` where nothing should (tests without systemd).
    pub program: Option<Program>,
    /// What grants hold.
    pub grants: OfGrants,
}

/// What the shaper must know of grants: what it moves may be theirs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfGrants {
    /// The scopes of grants that run. One of ours that is not among them is left of a grant that is over: no plan moves it.
    pub scopes: BTreeSet<String>,
    /// When the first of their leases ends that hold something in the kernel, ms on `CLOCK_BOOTTIME`.
    pub first_end_ms: Option<u64>,
    /// Who asked for each grant that runs, by the cgroup of its processes, where that is known.
    pub uids: BTreeMap<CgroupPath, u32>,
    /// Values that a grant has come to while a plan moves their controls, by cgroup: the stricter of both holds.
    pub limits: BTreeMap<CgroupPath, BTreeMap<ShapedControl, u64>>,
}

/// One target that is shaped, live.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) plan: PlanId,
    pub(super) generation: u64,
    /// The plan itself, which is followed until a newer one has begun; `None` after a start, until it is given again.
    pub(super) following: Option<CheckedPlan>,
    pub(super) shaping: Shaping,
    /// How fast people let its controls be tightened.
    pub(super) slews: Slews,
    pub(super) place: Place,
    /// Ticks until it is looked at.
    pub(super) rest: u64,
    /// Which controllers were on above it before its last write, and how often it is still looked whether that changed.
    pub(super) above: Option<(Above, u8)>,
}

/// A target as root sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetView {
    /// The target.
    pub target: Target,
    /// Its plan.
    pub plan: PlanId,
    /// Who writes.
    pub backend: BackendKind,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// How it stands.
    pub state: State,
}

/// Follows plans on this host.
#[derive(Debug)]
pub struct Shaper {
    pub(super) kind: BackendKind,
    pub(super) backend: Option<Box<dyn Backend>>,
    /// The way to the manager for the timer: where systemd is the backend.
    pub(super) bus: Option<super::systemd::Bus>,
    pub(super) deadline: Option<Deadline>,
    pub(super) log: Log<Record>,
    pub(super) held: Held,
    pub(super) rules: CheckedRules,
    pub(super) local: Local,
    /// Where the cgroup tree is found.
    pub(super) root: PathBuf,
    pub(super) mode: Mode,
    pub(super) boot_id: BootId,
    /// When this process began, ms on `CLOCK_BOOTTIME`.
    pub(super) opened_boottime_ms: u64,
    pub(super) plans: BTreeMap<Target, VerifiedPlan>,
    pub(super) live: BTreeMap<Target, Live>,
    /// Why a plan that is given is not followed, told once.
    pub(super) refused: BTreeMap<Target, (PlanId, String)>,
    pub(super) grants: OfGrants,
    /// Which plans may move anything.
    pub(super) judge: Judge,
    compact_at_bytes: u64,
    /// The target that was begun last, and the one that was moved last.
    pub(super) last_begun: Option<Target>,
    pub(super) last_moved: Option<Target>,
    /// Targets of which something could not be put back: when it is tried again, and how long that waits, ms.
    pub(super) undo_again: BTreeMap<Target, (u64, u64)>,
    pub(super) work_max: Duration,
}

impl Shaper {
    /// Opens the journal and the backend, and brings both together: what a running lease of this boot covers stays and
    /// goes on, the rest is put back. After a reboot there is nothing to put back: runtime values went with `/run`.
    ///
    /// # Errors
    /// [`ShapeError::Journal`]: without it nothing could be undone.
    pub fn open(config: Config, boot_id: BootId, now: Now) -> Result<(Self, Outcome), ShapeError> {
        let parent = GroupPath::parse(config.delegated_parent.as_deref().unwrap_or(DEFAULT_PARENT));
        let groups = parent.and_then(|parent| Groups::below(&config.root, &parent, config.devices.clone()));
        let systemd = match Systemd::connect(&config.root, config.devices.clone(), true) {
            Ok(systemd) => systemd,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "units cannot be shaped on this host");
                None
            }
        };
        let bus = systemd.as_ref().map(|_| super::systemd::Bus::default());
        let kind = match (&systemd, &groups) {
            (Some(_), _) => BackendKind::Systemd,
            (None, Some(_)) => BackendKind::Direct,
            (None, None) => BackendKind::None,
        };
        let egress = Egress::open(&config.root, config.egress_interfaces.as_deref());
        let storage = Storage::open(&config.root, &config.storage);
        let owners = Owners { systemd, groups, egress, storage };
        let owners = (kind != BackendKind::None).then(|| Box::new(owners) as Box<dyn Backend>);
        Self::open_with(config, owners.map(|owners| (kind, owners)), bus, boot_id, now)
    }

    /// As [`Shaper::open`], over a given backend.
    pub(super) fn open_with(
        config: Config,
        backend: Option<(BackendKind, Box<dyn Backend>)>,
        bus: Option<super::systemd::Bus>,
        boot_id: BootId,
        now: Now,
    ) -> Result<(Self, Outcome), ShapeError> {
        let (log, records, tail) = Log::open(&config.state_dir.file(FILE_NAME))?;
        if let Tail::Damaged { bytes } = tail {
            tracing::error!(
                bytes,
                "the journal of shaping is damaged; what was read is used, a copy is kept beside it"
            );
        }
        let mut held = Held::default();
        records.iter().for_each(|record| held.add(record));
        let (kind, backend) = backend.map_or((BackendKind::None, None), |(kind, backend)| (kind, Some(backend)));
        let mut shaper = Self {
            kind,
            backend,
            bus,
            deadline: config.program.map(Deadline::new),
            log,
            held,
            rules: config.rules,
            local: config.local,
            root: config.root,
            mode: config.mode,
            boot_id,
            opened_boottime_ms: now.boottime_ms,
            plans: BTreeMap::new(),
            live: BTreeMap::new(),
            refused: BTreeMap::new(),
            grants: config.grants,
            judge: Judge::open(config.state_dir),
            compact_at_bytes: COMPACT_BYTES_MIN,
            last_begun: None,
            last_moved: None,
            undo_again: BTreeMap::new(),
            work_max: WORK_MAX,
        };
        let outcome = shaper.start(now);
        Ok((shaper, outcome))
    }

    fn start(&mut self, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        self.recall();
        let known: Vec<(Target, Lease, bool)> =
            self.held.targets.iter().map(|(target, held)| (target.clone(), held.lease, held.is_ending)).collect();
        let mut over = Vec::new();
        for (target, lease, is_ending) in known {
            if lease.boot_id != self.boot_id {
                self.end_from_before(&target);
            } else if is_ending
                || self.mode != Mode::Enforce
                || !lease.is_running(self.boot_id, lease.epoch, now.boottime_ms)
            {
                over.push(target);
            } else {
                self.resume(&target);
            }
        }
        outcome.append(self.end_all(&over, now, Some(EventKind::Restored)));
        self.see_to_deadline(now);
        outcome
    }

    /// Has the backend take up what of this boot is held.
    fn recall(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        let of_this_boot = self.held.targets.iter().filter(|(_, held)| held.lease.boot_id == self.boot_id);
        let held: Vec<Undo> = of_this_boot.flat_map(|(target, held)| held.undos(target)).collect();
        backend.recall(&held);
    }

    /// Goes on with a target whose lease still runs, once its plan is given again.
    fn resume(&mut self, target: &Target) {
        let Some((held, kept)) = self.held.targets.get(target).and_then(|held| Some((held, held.kept.clone()?))) else {
            return;
        };
        let (plan, generation) = (held.plan, held.generation);
        let place = self.backend.as_mut().and_then(|backend| backend.find(target).ok().flatten());
        if let Some(place) = place {
            let (shaping, slews) = (Shaping::resume(kept), Slews::new());
            let live = Live { plan, generation, following: None, shaping, slews, place, rest: 0, above: None };
            self.live.insert(target.clone(), live);
        }
    }

    /// Takes the plans of a reply: all that the host is to follow. What is no longer among them is put back; all leases
    /// are renewed.
    pub fn take(&mut self, plans: Vec<VerifiedPlan>, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        let mut given: BTreeMap<Target, VerifiedPlan> = BTreeMap::new();
        for plan in plans {
            let target = plan.checked().plan().target.clone();
            let is_newer = |other: &VerifiedPlan| other.checked().plan().generation < plan.checked().plan().generation;
            if given.get(&target).is_none_or(is_newer) {
                given.insert(target, plan);
            }
        }
        let over: Vec<Target> = self.known().into_iter().filter(|target| !given.contains_key(target)).collect();
        outcome.append(self.end_all(&over, now, None));
        if let Some(lease) = given.values().next().map(|plan| *plan.lease()).filter(|_| !self.held.targets.is_empty()) {
            let renewed = Record::Renewed { lease: (&lease).into() };
            if let Err(error) = self.announce(&[renewed]) {
                tracing::error!(error = &error as &dyn std::error::Error, "the lease of shaping was not renewed");
            }
        }
        self.refused.retain(|target, _| given.contains_key(target));
        self.undo_again.retain(|target, _| !given.contains_key(target));
        self.held.begun.retain(|target, id| given.get(target).is_some_and(|plan| plan.checked().plan().id == *id));
        let refused = self.judge_live(&given, now);
        outcome.append(self.end_all(&refused, now, None));
        self.plans = given;
        self.see_to_deadline(now);
        outcome
    }

    /// Everything that is held or live.
    fn known(&self) -> Vec<Target> {
        let mut all: Vec<Target> = self.held.targets.keys().chain(self.live.keys()).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// What a second brings: plans begin, move one step, hold, end; leases run out.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(backend) = &mut self.backend {
            backend.tick();
        }
        let over: Vec<Target> =
            self.plans.iter().filter(|(_, plan)| is_over(plan.checked(), now)).map(|(t, _)| t.clone()).collect();
        over.iter().for_each(|target| drop(self.plans.remove(target)));
        outcome.append(self.end_all(&over, now, None));
        // One that a newer plan, which has not begun, was to take the place of.
        let is_done = |live: &Live| live.following.as_ref().is_some_and(|plan| is_over(plan, now));
        let over: Vec<Target> =
            self.live.iter().filter(|(_, live)| is_done(live)).map(|(target, _)| target.clone()).collect();
        outcome.append(self.end_all(&over, now, None));
        // One that is not there (its unit stopped) has no way back to go in a line: its values must not wait for its next run.
        let left: Vec<Target> = self
            .held
            .targets
            .iter()
            .filter(|(target, held)| {
                let is_due = match self.undo_again.get(*target) {
                    Some((at_ms, _)) => *at_ms <= now.boottime_ms,
                    None => held.is_ending || !held.lease.is_running(self.boot_id, held.lease.epoch, now.boottime_ms),
                };
                !self.live.contains_key(*target) && is_due
            })
            .map(|(target, _)| target.clone())
            .collect();
        if !left.is_empty() {
            outcome.append(self.end_all(&left, now, Some(EventKind::Restored)));
        }
        let over: Vec<Target> = self.known().into_iter().filter(|target| self.is_left_over(target)).collect();
        outcome.append(self.end_all(&over, now, None));
        self.begin_due(now, &mut outcome);
        self.move_all(now, &mut outcome);
        self.see_to_deadline(now);
        outcome
    }

    /// In which phase a target is: its plan, or back to the baseline when the lease of what is given is over.
    pub(super) fn phase<'p>(
        following: Option<&'p CheckedPlan>,
        given: Option<&VerifiedPlan>,
        boot_id: BootId,
        now: Now,
    ) -> Phase<'p> {
        let lease = given.map(VerifiedPlan::lease);
        let is_running = lease.is_some_and(|lease| lease.is_running(boot_id, lease.epoch, now.boottime_ms));
        match following {
            Some(plan) if is_running => Phase::Plan(plan),
            _ => Phase::Decay,
        }
    }

    /// Puts back the state before Quotary.
    pub fn restore_all(&mut self, now: Now) -> Outcome {
        self.plans.clear();
        let outcome = self.end_all(&self.known(), now, None);
        self.see_to_deadline(now);
        outcome
    }

    /// Until when the leases run that hold something here, the first to end.
    pub(super) fn first_end_ms(&self) -> Option<u64> {
        self.held.targets.values().map(|held| held.lease.end_ms()).min()
    }

    /// Takes note of what grants hold now.
    pub fn note_grants(&mut self, grants: OfGrants) {
        self.grants = grants;
    }

    /// Whether a target is what is left of a grant that is over.
    pub(super) fn is_left_over(&self, target: &Target) -> bool {
        match target {
            Target::Unit(unit) => is_scope_name(unit.as_str()) && !self.grants.scopes.contains(unit.as_str()),
            Target::Cgroup(_) => false,
        }
    }

    /// The rules for a target: it has no more than there is where it stands; where its grant has come to less meanwhile, that is
    /// the most.
    pub(super) fn rules_for(&self, cgroup: &CgroupPath) -> CheckedRules {
        let most = self.backend.as_ref().map(|backend| backend.most(cgroup)).unwrap_or_default();
        let rules = self.rules.below(&most);
        self.grants.limits.get(cgroup).map_or_else(|| rules.clone(), |limits| rules.within(limits.clone()))
    }

    fn see_to_deadline(&mut self, now: Now) {
        let end_ms = self.first_end_ms().into_iter().chain(self.grants.first_end_ms).min();
        if let (Some(deadline), Some(bus)) = (&mut self.deadline, &self.bus)
            && let Err(error) = deadline.set(bus, end_ms, now.boottime_ms)
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "systemd was not given the end of the leases: should the agent die, limits stay until it is started again"
            );
        }
    }

    /// Makes records last, before what they announce.
    pub(super) fn announce(&mut self, records: &[Record]) -> Result<(), ShapeError> {
        self.log.append(records)?;
        self.add(records);
        Ok(())
    }

    /// Notes what came of it.
    pub(super) fn conclude(&mut self, records: &[Record]) {
        if let Err(error) = self.log.append_lazily(records) {
            tracing::error!(error = &error as &dyn std::error::Error, "the outcome of a step was not journaled");
        }
        self.add(records);
    }

    /// Notes what was put back, even if the disk refuses.
    pub(super) fn undo_announced(&mut self, records: &[Record]) {
        if let Err(error) = self.log.append(records) {
            tracing::error!(error = &error as &dyn std::error::Error, "an undo was not journaled");
        }
        self.add(records);
    }

    fn add(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.held.add(record));
        if self.log.len_bytes() > self.compact_at_bytes {
            if let Err(error) = self.log.compact(&self.held.records()) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the journal of shaping could not be compacted"
                );
            }
            let next = self.log.len_bytes().saturating_mul(4).max(COMPACT_BYTES_MIN);
            self.compact_at_bytes = next.min(LOG_BYTES_MAX as u64 / 2);
        }
    }

    /// The controls of a plan.
    pub(super) fn controls_of(plan: &VerifiedPlan) -> Vec<ShapedControl> {
        plan.checked().controls().collect()
    }
}

/// The rules, with what this host has at most.
///
/// Floors above what the host has would be no floors: then the host's whole is the floor.
pub fn rules_of_host(mut rules: Rules, facts: &HostFacts, link_bits: u64, storage_bytes: Option<u64>) -> CheckedRules {
    let whole = [
        (ShapedControl::MemoryHigh, facts.memory_bytes),
        (ShapedControl::CpuQuota, facts.cpu_millicores),
        (ShapedControl::NetworkEgress, link_bits),
    ];
    let storage = storage_bytes.map(|bytes| (ShapedControl::Storage, bytes));
    for (control, amount) in whole.into_iter().chain(storage) {
        let (least, most) = control.range();
        let amount = amount.clamp(least, most);
        rules.ceilings.insert(control, amount);
        if let Some(floor) = rules.floors.get_mut(&control) {
            *floor = (*floor).min(amount);
        }
    }
    rules.check().unwrap_or_else(|faults| {
        tracing::error!(?faults, "the rules of shaping do not hold together on this host: the defaults are used");
        CheckedRules::default()
    })
}

/// How long a target at rest is left alone.
pub(super) const fn rest_ticks(is_at_rest: bool) -> u64 {
    if is_at_rest { REST_TICKS } else { 0 }
}

fn is_over(plan: &CheckedPlan, now: Now) -> bool {
    plan.plan().ends_at_ms.is_some_and(|ends_at_ms| ends_at_ms <= now.unix_ms)
}

pub(super) fn happened(kind: EventKind, cgroup: &CgroupPath, now: Now) -> Event {
    Event { kind, cgroup: Some(cgroup.clone()), count: 1, at_ms: now.boottime_ms }
}
