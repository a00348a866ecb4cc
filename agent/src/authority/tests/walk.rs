//! From genesis to who decides now, against a verifier that leaves out, repeats, or makes up.

use quotary_common::limits::LINKS_MAX;
use quotary_common::quorum::authority::Authority;
use quotary_common::sign::SigningKey;
use quotary_common::wire::{AuthorityReply, Base64};

use super::fixture::{NOW, World, deployment, refuse_writes, state};
use crate::authority::learn::learn_by;
use crate::authority::{AuthorityError, LearnError, PIN_FILE, Pin, Walk};
use crate::enforce::tests::root_key;

/// Three rosters, one after the other.
fn worlds() -> [World; 3] {
    [
        World::new(),
        World::of(1, &["alice", "bob", "carol", "dave"]),
        World::of(2, &["alice", "bob", "carol", "dave", "erin"]),
    ]
}

fn links() -> Vec<Vec<u8>> {
    let [first, second, third] = worlds();
    vec![first.link(&second, &["bob", "carol"]), second.link(&third, &["bob", "dave"])]
}

fn page(genesis: &Authority, root: &SigningKey, number: u64, links: &[Vec<u8>]) -> AuthorityReply {
    AuthorityReply {
        number,
        genesis: Base64(root.sign(genesis).to_bytes()),
        roster: Base64(Vec::new()),
        rules: Base64(Vec::new()),
        links: links.iter().map(|link| Base64(link.clone())).collect(),
    }
}

/// A page of the verifier of these worlds.
fn honest(number: u64, links: &[Vec<u8>]) -> AuthorityReply {
    page(&worlds()[0].pin(), &root_key(), number, links)
}

fn walk(pinned: Option<Authority>) -> Walk {
    Walk::from(pinned, root_key().public(), deployment())
}

#[test]
fn a_new_host_walks_from_the_first_authority_to_the_last_page_by_page() {
    let (links, [first, second, third]) = (links(), worlds());
    let mut all = walk(None);
    assert_eq!(all.after(), None);
    assert!(all.take(&honest(2, &links), NOW).unwrap());
    assert_eq!(all.at(), Some(third.pin()));

    let mut paged = walk(None);
    for (after, next, at) in [(None, &links[..1], second.pin()), (Some(1), &links[1..], third.pin())] {
        assert_eq!(paged.after(), after);
        assert_eq!(paged.take(&honest(2, next), NOW).unwrap(), at == third.pin());
        assert_eq!(paged.at(), Some(at));
    }
    let mut pinned = walk(Some(second.pin()));
    assert!(pinned.take(&honest(2, &links[1..]), NOW).unwrap());
    assert_eq!(pinned.at(), Some(third.pin()));
    let mut none = walk(None);
    assert!(none.take(&honest(0, &[]), NOW).unwrap());
    assert_eq!(none.at(), Some(first.pin()));
}

#[test]
fn what_the_root_did_not_sign_is_nobodys_authority() {
    let own = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let own = SigningKey::from_pkcs8(own.as_ref()).unwrap();
    let usurper = World::of(0, &["eve", "mallory"]).pin();
    let elsewhere = Authority { deployment: quotary_common::id::DeploymentId::of(&[b"x"]), ..worlds()[0].pin() };
    for forged in [page(&usurper, &own, 0, &[]), page(&elsewhere, &root_key(), 0, &[])] {
        let mut walk = walk(None);
        assert!(matches!(walk.take(&forged, NOW), Err(LearnError::Genesis(_))));
        assert_eq!(walk.at(), None);
    }
    let unreadable = AuthorityReply { genesis: Base64(vec![0xa0]), ..honest(0, &[]) };
    assert!(matches!(walk(None).take(&unreadable, NOW), Err(LearnError::Form(_))));
}

#[test]
fn a_link_that_does_not_hold_ends_the_walk_where_the_last_good_one_led() {
    let (links, [first, second, third]) = (links(), worlds());
    let few = second.link(&third, &["bob"]);
    let mut cut = walk(None);
    let refused = cut.take(&honest(2, &[links[0].clone(), few]), NOW);
    assert!(matches!(refused, Err(LearnError::Link { after: 1, .. })), "{refused:?}");
    assert_eq!(cut.at(), Some(second.pin()));
    // One left out, and one that comes twice.
    for wrong in [&links[1..], &[links[0].clone(), links[0].clone()]] {
        assert!(matches!(walk(None).take(&honest(2, wrong), NOW), Err(LearnError::Link { .. })));
    }
    let mut tampered = links[0].clone();
    let vote = tampered.len() / 2;
    tampered[vote] ^= 1;
    let mut stays = walk(Some(first.pin()));
    assert!(stays.take(&honest(1, &[tampered]), NOW).is_err());
    assert_eq!(stays.at(), Some(first.pin()));
}

#[test]
fn a_verifier_that_speaks_of_more_than_it_shows_is_not_asked_for_ever() {
    let mut walk = walk(None);
    assert!(!walk.take(&honest(2, &links()[..1]), NOW).unwrap());
    assert!(matches!(walk.take(&honest(2, &[]), NOW), Err(LearnError::Short { said: 2, shown: 1 })));
    let endless = honest(LINKS_MAX as u64 + 1, &[]);
    assert!(matches!(self::walk(None).take(&endless, NOW), Err(LearnError::TooMany(_))));
}

#[test]
fn the_root_may_begin_anew_above_what_is_pinned_and_nowhere_else() {
    let [_, second, _] = worlds();
    let anew = Authority { number: 7, ..World::of(6, &["erin", "frank"]).pin() };
    let mut walk = walk(Some(second.pin()));
    assert!(
        walk.take(&page(&anew, &root_key(), 7, &links()), NOW).unwrap(),
        "its links are those after another number"
    );
    assert_eq!(walk.at(), Some(anew));
    let beside = Authority { number: 1, ..anew };
    let refused = self::walk(Some(second.pin())).take(&page(&beside, &root_key(), 1, &[]), NOW);
    assert!(matches!(refused, Err(LearnError::Other(1))));
}

#[tokio::test]
async fn what_is_learned_is_pinned_page_by_page_as_far_as_it_holds_and_once_it_is_on_the_disk() {
    let (_temp, state) = state();
    let load = || Pin::load(state.clone(), root_key().public(), deployment()).unwrap();
    let (links, [_, second, third]) = (links(), worlds());
    // One link a page; the verifier breaks off after the first, then is whole.
    let ask = |shown: usize| {
        let links = links.clone();
        move |after: Option<u64>| {
            let from = usize::try_from(after.unwrap_or(0)).unwrap();
            let page = honest(2, &links[..shown][from.min(shown)..shown.min(from + 1)]);
            async move { Ok(page) }
        }
    };
    refuse_writes(&state, PIN_FILE, true);
    let (pin, outcome) = learn_by(ask(2), load()).await;
    assert!(matches!(outcome, Err(LearnError::Keep(AuthorityError::Pin(_)))), "{outcome:?}");
    assert_eq!((pin.unwrap().authority(), load().authority()), (None, None), "nothing is believed that is not kept");
    refuse_writes(&state, PIN_FILE, false);
    let (_, outcome) = learn_by(ask(1), load()).await;
    assert!(matches!(outcome, Err(LearnError::Short { said: 2, shown: 1 })), "{outcome:?}");
    assert_eq!(load().authority(), Some(&second.pin()));
    let (pin, outcome) = learn_by(ask(2), load()).await;
    outcome.unwrap();
    assert_eq!((pin.unwrap().authority(), load().authority()), (Some(&third.pin()), Some(&third.pin())));
}
