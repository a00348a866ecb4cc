//! Increments: whatever the order of restarts, the state converges, and nothing is believed that no quote covers.

use quotary_common::cbor;

use super::*;

const FORM: ListForm = ListForm::BinarySha256;
const PATHS: [&[u8]; 4] = [b"/usr/bin/a", b"/usr/bin/b", b"/usr/lib/c.so", b"/usr/bin/quotary-agent"];

fn at(offset_bytes: u64, bytes: &[u8]) -> Increment<'_> {
    Increment { reset_count: 7, form: FORM, offset_bytes, bytes, has_more: false }
}

fn start(world: &World) -> Aggregate {
    Aggregate::start(7, FORM, world.reference.digest())
}

/// The state after the whole list, and the offset of the entry after the first two.
fn whole(world: &World) -> (Aggregate, usize) {
    let folded = fold(&start(world), at(0, &world.list), &world.pcrs[4], &world.reference);
    assert_eq!((folded.outcome, folded.surplus_bytes, folded.state.violations()), (Outcome::Proven, 0, 0));
    assert!(folded.findings.is_empty());
    (folded.state, ng(PATHS[0]).len() + ng(PATHS[1]).len())
}

#[test]
fn a_list_cut_at_any_byte_comes_to_the_same_state() {
    let world = world(&PATHS);
    let (expected, _) = whole(&world);
    for cut in 0..=world.list.len() {
        let part = Increment { has_more: true, ..at(0, &world.list[..cut]) };
        let first = fold(&start(&world), part, &world.pcrs[4], &world.reference);
        assert_eq!(first.outcome, if cut == world.list.len() { Outcome::Proven } else { Outcome::Behind });
        assert_eq!(first.state.offset_bytes() + first.surplus_bytes as u64, cut as u64);
        let from = first.state.offset_bytes();
        let rest = &world.list[usize::try_from(from).unwrap()..];
        let second = fold(&first.state, at(from, rest), &world.pcrs[4], &world.reference);
        assert_eq!((second.outcome, second.state), (Outcome::Proven, expected), "cut at {cut}");
    }
}

#[test]
fn a_list_longer_than_the_quoted_pcr_waits_for_the_next_quote() {
    let world = world(&PATHS);
    let (expected, second_end) = whole(&world);
    let folded = fold(&start(&world), at(0, &world.list), &world.pcrs[2], &world.reference);
    assert_eq!((folded.outcome, folded.state.entries()), (Outcome::Proven, 2));
    assert_eq!(folded.state.offset_bytes(), second_end as u64);
    assert_eq!(folded.surplus_bytes, world.list.len() - second_end);
    let next = fold(&folded.state, at(second_end as u64, &world.list[second_end..]), &world.pcrs[4], &world.reference);
    assert_eq!((next.outcome, next.state), (Outcome::Proven, expected));
}

#[test]
fn entries_after_the_quote_give_no_finding_yet() {
    let mut world = world(&PATHS);
    world.reference = allowing(PATHS[..2].iter().map(|p| (p.to_vec(), Digest::new(digest_of(p)))).collect());
    let folded = fold(&start(&world), at(0, &world.list), &world.pcrs[2], &world.reference);
    assert_eq!(folded.outcome, Outcome::Proven);
    assert!(folded.findings.is_empty());
    let next = fold(
        &folded.state,
        at(folded.state.offset_bytes(), &world.list[usize::try_from(folded.state.offset_bytes()).unwrap()..]),
        &world.pcrs[4],
        &world.reference,
    );
    assert_eq!(codes(&next.findings), ["ima-unknown-file"; 2]);
    assert_eq!(next.findings.told()[0].entry, 2);
    assert_eq!(next.state.findings(), 2);
}

#[test]
fn a_list_shorter_than_the_quoted_pcr_is_a_mismatch_and_starts_anew() {
    let world = world(&PATHS);
    let (_, second_end) = whole(&world);
    let folded = fold(&start(&world), at(0, &world.list[..second_end]), &world.pcrs[4], &world.reference);
    assert_eq!(folded.outcome, Outcome::Refused);
    assert_eq!(codes(&folded.findings), ["ima-pcr-mismatch"]);
    assert_eq!(folded.state, start(&world));
}

#[test]
fn nothing_new_is_proven_by_the_held_state_alone() {
    let world = world(&PATHS);
    let (held, _) = whole(&world);
    let folded = fold(&held, at(held.offset_bytes(), &[]), &world.pcrs[4], &world.reference);
    assert_eq!((folded.outcome, folded.state), (Outcome::Proven, held));
    let folded = fold(&start(&world), at(0, &[]), &Digest::new([0; 32]), &world.reference);
    assert_eq!((folded.outcome, folded.state.entries()), (Outcome::Proven, 0));
}

#[test]
fn an_agent_that_restarts_and_sends_all_comes_to_the_same_state() {
    let world = world(&PATHS);
    let (held, _) = whole(&world);
    let again = fold(&held, at(0, &world.list), &world.pcrs[4], &world.reference);
    assert_eq!((again.outcome, again.state), (Outcome::Proven, held));
}

#[test]
fn a_full_list_that_does_not_replay_is_refused_though_the_held_state_matches() {
    let world = world(&PATHS);
    let (held, second_end) = whole(&world);
    let again = fold(&held, at(0, &world.list[second_end..]), &world.pcrs[4], &world.reference);
    assert_eq!(again.outcome, Outcome::Refused);
    assert_eq!(again.state.offset_bytes(), 0);
}

#[test]
fn an_offset_ahead_or_within_what_is_held_is_asked_for_again() {
    let world = world(&PATHS);
    let (held, second_end) = whole(&world);
    for offset in [1, second_end as u64, held.offset_bytes() - 1, held.offset_bytes() + 1, u64::MAX] {
        let folded = fold(&held, at(offset, &world.list[second_end..]), &world.pcrs[4], &world.reference);
        assert_eq!((folded.outcome, folded.state), (Outcome::SendFrom, held), "{offset}");
        assert!(folded.findings.is_empty());
    }
}

#[test]
fn a_verifier_that_lost_its_state_asks_for_the_start() {
    let world = world(&PATHS);
    let (held, second_end) = whole(&world);
    let folded =
        fold(&start(&world), at(second_end as u64, &world.list[second_end..]), &world.pcrs[4], &world.reference);
    assert_eq!((folded.outcome, folded.state.offset_bytes()), (Outcome::SendFrom, 0));
    let folded = fold(&folded.state, at(0, &world.list), &world.pcrs[4], &world.reference);
    assert_eq!(folded.state, held);
}

#[test]
fn another_boot_form_or_reference_starts_anew() {
    let world = world(&PATHS);
    let (held, second_end) = whole(&world);
    let rest = at(held.offset_bytes(), &[]);
    let other = allowing(vec![]);
    for (increment, reference) in [
        (Increment { reset_count: 8, ..rest }, &world.reference),
        (Increment { form: ListForm::BinarySha1, ..rest }, &world.reference),
        (rest, &other),
    ] {
        let folded = fold(&held, increment, &world.pcrs[4], reference);
        assert_eq!((folded.outcome, folded.state.offset_bytes()), (Outcome::SendFrom, 0));
    }
    let reboot = Increment { reset_count: 8, ..at(0, &world.list[..second_end]) };
    let folded = fold(&held, reboot, &world.pcrs[2], &world.reference);
    assert_eq!((folded.outcome, folded.state.entries(), folded.state.reset_count()), (Outcome::Proven, 2, 8));
    // What was unknown is known by the new reference, once the list has been sent again.
    let folded = fold(&held, at(0, &world.list), &world.pcrs[4], &other);
    assert_eq!((folded.outcome, folded.findings.count()), (Outcome::Proven, 4));
    let folded = fold(&folded.state, at(0, &world.list), &world.pcrs[4], &world.reference);
    assert_eq!((folded.outcome, folded.state), (Outcome::Proven, held));
}

#[test]
fn an_increment_that_is_too_large_is_refused_unread() {
    let world = world(&PATHS);
    let bytes = vec![0; INCREMENT_BYTES_MAX + 1];
    let folded = fold(&start(&world), at(0, &bytes), &world.pcrs[0], &world.reference);
    assert_eq!((folded.outcome, codes(&folded.findings)), (Outcome::Refused, vec!["ima-malformed"]));
}

#[test]
fn a_required_path_counts_when_it_was_measured_and_allowed() {
    let mut world = world(&PATHS);
    let required = || vec![b"/usr/bin/b".to_vec(), b"/usr/bin/quotary-agent".to_vec()];
    world.reference =
        Reference::new(world.reference.allowed().clone(), SignerKeys::default(), vec![], required()).unwrap();
    let early = fold(&start(&world), at(0, &world.list), &world.pcrs[3], &world.reference);
    let missing = not_measured(&early.state, &world.reference);
    assert_eq!(codes(&missing), ["ima-not-measured"]);
    assert_eq!(missing.told()[0].detail, "/usr/bin/quotary-agent");
    let all = fold(&start(&world), at(0, &world.list), &world.pcrs[4], &world.reference);
    assert!(not_measured(&all.state, &world.reference).is_empty());
    // Measured with another content, it does not count.
    let wrong = PATHS.iter().map(|path| (path.to_vec(), Digest::new([9; 32]))).collect();
    let reference = Reference::new(AllowList::new(wrong).unwrap(), SignerKeys::default(), vec![], required()).unwrap();
    let wrong = fold(&Aggregate::start(7, FORM, reference.digest()), at(0, &world.list), &world.pcrs[4], &reference);
    assert_eq!(not_measured(&wrong.state, &reference).count(), 2);
}

#[test]
fn the_state_is_small_and_has_one_canonical_form() {
    let world = world(&PATHS);
    let (mut state, _) = whole(&world);
    (state.reset_count, state.offset_bytes, state.entries) = (u32::MAX, u64::MAX, u64::MAX);
    (state.violations, state.findings, state.required_seen) = (u64::MAX, u64::MAX, u32::MAX);
    state.boot_aggregate = Some(Digest::new([1; 32]));
    let bytes = cbor::to_bytes(&state);
    assert!(bytes.len() <= AGGREGATE_BYTES_MAX, "{}", bytes.len());
    assert_eq!(cbor::from_bytes::<Aggregate>(&bytes, AGGREGATE_BYTES_MAX).unwrap(), state);
    assert!(cbor::from_bytes::<Aggregate>(&bytes[1..], AGGREGATE_BYTES_MAX).is_err());
}
