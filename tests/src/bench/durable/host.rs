//! One host of the load: a software TPM, a TLS key, a chain of envelopes, two grants held.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use quotary_client::Client;
use quotary_common::cbor::Bounded;
use quotary_common::checkpoint::{origin_of, parse_and_verify};
use quotary_common::envelope::{ClaimedEnvelope, WitnessedCheckpoint};
use quotary_common::evidence::{Evidence, EvidenceVersion, PcrValue, extra_data};
use quotary_common::grant::{self, Accepted};
use quotary_common::id::{DeploymentId, Digest, GrantId, HostId};
use quotary_common::keys::{self, VerifiedKeys};
use quotary_common::nonce::Nonce;
use quotary_common::sign::Signed;
use quotary_common::token::JoinToken;
use quotary_common::wire::{
    ActivateEnrolment, ActivationRequest, AskNonce, Base64, BeginEnrolment, EnrolmentRequest, EvidenceReply,
    EvidenceRequest, Inventory, JoinTokenRequest, LogsWanted, MakeJoinToken, NonceReply, Nothing, SendEvidence,
};
use quotary_verifier::clock::Clock;

use super::logs::{HostLogs, Part};
use crate::bench::content::{self, Content, Place};
use crate::bench::software_tpm::{SoftwareTpm, pcr_values};
use crate::host::TlsKey;
use crate::world::ZONE_JOINED;

/// Applications that ask for a grant in the first envelope and hold it from then on.
const GRANTS: u32 = 2;
/// Of so many replies one has its signatures checked; all have the rest checked.
const SIGNATURES_CHECKED_EVERY: u64 = 32;
const JOIN_TOKEN_MS: u64 = 3_600_000;

/// The host.
pub(super) struct LoadHost {
    client: Client,
    tpm: SoftwareTpm,
    values: Vec<PcrValue>,
    logs: Option<HostLogs>,
    keys: VerifiedKeys,
    deployment: DeploymentId,
    host: HostId,
    hex: String,
    tls_key: Digest,
    held: Vec<GrantId>,
    next: Next,
}

/// What the next evidence needs.
#[derive(Debug, Clone, Copy)]
struct Next {
    nonce: Nonce,
    sequence: u64,
    predecessor: Digest,
    checkpoint: Option<WitnessedCheckpoint>,
    logs: LogsWanted,
}

impl LoadHost {
    /// Enrols a new host over the routes: join token, challenge, credential activation.
    /// With logs, it has booted and runs programs.
    pub(super) async fn enrol(operator: &Client, ca_pin: Digest, url: &str, with_logs: bool) -> anyhow::Result<Self> {
        let mut tpm = SoftwareTpm::new()?;
        let tls = TlsKey::make()?;
        let client = tls.client(url, ca_pin)?;
        let token = join_token(operator).await?;
        let request = EnrolmentRequest {
            join_secret: Base64(token.secret.to_vec()),
            ek_public: Base64(tpm.ek_public().to_vec()),
            ek_certificates: Vec::new(),
            ak_public: Base64(tpm.ak_public().to_vec()),
            host: None,
        };
        let challenge = client.call::<BeginEnrolment>(&[], &request).await.context("the enrolment did not begin")?;
        let secret = tpm.activate(&challenge.credential_blob.0, &challenge.encrypted_secret.0)?;
        let answer = ActivationRequest { secret: Base64(secret) };
        let enrolled = client.call::<ActivateEnrolment>(&[&challenge.enrolment.hex()], &answer).await;
        let enrolled = enrolled.context("the activation was refused")?;
        let keys = keys::verify(&Signed::from_bytes(&enrolled.keys.0)?, &token.root, Clock::system(0).now_ms())?;
        let hex = enrolled.host.hex();
        let nonce = client.call::<AskNonce>(&[&hex], &Nothing {}).await.context("there was no nonce")?;
        Ok(Self {
            client,
            tpm,
            values: pcr_values(),
            logs: if with_logs { Some(HostLogs::new()?) } else { None },
            keys,
            deployment: enrolled.deployment,
            host: enrolled.host,
            hex,
            tls_key: tls.spki,
            held: Vec::new(),
            next: next_of(&nonce)?,
        })
    }

    /// One evidence, from the envelope to the checked reply; how long the exchange took.
    pub(super) async fn exchange(&mut self) -> anyhow::Result<Duration> {
        let (envelope, bytes) = self.evidence()?;
        let request = EvidenceRequest { evidence: Base64(bytes) };
        let sent = Instant::now();
        let reply = self.client.call::<SendEvidence>(&[&self.hex], &request).await;
        let took = sent.elapsed();
        let reply = reply.with_context(|| format!("{} at sequence {}", self.host, self.next.sequence))?;
        self.check(&reply, &envelope, &request.evidence.0)
            .with_context(|| format!("the reply to {} at sequence {}", self.host, self.next.sequence))?;
        self.next = next_of(&reply.next)?;
        Ok(took)
    }

    /// Whether the verifier still knows all that it acknowledged.
    pub(super) async fn check_not_forgotten(&self) -> anyhow::Result<()> {
        let reply = self.client.call::<AskNonce>(&[&self.hex], &Nothing {}).await?;
        let now = next_of(&reply)?;
        ensure!(
            (now.sequence, now.predecessor) == (self.next.sequence, self.next.predecessor),
            "{}: sequence {} was acknowledged, the verifier came back with {}",
            self.host,
            self.next.sequence.saturating_sub(1),
            now.sequence.saturating_sub(1)
        );
        Ok(())
    }

    /// Evidence that it has had accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.next.sequence.saturating_sub(1)
    }

    fn evidence(&mut self) -> anyhow::Result<(ClaimedEnvelope, Vec<u8>)> {
        let place = Place {
            deployment: self.deployment,
            host: self.host,
            tls_key: self.tls_key,
            sequence: self.next.sequence,
            predecessor: self.next.predecessor,
            checkpoint: self.next.checkpoint,
        };
        let requests = if self.next.sequence == 1 {
            (0..GRANTS).map(|n| content::request(&self.host, n)).collect()
        } else {
            Vec::new()
        };
        let envelope = content::envelope(place, Content::Typical, requests, &self.held).seal()?;
        let clock_ms = content::built_at_ms(self.next.sequence);
        let (values, boot_log, ima) = match &mut self.logs {
            Some(logs) => {
                let Part { values, boot_log, ima } = logs.next(&self.next.logs)?;
                (values, boot_log, Some(ima))
            }
            None => (self.values.clone(), None, None),
        };
        let quoted = self.tpm.quote(&extra_data(&self.next.nonce, &envelope.digest()), &values, clock_ms)?;
        let evidence = Evidence {
            version: EvidenceVersion::of(ima.is_some(), false),
            nonce: *self.next.nonce.as_bytes(),
            envelope: envelope.bytes().to_vec(),
            attest: quoted.attest,
            signature: quoted.signature,
            pcr_values: Bounded::truncating(values).0,
            boot_log,
            ima,
            measure_log: None,
        };
        let bytes = evidence.to_bytes();
        Ok((envelope, bytes))
    }

    /// Accepted, about this evidence, one further in the chain; now and then also what was signed.
    fn check(&mut self, reply: &EvidenceReply, envelope: &ClaimedEnvelope, evidence: &[u8]) -> anyhow::Result<()> {
        ensure!(reply.evidence == Evidence::digest(evidence), "it answers another evidence");
        ensure!(reply.zone == ZONE_JOINED, "the host is in zone `{}`", reply.zone);
        ensure!(reply.next.next_sequence == self.next.sequence + 1, "the sequence did not advance");
        ensure!(reply.next.predecessor == envelope.digest(), "the chain does not go on from the envelope");
        if self.next.sequence % SIGNATURES_CHECKED_EVERY == 1 {
            let log_key = &self.keys.certificate().log_key;
            parse_and_verify(&reply.next.checkpoint, &origin_of(&self.deployment), log_key)?;
            let signed = Signed::from_bytes(&reply.grant_set.0)?;
            let sent = (envelope.claims(), &envelope.digest());
            let verified = grant::verify(&signed, &self.keys, sent, Accepted::default())?;
            let grants: Vec<GrantId> = verified.set().grants.iter().map(|grant| grant.id).collect();
            ensure!(grants.len() == GRANTS as usize, "{} grants came, {GRANTS} are held", grants.len());
            self.held = grants;
        }
        Ok(())
    }
}

async fn join_token(operator: &Client) -> anyhow::Result<JoinToken> {
    let request = JoinTokenRequest {
        zone: ZONE_JOINED.to_owned(),
        inventory: Inventory { labels: Default::default(), capacity: content::capacity() },
        valid_for_ms: JOIN_TOKEN_MS,
    };
    let made = operator.call::<MakeJoinToken>(&[], &request).await.context("there was no join token")?;
    Ok(JoinToken::parse(&made.token)?)
}

fn next_of(reply: &NonceReply) -> anyhow::Result<Next> {
    let nonce = <[u8; 32]>::try_from(reply.nonce.0.as_slice()).ok().context("a nonce has 32 bytes")?;
    Ok(Next {
        nonce: Nonce::new(nonce),
        sequence: reply.next_sequence,
        predecessor: reply.predecessor,
        checkpoint: Some(stated(&reply.checkpoint).context("the checkpoint is no signed note")?),
        logs: reply.logs,
    })
}

/// What a note states, without its signature: an agent checks each, here a checked one in [`SIGNATURES_CHECKED_EVERY`]
/// is enough, since the load must cost the machine little.
fn stated(note: &str) -> Option<WitnessedCheckpoint> {
    let mut lines = note.lines().skip(1);
    let size = lines.next()?.parse().ok()?;
    let root = BASE64.decode(lines.next()?.as_bytes()).ok()?;
    Some(WitnessedCheckpoint { size, root: Digest::new(root.try_into().ok()?) })
}
