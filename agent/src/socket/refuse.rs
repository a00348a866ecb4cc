//! Answers that are no success: always JSON, always with a reason.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire;

/// A refusal with the status of the answer.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    refusal: Refusal,
    /// What to wait before the next try, ms.
    retry_after_ms: Option<u64>,
}

impl Refused {
    /// With a status other than its reason's.
    pub(super) fn with(status: StatusCode, reason: Reason, detail: impl AsRef<str>) -> Self {
        Self { status, refusal: Refusal::new(reason, detail), retry_after_ms: None }
    }
    /// With its reason's status.
    pub(super) fn new(reason: Reason, detail: impl AsRef<str>) -> Self {
        Refusal::new(reason, detail).into()
    }
    /// With the wait (`Retry-After`, RFC 9110 §10.2.3) where too much was asked at once.
    #[must_use]
    pub(super) fn retry_after(mut self, wait_ms: u64) -> Self {
        self.retry_after_ms = (self.refusal.reason == Reason::Busy).then_some(wait_ms);
        self
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, refusal, retry_after_ms: None }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let answer = (self.status, Json(wire::Error::from(&self.refusal)));
        match self.retry_after_ms {
            Some(wait_ms) => ([(header::RETRY_AFTER, wait_ms.div_ceil(1000).to_string())], answer).into_response(),
            None => answer.into_response(),
        }
    }
}

/// A whole HTTP answer for a connection that is not served at all.
pub(super) fn turned_away(refusal: &Refusal) -> Vec<u8> {
    let body = serde_json::to_string(&wire::Error::from(refusal)).unwrap_or_default();
    let status = refusal.reason.http_status();
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused");
    format!(
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
