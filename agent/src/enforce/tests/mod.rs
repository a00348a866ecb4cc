//! Tests of the enforcer as a whole: on a fake tree of version 2 and 1, and on this machine's kernel.
#![expect(clippy::unwrap_used, reason = "tests")]

mod crash;
pub(crate) mod fake;
mod kernel;
mod restart;
mod scopes;
mod tree;

use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::{Backend, BackendKind, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode, Name};
use quotary_common::grant::{self, Accepted, Grant, GrantSet, GrantSetVersion, VerifiedGrantSet};
use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, HostId, RequestId};
use quotary_common::keys::{self, KeyCertificate, deployment_of};
use quotary_common::lease::Lease;
use quotary_common::metric::MetricWindows;
use quotary_common::plan::{self, Plan, VerifiedPlan};
use quotary_common::sign::SigningKey;
use quotary_common::units::{Class, Resources};

// The enforcer lives on a thread of its own.
const _: fn() = || {
    fn can_move<T: Send>() {}
    can_move::<crate::enforce::Enforcer>();
};

pub(crate) const BOOT: BootId = BootId::new([1; 16]);
/// Whose processes the fake host's are.
pub(crate) const UID: u32 = 1000;
const LEASE_MS: u64 = 10_000;

pub(crate) fn grant(n: u8, cpu_millicores: u64) -> Grant {
    Grant {
        id: GrantId::new([n; 32]),
        request: RequestId::new([n; 32]),
        application: Name::lossy("application"),
        tenant: Name::lossy("tenant"),
        class: Class::Burstable,
        resources: Resources {
            cpu_millicores: Some(cpu_millicores),
            memory_bytes: Some(64 << 20),
            disk_bytes_per_second: Some(1 << 20),
            ..Resources::default()
        },
    }
}

fn lease(start_ms: u64) -> Lease {
    Lease { boot_id: BOOT, epoch: 1, start_ms, lease_ms: LEASE_MS }
}

fn new_key() -> SigningKey {
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    SigningKey::from_pkcs8(document.as_ref()).unwrap()
}

/// The root of the deployment that all sets and plans of the tests are of.
pub(crate) fn root_key() -> SigningKey {
    // PKCS#8 of an Ed25519 key: its frame, and the seed.
    let frame = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    SigningKey::from_pkcs8(&[&frame[..], &[7; 32]].concat()).unwrap()
}

/// A grant set that went the whole way: signed, and verified against keys that a root certified.
fn verified(grants: Vec<Grant>, built_at_ms: u64) -> VerifiedGrantSet {
    verified_with(grants, &[], (BOOT, built_at_ms, LEASE_MS)).0
}

/// As [`verified`], with plans that went the whole way too: named by the set, signed with its key. The lease is of this boot,
/// from then on, and so long, ms.
pub(crate) fn verified_with(
    grants: Vec<Grant>,
    plans: &[Plan],
    (boot_id, built_at_ms, lease_ms): (BootId, u64, u64),
) -> (VerifiedGrantSet, Vec<VerifiedPlan>) {
    let (root, key) = (root_key(), new_key());
    let deployment = deployment_of(&root.public());
    let certificate = KeyCertificate {
        version: Version,
        deployment,
        verifier: Name::lossy("verifier"),
        grant_key: key.public(),
        log_key: key.public(),
        not_after_ms: 1,
        result_key: key.public(),
    };
    let keys = keys::verify(&root.sign(&certificate), &root.public(), 0).unwrap();
    let host = HostId::new([2; 32]);
    let envelope = Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment,
        host,
        boot_id,
        sequence: 1,
        predecessor: Digest::new([0; 32]),
        tls_key: Digest::new([3; 32]),
        checkpoint: None,
        agent_version: Name::lossy("0"),
        built_at_ms,
        backend: Backend {
            kind: BackendKind::Direct,
            mode: Mode::Enforce,
            hierarchy: Hierarchy::V2,
            controls: Bounded::default(),
        },
        host_windows: MetricWindows::default(),
        applications: Bounded::default(),
        events: Bounded::default(),
        writes: Bounded::default(),
        requests: Bounded::default(),
        held: Bounded::default(),
        facts: HostFacts {
            hostname: Name::lossy("host"),
            kernel: Name::lossy("6"),
            cpu_millicores: 2000,
            memory_bytes: 1 << 30,
            os: None,
        },
    };
    let digest = Digest::new([4; 32]);
    let of_host = |plan: &Plan| key.sign(&Plan { deployment, host, epoch: 1, ..plan.clone() }).to_bytes();
    let signed: Vec<Vec<u8>> = plans.iter().map(of_host).collect();
    let named = plan::digest_of(&signed);
    let set = GrantSet {
        version: GrantSetVersion::naming(named.as_ref()),
        plans: named,
        deployment,
        host,
        boot_id,
        sequence: 1,
        evidence: Digest::new([9; 32]),
        envelope: digest,
        epoch: 1,
        generation: 1,
        lease_ms,
        grants: Bounded::new(grants).unwrap(),
        refusals: Bounded::default(),
    };
    let set = grant::verify(&key.sign(&set), &keys, (&envelope, &digest), Accepted::default()).unwrap();
    let plans = plan::verify(&signed, &keys, &set).unwrap();
    (set, plans)
}
