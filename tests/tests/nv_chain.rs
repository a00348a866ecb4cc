//! EK certificate chains in the NV memory of a real (software) TPM: what stands in 0x01c00100 and after certifies a host,
//! and what is odd there costs nobody an enrolment.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use quotary_common::limits::EK_CHAIN_MAX;
use quotary_tests::host::{Candidate, Operator, Rogue};
use quotary_tests::world::{Options, World};

/// The first NV index of a chain (TCG EK Credential Profile 2.5, 2.2.1.5.2).
const CHAIN: u32 = 0x01c0_0100;

/// A verifier that is told of the site's root only: the issuer of the EK certificates must come from elsewhere.
fn scene() -> (World, Operator, Vec<u8>) {
    let mut world = World::new(Options::quick(0)).unwrap();
    let kept = world.path("site-ca/var/lib/swtpm-localca");
    let config = fs::read_to_string(world.verifier_config()).unwrap();
    let bundle = format!("{:?}", world.path("site-ca/site-ca.pem"));
    let root = format!("{:?}", kept.join("swtpm-localca-rootca-cert.pem"));
    assert!(config.contains(&bundle));
    fs::write(world.verifier_config(), config.replace(&bundle, &root)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let (_, issuer) = x509_parser::pem::parse_x509_pem(&fs::read(kept.join("issuercert.pem")).unwrap()).unwrap();
    (world, operator, issuer.contents)
}

/// A host that has yet to enrol, with these bytes in the chain's indices, each at its place after the first.
async fn candidate(operator: &Operator, name: &str, indices: &[(u32, &[u8])]) -> Candidate {
    let mut candidate = operator.candidate(name).await.unwrap();
    candidate.tpm.handle().await.unwrap();
    candidate.tpm.stop().await.unwrap();
    let mut maker = Rogue::open(&candidate.tpm).unwrap();
    for (place, bytes) in indices {
        maker.define_nv(CHAIN + place, bytes).unwrap();
    }
    // TPM2_NV_Write is durable when it answers.
    drop(maker);
    candidate
}

/// The zone in which a host with these indices ends up, and how many certificates its agent sent.
async fn zone(operator: &Operator, name: &str, indices: &[(u32, &[u8])]) -> (String, usize) {
    let mut candidate = candidate(operator, name, indices).await;
    let sent = candidate.request().await.unwrap().ek_certificates.len();
    let mut host = candidate.enrol().await.unwrap();
    host.attest().await.unwrap();
    (operator.view(&host.id).await.unwrap().zone.unwrap(), sent)
}

#[test]
fn an_issuer_that_stands_only_in_nv_certifies_the_host() {
    let (world, operator, issuer) = scene();
    world.runtime().block_on(async {
        assert_eq!(zone(&operator, "bare", &[]).await, ("joined".to_owned(), 1), "nothing leads to the root");
        let chained = zone(&operator, "chained", &[(0, &issuer)]).await;
        assert_eq!(chained, ("measured".to_owned(), 2));
        // The profile has the indices hold one sequence: a certificate may go on in the next.
        let (front, back) = issuer.split_at(700);
        let split = zone(&operator, "split", &[(0, front), (1, back)]).await;
        assert_eq!(split, ("measured".to_owned(), 2));
    });
}

#[test]
fn what_is_odd_in_the_indices_stops_nobody() {
    let (world, operator, issuer) = scene();
    world.runtime().block_on(async {
        let no_certificate = [0x30, 3, 2, 1, 5];
        let text = b"no certificate".as_slice();
        let odd = zone(&operator, "odd", &[(0, text), (1, &no_certificate)]).await;
        assert_eq!(odd, ("joined".to_owned(), 2), "it enrols, but nothing certifies it");
        let never_written = [].as_slice();
        let indices = [(0, text), (1, &no_certificate), (2, never_written), (0xff, &issuer)];
        assert_eq!(zone(&operator, "chained", &indices).await, ("measured".to_owned(), 3));
        let spare: Vec<(u32, &[u8])> = (0..10).map(|place| (place, issuer.as_slice())).collect();
        assert_eq!(zone(&operator, "spare", &spare).await, ("measured".to_owned(), EK_CHAIN_MAX));
    });
}
