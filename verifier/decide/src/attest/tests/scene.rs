//! A host with its TPM, a verifier's record of it, and evidence that holds until a test changes something.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{Backend, BackendKind, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode, Name};
use quotary_common::evidence::{Evidence, EvidenceVersion, PcrValue, extra_data};
use quotary_common::id::{BootId, DeploymentId, Digest, HostId};
use quotary_common::metric::MetricWindows;
use quotary_common::nonce::{Nonce, NonceKey, NonceScope};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::{GENERATED_VALUE, HashAlg, PcrSelection, TYPE_QUOTE, qualified_signer};

use super::super::{Arrival, Committed, EnrolledHost, Prechecked, VerifiedEvidence, precheck, verify};
use super::software_tpm::{Shape, SoftwareTpm};

pub(super) const NOW_MS: u64 = 1_800_000_000_000;

/// What evidence is made of, before it is signed.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) envelope: Envelope,
    pub(super) nonce: [u8; 32],
    pub(super) shape: Shape,
    pub(super) values: Vec<PcrValue>,
}

impl Draft {
    /// Makes the signed digest that of the values as they stand.
    pub(super) fn digest_values(&mut self) {
        let digest = HashAlg::Sha256.digest(self.values.iter().map(|value| value.value.as_slice()));
        self.shape.pcr_digest = digest.as_ref().to_vec();
    }
}

pub(super) struct Scene {
    pub(super) tpm: SoftwareTpm,
    pub(super) host: EnrolledHost,
    pub(super) deployment: DeploymentId,
    pub(super) nonce_key: NonceKey,
    pub(super) required: PcrSelection,
    pub(super) clock_ms: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        let tpm = SoftwareTpm::new();
        let signer = qualified_signer(&tpm.ek_public().name(), &tpm.ak_public().name());
        let host = EnrolledHost {
            host: HostId::of(&[&tpm.ek_public().spki_der()]),
            tls_key: Digest::of(&[b"the agent's TLS key"]),
            ak: tpm.ak_key(),
            qualified_signer: signer.as_bytes().to_vec(),
            ek_certified: true,
            hardware_tpm: false,
            is_listed: true,
            best_zone: Name::new("open").unwrap(),
            committed: Committed::NOTHING,
        };
        Self {
            tpm,
            host,
            deployment: DeploymentId::of(&[b"deployment"]),
            nonce_key: NonceKey::new(&[7; 32]),
            required: PcrSelection::firmware(),
            clock_ms: 1000,
        }
    }

    pub(super) fn nonce(&self) -> Nonce {
        let scope = NonceScope {
            deployment: self.deployment,
            host: self.host.host,
            committed_sequence: self.host.committed.sequence,
        };
        self.nonce_key.mint(&scope, NOW_MS + 90_000, [3; 8])
    }

    /// The next evidence of the chain, not signed yet.
    pub(super) fn draft(&self) -> Draft {
        let envelope = Envelope {
            version: EnvelopeVersion::WindowGroups,
            deployment: self.deployment,
            host: self.host.host,
            boot_id: BootId::new([1; 16]),
            sequence: self.host.committed.sequence + 1,
            predecessor: self.host.committed.envelope,
            tls_key: self.host.tls_key,
            checkpoint: None,
            agent_version: Name::new("0.1.0").unwrap(),
            built_at_ms: self.clock_ms,
            backend: Backend {
                kind: BackendKind::None,
                mode: Mode::Observe,
                hierarchy: Hierarchy::None,
                controls: Bounded::default(),
            },
            host_windows: MetricWindows::default(),
            applications: Bounded::default(),
            events: Bounded::default(),
            writes: Bounded::default(),
            requests: Bounded::default(),
            held: Bounded::default(),
            facts: HostFacts {
                hostname: Name::new("host-1").unwrap(),
                kernel: Name::new("6.1.0").unwrap(),
                cpu_millicores: 2000,
                memory_bytes: 1 << 30,
                os: None,
            },
        };
        let values = (0..8).map(|index| PcrValue { hash_alg: 0x0B, index, value: vec![index; 32] }).collect();
        let shape = Shape {
            magic: GENERATED_VALUE,
            kind: TYPE_QUOTE,
            qualified_signer: self.host.qualified_signer.clone(),
            extra_data: None,
            clock_ms: self.clock_ms,
            reset_count: 5,
            restart_count: 2,
            safe: 1,
            selection: vec![0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0, 0],
            pcr_digest: Vec::new(),
            trailing: Vec::new(),
        };
        let mut draft = Draft { envelope, nonce: *self.nonce().as_bytes(), shape, values };
        draft.digest_values();
        draft
    }

    /// The evidence of a draft, signed by the host's AK.
    pub(super) fn sign(&self, draft: &Draft) -> Evidence {
        let envelope = draft.envelope.clone().seal().unwrap();
        let attest = draft.shape.marshal(&extra_data(&Nonce::new(draft.nonce), &envelope.digest()));
        Evidence {
            version: EvidenceVersion::WithoutLogs,
            nonce: draft.nonce,
            envelope: envelope.bytes().to_vec(),
            signature: self.tpm.ak.sign(&attest),
            attest,
            pcr_values: Bounded::new(draft.values.clone()).unwrap(),
            boot_log: None,
            ima: None,
            measure_log: None,
        }
    }

    pub(super) fn arrival<'a>(&self, evidence: &'a [u8]) -> Arrival<'a> {
        Arrival { deployment: self.deployment, host: self.host.host, tls_key: self.host.tls_key, evidence }
    }

    pub(super) fn precheck(&self, evidence: &[u8]) -> Result<Prechecked, Refusal> {
        precheck(&self.arrival(evidence), Some(&self.host), &self.nonce_key, NOW_MS)
    }

    /// All checks of evidence that should be the next.
    pub(super) fn judge(&self, evidence: &[u8]) -> Result<VerifiedEvidence, Reason> {
        match self.precheck(evidence).map_err(|refusal| refusal.reason)? {
            Prechecked::Next(next) => verify(*next, &self.host, &self.required).map_err(|refusal| refusal.reason),
            other => panic!("not the next evidence: {other:?}"),
        }
    }

    /// Commits the next evidence of an honest host and returns its bytes.
    pub(super) fn advance(&mut self) -> Vec<u8> {
        let bytes = self.sign(&self.draft()).to_bytes();
        let verified = self.judge(&bytes).unwrap();
        self.host.committed = verified.committed();
        self.clock_ms += 1000;
        bytes
    }
}
