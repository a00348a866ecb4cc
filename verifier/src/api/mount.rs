//! Mounts routes: right first, then body, then handler; refusals become replies.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http_body_util::BodyExt as _;
use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, Method, Right, Route, RouteInfo, VERIFIER_ROUTES};
use tokio_util::sync::CancellationToken;

use super::App;
use super::auth::{self, Caller, Credentials};

/// The connection's client key, as the accept loop attaches it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClientKey(pub(super) Option<Digest>);

/// How long a body is taken whose caller was refused already.
const DRAIN_FOR: Duration = Duration::from_secs(5);

/// Ends the connection that a request came over, as the accept loop attaches it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(pub(super) CancellationToken);

/// A request whose right holds and whose body reads.
pub(super) struct Call<R: Route> {
    /// What handlers have at hand.
    pub(super) app: Arc<App>,
    /// Who calls.
    pub(super) caller: Caller,
    /// The path's varying parts, in order.
    pub(super) path: Vec<String>,
    /// The values of the route's query parameters, in their order.
    pub(super) query: Vec<Option<String>>,
    /// Which event the caller heard of last, if it resumes a stream.
    pub(super) last_event_id: Option<String>,
    /// Ends the connection.
    pub(super) cut: Cut,
    /// The body.
    pub(super) body: R::Request,
}

/// Routes in the making.
pub(super) struct Mount {
    app: Arc<App>,
    router: Router,
}

impl Mount {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app, router: Router::new() }
    }

    /// Mounts a route.
    pub(super) fn route<R, H, F>(&mut self, handler: H)
    where
        R: Route + 'static,
        H: Fn(Call<R>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<R::Reply, Refusal>> + Send + 'static,
    {
        const { assert!(!R::STREAM, "it is a stream's route") };
        let app = Arc::clone(&self.app);
        let served = move |params: RawPathParams, request: Request| {
            let (app, handler) = (Arc::clone(&app), handler.clone());
            let path = values_of(&params);
            async move { answer::<R, H, F>(app, handler, path, request).await }
        };
        self.at::<R>(on(filter_of(R::METHOD), served));
    }

    /// Mounts a route that answers as a stream: the handler gives its body.
    pub(super) fn stream<R, H, F>(&mut self, handler: H)
    where
        R: Route + 'static,
        H: Fn(Call<R>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Body, Refusal>> + Send + 'static,
    {
        const { assert!(R::STREAM, "it is no stream's route") };
        let app = Arc::clone(&self.app);
        let served = move |params: RawPathParams, request: Request| {
            let (app, handler) = (Arc::clone(&app), handler.clone());
            let path = values_of(&params);
            async move {
                let (parts, body) = request.into_parts();
                let streamed = match admit::<R>(app, path, &parts, body).await {
                    Ok(call) => handler(call).await,
                    Err(refusal) => Err(refusal),
                };
                match streamed {
                    Ok(body) => {
                        let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
                        (head, body).into_response()
                    }
                    Err(refusal) => refused(&refusal),
                }
            }
        };
        self.at::<R>(on(filter_of(R::METHOD), served));
    }

    fn at<R: Route>(&mut self, served: MethodRouter) {
        let router = std::mem::take(&mut self.router);
        self.router = router.route(wire::path_alone(R::PATH), served);
    }

    pub(super) fn finish(self) -> Router {
        self.router
            .fallback(|| async { refused(&Refusal::new(Reason::NotFound, "no such route: see /v1/openapi.json")) })
            .method_not_allowed_fallback(|| async {
                let mut reply = refused(&Refusal::new(
                    Reason::NotFound,
                    "the route does not take this method: see /v1/openapi.json",
                ));
                *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                reply
            })
    }
}

/// The table that is mounted, for documents and tests.
pub const fn routes_mounted() -> &'static [RouteInfo] {
    VERIFIER_ROUTES
}

fn filter_of(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Delete => MethodFilter::DELETE,
    }
}

fn values_of(params: &RawPathParams) -> Vec<String> {
    params.iter().map(|(_, value)| value.to_owned()).collect()
}

async fn answer<R, H, F>(app: Arc<App>, handler: H, path: Vec<String>, request: Request) -> Response
where
    R: Route,
    H: Fn(Call<R>) -> F,
    F: Future<Output = Result<R::Reply, Refusal>>,
{
    let (parts, body) = request.into_parts();
    let call = match admit::<R>(app, path, &parts, body).await {
        Ok(call) => call,
        Err(refusal) => return refused(&refusal),
    };
    match handler(call).await {
        Ok(reply) => success(&parts.headers, &reply),
        Err(refusal) => refused(&refusal),
    }
}

/// The right first, then the body; what is refused is counted, and audited where its leaf is due.
async fn admit<R: Route>(app: Arc<App>, path: Vec<String>, parts: &Parts, body: Body) -> Result<Call<R>, Refusal> {
    let credentials = Credentials {
        tls_key: parts.extensions.get::<ClientKey>().and_then(|key| key.0),
        bearer: bearer(&parts.headers),
    };
    let caller = match auth::check(&app, R::RIGHT, path.first().map(String::as_str), &credentials) {
        Ok(caller) => caller,
        Err(refusal) => {
            drain::<R>(body).await;
            let what = if R::RIGHT == Right::Host { "evidence" } else { "call" };
            let named = path.first().filter(|_| R::RIGHT == Right::Host).and_then(|host| app.view.host_named(host));
            let host = named.map(|snapshot| snapshot.host.record.host);
            return Err(app.refuse(host.as_ref(), what, refusal, parts.uri.path().as_bytes()).await);
        }
    };
    let body = match read::<R>(body).await {
        Ok(body) => body,
        Err(refusal) => {
            let host = match &caller {
                Caller::Host(snapshot, _) => Some(snapshot.host.record.host),
                _ => None,
            };
            return Err(app.refuse(host.as_ref(), "body", refusal, parts.uri.path().as_bytes()).await);
        }
    };
    let query = wire::query_names(R::PATH).map(|name| query(parts.uri.query().unwrap_or_default(), name)).collect();
    let last_event_id =
        parts.headers.get("last-event-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let cut = parts.extensions.get::<Cut>().cloned().unwrap_or_default();
    Ok(Call { app, caller, path, query, last_event_id, cut, body })
}

/// The value of one parameter of a query. One whose escapes are garbled is taken as it stands: no handler knows it.
fn query(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
    Some(wire::unescaped(value).unwrap_or_else(|| value.to_owned()))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

/// Takes what a caller without the right sends, within the route's bound and some seconds, and keeps none of it: a connection that is closed under
/// a body on its way loses the reply.
async fn drain<R: Route>(body: Body) {
    let taken = async {
        let (mut body, mut left) = (body, R::BODY_BYTES_MAX);
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) else { break };
            left = rest;
        }
    };
    let _given_up = tokio::time::timeout(DRAIN_FOR, taken).await.is_err();
}

async fn read<R: Route>(body: Body) -> Result<R::Request, Refusal> {
    let bytes = to_bytes(body, R::BODY_BYTES_MAX).await.map_err(|_| {
        Refusal::new(
            Reason::TooLarge,
            format!("the body did not arrive whole, or has more than {} bytes", R::BODY_BYTES_MAX),
        )
    })?;
    let bytes: &[u8] = if bytes.is_empty() || R::METHOD == Method::Get { b"{}" } else { &bytes };
    // serde would also take a list of the fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::new(Reason::Malformed, "the body is not a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| Refusal::new(Reason::Malformed, format!("the body: {error}")))
}

fn success<T: serde::Serialize>(headers: &HeaderMap, reply: &T) -> Response {
    let raw = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/octet-stream");
    match serde_json::to_value(reply) {
        // Tools that know tlog-tiles want the bytes themselves.
        Ok(serde_json::Value::String(text)) if raw => match data_encoding::BASE64.decode(text.as_bytes()) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
            Err(_) => axum::Json(text).into_response(),
        },
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => {
            tracing::error!(%error, "a reply could not be written");
            refused(&Refusal::new(Reason::Unavailable, "the reply could not be written"))
        }
    }
}

pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(wire::Error::from(refusal))).into_response()
}
