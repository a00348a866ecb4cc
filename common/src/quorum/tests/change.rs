//! The text of a change: its exact bytes, and what is refused.

use proptest::prelude::*;

use super::fixture::{HOUR_MS, World, deployment, t0, word};
use crate::envelope::Name;
use crate::id::{Digest, HostId};
use crate::limits::{CHANGE_BYTES_MAX, COVERS_MAX, DOCUMENT_BYTES_MAX};
use crate::plan::OnPressure;
use crate::quorum::change::{Change, ChangeText, Input, Kind, TextFault, Way};
use crate::quorum::covers::{Cover, Reach, Span};
use crate::quorum::criticality::Criticality;
use crate::units::{Class, Resources};

pub(super) fn cover() -> Cover {
    let mut cover = Cover {
        application: Name::new("shop").unwrap(),
        tenant: Name::new("acme").unwrap(),
        host: None,
        reach: Reach::Unit(Name::new("web.service").unwrap()),
        class: Class::Burstable,
        guarantee: [None; 5],
        limit: [None; 5],
    };
    cover.limit[1] = Some(Span { before: Some(1 << 30), after: Some(1 << 29) });
    cover.guarantee[0] = Some(Span { before: None, after: Some(500) });
    cover
}

fn full(world: &World) -> Change {
    world.change(|change| {
        change.slew = Resources { memory_bytes: Some(1 << 20), cpu_millicores: Some(100), ..Resources::default() };
        change.inputs = vec![Input { digest: Digest::of(&[b"plan"]), name: Name::new("pool.tfplan (saved)").unwrap() }];
        let on_host = Cover { host: Some(HostId::of(&[b"h"])), reach: Reach::Uid(1000), ..cover() };
        change.covers = vec![cover(), on_host];
    })
}

/// What people read and sign. A form that ships never changes: another one gets another first line.
const GOLDEN: &str = "quotary-change-v1
deployment: DEPLOYMENT
change: CHANGE
kind: alter policy
name: web
by: quorum
requester: alice
editor: alice
applier: verifier
criticality: high
base: BASE
roster: ROSTER
rules: RULES
proposed: 2026-11-23T07:00:00Z
effective: 2026-11-23T09:00:00Z
approve-by: 2026-11-23T08:00:00Z
apply-by: 2026-11-23T10:00:00Z
until: none
on-pressure: hold
nonce: 07070707070707070707070707070707
slew: cpu_millicores 100
slew: memory_bytes 1048576
input: INPUT pool.tfplan (saved)
cover: application=shop tenant=acme unit=web.service class=burstable cpu_millicores.guarantee=none>500 memory_bytes.limit=1073741824>536870912
cover: application=shop tenant=acme host=HOST uid=1000 class=burstable cpu_millicores.guarantee=none>500 memory_bytes.limit=1073741824>536870912
document: 15
policy = 'web'
";

#[test]
fn the_text_has_exactly_these_bytes() {
    let world = World::new();
    let text = ChangeText::render(&full(&world)).unwrap();
    let change = text.change();
    let expected = GOLDEN
        .replace("DEPLOYMENT", &deployment().hex())
        .replace("CHANGE", &change.id.hex())
        .replace("BASE", &Digest::of(&[b"base"]).hex())
        .replace("ROSTER", &world.roster.digest().hex())
        .replace("RULES", &world.rules.digest().hex())
        .replace("INPUT", &Digest::of(&[b"plan"]).hex())
        .replace("HOST", &HostId::of(&[b"h"]).hex());
    assert_eq!(std::str::from_utf8(text.bytes()).unwrap(), expected);
    assert_eq!(ChangeText::parse(text.bytes()).unwrap(), text);
    assert_eq!(text.digest(), Digest::of(&[expected.as_bytes()]));
}

#[test]
fn bytes_that_are_not_the_one_text_of_a_change_are_refused() {
    let world = World::new();
    let good = String::from_utf8(ChangeText::render(&full(&world)).unwrap().bytes().to_vec()).unwrap();
    let hex = deployment().hex();
    for (from, to) in [
        ("quotary-change-v1", "quotary-change-v2"),
        ("kind: alter policy", "kind:  alter policy"),
        ("kind: alter policy", "kind: Alter policy"),
        ("name: web\n", "name: web \n"),
        ("name: web\n", "name: web\nname: web\n"),
        ("requester: alice\neditor: alice", "editor: alice\nrequester: alice"),
        ("proposed: 2026-11-23T07:00:00Z", "proposed: 2026-11-23T07:00:00.000Z"),
        ("proposed: 2026-11-23T07:00:00Z", "proposed: 2026-11-23T08:00:00+01:00"),
        (hex.as_str(), &hex.to_uppercase()),
        (
            "slew: cpu_millicores 100\nslew: memory_bytes 1048576",
            "slew: memory_bytes 1048576\nslew: cpu_millicores 100",
        ),
        ("slew: cpu_millicores 100", "slew: cpu_millicores 100\nslew: cpu_millicores 100"),
        ("slew: cpu_millicores 100", "slew: cpu_millicores 0100"),
        ("slew: cpu_millicores 100", "slew: cpu_millicores +100"),
        ("none>500 memory", "none>0500 memory"),
        ("class=burstable cpu", "class=burstable  cpu"),
        ("unit=web.service class", "class"),
        ("uid=1000", "uid=1000 uid=1000"),
        ("tenant=acme unit", "tenant= unit"),
        ("document: 15", "document: 14"),
        ("document: 15", "document: 15 "),
        ("criticality: high", "criticality: highest"),
        ("until: none", "until: "),
        ("base: ", "base: none"),
        ("policy = 'web'\n", "policy = 'web'\r"),
        ("policy = 'web'\n", "policy = 'we\u{202e}b"),
        ("name: web\n", "name: web\r\n"),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        assert!(ChangeText::parse(bad.as_bytes()).is_err(), "{from} -> {to}");
    }
    for cut in 0..good.len() {
        assert!(ChangeText::parse(&good.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
    assert!(ChangeText::parse(format!("{good}\n").as_bytes()).is_err());
    assert_eq!(ChangeText::parse(b"\xff"), Err(TextFault::NotText));
}

#[test]
fn a_text_has_bounds() {
    let world = World::new();
    assert!(matches!(ChangeText::parse(&vec![b'a'; CHANGE_BYTES_MAX + 1]), Err(TextFault::TooLarge(_))));
    let fits = world.change(|change| change.document = "a".repeat(DOCUMENT_BYTES_MAX));
    ChangeText::render(&fits).unwrap();
    let too_long = world.change(|change| change.document = "a".repeat(DOCUMENT_BYTES_MAX + 1));
    assert!(ChangeText::render(&too_long).is_err());
    let many = world.change(|change| change.covers = vec![cover(); COVERS_MAX + 1]);
    assert!(ChangeText::render(&many).is_err());
}

#[test]
fn a_change_that_no_text_can_say_is_refused() {
    let world = World::new();
    type Edit = fn(&mut Change);
    let edits: [(Edit, &str); 15] = [
        (|change| change.approve_by_ms = change.proposed_ms, "approve-by before proposed"),
        (|change| change.apply_by_ms = change.approve_by_ms - 1, "apply-by before approve-by"),
        (|change| change.effective_ms = change.apply_by_ms + 1, "effective after apply-by"),
        (|change| change.effective_ms = change.proposed_ms - 1, "effective before proposed"),
        (|change| change.until_ms = Some(change.effective_ms + 1), "until by quorum"),
        (|change| change.way = Way::BreakGlass, "no until by break-glass"),
        (|change| change.requester = word("verifier"), "nobody asks"),
        (|change| change.base = None, "no base"),
        (|change| change.kind = Kind::CreatePolicy, "a base where nothing was"),
        (|change| change.kind = Kind::RevokePolicy, "a document where nothing will be"),
        (|change| change.document = String::new(), "no document"),
        (|change| change.kind = Kind::Roster, "a roster of high criticality"),
        (|change| change.document = "a\tb".to_owned(), "a tab"),
        (|change| change.apply_by_ms = u64::MAX, "after the year 9999"),
        (|change| change.name = crate::cbor::Text::new("two words").unwrap(), "a name of two words"),
    ];
    for (edit, what) in edits {
        assert!(ChangeText::render(&world.change(edit)).is_err(), "{what}");
    }
}

#[test]
fn a_value_cannot_be_read_as_other_fields() {
    let world = World::new();
    let name = Name::new("shop tenant=other").unwrap();
    let smuggled = world.change(|change| change.covers = vec![Cover { application: name, ..cover() }]);
    assert!(ChangeText::render(&smuggled).is_err());
    for path in ["/", "a", "/a/../b", "/a//b", "/a/."] {
        let reach = Reach::Cgroup(crate::cbor::Text::new(path).unwrap());
        let leads = world.change(|change| change.covers = vec![Cover { reach, ..cover() }]);
        assert!(ChangeText::render(&leads).is_err(), "{path}");
    }
}

#[test]
fn an_edit_makes_another_text() {
    let world = World::new();
    let text = world.text(|_| ());
    for other in [world.text(|change| change.nonce = [8; 16]), world.text(|change| change.document.push('#'))] {
        assert_ne!(text.digest(), other.digest());
    }
}

fn amounts() -> impl Strategy<Value = [Option<u64>; 5]> {
    prop::array::uniform5(prop::option::of(any::<u64>()))
}

fn any_cover() -> impl Strategy<Value = Cover> {
    let span = || prop::option::of((prop::option::of(any::<u64>()), prop::option::of(any::<u64>())));
    let spans = move || {
        prop::array::uniform5(span()).prop_map(|all| all.map(|one| one.map(|(before, after)| Span { before, after })))
    };
    let reach = prop_oneof![
        any::<u32>().prop_map(Reach::Uid),
        "[a-z=>]{1,9}".prop_map(|unit| Reach::Unit(Name::new(&unit).unwrap())),
        "/[a-z.=]{1,9}x".prop_map(|path| Reach::Cgroup(crate::cbor::Text::new(&path).unwrap())),
    ];
    let class = prop_oneof![Just(Class::Guaranteed), Just(Class::Burstable), Just(Class::BestEffort)];
    ("[a-z=]{1,9}", "[a-zA-Zäöü=]{1,9}", reach, class, spans(), spans(), any::<bool>()).prop_map(
        |(application, tenant, reach, class, guarantee, limit, on_host)| Cover {
            application: Name::new(&application).unwrap(),
            tenant: Name::new(&tenant).unwrap(),
            host: on_host.then(|| HostId::of(&[b"h"])),
            reach,
            class,
            guarantee,
            limit,
        },
    )
}

proptest! {
    #[test]
    fn every_change_that_can_be_written_reads_as_itself(
        amounts in amounts(),
        covers in prop::collection::vec(any_cover(), 0..4),
        document in "[a-z\n#'= äé]{1,200}",
        times in prop::array::uniform4(0u64..10 * HOUR_MS),
        level in 0usize..4,
        proceeds in any::<bool>(),
    ) {
        let mut slew = Resources::default();
        for (kind, amount) in crate::units::ResourceKind::ALL.into_iter().zip(amounts) {
            slew.set(kind, amount);
        }
        let [approve, effective, apply, _] = times;
        let change = World::new().change(|change| {
            (change.slew, change.covers, change.document) = (slew, covers, document);
            change.approve_by_ms = t0() + 1 + approve;
            change.effective_ms = t0() + effective;
            change.apply_by_ms = change.approve_by_ms.max(change.effective_ms) + apply;
            change.criticality = Criticality::ALL[level];
            change.on_pressure = if proceeds { OnPressure::Proceed } else { OnPressure::Hold };
        });
        let text = ChangeText::render(&change).unwrap();
        prop_assert_eq!(text.change(), &change);
        prop_assert_eq!(ChangeText::parse(text.bytes()).unwrap(), text);
    }

    #[test]
    fn one_flipped_bit_is_refused_or_another_text(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let text = ChangeText::render(&full(&World::new())).unwrap();
        let mut bytes = text.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = ChangeText::parse(&bytes) {
            prop_assert_eq!(other.bytes(), &bytes[..]);
            prop_assert_ne!(other.change(), text.change());
            prop_assert_ne!(other.digest(), text.digest());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = ChangeText::parse(&bytes);
        let _ = ChangeText::parse(&[b"quotary-change-v1\n", &bytes[..]].concat());
    }
}
