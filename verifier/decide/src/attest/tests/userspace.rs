//! What the running system measured: a real boot log, systemd's measure log after it, and quotes of what they replay to.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quotary_common::cbor::BoundedBytes;
use quotary_common::envelope::Name;
use quotary_common::evidence::{EvidenceVersion, PcrValue};
use quotary_common::id::{Digest, sha256};
use quotary_common::reason::Reason;

use super::super::{
    Appraisal, BootRequirement, HeldLogs, LearnedReferences, Reference, USERSPACE_PCRS, Zone, Zones, ZonesError,
    appraise, carried_records, measure,
};
use super::scene::Scene;
use crate::eventlog::{Bank, EventLog, MeasureLog, Stage, boot_stages, secure_boot};

const BOOT_LOG: &[u8] = include_bytes!("../../../../../tests/data/attestation/vm/binary_bios_measurements");
const SHA256: u16 = 0x000B;
/// PCR and words, as systemd measures them on a machine that boots: the initrd, the root file system, the system.
const BOOT: [(u8, &str); 6] = [
    (11, "enter-initrd"),
    (15, "machine-id:0123456789abcdef0123456789abcdef"),
    (11, "leave-initrd"),
    (15, "file-system:/:root:1234:ext4:::"),
    (11, "sysinit"),
    (11, "ready"),
];

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A record as systemd 255 writes it.
fn record((pcr, words): (u8, &str)) -> Vec<u8> {
    let digest = Digest::of(&[words.as_bytes()]).hex();
    let json = format!(
        "\u{1e}{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
         \"content_type\":\"systemd\",\"content\":{{\"string\":\"{words}\",\"bootId\":\"00\",\"timestamp\":1,\
         \"eventType\":\"phase\"}}}}\n"
    );
    json.into_bytes()
}

pub(super) fn log(records: &[(u8, &str)]) -> Vec<u8> {
    records.iter().flat_map(|one| record(*one)).collect()
}

/// PCRs 0 to 9, 11 to 13 and 15 of a machine that booted and then measured `records`.
pub(super) fn values(records: &[(u8, &str)]) -> Vec<PcrValue> {
    let replay = EventLog::parse(BOOT_LOG).unwrap().replay();
    let value = |index: u8| {
        let mut value = replay.expected(Bank::Sha256, index).unwrap().as_bytes().to_vec();
        for (_, words) in records.iter().filter(|(pcr, _)| *pcr == index) {
            value = sha256(&[&value, &sha256(&[words.as_bytes()])]).to_vec();
        }
        PcrValue { hash_alg: SHA256, index, value }
    };
    (0..10).chain(USERSPACE_PCRS).map(value).collect()
}

fn requirement(userspace: Option<&[&str]>) -> BootRequirement {
    let boot_log = EventLog::parse(BOOT_LOG).unwrap();
    let problems = boot_log.problems().into_iter().chain(secure_boot(&boot_log).problems);
    BootRequirement {
        accept: problems.map(|problem| problem.code).collect(),
        userspace: userspace.map(|words| words.iter().map(|word| sha256(&[word.as_bytes()])).collect()),
        ..BootRequirement::default()
    }
}

fn zone(text: &str, pcrs: &str, boot: Option<BootRequirement>) -> Zone {
    Zone {
        name: name(text),
        pcr_selection: format!("sha256:0,1,2,3,4,5,6,7,8,9{pcrs}").parse().unwrap(),
        require_ek_certificate: false,
        require_hardware_tpm: false,
        reference: if boot.is_some() { Reference::Replayed } else { Reference::Learn },
        boot,
        ima: None,
    }
}

fn zones(userspace: Option<&[&str]>) -> Zones {
    Zones::new(vec![
        zone("measured", ",11,12,13,15", Some(requirement(userspace))),
        zone("booted", "", Some(requirement(None))),
    ])
    .unwrap()
}

struct Case {
    scene: Scene,
    zones: Zones,
    held: Option<HeldLogs>,
    boot_log: Vec<u8>,
}

/// Zone, and why it is no better one.
type Outcome = (String, String);

impl Case {
    fn new(zones: Zones) -> Self {
        let mut scene = Scene::new();
        scene.host.best_zone = zones.as_slice()[0].name.clone();
        scene.required = zones.required_selection();
        Self { scene, zones, held: None, boot_log: BOOT_LOG.to_vec() }
    }

    /// Appraises evidence whose PCRs hold `quoted`, beside which the boot log and `sent` come, if anything.
    fn appraise(&mut self, quoted: &[PcrValue], boot_log: bool, sent: Option<&[u8]>) -> Appraisal {
        let mut draft = self.scene.draft();
        draft.values = quoted.to_vec();
        draft.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0xBB, 0];
        draft.digest_values();
        let mut evidence = self.scene.sign(&draft);
        evidence.boot_log = boot_log.then(|| BoundedBytes::new(self.boot_log.clone()).unwrap());
        evidence.measure_log = sent.map(|log| BoundedBytes::new(log.to_vec()).unwrap());
        evidence.version = EvidenceVersion::of(boot_log, sent.is_some());
        let evidence = self.scene.judge(&evidence.to_bytes()).unwrap();
        let measured = measure(self.held.as_ref(), &evidence, &self.zones);
        let none = LearnedReferences::new();
        let appraisal = appraise(&evidence, &measured, &self.scene.host, &self.zones, &none);
        self.held = Some(measured.held().clone());
        self.scene.host.committed = evidence.committed();
        self.scene.clock_ms += 1000;
        assert!(appraisal.reasons.iter().all(|refusal| refusal.reason == Reason::BootLog), "{appraisal:?}");
        appraisal
    }

    fn next(&mut self, quoted: &[PcrValue], boot_log: bool, sent: Option<&[u8]>) -> Outcome {
        let appraisal = self.appraise(quoted, boot_log, sent);
        let why = appraisal.reasons.first().map(|refusal| refusal.detail.as_str().to_owned()).unwrap_or_default();
        (appraisal.zone.map(|zone| zone.as_str().to_owned()).unwrap_or_default(), why)
    }

    /// The digest that the next nonce names; `None` when the log is asked for from the beginning.
    fn held_digest(&self) -> Option<Digest> {
        let wanted = HeldLogs::wanted(self.held.as_ref(), &self.zones);
        assert!(wanted.boot_log && wanted.measure_log);
        wanted.measure_log_held
    }
}

fn once(zones: Zones, quoted: &[(u8, &str)], sent: Option<&[(u8, &str)]>) -> Outcome {
    Case::new(zones).next(&values(quoted), true, sent.map(log).as_deref())
}

#[test]
fn what_both_logs_replay_to_is_proven_and_needs_its_logs_once() {
    let mut case = Case::new(zones(None));
    assert_eq!(case.held_digest(), None);
    let quoted = values(&BOOT);
    assert_eq!(case.next(&quoted, true, Some(&log(&BOOT))), ("measured".to_owned(), String::new()));
    assert_eq!(case.held_digest(), Some(Digest::of(&[&log(&BOOT)])));
    assert_eq!(case.next(&quoted, false, None).0, "measured", "nothing new");
    // The system goes on: the quoted values are others than those that were held against the logs.
    let later: Vec<(u8, &str)> = BOOT.into_iter().chain([(11, "shutdown")]).collect();
    assert_eq!(case.next(&values(&later), true, Some(&log(&later))).0, "measured");
    assert_eq!(case.held_digest(), Some(Digest::of(&[&log(&later)])));
}

#[test]
fn values_that_moved_before_their_record_was_written_wait_for_the_next_evidence_once() {
    let only = || Zones::new(vec![zone("measured", ",11,12,13,15", Some(requirement(None)))]).unwrap();
    let later: Vec<(u8, &str)> = BOOT.into_iter().chain([(11, "shutdown")]).collect();
    let mut case = Case::new(only());
    assert_eq!(case.next(&values(&BOOT), true, Some(&log(&BOOT))).0, "measured");
    let appraisal = case.appraise(&values(&later), false, None);
    assert!(
        appraisal.zone.is_none() && appraisal.pending == [name("measured")] && appraisal.refusal().is_none(),
        "{appraisal:?}"
    );
    assert!(!HeldLogs::wanted(case.held.as_ref(), &case.zones).has_boot_log, "both logs are wanted");
    let appraisal = case.appraise(&values(&later), false, None);
    let refusal = appraisal.refusal().unwrap();
    assert!(refusal.detail.as_str().contains("measure-log-behind") && appraisal.pending.is_empty(), "{appraisal:?}");
    assert_eq!(case.next(&values(&later), true, Some(&log(&later))).0, "measured");
    // Who does not look at these PCRs does not wait.
    let mut case = Case::new(zones(None));
    case.next(&values(&BOOT), true, Some(&log(&BOOT)));
    let (zone, why) = case.next(&values(&later), false, None);
    assert!(zone == "booted" && why.contains("measure-log-behind"), "{why}");
}

#[test]
fn without_its_log_a_host_is_in_no_zone_that_looks_at_what_userspace_extended() {
    let (zone, why) = once(zones(None), &BOOT, None);
    assert_eq!(zone, "booted", "a zone that does not look there has nothing to say");
    assert!(why.contains("measure-log-missing") && why.contains("PCR 11"), "{why}");
    // Where nothing was extended since the boot log, there is nothing to be told.
    assert_eq!(once(zones(None), &[], None).0, "measured");
    assert_eq!(once(zones(None), &[], Some(&[])).0, "measured");
}

#[test]
fn a_record_that_the_quote_does_not_carry_yet_waits_for_the_next() {
    let mut case = Case::new(zones(Some(&["enter-initrd", "leave-initrd", "sysinit"])));
    let quoted: Vec<(u8, &str)> = BOOT.into_iter().filter(|(pcr, _)| *pcr == 11).take(3).collect();
    let written: Vec<(u8, &str)> = BOOT.into_iter().filter(|(pcr, _)| *pcr == 11).collect();
    // `ready` is not blessed, and not proven: it says nothing yet.
    assert_eq!(case.next(&values(&quoted), true, Some(&log(&written))).0, "measured");
    assert_eq!(case.held_digest(), Some(Digest::of(&[&log(&quoted)])), "the same log is wanted again");
    let (zone, why) = case.next(&values(&written), true, Some(&log(&written)));
    assert_eq!(zone, "booted");
    assert!(why.contains("userspace-unknown") && why.contains("record 3 (PCR 11)") && why.contains("ready"), "{why}");
    assert_eq!(case.held_digest(), Some(Digest::of(&[&log(&written)])));
}

#[test]
fn each_pcr_is_proven_by_itself() {
    // PCR 15 was extended by something that nobody recorded: a zone that does not look at it does not mind.
    let mut quoted = values(&BOOT);
    quoted.last_mut().unwrap().value[0] ^= 1;
    let both = || {
        vec![zone("measured", ",11,15", Some(requirement(None))), zone("phases", ",11,12,13", Some(requirement(None)))]
    };
    let mut case = Case::new(Zones::new(both()).unwrap());
    let (zone, why) = case.next(&quoted, true, Some(&log(&BOOT)));
    assert_eq!(zone, "phases");
    assert!(why.contains("userspace-mismatch") && why.contains("PCR 15") && why.contains("2 records"), "{why}");
    assert_eq!(case.held_digest(), Some(Digest::of(&[&log(&BOOT)])), "sending the same again would not help");
}

#[test]
fn a_record_too_many_one_too_few_or_in_another_order_proves_nothing() {
    let changed = |change: fn(&mut Vec<(u8, &'static str)>)| {
        let mut records = BOOT.to_vec();
        change(&mut records);
        let (zone, why) = once(zones(None), &BOOT, Some(&records));
        assert_eq!(zone, "booted", "{why}");
        assert!(why.contains("userspace-mismatch"), "{why}");
        why
    };
    changed(|records| records.insert(2, (11, "sysinit")));
    changed(|records| {
        records.remove(0);
    });
    changed(|records| records.truncate(5));
    changed(|records| records.swap(0, 2));
    changed(|records| records[4].1 = "reinit");
    assert!(changed(|records| records[1].0 = 12).contains("PCR 15"), "it names another PCR than was extended");
    // What differs behind the quote's reach, or only in the order between PCRs, is no claim about either.
    assert_eq!(once(zones(None), &BOOT, Some(&[BOOT.as_slice(), &[(11, "final")]].concat())).0, "measured");
    let mut swapped = BOOT;
    swapped.swap(0, 1);
    assert_eq!(once(zones(None), &BOOT, Some(&swapped)).0, "measured");
}

#[test]
fn a_zone_names_what_userspace_may_measure() {
    let mut all: Vec<&str> = BOOT.iter().map(|(_, words)| *words).collect();
    assert_eq!(once(zones(Some(&all)), &BOOT, Some(&BOOT)).0, "measured");
    all.push("shutdown");
    assert_eq!(once(zones(Some(&all)), &BOOT, Some(&BOOT)).0, "measured", "alternatives need not be there");
    all.remove(1);
    let (zone, why) = once(zones(Some(&all)), &BOOT, Some(&BOOT));
    assert!(zone == "booted" && why.contains("record 1 (PCR 15)") && why.contains("machine-id:0123"), "{why}");
    let (_, why) = once(zones(Some(&[])), &BOOT, Some(&BOOT));
    assert!(why.contains("record 0") && why.contains("(5 more)"), "{why}");
    assert_eq!(once(zones(Some(&[])), &[], None).0, "measured", "nothing may be measured, and nothing was");
}

#[test]
fn another_zone_rule_needs_the_logs_again() {
    let mut case = Case::new(zones(None));
    assert_eq!(case.next(&values(&BOOT), true, Some(&log(&BOOT))).0, "measured");
    let rules = zones(Some(&["ready"]));
    assert!(!HeldLogs::wanted(case.held.as_ref(), &rules).has_boot_log);
    let narrower = Zones::new(vec![
        zone("measured", ",11", Some(requirement(None))),
        zone("booted", ",12,13,15", Some(requirement(None))),
    ]);
    assert!(!HeldLogs::wanted(case.held.as_ref(), &narrower.unwrap()).has_boot_log, "other PCRs are another rule");
}

#[test]
fn a_stage_of_a_userspace_pcr_is_proven_where_the_zone_selects_it() {
    let boot =
        || BootRequirement { stages: [(Stage::UnifiedKernel, BTreeSet::from([[1; 32]]))].into(), ..requirement(None) };
    assert!(boot_stages(&EventLog::parse(BOOT_LOG).unwrap()).of(Stage::UnifiedKernel).next().is_none());
    let rules = vec![zone("measured", ",11,12,13,15", Some(boot())), zone("booted", "", Some(requirement(None)))];
    let (_, why) = once(Zones::new(rules).unwrap(), &BOOT, Some(&BOOT));
    assert!(why.contains("stage-missing"), "what userspace measured is in no stage of the boot: {why}");
}

#[test]
fn a_stage_of_a_userspace_pcr_is_not_proven_where_only_another_zone_selects_it() {
    let blessed = BTreeSet::from([sha256(&[b"enter-initrd"])]);
    let boot = || BootRequirement { stages: [(Stage::UnifiedKernel, blessed.clone())].into(), ..requirement(None) };
    let rules = vec![zone("blind", ",12,13,15", Some(boot())), zone("measured", ",11", Some(boot()))];
    let mut case = Case { boot_log: boot_log_and("enter-initrd"), ..Case::new(Zones::new(rules).unwrap()) };
    let (place, why) = case.next(&values(&[(11, "enter-initrd")]), true, None);
    assert_eq!(place, "measured");
    assert!(why.contains("stage-not-quoted") && why.contains("PCR 11 is not quoted"), "{why}");
}

#[test]
fn a_zone_that_says_nothing_of_userspace_takes_whatever_its_pcrs_prove() {
    let mut case = Case { boot_log: boot_log_and("an odd phase"), ..Case::new(zones(None)) };
    let quoted = [(11, "an odd phase"), (11, "another")];
    assert_eq!(case.next(&values(&quoted), true, Some(&log(&quoted[1..]))), ("measured".to_owned(), String::new()));
}

#[test]
fn records_are_carried_as_far_as_the_quoted_value_says_and_by_no_other_pcr() {
    let replay = EventLog::parse(BOOT_LOG).unwrap().replay();
    let parsed = MeasureLog::parse(&log(&BOOT)).unwrap();
    let quoted =
        |pcr: u8, records: &[(u8, &str)]| values(records).into_iter().find(|value| value.index == pcr).unwrap().value;
    let carried = |pcr: u8, quoted: &[u8]| {
        let records = carried_records(&replay, &parsed, pcr, quoted)?;
        Some(records.iter().map(|record| record.number()).collect::<Vec<_>>())
    };
    assert_eq!(carried(11, &quoted(11, &BOOT)), Some(vec![0, 2, 4, 5]));
    assert_eq!(carried(15, &quoted(15, &BOOT)), Some(vec![1, 3]));
    assert_eq!(carried(11, &quoted(11, &BOOT[..5])), Some(vec![0, 2, 4]), "what stands behind them is a claim");
    assert_eq!(carried(12, &quoted(12, &BOOT)), Some(vec![]), "nothing was measured there");
    assert_eq!(carried(12, &quoted(11, &BOOT)), None);
    assert_eq!(carried(11, &[0xA5; 32]), None);
}

/// The boot log with one more event in PCR 11, of these words: what a lying host makes of a record.
fn boot_log_and(words: &str) -> Vec<u8> {
    let length = u32::try_from(words.len()).unwrap().to_le_bytes();
    let (pcr, ipl) = (11_u32.to_le_bytes(), 0x0D_u32.to_le_bytes());
    [BOOT_LOG, &pcr, &ipl, &digests(words), &length, words.as_bytes()].concat()
}

/// `TPML_DIGEST_VALUES` with every bank of the boot log.
fn digests(words: &str) -> Vec<u8> {
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let banks: Vec<Bank> = log.replay().banks().collect();
    let mut out = u32::try_from(banks.len()).unwrap().to_le_bytes().to_vec();
    for bank in banks {
        let id: u16 = match bank {
            Bank::Sha1 => 0x04,
            Bank::Sha256 => 0x0B,
            Bank::Sha384 => 0x0C,
            Bank::Sha512 => 0x0D,
        };
        out.extend(id.to_le_bytes());
        out.extend(bank.digest(&[words.as_bytes()]).as_bytes());
    }
    out
}

#[test]
fn no_measurement_escapes_by_standing_in_the_other_log() {
    let quoted = [(11, "enter-initrd"), (11, "an odd phase")];
    let lying = boot_log_and("enter-initrd");
    // What the zone says of userspace holds for events of the boot log, too.
    let mut case = Case { boot_log: boot_log_and("an odd phase"), ..Case::new(zones(Some(&["enter-initrd"]))) };
    let (place, why) = case.next(&values(&[(11, "an odd phase")]), true, None);
    assert!(place == "booted" && why.contains("userspace-unknown") && why.contains("boot log (PCR 11)"), "{why}");
    // What the zone says of a stage holds for records, too.
    let blessed = sha256(&[b"enter-initrd"]);
    let boot =
        BootRequirement { stages: [(Stage::UnifiedKernel, BTreeSet::from([blessed]))].into(), ..requirement(None) };
    let rules = || Zones::new(vec![zone_of(&boot), zone("booted", "", Some(requirement(None)))]).unwrap();
    let mut case = Case { boot_log: lying.clone(), ..Case::new(rules()) };
    assert_eq!(case.next(&values(&quoted[..1]), true, None).0, "measured");
    let mut case = Case { boot_log: lying.clone(), ..Case::new(rules()) };
    let (zone, why) = case.next(&values(&quoted), true, Some(&log(&quoted[1..])));
    assert!(zone == "booted" && why.contains("userspace-unknown") && why.contains("record 0 (PCR 11)"), "{why}");
    // Both lists together are what may stand in the PCR.
    let both = BootRequirement { userspace: Some(BTreeSet::from([sha256(&[b"an odd phase"])])), ..boot.clone() };
    let mut case = Case { boot_log: lying, ..Case::new(Zones::new(vec![zone_of(&both)]).unwrap()) };
    assert_eq!(case.next(&values(&quoted), true, Some(&log(&quoted[1..]))).0, "measured");
}

fn zone_of(boot: &BootRequirement) -> Zone {
    zone("measured", ",11,12,13,15", Some(boot.clone()))
}

#[test]
fn a_rule_for_userspace_needs_a_pcr_that_carries_it_and_zones_without_one_ask_for_no_log() {
    let rule = zone("measured", "", Some(requirement(Some(&["ready"]))));
    assert_eq!(Zones::new(vec![rule]), Err(ZonesError::Userspace(name("measured"))));
    let booted = Zones::new(vec![zone("booted", "", Some(requirement(None)))]).unwrap();
    let wanted = HeldLogs::wanted(None, &booted);
    assert!(wanted.boot_log && !wanted.measure_log);
    let unbooted = Zones::new(vec![zone("open", ",11", None)]).unwrap();
    assert!(!HeldLogs::wanted(None, &unbooted).measure_log, "its values are learned as they are");
}

#[test]
fn a_log_that_does_not_read_is_told_and_believed_in_nothing() {
    for (hostile, told) in [
        (b"no log".as_slice(), "no record separator"),
        (&log(&BOOT)[..100], "cut off"),
        (b"\x1e{\"pcr\":24,\"digests\":[]}\n", "PCR that does not exist"),
    ] {
        let mut case = Case::new(zones(None));
        let (zone, why) = case.next(&values(&BOOT), true, Some(hostile));
        assert!(zone == "booted" && why.contains("measure-log-malformed") && why.contains(told), "{why}");
        // Where the boot log says all, the other need not read.
        assert_eq!(Case::new(zones(None)).next(&values(&[]), true, Some(hostile)).0, "measured");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_in_place_of_the_log_prove_what_was_not_measured(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(), noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut sent = log(&BOOT);
        let at = at.index(sent.len());
        if cut { sent.truncate(at) } else { sent[at] = byte }
        sent.extend(&noise);
        // Another machine's values: whatever is sent, they do not follow from it.
        let mut quoted = values(&BOOT);
        quoted.iter_mut().filter(|value| value.index == 11).for_each(|value| value.value = vec![0xA5; 32]);
        let (zone, why) = Case::new(zones(None)).next(&quoted, true, Some(&sent));
        prop_assert_eq!(zone, "booted");
        prop_assert!(why.contains("PCR 11"), "{}", why);
    }
}
