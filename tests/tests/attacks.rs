//! Attacks with real quotes of real (software) TPMs over the real routes: each refused with its reason, nothing
//! changed by it, and told in the log.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quotary_agent::tpm::EkAlgorithm;
use quotary_client::ClientError;
use quotary_common::cbor::Bounded;
use quotary_common::evidence::{Evidence, EvidenceVersion, PcrValue, extra_data};
use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::{Decision, GrantChange, Leaf};
use quotary_common::nonce::Nonce;
use quotary_common::reason::Reason;
use quotary_common::wire::{
    Base64, EnrolmentRequest, EvidenceReply, EvidenceRequest, NonceReply, PcrBank, SendEvidence,
};
use quotary_tests::host::{Candidate, DrivenHost, Operator, Rogue, TlsKey, reason_of, request};
use quotary_tests::world::{Application, Options, Timing, World};

/// One leaf per kind of refusal in ten seconds; the rest is told as a count when they are over.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// A verifier and its operator; hosts are driven by the test.
fn scene(timing: Timing) -> (World, Operator) {
    let options = Options { applications: vec![Application::of_uid("web", "shop", 1000)], timing, ..Options::quick(0) };
    let mut world = World::new(options).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    (world, operator)
}

/// Nothing ends by itself, however slow the machine is.
const PATIENT: Timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };

/// What must not move when something is refused: by host, and by grant.
#[derive(Debug, PartialEq)]
struct State {
    hosts: Vec<HostState>,
    grants: Vec<(String, Option<u64>)>,
}

/// Sequence, epoch, last evidence, whether it is trusted, zone.
type HostState = (HostId, u64, u64, Option<Digest>, bool, Option<String>);

async fn state(operator: &Operator) -> State {
    let hosts = operator.hosts().await.unwrap().into_iter();
    let grants = operator.grants().await.unwrap().into_iter();
    State {
        hosts: hosts.map(|h| (h.host, h.sequence, h.epoch, h.evidence, h.trusted, h.zone)).collect(),
        grants: grants.map(|g| (g.id, g.resources.cpu_millicores)).collect(),
    }
}

/// Tries what must be refused with `expected`: no host and no grant changes, and the log tells it, and nothing else.
async fn refused<T>(operator: &Operator, expected: Reason, attempt: impl Future<Output = Result<T, ClientError>>) {
    let (before, size) = (state(operator).await, operator.status().await.unwrap().audit.size);
    let result = attempt.await;
    let shown = result.as_ref().err().map(ToString::to_string);
    assert_eq!(reason_of(&result), Some(expected), "{shown:?}");
    assert_eq!(state(operator).await, before, "{expected} changed something");
    let deadline = Instant::now() + TOLD_WITHIN;
    loop {
        let leaves = operator.leaves(size).await.unwrap();
        if leaves.iter().any(|leaf| tells(leaf, expected)) {
            assert!(leaves.iter().all(|leaf| matches!(leaf.decision, Decision::Refused(_))), "{leaves:?}");
            return;
        }
        assert!(Instant::now() < deadline, "{expected} is not in the log: {leaves:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn tells(leaf: &Leaf, reason: Reason) -> bool {
    matches!(&leaf.decision, Decision::Refused(refused) if refused.refusal.reason == reason)
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn values(evidence: &Evidence, change: impl Fn(&mut PcrValue)) -> Evidence {
    let mut pcrs: Vec<PcrValue> = evidence.pcr_values.iter().cloned().collect();
    pcrs.iter_mut().for_each(change);
    Evidence { pcr_values: Bounded::new(pcrs).unwrap(), ..evidence.clone() }
}

#[test]
fn evidence_that_was_tampered_with_is_refused_for_what_was_done_to_it() {
    let (world, operator) = scene(Timing { nonce_ms: 15_000, ..PATIENT });
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        let mut other = operator.host("b").await.unwrap();
        host.attest().await.unwrap();
        other.attest().await.unwrap();
        // Sent when its nonce is too old.
        let (_, late) = other.prepare().await.unwrap();

        altered_envelope(&operator, &mut host).await;
        other_pcrs(&operator, &mut host).await;
        another_key_of_the_same_tpm(&operator, &world, &mut host).await;
        foreign_nonces(&operator, &mut host, &other).await;
        swapped_hosts(&operator, &mut host, &mut other).await;

        while now_ms() <= Nonce::new(late.nonce).expiry_ms() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        refused(&operator, Reason::NonceExpired, other.send(&late)).await;
        // After all of that both go on as if nothing had been.
        assert_eq!(host.attest().await.unwrap().0.claims().sequence, 2);
        assert_eq!(other.attest().await.unwrap().0.claims().sequence, 2);
    });
}

async fn altered_envelope(operator: &Operator, host: &mut DrivenHost) {
    let (envelope, evidence) = host.prepare().await.unwrap();
    let mut claims = envelope.claims().clone();
    claims.facts.cpu_millicores *= 100;
    let envelope = claims.seal().unwrap().bytes().to_vec();
    refused(operator, Reason::ExtraData, host.send(&Evidence { envelope, ..evidence })).await;
}

async fn other_pcrs(operator: &Operator, host: &mut DrivenHost) {
    let (_, evidence) = host.prepare().await.unwrap();
    refused(operator, Reason::PcrDigest, host.send(&values(&evidence, |pcr| pcr.value[0] ^= 1))).await;
    // A quote over PCRs that the boot does not measure into, claimed as those it does.
    let mut next = host.nonce().await.unwrap();
    next.pcr_selection = vec![PcrBank { hash_alg: 0x000b, pcrs: (8..16).collect() }];
    let envelope = host.envelope(&next).unwrap().seal().unwrap();
    let evidence = host.quote(&next, &envelope).await.unwrap();
    refused(operator, Reason::PcrSelection, host.send(&values(&evidence, |pcr| pcr.index -= 8))).await;
}

async fn another_key_of_the_same_tpm(operator: &Operator, world: &World, host: &mut DrivenHost) {
    host.tpm.stop().await.unwrap();
    let mut thief = host.twin(host.tpm.clone_into(&world.path("driven/a-thief")).unwrap());
    thief.tpm.forget_ak().unwrap();
    let (_, evidence) = thief.prepare().await.unwrap();
    refused(operator, Reason::Signature, thief.send(&evidence)).await;
    thief.tpm.stop().await.unwrap();
}

async fn foreign_nonces(operator: &Operator, host: &mut DrivenHost, other: &DrivenHost) {
    let mut next = host.nonce().await.unwrap();
    for nonce in [other.nonce().await.unwrap().nonce, Base64(vec![0x5a; 32])] {
        next.nonce = nonce;
        let envelope = host.envelope(&next).unwrap().seal().unwrap();
        let evidence = host.quote(&next, &envelope).await.unwrap();
        refused(operator, Reason::NonceUnknown, host.send(&evidence)).await;
    }
}

async fn swapped_hosts(operator: &Operator, host: &mut DrivenHost, other: &mut DrivenHost) {
    let (_, evidence) = host.prepare().await.unwrap();
    // On the other's route, over one's own key.
    let body = EvidenceRequest { evidence: Base64(evidence.to_bytes()) };
    let other_id = other.id.hex();
    refused(operator, Reason::TlsKey, host.client.call::<SendEvidence>(&[&other_id], &body)).await;
    // On one's own route, speaking for the other.
    let next = host.nonce().await.unwrap();
    let mut claims = host.envelope(&next).unwrap();
    claims.host = other.id;
    let envelope = claims.seal().unwrap();
    let evidence = host.quote(&next, &envelope).await.unwrap();
    refused(operator, Reason::TlsKey, host.send(&evidence)).await;
}

#[test]
fn a_replay_is_stale_and_the_last_evidence_is_answered_again_only_over_its_own_key() {
    let (world, operator) = scene(PATIENT);
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        let (_, first) = host.prepare().await.unwrap();
        host.send(&first).await.unwrap();
        host.requests = vec![request("one", 500, 1 << 20)];
        let (envelope, second) = host.prepare().await.unwrap();
        let reply = host.send(&second).await.unwrap();
        assert_eq!(host.take(&envelope, &reply).unwrap().set().grants.len(), 1);

        refused(&operator, Reason::SequenceStale, host.send(&first)).await;
        let (before, size) = (state(&operator).await, operator.status().await.unwrap().audit.size);
        let again = host.send(&second).await.unwrap();
        assert_eq!((again.evidence, &again.grant_set), (reply.evidence, &reply.grant_set));
        assert_eq!(state(&operator).await, before);
        assert!(operator.leaves(size).await.unwrap().is_empty());

        let stranger = operator.with_key(&TlsKey::make().unwrap()).unwrap();
        let body = EvidenceRequest { evidence: Base64(second.to_bytes()) };
        refused(&operator, Reason::TlsKey, stranger.call::<SendEvidence>(&[&host.id.hex()], &body)).await;
        assert_eq!(host.attest().await.unwrap().0.claims().sequence, 3);
    });
}

#[test]
fn firmware_that_is_not_the_zones_keeps_a_host_out_of_it() {
    let (world, operator) = scene(PATIENT);
    world.runtime().block_on(async {
        // Zones learn their values from the first host that enters.
        assert_eq!(operator.host("a").await.unwrap().attest().await.unwrap().1.zone, "measured");
        let mut host = operator.host("b").await.unwrap();
        // Nor does it teach a lower zone what it should be.
        boot_with_other_firmware(&mut host).await;
        let (_, evidence) = host.prepare().await.unwrap();
        refused(&operator, Reason::PcrReference, host.send(&evidence)).await;
        host.tpm.stop().await.unwrap();
        assert_eq!(host.attest().await.unwrap().1.zone, "measured");
    });
}

async fn boot_with_other_firmware(host: &mut DrivenHost) {
    host.tpm.stop().await.unwrap();
    let mut rogue = Rogue::open(&host.tpm).unwrap();
    rogue.extend_pcr_7().unwrap();
    host.tpm.attach(rogue);
}

#[test]
fn an_attestation_key_of_the_owner_hierarchy_may_enrol_and_its_quotes_are_refused() {
    let (world, operator) = scene(PATIENT);
    world.runtime().block_on(async {
        let mut candidate = operator.candidate("a").await.unwrap();
        let mut enrolment = candidate.request().await.unwrap();
        candidate.tpm.stop().await.unwrap();
        let mut rogue = Rogue::open(&candidate.tpm).unwrap();
        let key = rogue.owner_key().unwrap();
        // Nothing in its public area tells where it comes from, and it is in the same TPM as the EK.
        enrolment.ak_public = Base64(key.public.clone());
        let challenge = candidate.begin(&enrolment).await.unwrap();
        let secret = rogue.activate(&key, &challenge).unwrap();
        let reply = candidate.activate(&challenge, secret).await.unwrap();
        let host = candidate.into_host(&reply).unwrap();
        let next = host.nonce().await.unwrap();
        let envelope = host.envelope(&next).unwrap().seal().unwrap();
        let nonce: [u8; 32] = next.nonce.0.as_slice().try_into().unwrap();
        let data = extra_data(&Nonce::new(nonce), &envelope.digest());
        let (attest, signature) = rogue.quote(&key, data, &next.pcr_selection).unwrap();
        let pcrs = (0..8).map(|index| PcrValue { hash_alg: 0x000b, index, value: vec![0; 32] });
        let pcr_values = Bounded::new(pcrs.collect()).unwrap();
        let envelope = envelope.bytes().to_vec();
        let version = EvidenceVersion::WithoutLogs;
        let evidence = Evidence {
            version,
            nonce,
            envelope,
            attest,
            signature,
            pcr_values,
            boot_log: None,
            ima: None,
            measure_log: None,
        };
        refused(&operator, Reason::QualifiedSigner, host.send(&evidence)).await;
        let view = operator.view(&host.id).await.unwrap();
        assert_eq!((view.sequence, view.trusted), (0, false));
    });
}

#[test]
fn an_enrolment_is_refused_for_whatever_is_wrong_with_it() {
    let (world, operator) = scene(PATIENT);
    world.runtime().block_on(async {
        let mut first = operator.candidate("a").await.unwrap();
        let good = first.request().await.unwrap();
        let mut second = operator.candidate("b").await.unwrap();
        let other = second.request().await.unwrap();

        // The certificate of another TPM.
        let mut wrong = good.clone();
        wrong.ek_certificates.clone_from(&other.ek_certificates);
        refused(&operator, Reason::EkMismatch, first.begin(&wrong)).await;
        // A wrong answer ends the enrolment: the right one comes too late.
        let challenge = first.begin(&good).await.unwrap();
        let secret = first.answer(&challenge).await.unwrap();
        refused(&operator, Reason::Activation, first.activate(&challenge, vec![7; 32])).await;
        refused(&operator, Reason::Activation, first.activate(&challenge, secret)).await;
        // The credential is for the TPM that holds both keys: another cannot open it.
        let challenge = first.begin(&good).await.unwrap();
        assert!(second.answer(&challenge).await.is_err());
        assert!(operator.hosts().await.unwrap().is_empty());

        let token = first.token.clone();
        let host = first.enrol().await.unwrap();
        // One token, one host.
        let mut thief = Candidate::new(operator.tpm("c", EkAlgorithm::Rsa2048), token).unwrap();
        let stolen = thief.request().await.unwrap();
        refused(&operator, Reason::JoinToken, thief.begin(&stolen)).await;
        // A host's id with another EK.
        let mut posing = other.clone();
        posing.host = Some(host.id);
        refused(&operator, Reason::EkMismatch, second.begin(&posing)).await;
        // A key that signs anything is no witness.
        second.tpm.stop().await.unwrap();
        let unrestricted = Rogue::open(&second.tpm).unwrap().unrestricted_public().unwrap();
        let loose = EnrolmentRequest { ak_public: Base64(unrestricted), ..other };
        refused(&operator, Reason::AkAttributes, second.begin(&loose)).await;
        assert_eq!(operator.hosts().await.unwrap().len(), 1);
    });
}

#[test]
fn a_host_without_certificate_is_in_the_lowest_zone_and_one_with_a_new_key_starts_anew() {
    let (world, operator) = scene(PATIENT);
    world.runtime().block_on(async {
        let tpm = operator.tpm("bare", EkAlgorithm::EccP256);
        let mut bare = Candidate::new(tpm, operator.join_token().await.unwrap()).unwrap().enrol().await.unwrap();
        assert_eq!(bare.attest().await.unwrap().1.zone, "joined");
        let view = operator.view(&bare.id).await.unwrap();
        assert_eq!((view.tpm.as_str(), view.zone_best.as_str()), ("uncertified", "measured"));

        let mut host = operator.host("a").await.unwrap();
        host.requests = vec![request("one", 500, 1 << 20)];
        assert_eq!(host.attest().await.unwrap().2.set().grants.len(), 1);
        host.tpm.stop().await.unwrap();
        host.tpm.forget_ak().unwrap();
        let size = operator.status().await.unwrap().audit.size;
        let DrivenHost { id, tpm, .. } = host;
        let again = Candidate::new(tpm, operator.join_token().await.unwrap()).unwrap();
        let mut again = again.enrol().await.unwrap();
        assert_eq!((again.id, again.last.epoch), (id, 2));
        let leaves = operator.leaves(size).await.unwrap();
        assert!(
            leaves.iter().any(|leaf| matches!(&leaf.decision, Decision::Enrolled(e) if e.replaced && e.epoch == 2))
        );
        assert_eq!(changes(&leaves), [GrantChange::Revoked]);
        let (envelope, _, set) = again.attest().await.unwrap();
        assert_eq!((envelope.claims().sequence, set.set().grants.len()), (1, 0));
    });
}

fn changes(leaves: &[Leaf]) -> Vec<GrantChange> {
    let granted = leaves.iter().filter_map(|leaf| match &leaf.decision {
        Decision::Granted(granted) => Some(granted.change),
        _ => None,
    });
    granted.collect()
}

#[test]
fn a_cloned_tpm_is_found_out_and_ends_what_was_granted_to_either() {
    let (world, operator) = scene(Timing { trust_ms: 9_000, lease_ms: 10_000, lease_margin_ms: 1_000, ..PATIENT });
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        host.requests = vec![request("one", 3000, 1 << 20)];
        assert_eq!(host.attest().await.unwrap().2.set().grants.len(), 1);
        host.tpm.stop().await.unwrap();
        let mut twin = host.twin(host.tpm.clone_into(&world.path("driven/a-twin")).unwrap());

        // Both go on from one predecessor.
        let next = host.nonce().await.unwrap();
        let (_, reply) = go_on(&mut host, &next).await;
        assert_eq!(reply.unwrap().zone, "measured");
        let size = operator.status().await.unwrap().audit.size;
        let (forked, reply) = go_on(&mut twin, &next).await;
        assert_eq!(reason_of(&reply), Some(Reason::ChainForked));
        fenced(&operator, &host, size, Reason::ChainForked, 2).await;
        // The same proof once more raises nothing more.
        refused(&operator, Reason::ChainForked, twin.send(&forked)).await;

        // The original goes on without its grants; their capacity comes back when their lease is over for sure.
        host.tpm.stop().await.unwrap();
        let (_, _, set) = host.attest().await.unwrap();
        assert_eq!((set.set().epoch, set.set().grants.len()), (2, 0));
        capacity_comes_back(&operator, &mut host).await;

        // The twin, whose TPM was not restarted as often, claims to be the next.
        let size = operator.status().await.unwrap().audit.size;
        let next = twin.nonce().await.unwrap();
        let (_, reply) = go_on(&mut twin, &next).await;
        assert_eq!(reason_of(&reply), Some(Reason::ClockBackward));
        fenced(&operator, &host, size, Reason::ClockBackward, 3).await;
        let (_, _, set) = host.attest().await.unwrap();
        assert_eq!((set.set().epoch, set.set().grants.len()), (3, 0));
    });
}

async fn go_on(host: &mut DrivenHost, next: &NonceReply) -> (Evidence, Result<EvidenceReply, ClientError>) {
    let envelope = host.envelope(next).unwrap().seal().unwrap();
    let evidence = host.quote(next, &envelope).await.unwrap();
    let reply = host.send(&evidence).await;
    (evidence, reply)
}

/// The epoch rose to `epoch` for this reason, trust ended, every grant was revoked, and the log tells all of it.
async fn fenced(operator: &Operator, host: &DrivenHost, size: u64, reason: Reason, epoch: u64) {
    let view = operator.view(&host.id).await.unwrap();
    assert_eq!((view.epoch, view.trusted), (epoch, false));
    let leaves = operator.leaves(size).await.unwrap();
    let raised = leaves.iter().filter(|leaf| {
        matches!(&leaf.decision, Decision::EpochRaised(raised)
            if raised.host == host.id && raised.epoch == epoch && raised.refusal.reason == reason)
    });
    assert_eq!(raised.count(), 1, "{leaves:?}");
    assert_eq!(changes(&leaves), [GrantChange::Revoked], "{leaves:?}");
}

/// Three of four cores were granted under the old epoch: the same is to be had again after lease and margin.
async fn capacity_comes_back(operator: &Operator, host: &mut DrivenHost) {
    host.requests = vec![request("two", 3000, 1 << 20)];
    let (_, _, set) = host.attest().await.unwrap();
    assert_eq!(set.set().refusals.iter().next().unwrap().refusal.reason, Reason::Capacity);
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.requests = vec![request("three", 3000, 1 << 20)];
        if host.attest().await.unwrap().2.set().grants.len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", operator.grants().await.unwrap());
    }
}
