//! The routes: from the route table to questions to the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method as HttpMethod, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use quotary_common::id::RequestId;
use quotary_common::limits::{GAUGE_PACE_MS, SOCKET_BODY_BYTES_MAX};
use quotary_common::reason::Reason;
use quotary_common::wire::{
    AgentView, AskGrant, Empty, EnterGrant, GaugeStatement, GaugesHeld, GrantRequest, LocalGrant, Method, Nothing,
    ReleaseGrant, RequestReply, RestoreAll, RestoreReply, Route, ShowAgent, ShowGrant, StateGauges, WatchGrant,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;

use super::ask::{Ask, Asks, GrantName, WAIT_MS_MAX};
use super::events;
use super::peer::{Credentials, Peer};
use super::refuse::Refused;
use crate::clock;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) asks: Asks,
    pub(super) credentials: Arc<Credentials>,
    pub(super) connected_ms: u64,
    pub(super) root: Arc<PathBuf>,
}

impl Connected {
    /// Who is connected, looked at now: a peer that is gone cannot ask.
    fn peer(&self) -> Result<Arc<Peer>, Refused> {
        Peer::look(&self.root, &self.credentials, self.connected_ms)
            .map(Arc::new)
            .map_err(|error| Refused::new(Reason::Forbidden, error.to_string()))
    }
}

/// The applications' routes.
pub(super) fn application_routes() -> Router<Connected> {
    let router = Router::new();
    let router = at::<AskGrant, _, _>(router, ask_grant);
    let router = at::<ShowGrant, _, _>(router, show_grant);
    let router = at::<ReleaseGrant, _, _>(router, release_grant);
    let router = at::<WatchGrant, _, _>(router, watch_grant);
    let router = at::<EnterGrant, _, _>(router, enter_grant);
    let router = at::<StateGauges, _, _>(router, state_gauges);
    with_fallbacks(router)
}

/// Root's routes.
pub(super) fn admin_routes() -> Router<Connected> {
    let router = at::<ShowAgent, _, _>(Router::new(), show_agent);
    let router = at::<RestoreAll, _, _>(router, restore_all);
    with_fallbacks(router)
}

fn at<R, H, T>(router: Router<Connected>, handler: H) -> Router<Connected>
where
    R: Route,
    H: Handler<T, Connected>,
    T: 'static,
{
    let method = match R::METHOD {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Delete => MethodFilter::DELETE,
    };
    router.route(R::PATH, on(method, handler))
}

fn with_fallbacks(router: Router<Connected>) -> Router<Connected> {
    router
        .fallback(|uri: Uri| async move {
            let shown: String = uri.path().chars().take(80).collect();
            Refused::new(Reason::NotFound, format!("this socket has no route {shown}"))
        })
        .method_not_allowed_fallback(|method: HttpMethod| async move {
            let detail = format!("this route does not take {method}");
            Refused::with(StatusCode::METHOD_NOT_ALLOWED, Reason::Malformed, detail)
        })
}

/// Reads a JSON body within its bounds.
async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refused> {
    let too_large =
        || Refused::new(Reason::TooLarge, format!("a body may have {SOCKET_BODY_BYTES_MAX} bytes on this socket"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > SOCKET_BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, SOCKET_BODY_BYTES_MAX).collect()).await;
    let bytes = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(Refused::new(Reason::Malformed, "the body did not arrive whole")),
        Err(_) => {
            let detail = "the body did not arrive in time";
            return Err(Refused::with(StatusCode::REQUEST_TIMEOUT, Reason::Malformed, detail));
        }
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Refused::new(Reason::Malformed, format!("the body is not what the route takes: {error}")))
}

/// A body where the route takes none: nothing, or the empty object.
async fn read_nothing(headers: &HeaderMap, body: Body) -> Result<(), Refused> {
    if headers.get(header::CONTENT_LENGTH).is_some_and(|value| value == "0")
        || (!headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING))
    {
        return Ok(());
    }
    let Nothing {} = read(headers, body).await?;
    Ok(())
}

fn named(text: &str) -> Result<GrantName, Refused> {
    GrantName::parse(text).ok_or_else(|| Refused::new(Reason::NotFound, "you hold no such grant"))
}

fn check(request: &GrantRequest) -> Result<(), Refused> {
    let amounts = request.resources.amounts();
    if amounts.iter().all(Option::is_none) {
        return Err(Refused::new(
            Reason::Malformed,
            "resources names nothing: ask for cpu_millicores, memory_bytes, …",
        ));
    }
    if amounts.iter().flatten().any(|amount| *amount == 0 || i64::try_from(*amount).is_err()) {
        return Err(Refused::new(
            Reason::Malformed,
            "an amount is zero or does not fit 63 bits: leave out what you do not need",
        ));
    }
    if request.wait_ms > WAIT_MS_MAX {
        return Err(Refused::new(Reason::Malformed, format!("wait_ms may be at most {WAIT_MS_MAX}")));
    }
    Ok(())
}

fn fresh_request_id() -> Result<RequestId, Refused> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Refused::new(Reason::Unavailable, "the kernel gave no random bytes: try again"))?;
    Ok(RequestId::new(bytes))
}

async fn ask_grant(
    State(connected): State<Connected>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RequestReply>, Refused> {
    let arrived_us = clock::boottime_us();
    let request: GrantRequest = read(&headers, body).await?;
    check(&request)?;
    let (peer, id) = (connected.peer()?, fresh_request_id()?);
    let wait = Duration::from_millis(request.wait_ms);
    let asked = connected.asks.ask(|reply| Ask::Request { peer, id, request, arrived_us, reply });
    // When time is up, or the peer is gone, the receiver is dropped: that withdraws the request.
    match tokio::time::timeout(wait, asked).await {
        Ok(answer) => Ok(Json(answer?)),
        Err(_) => Ok(Json(RequestReply::NoAnswer { request: id, detail: connected.asks.obstacle() })),
    }
}

async fn show_grant(
    State(connected): State<Connected>,
    Path(grant): Path<String>,
) -> Result<Json<LocalGrant>, Refused> {
    let (grant, peer) = (named(&grant)?, connected.peer()?);
    Ok(Json(connected.asks.ask(|reply| Ask::Show { peer, grant, reply }).await?))
}

async fn release_grant(State(connected): State<Connected>, Path(grant): Path<String>) -> Result<Json<Empty>, Refused> {
    let (grant, peer) = (named(&grant)?, connected.peer()?);
    connected.asks.ask(|reply| Ask::Release { peer, grant, reply }).await?;
    Ok(Json(Empty {}))
}

async fn watch_grant(State(connected): State<Connected>, Path(grant): Path<String>) -> Result<Response, Refused> {
    let (grant, peer) = (named(&grant)?, connected.peer()?);
    let states = connected.asks.ask(|reply| Ask::Watch { peer, grant, reply }).await?;
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::new(events::lines(states))).into_response())
}

async fn enter_grant(
    State(connected): State<Connected>,
    Path(grant): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LocalGrant>, Refused> {
    read_nothing(&headers, body).await?;
    let (grant, peer) = (named(&grant)?, connected.peer()?);
    Ok(Json(connected.asks.ask(|reply| Ask::Enter { peer, grant, reply }).await?))
}

fn check_gauges(gauges: &GaugeStatement) -> Result<(), Refused> {
    if gauges.stated().next().is_none() {
        let detail = "nothing is stated: name requests_per_minute, errors_per_minute, request_latency_microseconds";
        return Err(Refused::new(Reason::Malformed, detail));
    }
    match gauges.stated().find(|(gauge, value)| *value > gauge.greatest()) {
        Some((gauge, _)) => {
            let detail = format!("{} may be at most {}", gauge.name(), gauge.greatest());
            Err(Refused::new(Reason::Malformed, detail))
        }
        None => Ok(()),
    }
}

async fn state_gauges(
    State(connected): State<Connected>,
    Path(grant): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GaugesHeld>, Refused> {
    let gauges: GaugeStatement = read(&headers, body).await?;
    check_gauges(&gauges)?;
    let (grant, peer) = (named(&grant)?, connected.peer()?);
    let asked = connected.asks.ask(|reply| Ask::StateGauges { peer, grant, gauges, reply }).await;
    asked.map(Json).map_err(|refusal| Refused::from(refusal).retry_after(GAUGE_PACE_MS))
}

async fn show_agent(State(connected): State<Connected>) -> Result<Json<AgentView>, Refused> {
    Ok(Json(connected.asks.ask(|reply| Ask::ShowAgent { reply }).await?))
}

async fn restore_all(
    State(connected): State<Connected>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RestoreReply>, Refused> {
    read_nothing(&headers, body).await?;
    Ok(Json(connected.asks.ask(|reply| Ask::RestoreAll { reply }).await?))
}
