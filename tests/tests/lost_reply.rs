//! A reply that is lost on the way is no loss: the same evidence brings it again, and nothing is done twice.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quotary_common::evidence::Evidence;
use quotary_common::leaf::{Decision, GrantChange, Leaf};
use quotary_common::nonce::Nonce;
use quotary_common::reason::Reason;
use quotary_common::wire::{Base64, EvidenceRequest};
use quotary_tests::host::{DrivenHost, Operator, RawTls, reason_of, request};
use quotary_tests::world::{Options, Timing, World};

const PATIENT: Timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };

fn scene(timing: Timing) -> (World, Operator) {
    let mut world = World::new(Options { timing, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    (world, operator)
}

/// Sends evidence on a connection of its own, whose answer nobody reads.
fn send_and_look_away(operator: &Operator, host: &DrivenHost, evidence: &Evidence) -> RawTls {
    let mut connection = RawTls::connect(operator.address, operator.ca_pin, Some(&host.tls)).unwrap();
    let body = serde_json::to_vec(&EvidenceRequest { evidence: Base64(evidence.to_bytes()) }).unwrap();
    connection.send("POST", &format!("/v1/hosts/{}/evidence", host.id.hex()), &[], &body).unwrap();
    connection
}

async fn committed(operator: &Operator, host: &DrivenHost, sequence: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while operator.view(&host.id).await.unwrap().sequence < sequence {
        assert!(Instant::now() < deadline, "sequence {sequence} was never committed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn given(leaves: &[Leaf]) -> usize {
    let given = leaves
        .iter()
        .filter(|leaf| matches!(&leaf.decision, Decision::Granted(granted) if granted.change == GrantChange::Given));
    given.count()
}

#[test]
fn a_connection_cut_after_the_commit_costs_nothing_even_over_a_crash_of_the_verifier() {
    let (mut world, operator) = scene(PATIENT);
    let runtime = world.runtime().handle().clone();
    let (mut host, envelope, evidence) = runtime.block_on(async {
        let mut host = operator.host("a").await.unwrap();
        host.requests = vec![request("one", 500, 64 << 20)];
        let (envelope, evidence) = host.prepare().await.unwrap();
        (host, envelope, evidence)
    });
    let connection = send_and_look_away(&operator, &host, &evidence);
    runtime.block_on(committed(&operator, &host, 1));
    drop(connection);

    let (first, size) = runtime.block_on(async {
        let reply = host.send(&evidence).await.unwrap();
        (reply, operator.status().await.unwrap().audit.size)
    });
    world.kill_verifier();
    world.start_verifier().unwrap();
    runtime.block_on(async {
        let reply = host.send(&evidence).await.unwrap();
        assert_eq!((reply.evidence, &reply.grant_set), (first.evidence, &first.grant_set));
        let set = host.take(&envelope, &reply).unwrap();
        assert_eq!(set.set().grants.len(), 1);
        assert_eq!(operator.grants().await.unwrap().len(), 1);
        // One grant was given, ever; the second life of the verifier told of its start and of nothing else.
        assert_eq!(given(&operator.leaves(0).await.unwrap()), 1);
        let later = operator.leaves(size).await.unwrap();
        assert!(matches!(later.as_slice(), [Leaf { decision: Decision::Started(_), .. }]), "{later:?}");
        assert_eq!(host.attest().await.unwrap().2.set().grants.len(), 1);
    });
}

#[test]
fn connections_cut_at_any_instant_leave_one_commit_per_evidence() {
    let (world, operator) = scene(PATIENT);
    let runtime = world.runtime().handle().clone();
    let mut host = runtime.block_on(operator.host("a")).unwrap();
    for round in 1..=12_u64 {
        host.requests = vec![request(&format!("request {round}"), 100, 1 << 20)];
        let (envelope, evidence) = runtime.block_on(host.prepare()).unwrap();
        let connection = send_and_look_away(&operator, &host, &evidence);
        // From before the verifier has read it to after it has answered.
        std::thread::sleep(Duration::from_micros(700 * (round - 1)));
        drop(connection);
        runtime.block_on(async {
            let reply = host.send(&evidence).await.unwrap();
            assert_eq!(u64::try_from(host.take(&envelope, &reply).unwrap().set().grants.len()).unwrap(), round);
            assert_eq!(operator.view(&host.id).await.unwrap().sequence, round);
        });
    }
    runtime.block_on(async {
        assert_eq!(given(&operator.leaves(0).await.unwrap()), 12);
        let mut ids: Vec<_> = operator.grants().await.unwrap().into_iter().map(|grant| grant.grant).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 12);
    });
}

#[test]
fn an_envelope_outlives_its_nonce() {
    let (world, operator) = scene(Timing { nonce_ms: 4_000, ..PATIENT });
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        // It never arrived: the same envelope goes under a new nonce.
        host.requests = vec![request("one", 500, 64 << 20)];
        let (envelope, late) = host.prepare().await.unwrap();
        outlive(&late).await;
        assert_eq!(reason_of(&host.send(&late).await), Some(Reason::NonceExpired));
        let next = host.nonce().await.unwrap();
        let renewed = host.quote(&next, &envelope).await.unwrap();
        let first = host.send(&renewed).await.unwrap();
        // It arrived, and the reply was lost: under whatever nonce, the envelope is the one that was committed.
        outlive(&renewed).await;
        let next = host.nonce().await.unwrap();
        let again = host.quote(&next, &envelope).await.unwrap();
        for evidence in [&renewed, &again, &late] {
            let reply = host.send(evidence).await.unwrap();
            assert_eq!((reply.evidence, &reply.grant_set), (first.evidence, &first.grant_set));
        }
        assert_eq!(host.take(&envelope, &first).unwrap().set().grants.len(), 1);
        assert_eq!(operator.view(&host.id).await.unwrap().sequence, 1);
        assert_eq!(given(&operator.leaves(0).await.unwrap()), 1);
    });
}

async fn outlive(evidence: &Evidence) {
    let expiry_ms = Nonce::new(evidence.nonce).expiry_ms();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        if u64::try_from(now.as_millis()).unwrap() > expiry_ms {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
