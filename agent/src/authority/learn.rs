//! Asks the verifier who decides, holds its answer against the deployment's root, and pins it.

use quotary_client::Client;
use quotary_common::id::HostId;
use quotary_common::wire::{AskAuthority, Nothing};

use super::{LearnError, Pin, Walk};
use crate::clock;

/// Walks on from what is pinned, and pins how far that came. The pin comes back in any case; `None` where the runtime ends
/// while it is written.
///
/// # Errors
/// [`LearnError`] naming the step; what held before it is pinned all the same.
pub async fn learn(client: &Client, host: &HostId, pin: Pin) -> (Option<Pin>, Result<(), LearnError>) {
    let mut walk = Walk::from(pin.authority().copied(), *pin.root(), *pin.deployment());
    let walked = walk_on(client, host, &mut walk).await;
    let kept = tokio::task::spawn_blocking(move || {
        let mut pin = pin;
        let kept = walk.at().map_or(Ok(()), |at| pin.advance(at));
        (pin, kept)
    });
    match kept.await {
        Ok((pin, kept)) => (Some(pin), walked.and(kept.map_err(LearnError::from))),
        Err(_) => (None, Err(LearnError::Interrupted)),
    }
}

async fn walk_on(client: &Client, host: &HostId, walk: &mut Walk) -> Result<(), LearnError> {
    let host = host.hex();
    loop {
        let after = walk.after().map(|number| number.to_string()).unwrap_or_default();
        let reply = client.call::<AskAuthority>(&[&host, &after], &Nothing {}).await?;
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
