//! Each kind of leaf, and what is told of it.

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{Digest, GrantId, HostId, TokenId};
use quotary_common::leaf::{
    Decision, Enrolled, EpochRaised, Genesis, GrantChange, Granted, Leaf, Refused, Started, TokenMade, Verdict,
    VerdictChanged, Verdicts, ZoneLearned,
};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::sign::PublicKey;
use quotary_common::units::{Class, Resources};
use quotary_common::wire::{EventKind, HostEvent};

use super::super::event_of;

const AT_MS: u64 = 1_700_000_000_000;

fn told(decision: Decision) -> Option<HostEvent> {
    let actor = Text::lossy("an actor whose name says nothing");
    event_of(41, &Leaf { version: Version, at_ms: AT_MS, actor, decision }.to_bytes())
}

fn host() -> HostId {
    HostId::of(&[b"a host"])
}

fn verdict() -> Verdict {
    Verdict { host: host(), sequence: 4, evidence: Digest::of(&[b"evidence"]) }
}

/// What every event of these tests has.
fn event(kind: EventKind) -> HostEvent {
    HostEvent {
        leaf_index: 41,
        time_ms: AT_MS,
        kind,
        host: host().to_string(),
        reasons: Vec::new(),
        zone_before: None,
        zone: None,
        epoch: None,
        anomaly: None,
    }
}

fn enrolled(replaced: bool) -> Decision {
    Decision::Enrolled(Enrolled {
        host: host(),
        ek_public: vec![1; 300],
        ak_public: vec![2; 100],
        tls_key: Digest::of(&[b"tls"]),
        ek_issuer: Some(Text::lossy("CN=site")),
        token: TokenId::of(&[b"token"]),
        replaced,
        epoch: 3,
    })
}

fn changed(from: Option<&str>, to: Option<&str>, findings: &[Reason]) -> Decision {
    let zone = |zone: Option<&str>| zone.map(Name::lossy);
    let findings = Bounded::truncating(findings.to_vec()).0;
    Decision::VerdictChanged(VerdictChanged { verdict: verdict(), from: zone(from), to: zone(to), findings })
}

fn raised(reason: Reason) -> Decision {
    let refusal = Refusal::new(reason, "words of a person");
    Decision::EpochRaised(EpochRaised { host: host(), epoch: 9, refusal, input: Digest::of(&[]) })
}

#[test]
fn an_enrolment_is_told_and_a_replaced_key_by_a_kind_of_its_own() {
    let with_epoch = |kind| Some(HostEvent { epoch: Some(3), ..event(kind) });
    assert_eq!(told(enrolled(false)), with_epoch(EventKind::Enrolled));
    assert_eq!(told(enrolled(true)), with_epoch(EventKind::AkReplaced));
}

#[test]
fn trust_that_begins_or_ends_is_a_verdict_and_trust_that_moves_is_a_zone() {
    let zones = |kind, before: Option<&str>, zone: Option<&str>, reasons: &[Reason]| {
        let [zone_before, zone] = [before, zone].map(|zone| zone.map(str::to_owned));
        Some(HostEvent { zone_before, zone, reasons: reasons.to_vec(), ..event(kind) })
    };
    let begins = changed(None, Some("measured"), &[]);
    assert_eq!(told(begins), zones(EventKind::VerdictChanged, None, Some("measured"), &[]));
    let ends = changed(Some("measured"), None, &[Reason::PcrReference]);
    assert_eq!(told(ends), zones(EventKind::VerdictChanged, Some("measured"), None, &[Reason::PcrReference]));
    let moves = changed(Some("measured"), Some("joined"), &[Reason::Ima, Reason::BootLog]);
    let expected = zones(EventKind::ZoneChanged, Some("measured"), Some("joined"), &[Reason::Ima, Reason::BootLog]);
    assert_eq!(told(moves), expected);
}

#[test]
fn a_raised_epoch_names_its_finding_and_an_operators_has_a_kind_of_its_own() {
    for reason in [Reason::ChainForked, Reason::ClockBackward, Reason::Ima] {
        let expected = HostEvent { reasons: vec![reason], epoch: Some(9), ..event(EventKind::EpochRaised) };
        assert_eq!(told(raised(reason)), Some(expected));
    }
    let event = told(raised(Reason::Revoked)).unwrap();
    assert_eq!((event.kind, event.epoch), (EventKind::Revoked, Some(9)));
    // What a person wrote stays in the log.
    assert!(!serde_json::to_string(&event).unwrap().contains("words"));
}

#[test]
fn of_everything_else_nothing_is_told() {
    let quiet = [
        Decision::Genesis(Genesis { root: PublicKey([1; 32]), configuration: Digest::of(&[]), authority: None }),
        Decision::Refused(Refused {
            host: Some(host()),
            what: Text::lossy("evidence"),
            refusal: Refusal::new(Reason::ChainForked, "refused, not raised"),
            input: Digest::of(&[]),
            request: None,
            count: 1,
        }),
        Decision::Verdicts(Verdicts { accepted: Bounded::truncating(vec![verdict(); 256]).0 }),
        Decision::Granted(Granted {
            host: host(),
            grant: GrantId::of(&[b"g"]),
            change: GrantChange::Revoked,
            application: Name::lossy("a"),
            tenant: Name::lossy("t"),
            class: Class::Burstable,
            resources: Resources::default(),
            input: Digest::of(&[]),
            why: None,
            model: None,
        }),
        Decision::TokenMade(TokenMade {
            token: TokenId::of(&[]),
            what: Text::lossy("join"),
            scope: Text::lossy("zone"),
            not_after_ms: 1,
        }),
        Decision::ZoneLearned(ZoneLearned { zone: Name::lossy("z"), verdict: verdict(), values: Bounded::default() }),
        Decision::Started(Started { version: Name::lossy("0"), configuration: Digest::of(&[]), witnessed: None }),
    ];
    for decision in quiet {
        assert_eq!(told(decision.clone()), None, "{decision:?}");
    }
}

proptest! {
    #[test]
    fn bytes_that_are_no_leaf_tell_nothing_and_harm_nobody(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..200,
    ) {
        prop_assert_eq!(event_of(0, &bytes), None);
        let leaf = Leaf { version: Version, at_ms: AT_MS, actor: Text::lossy("x"), decision: raised(Reason::Ima) };
        let whole = leaf.to_bytes();
        let cut = cut.min(whole.len() - 1);
        prop_assert_eq!(event_of(0, &whole[..cut]), None);
    }
}
