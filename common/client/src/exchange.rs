//! From a route to a request, and from an answer to its reply: the same over TLS and over the Unix socket.

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use quotary_common::wire::{self, Base64, Method, Route};

use crate::ClientError;

/// A request's body.
pub(crate) type Body = Full<Bytes>;

const AGENT: &str = concat!("quotary/", env!("CARGO_PKG_VERSION"));
const BYTES_TYPE: &str = "application/octet-stream";
/// How much of an unreadable answer is shown.
const SHOWN_CHARS: usize = 120;

/// Who is asked, as people read it, and how a request line names it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As in messages.
    pub(crate) shown: String,
    /// What stands before the path: `https://host:port`, or nothing on a Unix socket.
    pub(crate) prefix: String,
}

impl Place {
    fn of<R: Route>(&self) -> String {
        format!("{} ({} {})", self.shown, R::METHOD.name(), R::PATH)
    }

    pub(crate) fn protocol<R: Route>(&self, what: impl Into<String>) -> ClientError {
        ClientError::Protocol { place: self.of::<R>(), what: what.into() }
    }
}

/// The request of a route. Only `POST` has a body.
pub(crate) fn request<R: Route>(
    place: &Place,
    path_values: &[&str],
    body: &R::Request,
    bearer: Option<&HeaderValue>,
) -> Result<Request<Body>, ClientError> {
    let path = wire::path_with(R::PATH, path_values);
    let mut request = Request::builder()
        .method(R::METHOD.name())
        .uri(format!("{}{path}", place.prefix))
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json");
    if place.prefix.is_empty() {
        request = request.header(HOST, "localhost");
    }
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    let bytes = match R::METHOD {
        Method::Get | Method::Delete => Bytes::new(),
        Method::Post => {
            request = request.header(CONTENT_TYPE, "application/json");
            let json = serde_json::to_vec(body).map_err(|e| place.protocol::<R>(format!("the request: {e}")))?;
            Bytes::from(json)
        }
    };
    request.body(Full::new(bytes)).map_err(|e| place.protocol::<R>(format!("the request: {e}")))
}

/// The reply in an answer, of whose body at most `bytes_max` bytes are read.
pub(crate) async fn reply<R: Route>(
    place: &Place,
    response: Response<Incoming>,
    bytes_max: usize,
) -> Result<R::Reply, ClientError> {
    let status = response.status();
    let is_bytes = response.headers().get(CONTENT_TYPE).is_some_and(|t| t == BYTES_TYPE);
    let body = match Limited::new(response.into_body(), bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(place.protocol::<R>(format!("more than {bytes_max} bytes")));
        }
        Err(error) => return Err(ClientError::of_exchange(&place.shown, false, error)),
    };
    if !status.is_success() {
        return Err(refusal::<R>(place, status.as_u16(), &body));
    }
    if is_bytes {
        // A route of bytes may answer them bare, as C2SP clients expect; here they are the same value.
        let json = serde_json::to_value(Base64(body.to_vec())).map_err(|e| place.protocol::<R>(e.to_string()))?;
        return serde_json::from_value(json).map_err(|e| place.protocol::<R>(e.to_string()));
    }
    serde_json::from_slice(&body).map_err(|e| place.protocol::<R>(e.to_string()))
}

/// What an answer that is no success says.
fn refusal<R: Route>(place: &Place, status: u16, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<wire::Error>(body) {
        Ok(error) => ClientError::Refused { status, error: shown(error) },
        Err(_) => place.protocol::<R>(format!("status {status} without a reason: {}", excerpt(body))),
    }
}

/// A refusal that can be printed: text from outside must not move a terminal's cursor.
fn shown(mut error: wire::Error) -> wire::Error {
    error.detail = error.detail.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    error
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_CHARS * 4)]);
    let mut out: String = text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if out.len() < body.len() {
        out.push('…');
    }
    out
}
