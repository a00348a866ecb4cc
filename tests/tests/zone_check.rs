//! Zones are tried on recorded evidence before they are in force.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::reason::Reason;
use quotary_common::wire::{
    Base64, CheckZones, NamedFile, RevocationRequest, RevokeHost, TaughtZone, ZoneCheckOutcome, ZoneCheckReply,
    ZoneCheckRequest, ZoneCheckView,
};
use quotary_tests::host::{Operator, reason_of};
use quotary_tests::world::{Options, World};

async fn tried(operator: &Operator, candidate: &str, files: &[(&str, &[u8])]) -> ZoneCheckReply {
    let files = files.iter().map(|(name, bytes)| NamedFile { name: (*name).to_owned(), bytes: Base64(bytes.to_vec()) });
    let request = ZoneCheckRequest {
        candidate: candidate.to_owned(),
        files: files.collect(),
        hosts: Vec::new(),
        learned: Vec::new(),
    };
    operator.client.call::<CheckZones>(&[], &request).await.unwrap()
}

fn only(reply: ZoneCheckReply) -> ZoneCheckView {
    assert_eq!((reply.faults.as_slice(), reply.hosts.len()), (&[][..], 1));
    reply.hosts.into_iter().next().unwrap()
}

#[test]
fn zones_are_tried_on_recorded_evidence_and_nothing_changes() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let in_force = std::fs::read_to_string(world.path("verifier.toml")).unwrap();
    world.runtime().block_on(async {
        let mut host = operator.candidate("a").await.unwrap().enrol().await.unwrap();
        let new = only(tried(&operator, &in_force, &[]).await);
        assert_eq!(new.outcome, ZoneCheckOutcome::Unknown);
        assert!(new.unknown.unwrap().contains("no evidence"));

        host.attest().await.unwrap();
        let zone = operator.view(&host.id).await.unwrap().zone.unwrap();
        let leaves = operator.leaves(0).await.unwrap().len();
        // The whole of the configuration in force: what is no zone does not count.
        let same = only(tried(&operator, &in_force, &[]).await);
        assert_eq!((same.outcome, same.zone_then.as_deref()), (ZoneCheckOutcome::Stays, Some(zone.as_str())));
        assert!(!same.teaches, "the zone has learned from this host already");

        let ones = "11".repeat(32);
        let sealed = format!("[[zone]]\nname = \"{zone}\"\npcrs = \"sha256:0\"\nreference = {{ \"sha256:0\" = \"{ones}\" }}\n");
        let out = only(tried(&operator, &sealed, &[]).await);
        assert_eq!((out.outcome, out.zone_then), (ZoneCheckOutcome::Leaves, None));
        assert_eq!(out.failed[0].reason.code(), "pcr-reference");

        let below = format!("{sealed}[[zone]]\nname = \"below\"\npcrs = \"sha256:1\"\n");
        let below = only(tried(&operator, &below, &[]).await);
        assert_eq!(below.outcome, ZoneCheckOutcome::Leaves, "a zone learns nothing from a host that failed a better one");

        let measured = format!("[[zone]]\nname = \"{zone}\"\npcrs = \"sha256:0,1,2,3,4,5,6,7,8,9\"\n[zone.boot]\nsecure_boot = true\n");
        let unlogged = only(tried(&operator, &measured, &[]).await);
        assert_eq!((unlogged.outcome, unlogged.zone_then), (ZoneCheckOutcome::Unknown, None));
        let why = unlogged.unknown.unwrap();
        assert!(why.contains("a boot log") && why.contains("put the zone in force below the others first"), "{why}");

        let ima = format!(
            "[[zone]]\nname = \"{zone}\"\npcrs = \"sha256:0,1,11\"\nima_on_unknown = \"what\"\n[ima]\nallow = [\"none.txt\", \"bad.txt\"]\n"
        );
        let faulty = tried(&operator, &ima, &[("bad.txt", b"no line of a list")]).await;
        assert!(faulty.hosts.is_empty());
        for fault in ["none.txt", "bad.txt", "ima_on_unknown"] {
            assert!(faulty.faults.iter().any(|told| told.contains(fault)), "{fault}: {:?}", faulty.faults);
        }

        assert_eq!(operator.view(&host.id).await.unwrap().zone, Some(zone));
        assert_eq!(operator.leaves(0).await.unwrap().len(), leaves);
        host.attest().await.unwrap();
    });
}

#[test]
fn what_one_call_teaches_holds_for_the_next_and_a_revoked_host_enters_nothing() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    world.runtime().block_on(async {
        let mut host = operator.candidate("a").await.unwrap().enrol().await.unwrap();
        host.attest().await.unwrap();
        let best = operator.view(&host.id).await.unwrap().zone.unwrap();
        // No software TPM is in the first, and the second has learned nothing in truth.
        let candidate = format!(
            "[[zone]]\nname = \"{best}\"\npcrs = \"sha256:0\"\nrequire_hardware_tpm = true\n\
             [[zone]]\nname = \"fresh\"\npcrs = \"sha256:0\"\n"
        );
        let client = &operator.client;
        let ask = async |learned: Vec<TaughtZone>| {
            let request =
                ZoneCheckRequest { candidate: candidate.clone(), files: Vec::new(), hosts: Vec::new(), learned };
            client.call::<CheckZones>(&[], &request).await
        };
        let first = ask(Vec::new()).await.unwrap();
        let taught = first.learned.clone();
        let view = only(first);
        assert_eq!((view.outcome, view.zone_then.as_deref()), (ZoneCheckOutcome::Moves, Some("fresh")), "{view:?}");
        assert!(view.teaches && taught.len() == 1 && taught[0].zone == "fresh", "{taught:?}");
        let second = ask(taught.clone()).await.unwrap();
        assert_eq!(second.learned, taught, "for the call after that");
        let second = only(second);
        assert_eq!((second.outcome, second.teaches), (ZoneCheckOutcome::Moves, false), "another host taught it");
        let mut other = taught.clone();
        *other[0].values.0.last_mut().unwrap() ^= 1;
        let third = only(ask(other).await.unwrap());
        assert_eq!(third.outcome, ZoneCheckOutcome::Leaves);
        assert!(third.failed.iter().any(|failed| failed.reason == Reason::PcrReference), "{:?}", third.failed);
        let mut cut = taught;
        cut[0].values.0.pop();
        assert_eq!(reason_of(&ask(cut).await), Some(Reason::Malformed));

        let body = RevocationRequest { why: "its disk was sold".to_owned() };
        client.call::<RevokeHost>(&[&host.id.hex()], &body).await.unwrap();
        let revoked = only(ask(Vec::new()).await.unwrap());
        assert_eq!((revoked.outcome, revoked.zone_then), (ZoneCheckOutcome::StaysOut, None));
        assert_eq!(revoked.failed[0].reason, Reason::Revoked);
        assert!(revoked.failed[0].detail.contains("its disk was sold") && !revoked.teaches);
    });
}
