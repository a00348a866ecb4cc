//! The agent's routes over its Unix socket.
//!
//! Who we are comes from the kernel, so a client here has no credential. [`LocalClient`] opens a connection per
//! call; [`LocalConnection`] keeps one, for what the agent does to the connected peer itself.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use quotary_common::wire::{Nothing, Route};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::ClientError;
use crate::exchange::{self, Body, Place};
use crate::https::timed_out;
use crate::lines::Lines;

/// How long a call may take unless the caller says otherwise.
pub const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest reply that is read, bytes: an agent's view with all its grants.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// A client of an agent's socket, which connects anew for each call.
#[derive(Debug, Clone)]
pub struct LocalClient {
    path: PathBuf,
    timeout: Duration,
}

impl LocalClient {
    /// A client of the socket at `path`; connects to nobody yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), timeout: LOCAL_TIMEOUT }
    }

    /// The same client, whose calls may take so long.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls a route, with the values of its path's `{…}` in order.
    ///
    /// # Errors
    /// [`ClientError`] saying which step failed.
    pub async fn call<R: Route>(&self, path_values: &[&str], request: &R::Request) -> Result<R::Reply, ClientError> {
        let mut connection = self.connect().await?;
        connection.call::<R>(path_values, request).await
    }

    /// Opens the stream of a route that answers one JSON object a line until the agent ends it. The timeout
    /// bounds the beginning of the answer only.
    ///
    /// # Errors
    /// [`ClientError`] saying which step failed.
    pub async fn events<R: Route<Request = Nothing>>(
        &self,
        path_values: &[&str],
    ) -> Result<EventStream<R>, ClientError> {
        let mut connection = self.connect().await?;
        let response = connection.send::<R>(path_values, &Nothing {}).await?;
        if !response.status().is_success() {
            let refused = exchange::reply::<R>(&connection.place, response, REPLY_BYTES_MAX).await;
            let place = &connection.place;
            return Err(refused.err().unwrap_or_else(|| place.protocol::<R>("a reply under a failed status")));
        }
        Ok(EventStream { lines: Lines::new(response.into_body()), connection, route: PhantomData })
    }

    async fn connect(&self) -> Result<LocalConnection, ClientError> {
        LocalConnection::connect(&self.path, self.timeout).await
    }
}

/// One connection to an agent's socket, kept until it is dropped.
#[derive(Debug)]
pub struct LocalConnection {
    sender: SendRequest<Body>,
    driver: JoinHandle<()>,
    place: Place,
    timeout: Duration,
}

impl Drop for LocalConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl LocalConnection {
    /// Connects: from here on the calling process is the peer that the agent sees.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody listens there.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        Self::connect(path.as_ref(), LOCAL_TIMEOUT).await
    }

    async fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let place = Place { shown: format!("the agent at {}", path.display()), prefix: String::new() };
        let connecting = async {
            let stream =
                UnixStream::connect(path).await.map_err(|e| ClientError::of_exchange(&place.shown, true, e))?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| ClientError::of_exchange(&place.shown, true, e))
        };
        let (sender, connection) = match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(timed_out(&place, timeout)),
        };
        // Its outcome reaches the caller through the pending request.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, driver, place, timeout })
    }

    /// Calls a route on this connection, with the values of its path's `{…}` in order.
    ///
    /// # Errors
    /// [`ClientError`] saying which step failed.
    pub async fn call<R: Route>(
        &mut self,
        path_values: &[&str],
        request: &R::Request,
    ) -> Result<R::Reply, ClientError> {
        let timeout = self.timeout;
        let exchange = async {
            let response = self.send::<R>(path_values, request).await?;
            exchange::reply::<R>(&self.place, response, REPLY_BYTES_MAX).await
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(timed_out(&self.place, timeout)),
        }
    }

    async fn send<R: Route>(
        &mut self,
        path_values: &[&str],
        request: &R::Request,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = exchange::request::<R>(&self.place, path_values, request, None)?;
        let sending = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(ClientError::of_exchange(&self.place.shown, false, error)),
            Err(_) => Err(timed_out(&self.place, self.timeout)),
        }
    }
}

/// Replies as they come, one JSON object a line.
#[derive(Debug)]
pub struct EventStream<R: Route> {
    lines: Lines,
    connection: LocalConnection,
    route: PhantomData<fn() -> R>,
}

impl<R: Route> EventStream<R> {
    /// The next one; `None` when the agent has ended the stream. May be cancelled without loss.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection breaks, [`ClientError::Protocol`] when a line is too long or
    /// is not the route's reply.
    pub async fn next(&mut self) -> Result<Option<R::Reply>, ClientError> {
        loop {
            let line = self.lines.next().await.map_err(|fault| fault.shown::<R>(&self.connection.place))?;
            let Some(line) = line else { return Ok(None) };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue; // An empty line keeps the connection alive.
            }
            let reply = serde_json::from_slice(&line);
            return reply.map(Some).map_err(|e| self.connection.place.protocol::<R>(e.to_string()));
        }
    }
}

#[cfg(test)]
mod tests;
