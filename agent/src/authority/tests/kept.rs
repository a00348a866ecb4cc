//! Which policies are in force here: over time, restarts, refusals of the disk, and damage.

use std::collections::BTreeSet;

use quotary_common::id::{ChangeId, Digest};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::change::{Change, Kind, Way};
use quotary_common::quorum::decision::{VerifiedDecision, verify};

use super::fixture::{EFFECTIVE, HOUR_MS, MINUTE_MS, NOW, World, deployment, refuse_writes, state};
use crate::authority::{AuthorityError, DECISIONS_FILE, Heard, Kept};
use crate::state::StateDir;

fn load(state: &StateDir) -> Kept {
    Kept::load(state.clone()).unwrap()
}

/// A decision of the first world, with what it says.
fn decided(edit: impl FnOnce(&mut Change)) -> (Vec<u8>, VerifiedDecision) {
    let world = World::new();
    let text = world.text(edit);
    let people: &[&str] = if text.change().way == Way::Quorum { &["bob", "carol"] } else { &["bob"] };
    let bytes = world.sent(&text, people).to_bytes();
    let verified = verify(&bytes, &world.pin(), &deployment(), NOW).unwrap();
    (bytes, verified)
}

fn keep(kept: &mut Kept, decision: &(Vec<u8>, VerifiedDecision), now_ms: u64) -> Result<(), AuthorityError> {
    kept.keep(&decision.0, &decision.1, World::new().pin(), now_ms).map(|_| ())
}

/// The verifier says that it is in force.
fn put_in_force(kept: &mut Kept, decision: &(Vec<u8>, VerifiedDecision), now_ms: u64) -> bool {
    let heard = heard(decision, World::new().pin(), now_ms);
    !kept.put_in_force([&heard].into_iter(), now_ms).unwrap().is_empty()
}

fn heard((bytes, verified): &(Vec<u8>, VerifiedDecision), under: Authority, as_of_ms: u64) -> Heard {
    Heard { bytes: bytes.clone(), verified: verified.clone(), under, as_of_ms }
}

fn text(decision: &(Vec<u8>, VerifiedDecision)) -> Digest {
    decision.1.text().digest()
}

/// A reply whose plans carry these decisions.
fn settle(kept: &mut Kept, carried: &[&(Vec<u8>, VerifiedDecision)], now_ms: u64) {
    kept.settle(&carried.iter().map(|decision| text(decision)).collect(), now_ms);
}

fn in_force(kept: &Kept, now_ms: u64) -> Vec<Digest> {
    kept.in_force(now_ms).into_iter().map(|decision| decision.text().digest()).collect()
}

/// Another change of the policy, some minutes after the first one takes effect.
fn later(minutes: u64, edit: impl FnOnce(&mut Change)) -> (Vec<u8>, VerifiedDecision) {
    decided(|change| {
        (change.id, change.effective_ms) = (ChangeId::of(&[&minutes.to_be_bytes()]), EFFECTIVE + minutes * MINUTE_MS);
        edit(change);
    })
}

#[test]
fn a_decision_is_in_force_from_its_effective_time_on_and_over_restarts_long_past_its_apply_by_time() {
    let (_temp, state) = state();
    let decision = decided(|_| ());
    let mut kept = load(&state);
    keep(&mut kept, &decision, NOW).unwrap();
    settle(&mut kept, &[&decision], EFFECTIVE - 1);
    assert!(!put_in_force(&mut kept, &decision, EFFECTIVE - 1), "its time has not come here");
    assert!(in_force(&kept, EFFECTIVE - 1).is_empty() && kept.texts_in_force().is_empty());
    assert!(put_in_force(&mut kept, &decision, EFFECTIVE) && !put_in_force(&mut kept, &decision, EFFECTIVE));
    assert_eq!(in_force(&kept, EFFECTIVE), [text(&decision)]);
    assert!(kept.texts_in_force().contains(&text(&decision)));
    let year_ms = 365 * 24 * HOUR_MS;
    let mut again = load(&state);
    settle(&mut again, &[], NOW + year_ms);
    assert_eq!(in_force(&again, NOW + year_ms), [text(&decision)], "with or without plans");
    assert!(again.find(&text(&decision)).is_some());
}

#[test]
fn a_change_that_was_taken_back_before_its_time_leaves_nothing_behind() {
    let (_temp, state) = state();
    let decision = decided(|_| ());
    let mut kept = load(&state);
    keep(&mut kept, &decision, NOW).unwrap();
    let mut after_a_crash = load(&state);
    for kept in [&mut kept, &mut after_a_crash] {
        settle(kept, &[], EFFECTIVE + 1);
        assert!(kept.find(&text(&decision)).is_none() && in_force(kept, EFFECTIVE + 1).is_empty());
    }
    assert!(load(&state).find(&text(&decision)).is_none());
}

#[test]
fn plans_put_no_decision_in_force_whatever_their_time_and_keep_what_was_before_them() {
    let (_temp, state) = state();
    let (first, second) = (decided(|_| ()), later(10, |_| ()));
    let mut kept = load(&state);
    put_in_force(&mut kept, &first, EFFECTIVE);
    keep(&mut kept, &second, EFFECTIVE + MINUTE_MS).unwrap();
    let past_ms = EFFECTIVE + 11 * MINUTE_MS;
    settle(&mut kept, &[&second], past_ms);
    assert_eq!(in_force(&kept, past_ms), [text(&first)]);
    assert!(kept.find(&text(&second)).is_some() && !kept.is_superseded(first.1.change()));
    // One that is taken up only then is not in force either, until the verifier says so.
    let third = later(10, |change| change.nonce = [9; 16]);
    keep(&mut kept, &third, past_ms).unwrap();
    assert_eq!(in_force(&kept, past_ms), [text(&first)]);
    put_in_force(&mut kept, &second, past_ms);
    assert_eq!(in_force(&kept, past_ms), [text(&second)]);
}

#[test]
fn what_is_acted_on_and_not_in_force_is_held_again_some_minutes_after_its_apply_by_time() {
    let (_temp, state) = state();
    let decision = decided(|_| ());
    // A host takes a while to hear what came into force at the last moment.
    let apply_by_ms = decision.1.change().apply_by_ms + 5 * MINUTE_MS;
    let mut kept = load(&state);
    keep(&mut kept, &decision, NOW).unwrap();
    let pin = World::new().pin();
    assert!(kept.find_under(&text(&decision), &pin, apply_by_ms).is_some());
    assert!(kept.find_under(&text(&decision), &pin, apply_by_ms + 1).is_none(), "it is to be verified again");
    put_in_force(&mut kept, &decision, apply_by_ms);
    assert!(kept.find_under(&text(&decision), &pin, apply_by_ms + 1).is_some(), "what is in force stands");
}

#[test]
fn what_is_to_come_comes_only_under_those_whom_it_was_held_against() {
    let (_temp, state) = state();
    let (first, second) = (decided(|_| ()), later(10, |_| ()));
    let next = World::of(1, &["alice", "bob", "dave"]).pin();
    let mut kept = load(&state);
    put_in_force(&mut kept, &first, EFFECTIVE);
    keep(&mut kept, &second, EFFECTIVE).unwrap();
    let past_ms = EFFECTIVE + 11 * MINUTE_MS;
    assert!(kept.find_under(&text(&second), &next, EFFECTIVE).is_none(), "it is to be verified again");
    assert!(kept.find_under(&text(&first), &next, EFFECTIVE).is_some(), "what is in force stands");
    // Held against those who decide now it is acted on, and comes into force.
    assert!(kept.keep(&second.0, &second.1, next, EFFECTIVE + 1).unwrap());
    assert!(kept.find_under(&text(&second), &next, EFFECTIVE + 1).is_some());
    kept.put_in_force([&heard(&second, next, past_ms)].into_iter(), past_ms).unwrap();
    assert_eq!(in_force(&kept, past_ms), [text(&second)]);
}

#[test]
fn a_later_decision_takes_the_place_of_the_one_before_when_its_time_has_come() {
    let (_temp, state) = state();
    let (first, second) = (decided(|_| ()), later(10, |_| ()));
    let mut kept = load(&state);
    put_in_force(&mut kept, &first, EFFECTIVE);
    keep(&mut kept, &second, EFFECTIVE + MINUTE_MS).unwrap();
    settle(&mut kept, &[&first, &second], EFFECTIVE + 2 * MINUTE_MS);
    assert_eq!(in_force(&kept, EFFECTIVE + 2 * MINUTE_MS), [text(&first)]);
    assert!(!kept.is_superseded(first.1.change()));
    put_in_force(&mut kept, &second, EFFECTIVE + 10 * MINUTE_MS);
    assert!(!put_in_force(&mut kept, &first, EFFECTIVE + 10 * MINUTE_MS), "nor does the verifier's word bring it back");
    let mut again = load(&state);
    for kept in [&mut kept, &mut again] {
        assert_eq!(in_force(kept, EFFECTIVE + 10 * MINUTE_MS), [text(&second)]);
        assert!(kept.is_superseded(first.1.change()) && kept.find(&text(&first)).is_none());
    }
}

#[test]
fn a_revocation_takes_its_policy_out_and_nothing_from_before_comes_back() {
    let (_temp, state) = state();
    let first = decided(|_| ());
    let revoked = later(10, |change| (change.kind, change.document) = (Kind::RevokePolicy, String::new()));
    let mut kept = load(&state);
    put_in_force(&mut kept, &first, EFFECTIVE);
    put_in_force(&mut kept, &revoked, EFFECTIVE + 10 * MINUTE_MS);
    settle(&mut kept, &[], EFFECTIVE + 10 * MINUTE_MS);
    assert!(!put_in_force(&mut kept, &first, EFFECTIVE + 11 * MINUTE_MS));
    assert!(kept.find(&text(&first)).is_none() && kept.is_superseded(first.1.change()));
    assert_eq!(in_force(&kept, EFFECTIVE + 10 * MINUTE_MS), [text(&revoked)], "which binds nobody");
}

#[test]
fn what_an_emergency_stood_before_holds_again_after_its_end() {
    let (_temp, state) = state();
    let until_ms = EFFECTIVE + 30 * MINUTE_MS;
    let policy = decided(|_| ());
    let emergency = later(0, |change| (change.way, change.until_ms) = (Way::BreakGlass, Some(until_ms)));
    let mut kept = load(&state);
    put_in_force(&mut kept, &policy, EFFECTIVE);
    put_in_force(&mut kept, &emergency, EFFECTIVE + 1);
    assert_eq!(in_force(&kept, until_ms - 1), [text(&emergency)]);
    assert_eq!(in_force(&load(&state), until_ms), [text(&policy)]);
    settle(&mut kept, &[&policy, &emergency], until_ms);
    assert!(!put_in_force(&mut kept, &emergency, until_ms), "it is over");
    assert!(kept.find(&text(&emergency)).is_none());
    assert_eq!(in_force(&load(&state), until_ms - 1), [text(&policy)]);
}

#[test]
fn what_the_disk_refused_is_not_kept_and_a_crash_leaves_what_was_before() {
    let (_temp, state) = state();
    let (first, other) = (decided(|_| ()), later(10, |_| ()));
    let mut kept = load(&state);
    keep(&mut kept, &first, NOW).unwrap();
    refuse_writes(&state, DECISIONS_FILE, true);
    assert!(matches!(keep(&mut kept, &other, NOW), Err(AuthorityError::Decisions(_))));
    assert!(kept.find(&text(&other)).is_none() && kept.find(&text(&first)).is_some());
    // What the verifier says is in force is not before the disk has it.
    let came = heard(&first, World::new().pin(), EFFECTIVE);
    assert!(matches!(kept.put_in_force([&came].into_iter(), EFFECTIVE), Err(AuthorityError::Decisions(_))));
    assert!(in_force(&kept, EFFECTIVE).is_empty() && in_force(&load(&state), EFFECTIVE).is_empty());
    refuse_writes(&state, DECISIONS_FILE, false);
    assert_eq!(kept.put_in_force([&came].into_iter(), EFFECTIVE + 1).unwrap().len(), 1);
    assert_eq!(in_force(&load(&state), EFFECTIVE), [text(&first)]);
    let whole = std::fs::read(state.file(DECISIONS_FILE)).unwrap();
    for written in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(state.path().join(format!(".{DECISIONS_FILE}.new")), &whole[..written]).unwrap();
        assert_eq!(in_force(&load(&state), EFFECTIVE), [text(&first)]);
    }
}

#[test]
fn a_damaged_file_and_a_tampered_vote_are_told_with_what_to_do_and_stay() {
    let (_temp, state) = state();
    let decision = decided(|_| ());
    keep(&mut load(&state), &decision, NOW).unwrap();
    let whole = std::fs::read(state.file(DECISIONS_FILE)).unwrap();
    let signature = whole.windows(6).rposition(|at| at == b"SSHSIG").unwrap();
    let mut tampered = whole.clone();
    tampered[signature + 200] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &tampered] {
        std::fs::write(state.file(DECISIONS_FILE), damaged).unwrap();
        let told = crate::authority::in_a_line(&Kept::load(state.clone()).unwrap_err());
        assert!(told.contains(DECISIONS_FILE) && told.contains("remove it"), "{told}");
        assert_eq!(std::fs::read(state.file(DECISIONS_FILE)).unwrap(), damaged);
    }
}

#[test]
fn another_deployments_decisions_are_let_go() {
    let (_temp, state) = state();
    let decision = decided(|_| ());
    let mut kept = load(&state);
    keep(&mut kept, &decision, NOW).unwrap();
    kept.belong_to(&deployment());
    assert!(kept.find(&text(&decision)).is_some());
    kept.belong_to(&quotary_common::id::DeploymentId::of(&[b"x"]));
    kept.settle(&BTreeSet::new(), NOW);
    assert!(load(&state).find(&text(&decision)).is_none());
}
