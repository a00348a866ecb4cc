//! The accept loop: bounded connections, handshakes and headers in time, an orderly end.
//!
//! Whoever has not shown an enrolled key is a *stranger*: strangers share a quarter of the places, an address has a
//! quarter of those, and a stranger may idle for seconds only. So a machine without a key cannot keep hosts out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use quotary_common::reason::{Reason, Refusal};

use super::mount::{ClientKey, Cut, refused};
use super::places::{Place, Places};
use crate::core::View;
use crate::tls::client_key;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's head may take, and so how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for strangers.
const STRANGER_HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a whole request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connections may take to finish at the end.
const GRACE: Duration = Duration::from_secs(10);

/// The accept loop failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot accept connections")]
pub struct ServeError(#[source] std::io::Error);

/// Serves until `stop` is cancelled, then lets connections finish.
///
/// # Errors
/// [`ServeError`] when the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    router: Router,
    (connections_max, view): (usize, Arc<View>),
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Places::new(connections_max);
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without a place the connection ends here: waiting would keep others waiting too.
                let Some(place) = places.stranger(peer.ip()) else { continue };
                let served =
                    Served { place, acceptor: acceptor.clone(), router: router.clone(), view: Arc::clone(&view) };
                let connection = connection(stream, served, stop.clone());
                let cut = cut.clone();
                tasks.spawn(async move {
                    // A peer that reads nothing must not keep the service from ending.
                    let _cut = cut.run_until_cancelled(connection).await;
                });
            }
            Err(error) if is_passing(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(ServeError(error)),
        }
    }
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("connections are cut at the end of the grace period");
        cut.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// Faults of one connection, or of a moment: the loop goes on.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, OutOfMemory};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24)) // ENFILE, EMFILE
}

/// What one connection is served with.
struct Served {
    place: Place,
    acceptor: TlsAcceptor,
    router: Router,
    view: Arc<View>,
}

async fn connection(stream: TcpStream, served: Served, stop: CancellationToken) {
    let Served { place, acceptor, router, view } = served;
    // Replies are small and wait for nothing: do not hold them back.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    let key = client_key(stream.get_ref().1.peer_certificates());
    let is_host = move || key.is_some_and(|key| view.is_enrolled(&key));
    let header_timeout = if is_host() { HEADER_TIMEOUT } else { STRANGER_HEADER_TIMEOUT };
    let place = Arc::new(Mutex::new(place));
    let cut = Cut::default();
    let cut_by_handler = cut.0.clone();
    let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ClientKey(key));
        request.extensions_mut().insert(cut.clone());
        // Asked at each request: a host may enrol over this very connection.
        if is_host() {
            place.lock().unwrap_or_else(PoisonError::into_inner).becomes_host();
        }
        let router = router.clone();
        async move {
            let reply = router.oneshot(request.map(Body::new));
            match tokio::time::timeout(REQUEST_TIMEOUT, reply).await {
                Ok(reply) => reply,
                Err(_) => Ok(refused(&Refusal::new(
                    Reason::Unavailable,
                    "the request took too long: nothing more is known of it",
                ))),
            }
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let serving = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    tokio::select! {
        _ended = serving.as_mut() => {}
        // A stream's reader reads no more: what waits for it goes with the connection.
        () = cut_by_handler.cancelled() => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ended = serving.await;
        }
    }
}
