//! The accept loop: bounded connections, handshakes and headers in time, an orderly end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use quotary_common::reason::{Reason, Refusal};

use super::mount::{ClientKey, refused};
use crate::tls::client_key;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's head may take, and so how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
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
    connections_max: usize,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(connections_max));
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, acceptor.clone(), router.clone(), stop.clone());
                let cut = cut.clone();
                tasks.spawn(async move {
                    // A peer that reads nothing must not keep the service from ending.
                    let _cut = cut.run_until_cancelled(connection).await;
                    drop(place);
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

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    // Replies are small and wait for nothing: do not hold them back.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    let key = ClientKey(client_key(stream.get_ref().1.peer_certificates()));
    let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(key);
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
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let serving = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    tokio::select! {
        _ended = serving.as_mut() => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ended = serving.await;
        }
    }
}
