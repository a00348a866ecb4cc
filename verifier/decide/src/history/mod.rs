//! History: what verified evidence said, per host and per application, summed per tenant and pool, on one time axis.
//!
//! Does: holds metric windows within what the host can have had, folds them into points of a minute, a forecast step and
//! an hour, kept in rings per series; marks usage at a limit as censored; sums tenants and pools; packs what is new into chunks.
//! May assume: that a [`BoundedLoad`] is of evidence that was verified and committed at the given instant.
//! Promises: bounded memory (points per series, series per host); what was not seen is a gap, never a zero; what one
//! host states moves no other host's series, and a sum by no more than that host's inventory.
//! Must never: take windows that are not from verified evidence, or as they were stated; read a clock.

mod bounds;
mod chunk;
mod kept;
mod limits;
mod measure;
mod owner;
mod pressure;
mod ring;
mod select;
mod series;
mod standing;
mod sums;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::envelope::{EventKind, Name};
use quotary_common::id::{BootId, GrantId, HostId};
use quotary_common::limits::APPLICATIONS_MAX;
use quotary_common::units::ResourceKind;

pub use bounds::{BoundedLoad, Bounds, LoadFinding, Timeline};
pub use chunk::{CHUNK_BYTES_MAX, Chunk, ChunkError, Watermark};
pub use kept::CHUNK_EVIDENCE_MAX;
pub use measure::Measure;
pub use owner::Owner;
pub use pressure::PRESSURE_HALF_LIFE_MS;
pub use ring::{HOUR_MS, MINUTE_MS, Point, Resolution};
pub use series::{Series, Window};
pub use standing::Standing;

pub(crate) use bounds::{SubjectLoad, Usage};
use limits::{Ceiling, Held, Shortage, Written};

/// Whose demand a series is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The whole host.
    Host,
    /// What runs in a cgroup.
    Cgroup(String),
    /// All that a tenant's applications use, on whatever host.
    Tenant(Name),
    /// All that a pool's hosts use.
    Pool(Name),
}

impl Subject {
    /// The cgroup, if it is one.
    pub fn cgroup(&self) -> Option<&str> {
        match self {
            Self::Cgroup(path) => Some(path),
            _ => None,
        }
    }
}

/// Which series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// The host; absent for a sum over hosts.
    pub host: Option<HostId>,
    /// Whose demand.
    pub subject: Subject,
    /// Of what.
    pub measure: Measure,
}

/// What is known of a cgroup beside its series.
#[derive(Debug, Default)]
struct Group {
    /// The grant that it last ran under.
    grant: Option<GrantId>,
    /// Who pays for it, where it counts into that tenant's sum.
    tenant: Option<Name>,
    /// Whose it is.
    owner: Owner,
    /// The limits that the host wrote last.
    written: Written,
}

/// What is known of a host beside its series.
#[derive(Debug, Default)]
struct HostNote {
    boot_id: Option<BootId>,
    pool: Option<Name>,
    groups: BTreeMap<String, Group>,
    series: usize,
}

/// All series of all hosts.
#[derive(Debug)]
pub struct History {
    step_ms: u64,
    series: BTreeMap<SeriesKey, Series>,
    hosts: BTreeMap<HostId, HostNote>,
    /// The number of the first of the finest intervals that is not summed yet.
    summed: u64,
    unkept: BTreeMap<Option<HostId>, kept::Unkept>,
}

/// Series per host at most: an application has CPU, memory, disk and three gauges; the host has five resources.
const SERIES_PER_HOST_MAX: usize = 6 * (APPLICATIONS_MAX + 1);

impl History {
    /// An empty history with forecast steps of `step_ms`.
    pub fn new(step_ms: u64) -> Self {
        let step_ms = step_ms.max(1);
        Self { step_ms, series: BTreeMap::new(), hosts: BTreeMap::new(), summed: 0, unkept: BTreeMap::new() }
    }

    /// One forecast step's length, ms.
    pub fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// Takes the load of evidence that was committed at `committed_at_ms` (Unix time).
    ///
    /// Windows carry `CLOCK_BOOTTIME`; the envelope's own instant is put at the commit (wire.md, question 11).
    pub fn record(&mut self, load: &BoundedLoad, committed_at_ms: u64) {
        let host = load.host;
        self.make_room(load, committed_at_ms);
        let note = self.hosts.entry(host).or_default();
        note.pool.clone_from(&load.known.pool);
        if note.boot_id.replace(load.timeline().boot_id) != Some(load.timeline().boot_id) {
            // What an earlier boot wrote is gone with it.
            note.groups.values_mut().for_each(|group| group.written.clear());
        }
        let (mut writes, mut shortages) = (BTreeMap::<_, Vec<&Ceiling>>::new(), BTreeMap::<_, Vec<&Shortage>>::new());
        load.writes.iter().for_each(|write| writes.entry(write.cgroup.as_str()).or_default().push(write));
        load.shortages.iter().for_each(|one| shortages.entry(one.cgroup.as_deref()).or_default().push(one));
        for of_subject in &load.subjects {
            let cgroup = of_subject.subject.cgroup();
            let writes = cgroup.and_then(|cgroup| writes.get(cgroup)).map_or(&[][..], Vec::as_slice);
            let shortages = shortages.get(&cgroup).map_or(&[][..], Vec::as_slice);
            self.fold(load, of_subject, (writes, shortages), committed_at_ms);
        }
        let watermark = Watermark { enrolled_at_ms: load.known.enrolled_at_ms, sequence: load.sequence };
        self.unkept.entry(Some(host)).or_default().reach(watermark, committed_at_ms);
        self.forget_stale(host, committed_at_ms);
    }

    /// Takes from load that chunks hold already whose it is, and nothing else.
    pub fn place(&mut self, load: &BoundedLoad) {
        let note = self.hosts.entry(load.host).or_default();
        note.boot_id = Some(load.timeline().boot_id);
        note.pool.clone_from(&load.known.pool);
        for of_subject in &load.subjects {
            let Some(cgroup) = of_subject.subject.cgroup() else { continue };
            let key = |measure| SeriesKey { host: Some(load.host), subject: of_subject.subject.clone(), measure };
            if Measure::ALL.into_iter().any(|measure| self.series.contains_key(&key(measure))) {
                let group = note.groups.entry(cgroup.to_owned()).or_default();
                group.grant = of_subject.grant.or(group.grant);
                group.tenant.clone_from(&of_subject.tenant);
                group.owner.clone_from(&of_subject.owner);
            }
        }
    }

    fn fold(
        &mut self,
        load: &BoundedLoad,
        of_subject: &SubjectLoad,
        (writes, shortages): (&[&Ceiling], &[&Shortage]),
        committed_at_ms: u64,
    ) {
        let (host, subject) = (load.host, &of_subject.subject);
        let grain_ms = self.grain_ms();
        let note = self.hosts.entry(host).or_default();
        let written = subject.cgroup().and_then(|cgroup| note.groups.get(cgroup)).map(|group| &group.written);
        let held = Held { written, writes, otherwise: of_subject.limits, shortages };
        let mut has_series = false;
        let unkept = self.unkept.entry(Some(host)).or_default();
        for usage in &of_subject.usages {
            let is_censored = held.is_censored(usage);
            let Some(point) = Point::new((usage.mean, usage.max), usage.samples, is_censored) else { continue };
            let key = SeriesKey { host: Some(host), subject: subject.clone(), measure: usage.measure };
            let end_ms = load.to_unix_ms(usage.start_ms.saturating_add(usage.duration_ms), committed_at_ms);
            let Some(series) = series_at(&mut self.series, &mut note.series, key, self.step_ms) else { continue };
            series.add(Window { end_ms, duration_ms: usage.duration_ms, point });
            if usage.is_throttled {
                series.pressure_mut().add(pressure::weight(EventKind::CpuThrottled), end_ms);
            }
            unkept.add((subject, usage.measure), end_ms.saturating_sub(1) / grain_ms, &point);
            has_series = true;
        }
        for shortage in shortages {
            let measure = shortage.resource.into();
            let key = SeriesKey { host: Some(host), subject: subject.clone(), measure };
            if let Some(series) = self.series.get_mut(&key) {
                series.pressure_mut().add(shortage.weight, load.to_unix_ms(shortage.at_ms, committed_at_ms));
                has_series = true;
            }
        }
        // Bounded as the series are: a name without a series is not kept.
        if let (Some(cgroup), true) = (subject.cgroup(), has_series) {
            let group = note.groups.entry(cgroup.to_owned()).or_default();
            group.grant = of_subject.grant.or(group.grant);
            group.tenant.clone_from(&of_subject.tenant);
            group.owner.clone_from(&of_subject.owner);
            group.written.extend(writes.iter().flat_map(|write| write.amounts.iter().copied()));
        }
    }

    fn of_host(&self, host: &HostId) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        let host = Some(*host);
        let first = SeriesKey { host, subject: Subject::Host, measure: ResourceKind::Cpu.into() };
        self.series.range(first..).take_while(move |(key, _)| key.host == host)
    }

    /// Lets go of series that were silent longest, for those that a load brings beyond the bound.
    fn make_room(&mut self, load: &BoundedLoad, now_ms: u64) {
        let held = self.hosts.get(&load.host).map_or(0, |note| note.series);
        let stated: usize = load.subjects.iter().map(|one| one.usages.len().min(Measure::ALL.len())).sum();
        if held.saturating_add(stated) <= SERIES_PER_HOST_MAX {
            return;
        }
        let named: BTreeSet<SeriesKey> = load
            .subjects
            .iter()
            .flat_map(|one| one.usages.iter().map(|usage| (&one.subject, usage.measure)))
            .map(|(subject, measure)| SeriesKey { host: Some(load.host), subject: subject.clone(), measure })
            .collect();
        let fresh = named.iter().filter(|key| !self.series.contains_key(key)).count();
        let beyond = (held + fresh).saturating_sub(SERIES_PER_HOST_MAX);
        if beyond == 0 {
            return;
        }
        let is_silent = |(key, series): &(&SeriesKey, &Series)| {
            !named.contains(*key) && series.newest_ms().saturating_add(self.step_ms) < now_ms
        };
        let mut silent: Vec<(u64, SeriesKey)> =
            self.of_host(&load.host).filter(is_silent).map(|(key, series)| (series.newest_ms(), key.clone())).collect();
        silent.sort();
        self.forget(load.host, silent.into_iter().take(beyond).map(|(_, key)| key).collect());
    }

    /// Lets go of series that are silent for too long.
    fn forget_stale(&mut self, host: HostId, now_ms: u64) {
        let stale = self.of_host(&host).filter(|(_, series)| series.is_stale(now_ms)).map(|(key, _)| key.clone());
        let stale = stale.collect();
        self.forget(host, stale);
    }

    fn forget(&mut self, host: HostId, keys: Vec<SeriesKey>) {
        for key in keys {
            let Some(note) = self.hosts.get_mut(&host) else { return };
            note.series -= usize::from(self.series.remove(&key).is_some());
            let Some(cgroup) = key.subject.cgroup() else { continue };
            let has_series = |measure| self.series.contains_key(&SeriesKey { measure, ..key.clone() });
            if !Measure::ALL.into_iter().any(has_series) {
                note.groups.remove(cgroup);
            }
        }
    }

    /// Every series with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.series.iter()
    }

    /// One series.
    pub fn get(&self, key: &SeriesKey) -> Option<&Series> {
        self.series.get(key)
    }
}

/// A host's series, made if there is room for it.
fn series_at<'a>(
    all: &'a mut BTreeMap<SeriesKey, Series>,
    of_host: &mut usize,
    key: SeriesKey,
    step_ms: u64,
) -> Option<&'a mut Series> {
    use std::collections::btree_map::Entry;
    match all.entry(key) {
        Entry::Occupied(known) => Some(known.into_mut()),
        Entry::Vacant(_) if *of_host >= SERIES_PER_HOST_MAX => None,
        Entry::Vacant(free) => {
            *of_host += 1;
            Some(free.insert(Series::new(step_ms)))
        }
    }
}
