//! Zones: the best that holds, what is learned, and who may enter where.

use quotary_common::envelope::Name;
use quotary_common::evidence::PcrValue;
use quotary_common::id::Digest;
use quotary_common::reason::Reason;

use super::super::{
    Appraisal, LearnedReferences, OnUnknown, Reference, VerifiedEvidence, Zone, Zones, ZonesError, appraise, measure,
};
use super::scene::Scene;
use crate::ima::SignerKeys;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn zone(text: &str, pcrs: &str, require_ek_certificate: bool, reference: Reference) -> Zone {
    Zone {
        name: name(text),
        pcr_selection: pcrs.parse().unwrap(),
        require_ek_certificate,
        require_hardware_tpm: false,
        reference,
        boot: None,
        ima: None,
    }
}

fn values(indices: &[u8]) -> Vec<PcrValue> {
    indices.iter().map(|index| PcrValue { hash_alg: 0x0B, index: *index, value: vec![*index; 32] }).collect()
}

/// Best first: fixed values of PCRs 0 and 7, then learned ones of 0 to 7.
fn zones(fixed: Vec<PcrValue>) -> Zones {
    Zones::new(vec![
        zone("sealed", "sha256:0,7", true, Reference::Values(fixed)),
        zone("open", "sha256:0,1,2,3,4,5,6,7", false, Reference::Learn),
    ])
    .unwrap()
}

struct Case {
    scene: Scene,
    evidence: VerifiedEvidence,
    learned: LearnedReferences,
}

impl Case {
    fn new() -> Self {
        let mut scene = Scene::new();
        scene.host.best_zone = name("sealed");
        let evidence = scene.judge(&scene.sign(&scene.draft()).to_bytes()).unwrap();
        Self { scene, evidence, learned: LearnedReferences::new() }
    }
    fn appraise(&self, zones: &Zones) -> Appraisal {
        let measured = measure(None, &self.evidence, zones);
        appraise(&self.evidence, &measured, &self.scene.host, zones, &self.learned)
    }
}

#[test]
fn a_host_is_in_the_best_zone_that_it_satisfies() {
    let mut case = Case::new();
    let appraisal = case.appraise(&zones(values(&[0, 7])));
    assert_eq!(
        appraisal,
        Appraisal {
            zone: Some(name("sealed")),
            reasons: vec![],
            learned: None,
            warnings: vec![],
            revoke: None,
            pending: vec![]
        }
    );
    let mut wrong = values(&[0, 7]);
    wrong[1].value[31] ^= 1;
    let untaught = case.appraise(&zones(wrong.clone()));
    assert_eq!((untaught.zone.as_ref(), untaught.learned.as_ref()), (None, None), "it must not teach a lower zone");
    assert_eq!(untaught.refusal().unwrap().reason, Reason::PcrReference);
    case.learned.insert(name("open"), values(&[0, 1, 2, 3, 4, 5, 6, 7]));
    let appraisal = case.appraise(&zones(wrong));
    assert_eq!(appraisal.zone, Some(name("open")));
    assert_eq!(appraisal.reasons.len(), 1);
    assert_eq!(appraisal.reasons[0].reason, Reason::PcrReference);
    assert!(appraisal.reasons[0].detail.as_str().contains("PCR 7 of bank 0x000b is 0707"), "{:?}", appraisal.reasons);
    assert!(appraisal.refusal().is_none());
}

#[test]
fn the_first_host_teaches_a_zone_and_later_ones_must_match() {
    let mut case = Case::new();
    case.scene.host.best_zone = name("open");
    let zones = zones(values(&[0, 7]));
    let (taught, learned) = case.appraise(&zones).learned.unwrap();
    assert_eq!((taught.as_str(), learned.as_slice()), ("open", &values(&[0, 1, 2, 3, 4, 5, 6, 7])[..]));
    case.learned.insert(taught.clone(), learned);
    let again = case.appraise(&zones);
    assert_eq!((again.zone, again.learned), (Some(taught.clone()), None));
    case.learned.get_mut(&taught).unwrap()[4].value[0] = 99;
    let other = case.appraise(&zones);
    assert_eq!((other.zone.as_ref(), other.learned.as_ref()), (None, None));
    assert_eq!(other.refusal().unwrap().reason, Reason::PcrReference);
    case.learned.get_mut(&taught).unwrap().remove(4);
    assert_eq!(case.appraise(&zones).refusal().unwrap().reason, Reason::PcrReference, "a reference that lacks a PCR");
}

#[test]
fn admission_bounds_the_zone_from_above() {
    let mut case = Case::new();
    case.scene.host.best_zone = name("open");
    assert_eq!(case.appraise(&zones(values(&[0, 7]))).zone, Some(name("open")));
    case.scene.host.best_zone = name("gone");
    assert_eq!(case.appraise(&zones(values(&[0, 7]))).refusal().unwrap().reason, Reason::Zone);
}

#[test]
fn a_host_whose_ek_is_taken_off_the_list_is_in_no_zone() {
    let mut case = Case::new();
    assert!(case.appraise(&zones(values(&[0, 7]))).zone.is_some());
    case.scene.host.is_listed = false;
    let appraisal = case.appraise(&zones(values(&[0, 7])));
    assert_eq!((appraisal.zone.as_ref(), appraisal.refusal().unwrap().reason), (None, Reason::Zone));
}

#[test]
fn a_host_whose_ek_nobody_certified_enters_the_lowest_zone_only() {
    let mut case = Case::new();
    case.scene.host.ek_certified = false;
    let appraisal = case.appraise(&zones(values(&[0, 7])));
    assert_eq!((appraisal.zone, appraisal.reasons[0].reason), (Some(name("open")), Reason::Zone));
    let three = Zones::new(vec![
        zone("sealed", "sha256:0", false, Reference::Learn),
        zone("middle", "sha256:0", false, Reference::Learn),
        zone("lowest", "sha256:0", true, Reference::Learn),
    ]);
    let appraisal = case.appraise(&three.unwrap());
    assert_eq!((appraisal.zone.as_ref(), appraisal.reasons.len()), (None, 3));
    assert_eq!(appraisal.refusal().unwrap().reason, Reason::Zone);
}

#[test]
fn what_was_not_quoted_satisfies_no_zone() {
    let mut case = Case::new();
    case.scene.host.best_zone = name("wide");
    let wide = Zones::new(vec![zone("wide", "sha256:0,10", false, Reference::Learn)]).unwrap();
    let appraisal = case.appraise(&wide);
    assert_eq!((appraisal.zone.as_ref(), appraisal.learned.as_ref()), (None, None));
    assert_eq!(appraisal.refusal().unwrap().reason, Reason::PcrSelection);
}

#[test]
fn zones_that_cannot_be_are_refused_and_a_quote_must_cover_all_of_them() {
    assert_eq!(Zones::new(vec![]), Err(ZonesError::Empty));
    let open = || zone("open", "sha256:0", false, Reference::Learn);
    assert_eq!(Zones::new(vec![open(), open()]), Err(ZonesError::Twice(name("open"))));
    for wrong in [values(&[0]), values(&[0, 7, 8]), values(&[0, 8]), values(&[0, 7, 7])] {
        let fixed = zone("sealed", "sha256:0,7", true, Reference::Values(wrong));
        assert_eq!(Zones::new(vec![fixed]), Err(ZonesError::Values(name("sealed"))));
    }
    assert_eq!(zones(values(&[0, 7])).required_selection().to_string(), "sha256:0,1,2,3,4,5,6,7");
}

#[test]
fn two_configurations_are_the_same_when_zones_and_allowed_files_are() {
    let ima = |path: &[u8]| {
        let files = crate::ima::AllowList::new(vec![(path.to_vec(), Digest::new([1; 32]))]).unwrap();
        crate::ima::Reference::new(files, SignerKeys::new(vec![]).unwrap(), vec![], vec![]).unwrap()
    };
    let with = |pcrs: &str, path: &[u8]| {
        let zone = Zone { ima: Some(OnUnknown::Warn), ..zone("measured", pcrs, false, Reference::Learn) };
        Zones::with_ima(vec![zone], Some(ima(path))).unwrap()
    };
    let one = with("sha256:0,10", b"/bin/a");
    assert_eq!(one, with("sha256:0,10", b"/bin/a"));
    assert_ne!(one, with("sha256:1,10", b"/bin/a"), "another zone");
    assert_ne!(one, with("sha256:0,10", b"/bin/b"), "other files");
    assert!(!one.ask_boot_log() && one.ima_reference().is_some());
}
