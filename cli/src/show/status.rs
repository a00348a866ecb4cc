//! `quotary status`

use quotary_common::wire::{ShowStatus, StatusView, WebhookView};

use crate::exit::Failure;
use crate::present::{self, Facts};
use crate::session::Session;

/// Shows the verifier.
pub(crate) async fn status(session: &Session, json: bool) -> Result<(), Failure> {
    let status = session.ask::<ShowStatus>(&[]).await?;
    if json { present::json(&status) } else { present::print(&facts(&status).render()) }
}

fn facts(status: &StatusView) -> Facts {
    let mut facts = Facts::default();
    let up = present::duration(status.now_ms.saturating_sub(status.started_at_ms));
    facts.add("verifier", format!("{}, version {}, up {up}", status.verifier, status.version));
    facts.add("deployment", status.deployment.to_string());
    facts.add("hosts", format!("{}, of which trusted {}", status.hosts, status.hosts_trusted));
    facts.add("grants", status.grants.to_string());
    facts.add("evidence", format!("{} accepted, {} refused", status.accepted, status.refused));
    facts.add("model", &status.model);
    facts.add("audit log", format!("{} leaves, root {}", status.audit.size, status.audit.root.hex()));
    let witnessed = status.witnessed.map(|w| format!("{} leaves, root {}", w.size, w.root.hex()));
    facts.add("witnessed", witnessed.unwrap_or_else(|| "by no host yet".to_owned()));
    if status.event_streams > 0 {
        facts.add("event streams", status.event_streams.to_string());
    }
    for webhook in &status.webhooks {
        facts.add("webhook", webhook_line(webhook));
    }
    if status.holds_until_ms > status.now_ms {
        let until = present::age(status.holds_until_ms, status.now_ms);
        facts.add("holds", format!("nothing is reallocated yet after the restart: {until}"));
    }
    facts
}

fn webhook_line(webhook: &WebhookView) -> String {
    let through = format!("{}: told what leaves before {} tell", webhook.receiver, webhook.next_leaf);
    match &webhook.last_error {
        None if webhook.lag_ms == 0 => through,
        None => format!("{through}, {} behind", present::duration(webhook.lag_ms)),
        Some(error) => {
            let behind = present::duration(webhook.lag_ms);
            format!("{through}, {behind} behind; {} failed in a row: {error}", webhook.failures)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quotary_common::envelope::WitnessedCheckpoint;
    use quotary_common::id::{DeploymentId, Digest};

    #[test]
    fn a_verifier_that_holds_back_says_so() {
        let mut view = StatusView {
            deployment: DeploymentId::of(&[b"d"]),
            verifier: "v1".to_owned(),
            version: "0.1.0".to_owned(),
            started_at_ms: 1_000,
            now_ms: 61_000,
            hosts: 2,
            hosts_trusted: 1,
            grants: 0,
            accepted: 5,
            refused: 1,
            audit: WitnessedCheckpoint { size: 9, root: Digest::of(&[]) },
            witnessed: None,
            model: "none".to_owned(),
            holds_until_ms: 0,
            event_streams: 0,
            webhooks: Vec::new(),
        };
        let text = facts(&view).render();
        assert!(text.contains("up 60 s") && text.contains("9 leaves") && !text.contains("holds"), "{text}");
        let webhook = WebhookView {
            receiver: "https://hooks.example".to_owned(),
            next_leaf: 7,
            lag_ms: 61_000,
            failures: 3,
            last_error: Some("it answered 500".to_owned()),
            delivered_at_ms: None,
        };
        view.webhooks = vec![WebhookView { lag_ms: 0, failures: 0, last_error: None, ..webhook.clone() }, webhook];
        let text = facts(&view).render();
        assert!(text.contains("before 7 tell\n") && text.contains("3 failed in a row: it answered 500"), "{text}");
        view.holds_until_ms = 361_000;
        assert!(facts(&view).render().contains("in 5 min"));
    }
}
