//! An event stream's body: one JSON object a line, until the grant ends or the peer goes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use quotary_common::wire::{GrantState, LocalGrant};
use tokio::sync::{mpsc, watch};

/// Lines as they come.
pub(super) struct Lines(mpsc::Receiver<Bytes>);

/// The body that shows `grant` now and at each change. A slow reader misses states in between, never the last.
pub(super) fn lines(mut grant: watch::Receiver<LocalGrant>) -> Lines {
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let (line, is_over) = {
                let shown = grant.borrow_and_update();
                let mut line = serde_json::to_vec(&*shown).unwrap_or_default();
                line.push(b'\n');
                (Bytes::from(line), shown.state == GrantState::Ended)
            };
            if to.send(line).await.is_err() || is_over {
                return;
            }
            tokio::select! {
                // The loop ended the grant, or itself.
                changed = grant.changed() => if changed.is_err() { return },
                // The peer is gone.
                () = to.closed() => return,
            }
        }
    });
    Lines(from)
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
