//! Bounding the lie (design §5): what a host says of its load is held within what it can have had.
//!
//! A quote does not prove the numbers true against a compromised kernel. So a window counts once, in the time since the
//! envelope before, with at most the operator's inventory, and applications together with at most their host.

use std::collections::BTreeMap;

use quotary_common::envelope::{BackendKind, ClaimedEnvelope, Envelope, Mode, Name};
use quotary_common::evidence::Evidence;
use quotary_common::id::{BootId, GrantId, HostId};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::units::{ResourceKind, Resources};

use super::limits::{Ceiling, Shortage};
use super::standing::Known;
use super::{Measure, Owner, Subject};
use crate::attest::VerifiedEvidence;

/// What the load of a host may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The operator's inventory; what it does not name has no bound.
    pub capacity: Resources,
    /// Where the host's time stood in the evidence before; `None` for a host's first.
    pub before: Option<Timeline>,
    /// When the host last did anything that the verifier saw, Unix ms: its last commit, or its enrolment.
    pub since_ms: u64,
    /// The commit, Unix ms.
    pub now_ms: u64,
    /// Length of a metric window as the deployment sets it, ms.
    pub window_ms: u64,
    /// How long an envelope may have waited for its commit without more being asked, ms.
    pub wait_ms: u64,
}

/// A host's own time beside the verifier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// The boot whose time it is.
    pub boot_id: BootId,
    /// `CLOCK_BOOTTIME` when the envelope was built, ms.
    pub built_at_ms: u64,
    /// The verifier's time (Unix ms) at that clock's zero, as the commit shows it that anchors this boot.
    pub began_ms: u64,
}

/// The load that evidence states, held within [`Bounds`]. Made from verified evidence, or from what is kept of it.
#[derive(Debug)]
pub struct BoundedLoad {
    pub(super) host: HostId,
    pub(super) built_at_ms: u64,
    pub(super) sequence: u64,
    pub(super) subjects: Vec<SubjectLoad>,
    /// Limits that were written since the envelope before, in their order.
    pub(super) writes: Vec<Ceiling>,
    /// What says that somebody was short.
    pub(super) shortages: Vec<Shortage>,
    /// Whether the host acts on grants.
    pub(super) is_enforced: bool,
    pub(super) known: Known,
    findings: Vec<LoadFinding>,
    timeline: Timeline,
}

/// One subject's part of it.
#[derive(Debug)]
pub(crate) struct SubjectLoad {
    pub(crate) subject: Subject,
    pub(crate) unit: Option<Name>,
    pub(crate) uid: Option<u32>,
    pub(crate) grant: Option<GrantId>,
    /// Who pays for it, where it counts into that tenant's sum.
    pub(crate) tenant: Option<Name>,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// What limits it where the host has written no limit.
    pub(crate) limits: Resources,
    pub(crate) usages: Vec<Usage>,
}

/// What a subject used of a resource in an interval of the host's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) measure: Measure,
    pub(crate) start_ms: u64,
    pub(crate) duration_ms: u64,
    pub(crate) mean: u64,
    pub(crate) max: u64,
    pub(crate) samples: u32,
    /// What of mean and max was read from disks; the rest was written.
    pub(crate) read: (u64, u64),
    /// Of CPU: the group was throttled by its quota in it.
    pub(crate) is_throttled: bool,
}

impl SubjectLoad {
    fn new(subject: Subject, windows: &MetricWindows) -> Self {
        let (unit, uid, grant, tenant) = (None, None, None, None);
        let owner = Owner::default();
        Self { subject, unit, uid, grant, tenant, owner, limits: Resources::default(), usages: usages(windows) }
    }
}

/// What was beyond the bounds, and was taken back to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadFinding {
    /// A window does not lie in the time since the envelope before, or the host's clock is ahead of the verifier's: it
    /// is left out.
    OutOfTime,
    /// The host says that it used more than the inventory says that it has, or states a gauge beyond what any may be:
    /// that much counts.
    BeyondCapacity,
    /// Applications together used more than their host: each counts in proportion.
    BeyondHost,
}

impl LoadFinding {
    /// Its fixed code, as operators see it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OutOfTime => "load-out-of-time",
            Self::BeyondCapacity => "load-beyond-capacity",
            Self::BeyondHost => "load-beyond-host",
        }
    }
    /// Whether the name is one of theirs.
    pub fn is_named(name: &Name) -> bool {
        [Self::OutOfTime, Self::BeyondCapacity, Self::BeyondHost].iter().any(|finding| finding.code() == name.as_str())
    }
    /// The code as the host's record keeps it.
    pub fn name(self) -> Name {
        Name::lossy(self.code())
    }
}

impl BoundedLoad {
    /// The load that verified evidence states.
    pub fn of(evidence: &VerifiedEvidence, bounds: &Bounds) -> Self {
        Self::bounded(evidence.claims(), bounds)
    }

    /// The same for evidence that was verified and committed before a restart, and is read back from the store;
    /// `None` when it does not read.
    pub fn kept(evidence: &[u8], bounds: &Bounds) -> Option<Self> {
        let evidence = Evidence::from_bytes(evidence).ok()?;
        Some(Self::bounded(ClaimedEnvelope::parse(evidence.envelope).ok()?.claims(), bounds))
    }

    /// Each subject's part, the host's first.
    pub(crate) fn subjects(&self) -> &[SubjectLoad] {
        &self.subjects
    }

    /// Unix ms of an instant on the host's `CLOCK_BOOTTIME`: the envelope's own instant is put at the commit.
    pub(crate) fn to_unix_ms(&self, boottime_ms: u64, committed_at_ms: u64) -> u64 {
        committed_at_ms.saturating_sub(self.built_at_ms.saturating_sub(boottime_ms))
    }

    /// Whose it is.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Where the host's time stood: what the next is held against.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// What was beyond the bounds; each once.
    pub fn findings(&self) -> &[LoadFinding] {
        &self.findings
    }

    pub(crate) fn bounded(envelope: &Envelope, bounds: &Bounds) -> Self {
        let (reach_ms, began_ms) = reach(envelope, bounds);
        let host = SubjectLoad::new(Subject::Host, &envelope.host_windows);
        let applications = envelope.applications.iter().map(|application| SubjectLoad {
            unit: application.unit.clone(),
            uid: application.uid,
            grant: application.grant,
            ..SubjectLoad::new(Subject::Cgroup(application.cgroup.as_str().to_owned()), &application.windows)
        });
        let mut load = Self {
            host: envelope.host,
            built_at_ms: envelope.built_at_ms,
            sequence: envelope.sequence,
            subjects: std::iter::once(host).chain(applications).collect(),
            writes: envelope.writes.iter().filter_map(Ceiling::of).collect(),
            shortages: envelope.events.iter().filter_map(Shortage::of).collect(),
            is_enforced: envelope.backend.mode == Mode::Enforce && envelope.backend.kind != BackendKind::None,
            known: Known::default(),
            findings: Vec::new(),
            timeline: Timeline { boot_id: envelope.boot_id, built_at_ms: envelope.built_at_ms, began_ms },
        };
        load.keep_gauges_of_grants();
        load.keep_in_time(reach_ms);
        load.keep_in_capacity(&bounds.capacity);
        load.keep_in_host(&bounds.capacity);
        load.findings.sort_unstable();
        load.findings.dedup();
        load
    }

    /// Gauges are an application's own word under its grant: nobody else has any.
    fn keep_gauges_of_grants(&mut self) {
        for load in self.subjects.iter_mut().filter(|load| load.grant.is_none()) {
            load.usages.retain(|usage| usage.measure.resource().is_some());
        }
    }

    fn keep_in_time(&mut self, reach_ms: u64) {
        let (first_ms, last_ms) = (self.built_at_ms.saturating_sub(reach_ms), self.built_at_ms);
        let in_time = |usage: &Usage| {
            usage.start_ms >= first_ms
                && usage.duration_ms > 0
                && usage.start_ms.checked_add(usage.duration_ms).is_some_and(|end_ms| end_ms <= last_ms)
        };
        for load in &mut self.subjects {
            let stated = load.usages.len();
            // In the order of measure and start: what overlaps the one before states an interval twice.
            let mut ended: Option<(Measure, u64)> = None;
            load.usages.retain(|usage| {
                let overlaps = ended.is_some_and(|(of, end_ms)| of == usage.measure && usage.start_ms < end_ms);
                let keeps = in_time(usage) && !overlaps;
                if keeps {
                    ended = Some((usage.measure, usage.start_ms.saturating_add(usage.duration_ms)));
                }
                keeps
            });
            if load.usages.len() < stated {
                self.findings.push(LoadFinding::OutOfTime);
            }
            for usage in &mut load.usages {
                // No more than one sample a millisecond: the weight of a window is bounded by its length.
                usage.samples = usage.samples.min(u32::try_from(usage.duration_ms).unwrap_or(u32::MAX));
            }
        }
    }

    fn keep_in_capacity(&mut self, capacity: &Resources) {
        for usage in self.subjects.iter_mut().flat_map(|load| &mut load.usages) {
            let Some(most) = most_of(usage.measure, capacity) else { continue };
            if usage.mean > most.saturating_add(most / METER_PART) {
                self.findings.push(LoadFinding::BeyondCapacity);
            }
            usage.mean = usage.mean.min(most);
            usage.max = usage.max.min(most);
            usage.read = (usage.read.0.min(usage.mean), usage.read.1.min(usage.max));
        }
    }

    /// Resources that flow through the host's own counters. A group's memory holds page cache, which the host counts as
    /// free: it is held by the inventory alone.
    fn keep_in_host(&mut self, capacity: &Resources) {
        for resource in [ResourceKind::Cpu, ResourceKind::Disk, ResourceKind::Network] {
            let used = self.used_by_groups(resource);
            let host = self.subjects.first().map_or(Total::NOTHING, |host| Total::of(&host.usages, resource));
            // Where the host states less time than its groups, the inventory stands in.
            let unstated_ms = used.duration_ms.saturating_sub(host.duration_ms);
            let stands_in = match most_of(resource.into(), capacity) {
                Some(most) => u128::from(most).saturating_mul(u128::from(unstated_ms)),
                None if unstated_ms > 0 => continue,
                None => 0,
            };
            let noise_per_ms = if resource == ResourceKind::Cpu { NOISE_MILLICORES } else { 0 };
            let noise = u128::from(noise_per_ms) * u128::from(host.duration_ms);
            let most = host.amount.saturating_add(host.amount / u128::from(METER_PART / 2));
            let most = most.saturating_add(stands_in).saturating_add(noise);
            if used.amount <= most {
                continue;
            }
            self.findings.push(LoadFinding::BeyondHost);
            let scale = |value: u64| {
                let scaled = u128::from(value).saturating_mul(most) / used.amount.max(1);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            };
            for usage in self.subjects.iter_mut().skip(1).flat_map(|load| &mut load.usages) {
                if usage.measure == resource.into() {
                    usage.mean = scale(usage.mean);
                    usage.max = scale(usage.max);
                    usage.read = (scale(usage.read.0), scale(usage.read.1));
                }
            }
        }
    }

    /// What all groups used together. What runs in a group within a group is counted in both by the kernel: of a group
    /// and those within it, the greater counts. The time is that of the group that states most.
    fn used_by_groups(&self, resource: ResourceKind) -> Total {
        let mut groups: Vec<(&str, Total)> = self
            .subjects
            .iter()
            .filter_map(|load| match &load.subject {
                Subject::Cgroup(path) => Some((path.trim_end_matches('/'), Total::of(&load.usages, resource))),
                _ => None,
            })
            .collect();
        // By components, so that what lies in a group follows it at once.
        groups.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
        let duration_ms = groups.iter().map(|(_, total)| total.duration_ms).max().unwrap_or(0);
        // The groups that the next may lie in, each with its own amount and that of those within it.
        let mut open: Vec<(&str, u128, u128)> = vec![("", 0, 0)];
        let close = |open: &mut Vec<(&str, u128, u128)>| {
            let Some((_, own, within)) = open.pop() else { return };
            if let Some((_, _, of_parent)) = open.last_mut() {
                *of_parent = of_parent.saturating_add(own.max(within));
            }
        };
        for (path, total) in groups {
            let lies_in = |group: &str| path.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'));
            while open.len() > 1 && !open.last().is_some_and(|(group, _, _)| lies_in(group)) {
                close(&mut open);
            }
            open.push((path, total.amount, 0));
        }
        while open.len() > 1 {
            close(&mut open);
        }
        Total { amount: open.first().map_or(0, |(_, _, within)| *within), duration_ms }
    }
}

/// Counters are read one after another: a mean may be one part in so many beyond the truth.
const METER_PART: u64 = 16;
/// CPU time that groups may be ahead of the host by, which counts in ticks.
const NOISE_MILLICORES: u64 = 50;

/// How far back of its building an envelope's windows may begin, ms, and the anchor of the host's time from here on.
///
/// Within a boot, windows follow on the envelope before, however long either waited for its commit. The host's clock may
/// be ahead of the verifier's by no more than a wait explains; beyond that, and in a boot's first envelope, only as much
/// time counts as passed at the verifier. (The TPM's clock would bound less: its owner can set it forward.)
fn reach(envelope: &Envelope, bounds: &Bounds) -> (u64, u64) {
    let straddling_ms = bounds.window_ms.saturating_mul(2);
    let passed_ms = bounds.now_ms.saturating_sub(bounds.since_ms).saturating_add(straddling_ms);
    let anew = (passed_ms, bounds.now_ms.saturating_sub(envelope.built_at_ms));
    let Some(before) = bounds.before.filter(|before| before.boot_id == envelope.boot_id) else { return anew };
    let latest_ms = bounds.now_ms.saturating_sub(before.began_ms).saturating_add(bounds.wait_ms);
    if envelope.built_at_ms > latest_ms {
        return anew;
    }
    let since_before_ms = envelope.built_at_ms.saturating_sub(before.built_at_ms);
    (since_before_ms.saturating_add(straddling_ms), before.began_ms)
}

fn most_of(measure: Measure, capacity: &Resources) -> Option<u64> {
    let resource = match measure {
        Measure::Resource(resource) => resource,
        Measure::Gauge(gauge) => return Some(gauge.greatest()),
    };
    match resource {
        // Reads and writes, each up to what the disk does one way.
        ResourceKind::Disk => capacity.disk_bytes_per_second.map(|bytes| bytes.saturating_mul(2)),
        ResourceKind::Cpu => capacity.cpu_millicores,
        ResourceKind::Memory => capacity.memory_bytes,
        ResourceKind::Storage => capacity.storage_bytes,
        ResourceKind::Network => capacity.network_bits_per_second,
    }
}

/// What was used of a resource over an envelope: mean times milliseconds.
#[derive(Debug, Clone, Copy)]
struct Total {
    amount: u128,
    duration_ms: u64,
}

impl Total {
    const NOTHING: Self = Self { amount: 0, duration_ms: 0 };

    fn of(usages: &[Usage], resource: ResourceKind) -> Self {
        let of_resource = usages.iter().filter(|usage| usage.measure == resource.into());
        of_resource.fold(Self::NOTHING, |total, usage| Self {
            amount: total.amount.saturating_add(u128::from(usage.mean) * u128::from(usage.duration_ms)),
            duration_ms: total.duration_ms.saturating_add(usage.duration_ms),
        })
    }
}

/// The resources' usages in windows of the whole (without a label); reads and writes of one interval add up.
fn usages(windows: &MetricWindows) -> Vec<Usage> {
    let mut sums: BTreeMap<(Measure, u64, u64), Usage> = BTreeMap::new();
    for window in windows.iter().filter(|window| window.label.is_none()) {
        let Some(measure) = Measure::of(window.metric) else { continue };
        let sum = sums.entry((measure, window.start_ms, window.duration_ms)).or_insert(Usage {
            measure,
            start_ms: window.start_ms,
            duration_ms: window.duration_ms,
            mean: 0,
            max: 0,
            samples: 0,
            read: (0, 0),
            is_throttled: false,
        });
        if window.metric == Metric::DiskReadBytesPerSecond {
            sum.read = (window.mean, window.max);
        }
        sum.mean = sum.mean.saturating_add(window.mean);
        sum.max = sum.max.saturating_add(window.max);
        sum.samples = sum.samples.max(window.samples);
    }
    let throttled = |window: &MetricWindow| {
        window.metric == Metric::CpuThrottledPpm && window.label.is_none() && window.mean >= THROTTLED_PPM_MIN
    };
    for window in windows.iter().filter(throttled) {
        if let Some(usage) = sums.get_mut(&(ResourceKind::Cpu.into(), window.start_ms, window.duration_ms)) {
            usage.is_throttled = true;
        }
    }
    sums.into_values().collect()
}

/// From this share of throttled periods on, parts per million, usage of CPU is what the quota left of the demand: 5 %.
const THROTTLED_PPM_MIN: u64 = 50_000;
