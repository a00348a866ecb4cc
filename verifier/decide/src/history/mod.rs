//! History: what verified evidence said, per host and per application, on one time axis.
//!
//! Does: folds metric windows into points of one forecast step each, kept in a ring per series.
//! May assume: that a [`VerifiedEvidence`] came from the attest room and was committed at the given instant.
//! Promises: bounded memory (points per series, series per host); what was not seen is a gap, never a zero.
//! Must never: take windows that are not from verified evidence; read a clock.

mod series;

use std::collections::BTreeMap;

use quotary_common::envelope::Envelope;
use quotary_common::id::{GrantId, HostId};
use quotary_common::limits::APPLICATIONS_MAX;
use quotary_common::metric::{Metric, MetricWindow};
use quotary_common::units::ResourceKind;

pub use series::{Point, Series};

use crate::attest::VerifiedEvidence;

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

    /// Takes the windows of evidence that was committed at `committed_at_ms` (Unix time).
    ///
    /// Windows carry `CLOCK_BOOTTIME`; the envelope's own instant is put at the commit (wire.md, question 11).
    pub fn record(&mut self, evidence: &VerifiedEvidence, committed_at_ms: u64) {
        self.record_claims(evidence.claims(), committed_at_ms);
    }

    /// The same for an envelope that was verified and committed before a restart, and is read back from the store.
    pub fn replay(&mut self, committed: &Envelope, committed_at_ms: u64) {
        self.record_claims(committed, committed_at_ms);
    }

    fn record_claims(&mut self, envelope: &Envelope, committed_at_ms: u64) {
        let host = envelope.host;
        let to_unix =
            |boottime_ms: u64| committed_at_ms.saturating_sub(envelope.built_at_ms.saturating_sub(boottime_ms));
        self.fold(host, &Subject::Host, &envelope.host_windows.to_vec(), to_unix);
        for application in envelope.applications.iter() {
            let cgroup = application.cgroup.as_str().to_owned();
            let subject = Subject::Cgroup(cgroup.clone());
            self.fold(host, &subject, &application.windows.to_vec(), to_unix);
            // Bounded as the series are: a name without a series is not kept.
            let has_series = ResourceKind::ALL
                .into_iter()
                .any(|resource| self.series.contains_key(&SeriesKey { host, subject: subject.clone(), resource }));
            if let Some(grant) = application.grant.filter(|_| has_series) {
                self.grants.insert((host, cgroup), grant);
            }
        }
        self.forget_stale(host, committed_at_ms);
    }

    fn fold(&mut self, host: HostId, subject: &Subject, windows: &[MetricWindow], to_unix: impl Fn(u64) -> u64) {
        for (resource, metrics) in [
            (ResourceKind::Cpu, &[Metric::CpuMillicores][..]),
            (ResourceKind::Memory, &[Metric::MemoryBytes][..]),
            (ResourceKind::Disk, &[Metric::DiskReadBytesPerSecond, Metric::DiskWriteBytesPerSecond][..]),
            (ResourceKind::Network, &[Metric::NetworkTransmitBitsPerSecond][..]),
        ] {
            // Reads and writes of one interval add up to the demand on the disk.
            let mut sums: BTreeMap<(u64, u64), (u64, u64, u32)> = BTreeMap::new();
            for window in windows.iter().filter(|w| w.label.is_none() && metrics.contains(&w.metric)) {
                let sum = sums.entry((window.start_ms, window.duration_ms)).or_default();
                sum.0 = sum.0.saturating_add(window.mean);
                sum.1 = sum.1.saturating_add(window.max);
                sum.2 = sum.2.max(window.samples);
            }
            if sums.is_empty() {
                continue;
            }
            let key = SeriesKey { host, subject: subject.clone(), resource };
            if !self.series.contains_key(&key) && self.series_of(&host) >= SERIES_PER_HOST_MAX {
                continue;
            }
            let step_ms = self.step_ms;
            let series = self.series.entry(key).or_insert_with(|| Series::new(step_ms));
            for ((start_ms, duration_ms), (mean, max, samples)) in sums {
                series.add(to_unix(start_ms.saturating_add(duration_ms)), mean, max, samples);
            }
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
