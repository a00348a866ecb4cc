#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::Request;
use hyper::body::Bytes;
use hyper::service::service_fn;
use quotary_common::wire::{ReleaseGrant, WatchGrant};
use tokio::net::UnixListener;

use super::*;

const GRANT: &str = r#"{"grant":"0000000000000000000000000000000000000000000000000000000000000000","id":"g-a",
"application":"a","tenant":"t","class":"burstable","resources":{},"lease_left_ms":1,"cgroup":null,
"mode":"enforce","state":"running","controls":[]}"#;

/// A socket whose server answers `body` to everything, in pieces of three bytes; counts connections.
struct Agent {
    path: PathBuf,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}
impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn agent(body: String) -> Agent {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let body = body.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let full = Full::new(Bytes::from(body.clone()));
                async move { Ok::<_, Infallible>(Response::new(BoxBody::new(full))) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Agent { path, connections, task, _directory: directory }
}

#[tokio::test]
async fn a_kept_connection_is_one_and_a_client_connects_anew() {
    let agent = agent("{}".to_owned());
    let mut connection = LocalConnection::open(&agent.path).await.unwrap();
    for _ in 0..3 {
        connection.call::<ReleaseGrant>(&["g"], &Nothing {}).await.unwrap();
    }
    assert_eq!(agent.connections.load(Ordering::Relaxed), 1);
    let client = LocalClient::new(&agent.path);
    for _ in 0..2 {
        client.call::<ReleaseGrant>(&["g"], &Nothing {}).await.unwrap();
    }
    assert_eq!(agent.connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn events_come_line_by_line_and_the_last_needs_no_newline() {
    let line = GRANT.replace('\n', "");
    let agent = agent(format!("{line}\n\n{line}"));
    let mut events = LocalClient::new(&agent.path).events::<WatchGrant>(&["g"]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(events.next().await.unwrap().unwrap().application, "a");
    }
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_line_that_is_no_event_or_never_ends_is_a_protocol_error() {
    for body in ["{}\n".to_owned(), "x".repeat(crate::LINE_BYTES_MAX + 2)] {
        let agent = agent(body);
        let mut events = LocalClient::new(&agent.path).events::<WatchGrant>(&["g"]).await.unwrap();
        assert!(matches!(events.next().await, Err(ClientError::Protocol { .. })));
    }
}

#[tokio::test]
async fn a_missing_socket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.sock");
    let error = LocalConnection::open(&path).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }));
    assert!(error.to_string().contains("none.sock"), "{error}");
}
