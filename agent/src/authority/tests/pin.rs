//! The pin over restarts, refusals of the disk, and damage.

use std::os::unix::fs::MetadataExt;

use quotary_common::id::DeploymentId;
use quotary_common::quorum::authority::Authority;

use super::fixture::{World, deployment, refuse_writes, state};
use crate::authority::{AuthorityError, PIN_FILE, Pin};
use crate::enforce::tests::root_key;
use crate::state::StateDir;

fn load(state: &StateDir) -> Pin {
    Pin::load(state.clone(), root_key().public(), deployment()).unwrap()
}

fn numbered(number: u64) -> Authority {
    Authority { number, ..World::new().pin() }
}

#[test]
fn a_pin_outlives_a_restart_and_is_for_the_agents_user_alone() {
    let (_temp, state) = state();
    let mut pin = load(&state);
    assert_eq!(pin.authority(), None);
    assert!(pin.is_behind(0), "nothing is less than the first");
    pin.advance(numbered(3), 1_000).unwrap();
    let again = load(&state);
    assert_eq!(again.authority(), Some(&numbered(3)));
    assert_eq!([3, 4].map(|number| again.is_behind(number)), [false, true]);
    assert_eq!(std::fs::metadata(state.file(PIN_FILE)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_pin_never_goes_back_and_the_same_number_is_never_another_authority() {
    let (_temp, state) = state();
    let mut pin = load(&state);
    pin.advance(numbered(3), 1_000).unwrap();
    let other = Authority { number: 3, ..World::of(0, &["eve", "mallory"]).pin() };
    for back in [numbered(2), other] {
        assert!(matches!(pin.advance(back, 1_000), Err(AuthorityError::Back { from: 3, .. })));
    }
    pin.advance(numbered(3), 1_000).unwrap();
    assert_eq!(load(&state).authority(), Some(&numbered(3)));
}

#[test]
fn a_pin_counts_under_its_root_and_for_its_deployment_alone() {
    let (_temp, state) = state();
    load(&state).advance(numbered(3), 1_000).unwrap();
    let elsewhere = Pin::load(state.clone(), root_key().public(), DeploymentId::of(&[b"x"])).unwrap();
    let other_root = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let other_root = quotary_common::sign::SigningKey::from_pkcs8(other_root.as_ref()).unwrap().public();
    let usurped = Pin::load(state.clone(), other_root, deployment()).unwrap();
    assert_eq!((elsewhere.authority(), usurped.authority()), (None, None));
    assert_eq!(load(&state).authority(), Some(&numbered(3)), "looking does not remove it");
}

#[test]
fn a_pin_that_the_disk_refused_is_not_believed_and_a_crash_leaves_the_one_before() {
    let (_temp, state) = state();
    let mut pin = load(&state);
    pin.advance(numbered(1), 1_000).unwrap();
    refuse_writes(&state, PIN_FILE, true);
    assert!(matches!(pin.advance(numbered(2), 1_000), Err(AuthorityError::Pin(_))));
    assert_eq!(pin.authority(), Some(&numbered(1)));
    assert_eq!(load(&state).authority(), Some(&numbered(1)));
    refuse_writes(&state, PIN_FILE, false);
    // Killed while it was written, at any byte of it.
    let whole = std::fs::read(state.file(PIN_FILE)).unwrap();
    for written in 0..whole.len() {
        std::fs::write(state.path().join(format!(".{PIN_FILE}.new")), &whole[..written]).unwrap();
        assert_eq!(load(&state).authority(), Some(&numbered(1)));
    }
    load(&state).advance(numbered(2), 1_000).unwrap();
    assert_eq!(load(&state).authority(), Some(&numbered(2)));
}

#[test]
fn a_damaged_pin_is_told_with_what_to_do_and_stays() {
    let (_temp, state) = state();
    load(&state).advance(numbered(1), 1_000).unwrap();
    let whole = std::fs::read(state.file(PIN_FILE)).unwrap();
    for damaged in [&whole[..whole.len() - 1], b"", &[0; 2_000]] {
        std::fs::write(state.file(PIN_FILE), damaged).unwrap();
        let refused = Pin::load(state.clone(), root_key().public(), deployment()).unwrap_err();
        let told = crate::authority::in_a_line(&refused);
        assert!(told.contains(PIN_FILE) && (told.contains("remove it") || damaged.len() > 1_024), "{told}");
        assert_eq!(std::fs::read(state.file(PIN_FILE)).unwrap(), damaged);
    }
}
