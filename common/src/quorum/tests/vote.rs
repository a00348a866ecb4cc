//! Votes: whose, over which bytes, for which purpose.

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::fixture::{Signer, World, deployment, roster_of, roster_text, string, t0, word};
use crate::cbor::{BoundedBytes, from_bytes, to_bytes};
use crate::id::{DeploymentId, sha256};
use crate::limits::{
    BALLOT_VOTES_MAX, SIGNATURE_CACHE_MAX, SSH_SIGNATURE_BYTES_MAX, VOTES_OF_KEY_MAX, VOTES_OF_PERSON_MAX,
};
use crate::quorum::change::Way;
use crate::quorum::roster::Roster;
use crate::quorum::ssh::{Hashes, SshFault, SshKey, SshSignature};
use crate::quorum::vote::{Ballot, Cast, SignatureCache, Verb, Vote, VoteFault, check};

fn checked(world: &World, vote: &Vote, text: &crate::quorum::change::ChangeText) -> Result<(), VoteFault> {
    check(vote, text, &[&world.roster], &mut SignatureCache::default()).map(|_| ())
}

#[test]
fn a_vote_counts_for_exactly_the_bytes_the_verb_and_the_deployment_that_were_signed() {
    let world = World::new();
    let text = world.text(|_| ());
    let vote = Signer::of("bob").vote("bob", Verb::Approval, &text, t0());
    checked(&world, &vote, &text).unwrap();

    let edited = world.text(|change| change.document.push('#'));
    assert_eq!(checked(&world, &vote, &edited), Err(VoteFault::OtherText));
    let relabelled = Vote { text: edited.digest(), ..vote.clone() };
    assert_eq!(checked(&world, &relabelled, &edited), Err(VoteFault::Signature(SshFault::Wrong)));
    for verb in [Verb::Rejection, Verb::BreakGlass, Verb::Review, Verb::Withdrawal] {
        let other = Vote { verb, ..vote.clone() };
        assert_eq!(checked(&world, &other, &text), Err(VoteFault::Signature(SshFault::Namespace)));
    }
    // The same text in another deployment is signed in another namespace, and is another text.
    let elsewhere = world.text(|change| change.deployment = DeploymentId::of(&[b"elsewhere"]));
    let replayed = Vote { text: elsewhere.digest(), ..vote };
    assert_eq!(checked(&world, &replayed, &elsewhere), Err(VoteFault::Signature(SshFault::Namespace)));
    assert!(
        Verb::ALL
            .map(|verb| verb.namespace(&deployment()))
            .iter()
            .all(|name| name.ends_with(&deployment().hex()[..16]))
    );
}

#[test]
fn a_vote_is_of_the_person_who_holds_the_key() {
    let world = World::new();
    let text = world.text(|_| ());
    let as_carol = Signer::of("bob").vote("carol", Verb::Approval, &text, t0());
    assert_eq!(checked(&world, &as_carol, &text), Err(VoteFault::OtherPerson(word("carol"))));
    let stranger = Signer::of("mallory").vote("bob", Verb::Approval, &text, t0());
    assert!(matches!(checked(&world, &stranger, &text), Err(VoteFault::UnknownKey(_))));
    // Bob's name and key upon a signature that another key made.
    let bobs = Signer::of("bob").vote("bob", Verb::Approval, &text, t0());
    let swapped = Vote { signature: stranger.signature, ..bobs };
    assert_eq!(checked(&world, &swapped, &text), Err(VoteFault::OtherKey));
}

#[test]
fn a_hardware_key_tells_whether_somebody_touched_it() {
    let line = Signer::security_key("yubi").line();
    let roster = format!("version = 1\n[[people]]\nname = 'bob'\n[[people.keys]]\nkey = '{line}'\n");
    let roster = Roster::parse(roster.as_bytes()).unwrap();
    assert!(roster.person(&word("bob")).unwrap().keys[0].key.is_security_key());
    let world = World { roster, ..World::new() };
    let text = world.text(|_| ());
    let signer = Signer::security_key("yubi");
    for (flags, is_present) in [(0, false), (1, true), (4, false), (5, true)] {
        let bytes = signer.sign_with(&Verb::Approval.namespace(&deployment()), text.bytes(), flags);
        let vote = Vote {
            signature: BoundedBytes::new(bytes.clone()).unwrap(),
            ..signer.vote("bob", Verb::Approval, &text, t0())
        };
        let checked = check(&vote, &text, &[&world.roster], &mut SignatureCache::default()).unwrap();
        assert_eq!(checked.is_user_present(), is_present, "{flags}");
        // The flag is signed: setting it afterwards breaks the signature.
        let mut forged = bytes;
        let flag_at = forged.len() - 5;
        forged[flag_at] ^= 1;
        let signature = SshSignature::from_bytes(&forged).unwrap();
        let hashes = Hashes::of(text.bytes());
        assert_eq!(signature.verify(&Verb::Approval.namespace(&deployment()), &hashes), Err(SshFault::Wrong));
    }
}

/// A number as SSH writes it: no zeros before it, but one where it would seem negative.
fn number(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    let sign: &[u8] = if digits.first().is_some_and(|byte| *byte > 127) { &[0] } else { &[] };
    string(&[sign, &digits[..]].concat())
}

#[test]
fn a_hardware_key_on_p256_is_checked_with_its_flags_and_has_one_encoding_too() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let algorithm = &b"sk-ecdsa-sha2-nistp256@openssh.com"[..];
    let key = [algorithm, b"nistp256", pair.public_key().as_ref(), b"ssh:"].map(string).concat();
    let namespace = Verb::Approval.namespace(&deployment());
    let hash = ring::digest::digest(&ring::digest::SHA512, b"text");
    let frame = [namespace.as_bytes(), b"", b"sha512", hash.as_ref()].map(string).concat();
    let signed = [b"SSHSIG".to_vec(), frame].concat();
    for flags in [0, 1] {
        let trailer = [flags, 0, 0, 0, 9];
        let touched = [&sha256(&[b"ssh:"])[..], &trailer, &sha256(&[&signed])].concat();
        let raw = pair.sign(&random, &touched).unwrap();
        let numbers = [number(&raw.as_ref()[..32]), number(&raw.as_ref()[32..])].concat();
        let inner = [string(algorithm), string(&numbers), trailer.to_vec()].concat();
        let fields = [&key[..], namespace.as_bytes(), b"", b"sha512", &inner].map(string).concat();
        let bytes = [b"SSHSIG\0\0\0\x01".to_vec(), fields].concat();
        let hashes = Hashes::of(b"text");
        let shown = SshSignature::from_bytes(&bytes).unwrap().verify(&namespace, &hashes).unwrap();
        assert_eq!(shown.is_user_present, flags == 1);
        for at in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            let shown = SshSignature::from_bytes(&bytes).and_then(|it| it.verify(&namespace, &hashes));
            assert!(shown.is_err(), "byte {} of {}, bit {}", at / 8, bytes.len(), at % 8);
        }
    }
}

#[test]
fn an_armour_reads_back_and_what_is_no_signature_is_refused() {
    let world = World::new();
    let text = world.text(|_| ());
    let vote = Signer::of("bob").vote("bob", Verb::Approval, &text, t0());
    let armoured = vote.armoured().unwrap();
    assert!(armoured.lines().all(|line| line.len() <= 70) && armoured.ends_with("-----END SSH SIGNATURE-----\n"));
    let again = Vote::from_armoured(&armoured, Verb::Approval, &text, &world.roster, t0()).unwrap();
    assert_eq!(again, vote);
    for bad in [
        String::new(),
        "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n".to_owned(),
        armoured.replacen("BEGIN SSH", "BEGIN PGP", 1),
        armoured.replacen("U1NIU0lH", "U1NIU0lI", 1),
        armoured.repeat(40),
    ] {
        assert!(SshSignature::parse(&bad).is_err(), "{bad}");
    }
    let mut longer = vote.signature.to_vec();
    longer.push(0);
    assert_eq!(SshSignature::from_bytes(&longer), Err(SshFault::Signature));
    assert_eq!(SshSignature::from_bytes(&vec![0; SSH_SIGNATURE_BYTES_MAX + 1]), Err(SshFault::TooLarge));
    assert!(SshKey::parse(&"a".repeat(5000)).is_err());
}

#[test]
fn a_flood_of_votes_is_bounded_before_any_signature_is_checked() {
    let world = World::new();
    let (text, edited) = (world.text(|_| ()), world.text(|change| change.nonce = [9; 16]));
    let bob = Signer::of("bob").vote("bob", Verb::Approval, &text, t0());
    let mut ballot = Ballot::default();
    assert_eq!(ballot.cast(bob.clone()), Cast::Kept);
    // The same bytes again, a hundred times, are one vote.
    assert!((0..100).all(|n| ballot.cast(Vote { cast_at_ms: n, ..bob.clone() }) == Cast::Again));
    assert_eq!((ballot.votes().len(), ballot.votes()[0].cast_at_ms), (1, t0()));
    // A key whose every signature is another one has some tries, not the whole room.
    let another = |n: u8| Vote { signature: BoundedBytes::new(vec![n]).unwrap(), ..bob.clone() };
    let kept = (0..100).filter(|n| ballot.cast(another(*n)) == Cast::Kept).count();
    assert_eq!(kept, VOTES_OF_KEY_MAX - 1);
    let mut ballot = Ballot::default();
    ballot.cast(bob.clone());
    let of = |n: usize, text: &crate::quorum::change::ChangeText| Vote {
        person: word(&format!("p{n}")),
        text: text.digest(),
        ..bob.clone()
    };
    assert!((1..BALLOT_VOTES_MAX).all(|n| ballot.cast(of(n, &text)) == Cast::Kept));
    assert_eq!(ballot.cast(of(BALLOT_VOTES_MAX, &text)), Cast::Full);
    // After an edit the dismissed votes make room, the oldest first.
    assert_eq!(ballot.cast(of(1, &edited)), Cast::Kept);
    assert_eq!(ballot.votes().len(), BALLOT_VOTES_MAX);
    assert!(ballot.votes().iter().all(|vote| vote.person.as_str() != "bob"));
}

#[test]
fn a_few_people_cannot_fill_a_ballot_for_all_others() {
    let text = World::new().text(|_| ());
    let bob = Signer::of("bob").vote("bob", Verb::Approval, &text, t0());
    let mut ballot = Ballot::default();
    let mut n: u32 = 0;
    for person in ["p1", "p2", "p3", "p4"] {
        for (verb, key) in Verb::ALL.into_iter().flat_map(|verb| (0..8).map(move |key| (verb, key))) {
            for _ in 0..VOTES_OF_KEY_MAX {
                n += 1;
                let key = Signer::of(&format!("{person} {key}")).vote(person, verb, &text, t0()).key;
                let signature = BoundedBytes::new(n.to_be_bytes().to_vec()).unwrap();
                ballot.cast(Vote { person: word(person), key, verb, signature, ..bob.clone() });
            }
        }
    }
    assert_eq!(ballot.votes().len(), 4 * Verb::ALL.len() * VOTES_OF_PERSON_MAX);
    assert_eq!(ballot.cast(bob), Cast::Kept);
}

#[test]
fn a_vote_that_a_change_is_not_decided_by_is_none() {
    let world = World::new();
    let quorum = world.text(|_| ());
    let glass = world.text(|change| {
        (change.way, change.until_ms) = (Way::BreakGlass, Some(change.effective_ms + 1));
    });
    let freeze = world.text(|change| (change.way, change.until_ms) = (Way::Freeze, Some(change.effective_ms + 1)));
    for (text, taken) in [
        (&quorum, &[Verb::Approval, Verb::Rejection, Verb::Withdrawal][..]),
        (&glass, &[Verb::BreakGlass, Verb::Rejection, Verb::Withdrawal, Verb::Review]),
        (&freeze, &[Verb::Approval, Verb::Withdrawal, Verb::Review]),
    ] {
        for verb in Verb::ALL {
            let armoured = Signer::of("bob").vote("bob", verb, text, t0()).armoured().unwrap();
            let read = Vote::from_armoured(&armoured, verb, text, &world.roster, t0());
            match taken.contains(&verb) {
                true => assert!(read.is_ok(), "{verb}"),
                false => assert_eq!(read, Err(VoteFault::OtherVerb(verb))),
            }
        }
    }
}

#[test]
fn votes_for_an_earlier_text_are_kept_and_told_as_dismissed() {
    let world = World::new();
    let (text, edited) = (world.text(|_| ()), world.text(|change| change.nonce = [9; 16]));
    let mut ballot = Ballot::default();
    ballot.cast(Signer::of("bob").vote("bob", Verb::Approval, &text, t0()));
    ballot.cast(Signer::of("carol").vote("carol", Verb::Approval, &edited, t0()));
    let ballot: Ballot = from_bytes(&to_bytes(&ballot), 1 << 16).unwrap();
    let (held, failed) = ballot.checked(&edited, &[&world.roster], &mut SignatureCache::default());
    assert_eq!((held.len(), held[0].person()), (1, &word("carol")));
    assert_eq!((failed.len(), &failed[0].1), (1, &VoteFault::OtherText));
}

#[test]
fn a_remembered_check_says_the_same_and_only_what_held_is_remembered() {
    let world = World::new();
    let text = world.text(|_| ());
    let mut cache = SignatureCache::default();
    let good = Signer::of("bob").vote("bob", Verb::Approval, &text, t0());
    let first = check(&good, &text, &[&world.roster], &mut cache).unwrap();
    assert_eq!((check(&good, &text, &[&world.roster], &mut cache).unwrap(), cache.len()), (first, 1));
    let mut bytes = good.signature.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let bad = Vote { signature: BoundedBytes::new(bytes).unwrap(), ..good.clone() };
    assert!(check(&bad, &text, &[&world.roster], &mut cache).is_err() && cache.len() == 1);
    // A remembered signature is no way round the questions that come before it.
    let other = Vote { person: word("carol"), ..good.clone() };
    assert!(check(&other, &text, &[&world.roster], &mut cache).is_err());
    let without_bob = roster_of(4, &[("carol", &["security"])]);
    assert!(matches!(check(&good, &text, &[&without_bob], &mut cache), Err(VoteFault::UnknownKey(_))));
    let as_rejection = Vote { verb: Verb::Rejection, ..good };
    assert!(check(&as_rejection, &text, &[&world.roster], &mut cache).is_err());
    const { assert!(SIGNATURE_CACHE_MAX >= BALLOT_VOTES_MAX) };
}

#[test]
fn the_same_person_may_sign_with_several_keys_and_they_are_his() {
    let two = format!(
        "{}[[people.keys]]\nkey = '{}'\n",
        roster_text(1, &[("bob", &["operator"])]),
        Signer::of("bob's laptop").line()
    );
    let world = World { roster: Roster::parse(two.as_bytes()).unwrap(), ..World::new() };
    let text = world.text(|_| ());
    checked(&world, &Signer::of("bob's laptop").vote("bob", Verb::Approval, &text, t0()), &text).unwrap();
}

proptest! {
    #[test]
    fn no_bytes_make_the_signature_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SshSignature::from_bytes(&bytes);
        let _ = SshSignature::from_bytes(&[b"SSHSIG\0\0\0\x01", &bytes[..]].concat());
        let _ = SshKey::parse(&String::from_utf8_lossy(&bytes));
        let _ = SshSignature::parse(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn one_flipped_bit_of_a_signature_never_holds() {
    let namespace = Verb::Approval.namespace(&deployment());
    let good = Signer::of("bob").sign(&namespace, b"text");
    let hashes = Hashes::of(b"text");
    for at in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let shown = SshSignature::from_bytes(&bytes).and_then(|it| it.verify(&namespace, &hashes));
        assert!(shown.is_err(), "byte {} of {}, bit {}: {bytes:?}", at / 8, good.len(), at % 8);
    }
}
