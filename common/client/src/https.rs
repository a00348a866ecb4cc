//! The verifier's routes over TLS.

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{ACCEPT, HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use quotary_common::id::Digest;
use quotary_common::wire::{Nothing, Route};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::exchange::{self, Body, Place};
use crate::{ClientError, PinnedCa, ToldStream};

/// Largest reply that is read by default, bytes: a full entry bundle (256 leaves of 64 KiB) as base64 fits.
pub const REPLY_BYTES_MAX: usize = 32 << 20;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How many unused connections are kept.
const IDLE_MAX: usize = 4;

/// A TLS client certificate and its key.
pub struct Identity {
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// Its private key, PKCS#8 DER.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity(certificate of {} bytes, secret key)", self.certificate_der.len())
    }
}

/// Who is asked, as whom, and how long.
pub struct ClientConfig {
    /// `https://host[:port]` of the verifier.
    pub base_url: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the CA that the verifier's certificate chains to.
    pub ca_pin: Digest,
    /// The TLS client certificate, for hosts.
    pub identity: Option<Identity>,
    /// The bearer token, for operators.
    pub bearer: Option<Zeroizing<String>>,
    /// How long one call may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("base_url", &self.base_url)
            .field("ca_pin", &self.ca_pin)
            .field("identity", &self.identity)
            .field("bearer", &self.bearer.as_ref().map(|_| "secret"))
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A client of one verifier. Connections are kept and used again; clones share them.
#[derive(Clone)]
pub struct Client {
    inner: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Body>,
    place: Place,
    bearer: Option<HeaderValue>,
    timeout: Duration,
    reply_bytes_max: usize,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.place.shown)
    }
}

impl Client {
    /// Makes a client; connects to nobody yet.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::Identity`] or [`ClientError::Bearer`] when the configuration cannot
    /// be used.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let origin = origin(&config.base_url)?;
        let tls = tls(&config)?;
        let bearer = match &config.bearer {
            None => None,
            Some(token) => {
                let text = Zeroizing::new(format!("Bearer {}", token.trim()));
                let mut value = HeaderValue::from_str(&text).map_err(|_| ClientError::Bearer)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.timeout));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(http);
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        let place = Place { shown: origin.clone(), prefix: origin };
        Ok(Self { inner, place, bearer, timeout: config.timeout, reply_bytes_max: REPLY_BYTES_MAX })
    }

    /// The same client, which reads at most so many bytes of a reply.
    #[must_use]
    pub fn with_reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }

    /// The verifier's address.
    pub fn base_url(&self) -> &str {
        &self.place.shown
    }

    /// Calls a route, with the values of its path's `{…}` in order.
    ///
    /// A request that was never written (its kept connection had just been closed) goes out once more on a new
    /// connection; any other failure is returned, and trying again is the caller's.
    ///
    /// # Errors
    /// [`ClientError`] saying which step failed.
    pub async fn call<R: Route>(&self, path_values: &[&str], request: &R::Request) -> Result<R::Reply, ClientError> {
        let request = exchange::request::<R>(&self.place, path_values, request, self.bearer.as_ref())?;
        let exchange = async {
            let response = self
                .inner
                .request(request)
                .await
                .map_err(|e| ClientError::of_exchange(&self.place.shown, e.is_connect(), e))?;
            exchange::reply::<R>(&self.place, response, self.reply_bytes_max).await
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(timed_out(&self.place, self.timeout)),
        }
    }
}

impl Client {
    /// Opens the stream of a route that answers as server-sent events, resuming after the event of `last_id`. The
    /// timeout bounds the beginning of the answer; `patience` bounds every silence after it.
    ///
    /// # Errors
    /// [`ClientError`] saying which step failed.
    pub async fn watch<R: Route<Request = Nothing>>(
        &self,
        path_values: &[&str],
        last_id: Option<u64>,
        patience: Duration,
    ) -> Result<ToldStream<R>, ClientError> {
        const { assert!(R::STREAM, "it is no stream's route") };
        let mut request = exchange::request::<R>(&self.place, path_values, &Nothing {}, self.bearer.as_ref())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_id {
            request.headers_mut().insert("last-event-id", HeaderValue::from(id));
        }
        let Ok(response) = tokio::time::timeout(self.timeout, self.inner.request(request)).await else {
            return Err(timed_out(&self.place, self.timeout));
        };
        let response = response.map_err(|e| ClientError::of_exchange(&self.place.shown, e.is_connect(), e))?;
        if response.status().is_success() {
            return Ok(ToldStream::new(response.into_body(), self.place.clone(), last_id, patience));
        }
        let refused = exchange::reply::<R>(&self.place, response, self.reply_bytes_max);
        let refused = tokio::time::timeout(self.timeout, refused).await;
        let Ok(refused) = refused else { return Err(timed_out(&self.place, self.timeout)) };
        Err(refused.err().unwrap_or_else(|| self.place.protocol::<R>("a reply under a failed status")))
    }
}

/// The error of a deadline that passed.
pub(crate) fn timed_out(place: &Place, after: Duration) -> ClientError {
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    ClientError::Timeout { place: place.shown.clone(), after_ms }
}

/// `https://host[:port]` of an address that is nothing more.
fn origin(given: &str) -> Result<String, ClientError> {
    let bad = |why| ClientError::Url { given: given.chars().take(200).collect(), why };
    let uri: Uri = given.parse().map_err(|_| bad("it cannot be read"))?;
    if uri.scheme_str() != Some("https") {
        return Err(bad("it does not begin with https://"));
    }
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(bad("it must name a host, and no user"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("it goes on after the host"));
    }
    Ok(format!("https://{authority}"))
}

/// TLS 1.3 and 1.2 with an explicit provider, and trust in the pinned CA alone.
fn tls(config: &ClientConfig) -> Result<rustls::ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Identity)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa::new(config.ca_pin, provider)));
    let Some(identity) = &config.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let certificate = CertificateDer::from(identity.certificate_der.clone());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key_pkcs8.to_vec()));
    builder.with_client_auth_cert(vec![certificate], key).map_err(ClientError::Identity)
}

#[cfg(test)]
mod tests;
