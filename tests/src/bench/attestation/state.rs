//! What the verifier keeps of one host for attestation, beyond reference data: the canonical bytes of its records.

use quotary_common::cbor::{Bounded, Text, Version, to_bytes};
use quotary_common::envelope::{BackendKind, Hierarchy, Mode, Name, WitnessedCheckpoint};
use quotary_common::id::{BootId, Digest, HostId, TokenId};
use quotary_common::plan::ShapedControl;
use quotary_common::tpm::TpmPublic;
use quotary_common::units::Resources;
use quotary_decide::attest::{
    FINDING_DETAIL_BYTES_MAX, HeldBoot, HeldLogs, IMA_FINDINGS_MAX, LOG_FINDINGS_MAX, LogFinding,
};
use quotary_decide::ima::AGGREGATE_BYTES_MAX;
use quotary_decide::registry::{HostProgress, HostRecord, Seen};
use serde::Serialize;

use super::super::software_tpm::SoftwareTpm;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct HostState {
    /// All of it.
    pub bytes: usize,
    /// What enrolment fixed.
    pub record_bytes: usize,
    /// What each evidence moves.
    pub progress_bytes: usize,
    /// How far its IMA list is known: the most that it can take.
    pub aggregate_bytes: usize,
}

/// A host with an RSA-2048 EK, eight labels, a certificate, and a long life behind it.
pub(super) fn measure() -> anyhow::Result<HostState> {
    let ek_public = include_bytes!("../../../data/attestation/swtpm/rsa2048/ek.public");
    let ek = TpmPublic::parse(ek_public)?;
    let tpm = SoftwareTpm::new()?;
    let record = HostRecord {
        version: Version,
        host: HostId::of(&[&ek.spki_der()]),
        ek_public: ek_public.to_vec(),
        ak_public: tpm.ak_public().to_vec(),
        tls_key: Digest::of(&[b"TLS key"]),
        ek_issuer: None,
        tpm: None,
        zone_best: Name::lossy("production-measured-boot"),
        labels: Bounded::truncating((0..8).map(label).collect()).0,
        capacity: Resources {
            cpu_millicores: Some(128_000),
            memory_bytes: Some(1 << 40),
            storage_bytes: Some(1 << 44),
            disk_bytes_per_second: Some(4_000_000_000),
            network_bits_per_second: Some(100_000_000_000),
        },
        token: TokenId::of(&[b"token"]),
        enrolled_at_ms: 1_800_000_000_000,
        ek_authority: Some(Digest::of(&[b"authority"])),
    };
    let record_bytes = to_bytes(&record).len();
    let progress_bytes = to_bytes(&progress()).len();
    let aggregate_bytes = AGGREGATE_BYTES_MAX;
    Ok(HostState {
        bytes: record_bytes + progress_bytes + aggregate_bytes,
        record_bytes,
        progress_bytes,
        aggregate_bytes,
    })
}

fn label(number: usize) -> (Name, Name) {
    (Name::lossy(&format!("fleet.example/label-{number}")), Name::lossy("a value of some length"))
}

fn progress() -> HostProgress {
    let digest = Digest::of(&[b"envelope"]);
    HostProgress {
        sequence: 10_000_000,
        envelope: digest,
        evidence: Some(digest),
        clock: Some((1_000, 100, 300_000_000_000)),
        epoch: 1_000,
        generation: 10_000_000,
        zone: Some(Name::lossy("production-measured-boot")),
        committed_at_ms: 1_800_000_000_000,
        valid_until_ms: 1_800_000_120_000,
        seen: Some(Seen {
            boot_id: BootId::new([7; 16]),
            hostname: Name::lossy("node-0042.rack-17.zone-b.datacentre.example"),
            agent_version: Name::lossy("0.1.0"),
            mode: Mode::Enforce,
            backend: BackendKind::Systemd,
            hierarchy: Hierarchy::V2,
            witnessed: Some(WitnessedCheckpoint { size: 1_000_000_000, root: digest }),
            built_at_ms: Some(5_184_000_000),
            began_ms: Some(1_800_000_000_000),
            lacks: Some(Bounded::truncating(ShapedControl::ALL.to_vec()).0),
        }),
        findings: Bounded::truncating(vec![Name::lossy("clock-unsafe"), Name::lossy("rebooted")]).0,
        held_until_ms: 1_800_000_315_000,
        logs: Some(logs()),
        ..HostProgress::first()
    }
}

/// Logs with as many findings as are kept, each as long as may be.
fn logs() -> HeldLogs {
    let digest = Digest::of(&[b"log"]);
    let zone = || Name::lossy("production-measured-boot");
    let finding = || LogFinding {
        code: Name::lossy("exit-boot-services-missing"),
        event: Some(1_000),
        detail: Text::lossy(&"d".repeat(FINDING_DETAIL_BYTES_MAX)),
    };
    HeldLogs {
        boot_id: BootId::new([7; 16]),
        reset_count: 1_000,
        requirements: digest,
        boot: Some(HeldBoot {
            evidence: digest,
            log: digest,
            pcr_values: digest,
            secure_boot: Some(true),
            zones: Bounded::truncating((0..4).map(|count| (zone(), count)).collect()).0,
            findings: Bounded::truncating((0..LOG_FINDINGS_MAX).map(|_| (zone(), finding())).collect()).0,
            measure_log: Some(digest),
            userspace: Some(digest),
        }),
        // Counted at its bound, apart.
        ima: None,
        ima_findings: Bounded::truncating((0..IMA_FINDINGS_MAX).map(|_| finding()).collect()).0,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_typical_hosts_state_is_within_its_bound_and_no_part_is_missing() {
        let state = measure().unwrap();
        assert!(state.bytes <= 4096, "{state:?}");
        assert!(state.record_bytes > 700 && state.progress_bytes > 2_000 && state.aggregate_bytes > 80, "{state:?}");
    }
}
