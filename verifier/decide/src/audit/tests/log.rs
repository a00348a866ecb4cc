//! A small world: a host with a TPM, a verifier that logs whatever it is told to, and the files of its log.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::envelope::{
    Backend, BackendKind, ClaimedEnvelope, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode, WitnessedCheckpoint,
};
use quotary_common::evidence::{Evidence, EvidenceVersion, PcrValue, extra_data};
use quotary_common::id::{BootId, DeploymentId, Digest, TokenId};
use quotary_common::keys::deployment_of;
use quotary_common::leaf::{Decision, Enrolled, Genesis, Leaf, TokenMade, Verdict, VerdictChanged, Verdicts};
use quotary_common::metric::MetricWindows;
use quotary_common::nonce::Nonce;
use quotary_common::sign::{PublicKey, SigningKey};

use super::tpm::{Key, pcr_values, quote};
use crate::audit::{
    AuditFiles, AuditReport, Bundle, CHECKPOINT_PATH, Tile, TiledTree, evidence_path, leaf_hash, verify,
};

/// Unix time of the world's first leaf.
pub(super) const START_MS: u64 = 1_800_000_000_000;

pub(super) fn signing_key(seed: u8) -> SigningKey {
    let head = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
    SigningKey::from_pkcs8(&[head, vec![seed; 32]].concat()).unwrap()
}

#[derive(Clone, Default)]
pub(super) struct Files(pub(super) BTreeMap<String, Vec<u8>>);

impl AuditFiles for Files {
    type Error = Infallible;
    fn read(&self, path: &str, _: usize) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.get(path).cloned())
    }
}

impl Files {
    pub(super) fn audit(&self) -> AuditReport {
        self.audit_as(&origin_of(&World::deployment()), &signing_key(1).public())
    }
    pub(super) fn audit_as(&self, origin: &str, key: &PublicKey) -> AuditReport {
        verify(self, origin, key, &mut |_, _| ()).unwrap()
    }
}

/// What an evidence is made of; each part can be made wrong.
pub(super) struct Recipe {
    pub(super) ek: Rc<Key>,
    pub(super) ak: Rc<Key>,
    pub(super) envelope: Envelope,
    /// The envelope that is sent instead of the one that was quoted.
    pub(super) sent: Option<Envelope>,
    pub(super) clock_ms: u64,
    pub(super) nonce_expiry_ms: u64,
    pub(super) pcr_values: Vec<PcrValue>,
}

impl Recipe {
    pub(super) fn make(&self) -> (Vec<u8>, ClaimedEnvelope) {
        let quoted = self.envelope.clone().seal().unwrap();
        let mut nonce = [9; 32];
        nonce[..8].copy_from_slice(&self.nonce_expiry_ms.to_be_bytes());
        let extra = extra_data(&Nonce::new(nonce), &quoted.digest());
        let (attest, signature) = quote(&self.ek, &self.ak, &extra, self.clock_ms);
        let sent = self.sent.clone().map_or(quoted, |other| other.seal().unwrap());
        let evidence = Evidence {
            version: EvidenceVersion::WithoutLogs,
            nonce,
            envelope: sent.bytes().to_vec(),
            attest,
            signature,
            pcr_values: Bounded::new(self.pcr_values.clone()).unwrap(),
            boot_log: None,
            ima: None,
            measure_log: None,
        };
        (evidence.to_bytes(), sent)
    }
}

pub(super) struct World {
    pub(super) ek: Rc<Key>,
    pub(super) ak: Rc<Key>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) evidence: BTreeMap<Digest, Vec<u8>>,
    pub(super) sequence: u64,
    pub(super) predecessor: Digest,
    pub(super) epoch: u64,
    pub(super) witnessed: Option<WitnessedCheckpoint>,
}

impl World {
    pub(super) fn deployment() -> DeploymentId {
        deployment_of(&signing_key(0).public())
    }

    /// Genesis and an enrolment.
    pub(super) fn new() -> Self {
        let (ek, ak) = (Rc::new(Key::endorsement()), Rc::new(Key::attestation()));
        let mut world = Self {
            ek,
            ak,
            leaves: Vec::new(),
            evidence: BTreeMap::new(),
            sequence: 0,
            predecessor: Digest::new([0; 32]),
            epoch: 0,
            witnessed: None,
        };
        world.log(Decision::Genesis(Genesis {
            root: signing_key(0).public(),
            configuration: Digest::of(&[b"c"]),
            authority: None,
        }));
        world.enrol();
        world
    }

    /// One with everything that a plain day brings: two enrolments, a change of verdict, shared leaves, 300 leaves.
    pub(super) fn usual() -> Self {
        let mut world = Self::new();
        world.step(|_| ());
        world.step(|_| ());
        world.fill(200);
        world.witnessed = Some(world.checkpoint());
        world.step(|_| ());
        world.ak = Rc::new(Key::attestation());
        world.enrol();
        world.step(|_| ());
        world.fill(300);
        world
    }

    pub(super) fn now_ms(&self) -> u64 {
        START_MS + self.leaves.len() as u64 * 1000
    }

    pub(super) fn log(&mut self, decision: Decision) {
        let leaf = Leaf { version: Version, at_ms: self.now_ms(), actor: Text::lossy("verifier"), decision };
        self.leaves.push(leaf);
    }

    pub(super) fn fill(&mut self, leaves: usize) {
        while self.leaves.len() < leaves {
            self.log(Decision::TokenMade(TokenMade {
                token: TokenId::of(&[&self.leaves.len().to_be_bytes()]),
                what: Text::lossy("join"),
                scope: Text::lossy("zone"),
                not_after_ms: 1,
            }));
        }
    }

    pub(super) fn tls_key() -> Digest {
        Digest::of(&[b"tls"])
    }

    pub(super) fn enrol(&mut self) {
        self.epoch += 1;
        (self.sequence, self.predecessor) = (0, Digest::new([0; 32]));
        self.log(Decision::Enrolled(Enrolled {
            host: self.ek.host(),
            ek_public: self.ek.public.clone(),
            ak_public: self.ak.public.clone(),
            tls_key: Self::tls_key(),
            ek_issuer: None,
            token: TokenId::of(&[b"t"]),
            replaced: self.epoch > 1,
            epoch: self.epoch,
        }));
    }

    pub(super) fn envelope(&self) -> Envelope {
        let facts = HostFacts {
            hostname: Text::lossy("h"),
            kernel: Text::lossy("k"),
            cpu_millicores: 2000,
            memory_bytes: 1 << 30,
            os: None,
        };
        let backend = Backend {
            kind: BackendKind::None,
            mode: Mode::Observe,
            hierarchy: Hierarchy::None,
            controls: Bounded::default(),
        };
        Envelope {
            version: EnvelopeVersion::WindowGroups,
            deployment: Self::deployment(),
            host: self.ek.host(),
            boot_id: BootId::new([3; 16]),
            sequence: self.sequence + 1,
            predecessor: self.predecessor,
            tls_key: Self::tls_key(),
            checkpoint: self.witnessed,
            agent_version: Text::lossy("0"),
            built_at_ms: 5,
            backend,
            host_windows: MetricWindows::default(),
            applications: Bounded::default(),
            events: Bounded::default(),
            writes: Bounded::default(),
            requests: Bounded::default(),
            held: Bounded::default(),
            facts,
        }
    }

    /// The next evidence, made wrong by `change`, logged as accepted; the first of an enrolment changes the verdict
    /// and stands in a shared leaf too.
    pub(super) fn step(&mut self, change: impl FnOnce(&mut Recipe)) {
        let mut recipe = Recipe {
            ek: Rc::clone(&self.ek),
            ak: Rc::clone(&self.ak),
            envelope: self.envelope(),
            sent: None,
            clock_ms: self.now_ms() - START_MS,
            nonce_expiry_ms: self.now_ms() + 90_000,
            pcr_values: pcr_values(),
        };
        change(&mut recipe);
        let (bytes, envelope) = recipe.make();
        self.accept(bytes, &envelope);
    }

    pub(super) fn accept(&mut self, bytes: Vec<u8>, envelope: &ClaimedEnvelope) {
        self.sequence += 1;
        self.predecessor = envelope.digest();
        let evidence = Evidence::digest(&bytes);
        self.evidence.insert(evidence, bytes);
        let verdict = Verdict { host: self.ek.host(), sequence: self.sequence, evidence };
        if self.sequence == 1 {
            let to = Some(Text::lossy("firmware"));
            let findings = Bounded::default();
            self.log(Decision::VerdictChanged(VerdictChanged { verdict: verdict.clone(), from: None, to, findings }));
        }
        self.log(Decision::Verdicts(Verdicts { accepted: Bounded::new(vec![verdict]).unwrap() }));
    }

    fn leaf_bytes(&self) -> Vec<Vec<u8>> {
        self.leaves.iter().map(Leaf::to_bytes).collect()
    }

    fn tree(leaves: &[Vec<u8>]) -> TiledTree {
        let mut tree = TiledTree::new();
        leaves.iter().for_each(|leaf| tree.append(leaf_hash(leaf)));
        tree
    }

    pub(super) fn checkpoint(&self) -> WitnessedCheckpoint {
        let tree = Self::tree(&self.leaf_bytes());
        WitnessedCheckpoint { size: tree.size(), root: tree.root() }
    }

    pub(super) fn files(&self) -> Files {
        self.files_of(&self.leaf_bytes())
    }

    /// The files of a log of these leaves, signed by the log's key.
    pub(super) fn files_of(&self, leaves: &[Vec<u8>]) -> Files {
        let tree = Self::tree(leaves);
        let mut files = Files::default();
        let note = Checkpoint { origin: origin_of(&Self::deployment()), size: tree.size(), root: tree.root() };
        files.0.insert(CHECKPOINT_PATH.to_owned(), note.sign(&signing_key(1)).into_bytes());
        for tile in tree.tiles_since(0) {
            let first = usize::try_from(tile.index() * 256).unwrap();
            let hashes = match tile.level() {
                0 => Bundle::hashes(&leaves[first..first + usize::from(tile.width())]),
                _ => tree.upper_tile(tile).unwrap(),
            };
            files.0.insert(tile.path(), Tile::encode(&hashes));
        }
        for (index, chunk) in leaves.chunks(256).enumerate() {
            let bundle = Bundle::in_tree(index as u64, tree.size()).unwrap();
            files.0.insert(bundle.path(), Bundle::encode(chunk).unwrap());
        }
        for (digest, bytes) in &self.evidence {
            files.0.insert(evidence_path(digest), bytes.clone());
        }
        files
    }
}
