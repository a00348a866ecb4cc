//! The frozen forms: bytes that never change (wire.md, Forms).
//!
//! Each form is made from fixed values and must be exactly the bytes kept in `tests/golden/`. A form that
//! differs needs a new version, not a new golden file. `QUOTARY_GOLDEN=write` writes files that are missing,
//! and only those.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::anomaly::{Anomaly, AnomalyFinding, AnomalyKind};
use quotary_common::cbor::{Bounded, BoundedBytes, Text, Version, from_bytes, to_bytes};
use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::envelope::*;
use quotary_common::evidence::{Evidence, EvidenceVersion, ImaForm, ImaIncrement, PcrValue, extra_data};
use quotary_common::grant::{Grant, GrantSet, GrantSetVersion, RequestRefusal};
use quotary_common::id::*;
use quotary_common::keys::KeyCertificate;
use quotary_common::leaf::*;
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::nonce::{NonceKey, NonceScope};
use quotary_common::plan::{Course, OnPressure, Plan, Setpoint, ShapedControl, Target};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::sign::{PublicKey, SigningKey};
use quotary_common::token::JoinToken;
use quotary_common::units::{Class, Resources};
use quotary_common::wire::{ADMIN_ROUTES, LOCAL_ROUTES, VERIFIER_ROUTES};

#[path = "golden/changes.rs"]
mod changes;
#[path = "golden/file.rs"]
mod file;

use self::file::golden;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn many<T, const MAX: usize>(items: Vec<T>) -> Bounded<T, MAX> {
    Bounded::new(items).unwrap()
}

/// Ed25519 from a fixed seed, as RFC 8032 makes it: the same signatures for ever.
fn key() -> SigningKey {
    let mut pkcs8 = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
    pkcs8.extend([7; 32]);
    SigningKey::from_pkcs8(&pkcs8).unwrap()
}

fn resources() -> Resources {
    Resources {
        cpu_millicores: Some(500),
        memory_bytes: Some(268_435_456),
        storage_bytes: None,
        disk_bytes_per_second: Some(10_485_760),
        network_bits_per_second: Some(1_000_000),
    }
}

fn window(label: Option<&str>) -> MetricWindow {
    MetricWindow {
        metric: Metric::DiskReadBytesPerSecond,
        start_ms: 15_000,
        duration_ms: 15_000,
        samples: 15,
        mean: 1024,
        max: 70_000,
        p95: 65_536,
        label: label.map(|label| Text::new(label).unwrap()),
    }
}

fn envelope() -> Envelope {
    Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: DeploymentId::new([1; 32]),
        host: HostId::new([2; 32]),
        boot_id: BootId::new([3; 16]),
        sequence: 42,
        predecessor: Digest::new([4; 32]),
        tls_key: Digest::new([5; 32]),
        checkpoint: Some(WitnessedCheckpoint { size: 7, root: Digest::new([6; 32]) }),
        agent_version: name("0.1.0"),
        built_at_ms: 123_456,
        backend: Backend {
            kind: BackendKind::Direct,
            mode: Mode::Enforce,
            hierarchy: Hierarchy::V1,
            controls: many(vec![ControlState { control: name("cpu.shares"), support: Support::Effective }]),
        },
        host_windows: MetricWindows::new(&[window(None), window(Some("sda"))]).unwrap(),
        applications: many(vec![ApplicationReport {
            cgroup: CgroupPath::new("/quotary/run-a").unwrap(),
            unit: Some(name("web.service")),
            uid: Some(1000),
            grant: Some(GrantId::new([7; 32])),
            windows: MetricWindows::new(&[window(None)]).unwrap(),
        }]),
        events: many(vec![Event {
            kind: EventKind::CpuThrottled,
            cgroup: Some(CgroupPath::new("/quotary/run-a").unwrap()),
            count: 3,
            at_ms: 20_000,
        }]),
        writes: many(vec![EnforcementWrite {
            plan: Some(PlanId::new([8; 32])),
            grant: Some(GrantId::new([7; 32])),
            cgroup: CgroupPath::new("/quotary/run-a").unwrap(),
            backend: BackendKind::Direct,
            control: name("cpu.shares"),
            before: Some(ControlValue::new("1024").unwrap()),
            after: ControlValue::new("512").unwrap(),
            actual: Some(ControlValue::new("512").unwrap()),
            effective: true,
            at_ms: 19_000,
            dry_run: false,
        }]),
        requests: many(vec![PendingRequest {
            id: RequestId::new([9; 32]),
            uid: 1000,
            gid: 1001,
            pid: 4711,
            start_time_ticks: 99,
            cgroup: CgroupPath::new("/user.slice").unwrap(),
            unit: None,
            name: Some(name("batch")),
            class: Class::Guaranteed,
            resources: resources(),
        }]),
        held: many(vec![GrantId::new([7; 32])]),
        facts: HostFacts {
            hostname: name("host-1"),
            kernel: name("6.1.0"),
            cpu_millicores: 4000,
            memory_bytes: 8_589_934_592,
            os: Some(name("Debian GNU/Linux 12 (bookworm)")),
        },
    }
}

/// The envelope of version 1: it is read for ever, and made no more.
fn envelope_v1() -> ClaimedEnvelope {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/envelope-v1.hex");
    let text: String = std::fs::read_to_string(path).unwrap().split_whitespace().collect();
    ClaimedEnvelope::parse(data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()).unwrap()
}

#[test]
fn an_envelope_of_version_1_reads_says_the_same_and_has_one_encoding() {
    let read = envelope_v1();
    golden("envelope-v1.hex", read.bytes());
    golden("envelope-v1.digest.hex", read.digest().as_bytes());
    assert_eq!(read.claims().clone().seal().unwrap(), read);
    let in_groups = |windows: &MetricWindows| MetricWindows::new(&windows.to_vec()).unwrap();
    let mut claims = read.claims().clone();
    assert_eq!(claims.version, EnvelopeVersion::WindowMaps);
    claims.version = EnvelopeVersion::WindowGroups;
    assert!(claims.clone().seal().is_err(), "windows of another version");
    claims.host_windows = in_groups(&claims.host_windows);
    let mut applications = std::mem::take(&mut claims.applications).into_vec();
    applications.iter_mut().for_each(|application| application.windows = in_groups(&application.windows));
    claims.applications = many(applications);
    assert_eq!(claims, envelope());
}

#[test]
fn envelope_v2() {
    let later = MetricWindow { start_ms: 30_000, samples: 14, ..window(None) };
    let host_windows = MetricWindows::new(&[window(None), window(Some("sda")), later]).unwrap();
    let envelope = Envelope { host_windows, ..envelope() };
    let sealed = envelope.clone().seal().unwrap();
    golden("envelope-v2.hex", sealed.bytes());
    golden("envelope-v2.digest.hex", sealed.digest().as_bytes());
    assert_eq!(ClaimedEnvelope::parse(sealed.bytes()).unwrap().claims(), &envelope);
    // Another version's windows are not these, or it is none.
    let mut bytes = sealed.bytes().to_vec();
    assert_eq!(bytes.get(1..3), Some(&[0, 2][..]));
    for version in [0, 1, 3] {
        bytes[2] = version;
        assert!(ClaimedEnvelope::parse(&bytes[..]).is_err(), "version {version}");
    }
}

/// The list grows at its end; a number never comes to mean anything else, one of no use any more included.
#[test]
fn metrics_have_their_numbers_and_names() {
    let of_each: Vec<MetricWindow> =
        Metric::ALL.into_iter().map(|metric| MetricWindow { metric, ..window(None) }).collect();
    golden("metrics-v1.hex", &to_bytes(&MetricWindows::new(&of_each).unwrap()));
    let names: String =
        Metric::ALL.iter().zip(1..).map(|(metric, number)| format!("{number} {}\n", metric.name())).collect();
    golden("metrics-v1.txt", names.as_bytes());
}

#[test]
fn evidence_v1_and_its_extra_data() {
    let sealed = envelope_v1();
    let evidence = Evidence {
        version: EvidenceVersion::WithoutLogs,
        nonce: [10; 32],
        envelope: sealed.bytes().to_vec(),
        attest: vec![11; 8],
        signature: vec![12; 8],
        pcr_values: many(vec![PcrValue { hash_alg: 11, index: 0, value: vec![0; 32] }]),
        boot_log: None,
        ima: None,
        measure_log: None,
    };
    golden("evidence-v1.hex", &evidence.to_bytes());
    let nonce = quotary_common::nonce::Nonce::new([10; 32]);
    golden("extra-data-v1.hex", &extra_data(&nonce, &sealed.digest()));
}

#[test]
fn evidence_v2_and_v3_carry_logs() {
    let one = |version, boot_log: Option<&[u8]>, measure_log: Option<&[u8]>| Evidence {
        version,
        nonce: [10; 32],
        envelope: envelope_v1().bytes().to_vec(),
        attest: vec![11; 8],
        signature: vec![12; 8],
        pcr_values: many(vec![PcrValue { hash_alg: 11, index: 0, value: vec![0; 32] }]),
        boot_log: boot_log.map(|log| BoundedBytes::new(log.to_vec()).unwrap()),
        ima: Some(ImaIncrement {
            form: ImaForm::BinarySha256,
            offset_bytes: 300,
            bytes: BoundedBytes::new(vec![13; 4]).unwrap(),
            has_more: true,
        }),
        measure_log: measure_log.map(|log| BoundedBytes::new(log.to_vec()).unwrap()),
    };
    for (name, evidence) in [
        ("evidence-v2.hex", one(EvidenceVersion::WithLogs, Some(&[14; 4]), None)),
        ("evidence-v3.hex", one(EvidenceVersion::WithMeasureLog, Some(&[14; 4]), Some(&[15; 4]))),
    ] {
        golden(name, &evidence.to_bytes());
        assert_eq!(Evidence::from_bytes(&evidence.to_bytes()).unwrap(), evidence);
    }
}

#[test]
fn nonce_v1() {
    let scope =
        NonceScope { deployment: DeploymentId::new([1; 32]), host: HostId::new([2; 32]), committed_sequence: 41 };
    golden("nonce-v1.hex", NonceKey::new(&[13; 32]).mint(&scope, 1_700_000_090_000, [14; 8]).as_bytes());
}

fn grant_set() -> GrantSet {
    GrantSet {
        version: GrantSetVersion::GrantsAlone,
        plans: None,
        deployment: DeploymentId::new([1; 32]),
        host: HostId::new([2; 32]),
        boot_id: BootId::new([3; 16]),
        sequence: 42,
        envelope: Digest::new([15; 32]),
        epoch: 2,
        generation: 17,
        lease_ms: 300_000,
        grants: many(vec![Grant {
            id: GrantId::new([7; 32]),
            request: RequestId::new([9; 32]),
            application: name("web"),
            tenant: name("shop"),
            class: Class::Burstable,
            resources: resources(),
        }]),
        refusals: many(vec![RequestRefusal {
            request: RequestId::new([16; 32]),
            refusal: Refusal::new(Reason::Capacity, "no room"),
        }]),
        evidence: Digest::new([24; 32]),
    }
}

#[test]
fn grant_set_v1_signed() {
    golden("grant-set-v1.hex", &to_bytes(&grant_set()));
    let signed = key().sign(&grant_set());
    golden("grant-set-v1.signed.hex", &signed.to_bytes());
    assert_eq!(signed.verify::<GrantSet>(&key().public()).unwrap(), grant_set());
    let id = GrantId::for_request(&HostId::new([2; 32]), &RequestId::new([9; 32]));
    golden("grant-id-v1.hex", id.as_bytes());
}

#[test]
fn grant_set_v2_names_its_plans() {
    let plans = quotary_common::plan::digest_of(&[key().sign(&plan()).to_bytes()]);
    let set = GrantSet { version: GrantSetVersion::WithPlans, plans, ..grant_set() };
    golden("grant-set-v2.hex", &to_bytes(&set));
    assert_eq!(from_bytes::<GrantSet>(&to_bytes(&set), 4096).unwrap(), set);
}

fn plan() -> Plan {
    let course = |control, setpoints: &[(u64, u64)]| Course {
        control,
        setpoints: many(setpoints.iter().map(|&(at_ms, value)| Setpoint { at_ms, value }).collect()),
    };
    Plan {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        host: HostId::new([2; 32]),
        id: PlanId::new([8; 32]),
        epoch: 2,
        target: Target::Unit(name("web.service")),
        generation: 5,
        starts_at_ms: 1_700_000_000_000,
        effective_at_ms: 1_700_000_120_000,
        ends_at_ms: Some(1_700_003_600_000),
        not_after_ms: 1_700_000_030_000,
        courses: many(vec![
            course(ShapedControl::MemoryHigh, &[(1_700_000_060_000, 300 << 20), (1_700_000_120_000, 200 << 20)]),
            course(ShapedControl::CpuWeight, &[(1_700_000_120_000, 50)]),
        ]),
        on_pressure: OnPressure::Proceed,
        hold_ms_max: 600_000,
        overrides: true,
        decision: Some(vec![17; 4]),
    }
}

#[test]
fn plan_v2_signed() {
    golden("plan-v2.hex", &to_bytes(&plan()));
    let signed = key().sign(&plan());
    golden("plan-v2.signed.hex", &signed.to_bytes());
    assert_eq!(signed.verify::<Plan>(&key().public()).unwrap(), plan());
    assert!(quotary_common::plan::check(plan()).is_ok());
}

#[test]
fn key_certificate_and_join_token_v1() {
    let certificate = KeyCertificate {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        verifier: name("verifier-1"),
        grant_key: PublicKey([18; 32]),
        log_key: PublicKey([19; 32]),
        not_after_ms: 1_800_000_000_000,
        result_key: PublicKey([20; 32]),
    };
    golden("key-certificate-v1.signed.hex", &key().sign(&certificate).to_bytes());
    let token = JoinToken {
        version: Version,
        verifier: Text::new("https://verifier:7443").unwrap(),
        ca_spki: Digest::new([21; 32]),
        root: PublicKey([22; 32]),
        secret: [23; 32],
    };
    golden("join-token-v1.txt", token.to_text().as_bytes());
    assert_eq!(JoinToken::parse(&token.to_text()).unwrap(), token);
}

fn decisions() -> Vec<Decision> {
    let verdict = Verdict { host: HostId::new([2; 32]), sequence: 42, evidence: Digest::new([24; 32]) };
    let refusal = Refusal::new(Reason::ChainForked, "two chains");
    vec![
        Decision::Genesis(Genesis { root: PublicKey([22; 32]), configuration: Digest::new([25; 32]), authority: None }),
        Decision::Enrolled(Enrolled {
            host: HostId::new([2; 32]),
            ek_public: vec![26; 4],
            ak_public: vec![27; 4],
            tls_key: Digest::new([5; 32]),
            ek_issuer: Some(Text::new("CN=site").unwrap()),
            token: TokenId::new([28; 32]),
            replaced: true,
            epoch: 2,
        }),
        Decision::Refused(Refused {
            host: Some(HostId::new([2; 32])),
            what: Text::new("evidence").unwrap(),
            refusal: refusal.clone(),
            input: Digest::new([29; 32]),
            request: Some(RequestId::new([9; 32])),
            count: 3,
        }),
        Decision::VerdictChanged(VerdictChanged {
            verdict: verdict.clone(),
            from: None,
            to: Some(name("measured")),
            findings: many(vec![Reason::Zone]),
        }),
        Decision::Verdicts(Verdicts { accepted: many(vec![verdict.clone()]) }),
        Decision::Granted(Granted {
            host: HostId::new([2; 32]),
            grant: GrantId::new([7; 32]),
            change: GrantChange::Given,
            application: name("web"),
            tenant: name("shop"),
            class: Class::Burstable,
            resources: resources(),
            input: Digest::new([15; 32]),
            why: Some(Text::new("cpu_millicores: as requested").unwrap()),
            model: Some(Digest::new([30; 32])),
        }),
        Decision::EpochRaised(EpochRaised {
            host: HostId::new([2; 32]),
            epoch: 3,
            refusal,
            input: Digest::new([29; 32]),
        }),
        Decision::TokenMade(TokenMade {
            token: TokenId::new([28; 32]),
            what: Text::new("join").unwrap(),
            scope: Text::new("zone measured").unwrap(),
            not_after_ms: 1_800_000_000_000,
        }),
        Decision::ZoneLearned(ZoneLearned {
            zone: name("measured"),
            verdict,
            values: many(vec![PcrValue { hash_alg: 11, index: 0, value: vec![0; 32] }]),
        }),
        Decision::Started(Started {
            version: name("0.1.0"),
            configuration: Digest::new([25; 32]),
            witnessed: Some(WitnessedCheckpoint { size: 7, root: Digest::new([6; 32]) }),
        }),
        Decision::Planned(Planned {
            host: HostId::new([2; 32]),
            plan: PlanId::new([8; 32]),
            change: PlanChange::Drafted,
            target: Target::Unit(name("web.service")),
            input: Digest::new([31; 32]),
            what: Some(Text::new("cpu-weight 50 weight").unwrap()),
        }),
        Decision::Anomaly(Anomaly {
            host: Some(HostId::new([2; 32])),
            sum: None,
            at_ms: 1_699_999_800_000,
            continues: true,
            findings: many(vec![AnomalyFinding {
                subject: Text::new("/quotary/run-a").unwrap(),
                resource: Text::new("cpu_millicores").unwrap(),
                kind: AnomalyKind::LevelShift,
                at_ms: 1_699_999_800_000,
                score_permille: 640,
                expected_milli: 500_000,
                came_milli: -2_000_500,
                points: 24,
            }]),
            beyond: 3,
            input: Digest::new([32; 32]),
        }),
        Decision::ModelChanged(ModelChanged {
            change: ModelChange::Promoted,
            model: Digest::new([33; 32]),
            name: Text::new("site-1").unwrap(),
            champion: Some(Digest::new([33; 32])),
            input: Some(Digest::new([34; 32])),
            why: Text::new("its loss is 0.950 of the champion's").unwrap(),
        }),
    ]
}

#[test]
fn leaves_v1_one_of_each_kind() {
    for (n, decision) in decisions().into_iter().enumerate() {
        let leaf = Leaf { version: Version, at_ms: 1_700_000_000_000, actor: Text::new("verifier").unwrap(), decision };
        golden(&format!("leaf-v1-{:02}.hex", n + 1), &leaf.to_bytes());
        assert_eq!(from_bytes::<Leaf>(&leaf.to_bytes(), 65_535).unwrap(), leaf);
    }
}

#[test]
fn checkpoint_v1() {
    let checkpoint =
        Checkpoint { origin: origin_of(&DeploymentId::new([1; 32])), size: 1234, root: Digest::new([6; 32]) };
    golden("checkpoint-v1.txt", checkpoint.sign(&key()).as_bytes());
}

#[test]
fn routes_v1() {
    let tables = [VERIFIER_ROUTES, LOCAL_ROUTES, ADMIN_ROUTES];
    let lines = tables.iter().flat_map(|table| table.iter());
    let text: String = lines.map(|r| format!("{} {} {}\n", r.method.name(), r.path, r.right.name())).collect();
    golden("routes-v1.txt", text.as_bytes());
}

#[test]
fn reason_codes_v1() {
    let table: String = Reason::ALL
        .iter()
        .map(|r| {
            let flags = [(r.retry(), "retry"), (r.is_finding(), "finding"), (r.raises_epoch(), "epoch")];
            let flags: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
            format!("{} {} {} {}\n", r.number(), r.code(), r.http_status(), flags.join(","))
        })
        .collect();
    golden("reason-codes-v1.txt", table.as_bytes());
}
