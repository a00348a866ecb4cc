//! A small agent for the tests of `quotary run`: answers as it is told, and notes who asked for what.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// The grant that it gives, in hexadecimal.
pub(crate) const GRANT: &str = "7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b";

/// How it answers.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// How often it refuses before it grants.
    pub(crate) refuses: usize,
    /// Whether it lets nobody enter.
    pub(crate) closed: bool,
    /// What it says of its mode; `enforce` if empty.
    pub(crate) mode: &'static str,
    /// Whether it leaves the question open for ever.
    pub(crate) silent: bool,
}

/// It, until it is dropped.
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    notes: Arc<Mutex<Vec<Note>>>,
    events: watch::Sender<String>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// Method and path.
    pub(crate) asked: String,
    /// The peer's pid, by the kernel.
    pub(crate) pid: i32,
    /// The body.
    pub(crate) body: String,
}

/// A grant in JSON.
pub(crate) fn grant(cpu_millicores: u64, state: &str, mode: &str) -> String {
    let mode = if mode.is_empty() { "enforce" } else { mode };
    format!(
        r#"{{"grant":"{GRANT}","id":"g-test","application":"web","tenant":"shop","class":"burstable","resources":{{"cpu_millicores":{cpu_millicores}}},"lease_left_ms":300000,"cgroup":"/quotary/g-test","mode":"{mode}","state":"{state}","controls":[{{"control":"memory.soft_limit_in_bytes","requested":"1","actual":"1","effective":false}}]}}"#
    )
}

impl Agent {
    pub(crate) fn start(manner: Manner) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (events, seen) = watch::channel(String::new());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let noted = Arc::clone(&notes);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! { () = serve(listener, noted, manner, seen) => {}, _ = stopped => {} }
            });
        });
        Self { socket, notes, events, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// What was asked so far.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap().clone()
    }

    /// Methods and paths only.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.notes().into_iter().map(|note| note.asked).collect()
    }

    /// Waits until something was asked so often.
    pub(crate) fn wait_for(&self, asked: &str, times: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.asked().iter().filter(|one| *one == asked).count() < times {
            assert!(Instant::now() < until, "never asked `{asked}` {times} times: {:?}", self.asked());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends an event to all who watch.
    pub(crate) fn tell(&self, event: String) {
        self.events.send(event).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    notes: Arc<Mutex<Vec<Note>>>,
    manner: Manner,
    events: watch::Receiver<String>,
) {
    let listener = UnixListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let pid = stream.peer_cred().unwrap().pid().unwrap();
        let (notes, manner, events) = (Arc::clone(&notes), manner.clone(), events.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (notes, manner, events) = (Arc::clone(&notes), manner.clone(), events.clone());
            async move {
                let asked = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let before = notes.lock().unwrap().iter().filter(|note: &&Note| note.asked == asked).count();
                notes.lock().unwrap().push(Note { asked: asked.clone(), pid, body });
                Ok::<_, Infallible>(answer(&asked, before, &manner, events).await)
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(asked: &str, before: usize, manner: &Manner, events: watch::Receiver<String>) -> Answer {
    let one = format!("/v1/grants/{GRANT}");
    let (status, text) = match asked {
        "POST /v1/requests" if manner.silent => std::future::pending().await,
        "POST /v1/requests" if before < manner.refuses => (
            200,
            format!(
                r#"{{"outcome":"refused","request":"{GRANT}","error":{{"reason":"capacity","detail":"the host is full","retry":true}}}}"#
            ),
        ),
        "POST /v1/requests" => {
            (200, format!(r#"{{"outcome":"granted","grant":{}}}"#, grant(500, "running", manner.mode)))
        }
        asked if asked == format!("POST {one}/enter") && manner.closed => {
            (503, r#"{"reason":"unavailable","detail":"no cgroup","retry":true}"#.to_owned())
        }
        asked if asked == format!("POST {one}/enter") => (200, grant(500, "running", "")),
        asked if asked == format!("DELETE {one}") => (200, "{}".to_owned()),
        asked if asked == format!("GET {one}/events") => {
            return Response::new(BoxBody::new(Lines { events, pending: None }));
        }
        _ => (404, r#"{"reason":"not-found","detail":"no such route","retry":false}"#.to_owned()),
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(BoxBody::new(Full::new(Bytes::from(text)))).unwrap()
}

/// Each event that is told, one a line: a body that ends with the agent.
struct Lines {
    events: watch::Receiver<String>,
    pending: Option<Changed>,
}

type Changed = Pin<Box<dyn Future<Output = Option<(String, watch::Receiver<String>)>> + Send + Sync>>;

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut events = self.events.clone();
        let pending = self.pending.get_or_insert_with(|| {
            Box::pin(async move {
                events.changed().await.ok()?;
                let line = events.borrow_and_update().clone();
                Some((line, events))
            })
        });
        let ready = ready!(pending.as_mut().poll(context));
        self.pending = None;
        Poll::Ready(ready.map(|(line, events)| {
            self.events = events;
            Ok(Frame::data(Bytes::from(line + "\n")))
        }))
    }
}
