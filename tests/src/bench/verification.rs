//! Full verification of evidence beside the bare signature check, in one run and on one thread.
//!
//! Both are counted in CPU time of the thread and take turns every millisecond or so, so that whatever else the
//! machine does hits both alike. "Full" is every check of one evidence: precheck (bounds, canonical form, addressee,
//! sequence, nonce), verify (signature to chain), appraise. The digest under which the evidence is kept afterwards is
//! no check; the ratio with it is told beside.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use quotary_common::cbor::Bounded;
use quotary_common::envelope::Name;
use quotary_common::evidence::{Evidence, EvidenceVersion, extra_data};
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::nonce::{NonceKey, NonceScope};
use quotary_common::tpm::{AkKey, PcrSelection, TpmPublic, qualified_signer};
use quotary_decide::attest::{
    Arrival, ClockPosition, Committed, EnrolledHost, LearnedReferences, Prechecked, Reference, Zone, Zones, appraise,
    precheck, verify,
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Serialize;

use super::content::{self, Content, Place};
use super::report::{median, progress};
use super::software_tpm::{SoftwareTpm, pcr_values};
use super::{ROUNDS, cpu};

/// Hosts whose evidence is checked in turn: no key or envelope stays hot in a cache by itself.
const HOSTS: usize = 64;
/// Checks of one kind between two readings of the clock.
const TURN: usize = 16;
const NOW_MS: u64 = 1_800_000_000_000;
const SEQUENCE: u64 = 42;

/// One size of evidence.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// `small` or `typical`.
    pub content: &'static str,
    /// Canonical bytes of its envelope.
    pub envelope_bytes: usize,
    /// Canonical bytes of the evidence.
    pub evidence_bytes: usize,
    /// Metric windows in it.
    pub metric_windows: usize,
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds: full verifications per second of CPU time.
    pub full_per_core_second: f64,
    /// Median over the rounds: bare ring P-256 verifications per second of CPU time.
    pub bare_per_core_second: f64,
    /// Median over the rounds of full to bare, each from one round.
    pub ratio_to_bare: f64,
    /// The same with the digest under which the evidence is kept.
    pub ratio_with_name: f64,
    /// Median over the rounds: CPU time of the part before the signature, in microseconds.
    pub precheck_microseconds: f64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// Full verifications per second of CPU time.
    pub full_per_core_second: f64,
    /// Bare ones.
    pub bare_per_core_second: f64,
    /// The one to the other.
    pub ratio_to_bare: f64,
    /// The same with the digest under which the evidence is kept.
    pub ratio_with_name: f64,
    /// CPU time of the part before the signature, in microseconds.
    pub precheck_microseconds: f64,
}

/// What stands the same for all hosts.
struct Setting {
    deployment: DeploymentId,
    nonce_key: NonceKey,
    required: PcrSelection,
    zones: Zones,
    learned: LearnedReferences,
}

/// A host whose next evidence is at hand.
struct Case {
    host: EnrolledHost,
    evidence: Vec<u8>,
    attest: Vec<u8>,
    bare_key: UnparsedPublicKey<Vec<u8>>,
    bare_signature: Vec<u8>,
}

/// Measures both sizes of evidence, [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// When evidence that holds is refused: then there is nothing to measure.
pub(super) fn measure(round: Duration) -> anyhow::Result<Vec<Verification>> {
    [("small", Content::Small), ("typical", Content::Typical)]
        .into_iter()
        .map(|(name, content)| measure_content(name, content, round))
        .collect()
}

fn measure_content(name: &'static str, content: Content, round: Duration) -> anyhow::Result<Verification> {
    let setting = Setting::new()?;
    let cases = (0..HOSTS).map(|_| Case::new(&setting, content)).collect::<anyhow::Result<Vec<_>>>()?;
    let (envelope_bytes, metric_windows) = size(&setting, &cases)?;
    progress(&format!("verification, {name} envelope of {envelope_bytes} bytes with {metric_windows} windows"));
    run(&setting, &cases, Duration::from_millis(200))?; // warms caches and clocks up
    let rounds = (0..ROUNDS).map(|_| run(&setting, &cases, round)).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick));
    Ok(Verification {
        content: name,
        envelope_bytes,
        evidence_bytes: cases.first().map_or(0, |case| case.evidence.len()),
        metric_windows,
        full_per_core_second: of(|round| round.full_per_core_second),
        bare_per_core_second: of(|round| round.bare_per_core_second),
        ratio_to_bare: of(|round| round.ratio_to_bare),
        ratio_with_name: of(|round| round.ratio_with_name),
        precheck_microseconds: of(|round| round.precheck_microseconds),
        rounds,
    })
}

fn size(setting: &Setting, cases: &[Case]) -> anyhow::Result<(usize, usize)> {
    let case = cases.first().ok_or_else(|| anyhow!("there is no case"))?;
    let Prechecked::Next(next) = case.precheck(setting)? else { bail!("the evidence is not the next of its chain") };
    let claims = next.envelope().claims();
    let of_applications: usize = claims.applications.iter().map(|application| application.windows.len()).sum();
    Ok((next.envelope().bytes().len(), claims.host_windows.len() + of_applications))
}

fn run(setting: &Setting, cases: &[Case], for_so_long: Duration) -> anyhow::Result<Round> {
    let mut spent = [Duration::ZERO; 4];
    let mut turns = 0_u32;
    let started = Instant::now();
    let mut next = cases.iter().cycle();
    while started.elapsed() < for_so_long {
        let turn: Vec<&Case> = next.by_ref().take(TURN).collect();
        let begin = cpu::of_this_thread();
        for case in &turn {
            case.check_in_full(setting)?;
        }
        let full = cpu::of_this_thread();
        for case in &turn {
            let held = case.bare_key.verify(black_box(&case.attest), black_box(&case.bare_signature));
            held.map_err(|_| anyhow!("the bare signature does not hold"))?;
        }
        let bare = cpu::of_this_thread();
        for case in &turn {
            black_box(case.precheck(setting)?);
        }
        let prechecked = cpu::of_this_thread();
        for case in &turn {
            black_box(Evidence::digest(black_box(&case.evidence)));
        }
        let end = cpu::of_this_thread();
        let parts = [(begin, full), (full, bare), (bare, prechecked), (prechecked, end)];
        for (sum, (from, to)) in spent.iter_mut().zip(parts) {
            *sum += to.saturating_sub(from);
        }
        turns += 1;
    }
    let count = f64::from(turns) * TURN as f64;
    let [full, bare, before_signature, name] = spent.map(|spent| spent.as_secs_f64() / count);
    ensure!(full > 0.0 && bare > 0.0, "the round was too short to measure");
    Ok(Round {
        full_per_core_second: 1.0 / full,
        bare_per_core_second: 1.0 / bare,
        ratio_to_bare: bare / full,
        ratio_with_name: bare / (full + name),
        precheck_microseconds: before_signature * 1e6,
    })
}

impl Setting {
    fn new() -> anyhow::Result<Self> {
        let zone = |name: &str, require_ek_certificate| Zone {
            name: Name::lossy(name),
            pcr_selection: PcrSelection::firmware(),
            require_ek_certificate,
            reference: Reference::Learn,
            require_hardware_tpm: false,
            boot: None,
            ima: None,
        };
        let zones = Zones::new(vec![zone("measured", true), zone("joined", false)])?;
        // As after the first host of each zone: every appraisal compares all values.
        let learned = zones.as_slice().iter().map(|zone| (zone.name.clone(), pcr_values())).collect();
        Ok(Self {
            deployment: DeploymentId::of(&[b"bench"]),
            nonce_key: NonceKey::new(&[9; 32]),
            required: zones.required_selection(),
            zones,
            learned,
        })
    }
}

impl Case {
    fn new(setting: &Setting, content: Content) -> anyhow::Result<Self> {
        let tpm = SoftwareTpm::new()?;
        let (ek, ak) = (TpmPublic::parse(tpm.ek_public())?, TpmPublic::parse(tpm.ak_public())?);
        let host = EnrolledHost {
            host: HostId::of(&[&ek.spki_der()]),
            tls_key: Digest::of(&[b"TLS key of", tpm.ek_public()]),
            ak: AkKey::from_public(&ak)?,
            qualified_signer: qualified_signer(&ek.name(), &ak.name()).as_bytes().to_vec(),
            ek_certified: true,
            hardware_tpm: false,
            is_listed: true,
            best_zone: Name::lossy("measured"),
            committed: Committed {
                sequence: SEQUENCE - 1,
                envelope: Digest::of(&[b"envelope before of", tpm.ek_public()]),
                clock: Some(ClockPosition {
                    reset_count: 5,
                    restart_count: 2,
                    clock_ms: content::built_at_ms(SEQUENCE - 1),
                }),
            },
        };
        let place = Place {
            deployment: setting.deployment,
            host: host.host,
            tls_key: host.tls_key,
            sequence: SEQUENCE,
            predecessor: host.committed.envelope,
            checkpoint: None,
        };
        let envelope = content::envelope(place, content, Vec::new(), &[]).seal()?;
        let scope =
            NonceScope { deployment: setting.deployment, host: host.host, committed_sequence: host.committed.sequence };
        let nonce = setting.nonce_key.mint(&scope, NOW_MS + 90_000, [3; 8]);
        let values = pcr_values();
        let quoted = tpm.quote(&extra_data(&nonce, &envelope.digest()), &values, content::built_at_ms(SEQUENCE))?;
        let evidence = Evidence {
            version: EvidenceVersion::WithoutLogs,
            nonce: *nonce.as_bytes(),
            envelope: envelope.bytes().to_vec(),
            attest: quoted.attest.clone(),
            signature: quoted.signature,
            pcr_values: Bounded::truncating(values).0,
            boot_log: None,
            ima: None,
            measure_log: None,
        };
        Ok(Self {
            host,
            evidence: evidence.to_bytes(),
            attest: quoted.attest,
            bare_key: UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, tpm.ak_point().to_vec()),
            bare_signature: quoted.bare_signature,
        })
    }

    fn precheck(&self, setting: &Setting) -> anyhow::Result<Prechecked> {
        let arrival = Arrival {
            deployment: setting.deployment,
            host: self.host.host,
            tls_key: self.host.tls_key,
            evidence: black_box(&self.evidence),
        };
        precheck(&arrival, Some(&self.host), &setting.nonce_key, NOW_MS).map_err(|refusal| anyhow!("{refusal}"))
    }

    fn check_in_full(&self, setting: &Setting) -> anyhow::Result<()> {
        let Prechecked::Next(next) = self.precheck(setting)? else {
            bail!("the evidence is not the next of its chain")
        };
        let verified = verify(*next, &self.host, &setting.required).map_err(|refusal| anyhow!("{refusal}"))?;
        let measured = quotary_decide::attest::measure(None, &verified, &setting.zones);
        let appraisal = appraise(&verified, &measured, &self.host, &setting.zones, &setting.learned);
        ensure!(appraisal.zone.as_ref().is_some_and(|zone| *zone == self.host.best_zone), "the appraisal failed");
        black_box((verified, appraisal));
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_case_holds_in_full_and_both_sizes_are_what_they_say() {
        let setting = Setting::new().unwrap();
        for (content, bytes) in [(Content::Small, 600..900), (Content::Typical, 2_200..3_200)] {
            let cases = [Case::new(&setting, content).unwrap()];
            cases[0].check_in_full(&setting).unwrap();
            let (envelope_bytes, _) = size(&setting, &cases).unwrap();
            assert!(bytes.contains(&envelope_bytes), "{content:?}: {envelope_bytes} bytes");
        }
    }

    #[test]
    fn a_case_that_was_changed_is_no_case() {
        let setting = Setting::new().unwrap();
        let mut case = Case::new(&setting, Content::Small).unwrap();
        *case.evidence.last_mut().unwrap() ^= 1;
        assert!(case.check_in_full(&setting).is_err());
    }
}
