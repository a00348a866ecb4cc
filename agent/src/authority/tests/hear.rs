//! Hearing what is in force: from a verifier that shows other things than it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use quotary_client::ClientError;
use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{Base64, QuorumDecisionReply, QuorumDecisionsReply};

use super::fixture::{EFFECTIVE, World};
use crate::authority::hear::hear_by;
use crate::authority::{Before, Told};

fn text_of(bytes: &[u8]) -> Digest {
    crate::authority::judge::text_of(bytes).unwrap()
}

fn decided(nonce: u8) -> Vec<u8> {
    World::new().decision(|change| change.nonce = [nonce; 16])
}

fn before(known: &[Digest]) -> Before {
    Before { pin: World::new().pin(), since_ms: None, known: known.iter().copied().collect() }
}

/// Asks a verifier that lists `texts` and shows what it has by them.
async fn hear(texts: Vec<Digest>, shown: BTreeMap<Digest, Vec<u8>>, before: Before) -> Told {
    let listed = QuorumDecisionsReply { name: Some(Digest::of(&[b"name"])), texts };
    let show = |text: Digest| {
        let bytes = shown.get(&text).cloned();
        let gone = || ClientError::Refused { status: 404, error: (&Refusal::new(Reason::NotFound, "gone")).into() };
        async move { bytes.map(|bytes| QuorumDecisionReply { decision: Base64(bytes) }).ok_or_else(gone) }
    };
    hear_by(listed, show, before, || EFFECTIVE).await
}

#[tokio::test]
async fn what_is_not_known_is_asked_for_and_held_and_the_rest_is_not_asked_for() {
    let (one, other) = (decided(1), decided(2));
    let texts = vec![text_of(&one), text_of(&other), text_of(&one)];
    // What is known is not even shown.
    let shown = BTreeMap::from([(text_of(&other), other.clone())]);
    let told = hear(texts, shown, before(&[text_of(&one)])).await;
    assert_eq!((told.name, told.missed), (Some(Digest::of(&[b"name"])), Vec::<String>::new()));
    let heard: Vec<Digest> = told.decisions.iter().map(|heard| heard.text()).collect();
    assert_eq!(heard, [text_of(&other)]);
}

#[tokio::test]
async fn what_does_not_hold_is_missed_with_why_and_the_rest_is_heard() {
    let (good, gone, swapped) = (decided(1), decided(2), decided(3));
    let world = World::new();
    let few = world.sent(&world.text(|change| change.nonce = [4; 16]), &["bob"]).to_bytes();
    // Its apply-by time is long over: this host was not here in time.
    let late = world.decision(|change| {
        (change.nonce, change.effective_ms) = ([5; 16], change.approve_by_ms);
        change.apply_by_ms = change.approve_by_ms + 1;
    });
    let texts: Vec<Digest> = [&good, &gone, &swapped, &few, &late].into_iter().map(|bytes| text_of(bytes)).collect();
    let shown = BTreeMap::from([
        (text_of(&good), good.clone()),
        (text_of(&swapped), good.clone()),
        (text_of(&few), few.clone()),
        (text_of(&late), late.clone()),
    ]);
    let told = hear(texts, shown, before(&[])).await;
    let heard: BTreeSet<Digest> = told.decisions.iter().map(|heard| heard.text()).collect();
    assert_eq!(heard, BTreeSet::from([text_of(&good)]));
    let why = |bytes: &[u8]| told.missed.iter().find(|why| why.contains(&text_of(bytes).hex())).unwrap();
    assert_eq!(told.missed.len(), 4, "{:?}", told.missed);
    assert!(why(&gone).contains("gone") && why(&swapped).contains("another decision"), "{:?}", told.missed);
    assert!(why(&few).contains("not approved") && why(&late).contains("not approved"), "{:?}", told.missed);
}

#[tokio::test]
async fn what_was_heard_before_the_verifier_broke_off_is_not_lost() {
    let bytes = decided(1);
    let texts = [bytes.as_slice(), &decided(2)].map(text_of);
    let (first, last) = (texts.iter().min().copied().unwrap(), texts.iter().max().copied().unwrap());
    let shown = if text_of(&bytes) == first { bytes } else { decided(2) };
    let listed = QuorumDecisionsReply { name: None, texts: texts.to_vec() };
    let show = |text: Digest| {
        let shown = (text == first).then(|| QuorumDecisionReply { decision: Base64(shown.clone()) });
        let silent = || ClientError::Timeout { place: "verifier".to_owned(), after_ms: 1 };
        async move { shown.ok_or_else(silent) }
    };
    let told = hear_by(listed, show, before(&[]), || EFFECTIVE).await;
    assert!(matches!(told.broke_off, Some(ClientError::Timeout { .. })) && told.missed.is_empty());
    assert_eq!(told.decisions.iter().map(|heard| heard.text()).collect::<Vec<_>>(), [first]);
    assert_eq!(told.listed, BTreeSet::from([first, last]));
}

#[tokio::test]
async fn who_decided_with_a_key_whose_time_is_over_by_now_is_not_taken() {
    // Valid when it took effect, and not when it is heard of.
    let world = World::with_keys_until(EFFECTIVE + 1);
    let bytes = world.decision(|_| ());
    let text = text_of(&bytes);
    for (now, is_taken) in [((|| EFFECTIVE) as fn() -> u64, true), (|| EFFECTIVE + 2_000, false)] {
        let listed = QuorumDecisionsReply { name: None, texts: vec![text] };
        let show = |_| {
            let decision = Base64(bytes.clone());
            async move { Ok(QuorumDecisionReply { decision }) }
        };
        let told = hear_by(listed, show, Before { pin: world.pin(), ..before(&[]) }, now).await;
        assert_eq!((told.decisions.len(), told.missed.len()), if is_taken { (1, 0) } else { (0, 1) });
    }
}

#[tokio::test]
async fn more_than_a_host_keeps_is_not_asked_for() {
    let most = quotary_common::limits::DECISIONS_KEPT_MAX;
    let texts: Vec<Digest> = (0..=most).map(|number| Digest::of(&[&number.to_be_bytes()])).collect();
    let told = hear(texts, BTreeMap::new(), before(&[])).await;
    assert_eq!(told.missed.len(), most + 1, "one line for each that is not shown, and one for the rest");
    assert!(told.missed[0].starts_with("1 more than"), "{}", told.missed[0]);
}
