//! What happens to hosts is told: on the event stream, and to webhooks; at once, and after whatever failed meanwhile.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use quotary_client::ToldStream;
use quotary_common::reason::Reason;
use quotary_common::wire::{
    EventKind, HostEvent, Method, Nothing, RevocationRequest, RevokeHost, Right, WatchEvents, WebhookView,
};
use quotary_tests::host::{DrivenHost, Operator, RawTls, reason_of};
use quotary_tests::world::{Options, PATIENCE, Posted, Receiver, World};
use ring::hmac;

const SECRET: &str = "what the receiver knows too";
/// How fast somebody hears of a revocation.
const SOON: Duration = Duration::from_secs(1);

/// A world with this receiver of webhooks.
fn world(receiver: &Receiver, kinds: &str) -> World {
    let hook = format!(
        "[[webhook]]\nurl = {:?}\nca_file = \"receiver.pem\"\nsecret_file = \"receiver.secret\"\n{kinds}\n",
        receiver.url()
    );
    let files = [("receiver.pem", receiver.ca_pem()), ("receiver.secret", &format!("{SECRET}\n"))];
    let verifier_files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    World::new(Options { verifier_extra: hook, verifier_files, ..Options::quick(0) }).unwrap()
}

async fn revoke(operator: &Operator, host: &DrivenHost) {
    let body = RevocationRequest { why: "its disk was sold".to_owned() };
    operator.client.call::<RevokeHost>(&[&host.id.hex()], &body).await.unwrap();
}

async fn watch(operator: &Operator, from: Option<u64>, last_id: Option<u64>) -> ToldStream<WatchEvents> {
    let from = from.map(|from| from.to_string());
    let values: Vec<&str> = from.as_deref().into_iter().collect();
    operator.client.watch(&values, last_id, PATIENCE).await.unwrap()
}

/// The next event of a stream; blocks without one are passed over.
async fn heard(stream: &mut ToldStream<WatchEvents>) -> HostEvent {
    loop {
        if let Some(event) = stream.next().await.unwrap().unwrap().event {
            return event;
        }
    }
}

/// Waits until the receiver has noted more than `before` deliveries.
fn received(world: &World, receiver: &Receiver, before: usize) -> Vec<Posted> {
    let more = |_: &World| Ok(Some(receiver.posted()).filter(|posted| posted.len() > before));
    world.wait("a delivery", PATIENCE, more).unwrap().split_off(before)
}

/// What was posted, once its signature holds.
fn events_of(posted: &Posted) -> Vec<HostEvent> {
    let signed = posted.header("quotary-signature").unwrap().strip_prefix("sha256=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &posted.body, &data_encoding::HEXLOWER.decode(signed.as_bytes()).unwrap()).unwrap();
    posted.batch().unwrap().events
}

fn webhook(world: &World, operator: &Operator) -> WebhookView {
    world.runtime().block_on(operator.status()).unwrap().webhooks.remove(0)
}

#[test]
fn a_revocation_is_heard_on_the_stream_and_by_a_webhook_within_a_second() {
    let receiver = Receiver::new().unwrap();
    receiver.listen().unwrap();
    let mut world = world(&receiver, "");
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let mut host = world.runtime().block_on(operator.host("a")).unwrap();
    world.runtime().block_on(host.attest()).unwrap();
    let shown = host.id.to_string();

    let mut stream = world.runtime().block_on(watch(&operator, Some(0), None));
    let before: Vec<HostEvent> =
        world.runtime().block_on(async { vec![heard(&mut stream).await, heard(&mut stream).await] });
    assert_eq!(
        before.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::Enrolled, EventKind::VerdictChanged]
    );
    assert_eq!((before[0].epoch.is_some(), before[1].zone.as_deref()), (true, Some("measured")));

    // A machine that is busy with other things may be late now and then, not each time.
    let mut delays = Vec::new();
    let mut told = Vec::new();
    for _ in 0..5 {
        let count = receiver.posted().len();
        let begun = Instant::now();
        let event = world.runtime().block_on(async {
            revoke(&operator, &host).await;
            heard(&mut stream).await
        });
        let on_stream = begun.elapsed();
        assert_eq!((event.kind, &event.host, &*event.reasons), (EventKind::Revoked, &shown, &[Reason::Revoked][..]));
        assert!(event.epoch > before[0].epoch);
        told.push(event.clone());
        while !receiver.posted().iter().any(|posted| events_of(posted).contains(&event)) {
            received(&world, &receiver, count);
        }
        let posted = receiver.posted();
        let posted = posted.iter().find(|posted| events_of(posted).contains(&event)).unwrap();
        delays.push(on_stream.max(posted.at.duration_since(begun)));
    }
    eprintln!("heard after {delays:?}");
    assert!(delays.iter().min().unwrap() < &SOON, "{delays:?}");

    // Each event once, in the order of the log, from the first that was committed with the webhook configured.
    let mut all: Vec<HostEvent> = before;
    all.extend(told);
    let posted: Vec<HostEvent> = receiver.posted().iter().flat_map(events_of).collect();
    assert_eq!(posted, all);
    let deployment = world.runtime().block_on(operator.status()).unwrap().deployment;
    assert!(receiver.posted().iter().all(|posted| posted.batch().unwrap().deployment == deployment));

    let printed = world.cli_ok(&["--json", "events"]).unwrap();
    let printed: Vec<HostEvent> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed, all);
    let table = world.cli_ok(&["events", "--from", &all[2].leaf_index.to_string()]).unwrap();
    assert_eq!((table.lines().count(), table.matches(" revoked ").count()), (6, 5), "{table}");
    let status = webhook(&world, &operator);
    assert_eq!((status.lag_ms, status.failures, status.last_error), (0, 0, None));
    assert!(receiver.url().starts_with(&status.receiver) && !status.receiver.contains("/quotary"));

    // A stream that is open does not keep the verifier from ending.
    let begun = Instant::now();
    world.stop_verifier().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_receiver_that_fails_and_a_verifier_that_is_killed_lose_nothing() {
    let receiver = Receiver::new().unwrap();
    let mut world = world(&receiver, "kinds = [\"revoked\"]");
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let host = world.runtime().block_on(operator.host("a")).unwrap();
    world.runtime().block_on(revoke(&operator, &host));
    let failing = world.wait("a delivery that fails", PATIENCE, |world| {
        Ok(Some(webhook(world, &operator)).filter(|webhook| webhook.failures > 0))
    });
    let failing = failing.unwrap();
    assert!(failing.last_error.unwrap().starts_with("cannot connect") && failing.delivered_at_ms.is_none());
    let lag = world.wait("its lag", PATIENCE, |world| Ok((webhook(world, &operator).lag_ms > 0).then_some(())));
    lag.unwrap();

    world.kill_verifier();
    receiver.answer(503);
    receiver.listen().unwrap();
    world.start_verifier().unwrap();
    let refused = received(&world, &receiver, 0);
    assert_eq!(events_of(&refused[0]).iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Revoked]);
    receiver.answer(204);
    let accepted = world.wait("an acknowledgement", PATIENCE, |_| {
        Ok(receiver.posted().into_iter().find(|posted| posted.status == 204))
    });
    let accepted = accepted.unwrap();
    assert_eq!(accepted.body, refused[0].body);
    let index = events_of(&accepted)[0].leaf_index;
    let durable = |world: &World| Ok((webhook(world, &operator).next_leaf > index).then_some(()));
    world.wait("the place to be durable", PATIENCE, durable).unwrap();

    // What was acknowledged does not come again.
    world.kill_verifier();
    world.start_verifier().unwrap();
    let count = receiver.posted().len();
    world.runtime().block_on(revoke(&operator, &host));
    let next = received(&world, &receiver, count);
    assert!(events_of(&next[0])[0].leaf_index > index && events_of(&next[0]).len() == 1);
    drop(host);
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}

#[test]
fn a_stream_resumes_where_it_was_and_is_for_those_who_may_read() {
    let limits = "[limits]\nevent_streams_max = 2\n".to_owned();
    let mut world = World::new(Options { verifier_extra: limits, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let host = world.runtime().block_on(operator.host("a")).unwrap();
    world.runtime().block_on(async {
        revoke(&operator, &host).await;
        let mut first = watch(&operator, Some(0), None).await;
        assert_eq!(heard(&mut first).await.kind, EventKind::Enrolled);
        let revoked = heard(&mut first).await;
        assert_eq!(revoked.kind, EventKind::Revoked);
        // From now on: the place is told before anything happens, so it is not lost with the stream.
        let mut second = watch(&operator, None, None).await;
        let place = second.next().await.unwrap().unwrap();
        assert!(place.event.is_none() && place.last_id.is_some());
        let third = operator.client.watch::<WatchEvents>(&[], None, PATIENCE).await;
        assert_eq!(reason_of(&third), Some(Reason::Busy));
        assert_eq!(operator.status().await.unwrap().event_streams, 2);
        drop((first, second));
        revoke(&operator, &host).await;
        let mut resumed = resume(&operator, place.last_id).await;
        let next = heard(&mut resumed).await;
        assert!(next.leaf_index > revoked.leaf_index && next.epoch > revoked.epoch);
        drop(resumed);
        let mut resumed = resume(&operator, Some(revoked.leaf_index)).await;
        assert_eq!(heard(&mut resumed).await, next);
    });
    // A token that ends takes its streams along: what comes after it is not told.
    let made = Instant::now();
    let reader = world.runtime().block_on(operator.operator_token(&[Right::Read], 10_000)).unwrap();
    world.runtime().block_on(async {
        let client = operator.with_token(Some(&reader)).unwrap();
        let mut stream = client.watch::<WatchEvents>(&["0"], None, PATIENCE).await.unwrap();
        let before = operator.status().await.unwrap().audit.size;
        while stream.next().await.unwrap().unwrap().last_id < Some(before - 1) {}
        tokio::time::sleep(Duration::from_millis(10_500).saturating_sub(made.elapsed())).await;
        revoke(&operator, &host).await;
        while let Some(told) = stream.next().await.unwrap() {
            assert!(told.event.is_none(), "{told:?}");
        }
    });
    let ask = |path: &str| {
        let bearer = format!("Bearer {}", operator.token);
        let connection = RawTls::connect(operator.address, operator.ca_pin, None).unwrap();
        connection.ask(Method::Get.name(), path, &[("authorization", &bearer)], b"").unwrap().status
    };
    assert_eq!((ask("/v1/events?from=x"), ask("/v1/events?from=99999999")), (400, 404));
    let document =
        world.runtime().block_on(operator.client.call::<quotary_common::wire::ShowOpenApi>(&[], &Nothing {}));
    let described = &document.unwrap()["paths"]["/v1/events"]["get"];
    assert_eq!(
        (&described["parameters"][0]["name"], &described["parameters"][0]["in"]),
        (&"from".into(), &"query".into())
    );
    assert!(described["responses"]["200"]["content"]["text/event-stream"].is_object(), "{described}");
}

/// A stream after `last_id`; its place may still be taken by one that was just left.
async fn resume(operator: &Operator, last_id: Option<u64>) -> ToldStream<WatchEvents> {
    let begun = Instant::now();
    loop {
        match operator.client.watch::<WatchEvents>(&["0"], last_id, PATIENCE).await {
            Err(error) if error.may_retry() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stream => return stream.unwrap(),
        }
    }
}
