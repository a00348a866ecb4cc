//! History: what verified evidence said, per host and per application, on one time axis.
//!
//! Does: holds metric windows within what the host can have had, folds them into points of one forecast step each, kept in a ring per series.
//! May assume: that a [`BoundedLoad`] is of evidence that was verified and committed at the given instant.
//! Promises: bounded memory (points per series, series per host); what was not seen is a gap, never a zero.
//! Must never: take windows that are not from verified evidence, or as they were stated; read a clock.

mod bounds;
mod series;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::BTreeMap;

use quotary_common::id::{GrantId, HostId};
use quotary_common::limits::APPLICATIONS_MAX;
use quotary_common::units::ResourceKind;

pub use bounds::{BoundedLoad, Bounds, LoadFinding, Timeline};
pub use series::{Point, Series};

pub(crate) use bounds::{SubjectLoad, Usage};

/// Whose demand a series is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The whole host.
    Host,
    /// What runs in a cgroup.
    Cgroup(String),
}

/// Which series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// The host.
    pub host: HostId,
    /// Whose demand.
    pub subject: Subject,
    /// Of what.
    pub resource: ResourceKind,
}

/// All series of all hosts.
#[derive(Debug)]
pub struct History {
    step_ms: u64,
    series: BTreeMap<SeriesKey, Series>,
    grants: BTreeMap<(HostId, String), GrantId>,
}

/// Series per host at most: four resources for each application and the host.
const SERIES_PER_HOST_MAX: usize = 4 * (APPLICATIONS_MAX + 1);

impl History {
    /// An empty history with points of `step_ms`.
    pub fn new(step_ms: u64) -> Self {
        Self { step_ms: step_ms.max(1), series: BTreeMap::new(), grants: BTreeMap::new() }
    }

    /// One point's length, ms.
    pub fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// Takes the load of evidence that was committed at `committed_at_ms` (Unix time).
    ///
    /// Windows carry `CLOCK_BOOTTIME`; the envelope's own instant is put at the commit (wire.md, question 11).
    pub fn record(&mut self, load: &BoundedLoad, committed_at_ms: u64) {
        let host = load.host;
        let to_unix = |boottime_ms: u64| load.to_unix_ms(boottime_ms, committed_at_ms);
        for of_subject in &load.subjects {
            let subject = &of_subject.subject;
            self.fold(host, subject, &of_subject.usages, to_unix);
            // Bounded as the series are: a name without a series is not kept.
            let has_series = ResourceKind::ALL
                .into_iter()
                .any(|resource| self.series.contains_key(&SeriesKey { host, subject: subject.clone(), resource }));
            if let (Subject::Cgroup(cgroup), Some(grant), true) = (subject, of_subject.grant, has_series) {
                self.grants.insert((host, cgroup.clone()), grant);
            }
        }
        self.forget_stale(host, committed_at_ms);
    }

    fn fold(&mut self, host: HostId, subject: &Subject, usages: &[Usage], to_unix: impl Fn(u64) -> u64) {
        for usage in usages {
            let key = SeriesKey { host, subject: subject.clone(), resource: usage.resource };
            if !self.series.contains_key(&key) && self.series_of(&host) >= SERIES_PER_HOST_MAX {
                continue;
            }
            let step_ms = self.step_ms;
            let series = self.series.entry(key).or_insert_with(|| Series::new(step_ms));
            let end_ms = usage.start_ms.saturating_add(usage.duration_ms);
            series.add(to_unix(end_ms), usage.mean, usage.max, usage.samples);
        }
    }

    fn series_of(&self, host: &HostId) -> usize {
        self.of_host(host).count()
    }

    fn of_host(&self, host: &HostId) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        let host = *host;
        let first = SeriesKey { host, subject: Subject::Host, resource: ResourceKind::Cpu };
        self.series.range(first..).take_while(move |(key, _)| key.host == host)
    }

    /// Lets go of series that are silent for as long as a ring reaches back.
    fn forget_stale(&mut self, host: HostId, now_ms: u64) {
        let stale: Vec<SeriesKey> =
            self.of_host(&host).filter(|(_, series)| series.is_stale(now_ms)).map(|(key, _)| key.clone()).collect();
        for key in stale {
            self.series.remove(&key);
            if let Subject::Cgroup(cgroup) = key.subject {
                self.grants.remove(&(host, cgroup));
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

    /// The grant that a cgroup last ran under.
    pub fn grant_of(&self, host: &HostId, cgroup: &str) -> Option<GrantId> {
        self.grants.get(&(*host, cgroup.to_owned())).copied()
    }
}
