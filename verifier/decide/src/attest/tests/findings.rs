//! What is told of a host's logs, and what is kept of it between evidences.

use std::collections::BTreeSet;

use quotary_common::reason::Reason;

use super::super::{BootRequirement, LogFinding, Measured, OnUnknown, Zones, measure};
use super::logs::{BOOT_LOG, Case, IMA_LIST, Logs, allowing, booted, name, some_path, values, zone, zones};
use super::scene::Scene;
use crate::eventlog::{Bank, EventLog, ProblemCode, secure_boot};
use crate::ima::{self, AllowList, Entries, ListForm, SignerKeys};

/// Nothing is allowed, and this path is required.
fn requiring(path: &str) -> ima::Reference {
    let required = vec![path.as_bytes().to_vec()];
    ima::Reference::new(AllowList::new(vec![]).unwrap(), SignerKeys::default(), vec![], required).unwrap()
}

/// Codes of the findings that are kept of the list.
fn kept(measured: &Measured) -> Vec<&LogFinding> {
    measured.held().ima_findings.iter().collect()
}

#[test]
fn every_way_in_which_a_list_proves_nothing_says_what_to_do() {
    let only =
        |reference| Zones::with_ima(vec![zone("measured", None, Some(OnUnknown::Shrink))], Some(reference)).unwrap();
    let told = |ima, zones: Zones| {
        let mut case = Case::new(zones);
        let evidence = case.verified(&Logs { boot: None, ima, ..Logs::whole() });
        let finding = measure(None, &evidence, &case.zones).ima_unproven().unwrap();
        (finding.code.as_str().to_owned(), finding.detail.as_str().to_owned())
    };
    let half = IMA_LIST[..IMA_LIST.len() / 2].to_vec();
    for (ima, code, detail) in [
        (None, "ima-missing", "boot with ima_policy=tcb"),
        (Some((0, half.clone(), true)), "ima-behind", "the list goes on"),
        (Some((9, vec![], true)), "ima-offset", "wanted from another offset"),
        (Some((0, half, false)), "ima-pcr-mismatch", "entries replay to"),
    ] {
        let found = told(ima, only(allowing("")));
        assert!(found.0 == code && found.1.contains(detail), "{found:?}");
    }
    // The zones changed since the quote was asked for.
    let scene = Scene::new();
    let evidence = scene.judge(&scene.sign(&scene.draft()).to_bytes()).unwrap();
    let finding = measure(None, &evidence, &only(allowing(""))).ima_unproven().unwrap();
    assert_eq!(finding.code.as_str(), "ima-not-quoted");
    assert!(finding.detail.as_str().contains("add it to the zone's pcrs"), "{finding:?}");
}

#[test]
fn a_file_that_must_run_and_did_not_counts_with_those_that_may_not() {
    let mut case = Case::new(zones(booted(), OnUnknown::Shrink, allowing("")));
    case.zones = zones(booted(), OnUnknown::Shrink, {
        let all = allowing(&some_path());
        let required = vec![b"/usr/bin/never-run".to_vec()];
        ima::Reference::new(all.allowed().clone(), SignerKeys::default(), vec![], required).unwrap()
    });
    let (measured, appraisal) = case.next(&Logs::whole());
    let (first, count) = measured.ima_unknown().unwrap();
    assert_eq!((first.code.as_str(), count), ("ima-unknown-file", kept(&measured).len() as u64 + 1));
    let detail = appraisal.reasons[0].detail.as_str();
    assert!(detail.ends_with(&format!(" ({} more)", count - 1)), "{detail}");
    let mut case = Case::new(zones(booted(), OnUnknown::Shrink, {
        let required = vec![b"/usr/bin/never-run".to_vec()];
        ima::Reference::new(allowing("").allowed().clone(), SignerKeys::default(), vec![], required).unwrap()
    }));
    let (reason, detail) = case.why(&Logs::whole());
    assert!(reason == Reason::Ima && detail.ends_with("ima-not-measured: /usr/bin/never-run"), "{detail}");
}

#[test]
fn findings_of_a_list_are_kept_over_its_increments_and_dropped_when_it_begins_anew() {
    // Two files that are not allowed, one in each half of the list.
    let mut at = 0;
    let mut paths = Vec::new();
    let mut entries = Entries::new(ListForm::BinarySha1, IMA_LIST);
    while let Some(entry) = entries.next() {
        let entry = entry.unwrap();
        paths.push((at, entry.measured().unwrap().path.to_vec()));
        at = entries.consumed();
    }
    let once = |path: &Vec<u8>| path.starts_with(b"/") && paths.iter().filter(|(_, other)| other == path).count() == 1;
    let cut = paths[paths.len() / 2].0;
    let early = paths.iter().find(|(_, path)| once(path)).unwrap().1.clone();
    let late = paths.iter().rfind(|(_, path)| once(path)).unwrap().1.clone();
    let all = allowing("");
    let files = all.allowed().iter().filter(|(path, _)| *path != early && *path != late);
    let files = files.map(|(path, digest)| (path.to_vec(), digest)).collect();
    let reference =
        || ima::Reference::new(AllowList::new(files).unwrap(), SignerKeys::default(), vec![], vec![]).unwrap();
    let mut case = Case::new(zones(booted(), OnUnknown::Warn, reference()));
    let details = |measured: &Measured| kept(measured).iter().map(|f| f.detail.as_str().to_owned()).collect::<Vec<_>>();
    let [early, late] = [early, late].map(|path| String::from_utf8(path).unwrap());
    let part = |offset: usize, bytes: &[u8], has_more| Logs {
        ima: Some((offset as u64, bytes.to_vec(), has_more)),
        ..Logs::whole()
    };
    let first = case.next(&part(0, &IMA_LIST[..cut], true)).0;
    assert_eq!(details(&first), [early.as_str()]);
    let second = case.next(&part(cut, &IMA_LIST[cut..], false)).0;
    assert_eq!(details(&second), [early.as_str(), &late]);
    let nothing_new = case.next(&part(IMA_LIST.len(), &[], false)).0;
    assert_eq!(details(&nothing_new), [early.as_str(), &late]);
    assert_eq!(nothing_new.ima_unknown().unwrap().1, 2);
    let again = case.next(&part(0, IMA_LIST, false)).0;
    assert_eq!(details(&again), [early.as_str(), &late], "told once, however often the list is sent");
    // Under another reference the list is wanted from its start, and nothing of the old one is said.
    case.zones = zones(booted(), OnUnknown::Warn, allowing(""));
    let anew = case.next(&part(IMA_LIST.len(), &[], false)).0;
    assert_eq!((details(&anew).len(), anew.is_ima_pending()), (0, true));
}

#[test]
fn each_zone_has_a_share_of_the_boot_findings_that_are_told() {
    let strict = || {
        let mut wanted = booted();
        wanted.stages.values_mut().for_each(BTreeSet::clear);
        wanted
    };
    let both = vec![zone("measured", Some(strict()), None), zone("second", Some(strict()), None)];
    let mut case = Case::new(Zones::new(both).unwrap());
    let (measured, _) = case.next(&Logs { ima: None, ..Logs::whole() });
    let boot = measured.held().boot.clone().unwrap();
    assert!(boot.zones.iter().all(|(_, count)| *count > 3), "{:?}", boot.zones);
    let shares = ["measured", "second"].map(|of| boot.findings.iter().filter(|(zone, _)| *zone == name(of)).count());
    assert_eq!(shares, [3, 3]);
}

#[test]
fn a_problem_of_a_log_keeps_a_host_out_unless_the_zone_accepts_it() {
    // The virtual machine's log up to its Exit Boot Services.
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let exit = log.events().iter().find(|event| event.data() == b"Exit Boot Services Invocation").unwrap();
    let bytes = BOOT_LOG[..exit.offset()].to_vec();
    let log = EventLog::parse(&bytes).unwrap();
    let accept: BTreeSet<_> =
        log.problems().iter().chain(&secure_boot(&log).problems).map(|problem| problem.code).collect();
    assert!(accept.contains(&ProblemCode::ExitBootServicesMissing));
    let replay = EventLog::parse(&bytes).unwrap().replay();
    let mut values = values();
    for value in values.iter_mut().take(10) {
        let replayed = replay.value(Bank::Sha256, value.index);
        value.value = replayed.map_or_else(|| vec![0; 32], |replayed| replayed.as_bytes().to_vec());
    }
    let logs = Logs { values, boot: Some(bytes.clone()), ima: None, ..Logs::whole() };
    for (accept, expected) in [(accept, "measured"), (BTreeSet::new(), "open")] {
        let wanted = BootRequirement { accept, ..BootRequirement::default() };
        let mut case =
            Case::new(Zones::new(vec![zone("measured", Some(wanted), None), zone("open", None, None)]).unwrap());
        assert_eq!(case.zone(&logs), expected);
    }
}

#[test]
fn a_file_that_nobody_allows_is_told_first() {
    let mut case = Case::new(zones(booted(), OnUnknown::Warn, requiring("/usr/bin/never-run")));
    let (measured, appraisal) = case.next(&Logs::whole());
    assert_eq!(appraisal.warnings[0].code.as_str(), "ima-unknown-file");
    assert_eq!(measured.ima_unknown().unwrap().1, measured.held().ima.unwrap().findings() + 1);
}
