//! A host: what enrolment fixed, and what each accepted evidence moves.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{Digest, HostId, TokenId};
use quotary_common::tpm::{AkKey, TpmError, TpmPublic, qualified_signer};
use quotary_common::units::Resources;

use super::seen::{Seen, lacking};
use crate::attest::{
    Appraisal, CheckedEnrolment, ClockPosition, Committed, EkAllowList, EnrolledHost, Finding, HeldLogs, Measured,
    TpmKind, TrustRoots, VerifiedEvidence,
};
use crate::history::{BoundedLoad, Timeline};

/// Who certifies EKs, and which are admitted: as the configuration says now, whatever it said when a host enrolled.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    authorities: BTreeMap<Digest, TpmKind>,
    allow_list: Option<EkAllowList>,
}

impl Admission {
    /// By these authorities, of these EKs only if there is a list.
    pub fn new(roots: &TrustRoots, allow_list: Option<EkAllowList>) -> Self {
        Self { authorities: roots.by_key(), allow_list }
    }
    fn kind_of(&self, record: &HostRecord) -> Option<TpmKind> {
        match (record.ek_authority, record.tpm.as_ref().map(Text::as_str)) {
            (Some(authority), _) => self.authorities.get(&authority).copied(),
            // Which authority it was, that record does not say: what it says holds until the host enrols again.
            (None, Some("hardware")) => Some(TpmKind::Hardware),
            (None, Some("software")) => Some(TpmKind::Software),
            (None, _) => None,
        }
    }
    fn lists(&self, host: &HostId) -> bool {
        self.allow_list.as_ref().is_none_or(|list| list.contains(host))
    }
}

/// What enrolment fixed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HostRecord {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The host.
    #[n(1)]
    pub host: HostId,
    /// `TPMT_PUBLIC` of the EK.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ek_public: Vec<u8>,
    /// `TPMT_PUBLIC` of the AK.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub ak_public: Vec<u8>,
    /// SHA-256 of the SPKI of its TLS key.
    #[n(4)]
    pub tls_key: Digest,
    /// Issuer of the EK certificate: in records of before `ek_authority` only.
    #[n(5)]
    pub ek_issuer: Option<Text<512>>,
    /// `hardware`, `software` or `uncertified`: in such records only.
    #[n(6)]
    pub tpm: Option<Name>,
    /// The best zone that its admission allows.
    #[n(7)]
    pub zone_best: Name,
    /// Labels.
    #[n(8)]
    pub labels: Bounded<(Name, Name), 64>,
    /// Inventory.
    #[n(9)]
    pub capacity: Resources,
    /// The join token.
    #[n(10)]
    pub token: TokenId,
    /// When, Unix ms.
    #[n(11)]
    pub enrolled_at_ms: u64,
    /// SHA-256 of the SubjectPublicKeyInfo of the authority at which the EK's chain ended.
    #[n(12)]
    pub ek_authority: Option<Digest>,
}

/// What accepted evidence moves; one row per host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HostProgress {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// Last committed sequence number.
    #[n(1)]
    pub sequence: u64,
    /// SHA-256 of the last committed envelope.
    #[n(2)]
    pub envelope: Digest,
    /// SHA-256 of the last committed evidence.
    #[n(3)]
    pub evidence: Option<Digest>,
    /// The TPM's reset count, restart count and clock in it.
    #[n(4)]
    pub clock: Option<(u32, u32, u64)>,
    /// Fencing number.
    #[n(5)]
    pub epoch: u64,
    /// Number of the last grant set.
    #[n(6)]
    pub generation: u64,
    /// The zone that it is in.
    #[n(7)]
    pub zone: Option<Name>,
    /// When the last evidence was committed, Unix ms.
    #[n(8)]
    pub committed_at_ms: u64,
    /// Until when the host is trusted without further evidence, Unix ms.
    #[n(9)]
    pub valid_until_ms: u64,
    /// What the last accepted envelope said of the host.
    #[n(10)]
    pub seen: Option<Seen>,
    /// Names of the findings in it.
    #[n(11)]
    pub findings: Bounded<Name, 8>,
    /// Envelopes that raised the epoch: the same never does so twice. The newest last.
    #[n(12)]
    pub forks_seen: Bounded<Digest, FORKS_MAX>,
    /// Until when its grants hold capacity without further evidence, Unix ms: what was promised, whatever the
    /// configuration says later.
    #[n(13)]
    pub held_until_ms: u64,
    /// What its logs came to.
    #[n(14)]
    pub logs: Option<HeldLogs>,
    /// Why an operator revoked it, Unix ms and words: nothing is accepted until it enrols again.
    #[n(15)]
    pub revoked: Option<(u64, Text<256>)>,
}

/// Envelopes remembered per host that raised its epoch.
const FORKS_MAX: usize = 16;

/// A host with its keys prepared.
#[derive(Debug, Clone)]
pub struct Host {
    /// What enrolment fixed.
    pub record: HostRecord,
    /// What evidence moves.
    pub progress: HostProgress,
    enrolled: EnrolledHost,
}

/// What an acceptance promises, ms.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// How long trust holds.
    pub trust_ms: u64,
    /// How long grants hold their capacity: lease and margin.
    pub hold_ms: u64,
}

/// A record that does not give a host.
#[derive(Debug, thiserror::Error)]
#[error("the record of {host} is unusable: {what}")]
pub struct LoadError {
    host: HostId,
    what: &'static str,
    #[source]
    source: TpmError,
}

/// Verified evidence that no longer follows the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host moved on to sequence {committed} meanwhile")]
pub struct AcceptError {
    /// The last committed sequence number.
    pub committed: u64,
}

impl Host {
    /// A host from its records, as whoever certifies and admits EKs now sees it.
    ///
    /// # Errors
    /// [`LoadError`] when a public area in it is unusable.
    pub fn new(record: HostRecord, progress: HostProgress, admission: &Admission) -> Result<Self, LoadError> {
        let fault = |what| move |source| LoadError { host: record.host, what, source };
        let ek = TpmPublic::parse(&record.ek_public).map_err(fault("its EK"))?;
        let ak = TpmPublic::parse(&record.ak_public).map_err(fault("its AK"))?;
        let kind = admission.kind_of(&record);
        let enrolled = EnrolledHost {
            host: record.host,
            tls_key: record.tls_key,
            ak: AkKey::from_public(&ak).map_err(fault("its AK"))?,
            qualified_signer: qualified_signer(&ek.name(), &ak.name()).as_bytes().to_vec(),
            ek_certified: kind.is_some(),
            hardware_tpm: kind == Some(TpmKind::Hardware),
            is_listed: admission.lists(&record.host),
            best_zone: record.zone_best.clone(),
            committed: progress.committed(),
        };
        Ok(Self { record, progress, enrolled })
    }

    /// What the attest room needs of it.
    pub fn enrolled(&self) -> &EnrolledHost {
        &self.enrolled
    }

    /// `hardware`, `software`, or `uncertified`: by the authority that issued its EK certificate, as it is configured now.
    pub fn tpm(&self) -> &'static str {
        match (self.enrolled.ek_certified, self.enrolled.hardware_tpm) {
            (true, true) => "hardware",
            (true, false) => "software",
            (false, _) => "uncertified",
        }
    }

    /// Whether its trust holds at `now_ms`.
    pub fn is_trusted(&self, now_ms: u64) -> bool {
        self.progress.zone.is_some() && now_ms < self.progress.valid_until_ms
    }

    /// The host after accepting `evidence` with `appraisal` at `now_ms`; for as long as is promised.
    ///
    /// # Errors
    /// [`AcceptError`] when the evidence does not follow what is committed (another one was, meanwhile).
    pub fn accept(
        &self,
        (evidence, measured, load): (&VerifiedEvidence, &Measured, &BoundedLoad),
        appraisal: &Appraisal,
        now_ms: u64,
        times: Promise,
    ) -> Result<Self, AcceptError> {
        let claims = evidence.claims();
        let committed = self.progress.committed();
        if Some(claims.sequence) != committed.sequence.checked_add(1) || claims.predecessor != committed.envelope {
            return Err(AcceptError { committed: committed.sequence });
        }
        let clock = evidence.clock();
        // What it was trusted for goes on ageing while nothing but its logs, on their way, keeps it from its zone.
        let ages = self.is_trusted(now_ms) && self.progress.zone.as_ref().is_some_and(|zone| appraisal.ages_in(zone));
        let (zone, valid_until_ms) = match ages {
            true => (self.progress.zone.clone(), self.progress.valid_until_ms),
            false => (appraisal.zone.clone(), now_ms.saturating_add(times.trust_ms)),
        };
        let progress = HostProgress {
            version: Version,
            sequence: claims.sequence,
            envelope: evidence.envelope_digest(),
            evidence: Some(evidence.evidence_digest()),
            clock: Some((clock.reset_count, clock.restart_count, clock.clock_ms)),
            epoch: self.progress.epoch,
            generation: self.progress.generation.saturating_add(1),
            zone,
            committed_at_ms: now_ms,
            valid_until_ms,
            seen: Some(Seen {
                boot_id: claims.boot_id,
                hostname: claims.facts.hostname.clone(),
                agent_version: claims.agent_version.clone(),
                mode: claims.backend.mode,
                backend: claims.backend.kind,
                hierarchy: claims.backend.hierarchy,
                witnessed: claims.checkpoint,
                built_at_ms: Some(claims.built_at_ms),
                began_ms: Some(load.timeline().began_ms),
                lacks: lacking(&claims.backend),
            }),
            findings: Bounded::truncating(finding_names(evidence, appraisal, load)).0,
            forks_seen: self.progress.forks_seen.clone(),
            held_until_ms: self.progress.held_until_ms.max(now_ms.saturating_add(times.hold_ms)),
            logs: Some(measured.held().clone()),
            revoked: None,
        };
        let mut next = Self { record: self.record.clone(), progress, enrolled: self.enrolled.clone() };
        next.enrolled.committed = next.progress.committed();
        Ok(next)
    }

    /// Where the host's own time stood in its last evidence.
    pub fn timeline(&self) -> Option<Timeline> {
        let seen = self.progress.seen.as_ref()?;
        Some(Timeline { boot_id: seen.boot_id, built_at_ms: seen.built_at_ms?, began_ms: seen.began_ms? })
    }

    /// When the host last did anything that was recorded, Unix ms.
    pub fn last_known_ms(&self) -> u64 {
        self.progress.committed_at_ms.max(self.record.enrolled_at_ms)
    }

    /// Whether this envelope raised the epoch before.
    pub fn has_seen_fork(&self, envelope: &Digest) -> bool {
        self.progress.forks_seen.contains(envelope)
    }

    /// The host whose trust ended for want of news.
    #[must_use]
    pub fn lapsed(&self) -> Self {
        let mut next = self.clone();
        next.progress.zone = None;
        next
    }

    /// The host with its epoch raised and its trust ended, by an operator and for good.
    #[must_use]
    pub fn revoked(&self, now_ms: u64, why: Text<256>) -> Self {
        let mut next = self.clone();
        next.progress.epoch = next.progress.epoch.saturating_add(1);
        next.progress.zone = None;
        next.progress.valid_until_ms = 0;
        next.progress.revoked = Some((now_ms, why));
        next
    }

    /// The host with its epoch raised and its trust ended, for an `envelope` that shows a finding.
    #[must_use]
    pub fn fenced(&self, envelope: Digest) -> Self {
        let mut next = self.clone();
        let mut seen = next.progress.forks_seen.to_vec();
        seen.push(envelope);
        let first = seen.len().saturating_sub(FORKS_MAX);
        next.progress.forks_seen = Bounded::truncating(seen.split_off(first)).0;
        next.progress.epoch = next.progress.epoch.saturating_add(1);
        next.progress.zone = None;
        next.progress.valid_until_ms = 0;
        next
    }
}

impl HostProgress {
    /// Of a first enrolment: nothing committed, no trust yet.
    pub fn first() -> Self {
        Self {
            version: Version,
            sequence: 0,
            envelope: Committed::NOTHING.envelope,
            evidence: None,
            clock: None,
            epoch: 1,
            generation: 0,
            zone: None,
            committed_at_ms: 0,
            valid_until_ms: 0,
            seen: None,
            findings: Bounded::default(),
            forks_seen: Bounded::default(),
            held_until_ms: 0,
            logs: None,
            revoked: None,
        }
    }

    /// Of an enrolment after this one: the chain starts anew under a higher epoch. The TPM's clock goes on where the
    /// attestation key is the same, so that nothing of before can be committed again.
    #[must_use]
    pub fn anew(&self, same_ak: bool) -> Self {
        Self {
            epoch: self.epoch.saturating_add(1),
            generation: self.generation,
            clock: self.clock.filter(|_| same_ak),
            forks_seen: self.forks_seen.clone(),
            held_until_ms: self.held_until_ms,
            ..Self::first()
        }
    }

    /// The last committed evidence.
    pub fn committed(&self) -> Committed {
        let clock = self.clock.map(|(reset_count, restart_count, clock_ms)| ClockPosition {
            reset_count,
            restart_count,
            clock_ms,
        });
        Committed { sequence: self.sequence, envelope: self.envelope, clock }
    }
}

impl HostRecord {
    /// The record of an enrolment that was activated, under what its token allows.
    pub fn of(
        checked: &CheckedEnrolment,
        token: TokenId,
        admission: (&Name, &Bounded<(Name, Name), 64>, &Resources),
        now_ms: u64,
    ) -> Self {
        let certified = checked.certified_by();
        let (zone_best, labels, capacity) = admission;
        Self {
            version: Version,
            host: checked.host_id(),
            ek_public: checked.ek_public().to_vec(),
            ak_public: checked.ak_public().to_vec(),
            tls_key: checked.tls_key(),
            ek_issuer: None,
            tpm: None,
            zone_best: zone_best.clone(),
            labels: labels.clone(),
            capacity: *capacity,
            token,
            enrolled_at_ms: now_ms,
            ek_authority: certified.map(|by| by.authority_spki),
        }
    }
}

fn finding_names(evidence: &VerifiedEvidence, appraisal: &Appraisal, load: &BoundedLoad) -> Vec<Name> {
    let of_quote = evidence.findings().iter().map(|finding| Name::lossy(finding_name(*finding)));
    let of_logs = appraisal.warnings.iter().map(|warning| warning.code.clone());
    of_quote.chain(of_logs).chain(load.findings().iter().map(|finding| finding.name())).collect()
}

/// A finding's name, as operators see it.
const fn finding_name(finding: Finding) -> &'static str {
    match finding {
        Finding::ClockUnsafe => "clock-unsafe",
        Finding::Rebooted => "rebooted",
        Finding::Resumed => "resumed",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::cbor;

    use super::*;

    #[test]
    fn a_record_of_before_authorities_were_kept_says_what_the_tpm_is() {
        let record = HostRecord {
            version: Version,
            host: HostId::of(&[b"an EK"]),
            ek_public: vec![1],
            ak_public: vec![2],
            tls_key: Digest::of(&[b"key"]),
            ek_issuer: Some(Text::lossy("CN=site")),
            tpm: Some(Name::lossy("software")),
            zone_best: Name::lossy("measured"),
            labels: Bounded::default(),
            capacity: Resources::default(),
            token: TokenId::of(&[b"token"]),
            enrolled_at_ms: 1,
            ek_authority: None,
        };
        let row = cbor::to_bytes(&record);
        let read: HostRecord = cbor::from_bytes(&row, 4096).unwrap();
        let nobody = Admission::default();
        assert_eq!(nobody.kind_of(&read), Some(TpmKind::Software));
        let uncertified = HostRecord { tpm: Some(Name::lossy("uncertified")), ..record.clone() };
        assert_eq!(nobody.kind_of(&uncertified), None);
        // One that names its authority is certified only while that one is configured.
        let named = HostRecord { ek_authority: Some(Digest::of(&[b"authority"])), ..record };
        assert_eq!(nobody.kind_of(&named), None);
    }
}
