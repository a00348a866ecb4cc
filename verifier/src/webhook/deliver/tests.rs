#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::collections::VecDeque;

use quotary_common::wire::EventKind;
use ring::hmac;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::core::event_tests::{Growing, leaf};
use crate::webhook::Receiver;

const SECRET: &[u8] = b"a secret that is long enough";

/// A receiver on this machine: each connection gets the next answer, the last one again and again; without any, none.
struct Local {
    url: String,
    posted: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
}

impl Local {
    /// The next request; a test that waits for one in vain fails.
    async fn next(&mut self) -> (String, Vec<u8>) {
        tokio::time::timeout(Duration::from_secs(30), self.posted.recv()).await.unwrap().unwrap()
    }
}

async fn local(answers: &[&'static str]) -> Local {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let (sender, posted) = mpsc::unbounded_channel();
    let mut answers: VecDeque<&'static str> = answers.iter().copied().collect();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read(&mut stream).await;
            let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
            match answer {
                Some(answer) => {
                    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nlocation: {SECRET:?}\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                None => silent.push(stream),
            }
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    Local { url, posted }
}

/// Head and body of a request.
async fn read(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        assert!(count > 0, "the request was cut off");
        bytes.extend_from_slice(&part[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
        if bytes.len() == end + 4 + length {
            return (head, bytes.split_off(end + 4));
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A worker, and what the writer would get of it.
struct Working {
    state: Arc<WebhookState>,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn work(url: &str, kinds: &[EventKind], next_leaf: u64, log: &Arc<EventLog>) -> Working {
    let webhook = Webhook::new(Receiver::parse(url).unwrap(), kinds.iter().copied().collect(), SECRET, b"").unwrap();
    let (queue, commands) = Queue::new();
    let deployment = DeploymentId::of(&[b"d"]);
    let delivery = Delivery::new(webhook, next_leaf, deployment, Arc::clone(log), queue, Clock::system(0));
    let (state, stop) = (delivery.state(), CancellationToken::new());
    Working { state, commands, task: tokio::spawn(delivery.run(stop.clone())), stop }
}

impl Working {
    /// The next place that is to be made durable; it is.
    async fn acknowledged(&mut self) -> u64 {
        let command = self.commands.recv().await.unwrap();
        let Command::Acknowledged { next_leaf, answer, .. } = command else { panic!("{command:?}") };
        answer.send(Ok(())).unwrap();
        next_leaf
    }
}

fn indexes(body: &[u8]) -> Vec<u64> {
    let batch: EventBatch = serde_json::from_slice(body).unwrap();
    assert_eq!(batch.deployment, DeploymentId::of(&[b"d"]));
    batch.events.iter().map(|event| event.leaf_index).collect()
}

#[test]
fn the_signature_is_the_one_of_rfc_4231() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
    let signature = super::super::post::signature(&key, b"what do ya want for nothing?");
    assert_eq!(signature, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[tokio::test]
async fn a_batch_is_signed_and_posted_again_until_it_is_acknowledged() {
    let mut growing = Growing::new();
    growing.commit(&[leaf(Some(0)), leaf(None), leaf(Some(2))]);
    // A redirect is not followed: it is no acknowledgement.
    let mut receiver = local(&["500 no", "302 elsewhere", "204 thanks"]).await;
    let mut working = work(&receiver.url, EventKind::ALL, 1, &growing.log);
    let mut bodies = BTreeSet::new();
    for failures in 0..3 {
        let (head, body) = receiver.next().await;
        assert!(head.starts_with("post /hook?a=b http/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "content-type"), Some("application/json"));
        let signed = header(&head, "quotary-signature").unwrap().strip_prefix("sha256=").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        hmac::verify(&key, &body, &data_encoding::HEXLOWER.decode(signed.as_bytes()).unwrap()).unwrap();
        assert_eq!(indexes(&body), [2]);
        bodies.insert(body);
        let view = working.state.view(1_000);
        assert_eq!((view.next_leaf, view.lag_ms), (1, 995));
        assert!(view.failures == failures || view.failures == failures + 1, "{view:?}");
    }
    assert_eq!(bodies.len(), 1);
    assert_eq!(working.acknowledged().await, 3);
    growing.commit(&[leaf(Some(3))]);
    assert_eq!(indexes(&receiver.next().await.1), [3]);
    assert_eq!(working.acknowledged().await, 4);
    working.stop.cancel();
    working.task.await.unwrap();
    let view = working.state.view(1_000);
    assert_eq!((view.next_leaf, view.lag_ms, view.failures, view.last_error), (4, 0, 0, None));
    assert!(view.delivered_at_ms.is_some() && view.receiver.starts_with("http://127.0.0.1:"));
    assert!(!view.receiver.contains("hook"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_nobody_and_goes_on_where_it_was() {
    let mut growing = Growing::new();
    let mut silent = local(&[]).await;
    let mut working = work(&silent.url, EventKind::ALL, 0, &growing.log);
    growing.commit(&[leaf(Some(0))]);
    assert_eq!(indexes(&silent.next().await.1), [0]);
    for n in 1..3_000 {
        growing.commit(&[leaf(Some(n))]);
    }
    assert_eq!(working.state.view(65).lag_ms, 60);
    assert!(working.commands.try_recv().is_err(), "nothing was acknowledged");
    working.stop.cancel();
    working.task.await.unwrap();

    // After a restart everything comes, in order, in bounded batches.
    let growing = growing.restarted();
    let mut receiver = local(&["200 yes"]).await;
    let mut working = work(&receiver.url, EventKind::ALL, 0, &growing.log);
    let mut heard = Vec::new();
    while heard.len() < 3_000 {
        let batch = indexes(&receiver.next().await.1);
        assert!(batch.len() <= 100);
        heard.extend(batch);
        assert_eq!(working.acknowledged().await, heard.len() as u64);
    }
    assert_eq!(heard, (0..3_000).collect::<Vec<_>>());
    working.stop.cancel();
}

#[tokio::test]
async fn what_a_receiver_does_not_want_is_passed_over() {
    let mut growing = Growing::new();
    let mut receiver = local(&["200 yes"]).await;
    let mut working = work(&receiver.url, &[EventKind::Enrolled], 0, &growing.log);
    let leaves: Vec<_> = (0..PASSED_OVER_MAX + 600).map(|n| leaf((n % 200 == 0).then_some(n))).collect();
    growing.commit(&leaves);
    assert!(working.acknowledged().await >= PASSED_OVER_MAX);
    assert!(receiver.posted.try_recv().is_err());
    assert_eq!(working.state.view(1_000).lag_ms, 0);
    working.stop.cancel();
    working.task.await.unwrap();
}
