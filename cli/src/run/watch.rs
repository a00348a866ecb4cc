//! Tells when the grant changes while the command runs.

use std::time::Duration;

use quotary_client::{ClientError, EventStream, LocalClient};
use quotary_common::reason::Reason;
use quotary_common::units::Resources;
use quotary_common::wire::{GrantState, LocalGrant, WatchGrant};

use crate::present;

/// How long to wait before the stream is opened again (the agent may be restarting).
const AGAIN: Duration = Duration::from_secs(2);

/// Watches until the grant has ended; tells its end, and, if `verbose`, each change.
pub(super) async fn watch(client: LocalClient, mut known: LocalGrant, verbose: bool) {
    let id = known.grant.hex();
    loop {
        match client.events::<WatchGrant>(&[&id]).await {
            Ok(stream) => {
                if follow(stream, &mut known, verbose).await {
                    return;
                }
            }
            Err(ClientError::Refused { error, .. })
                if matches!(error.reason, Reason::NotFound | Reason::LeaseExpired | Reason::NotOwner) =>
            {
                return tell("the grant has ended: the command goes on under what the host gives everyone");
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Follows one stream to its end; says whether the grant has ended.
async fn follow(mut stream: EventStream<WatchGrant>, known: &mut LocalGrant, verbose: bool) -> bool {
    while let Ok(Some(now)) = stream.next().await {
        if now.state == GrantState::Ended {
            tell("the grant has ended: the command goes on under what the host gives everyone");
            return true;
        }
        if let Some(line) = change(&known.resources, &now.resources).filter(|_| verbose) {
            tell(&line);
        }
        *known = now;
    }
    false
}

fn tell(text: &str) {
    eprintln!("quotary: {}", present::clean(text));
}

/// What changed, in a line.
fn change(before: &Resources, now: &Resources) -> Option<String> {
    if before == now {
        return None;
    }
    // A limit that is no longer stated is no longer there: that is growth.
    let limit = |amount: Option<u64>| amount.unwrap_or(u64::MAX);
    let pairs: Vec<(u64, u64)> =
        before.amounts().into_iter().zip(now.amounts()).map(|(b, n)| (limit(b), limit(n))).collect();
    let shrinks = pairs.iter().any(|(before, now)| now < before);
    let grows = pairs.iter().any(|(before, now)| now > before);
    let verb = match (shrinks, grows) {
        (true, false) => "shrinks",
        (false, true) => "grows",
        _ => "changes",
    };
    Some(format!("the grant {verb}: {} → {}", present::resources(before), present::resources(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(millicores: Option<u64>) -> Resources {
        Resources { cpu_millicores: millicores, ..Resources::default() }
    }

    #[test]
    fn a_change_says_which_way_it_goes() {
        assert_eq!(change(&cpu(Some(500)), &cpu(Some(500))), None);
        let line = change(&cpu(Some(500)), &cpu(Some(250)));
        assert_eq!(line.as_deref(), Some("the grant shrinks: cpu 500m → cpu 250m"));
        assert!(change(&cpu(Some(500)), &cpu(None)).is_some_and(|line| line.contains("grows")));
        let (mut a, mut b) = (cpu(Some(500)), cpu(Some(250)));
        (a.memory_bytes, b.memory_bytes) = (Some(1), Some(2));
        assert!(change(&a, &b).is_some_and(|line| line.contains("changes")));
    }
}
