//! An alarm as it is kept.

use minicbor::{Decode, Encode};
use quotary_common::anomaly::{ANOMALY_FINDINGS_MAX, ANOMALY_SUBJECT_BYTES_MAX, Anomaly, AnomalyFinding};
use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::id::HostId;

use super::Place;

/// An alarm with all that was added to it. Its key is where it began and its place.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AlarmRecord {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    host: Option<HostId>,
    #[n(2)]
    sum: Option<Text<ANOMALY_SUBJECT_BYTES_MAX>>,
    #[n(3)]
    at_ms: u64,
    #[n(4)]
    told_at_ms: u64,
    #[n(5)]
    findings: Bounded<AnomalyFinding, ANOMALY_FINDINGS_MAX>,
    #[n(6)]
    beyond: u32,
}

impl AlarmRecord {
    /// The alarm as it is told at `told_at_ms` (Unix time), after what was known of it.
    pub fn of(known: Option<&Self>, anomaly: &Anomaly, told_at_ms: u64) -> Self {
        let mut findings: Vec<AnomalyFinding> = known.map(|known| known.findings.to_vec()).unwrap_or_default();
        findings.extend(anomaly.findings.iter().cloned());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.score_permille));
        let (findings, over) = Bounded::truncating(findings);
        let over = u32::try_from(over).unwrap_or(u32::MAX);
        let beyond = known.map_or(0, |known| known.beyond).saturating_add(anomaly.beyond).saturating_add(over);
        let (host, sum, at_ms) = (anomaly.host, anomaly.sum.clone(), anomaly.at_ms);
        Self { version: Version, host, sum, at_ms, told_at_ms, findings, beyond }
    }

    /// The host; none for a sum.
    pub fn host(&self) -> Option<HostId> {
        self.host
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        let name = |sum: &Text<_>| sum.as_str().to_owned();
        match (self.host, &self.sum) {
            (Some(host), None) => Place::Host(host),
            (Some(host), Some(cgroup)) => Place::Gauges(host, name(cgroup)),
            (None, sum) => Place::Sum(sum.as_ref().map_or_else(String::new, name)),
        }
    }

    /// Where its first step began, Unix ms.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// When the newest of it was told, Unix ms.
    pub fn told_at_ms(&self) -> u64 {
        self.told_at_ms
    }

    /// What is odd, the oddest first.
    pub fn findings(&self) -> &[AnomalyFinding] {
        &self.findings
    }

    /// How many more there were.
    pub fn beyond(&self) -> u32 {
        self.beyond
    }

    /// The key that it is kept under: in the order of time.
    pub fn key(&self) -> Vec<u8> {
        Self::key_of(self.at_ms, self.host.as_ref(), self.sum.as_ref().map(Text::as_str))
    }

    /// The key of an alarm that began at `at_ms`.
    pub fn key_of(at_ms: u64, host: Option<&HostId>, sum: Option<&str>) -> Vec<u8> {
        let host = host.map(|host| host.as_bytes().as_slice()).unwrap_or_default();
        [at_ms.to_be_bytes().as_slice(), host, sum.unwrap_or_default().as_bytes()].concat()
    }
}
