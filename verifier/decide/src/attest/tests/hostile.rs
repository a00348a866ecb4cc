//! Whatever bytes come, nothing panics; and of evidence that holds, no other bytes hold.

use proptest::prelude::*;

use super::super::{
    Authority, EnrolmentClaim, Prechecked, TpmKind, TrustRoots, check_enrolment, verify, verify_out_of_order,
};
use super::authority::NOW_S;
use super::data;
use super::scene::Scene;
use quotary_common::id::Digest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_changed_byte_of_evidence_verifies(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let scene = Scene::new();
        let good = scene.sign(&scene.draft()).to_bytes();
        prop_assert!(scene.judge(&good).is_ok());
        let mut bytes = good.clone();
        for (at, flip) in edits {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        prop_assume!(bytes != good);
        match scene.precheck(&bytes) {
            Err(_) => {}
            Ok(Prechecked::Next(next)) => prop_assert!(verify(*next, &scene.host, &scene.required).is_err()),
            Ok(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn arbitrary_evidence_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let scene = Scene::new();
        prop_assert!(scene.precheck(&bytes).is_err());
    }

    #[test]
    fn a_changed_replay_is_never_a_fork(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut scene = Scene::new();
        let mut bytes = scene.advance();
        scene.advance();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(Prechecked::OutOfOrder(evidence)) = scene.precheck(&bytes) {
            let committed = Some(Digest::of(&[b"another"]));
            let refusal = verify_out_of_order(&evidence, &scene.host, committed);
            // PCR values stand outside of what a fork is judged by, so only they may change.
            prop_assert!(!refusal.reason.raises_epoch() || at_is_in_values(&bytes, at), "byte {}", at);
        }
    }

    #[test]
    fn no_changed_byte_of_a_chain_certifies_and_none_of_a_key_panics(
        edits in prop::collection::vec((0_usize..4, any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let paths = ["swtpm/p384/ek.der", "swtpm/issuer.der", "swtpm/p384/ek.public", "swtpm/p384/ak.public"];
        let good = paths.map(data);
        let mut parts = good.clone();
        for (part, at, flip) in edits {
            let at = at.index(parts[part].len());
            parts[part][at] ^= flip;
        }
        let chain_changed = (0..2).any(|part| signed(&good[part], &parts[part]) != signed(&good[part], &good[part]));
        let [leaf, issuer, ek_public, ak_public] = parts;
        let claim = EnrolmentClaim {
            ek_public: &ek_public,
            ek_certificates: &[leaf, issuer],
            ak_public: &ak_public,
            claimed_host: None,
            tls_key: Digest::of(&[b"t"]),
        };
        let root = Authority { certificate: data("swtpm/root.der"), kind: TpmKind::Software };
        let checked = check_enrolment(&claim, &TrustRoots::new(vec![root]).unwrap(), NOW_S);
        prop_assert!(!chain_changed || checked.is_err() || checked.is_ok_and(|it| it.certified_by().is_none()));
    }
}

/// What the issuer vouches for in `bytes`, at the places of a `good` certificate: the TBS part and the signature. The
/// reader is lenient about the tags between them, which nobody signs and nothing rests on.
fn signed<'a>(good: &[u8], bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (_, certificate) = X509Certificate::from_der(good).unwrap();
    let header = 4;
    let signature = good.len() - certificate.signature_value.data.len();
    (&bytes[header..header + certificate.tbs_certificate.as_ref().len()], &bytes[signature..])
}

/// Whether the byte belongs to the PCR values, the last field of evidence.
fn at_is_in_values(bytes: &[u8], at: usize) -> bool {
    // Eight values of 32 bytes, each after 8 bytes of map, keys, bank, index and length; before them the array.
    at > bytes.len() - 8 * (32 + 8) - 2
}
