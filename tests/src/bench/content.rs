//! What a host says in one envelope: as much as a real one says in 30 s with windows of 15 s.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{
    ApplicationReport, Backend, BackendKind, CgroupPath, ControlState, Envelope, EnvelopeVersion, Hierarchy, HostFacts,
    Mode, Name, PendingRequest, Support, WitnessedCheckpoint,
};
use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, HostId, RequestId};
use quotary_common::limits::defaults::{EVIDENCE_MS, WINDOW_MS};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::units::{Class, Resources};

/// How much stands in an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// One window of each series of a host without applications: about 0.7 KB.
    Small,
    /// Two windows of each series of a host and of eight applications: about 2.6 KB, the default evidence.
    Typical,
}

/// Samples in a window at one a second.
const SAMPLES_PER_WINDOW: u32 = 15;
const APPLICATIONS: u64 = 8;
const MIB: u64 = 1 << 20;

/// A host's series: metric, label, about how much (as the agent reads them from `/proc`).
const HOST_SERIES: &[(Metric, Option<&str>, u64)] = &[
    (Metric::CpuMillicores, None, 1_400),
    (Metric::MemoryBytes, None, 6_200 * MIB),
    (Metric::CpuPressureSomePpm, None, 9_000),
    (Metric::MemoryPressureSomePpm, None, 120),
    (Metric::MemoryPressureFullPpm, None, 40),
    (Metric::IoPressureSomePpm, None, 3_000),
    (Metric::IoPressureFullPpm, None, 900),
    (Metric::StorageBytes, None, 96_000 * MIB),
    (Metric::StorageBytes, Some("/"), 24_000 * MIB),
    (Metric::StorageBytes, Some("/var"), 72_000 * MIB),
    (Metric::DiskReadBytesPerSecond, None, 310_000),
    (Metric::DiskReadBytesPerSecond, Some("nvme0n1"), 310_000),
    (Metric::DiskWriteBytesPerSecond, None, 2_400_000),
    (Metric::DiskWriteBytesPerSecond, Some("nvme0n1"), 2_400_000),
    (Metric::NetworkReceiveBitsPerSecond, None, 18_000_000),
    (Metric::NetworkReceiveBitsPerSecond, Some("eth0"), 18_000_000),
    (Metric::NetworkTransmitBitsPerSecond, None, 11_000_000),
    (Metric::NetworkTransmitBitsPerSecond, Some("eth0"), 11_000_000),
];

/// An application's series.
const APPLICATION_SERIES: &[(Metric, Option<&str>, u64)] = &[
    (Metric::MemoryBytes, None, 380 * MIB),
    (Metric::CpuMillicores, None, 120),
    (Metric::DiskReadBytesPerSecond, None, 30_000),
    (Metric::DiskWriteBytesPerSecond, None, 210_000),
    (Metric::CpuThrottledPpm, None, 4_000),
];

/// Who speaks, and where in its chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The deployment.
    pub(super) deployment: DeploymentId,
    /// The host.
    pub(super) host: HostId,
    /// SHA-256 of the SPKI of its TLS key.
    pub(super) tls_key: Digest,
    /// Sequence number.
    pub(super) sequence: u64,
    /// SHA-256 of the envelope before.
    pub(super) predecessor: Digest,
    /// The checkpoint that it witnesses.
    pub(super) checkpoint: Option<WitnessedCheckpoint>,
}

/// When the envelope of a sequence number was built: one evidence interval after the other, `CLOCK_BOOTTIME`, ms.
pub(super) const fn built_at_ms(sequence: u64) -> u64 {
    3_600_000 + sequence * EVIDENCE_MS
}

/// The envelope at a place. Applications beyond the number of grants run under none.
pub(super) fn envelope(place: Place, content: Content, requests: Vec<PendingRequest>, held: &[GrantId]) -> Envelope {
    let built_at_ms = built_at_ms(place.sequence);
    let (intervals, applications) = match content {
        Content::Small => (1, 0),
        Content::Typical => (EVIDENCE_MS / WINDOW_MS, APPLICATIONS),
    };
    let windows = |series: &[(Metric, Option<&str>, u64)], salt: u64| {
        // By interval, as the agent hands them over.
        let all = (0..intervals).flat_map(|interval| {
            let start_ms = built_at_ms - (intervals - interval) * WINDOW_MS;
            let of_series =
                move |(metric, label, about): &_| window(*metric, *label, *about, start_ms, salt + place.sequence);
            series.iter().map(of_series)
        });
        MetricWindows::truncating(&all.collect::<Vec<_>>()).0
    };
    let reports = (0..applications).map(|n| ApplicationReport {
        cgroup: CgroupPath::lossy(&format!("/quotary/app-{n}.scope")),
        unit: None,
        uid: Some(1000 + u32::try_from(n).unwrap_or(0)),
        grant: usize::try_from(n).ok().and_then(|n| held.get(n)).copied(),
        windows: windows(APPLICATION_SERIES, n + 1),
    });
    Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: place.deployment,
        host: place.host,
        boot_id: BootId::new([0x5A; 16]),
        sequence: place.sequence,
        predecessor: place.predecessor,
        tls_key: place.tls_key,
        checkpoint: place.checkpoint,
        agent_version: Name::lossy("0.1.0"),
        built_at_ms,
        backend: backend(),
        host_windows: windows(HOST_SERIES, 0),
        applications: Bounded::truncating(reports.collect()).0,
        events: Bounded::default(),
        writes: Bounded::default(),
        requests: Bounded::truncating(requests).0,
        held: Bounded::truncating(held.to_vec()).0,
        facts: HostFacts {
            hostname: Name::lossy("rack-17-host-042"),
            kernel: Name::lossy("6.1.0-28-amd64"),
            cpu_millicores: 8_000,
            memory_bytes: 32 << 30,
            os: Some(Name::lossy("Debian GNU/Linux 12 (bookworm)")),
        },
    }
}

/// What application `n` of a host asks for, once.
pub(super) fn request(host: &HostId, n: u32) -> PendingRequest {
    PendingRequest {
        id: RequestId::of(&[host.as_bytes(), &n.to_be_bytes()]),
        uid: 1000 + n,
        gid: 1000 + n,
        pid: 4000 + n,
        start_time_ticks: 90_000 + u64::from(n),
        cgroup: CgroupPath::lossy(&format!("/user.slice/session-{n}.scope")),
        unit: None,
        name: Some(Name::lossy("load")),
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(200), memory_bytes: Some(512 * MIB), ..Resources::default() },
    }
}

/// What a host of this kind has.
pub(super) fn capacity() -> Resources {
    Resources { cpu_millicores: Some(8_000), memory_bytes: Some(32 << 30), ..Resources::default() }
}

/// A window whose numbers differ from interval to interval, a little.
fn window(metric: Metric, label: Option<&str>, about: u64, start_ms: u64, salt: u64) -> MetricWindow {
    let swing = (start_ms / WINDOW_MS).wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) % 256;
    let mean = about - about / 16 + about / 2_048 * swing;
    MetricWindow {
        metric,
        start_ms,
        duration_ms: WINDOW_MS,
        samples: SAMPLES_PER_WINDOW,
        mean,
        max: mean + mean / 5,
        p95: mean + mean / 6,
        label: label.map(Name::lossy),
    }
}

fn backend() -> Backend {
    let control = |(control, support)| ControlState { control: Name::lossy(control), support };
    let controls = [
        ("cpu.weight", Support::Effective),
        ("cpu.max", Support::Effective),
        ("memory.high", Support::Effective),
        ("memory.low", Support::Effective),
        ("io.max", Support::Effective),
    ];
    Backend {
        kind: BackendKind::Direct,
        mode: Mode::Enforce,
        hierarchy: Hierarchy::V2,
        controls: Bounded::truncating(controls.map(control).to_vec()).0,
    }
}
