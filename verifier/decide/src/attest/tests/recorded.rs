//! Dry runs: what is read of a host's kept evidence, and what cannot be known from it.

use super::super::{
    Appraisal, BootRequirement, DryRun, HeldLogs, LearnedReferences, OnUnknown, RecordedEvidence, Zone, Zones, measure,
};
use super::logs::{Case, IMA_LIST, Logs, allowing, booted, name, some_path, zone, zones};
use crate::ima;

/// A host that sent its logs, and then evidence with nothing new.
struct Kept {
    case: Case,
    evidence: [Vec<u8>; 2],
}

fn kept(zones: Zones) -> Kept {
    let nothing_new = Logs { boot: None, ima: Some((IMA_LIST.len() as u64, vec![], false)), ..Logs::whole() };
    kept_of(zones, [Logs::whole(), nothing_new])
}

/// A host that sent these logs.
fn kept_of(zones: Zones, logs: [Logs; 2]) -> Kept {
    let mut case = Case::new(zones);
    let evidence = logs.map(|logs| {
        let evidence = case.verified(&logs);
        case.held = Some(measure(case.held.as_ref(), &evidence, &case.zones).held().clone());
        case.scene.host.committed = evidence.committed();
        case.scene.clock_ms += 1000;
        evidence.evidence_bytes().to_vec()
    });
    Kept { case, evidence }
}

impl Kept {
    fn recorded(&self, index: usize) -> RecordedEvidence {
        RecordedEvidence::of(self.evidence[index].clone(), &self.case.scene.host).unwrap()
    }

    /// How the host stands by the last evidence and by those before it that are `needed`.
    fn tried(&self, zones: &Zones, needed: &[usize]) -> (Appraisal, Option<String>) {
        let mut run = DryRun::new(zones, &self.case.zones, self.case.held.as_ref());
        assert_eq!(run.ima_boot().is_some() || run.boot_evidence().is_some(), !needed.is_empty());
        for index in needed {
            run.take(self.recorded(*index));
        }
        run.take_last(self.recorded(1));
        let host = &self.case.scene.host;
        let appraisal = run.outcome(host, &LearnedReferences::new()).unwrap();
        let unrecorded = run.unrecorded(host, Some("measured"), &appraisal);
        (appraisal, unrecorded)
    }
}

fn of_ima(reference: ima::Reference) -> Zones {
    Zones::with_ima(vec![zone("measured", None, Some(OnUnknown::Shrink)), zone("open", None, None)], Some(reference))
        .unwrap()
}

#[test]
fn an_ima_list_that_the_same_reference_judged_is_not_read_again() {
    let kept = kept(of_ima(allowing("")));
    let (appraisal, unrecorded) = kept.tried(&of_ima(allowing("")), &[]);
    assert_eq!((appraisal.zone, unrecorded), (Some(name("measured")), None));
}

#[test]
fn what_the_last_evidence_brought_of_a_known_list_is_not_taken_twice() {
    let half = IMA_LIST.len() / 2;
    let whole = || Logs { boot: None, ..Logs::whole() };
    let first = Logs { ima: Some((0, IMA_LIST[..half].to_vec(), true)), ..whole() };
    let mut case = Case::new(of_ima(allowing("")));
    case.next(&first);
    let taken = usize::try_from(case.held.unwrap().ima.unwrap().offset_bytes()).unwrap();
    let rest = Logs { ima: Some((taken as u64, IMA_LIST[taken..].to_vec(), false)), ..whole() };
    let kept = kept_of(of_ima(allowing("")), [first, rest]);
    assert!(taken > 0 && RecordedEvidence::brings_ima(&kept.evidence[1], Logs::whole().reset_count));
    let (appraisal, unrecorded) = kept.tried(&of_ima(allowing("")), &[]);
    assert_eq!((appraisal.zone, appraisal.pending, unrecorded), (Some(name("measured")), vec![], None));
}

#[test]
fn a_list_of_which_nothing_was_taken_is_refused_again() {
    let false_list =
        Logs { boot: None, ima: Some((0, IMA_LIST[..IMA_LIST.len() / 2].to_vec(), false)), ..Logs::whole() };
    let kept = kept_of(of_ima(allowing("")), [false_list.clone(), false_list]);
    assert_eq!(kept.case.held.as_ref().unwrap().ima.unwrap().entries(), 0);
    let (appraisal, unrecorded) = kept.tried(&of_ima(allowing("")), &[]);
    assert!(appraisal.reasons[0].detail.as_str().contains("ima-pcr-mismatch"), "{appraisal:?}");
    assert_eq!((appraisal.zone, appraisal.pending, unrecorded), (Some(name("open")), vec![], None));
}

#[test]
fn what_is_known_to_have_run_is_told_by_its_name() {
    let path = some_path();
    let kept = kept(of_ima(allowing(&path)));
    let (appraisal, unrecorded) = kept.tried(&of_ima(allowing(&path)), &[]);
    assert!(appraisal.reasons[0].detail.as_str().contains("ima-unknown-file, event "), "{appraisal:?}");
    assert!(appraisal.reasons[0].detail.as_str().contains(&path), "{appraisal:?}");
    assert_eq!((appraisal.zone, unrecorded), (Some(name("open")), None));
}

#[test]
fn an_ima_list_is_read_again_for_another_reference() {
    let kept = kept(of_ima(allowing("")));
    let files: Vec<_> = ima::Entries::new(ima::ListForm::BinarySha1, IMA_LIST)
        .map(|entry| entry.unwrap().measured().unwrap().path.to_vec())
        .filter(|path| path.starts_with(b"/"))
        .collect();
    let other = of_ima(allowing(std::str::from_utf8(&files[0]).unwrap()));
    let (appraisal, unrecorded) = kept.tried(&other, &[0]);
    assert_eq!((appraisal.zone, unrecorded), (Some(name("open")), None));
    let reset_count = Logs::whole().reset_count;
    let brings = |index: usize, boot| RecordedEvidence::brings_ima(&kept.evidence[index], boot);
    assert!(brings(0, reset_count) && !brings(0, reset_count + 1), "another boot's");
    assert!(!brings(1, reset_count), "nothing new is in it");
}

#[test]
fn a_boot_log_is_found_in_the_evidence_that_brought_it() {
    let both = || zones(booted(), OnUnknown::Shrink, allowing(""));
    let kept = kept(both());
    let run = DryRun::new(&kept.case.zones, &kept.case.zones, kept.case.held.as_ref());
    assert_eq!(run.boot_evidence(), Some(quotary_common::evidence::Evidence::digest(&kept.evidence[0])));
    assert_eq!(run.ima_boot(), None);
    let (appraisal, unrecorded) = kept.tried(&both(), &[0]);
    assert_eq!((appraisal.zone, unrecorded), (Some(name("measured")), None));
}

#[test]
fn what_the_zones_in_force_do_not_ask_for_cannot_be_known() {
    let plain = |pcrs: &str| Zone { pcr_selection: pcrs.parse().unwrap(), ..zone("measured", None, None) };
    let all = "sha256:0,1,2,3,4,5,6,7,8,9,10";
    let kept = kept(Zones::new(vec![plain(all), zone("open", None, None)]).unwrap());
    let told = |zones: Vec<Zone>| kept.tried(&Zones::with_ima(zones, Some(allowing(""))).unwrap(), &[]).1;
    assert_eq!(told(vec![plain(all)]), None);
    let boot = told(vec![zone("measured", Some(booted()), None)]).unwrap();
    assert!(boot.contains("do not ask for a boot log, so none"), "{boot}");
    let ima = told(vec![zone("measured", None, Some(OnUnknown::Warn))]).unwrap();
    assert!(ima.contains("an IMA list"), "{ima}");
    let pcr = told(vec![plain("sha256:0,11")]).unwrap();
    assert!(pcr.contains("PCR 11 of bank 0x000b"), "{pcr}");
    let mut measured = zone("measured", Some(booted()), None);
    measured.pcr_selection = "sha256:0,1,2,3,4,5,6,7,8,9,11".parse().unwrap();
    let measured = told(vec![measured]).unwrap();
    assert!(measured.contains("PCR 11") && measured.contains("a measure log"), "{measured}");
}

#[test]
fn a_pcr_that_was_never_quoted_is_missing_in_the_zone_that_the_host_would_enter_too() {
    let kept = kept(zones(booted(), OnUnknown::Shrink, allowing("")));
    let mut measured = zone("measured", Some(booted()), None);
    measured.pcr_selection = "sha256:0,1,2,3,4,5,6,7,8,9,11".parse().unwrap();
    let (appraisal, unrecorded) = kept.tried(&Zones::new(vec![measured]).unwrap(), &[0]);
    assert_eq!(appraisal.zone, Some(name("measured")), "what was quoted satisfies it");
    assert!(unrecorded.unwrap().contains("do not ask for PCR 11 of bank 0x000b, so none"));
}

/// How the host stands in `tried` after its last evidence, and what cannot be known of that.
fn after_a_change(
    kept: &Kept,
    held: Option<&HeldLogs>,
    (in_force, tried): (&Zones, &Zones),
) -> (String, Option<String>) {
    let mut run = DryRun::new(tried, in_force, held);
    run.take_last(kept.recorded(1));
    let host = &kept.case.scene.host;
    let appraisal = run.outcome(host, &LearnedReferences::new()).unwrap();
    (appraisal.reasons[0].detail.as_str().to_owned(), run.unrecorded(host, None, &appraisal))
}

#[test]
fn a_log_that_a_host_was_asked_for_and_did_not_send_is_known_to_be_missing() {
    let asking = |boot| zones(boot, OnUnknown::Warn, allowing(""));
    let unlogged = || Logs { boot: None, ima: None, ..Logs::whole() };
    let kept = kept_of(asking(booted()), [unlogged(), unlogged()]);
    let (held, in_force) = (kept.case.held.as_ref(), &kept.case.zones);
    assert!(held.unwrap().boot.is_none());
    let (why, unrecorded) = after_a_change(&kept, held, (in_force, &asking(booted())));
    assert!(why.contains("boot-log-missing") && unrecorded.is_none(), "{why} {unrecorded:?}");
    // Of zones that came into force since its last evidence, and of a host of which nothing is known, it is not.
    let since = asking(BootRequirement::default());
    for (held, in_force) in [(held, &since), (None, in_force)] {
        let (_, unrecorded) = after_a_change(&kept, held, (in_force, &asking(booted())));
        assert!(unrecorded.unwrap().contains("do not ask for a boot log, an IMA list, so none"));
    }
}

#[test]
fn what_a_host_sent_under_earlier_zones_is_there() {
    let kept = kept(zones(booted(), OnUnknown::Warn, allowing("")));
    let since = zones(BootRequirement::default(), OnUnknown::Warn, allowing(""));
    let tried = Zones::new(vec![zone("measured", Some(booted()), None)]).unwrap();
    // Its boot log is in the evidence before, which is not read here.
    let (why, unrecorded) = after_a_change(&kept, kept.case.held.as_ref(), (&since, &tried));
    assert!(why.contains("boot-log-missing") && unrecorded.is_none(), "{why} {unrecorded:?}");
}

#[test]
fn a_host_that_stays_in_its_zone_does_so_whatever_a_better_one_asks() {
    let kept = kept(of_ima(allowing("")));
    let tried = Zones::new(vec![zone("better", Some(booted()), None), zone("measured", None, None)]).unwrap();
    let mut run = DryRun::new(&tried, &kept.case.zones, kept.case.held.as_ref());
    run.take_last(kept.recorded(1));
    let mut host = kept.case.scene.host.clone();
    host.best_zone = name("better");
    let appraisal = run.outcome(&host, &LearnedReferences::new()).unwrap();
    assert_eq!(appraisal.zone, Some(name("measured")));
    assert_eq!(run.unrecorded(&host, Some("measured"), &appraisal), None);
    assert!(run.unrecorded(&host, Some("elsewhere"), &appraisal).is_some(), "it may be in the better one");
    host.is_listed = false;
    let appraisal = run.outcome(&host, &LearnedReferences::new()).unwrap();
    assert_eq!(run.unrecorded(&host, Some("measured"), &appraisal), None, "no zone was tried");
}
