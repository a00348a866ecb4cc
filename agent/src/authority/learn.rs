//! Asks the verifier who decides, holds its answer against the deployment's root, and pins it.

use quotary_client::{Client, ClientError};
use quotary_common::id::HostId;
use quotary_common::wire::{AskAuthority, AuthorityReply, Nothing};

use super::{LearnError, Pin, Walk};
use crate::clock;

/// Walks on from what is pinned, and pins how far that came. The pin comes back; `None` where the runtime ends, or a
/// fault ends it, while it is written: then it is loaded again.
///
/// # Errors
/// [`LearnError`] naming the step; what held before it is pinned all the same.
pub async fn learn(client: &Client, host: &HostId, pin: Pin) -> (Option<Pin>, Result<(), LearnError>) {
    let ask = |after: Option<u64>| {
        let (client, host) = (client.clone(), host.hex());
        let after = after.map(|number| number.to_string()).unwrap_or_default();
        async move { client.call::<AskAuthority>(&[&host, &after], &Nothing {}).await }
    };
    learn_by(ask, pin).await
}

/// As [`learn`], by whoever answers.
pub(super) async fn learn_by<Asked>(
    ask: impl Fn(Option<u64>) -> Asked,
    pin: Pin,
) -> (Option<Pin>, Result<(), LearnError>)
where
    Asked: Future<Output = Result<AuthorityReply, ClientError>>,
{
    let mut walk = Walk::from(pin.authority().copied(), *pin.root(), *pin.deployment());
    let walked = walk_on(ask, &mut walk).await;
    let kept = tokio::task::spawn_blocking(move || {
        let mut pin = pin;
        let kept = walk.at().map_or(Ok(()), |at| pin.advance(at, clock::unix_ms()));
        (pin, kept)
    });
    match kept.await {
        Ok((pin, kept)) => (Some(pin), walked.and(kept.map_err(LearnError::from))),
        Err(_) => (None, Err(LearnError::Interrupted)),
    }
}

async fn walk_on<Asked>(ask: impl Fn(Option<u64>) -> Asked, walk: &mut Walk) -> Result<(), LearnError>
where
    Asked: Future<Output = Result<AuthorityReply, ClientError>>,
{
    loop {
        let reply = ask(walk.after()).await?;
        // Signatures of many people: not on the thread that everything else runs on.
        let mut own = walk.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let taken = own.take(&reply, clock::unix_ms());
            (own, taken)
        });
        let Ok((own, taken)) = taken.await else { return Err(LearnError::Interrupted) };
        *walk = own;
        if taken? {
            return Ok(());
        }
    }
}
