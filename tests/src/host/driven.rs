//! An enrolled host: nonce, envelope, quote, evidence, each a step of its own.

use anyhow::{Context as _, Result};
use quotary_agent::link::{MeasuredLogs, ReadLogs};
use quotary_client::{Client, ClientError};
use quotary_common::cbor::Bounded;
use quotary_common::envelope::{
    ApplicationReport, Backend, BackendKind, CgroupPath, ClaimedEnvelope, EnforcementWrite, Envelope, EnvelopeVersion,
    Event, Hierarchy, HostFacts, Mode, Name, PendingRequest,
};
use quotary_common::evidence::{Evidence, EvidenceVersion, ImaIncrement, PcrValue, extra_data};
use quotary_common::grant::{self, Accepted, VerifiedGrantSet};
use quotary_common::id::{BootId, DeploymentId, GrantId, HostId, RequestId};
use quotary_common::keys::VerifiedKeys;
use quotary_common::metric::MetricWindows;
use quotary_common::nonce::Nonce;
use quotary_common::plan::{self, VerifiedPlan};
use quotary_common::reason::Reason;
use quotary_common::sign::Signed;
use quotary_common::units::{Class, Resources};
use quotary_common::wire::{
    AskNonce, Base64, EnrolmentReply, EvidenceReply, EvidenceRequest, NonceReply, Nothing, SendEvidence,
};

use super::{Candidate, SoftTpm, TlsKey};

/// An enrolled host that does what a test says.
pub struct DrivenHost {
    /// Its id.
    pub id: HostId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Its TLS key.
    pub tls: TlsKey,
    /// Its TPM.
    pub tpm: SoftTpm,
    /// Speaks to the verifier with its TLS key.
    pub client: Client,
    /// Epoch and generation of the last grant set that held.
    pub last: Accepted,
    /// Requests that go into the next envelopes.
    pub requests: Vec<PendingRequest>,
    /// Grants that it holds.
    pub held: Vec<GrantId>,
    /// How it says that it enforces: by default, not at all.
    pub backend: Backend,
    /// What it states of its load: of the host, and of applications.
    pub load: (MetricWindows, Vec<ApplicationReport>),
    /// Writes that go into the next envelope.
    pub writes: Vec<EnforcementWrite>,
    /// Events that go into the next envelope.
    pub events: Vec<Event>,
    /// The plans that came with the last reply, as they held under its grant set.
    pub plans: Vec<VerifiedPlan>,
    /// The part of an IMA list that goes with the next evidence, in place of one from its logs.
    pub ima: Option<ImaIncrement>,
    /// Its measurement logs, which it sends as an agent does; none: it sends none.
    pub logs: Option<MeasuredLogs>,
    keys: VerifiedKeys,
    boot_id: BootId,
}

/// The reason of a refusal; `None` when it was none.
pub fn reason_of<T>(result: &Result<T, ClientError>) -> Option<Reason> {
    match result {
        Err(ClientError::Refused { error, .. }) => Some(error.reason),
        _ => None,
    }
}

/// A request of uid 1000 for `cpu_millicores` and `memory_bytes`; the same `seed` makes the same request.
pub fn request(seed: &str, cpu_millicores: u64, memory_bytes: u64) -> PendingRequest {
    PendingRequest {
        id: RequestId::of(&[seed.as_bytes()]),
        uid: 1000,
        gid: 1000,
        pid: 4242,
        start_time_ticks: 4242,
        cgroup: CgroupPath::lossy("/user.slice"),
        unit: None,
        name: None,
        class: Class::Burstable,
        resources: Resources {
            cpu_millicores: Some(cpu_millicores),
            memory_bytes: Some(memory_bytes),
            ..Resources::default()
        },
    }
}

impl DrivenHost {
    pub(super) fn new(candidate: Candidate, reply: &EnrolmentReply, keys: VerifiedKeys) -> Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let Candidate { tls, tpm, client, .. } = candidate;
        Ok(Self {
            id: reply.host,
            deployment: reply.deployment,
            tls,
            tpm,
            client,
            last: Accepted { epoch: reply.epoch, generation: 0 },
            requests: Vec::new(),
            held: Vec::new(),
            backend: backend(BackendKind::None, Mode::Observe),
            load: (MetricWindows::default(), Vec::new()),
            writes: Vec::new(),
            events: Vec::new(),
            plans: Vec::new(),
            ima: None,
            logs: None,
            keys,
            boot_id: BootId::parse(&boot).context("the kernel has no boot id")?,
        })
    }

    /// The same host as another: a copied TLS key and a copied TPM, which this one brings.
    pub fn twin(&self, tpm: SoftTpm) -> Self {
        Self {
            id: self.id,
            deployment: self.deployment,
            tls: self.tls.clone(),
            tpm,
            client: self.client.clone(),
            last: self.last,
            requests: self.requests.clone(),
            held: self.held.clone(),
            backend: self.backend.clone(),
            load: self.load.clone(),
            writes: self.writes.clone(),
            events: self.events.clone(),
            plans: self.plans.clone(),
            ima: self.ima.clone(),
            logs: self.logs.clone(),
            keys: self.keys.clone(),
            boot_id: self.boot_id,
        }
    }

    /// Asks for a nonce.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn nonce(&self) -> Result<NonceReply, ClientError> {
        self.client.call::<AskNonce>(&[&self.id.hex()], &Nothing {}).await
    }

    /// The honest next envelope, with the requests and grants of now.
    ///
    /// # Errors
    /// When the clock cannot be read or a list is too long.
    pub fn envelope(&self, next: &NonceReply) -> Result<Envelope> {
        Ok(Envelope {
            version: EnvelopeVersion::WindowGroups,
            deployment: self.deployment,
            host: self.id,
            boot_id: self.boot_id,
            sequence: next.next_sequence,
            predecessor: next.predecessor,
            tls_key: self.tls.spki,
            checkpoint: None,
            agent_version: Name::lossy("driven"),
            built_at_ms: boottime_ms()?,
            backend: self.backend.clone(),
            host_windows: self.load.0.clone(),
            applications: Bounded::new(self.load.1.clone()).context("too many applications")?,
            events: Bounded::new(self.events.clone()).context("too many events")?,
            writes: Bounded::new(self.writes.clone()).context("too many writes")?,
            requests: Bounded::new(self.requests.clone()).context("too many requests")?,
            held: Bounded::new(self.held.clone()).context("too many grants")?,
            facts: HostFacts {
                hostname: Name::lossy("driven"),
                kernel: Name::lossy("6"),
                cpu_millicores: 4000,
                memory_bytes: 8 << 30,
                os: None,
            },
        })
    }

    /// A quote over the nonce and the envelope, as evidence.
    ///
    /// # Errors
    /// When the TPM does not serve.
    pub async fn quote(&mut self, next: &NonceReply, envelope: &ClaimedEnvelope) -> Result<Evidence> {
        let nonce = nonce_of(next)?;
        let handle = self.tpm.handle().await?;
        let quote = handle.quote(extra_data(&Nonce::new(nonce), &envelope.digest()), &next.pcr_selection).await?;
        let logs = match &self.logs {
            Some(logs) => logs.read(&next.logs, self.boot_id).await,
            None => ReadLogs::default(),
        };
        let ima = self.ima.clone().or(logs.ima);
        let values = quote.pcr_values.into_iter();
        let values = values.map(|(hash_alg, index, value)| PcrValue { hash_alg, index, value }).collect();
        Ok(Evidence {
            version: EvidenceVersion::of(logs.boot_log.is_some() || ima.is_some(), logs.measure_log.is_some()),
            nonce,
            envelope: envelope.bytes().to_vec(),
            attest: quote.attest,
            signature: quote.signature,
            pcr_values: Bounded::new(values).context("too many PCRs")?,
            boot_log: logs.boot_log,
            ima,
            measure_log: logs.measure_log,
        })
    }

    /// Honest evidence, not sent yet.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn prepare(&mut self) -> Result<(ClaimedEnvelope, Evidence)> {
        let next = self.nonce().await?;
        let envelope = self.envelope(&next)?.seal()?;
        let evidence = self.quote(&next, &envelope).await?;
        Ok((envelope, evidence))
    }

    /// Sends evidence over the host's own TLS key and route.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn send(&self, evidence: &Evidence) -> Result<EvidenceReply, ClientError> {
        self.send_bytes(evidence.to_bytes()).await
    }

    /// The same with any bytes.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn send_bytes(&self, evidence: Vec<u8>) -> Result<EvidenceReply, ClientError> {
        let request = EvidenceRequest { evidence: Base64(evidence) };
        self.client.call::<SendEvidence>(&[&self.id.hex()], &request).await
    }

    /// Checks the grant set of a reply and its plans as the agent does, and takes them over.
    ///
    /// # Errors
    /// When the grant set or a plan does not hold.
    pub fn take(&mut self, envelope: &ClaimedEnvelope, reply: &EvidenceReply) -> Result<VerifiedGrantSet> {
        let signed = Signed::from_bytes(&reply.grant_set.0)?;
        let sent = (envelope.claims(), &envelope.digest());
        let verified = grant::verify(&signed, &self.keys, sent, self.last)?;
        let plans: Vec<&[u8]> = reply.plans.iter().map(|plan| plan.0.as_slice()).collect();
        self.plans = plan::verify(&plans, &self.keys, &verified)?;
        let set = verified.set();
        self.last = Accepted { epoch: set.epoch, generation: set.generation };
        self.held = set.grants.iter().map(|grant| grant.id).collect();
        self.requests.clear();
        self.writes.clear();
        self.events.clear();
        Ok(verified)
    }

    /// One honest exchange: nonce, envelope, quote, reply, grants.
    ///
    /// # Errors
    /// The step that failed; a refusal is a [`ClientError`] within.
    pub async fn attest(&mut self) -> Result<(ClaimedEnvelope, EvidenceReply, VerifiedGrantSet)> {
        let (envelope, evidence) = self.prepare().await?;
        let reply = self.send(&evidence).await?;
        let set = self.take(&envelope, &reply)?;
        Ok((envelope, reply, set))
    }
}

/// What a host says of its enforcement.
pub fn backend(kind: BackendKind, mode: Mode) -> Backend {
    Backend { kind, mode, hierarchy: Hierarchy::None, controls: Bounded::default() }
}

fn nonce_of(next: &NonceReply) -> Result<[u8; 32]> {
    next.nonce.0.as_slice().try_into().context("a nonce has 32 bytes")
}

/// `CLOCK_BOOTTIME`, ms: what envelopes, windows and writes are dated by.
///
/// # Errors
/// When it cannot be read.
pub fn boottime_ms() -> Result<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Ok(u64::try_from(now.tv_sec)? * 1000 + u64::try_from(now.tv_nsec)? / 1_000_000)
}
