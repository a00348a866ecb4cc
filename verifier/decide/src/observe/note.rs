//! What an accepted evidence adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Bounded, CborError, Version};
use quotary_common::envelope::{Envelope, EventKind, Mode};
use quotary_common::id::GrantId;
use quotary_common::plan::{Setpoint, ShapedControl, Target};
use quotary_common::units::{Class, ResourceKind, Resources};

use super::line::{Cause, Line, Untold, measured, resource};
use crate::allocate::GrantRecord;
use crate::history::{BoundedLoad, Subject, SubjectLoad, Usage};
use crate::shape::PlanRecord;

/// Lines that are kept of a host.
const LINES_MAX: usize = 512;

/// What limits would have done on one host; one row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Observed {
    #[n(0)]
    version: Version<1>,
    /// When the first evidence was counted, Unix ms.
    #[n(1)]
    since_ms: Option<u64>,
    /// How much evidence was counted.
    #[n(2)]
    evidences: u64,
    /// The most controls at once for which there was no room.
    #[n(3)]
    left_out: u64,
    #[n(4)]
    lines: Bounded<Line, LINES_MAX>,
}

/// An accepted evidence, and what was in force before it.
#[derive(Debug)]
pub struct Observation<'a> {
    /// What it states.
    pub envelope: &'a Envelope,
    /// Its load, within bounds.
    pub load: &'a BoundedLoad,
    /// The host's plans, those that are over too.
    pub plans: &'a [Arc<PlanRecord>],
    /// Its grants, as they were until now.
    pub grants: &'a [&'a GrantRecord],
    /// The operator's inventory.
    pub capacity: &'a Resources,
    /// The host's epoch: what was made under another is void.
    pub epoch: u64,
    /// The commit before this one, Unix ms.
    pub before_ms: u64,
    /// This commit, Unix ms.
    pub now_ms: u64,
    /// How long a lease is, ms.
    pub lease_ms: u64,
}

/// A limit in force: since when, until when, and what it is.
struct Force<'a> {
    key: (Cause, ShapedControl),
    who: (&'a str, Option<&'a quotary_common::envelope::Name>, &'a str),
    /// What it applies to, among what the evidence tells of.
    subject: Option<&'a SubjectLoad>,
    course: Course<'a>,
    from_ms: u64,
    until_ms: u64,
    is_on: bool,
    is_refused: bool,
}

enum Course<'a> {
    Plan(&'a PlanRecord),
    Fixed(u64),
}

impl Observed {
    /// The row's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`CborError`] when it is none.
    pub fn from_bytes(bytes: &[u8], bytes_max: usize) -> Result<Self, CborError> {
        cbor::from_bytes(bytes, bytes_max)
    }

    /// When the first evidence was counted, Unix ms.
    pub fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }
    /// How much evidence was counted.
    pub fn evidences(&self) -> u64 {
        self.evidences
    }
    /// The most controls at once for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
    /// Every control of every plan and grant that is kept.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Takes in an accepted evidence. Whether anything changed: nothing does on a host that enforces.
    pub fn note(&mut self, seen: &Observation<'_>) -> bool {
        if seen.envelope.backend.mode == Mode::Enforce {
            return false;
        }
        self.since_ms.get_or_insert(seen.now_ms);
        self.evidences = self.evidences.saturating_add(1);
        let forces = in_force(seen);
        let mut lines = std::mem::take(&mut self.lines).into_vec();
        let index: BTreeMap<_, usize> =
            lines.iter().enumerate().map(|(index, line)| ((line.cause, line.control), index)).collect();
        let mut begun = Vec::new();
        for force in &forces {
            match index.get(&force.key).and_then(|index| lines.get_mut(*index)) {
                Some(line) => compare(line, force, seen),
                // The host learns of it with the reply to this evidence.
                None if force.is_on => begun.push(Line::new(force.key, force.who, force.from_ms.max(seen.now_ms))),
                None => {}
            }
        }
        make_room(&mut lines, &forces, begun.len());
        let room = LINES_MAX.saturating_sub(lines.len());
        self.left_out = self.left_out.max(begun.len().saturating_sub(room) as u64);
        lines.extend(begun.into_iter().take(room));
        self.lines = Bounded::truncating(lines).0;
        true
    }
}

/// Lets go of lines whose plan or grant is over, those that were looked at longest ago first, for as many as begin.
fn make_room(lines: &mut Vec<Line>, forces: &[Force<'_>], begun: usize) {
    let mut excess = (lines.len() + begun).saturating_sub(LINES_MAX);
    if excess == 0 {
        return;
    }
    let on: std::collections::BTreeSet<_> = forces.iter().filter(|force| force.is_on).map(|force| force.key).collect();
    lines.sort_by_key(|line| (on.contains(&(line.cause, line.control)), line.last_ms.unwrap_or(line.from_ms)));
    lines.retain(|line| {
        let goes = excess > 0 && !on.contains(&(line.cause, line.control));
        excess -= usize::from(goes);
        !goes
    });
}

/// Every control of every plan and grant that was in force in the time that the evidence tells of, or is from now on.
fn in_force<'a>(seen: &Observation<'a>) -> Vec<Force<'a>> {
    let (mut units, mut groups, mut grants) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::<GrantId, _>::new());
    for load in seen.load.subjects() {
        let Subject::Cgroup(path) = &load.subject else { continue };
        groups.entry(path.as_str()).or_insert(load);
        if let Some(unit) = &load.unit {
            units.entry(unit.as_str()).or_insert(load);
        }
        if let Some(grant) = load.grant {
            grants.entry(grant).or_insert(load);
        }
    }
    let refusals = seen.envelope.events.iter().filter(|event| event.kind == EventKind::PlanRefused);
    let refused: Vec<&str> = refusals.filter_map(|event| Some(event.cgroup.as_ref()?.as_str())).collect();
    let mut forces = Vec::new();
    for record in seen.plans {
        let plan = record.plan();
        let is_on = record.over().is_none() && plan.epoch == seen.epoch;
        if !is_on && record.over().is_none_or(|(_, at_ms)| at_ms < seen.before_ms) {
            continue;
        }
        let (name, subject) = match &plan.target {
            Target::Unit(unit) => (unit.as_str(), units.get(unit.as_str())),
            Target::Cgroup(path) => (path.as_str(), groups.get(path.as_str())),
        };
        let ends = [plan.ends_at_ms, record.over().map(|(_, at_ms)| at_ms)];
        forces.extend(plan.courses.iter().map(|course| Force {
            key: (Cause::Plan(plan.id), course.control),
            who: (name, None, record.made_by()),
            subject: subject.copied(),
            course: Course::Plan(record),
            from_ms: plan.starts_at_ms,
            until_ms: ends.into_iter().flatten().min().unwrap_or(u64::MAX),
            is_on,
            is_refused: refused.contains(&name),
        }));
    }
    for record in seen.grants {
        let grant = &record.grant;
        forces.extend(limits_of(record).map(|(control, limit)| Force {
            key: (Cause::Grant(grant.id), control),
            who: (grant.application.as_str(), Some(&grant.tenant), grant.application.as_str()),
            subject: grants.get(&grant.id).copied(),
            course: Course::Fixed(limit),
            from_ms: 0,
            until_ms: u64::MAX,
            is_on: record.epoch == seen.epoch,
            is_refused: false,
        }));
    }
    forces
}

/// The controls by which an agent holds a grant: a guaranteed one has its share of the CPU and no quota.
fn limits_of(record: &GrantRecord) -> impl Iterator<Item = (ShapedControl, u64)> {
    let resources = record.grant.resources;
    let is_guaranteed = record.grant.class == Class::Guaranteed;
    let amount = move |control, resource| resources.get(resource).map(|amount| (control, amount));
    let cpu = match is_guaranteed {
        true => {
            resources.cpu_millicores.map(|millicores| (ShapedControl::CpuWeight, (millicores / 10).clamp(1, 10_000)))
        }
        false => amount(ShapedControl::CpuQuota, ResourceKind::Cpu),
    };
    let others = [
        amount(ShapedControl::MemoryHigh, ResourceKind::Memory),
        amount(ShapedControl::IoReadMax, ResourceKind::Disk),
        amount(ShapedControl::IoWriteMax, ResourceKind::Disk),
    ];
    cpu.into_iter().chain(others.into_iter().flatten())
}

/// Holds the windows of the evidence against a limit.
fn compare(line: &mut Line, force: &Force<'_>, seen: &Observation<'_>) {
    if force.is_refused {
        line.refused_at_ms = Some(seen.now_ms);
    }
    let begin_ms = line.from_ms.max(seen.before_ms);
    let passed_ms = seen.now_ms.min(force.until_ms).saturating_sub(begin_ms);
    let Some(subject) = force.subject else { return line.add_untold(Untold::NotSeen, passed_ms) };
    let (control, wanted) = (line.control, resource(line.control));
    let mut of_resource =
        subject.usages.iter().filter(|usage| wanted.is_some() && usage.measure.resource() == wanted).peekable();
    if of_resource.peek().is_none() {
        return line.add_untold(Untold::NotMeasured, passed_ms);
    }
    let covered_until_ms = seen.before_ms.saturating_add(seen.lease_ms);
    for usage in of_resource {
        let start_ms = seen.load.to_unix_ms(usage.start_ms, seen.now_ms);
        let end_ms = start_ms.saturating_add(usage.duration_ms);
        if start_ms < line.from_ms || end_ms > force.until_ms {
            continue;
        }
        if end_ms > covered_until_ms {
            line.add_untold(Untold::LeaseOver, usage.duration_ms);
            continue;
        }
        let limit = match &force.course {
            Course::Fixed(limit) => Some(*limit),
            Course::Plan(record) => {
                let found = *line
                    .found
                    .get_or_insert_with(|| Setpoint { at_ms: start_ms, value: open_level(control, usage, seen) });
                setpoint(record, control, found, start_ms + usage.duration_ms / 2)
            }
        };
        if let Some(limit) = limit {
            line.add(measured(control, usage), usage.duration_ms, end_ms, limit);
        }
    }
}

/// The plan's line in the middle of a window: what is asked for on the average over it. It never begins under its target.
fn setpoint(record: &PlanRecord, control: ShapedControl, found: Setpoint, at_ms: u64) -> Option<u64> {
    let checked = record.checked();
    let target = checked.target_value(control)?;
    let open = found.value.max(if control.is_tighter_when_less() { target } else { 0 });
    checked.setpoint_from(control, Setpoint { value: open, ..found }, at_ms)
}

/// Where a line begins that no limit came before, as agents do it: for memory at what is in use, for the rest at all
/// that there is. Limits that an administrator has set are not known here.
fn open_level(control: ShapedControl, usage: &Usage, seen: &Observation<'_>) -> u64 {
    let facts = &seen.envelope.facts;
    match control {
        ShapedControl::CpuWeight | ShapedControl::IoWeight => 100,
        ShapedControl::CpuIdle | ShapedControl::MemoryLow => 0,
        ShapedControl::CpuQuota => seen.capacity.cpu_millicores.unwrap_or(facts.cpu_millicores),
        ShapedControl::MemoryHigh => usage.max,
        ShapedControl::IoReadMax | ShapedControl::IoWriteMax => {
            seen.capacity.disk_bytes_per_second.unwrap_or(usage.max)
        }
        ShapedControl::NetworkEgress => seen.capacity.network_bits_per_second.unwrap_or(usage.max),
        ShapedControl::Storage => seen.capacity.storage_bytes.unwrap_or(usage.max),
    }
}
