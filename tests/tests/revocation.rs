//! An operator ends a host's trust; what the host is, others can check.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::leaf::Decision;
use quotary_common::reason::Reason;
use quotary_common::wire::{Nothing, RevocationRequest, RevokeHost, Right, ShowAppraisal, ShowResult, ShowResultKeys};
use quotary_tests::host::{Candidate, DrivenHost, Operator, reason_of, request};
use quotary_tests::world::{Options, World};
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
