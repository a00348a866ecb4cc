//! An operator ends a host's trust; what the host is, others can check.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::evidence::Evidence;
use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::Decision;
use quotary_common::reason::Reason;
use quotary_common::wire::{
    AppraisalView, Nothing, RevocationRequest, RevokeHost, Right, ShowAppraisal, ShowEvidence, ShowResult,
    ShowResultKeys,
};
use quotary_tests::host::{Candidate, DrivenHost, Operator, reason_of, request};
use quotary_tests::world::{Options, PATIENCE, World};
use ring::signature::{ED25519, UnparsedPublicKey};

/// The claims of a host's result, once its signature holds under the published keys.
async fn result(operator: &Operator, host: &DrivenHost) -> serde_json::Value {
    let id = host.id.hex();
    let jwt = operator.client.call::<ShowResult>(&[&id], &Nothing {}).await.unwrap().ear;
    let keys = operator.client.call::<ShowResultKeys>(&[], &Nothing {}).await.unwrap().keys;
    let decode = |text: &str| data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let header: serde_json::Value = serde_json::from_slice(&decode(header)).unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let public = decode(key["x"].as_str().unwrap());
    UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &decode(signature)).unwrap();
    assert_eq!(header["alg"], "EdDSA");
    serde_json::from_slice(&decode(claims)).unwrap()
}

fn status(claims: &serde_json::Value) -> &str {
    claims["submods"]["host"]["ear.status"].as_str().unwrap()
}

#[test]
fn a_revoked_host_has_no_trust_no_grants_and_no_way_back_with_its_old_token() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    world.runtime().block_on(async {
        let candidate = operator.candidate("a").await.unwrap();
        let token = candidate.token.clone();
        let mut host = candidate.enrol().await.unwrap();
        assert_eq!(status(&result(&operator, &host).await), "none");
        let none = operator.client.call::<ShowAppraisal>(&[&host.id.hex()], &Nothing {}).await;
        assert_eq!(reason_of(&none), Some(Reason::NotFound));
        host.requests = vec![request("one", 500, 64 << 20)];
        host.attest().await.unwrap();
        let claims = result(&operator, &host).await;
        assert!(["affirming", "warning"].contains(&status(&claims)), "{claims}");
        assert_eq!(claims["submods"]["host"]["quotary.host"], host.id.hex());
        assert!(claims["exp"].as_u64() > claims["iat"].as_u64());
        let why = operator.client.call::<ShowAppraisal>(&[&host.id.hex()], &Nothing {}).await.unwrap();
        assert_eq!(why.zone, operator.view(&host.id).await.unwrap().zone);

        let epoch = operator.view(&host.id).await.unwrap().epoch;
        let body = RevocationRequest { why: "its disk was sold".to_owned() };
        let nameless = RevocationRequest { why: " ".to_owned() };
        let refused = operator.client.call::<RevokeHost>(&[&host.id.hex()], &nameless).await;
        assert_eq!(reason_of(&refused), Some(Reason::Malformed));
        let reader = operator.operator_token(&[Right::Read], 60_000).await.unwrap();
        let reader = operator.with_token(Some(&reader)).unwrap();
        let refused = reader.call::<RevokeHost>(&[&host.id.hex()], &body).await;
        assert_eq!(reason_of(&refused), Some(Reason::Forbidden));
        let reply = operator.client.call::<RevokeHost>(&[&host.id.hex()], &body).await.unwrap();
        assert_eq!(reply.epoch, epoch + 1);

        let view = operator.view(&host.id).await.unwrap();
        assert!(!view.trusted && view.zone.is_none());
        assert!(operator.grants().await.unwrap().iter().all(|grant| grant.revoked));
        assert_eq!(status(&result(&operator, &host).await), "contraindicated");
        let why = operator.client.call::<ShowAppraisal>(&[&host.id.hex()], &Nothing {}).await.unwrap();
        assert_eq!((why.zone, why.failed[0].reason), (None, Reason::Revoked));
        assert!(why.failed[0].detail.contains("its disk was sold"));
        let (_, evidence) = host.prepare().await.unwrap();
        assert_eq!(reason_of(&host.send(&evidence).await), Some(Reason::Revoked));
        let leaves = operator.leaves(0).await.unwrap();
        let raised = leaves.iter().filter_map(|leaf| match &leaf.decision {
            Decision::EpochRaised(raised) => Some((leaf.actor.as_str().to_owned(), raised.refusal.clone())),
            _ => None,
        });
        let raised: Vec<_> = raised.collect();
        assert_eq!(raised.len(), 1);
        assert!(raised[0].0.starts_with("token "), "{}", raised[0].0);
        assert_eq!((raised[0].1.reason, raised[0].1.detail.as_str()), (Reason::Revoked, "its disk was sold"));
        let mut again = Candidate::new(host.tpm, token).unwrap();
        let request = again.request().await.unwrap();
        let challenge = again.begin(&request).await.unwrap();
        let secret = again.answer(&challenge).await.unwrap();
        assert_eq!(reason_of(&again.activate(&challenge, secret).await), Some(Reason::Revoked));
    });
}

async fn revoke(operator: &Operator, host: &HostId) {
    let body = RevocationRequest { why: "its disk was sold".to_owned() };
    operator.client.call::<RevokeHost>(&[&host.hex()], &body).await.unwrap();
}

/// The same TPM, enrolled with a new token.
async fn enrolled_again(operator: &Operator, host: DrivenHost) -> DrivenHost {
    Candidate::new(host.tpm, operator.join_token().await.unwrap()).unwrap().enrol().await.unwrap()
}

#[test]
fn explain_of_a_revoked_host_says_that_it_was_revoked_until_it_is_enrolled_again() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let runtime = world.runtime().handle().clone();
    let host = runtime.block_on(async {
        let mut host = operator.host("a").await.unwrap();
        host.attest().await.unwrap();
        revoke(&operator, &host.id).await;
        host
    });
    let id = host.id.hex();
    // Its appraisals are forgotten with the verifier's end, the revocation is not.
    for is_restarted in [false, true] {
        if is_restarted {
            world.stop_verifier().unwrap();
            world.start_verifier().unwrap();
        }
        let view: AppraisalView = world.cli_json(&["explain", &id]).unwrap();
        assert_eq!((view.host, view.zone, view.failed.len()), (host.id, None, 1), "restarted: {is_restarted}");
        let said = world.cli_ok(&["explain", &id]).unwrap();
        for part in ["revoked: ", "its disk was sold", "a new join token"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    runtime.block_on(async { enrolled_again(&operator, host).await.attest().await.unwrap() });
    let view: AppraisalView = world.cli_json(&["explain", &id]).unwrap();
    assert!(view.zone.is_some() && view.failed.iter().all(|failed| failed.reason != Reason::Revoked), "{view:?}");
}

#[test]
fn the_agent_of_a_revoked_host_enrols_as_soon_as_its_token_is_a_new_one() {
    let mut world = World::new(Options::quick(1)).unwrap();
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    let before = world.wait_for_trust(0, PATIENCE).unwrap();
    world.cli_ok(&["host", "revoke", &before.host.hex(), "--why", "its disk was sold"]).unwrap();
    let operator = Operator::of(&world).unwrap();
    let tried = |world: &World| {
        let leaves = world.runtime().block_on(operator.leaves(0))?;
        let tried = leaves.into_iter().find_map(|leaf| match leaf.decision {
            Decision::Refused(refused) if refused.what.as_str() == "enrolment" => Some(refused.refusal.reason),
            _ => None,
        });
        Ok(tried)
    };
    let why = world.wait("the agent to try its old token", PATIENCE, tried).unwrap();
    assert_eq!(why, Reason::Revoked, "the old token is no way back");
    assert!(!world.host_view(0).unwrap().trusted);
    world.make_join_token(0).unwrap();
    let after = world.wait_for_trust(0, PATIENCE).unwrap();
    assert_eq!((after.host, after.epoch > before.epoch), (before.host, true));
    world.wait_for_evidence(0, 1, PATIENCE).unwrap();
    world.cli_ok(&["audit", "verify"]).unwrap();
}

#[test]
fn evidence_is_let_go_only_beyond_what_is_kept_and_that_of_earlier_enrolments_first() {
    let mut options = Options::quick(0);
    options.verifier_extra = "[limits]\nevidence_keep_per_host = 3\n".to_owned();
    let mut world = World::new(options).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        let mut sent = Vec::new();
        for count in 1..=4 {
            sent.push(attested(&mut host).await);
            assert_eq!(kept(&operator, &host.id, &sent).await, sent[usize::from(count == 4)..], "after {count}");
        }
        revoke(&operator, &host.id).await;
        let mut host = enrolled_again(&operator, host).await;
        // How many are gone: its past goes two by two, once it has enough of its own.
        for (count, gone) in [(1, 1), (2, 1), (3, 1), (4, 3), (5, 5), (6, 7), (7, 8)] {
            sent.push(attested(&mut host).await);
            assert_eq!(kept(&operator, &host.id, &sent).await, sent[gone..], "after {count} more");
        }
    });
}

/// One honest exchange; the name of its evidence.
async fn attested(host: &mut DrivenHost) -> Digest {
    let (envelope, evidence) = host.prepare().await.unwrap();
    let reply = host.send(&evidence).await.unwrap();
    host.take(&envelope, &reply).unwrap();
    Evidence::digest(&evidence.to_bytes())
}

/// Which of `sent` the verifier still has.
async fn kept(operator: &Operator, host: &HostId, sent: &[Digest]) -> Vec<Digest> {
    let mut kept = Vec::new();
    for digest in sent {
        let asked = operator.client.call::<ShowEvidence>(&[&host.hex(), &digest.hex()], &Nothing {}).await;
        match reason_of(&asked) {
            None => kept.push(asked.unwrap().digest),
            Some(reason) => assert_eq!(reason, Reason::NotFound),
        }
    }
    kept
}
