//! Logs on their way: a host's trust ages in its zone while nothing else speaks against that zone, and not a moment longer.

use quotary_common::cbor::{Bounded, BoundedBytes, Version};
use quotary_common::envelope::Name;
use quotary_common::evidence::{EvidenceVersion, ImaForm, ImaIncrement, PcrValue};
use quotary_common::id::TokenId;
use quotary_common::reason::Reason;
use quotary_common::units::Resources;

use super::super::{Appraisal, LearnedReferences, OnUnknown, Reference, TrustRoots, Zone, Zones, appraise, measure};
use super::logs::{BOOT_LOG, IMA_LIST, allowing, booted, name, pcr10, some_path, zone};
use super::scene::{NOW_MS, Scene};
use super::userspace;
use crate::history::{BoundedLoad, Bounds};
use crate::ima::{Entries, ListForm};
use crate::registry::{Admission, Host, HostProgress, HostRecord, Promise};

const TRUST_MS: u64 = 60_000;
const STEP_MS: u64 = 1000;
const PCRS: &str = "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,15";
const BEFORE: [(u8, &str); 1] = [(11, "sysinit")];
const LATER: [(u8, &str); 2] = [(11, "sysinit"), (11, "ready")];

/// What one evidence quotes and brings.
struct Sent<'a> {
    userspace: &'a [(u8, &'a str)],
    /// As much of the list as the quoted PCR 10 holds.
    quoted_list: &'a [u8],
    with_boot_logs: bool,
    ima: (usize, &'a [u8], bool),
}

impl Sent<'static> {
    /// Everything, and all of it proven.
    fn whole() -> Self {
        Self { userspace: &BEFORE, quoted_list: IMA_LIST, with_boot_logs: true, ima: (0, IMA_LIST, false) }
    }
    /// Userspace went on, and the list did not.
    fn behind() -> Self {
        Self { userspace: &LATER, with_boot_logs: false, ima: (IMA_LIST.len(), &[], false), ..Self::whole() }
    }
}

fn values(sent: &Sent<'_>) -> Vec<PcrValue> {
    let mut values = userspace::values(sent.userspace);
    let pcr10 = pcr10(sent.quoted_list).as_bytes().to_vec();
    values.push(PcrValue { hash_alg: 0x0B, index: 10, value: pcr10 });
    values.sort_unstable_by_key(|value| value.index);
    values
}

fn measured(on_unknown: OnUnknown) -> Zone {
    Zone { pcr_selection: PCRS.parse().unwrap(), ..zone("measured", Some(booted()), Some(on_unknown)) }
}

/// A zone of fixed values, which a host that booted differently is not in.
fn fixed(text: &str, index: u8, holds: bool, ima: Option<OnUnknown>) -> Zone {
    let selection = if ima.is_some() { format!("sha256:{index},10") } else { format!("sha256:{index}") };
    let of_zone = |value: &PcrValue| value.index == index || (ima.is_some() && value.index == 10);
    let mut values: Vec<PcrValue> = values(&Sent::whole()).into_iter().filter(of_zone).collect();
    values[0].value[0] ^= u8::from(!holds);
    let reference = Reference::Values(values);
    Zone { pcr_selection: selection.parse().unwrap(), reference, ..zone(text, None, ima) }
}

/// Selects all PCRs, for the sake of the quote, and lets nobody in.
fn closed() -> Zone {
    Zone { require_hardware_tpm: true, pcr_selection: PCRS.parse().unwrap(), ..zone("closed", None, None) }
}

struct Case {
    scene: Scene,
    zones: Zones,
    host: Host,
    learned: LearnedReferences,
    now_ms: u64,
}

impl Case {
    fn new(zones: Vec<Zone>, without: &str) -> Self {
        let mut scene = Scene::new();
        let zones = Zones::with_ima(zones, Some(allowing(without))).unwrap();
        scene.host.best_zone = zones.as_slice()[0].name.clone();
        scene.required = zones.required_selection();
        let record = HostRecord {
            version: Version,
            host: scene.host.host,
            ek_public: scene.tpm.ek_public().bytes().to_vec(),
            ak_public: scene.tpm.ak_public().bytes().to_vec(),
            tls_key: scene.host.tls_key,
            ek_issuer: None,
            tpm: None,
            zone_best: scene.host.best_zone.clone(),
            labels: Bounded::default(),
            capacity: Resources::default(),
            token: TokenId::new([1; 32]),
            enrolled_at_ms: NOW_MS,
            ek_authority: None,
        };
        let admission = Admission::new(&TrustRoots::new(vec![]).unwrap(), None);
        let host = Host::new(record, HostProgress::first(), &admission).unwrap();
        Self { scene, zones, host, learned: LearnedReferences::new(), now_ms: NOW_MS }
    }

    /// As if it were in this zone since just now.
    fn staying_in(mut self, zone: &str) -> Self {
        self.host.progress.zone = Some(name(zone));
        self.host.progress.valid_until_ms = self.now_ms + TRUST_MS;
        self
    }

    fn next(&mut self, sent: &Sent<'_>) -> Appraisal {
        let mut draft = self.scene.draft();
        draft.values = values(sent);
        draft.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0xBF, 0];
        draft.digest_values();
        let mut evidence = self.scene.sign(&draft);
        evidence.boot_log = sent.with_boot_logs.then(|| BoundedBytes::new(BOOT_LOG.to_vec()).unwrap());
        let measure_log = userspace::log(sent.userspace);
        evidence.measure_log = sent.with_boot_logs.then(|| BoundedBytes::new(measure_log).unwrap());
        let (offset, bytes, has_more) = sent.ima;
        let bytes = BoundedBytes::new(bytes.to_vec()).unwrap();
        let form = ImaForm::BinarySha1;
        evidence.ima = Some(ImaIncrement { form, offset_bytes: offset as u64, bytes, has_more });
        evidence.version = EvidenceVersion::of(true, sent.with_boot_logs);
        let evidence = self.scene.judge(&evidence.to_bytes()).unwrap();
        let measured = measure(self.host.progress.logs.as_ref(), &evidence, &self.zones);
        let appraisal = appraise(&evidence, &measured, &self.scene.host, &self.zones, &self.learned);
        self.now_ms += STEP_MS;
        if appraisal.refusal().is_none() && appraisal.revoke.is_none() {
            let bounds = Bounds {
                capacity: Resources::default(),
                before: None,
                since_ms: self.now_ms,
                now_ms: self.now_ms,
                window_ms: 1000,
                wait_ms: 1000,
            };
            let load = BoundedLoad::of(&evidence, &bounds);
            let promise = Promise { trust_ms: TRUST_MS, hold_ms: 1 };
            self.host = self.host.accept((&evidence, &measured, &load), &appraisal, self.now_ms, promise).unwrap();
            self.scene.host.committed = evidence.committed();
            self.scene.clock_ms += STEP_MS;
        }
        appraisal
    }

    /// The zone that it is in, and for how long from now.
    fn trust(&self) -> (Option<&str>, u64) {
        let progress = &self.host.progress;
        (progress.zone.as_ref().map(Name::as_str), progress.valid_until_ms - self.now_ms)
    }
}

#[test]
fn a_host_of_which_only_the_logs_are_behind_ages_in_its_zone_and_teaches_none() {
    // A zone that has no reference yet, and one whose reference holds: neither is what it is held by.
    let unlearned = || vec![measured(OnUnknown::Shrink), zone("open", None, None)];
    let lower = || vec![measured(OnUnknown::Shrink), fixed("open", 0, true, None)];
    for (zones, other) in [(unlearned(), None), (lower(), Some(name("open")))] {
        let mut case = Case::new(zones, "");
        assert_eq!(case.next(&Sent::whole()).zone, Some(name("measured")));
        assert_eq!(case.trust(), (Some("measured"), TRUST_MS));
        let appraisal = case.next(&Sent::behind());
        assert_eq!((&appraisal.pending, &appraisal.zone), (&vec![name("measured")], &other));
        assert!(appraisal.learned.is_none() && appraisal.refusal().is_none(), "{appraisal:?}");
        assert_eq!(case.trust(), (Some("measured"), TRUST_MS - STEP_MS), "it ages");
        let caught_up = Sent { userspace: &LATER, ..Sent::whole() };
        assert_eq!(case.next(&caught_up).reasons, vec![]);
        assert_eq!(case.trust(), (Some("measured"), TRUST_MS));
    }
}

#[test]
fn a_wrong_pcr_is_seen_while_the_list_is_on_its_way() {
    let half = (0, &IMA_LIST[..IMA_LIST.len() / 2], true);
    let zones = |holds, lower: Zone| vec![fixed("sealed", 7, holds, Some(OnUnknown::Shrink)), lower, closed()];
    let mut case = Case::new(zones(false, closed_too()), "").staying_in("sealed");
    let appraisal = case.next(&Sent { ima: half, ..Sent::whole() });
    assert_eq!(appraisal.refusal().unwrap().reason, Reason::PcrReference, "{appraisal:?}");
    assert_eq!(appraisal.warnings, vec![], "no zone waits for the list");
    assert!(appraisal.pending.is_empty() && case.host.progress.sequence == 0, "nothing is renewed");
    let mut case = Case::new(zones(false, fixed("open", 0, true, None)), "").staying_in("sealed");
    case.next(&Sent { ima: half, ..Sent::whole() });
    assert_eq!(case.trust(), (Some("open"), TRUST_MS), "it is no longer in the zone whose PCR is wrong");
    let mut case = Case::new(zones(true, closed_too()), "").staying_in("sealed");
    assert_eq!(case.next(&Sent { ima: half, ..Sent::whole() }).pending, [name("sealed")]);
    assert_eq!(case.trust(), (Some("sealed"), TRUST_MS - STEP_MS));
}

fn closed_too() -> Zone {
    Zone { name: name("closed-too"), ..closed() }
}

#[test]
fn an_unknown_file_is_seen_while_the_measure_log_is_on_its_way() {
    let path = some_path();
    let cut = cut_before(&path);
    let known = Sent { quoted_list: &IMA_LIST[..cut], ima: (0, &IMA_LIST[..cut], false), ..Sent::whole() };
    let both = Sent { ima: (cut, &IMA_LIST[cut..], false), ..Sent::behind() };
    let open = || fixed("open", 0, true, None);
    let mut case = Case::new(vec![measured(OnUnknown::Shrink), open()], &path);
    assert_eq!(case.next(&known).zone, Some(name("measured")));
    let appraisal = case.next(&both);
    assert!(appraisal.pending.is_empty() && appraisal.reasons[0].reason == Reason::Ima, "{appraisal:?}");
    assert_eq!(case.trust(), (Some("open"), TRUST_MS));
    let mut case = Case::new(vec![measured(OnUnknown::Shrink)], &path);
    case.next(&known);
    assert_eq!(case.next(&both).refusal().unwrap().reason, Reason::Ima);
    let mut case = Case::new(vec![measured(OnUnknown::Revoke), open()], &path);
    case.next(&known);
    assert_eq!(case.next(&both).revoke.unwrap().reason, Reason::Ima);
    let mut case = Case::new(vec![measured(OnUnknown::Warn), open()], &path);
    case.next(&known);
    assert_eq!(case.next(&both).pending, [name("measured")], "the zone only warns of it");
}

#[test]
fn an_unknown_file_is_seen_in_a_list_that_goes_on() {
    let path = some_path();
    // More was measured than came.
    let quoted = [IMA_LIST, IMA_LIST].concat();
    for (on_unknown, ages) in [(OnUnknown::Shrink, false), (OnUnknown::Revoke, false), (OnUnknown::Warn, true)] {
        let mut case = Case::new(vec![measured(on_unknown)], &path).staying_in("measured");
        let sent = Sent { quoted_list: &quoted, ima: (0, IMA_LIST, true), ..Sent::whole() };
        let appraisal = case.next(&sent);
        assert_eq!(!appraisal.pending.is_empty(), ages, "{appraisal:?}");
        assert_eq!(appraisal.revoke.is_some(), on_unknown == OnUnknown::Revoke);
        assert_eq!(appraisal.refusal().is_some(), on_unknown == OnUnknown::Shrink);
    }
}

#[test]
fn a_host_that_a_zone_revokes_waits_for_no_other_zone() {
    let quoted = [IMA_LIST, IMA_LIST].concat();
    let sent = Sent { quoted_list: &quoted, ima: (0, IMA_LIST, true), ..Sent::whole() };
    let zone = |text: &str, on_unknown| Zone { name: name(text), ..measured(on_unknown) };
    let warns_first = vec![zone("warns", OnUnknown::Warn), zone("revokes", OnUnknown::Revoke)];
    let appraisal = Case::new(warns_first, &some_path()).staying_in("warns").next(&sent);
    assert!(appraisal.revoke.is_some(), "{appraisal:?}");
    assert!(appraisal.pending.is_empty() && !appraisal.ages_in(&name("warns")), "{appraisal:?}");
}

#[test]
fn a_list_that_proves_nothing_is_no_warning_of_a_zone_that_waits_for_another_log() {
    let of_list = Zone { reference: Reference::Learn, ..fixed("of-list", 7, true, Some(OnUnknown::Warn)) };
    let of_boot = Zone { name: name("of-boot"), ima: None, ..measured(OnUnknown::Warn) };
    let mut case = Case::new(vec![of_list, of_boot], "");
    case.learned.insert(name("of-list"), values(&Sent::whole()));
    assert_eq!(case.next(&Sent::whole()).zone, Some(name("of-list")));
    // The measure log is on its way; the list that came is another's.
    let appraisal = case.next(&Sent { ima: (0, &IMA_LIST[..IMA_LIST.len() / 2], false), ..Sent::behind() });
    assert_eq!((&appraisal.pending, appraisal.zone.as_ref()), (&vec![name("of-boot")], None));
    let of_list = &appraisal.reasons[0];
    assert!(of_list.reason == Reason::Ima && of_list.detail.as_str().contains("ima-pcr-mismatch"), "{of_list:?}");
    assert_eq!(appraisal.warnings, vec![]);
}

#[test]
fn a_host_whose_own_zone_holds_does_not_age_for_a_better_one() {
    let half = Sent { ima: (0, &IMA_LIST[..IMA_LIST.len() / 2], true), ..Sent::whole() };
    let mut case = Case::new(vec![measured(OnUnknown::Shrink), fixed("open", 0, true, None)], "").staying_in("open");
    let appraisal = case.next(&half);
    assert_eq!((appraisal.zone, appraisal.pending), (Some(name("open")), vec![name("measured")]));
    assert_eq!(case.trust(), (Some("open"), TRUST_MS));
    // Nor is it held in its own, when that does not hold, by a better one that is pending.
    let mut case = Case::new(vec![measured(OnUnknown::Shrink), fixed("open", 0, false, None)], "").staying_in("open");
    let appraisal = case.next(&half);
    assert_eq!((&appraisal.zone, &appraisal.pending), (&None, &vec![name("measured")]));
    assert!(appraisal.refusal().is_none(), "the list must come on");
    assert_eq!(case.trust().0, None);
}

#[test]
fn what_a_zone_learned_of_pcr_10_binds_nobody_where_the_list_is_asked_for() {
    let learning = Zone { reference: Reference::Learn, ..fixed("sealed", 7, true, Some(OnUnknown::Warn)) };
    let half = Sent { ima: (0, &IMA_LIST[..IMA_LIST.len() / 2], true), ..Sent::whole() };
    for (index, sent, zone, pending) in [
        (10, Sent::whole(), Some("sealed"), 0),
        (10, half, None, 1),
        (7, Sent::whole(), None, 0),
        (7, Sent { ima: (0, &IMA_LIST[..IMA_LIST.len() / 2], true), ..Sent::whole() }, None, 0),
    ] {
        let mut case = Case::new(vec![learning.clone(), closed()], "").staying_in("sealed");
        let mut learned: Vec<PcrValue> = values(&sent).into_iter().filter(|v| [7, 10].contains(&v.index)).collect();
        learned.iter_mut().filter(|value| value.index == index).for_each(|value| value.value[0] ^= 1);
        case.learned.insert(name("sealed"), learned);
        let appraisal = case.next(&sent);
        assert_eq!((appraisal.zone, appraisal.pending.len()), (zone.map(name), pending), "PCR {index}");
    }
}

/// Where the first entry of this file begins.
fn cut_before(path: &str) -> usize {
    let (mut entries, mut at) = (Entries::new(ListForm::BinarySha1, IMA_LIST), 0);
    while let Some(entry) = entries.next() {
        if entry.unwrap().measured().unwrap().path == path.as_bytes() {
            return at;
        }
        at = entries.consumed();
    }
    panic!("{path} is not in the list")
}
