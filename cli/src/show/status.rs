//! `quotary status`

use quotary_common::wire::{ShowStatus, StatusView};

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
    if status.holds_until_ms > status.now_ms {
        let until = present::age(status.holds_until_ms, status.now_ms);
        facts.add("holds", format!("nothing is reallocated yet after the restart: {until}"));
    }
    facts
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
        };
        let text = facts(&view).render();
        assert!(text.contains("up 60 s") && text.contains("9 leaves") && !text.contains("holds"), "{text}");
        view.holds_until_ms = 361_000;
        assert!(facts(&view).render().contains("in 5 min"));
    }
}
