//! Somebody on the road between a host and the verifier, whom the host takes for the verifier.
//!
//! They have a TLS certificate from the deployment's own CA and a copy of the host's TLS key, so that both ends are
//! content with the connection. They do not have the TPM; the grant key they have where a test gives it to them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use quotary_agent::clock;
use quotary_client::{Client, ClientError};
use quotary_common::limits::HTTP_BODY_BYTES_MAX;
use quotary_common::sign::SigningKey;
use quotary_common::wire::{AskNonce, Base64, EvidenceReply, EvidenceRequest, Nothing, SendEvidence};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::forge::{Squeeze, altered, forged, squeezed};
use super::stolen::{StolenCa, StolenKey};
use super::thief::Attempt;

/// How many evidences that passed are kept.
const SEEN_MAX: usize = 16;

/// What the attacker does with what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Reads along.
    Read,
    /// Sends the next evidence on with an altered envelope, once; then as it was, and reads along.
    AlterEnvelope,
    /// Puts a grant set of their own into every reply.
    ForgeGrants,
    /// Puts a plan of their own into every reply, signed with the verifier's own key ([`Proxy::squeeze`]).
    Squeeze,
}

/// What came of an altered envelope.
#[derive(Debug, Clone)]
pub struct Altered {
    /// What the verifier said to it.
    pub altered: Attempt,
    /// What it said to the same evidence as it was.
    pub original: Attempt,
}

#[derive(Debug)]
struct Book {
    scheme: Scheme,
    seen: Vec<Vec<u8>>,
    altered: Option<Altered>,
    forged: u64,
    squeeze: Option<(Squeeze, Arc<SigningKey>)>,
}

/// What the attacker has.
#[derive(Debug)]
pub struct Stolen {
    /// The CA's key: for a certificate that the host accepts.
    pub ca: StolenCa,
    /// The host's TLS key: for a connection that the verifier accepts.
    pub host_key: StolenKey,
}

struct Middle {
    upstream: Client,
    own_key: SigningKey,
    book: Mutex<Book>,
}

impl Middle {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attacker on the road; gone when dropped.
pub struct Proxy {
    address: SocketAddr,
    middle: Arc<Middle>,
    keeper: JoinHandle<()>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

impl Proxy {
    /// Stands up with what was stolen, before the verifier at `verifier_url`. Turn a road to [`Proxy::address`].
    ///
    /// # Errors
    /// When certificate, keys or port cannot be had.
    pub fn start(runtime: &Handle, stolen: &Stolen, verifier_url: &str) -> Result<Self> {
        let (chain, key) = stolen.ca.certify_server()?;
        let acceptor = TlsAcceptor::from(Arc::new(quotary_verifier::tls::server_config(chain, key)?));
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("no key of one's own")?;
        let middle = Arc::new(Middle {
            upstream: stolen.host_key.client(verifier_url, stolen.ca.pin())?,
            own_key: SigningKey::from_pkcs8(document.as_ref())?,
            book: Mutex::new(Book { scheme: Scheme::Read, seen: Vec::new(), altered: None, forged: 0, squeeze: None }),
        });
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let keeper = runtime.spawn(keep(listener, acceptor, Arc::clone(&middle)));
        Ok(Self { address, middle, keeper })
    }

    /// Where the attacker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the attacker does.
    pub fn follow(&self, scheme: Scheme) {
        self.middle.book().scheme = scheme;
    }

    /// From now on puts a plan into every reply, signed with the stolen grant key of the verifier.
    pub fn squeeze(&self, squeeze: Squeeze, grant_key: SigningKey) {
        let mut book = self.middle.book();
        book.squeeze = Some((squeeze, Arc::new(grant_key)));
        book.scheme = Scheme::Squeeze;
    }

    /// Evidence that passed and was accepted, the latest last.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.middle.book().seen.clone()
    }

    /// What came of the altered envelope, once there was one.
    pub fn altered(&self) -> Option<Altered> {
        self.middle.book().altered.clone()
    }

    /// How many replies were forged so far.
    pub fn forged(&self) -> u64 {
        self.middle.book().forged
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(listener: TcpListener, acceptor: TlsAcceptor, middle: Arc<Middle>) {
    // Connections live and die with the listener's task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, middle) = (acceptor.clone(), Arc::clone(&middle));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let middle = Arc::clone(&middle);
                async move { Ok::<_, Infallible>(pass(&middle, request).await) }
            });
            // How the host ends its connection is its own affair.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn pass(middle: &Middle, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let body = Limited::new(request.into_body(), HTTP_BODY_BYTES_MAX).collect().await;
    let Ok(body) = body.map(http_body_util::Collected::to_bytes) else { return bare(StatusCode::BAD_REQUEST) };
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "v1", "hosts", host, "nonce"] => answer(middle.upstream.call::<AskNonce>(&[host], &Nothing {}).await),
        ["", "v1", "hosts", host, "evidence"] => match serde_json::from_slice::<EvidenceRequest>(&body) {
            Ok(request) => answer(pass_evidence(middle, host, &request.evidence.0).await),
            Err(_) => bare(StatusCode::BAD_REQUEST),
        },
        _ => bare(StatusCode::BAD_GATEWAY),
    }
}

async fn pass_evidence(middle: &Middle, host: &str, evidence: &[u8]) -> Result<EvidenceReply, ClientError> {
    let send = async |bytes: &[u8]| {
        let request = EvidenceRequest { evidence: Base64(bytes.to_vec()) };
        middle.upstream.call::<SendEvidence>(&[host], &request).await
    };
    let scheme = middle.book().scheme;
    let mut tried = None;
    if scheme == Scheme::AlterEnvelope
        && let Ok(bytes) = altered(evidence)
    {
        tried = Attempt::of(send(&bytes).await).ok();
    }
    let mut reply = send(evidence).await;
    let mut book = middle.book();
    if reply.is_ok() {
        book.seen.push(evidence.to_vec());
        if book.seen.len() > SEEN_MAX {
            book.seen.remove(0);
        }
    }
    if let Some(altered) = tried
        && let original = if reply.is_ok() { Some(Attempt::Accepted) } else { refused(&reply) }
        && let Some(original) = original
    {
        book.altered = Some(Altered { altered, original });
        book.scheme = Scheme::Read;
    }
    if scheme == Scheme::ForgeGrants
        && let Ok(reply) = &mut reply
        && let Ok(bytes) = forged(&reply.grant_set.0, &middle.own_key)
    {
        reply.grant_set = Base64(bytes);
        book.forged += 1;
    }
    if scheme == Scheme::Squeeze
        && let (Ok(reply), Some((squeeze, key))) = (&mut reply, book.squeeze.clone())
        && let Ok(with_plan) = squeezed(reply, &squeeze, &key, clock::unix_ms())
    {
        *reply = with_plan;
        book.forged += 1;
    }
    reply
}

fn refused<T>(reply: &Result<T, ClientError>) -> Option<Attempt> {
    match reply {
        Err(ClientError::Refused { error, .. }) => Some(Attempt::Refused(error.clone())),
        _ => None,
    }
}

/// Hands on what the verifier said, a refusal as the refusal that it is.
fn answer<T: Serialize>(outcome: Result<T, ClientError>) -> Response<Full<Bytes>> {
    let (status, json) = match &outcome {
        Ok(reply) => (StatusCode::OK, serde_json::to_vec(reply)),
        Err(ClientError::Refused { status, error }) => {
            (StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY), serde_json::to_vec(error))
        }
        Err(_) => return bare(StatusCode::BAD_GATEWAY),
    };
    let Ok(json) = json else { return bare(StatusCode::BAD_GATEWAY) };
    let mut response = Response::new(Full::new(Bytes::from(json)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn bare(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
