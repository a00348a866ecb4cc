//! A listening socket: its file, its connections, and how many each uid may have.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use quotary_common::reason::{Reason, Refusal};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ask::Asks;
use super::handlers::{self, Connected};
use super::peer::Credentials;
use super::refuse::turned_away;
use crate::clock;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Connections of all uids together.
const CONNECTIONS_MAX: usize = 1024;
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// Applications': anybody may connect.
    Application,
    /// Root's: uid 0 alone is served (and the agent's own uid, where it does not run as root).
    Admin,
}

/// What one uid may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections_per_uid_max: usize,
}

/// A socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its directory or file cannot be made.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else stands in its place.
    #[error("{} exists and is no socket: remove it, or set another runtime_dir", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The directory is another user's, who could put another socket in its place.
    #[error("{} does not belong to the agent's user, or others may write in it: correct its owner and mode, or set another runtime_dir", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
    },
    /// Another agent listens there.
    #[error("another agent listens at {}", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
}

impl SocketError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { step, path, source }
    }
}

/// A listening socket, whose file goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    kind: SocketKind,
    /// Device and inode of our file: another's in its place stays.
    file: (u64, u64),
}

impl Drop for Listener {
    fn drop(&mut self) {
        let is_ours = |facts: fs::Metadata| (facts.dev(), facts.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Opens the socket at `path`; its directory is made (mode 0755) where it is missing.
    ///
    /// # Errors
    /// [`SocketError`] naming the step.
    pub fn bind(path: &Path, kind: SocketKind) -> Result<Self, SocketError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(SocketError::io("make", directory))?;
        let facts = fs::metadata(directory).map_err(SocketError::io("look at", directory))?;
        if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
            return Err(SocketError::Directory { path: directory.to_path_buf() });
        }
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(SocketError::io("listen at", path))?;
        let mode = match kind {
            SocketKind::Application => 0o666,
            SocketKind::Admin => 0o600,
        };
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(SocketError::io("set the mode of", path))?;
        let facts = fs::symlink_metadata(path).map_err(SocketError::io("look at", path))?;
        Ok(Self { listener, path: path.to_path_buf(), kind, file: (facts.dev(), facts.ino()) })
    }

    /// Serves connections until `stop`; then each ends with the answer that it waits for, or when `cut` comes.
    pub async fn serve(
        self,
        asks: Asks,
        root: PathBuf,
        limits: Limits,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        let routes = match self.kind {
            SocketKind::Application => handlers::application_routes(),
            SocketKind::Admin => handlers::admin_routes(),
        };
        let (connections, open, root) = (TaskTracker::new(), OpenConnections::default(), Arc::new(root));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(socket = %self.path.display(), %error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some((credentials, place)) = self.admit(&stream, &open, limits) else { continue };
            let connected = Connected {
                asks: asks.clone(),
                credentials: Arc::new(credentials),
                connected_ms: clock::boottime_ms(),
                root: Arc::clone(&root),
            };
            let routes = routes.clone().with_state(connected);
            let (stop, cut) = (stop.clone(), cut.clone());
            connections.spawn(async move {
                serve_connection(stream, routes, stop, cut).await;
                drop(place);
            });
        }
        connections.close();
        connections.wait().await;
    }

    /// Whether a connection is served, and its place among those of its uid.
    fn admit(&self, stream: &UnixStream, open: &OpenConnections, limits: Limits) -> Option<(Credentials, Place)> {
        let refusal = match Credentials::of(stream) {
            Err(error) => Refusal::new(Reason::Forbidden, error.to_string()),
            // An agent that is not root is its own user's: whoever that is can do more than ask it.
            Ok(credentials)
                if self.kind == SocketKind::Admin
                    && credentials.uid != 0
                    && credentials.uid != rustix::process::geteuid().as_raw() =>
            {
                Refusal::new(Reason::Forbidden, "this socket is root's alone")
            }
            Ok(credentials) => match open.enter(credentials.uid, limits.connections_per_uid_max) {
                Some(place) => return Some((credentials, place)),
                None => Refusal::new(Reason::Busy, "too many connections: close some, or come back later"),
            },
        };
        // What does not fit the socket's buffer at once is not worth waiting for.
        let _ = stream.try_write(&turned_away(&refusal));
        None
    }
}

async fn serve_connection(stream: UnixStream, routes: Router, stop: CancellationToken, cut: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a local connection ended early");
    }
}

/// Removes the file of a socket on which nobody listens any more.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SocketError::io("look at", path)(error)),
        Ok(facts) if !facts.file_type().is_socket() => Err(SocketError::NotASocket { path: path.to_path_buf() }),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            Err(SocketError::InUse { path: path.to_path_buf() })
        }
        Ok(_) => fs::remove_file(path).map_err(SocketError::io("remove", path)),
    }
}

/// How many connections each uid has.
#[derive(Debug, Clone, Default)]
struct OpenConnections(Arc<Mutex<BTreeMap<u32, usize>>>);

/// One connection's place, given back when dropped.
#[derive(Debug)]
struct Place {
    open: OpenConnections,
    uid: u32,
}

impl OpenConnections {
    fn enter(&self, uid: u32, per_uid_max: usize) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = open.values().sum();
        let count = open.get(&uid).copied().unwrap_or(0);
        // Root keeps a few places of its own, so that a crowd cannot lock it out.
        let reserve = if uid == 0 { 0 } else { 16 };
        if count >= per_uid_max || total + reserve >= CONNECTIONS_MAX {
            return None;
        }
        open.insert(uid, count + 1);
        Some(Place { open: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.uid);
            }
        }
    }
}
