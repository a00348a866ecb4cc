//! Logs beside a quote: a real boot log and a real IMA list, held against the PCRs that they replay to.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::cbor::BoundedBytes;
use quotary_common::envelope::Name;
use quotary_common::evidence::{EvidenceVersion, ImaForm, ImaIncrement, PcrValue};
use quotary_common::id::{BootId, Digest};
use quotary_common::reason::Reason;
use quotary_common::wire::LogsWanted;

use super::super::{
    Appraisal, BootRequirement, HeldLogs, LearnedReferences, Measured, OnUnknown, Reference, VerifiedEvidence, Zone,
    Zones, ZonesError, appraise, measure,
};
use super::scene::Scene;
use crate::eventlog::{Bank, EventLog, ProblemCode, Stage, boot_stages, secure_boot};
use crate::ima::{self, AllowList, Entries, ListForm, SignerKeys};

pub(super) const BOOT_LOG: &[u8] = include_bytes!("../../../../../tests/data/attestation/vm/binary_bios_measurements");
pub(super) const IMA_LIST: &[u8] =
    include_bytes!("../../../../../tests/data/attestation/vm/binary_runtime_measurements");
const SHA256: u16 = 0x000B;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// PCRs 0 to 10 as the virtual machine's TPM had them: what both logs replay to.
pub(super) fn values() -> Vec<PcrValue> {
    let replay = EventLog::parse(BOOT_LOG).unwrap().replay();
    let of_boot = |index| replay.value(Bank::Sha256, index).map_or_else(|| vec![0; 32], |v| v.as_bytes().to_vec());
    let mut values: Vec<PcrValue> =
        (0..10).map(|index| PcrValue { hash_alg: SHA256, index, value: of_boot(index) }).collect();
    values.push(PcrValue { hash_alg: SHA256, index: 10, value: pcr10(IMA_LIST).as_bytes().to_vec() });
    values
}

pub(super) fn pcr10(list: &[u8]) -> Digest {
    let mut state = ima::Aggregate::start(0, ListForm::BinarySha1, Digest::new([0; 32]));
    let mut entries = Entries::new(ListForm::BinarySha1, list);
    let mut at = 0;
    while let Some(entry) = entries.next() {
        state.extend(&entry.unwrap(), entries.consumed() - at);
        at = entries.consumed();
    }
    state.pcr10_sha256()
}

/// Every file of the list, but for `without`.
pub(super) fn allowing(without: &str) -> ima::Reference {
    let mut files = Vec::new();
    for entry in Entries::new(ListForm::BinarySha1, IMA_LIST) {
        let entry = entry.unwrap();
        let measured = entry.measured().unwrap();
        let digest = <[u8; 32]>::try_from(measured.digest.bytes).unwrap();
        if measured.path != without.as_bytes() && measured.path.starts_with(b"/") {
            files.push((measured.path.to_vec(), Digest::new(digest)));
        }
    }
    let list = AllowList::new(files).unwrap();
    ima::Reference::new(list, SignerKeys::new(vec![]).unwrap(), vec![], vec![]).unwrap()
}

/// What the virtual machine booted, blessed.
pub(super) fn booted() -> BootRequirement {
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let boot = secure_boot(&log);
    let mut stages: BTreeMap<Stage, BTreeSet<[u8; 32]>> = BTreeMap::new();
    for one in boot_stages(&log).measurements() {
        if matches!(one.stage, Stage::Firmware | Stage::BootApplication | Stage::Loader | Stage::CommandLine) {
            stages.entry(one.stage).or_default().insert(one.digest);
        }
    }
    let accept = log.problems().iter().chain(&boot.problems).map(|problem| problem.code).collect();
    BootRequirement { secure_boot: boot.state, stages, accept, userspace: None }
}

pub(super) fn zone(text: &str, boot: Option<BootRequirement>, ima: Option<OnUnknown>) -> Zone {
    let reference = if boot.is_some() { Reference::Replayed } else { Reference::Learn };
    Zone {
        name: name(text),
        pcr_selection: "sha256:0,1,2,3,4,5,6,7,8,9,10".parse().unwrap(),
        require_ek_certificate: false,
        require_hardware_tpm: false,
        reference,
        boot,
        ima,
    }
}

pub(super) fn zones(boot: BootRequirement, on_unknown: OnUnknown, reference: ima::Reference) -> Zones {
    let zones = vec![zone("measured", Some(boot), Some(on_unknown)), zone("open", None, None)];
    Zones::with_ima(zones, Some(reference)).unwrap()
}

/// What comes beside the quote.
#[derive(Clone)]
pub(super) struct Logs {
    pub(super) values: Vec<PcrValue>,
    pub(super) boot: Option<Vec<u8>>,
    pub(super) ima: Option<(u64, Vec<u8>, bool)>,
    pub(super) reset_count: u32,
}

impl Logs {
    pub(super) fn whole() -> Self {
        Self {
            values: values(),
            boot: Some(BOOT_LOG.to_vec()),
            ima: Some((0, IMA_LIST.to_vec(), false)),
            reset_count: 5,
        }
    }
}

pub(super) struct Case {
    pub(super) scene: Scene,
    pub(super) zones: Zones,
    pub(super) held: Option<HeldLogs>,
}

impl Case {
    pub(super) fn new(zones: Zones) -> Self {
        let mut scene = Scene::new();
        scene.host.best_zone = name("measured");
        scene.required = zones.required_selection();
        Self { scene, zones, held: None }
    }

    pub(super) fn verified(&mut self, logs: &Logs) -> VerifiedEvidence {
        let mut draft = self.scene.draft();
        draft.values = logs.values.clone();
        draft.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0x07, 0];
        draft.shape.reset_count = logs.reset_count;
        draft.digest_values();
        let mut evidence = self.scene.sign(&draft);
        evidence.boot_log = logs.boot.clone().and_then(BoundedBytes::new);
        evidence.ima = logs.ima.clone().map(|(offset_bytes, bytes, has_more)| ImaIncrement {
            form: ImaForm::BinarySha1,
            offset_bytes,
            bytes: BoundedBytes::new(bytes).unwrap(),
            has_more,
        });
        evidence.version = EvidenceVersion::of(evidence.boot_log.is_some() || evidence.ima.is_some(), false);
        self.scene.judge(&evidence.to_bytes()).unwrap()
    }

    /// Appraises the next evidence, and commits it if the host is in a zone.
    pub(super) fn next(&mut self, logs: &Logs) -> (Measured, Appraisal) {
        let evidence = self.verified(logs);
        let measured = measure(self.held.as_ref(), &evidence, &self.zones);
        let learned = LearnedReferences::new();
        let appraisal = appraise(&evidence, &measured, &self.scene.host, &self.zones, &learned);
        if appraisal.refusal().is_none() && appraisal.revoke.is_none() {
            self.held = Some(measured.held().clone());
            self.scene.host.committed = evidence.committed();
            self.scene.clock_ms += 1000;
        }
        (measured, appraisal)
    }

    pub(super) fn zone(&mut self, logs: &Logs) -> String {
        self.next(logs).1.zone.map(|zone| zone.as_str().to_owned()).unwrap_or_default()
    }

    /// Why the host is in no better zone.
    pub(super) fn why(&mut self, logs: &Logs) -> (Reason, String) {
        let appraisal = self.next(logs).1;
        let first = appraisal.reasons.first().or(appraisal.revoke.as_ref()).unwrap();
        (first.reason, first.detail.as_str().to_owned())
    }
}

#[test]
fn a_host_that_booted_and_ran_what_is_blessed_is_in_the_zone_and_needs_its_log_once() {
    let mut case = Case::new(zones(booted(), OnUnknown::Shrink, allowing("")));
    assert_eq!(
        HeldLogs::wanted(None, &case.zones),
        LogsWanted { boot_log: true, ima_list: true, ..LogsWanted::default() }
    );
    let (measured, appraisal) = case.next(&Logs::whole());
    assert_eq!((appraisal.zone, appraisal.reasons), (Some(name("measured")), vec![]));
    let held = measured.held();
    assert!(quotary_common::cbor::to_bytes(held).len() < 1024, "{} bytes", quotary_common::cbor::to_bytes(held).len());
    let wanted = HeldLogs::wanted(case.held.as_ref(), &case.zones);
    assert_eq!((wanted.held_of, wanted.has_boot_log), (Some(BootId::new([1; 16])), true));
    assert_eq!(wanted.ima_offset_bytes, IMA_LIST.len() as u64);
    let nothing_new = Logs { boot: None, ima: Some((wanted.ima_offset_bytes, vec![], false)), ..Logs::whole() };
    assert_eq!(case.zone(&nothing_new), "measured");
    assert_eq!(case.zone(&Logs::whole()), "measured", "a full re-send comes to the same");
}

#[test]
fn without_its_logs_a_host_is_not_in_a_zone_that_asks_for_them() {
    let mut case = Case::new(zones(booted(), OnUnknown::Shrink, allowing("")));
    let (reason, detail) = case.why(&Logs { boot: None, ..Logs::whole() });
    assert!(reason == Reason::BootLog && detail.contains("boot-log-missing"), "{detail}");
    let (reason, detail) = case.why(&Logs { ima: None, ..Logs::whole() });
    assert!(reason == Reason::Ima && detail.contains("ima-missing"), "{detail}");
}

#[test]
fn only_a_list_that_is_on_its_way_is_waited_for() {
    let half = IMA_LIST[..IMA_LIST.len() / 2].to_vec();
    for (ima, waits) in [
        (None, false),
        (Some((0, half.clone(), false)), false),
        (Some((0, half, true)), true),
        (Some((9, vec![], false)), true),
    ] {
        let only = Zones::with_ima(vec![zone("measured", None, Some(OnUnknown::Warn))], Some(allowing("")));
        let (_, appraisal) = Case::new(only.unwrap()).next(&Logs { boot: None, ima, ..Logs::whole() });
        assert_eq!(appraisal.reasons[0].reason, Reason::Ima);
        assert_eq!((!appraisal.pending.is_empty(), appraisal.refusal().is_none()), (waits, waits), "{appraisal:?}");
    }
}

#[test]
fn another_command_line_than_the_blessed_one_is_named_with_its_event() {
    let mut wanted = booted();
    // The kernel's EFI stub measures the command line into PCR 9, which is the loader's or the command line's stage.
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let stages = boot_stages(&log);
    let line = stages.measurements().iter().find(|one| one.pcr == 9 && one.stage != Stage::Marker).unwrap();
    let blessed = wanted.stages.get_mut(&line.stage).unwrap();
    assert!(blessed.remove(&line.digest));
    blessed.insert([7; 32]);
    let mut case = Case::new(zones(wanted, OnUnknown::Shrink, allowing("")));
    let (reason, detail) = case.why(&Logs::whole());
    assert_eq!(reason, Reason::BootLog);
    assert!(detail.contains("stage-unknown") && detail.contains(&format!("event {}", line.event)), "{detail}");
    assert_eq!(case.held.unwrap().boot.unwrap().zones.first().unwrap().1, 1, "one finding, and the host in `open`");
}

#[test]
fn a_log_that_does_not_replay_to_the_quote_is_believed_in_nothing() {
    let mut other = Logs::whole();
    other.values[4].value[0] ^= 1;
    let mut case = Case::new(zones(BootRequirement::default(), OnUnknown::Warn, allowing("")));
    let (reason, detail) = case.why(&other);
    assert!(reason == Reason::BootLog && detail.contains("pcr-mismatch"), "{detail}");
    let cut = Logs { boot: Some(BOOT_LOG[..BOOT_LOG.len() - 9].to_vec()), ..Logs::whole() };
    assert_eq!(case.why(&cut).0, Reason::BootLog);
    let mut unrecorded = Logs::whole();
    unrecorded.values[8].value = vec![9; 32];
    let (_, detail) = case.why(&unrecorded);
    assert!(detail.contains("pcr-not-recorded"), "{detail}");
}

#[test]
fn secure_boot_and_accepted_problems_are_the_zones_choice() {
    let state = booted().secure_boot;
    let wants = |secure_boot| BootRequirement { secure_boot, ..booted() };
    let other = state.map_or(Some(true), |on| Some(!on));
    let mut case = Case::new(zones(wants(other), OnUnknown::Warn, allowing("")));
    let (_, detail) = case.why(&Logs::whole());
    assert!(detail.contains("Secure Boot is"), "{detail}");
    if let Some(problem) = booted().accept.first() {
        let strict = BootRequirement { accept: BTreeSet::new(), ..booted() };
        let mut case = Case::new(zones(strict, OnUnknown::Warn, allowing("")));
        assert!(case.why(&Logs::whole()).1.contains(ProblemCode::code(*problem)));
    }
}

#[test]
fn an_unknown_file_does_what_the_zone_says() {
    let path = "/usr/bin/tar";
    let is_there = Entries::new(ListForm::BinarySha1, IMA_LIST)
        .any(|entry| entry.unwrap().measured().unwrap().path == path.as_bytes());
    let path = if is_there { path.to_owned() } else { some_path() };
    let case = |on_unknown| Case::new(zones(booted(), on_unknown, allowing(&path)));
    let (_, warned) = case(OnUnknown::Warn).next(&Logs::whole());
    assert_eq!((warned.zone, warned.warnings[0].code.as_str()), (Some(name("measured")), "ima-unknown-file"));
    assert!(warned.warnings[0].detail.as_str().contains(&path), "{:?}", warned.warnings);
    let mut shrunk = case(OnUnknown::Shrink);
    assert_eq!(shrunk.zone(&Logs::whole()), "open");
    // It stays so while the boot lasts: what ran has run.
    let wanted = HeldLogs::wanted(shrunk.held.as_ref(), &shrunk.zones);
    let next = Logs { boot: None, ima: Some((wanted.ima_offset_bytes, vec![], false)), ..Logs::whole() };
    assert_eq!(shrunk.zone(&next), "open");
    let (_, revoked) = case(OnUnknown::Revoke).next(&Logs::whole());
    assert_eq!((revoked.zone, revoked.revoke.unwrap().reason), (None, Reason::Ima));
}

pub(super) fn some_path() -> String {
    let paths =
        Entries::new(ListForm::BinarySha1, IMA_LIST).map(|entry| entry.unwrap().measured().unwrap().path.to_vec());
    String::from_utf8(paths.filter(|path| path.starts_with(b"/usr/")).last().unwrap()).unwrap()
}

#[test]
fn a_list_comes_in_parts_and_a_race_waits_for_the_next_quote() {
    let mut case = Case::new(zones(booted(), OnUnknown::Shrink, allowing("")));
    let half = IMA_LIST.len() / 2;
    let first = Logs { ima: Some((0, IMA_LIST[..half].to_vec(), true)), ..Logs::whole() };
    case.zones = Zones::with_ima(vec![case.zones.as_slice()[0].clone()], Some(allowing(""))).unwrap();
    let (_, appraisal) = case.next(&first);
    assert!(
        appraisal.pending == [name("measured")] && appraisal.zone.is_none() && appraisal.refusal().is_none(),
        "{appraisal:?}"
    );
    assert_eq!(appraisal.warnings[0].code.as_str(), "ima-behind");
    let offset = HeldLogs::wanted(case.held.as_ref(), &case.zones).ima_offset_bytes;
    assert!(offset > 0 && offset <= half as u64);
    let at = usize::try_from(offset).unwrap();
    let rest = Logs { boot: None, ima: Some((offset, IMA_LIST[at..].to_vec(), false)), ..Logs::whole() };
    assert_eq!(case.zone(&rest), "measured");
    // A host whose list is shorter than the quoted PCR lies, or lost some of it.
    let mut short = Case::new(zones(booted(), OnUnknown::Shrink, allowing("")));
    let (_, detail) = short.why(&Logs { ima: Some((0, IMA_LIST[..half].to_vec(), false)), ..Logs::whole() });
    assert!(detail.contains("ima-pcr-mismatch"), "{detail}");
}

#[test]
fn another_boot_or_other_requirements_start_anew() {
    let mut case = Case::new(zones(booted(), OnUnknown::Shrink, allowing("")));
    assert_eq!(case.zone(&Logs::whole()), "measured");
    let held_only = Logs { boot: None, ima: Some((IMA_LIST.len() as u64, vec![], false)), ..Logs::whole() };
    let (reason, _) = case.why(&Logs { reset_count: 6, ..held_only.clone() });
    assert_eq!(reason, Reason::BootLog, "the TPM was reset: what was held is of another boot");
    let mut changed = booted();
    changed.stages.entry(Stage::BootApplication).or_default().insert([1; 32]);
    let others = zones(changed, OnUnknown::Shrink, allowing(""));
    assert!(!HeldLogs::wanted(case.held.as_ref(), &others).has_boot_log);
}

#[test]
fn zones_that_ask_for_logs_select_the_pcrs_that_carry_them() {
    let mut narrow = zone("narrow", Some(BootRequirement::default()), None);
    narrow.pcr_selection = "sha256:0,7".parse().unwrap();
    assert_eq!(Zones::new(vec![narrow]), Err(ZonesError::BootPcrs(name("narrow"))));
    let unsaid = zone("unsaid", None, Some(OnUnknown::Warn));
    assert_eq!(Zones::new(vec![unsaid]), Err(ZonesError::Ima(name("unsaid"))));
    let mut replayed = zone("replayed", None, None);
    replayed.reference = Reference::Replayed;
    assert_eq!(Zones::new(vec![replayed]), Err(ZonesError::Values(name("replayed"))));
}

#[test]
fn a_zone_may_demand_a_chip() {
    let mut chip = zone("chip", None, None);
    chip.require_hardware_tpm = true;
    let mut case = Case::new(Zones::new(vec![chip, zone("open", None, None)]).unwrap());
    case.scene.host.best_zone = name("chip");
    let bare = Logs { boot: None, ima: None, ..Logs::whole() };
    assert_eq!(case.zone(&bare), "open");
    case.scene.host.hardware_tpm = true;
    assert_eq!(case.zone(&bare), "chip");
}
