//! A route that answers as server-sent events (WHATWG HTML §9.2), read within bounds.

use std::marker::PhantomData;
use std::time::Duration;

use hyper::body::Incoming;
use quotary_common::wire::Route;

use crate::ClientError;
use crate::exchange::Place;
use crate::lines::{LINE_BYTES_MAX, LineFault, Lines};

/// One block of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<T> {
    /// The id that a reader who lost the stream now would resume by, if the stream has given one.
    pub last_id: Option<u64>,
    /// The event; absent where the block only moves the id.
    pub event: Option<T>,
}

/// Events as they come.
#[derive(Debug)]
pub struct ToldStream<R: Route> {
    lines: Lines,
    place: Place,
    last_id: Option<u64>,
    patience: Duration,
    route: PhantomData<fn() -> R>,
}

impl<R: Route> ToldStream<R> {
    pub(crate) fn new(body: Incoming, place: Place, last_id: Option<u64>, patience: Duration) -> Self {
        Self { lines: Lines::new(body), place, last_id, patience, route: PhantomData }
    }

    /// The next block; `None` when the verifier has ended the stream. Whoever cancels it has lost the stream, and resumes
    /// by the last id.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection breaks, [`ClientError::Timeout`] when not even a heartbeat comes,
    /// [`ClientError::Protocol`] when what comes is too long or is not the route's reply.
    pub async fn next(&mut self) -> Result<Option<Told<R::Reply>>, ClientError> {
        let (mut data, mut has_id) = (Vec::new(), false);
        loop {
            let Some(line) = self.line().await? else { return Ok(None) };
            if line.is_empty() {
                if !data.is_empty() {
                    let event = serde_json::from_slice(&data).map_err(|e| self.place.protocol::<R>(e.to_string()))?;
                    return Ok(Some(Told { last_id: self.last_id, event: Some(event) }));
                }
                if has_id {
                    return Ok(Some(Told { last_id: self.last_id, event: None }));
                }
                continue;
            }
            // A line without a colon is a field without a value; one that begins with it is a comment.
            let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (field, value) = (&line[..at], line.get(at + 1..).unwrap_or_default());
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"id" => {
                    let id = std::str::from_utf8(value).ok().and_then(|id| id.parse().ok());
                    self.last_id = Some(id.ok_or_else(|| self.place.protocol::<R>("an id that is no leaf's index"))?);
                    has_id = true;
                }
                b"data" => {
                    if !data.is_empty() {
                        data.push(b'\n');
                    }
                    data.extend_from_slice(value);
                    if data.len() > LINE_BYTES_MAX {
                        return Err(self.place.protocol::<R>(format!("an event of more than {LINE_BYTES_MAX} bytes")));
                    }
                }
                _ => {}
            }
        }
    }

    /// What to say of a stream that was ended.
    pub fn ended(&self) -> ClientError {
        let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        ClientError::of_exchange(&self.place.shown, false, ended)
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        match tokio::time::timeout(self.patience, self.lines.next()).await {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(fault)) => Err(fault.shown::<R>(&self.place)),
            Err(_) => Err(crate::https::timed_out(&self.place, self.patience)),
        }
    }
}

impl LineFault {
    pub(crate) fn shown<R: Route>(self, place: &Place) -> ClientError {
        match self {
            Self::Broken(error) => ClientError::of_exchange(&place.shown, false, error),
            Self::TooLong => place.protocol::<R>(format!("a line of more than {LINE_BYTES_MAX} bytes")),
        }
    }
}
