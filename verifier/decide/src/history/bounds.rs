//! Bounding the lie (design §5): what a host says of its load is held within what it can have had.
//!
//! A quote does not prove the numbers true against a compromised kernel. So a window counts only where the TPM's own
//! clock leaves room for it, at most the operator's inventory, and applications together at most their host.

use std::collections::BTreeMap;

use quotary_common::envelope::{ClaimedEnvelope, Envelope, Name};
use quotary_common::evidence::Evidence;
use quotary_common::id::{GrantId, HostId};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::tpm::Quote;
use quotary_common::units::{ResourceKind, Resources};

use super::Subject;
use crate::attest::{ClockPosition, VerifiedEvidence};

/// What the load of a host may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The operator's inventory; what it does not name has no bound.
    pub capacity: Resources,
    /// The TPM's place in its time when the evidence before was quoted; `None` for a host's first.
    pub before: Option<ClockPosition>,
    /// Length of a metric window as the deployment sets it, ms.
    pub window_ms: u64,
}

/// The load that evidence states, held within [`Bounds`]. Made from verified evidence, or from what is kept of it.
#[derive(Debug)]
pub struct BoundedLoad {
    pub(super) host: HostId,
    pub(super) built_at_ms: u64,
    pub(super) subjects: Vec<SubjectLoad>,
    findings: Vec<LoadFinding>,
    clock: ClockPosition,
}

/// One subject's part of it.
#[derive(Debug)]
pub(super) struct SubjectLoad {
    pub(super) subject: Subject,
    pub(super) grant: Option<GrantId>,
    pub(super) usages: Vec<Usage>,
}

/// What a subject used of a resource in an interval of the host's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) resource: ResourceKind,
    pub(super) start_ms: u64,
    pub(super) duration_ms: u64,
    pub(super) mean: u64,
    pub(super) max: u64,
    pub(super) samples: u32,
}

/// What was beyond the bounds, and was taken back to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadFinding {
    /// A window does not lie in the time that passed since the evidence before: it is left out.
    OutOfTime,
    /// The host says that it used more than the inventory says that it has: the inventory's amount counts.
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
    /// The code as the host's record keeps it.
    pub fn name(self) -> Name {
        Name::lossy(self.code())
    }
}

impl BoundedLoad {
    /// The load that verified evidence states.
    pub fn of(evidence: &VerifiedEvidence, bounds: &Bounds) -> Self {
        Self::bounded(evidence.claims(), evidence.clock(), bounds)
    }

    /// The same for evidence that was verified and committed before a restart, and is read back from the store;
    /// `None` when it does not read.
    pub fn kept(evidence: &[u8], bounds: &Bounds) -> Option<Self> {
        let evidence = Evidence::from_bytes(evidence).ok()?;
        let clock = Quote::parse(&evidence.attest).ok()?.clock.into();
        Some(Self::bounded(ClaimedEnvelope::parse(evidence.envelope).ok()?.claims(), clock, bounds))
    }

    /// Whose it is.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The TPM's place in its time when it was quoted: where the next begins.
    pub fn clock(&self) -> ClockPosition {
        self.clock
    }

    /// What was beyond the bounds; each once.
    pub fn findings(&self) -> &[LoadFinding] {
        &self.findings
    }

    pub(super) fn bounded(envelope: &Envelope, clock: ClockPosition, bounds: &Bounds) -> Self {
        let mut load = Self {
            host: envelope.host,
            built_at_ms: envelope.built_at_ms,
            subjects: vec![SubjectLoad { subject: Subject::Host, grant: None, usages: usages(&envelope.host_windows) }],
            findings: Vec::new(),
            clock,
        };
        load.subjects.extend(envelope.applications.iter().map(|application| SubjectLoad {
            subject: Subject::Cgroup(application.cgroup.as_str().to_owned()),
            grant: application.grant,
            usages: usages(&application.windows),
        }));
        let reach_ms = reach_ms(clock, bounds);
        load.keep_in_time(reach_ms);
        load.keep_in_capacity(&bounds.capacity);
        load.keep_in_host();
        load.findings.sort_unstable();
        load.findings.dedup();
        load
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
            load.usages.retain(in_time);
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
            let Some(most) = most_of(usage.resource, capacity) else { continue };
            if usage.mean > most.saturating_add(most / METER_PART) {
                self.findings.push(LoadFinding::BeyondCapacity);
            }
            usage.mean = usage.mean.min(most);
            usage.max = usage.max.min(most);
        }
    }

    /// Resources that flow through the host's own counters. A group's memory holds page cache, which the host counts as
    /// free: it is held by the inventory alone.
    fn keep_in_host(&mut self) {
        for resource in [ResourceKind::Cpu, ResourceKind::Disk, ResourceKind::Network] {
            let Some(host) = self.subjects.first().and_then(|host| Total::of(&host.usages, resource)) else { continue };
            let mut used: u128 = 0;
            let mut longest_ms: u64 = 0;
            for load in self.outermost() {
                if let Some(total) = Total::of(&load.usages, resource) {
                    used = used.saturating_add(total.amount);
                    longest_ms = longest_ms.max(total.duration_ms);
                }
            }
            // Where the host's windows did not fit, nothing can be said.
            if longest_ms > host.duration_ms {
                continue;
            }
            let noise = u128::from(NOISE_MILLICORES) * u128::from(host.duration_ms);
            let most = host.amount.saturating_add(host.amount / u128::from(METER_PART / 2));
            let most = if resource == ResourceKind::Cpu { most.saturating_add(noise) } else { most };
            if used <= most {
                continue;
            }
            self.findings.push(LoadFinding::BeyondHost);
            let scale = |value: u64| {
                let scaled = u128::from(value).saturating_mul(most) / used.max(1);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            };
            for usage in self.subjects.iter_mut().skip(1).flat_map(|load| &mut load.usages) {
                if usage.resource == resource {
                    usage.mean = scale(usage.mean);
                    usage.max = scale(usage.max);
                }
            }
        }
    }

    /// Applications whose group lies in no other's: what runs in a group within a group is counted in both.
    fn outermost(&self) -> impl Iterator<Item = &SubjectLoad> {
        let mut groups: Vec<(&str, &SubjectLoad)> = self
            .subjects
            .iter()
            .filter_map(|load| match &load.subject {
                Subject::Cgroup(path) => Some((path.as_str(), load)),
                Subject::Host => None,
            })
            .collect();
        // By components, so that what lies in a group follows it at once.
        groups.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
        let mut outer: Option<&str> = None;
        groups.into_iter().filter_map(move |(path, load)| {
            let within = outer
                .and_then(|outer| path.strip_prefix(outer.trim_end_matches('/')))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !within {
                outer = Some(path);
            }
            (!within).then_some(load)
        })
    }
}

/// Counters are read one after another: a mean may be one part in so many beyond the truth.
const METER_PART: u64 = 16;
/// CPU time that groups may be ahead of the host by, which counts in ticks.
const NOISE_MILLICORES: u64 = 50;

/// How far back of its building an envelope's windows may begin, ms: what the TPM's clock says has passed since the
/// quote before. That clock may run a quarter slow or fast (TPM 2.0 Part 1, Clock), and a window that was open then is
/// closed since.
fn reach_ms(clock: ClockPosition, bounds: &Bounds) -> u64 {
    let before_ms = bounds.before.map_or(0, |before| before.clock_ms);
    let elapsed_ms = clock.clock_ms.saturating_sub(before_ms);
    elapsed_ms.saturating_add(elapsed_ms / 4).saturating_add(bounds.window_ms.saturating_mul(2))
}

fn most_of(resource: ResourceKind, capacity: &Resources) -> Option<u64> {
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
struct Total {
    amount: u128,
    duration_ms: u64,
}

impl Total {
    fn of(usages: &[Usage], resource: ResourceKind) -> Option<Self> {
        let mut all = usages.iter().filter(|usage| usage.resource == resource).peekable();
        all.peek()?;
        Some(all.fold(Self { amount: 0, duration_ms: 0 }, |total, usage| Self {
            amount: total.amount.saturating_add(u128::from(usage.mean) * u128::from(usage.duration_ms)),
            duration_ms: total.duration_ms.saturating_add(usage.duration_ms),
        }))
    }
}

/// The resources' usages in windows of the whole (without a label); reads and writes of one interval add up.
fn usages(windows: &MetricWindows) -> Vec<Usage> {
    let mut sums: BTreeMap<(ResourceKind, u64, u64), Usage> = BTreeMap::new();
    for window in windows.iter().filter(|window| window.label.is_none()) {
        let Some(resource) = resource_of(&window) else { continue };
        let sum = sums.entry((resource, window.start_ms, window.duration_ms)).or_insert(Usage {
            resource,
            start_ms: window.start_ms,
            duration_ms: window.duration_ms,
            mean: 0,
            max: 0,
            samples: 0,
        });
        sum.mean = sum.mean.saturating_add(window.mean);
        sum.max = sum.max.saturating_add(window.max);
        sum.samples = sum.samples.max(window.samples);
    }
    sums.into_values().collect()
}

fn resource_of(window: &MetricWindow) -> Option<ResourceKind> {
    match window.metric {
        Metric::CpuMillicores => Some(ResourceKind::Cpu),
        Metric::MemoryBytes => Some(ResourceKind::Memory),
        Metric::DiskReadBytesPerSecond | Metric::DiskWriteBytesPerSecond => Some(ResourceKind::Disk),
        Metric::NetworkTransmitBitsPerSecond => Some(ResourceKind::Network),
        _ => None,
    }
}
