//! One delivery: a connection, a signed POST, and the status of its answer.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use quotary_common::wire::SIGNATURE_HEADER;
use ring::hmac;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::receiver::Webhook;

/// How long one delivery may take, from the look-up of the name to the status of the answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
const AGENT: &str = concat!("quotary-verifier/", env!("CARGO_PKG_VERSION"));

/// A delivery that was not acknowledged. It may have arrived all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// It is not who it must be.
    #[error("no trusted TLS connection: {0}")]
    Tls(#[source] std::io::Error),
    /// The exchange broke.
    #[error("the exchange broke: {0}")]
    Http(#[source] hyper::Error),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[source] axum::http::Error),
    /// It answered, and the answer is not an acknowledgement.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It took too long.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// The value of the signature's header: what the receiver makes of body and secret, too.
pub(super) fn signature(secret: &hmac::Key, body: &[u8]) -> String {
    format!("sha256={}", data_encoding::HEXLOWER.encode(hmac::sign(secret, body).as_ref()))
}

impl Webhook {
    /// Posts a body once, and says why it was not acknowledged.
    ///
    /// # Errors
    /// In words.
    pub async fn tell(&self, body: Bytes) -> Result<(), String> {
        self.post(body).await.map_err(|error| error.to_string())
    }

    /// Posts a body once; it is acknowledged by any status of 2xx. Redirects are answers like others: not followed.
    pub(super) async fn post(&self, body: Bytes) -> Result<(), PostError> {
        tokio::time::timeout(TIMEOUT, self.exchange(body)).await.unwrap_or(Err(PostError::Timeout))
    }

    async fn exchange(&self, body: Bytes) -> Result<(), PostError> {
        let receiver = &self.receiver;
        let stream = TcpStream::connect((receiver.host.as_str(), receiver.port)).await.map_err(PostError::Connect)?;
        stream.set_nodelay(true).map_err(PostError::Connect)?;
        let request = Request::post(&receiver.path_and_query)
            .header(header::HOST, &receiver.authority)
            .header(header::USER_AGENT, AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header(SIGNATURE_HEADER, signature(&self.secret, &body))
            .body(Full::new(body))
            .map_err(PostError::Request)?;
        let status = match (&self.tls, &receiver.tls_name) {
            (Some(tls), Some(name)) => {
                let connector = TlsConnector::from(std::sync::Arc::clone(tls));
                send(connector.connect(name.clone(), stream).await.map_err(PostError::Tls)?, request).await?
            }
            _ => send(stream, request).await?,
        };
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
    }
}

/// Sends a request over a connection of its own; of the answer the status alone is read.
async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(PostError::Http)?;
    let driven = async {
        // How it ends the request learns.
        let _ended = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answer = sender.send_request(request) => answer.map(|answer| answer.status()).map_err(PostError::Http),
        never = driven => match never {},
    }
}
