//! The event stream: server-sent events (WHATWG HTML §9.2), each with the index of its leaf as its id.
//!
//! A task per stream reads the log from the stream's place on and hands frames to the connection through a short queue.
//! A reader that takes nothing for a while loses stream and connection, and resumes by the last id that it has. Blocks
//! with an id and no data tell no event: they move the place from which a reader would resume.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use quotary_common::id::TokenId;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, HostEvent, Right};
use quotary_decide::registry::check_operator;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::App;
use super::auth::Caller;
use super::mount::{Call, Cut};
use crate::core::{EventLog, Page};

/// Frames that wait for one reader at most; each is an event of under 2 KiB, or less.
const FRAMES_MAX: usize = 64;
/// What a reader waits before it connects again, ms.
const RETRY_MS: u64 = 2_000;
const PACE: Pace = Pace { heartbeat: Duration::from_secs(15), stall: Duration::from_secs(20) };

/// How patient a stream is.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Silence is broken after this, so that either side sees that the other is there.
    heartbeat: Duration,
    /// A reader that takes no frame for so long loses the stream.
    stall: Duration,
}

/// Places for streams.
#[derive(Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
    max: usize,
}

impl Streams {
    /// `max` places.
    pub fn new(max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(max)), max }
    }
    /// How many are taken.
    pub(super) fn open(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
    }
    fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::new(Reason::Busy, format!("{} event streams are open, and no more may be", self.max)))
    }
}

pub(super) async fn watch(call: Call<wire::WatchEvents>) -> Result<Body, Refusal> {
    let Call { app, caller, query, last_event_id, cut, .. } = call;
    let Caller::Operator(token) = caller else {
        return Err(Refusal::new(Reason::Forbidden, "events are for operators"));
    };
    let query = query.into_iter().next().flatten();
    let next_leaf = begin(query.as_deref(), last_event_id.as_deref(), app.audit.checkpoint().size)?;
    let place = app.streams.enter()?;
    let (frames, received) = mpsc::channel(FRAMES_MAX);
    let stream = Stream {
        log: Arc::clone(&app.events),
        next_leaf,
        // Whoever begins at the log's end learns where that is: they may lose the stream before anything happens.
        told_through: next_leaf.checked_sub(1).filter(|_| query.is_some() || last_event_id.is_some()),
        frames,
        pace: PACE,
        cut,
        stop: app.stop.clone(),
    };
    tokio::spawn(async move {
        let _place = place;
        stream.run(|| may_read(&app, &token)).await;
    });
    Ok(Body::new(Frames(received)))
}

/// The leaf at which a stream begins: after the last event that the caller heard of, or where it asks for, or at the
/// log's end.
fn begin(from: Option<&str>, last_event_id: Option<&str>, size: u64) -> Result<u64, Refusal> {
    let number = |what: &str, text: &str| {
        text.parse::<u64>().map_err(|_| Refusal::new(Reason::Malformed, format!("{what} must be the index of a leaf")))
    };
    let next_leaf = match (last_event_id, from) {
        (Some(id), _) => number("Last-Event-ID", id)?.saturating_add(1),
        (None, Some(from)) => number("from", from)?,
        (None, None) => size,
    };
    if next_leaf > size {
        let detail =
            format!("the log has {size} leaves only: if it had more, it was restored; begin again at a leaf of it");
        return Err(Refusal::new(Reason::NotFound, detail));
    }
    Ok(next_leaf)
}

/// Whether the token that opened a stream would still open it.
fn may_read(app: &App, token: &TokenId) -> bool {
    check_operator(app.view.token(token).as_ref(), Right::Read, app.clock.now_ms()).is_ok()
}

/// One stream.
struct Stream {
    log: Arc<EventLog>,
    next_leaf: u64,
    /// The last leaf that the reader knows to be behind it.
    told_through: Option<u64>,
    frames: mpsc::Sender<Bytes>,
    pace: Pace,
    cut: Cut,
    stop: CancellationToken,
}

impl Stream {
    /// Tells until the reader goes or falls behind, its token ends, or the verifier stops.
    async fn run(mut self, may_read: impl Fn() -> bool) {
        let stop = self.stop.clone();
        if stop.run_until_cancelled(self.tell(may_read)).await == Some(Ended::Behind) {
            tracing::info!(next_leaf = self.next_leaf, "a reader of events fell behind: it may resume");
            self.cut.0.cancel();
        }
    }

    async fn tell(&mut self, may_read: impl Fn() -> bool) -> Ended {
        let mut grown = self.log.grown();
        let mut ended = self.offer(format!("retry: {RETRY_MS}\n\n")).await;
        while ended.is_none() && may_read() {
            grown.mark_unchanged();
            let page = match self.log.page(self.next_leaf).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "events cannot be read");
                    return Ended::Done;
                }
            };
            let more = page.more;
            ended = self.tell_page(page).await;
            while ended.is_none() && !more {
                tokio::select! {
                    () = self.frames.closed() => return Ended::Done,
                    _grown = grown.changed() => break,
                    () = tokio::time::sleep(self.pace.heartbeat) => {
                        if !may_read() {
                            return Ended::Done;
                        }
                        ended = self.offer(": still here\n\n".to_owned()).await;
                    }
                }
            }
        }
        ended.unwrap_or(Ended::Done)
    }

    async fn tell_page(&mut self, page: Page) -> Option<Ended> {
        for event in &page.events {
            let Some(frame) = block(event) else { continue };
            if let Some(ended) = self.offer(frame).await {
                return Some(ended);
            }
            self.told_through = Some(event.leaf_index);
        }
        self.next_leaf = page.next_leaf;
        let through = page.next_leaf.checked_sub(1);
        if page.more || through <= self.told_through {
            return None;
        }
        self.told_through = through;
        self.offer(format!("id: {}\n\n", through.unwrap_or_default())).await
    }

    /// Hands a frame over, in time.
    async fn offer(&self, frame: String) -> Option<Ended> {
        match self.frames.send_timeout(Bytes::from(frame), self.pace.stall).await {
            Ok(()) => None,
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Some(Ended::Done),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Some(Ended::Behind),
        }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nobody reads it, or nobody may.
    Done,
    /// Its reader took too long.
    Behind,
}

/// An event as it stands in the stream. JSON of ours has no line breaks.
fn block(event: &HostEvent) -> Option<String> {
    let data = serde_json::to_string(event).ok()?;
    Some(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.leaf_index, event.kind.code()))
}

/// The body of a stream: its frames as they come.
struct Frames(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::core::event_tests::{Growing, leaf};

    const QUICK: Pace = Pace { heartbeat: Duration::from_millis(30), stall: Duration::from_millis(60) };

    struct Open {
        frames: mpsc::Receiver<Bytes>,
        cut: CancellationToken,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn open(log: &Arc<EventLog>, next_leaf: u64, may_read: impl Fn() -> bool + Send + Sync + 'static) -> Open {
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        let (cut, stop) = (CancellationToken::new(), CancellationToken::new());
        let stream = Stream {
            log: Arc::clone(log),
            next_leaf,
            told_through: next_leaf.checked_sub(1),
            frames: sender,
            pace: QUICK,
            cut: Cut(cut.clone()),
            stop: stop.clone(),
        };
        Open { frames, cut, stop, task: tokio::spawn(stream.run(may_read)) }
    }

    /// The ids of the next events; comments and blocks without data are passed over.
    async fn ids(frames: &mut mpsc::Receiver<Bytes>, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let Some(frame) = frames.recv().await else { break };
            let text = std::str::from_utf8(&frame).unwrap().to_owned();
            assert!(text.ends_with("\n\n"), "{text}");
            if text.contains("\nevent: revoked\ndata: {") {
                ids.push(text.strip_prefix("id: ").unwrap().split('\n').next().unwrap().parse().unwrap());
            }
        }
        ids
    }

    fn growing(events: u64) -> Growing {
        let mut growing = Growing::new();
        for n in 0..events {
            growing.commit(&[leaf(Some(n)), leaf(None)]);
        }
        growing
    }

    #[tokio::test]
    async fn a_stream_tells_what_is_there_and_what_comes_and_resumes_by_id() {
        let mut growing = growing(3);
        let mut stream = open(&growing.log, 0, || true);
        assert_eq!(ids(&mut stream.frames, 3).await, [0, 2, 4]);
        growing.commit(&[leaf(None), leaf(Some(9))]);
        assert_eq!(ids(&mut stream.frames, 1).await, [7]);
        let resumed = begin(Some("0"), Some("2"), growing.log.size()).unwrap();
        let mut stream = open(&growing.log, resumed, || true);
        assert_eq!(ids(&mut stream.frames, 2).await, [4, 7]);
    }

    #[tokio::test]
    async fn the_end_of_the_log_is_told_without_an_event_and_silence_is_broken() {
        let growing = growing(1);
        let mut stream = open(&growing.log, 0, || true);
        let mut frames = Vec::new();
        for _ in 0..4 {
            frames.push(String::from_utf8(stream.frames.recv().await.unwrap().to_vec()).unwrap());
        }
        assert_eq!(frames[0], "retry: 2000\n\n");
        assert!(frames[1].starts_with("id: 0\nevent: revoked\ndata: {\"leaf_index\":0,"), "{}", frames[1]);
        assert_eq!((&*frames[2], &*frames[3]), ("id: 1\n\n", ": still here\n\n"));
    }

    #[tokio::test]
    async fn a_reader_slower_than_its_buffer_loses_the_stream_and_nothing_else() {
        let growing = growing(FRAMES_MAX as u64 * 4);
        let mut stream = open(&growing.log, 0, || true);
        stream.task.await.unwrap();
        assert!(stream.cut.is_cancelled(), "the connection would stay");
        // What waited is what fitted, the first frame not counted.
        let had = ids(&mut stream.frames, usize::MAX).await;
        assert_eq!(had, (0..FRAMES_MAX as u64 - 1).map(|n| n * 2).collect::<Vec<_>>());
        let next = begin(None, Some(&had.last().unwrap().to_string()), growing.log.size()).unwrap();
        let mut again = open(&growing.log, next, || true);
        let rest = ids(&mut again.frames, FRAMES_MAX * 3 + 1).await;
        assert_eq!(rest, (FRAMES_MAX as u64 - 1..FRAMES_MAX as u64 * 4).map(|n| n * 2).collect::<Vec<_>>());
        assert!(!again.cut.is_cancelled());
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_token_its_reader_and_the_verifier() {
        let growing = growing(1);
        let until = std::sync::atomic::AtomicU64::new(3);
        let stream = open(&growing.log, 0, move || until.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 1);
        stream.task.await.unwrap();
        let stream = open(&growing.log, 0, || true);
        drop(stream.frames);
        stream.task.await.unwrap();
        let stream = open(&growing.log, 0, || true);
        stream.stop.cancel();
        stream.task.await.unwrap();
        assert!(!stream.cut.is_cancelled());
    }

    #[test]
    fn a_stream_begins_where_it_is_asked_to_and_not_beyond_the_log() {
        assert_eq!(begin(None, None, 9), Ok(9));
        assert_eq!(begin(Some("0"), None, 9), Ok(0));
        assert_eq!(begin(Some("9"), None, 9), Ok(9));
        assert_eq!(begin(Some("0"), Some("8"), 9), Ok(9));
        let refused = |from, id| begin(from, id, 9).unwrap_err().reason;
        assert_eq!(refused(Some("10"), None), Reason::NotFound);
        assert_eq!(refused(None, Some("18446744073709551615")), Reason::NotFound);
        assert_eq!(refused(Some("-1"), None), Reason::Malformed);
        assert_eq!(refused(Some("0"), Some("x")), Reason::Malformed);
    }

    #[test]
    fn streams_have_so_many_places_and_give_them_back() {
        let streams = Streams::new(2);
        let one = streams.enter().unwrap();
        let _two = streams.enter().unwrap();
        assert_eq!((streams.enter().unwrap_err().reason, streams.open()), (Reason::Busy, 2));
        drop(one);
        assert!(streams.enter().is_ok());
    }
}
