//! `quotary host …`

use quotary_common::wire::{HostView, ListHosts, ShowHost};

use crate::agent::word;
use crate::exit::Failure;
use crate::now_ms;
use crate::present::{self, Align, Facts, Table};
use crate::session::Session;

/// Lists all hosts.
pub(crate) async fn list(session: &Session, json: bool) -> Result<(), Failure> {
    let hosts = session.ask::<ListHosts>(&[]).await?;
    if json { present::json(&hosts) } else { present::print_table(&table(&hosts, now_ms())) }
}

/// Shows one host.
pub(crate) async fn one(session: &Session, host: &str, json: bool) -> Result<(), Failure> {
    let id = session.host(host).await?;
    let host = session.ask::<ShowHost>(&[&id.hex()]).await?;
    if json { present::json(&host) } else { present::print(&facts(&host, now_ms()).render()) }
}

/// What is thought of the host now, in a few words.
fn verdict(host: &HostView) -> String {
    match (&host.last_refusal, host.trusted) {
        (Some(refusal), _) => format!("refused: {}", refusal.reason),
        (None, true) if host.findings.is_empty() => "trusted".to_owned(),
        (None, true) => format!("trusted, {} findings", host.findings.len()),
        (None, false) if host.sequence == 0 => "no evidence yet".to_owned(),
        (None, false) => "not trusted".to_owned(),
    }
}

fn table(hosts: &[HostView], now_ms: u64) -> Table {
    let columns = [
        ("HOST", Align::Left),
        ("NAME", Align::Left),
        ("ZONE", Align::Left),
        ("TPM", Align::Left),
        ("VERDICT", Align::Left),
        ("EVIDENCE", Align::Right),
        ("MODE", Align::Left),
        ("GRANTED", Align::Left),
        ("CAPACITY", Align::Left),
    ];
    let mut table = Table::new(&columns, "no hosts are enrolled: make a join token with `quotary token join`");
    for host in hosts {
        table.row([
            host.id.clone(),
            host.hostname.clone().unwrap_or_else(|| "-".to_owned()),
            host.zone.clone().unwrap_or_else(|| "-".to_owned()),
            host.tpm.clone(),
            verdict(host),
            host.evidence_at_ms.map_or_else(|| "never".to_owned(), |at| present::age(at, now_ms)),
            host.mode.map_or_else(|| "-".to_owned(), |mode| word(&mode)),
            present::resources(&host.granted),
            present::resources(&host.inventory.capacity),
        ]);
    }
    table
}

fn facts(host: &HostView, now_ms: u64) -> Facts {
    let absent = || "-".to_owned();
    let mut facts = Facts::default();
    facts.add("host", format!("{} ({})", host.id, host.host.hex()));
    facts.add("name", host.hostname.clone().unwrap_or_else(absent));
    facts.add("verdict", verdict(host));
    if let Some(refusal) = &host.last_refusal {
        facts.add("last refusal", format!("{}: {}", refusal.reason, refusal.detail));
    }
    for finding in &host.findings {
        facts.add("finding", finding.as_str());
    }
    facts.add("zone", format!("{}, best {}", host.zone.clone().unwrap_or_else(absent), host.zone_best));
    facts.add("trust until", host.valid_until_ms.map_or_else(absent, |at| present::age(at, now_ms)));
    facts.add("TPM", host.tpm.clone());
    facts.add("sequence", format!("{}, epoch {}", host.sequence, host.epoch));
    let at = host.evidence_at_ms.map(|at| format!(" ({})", present::age(at, now_ms))).unwrap_or_default();
    facts.add("evidence", host.evidence.map_or_else(absent, |digest| format!("{}{at}", digest.hex())));
    facts.add("boot", host.boot_id.map_or_else(absent, |boot| boot.to_string()));
    let enforcement = [
        host.mode.map(|v| word(&v)),
        host.backend.map(|v| format!("backend {}", word(&v))),
        host.hierarchy.map(|v| format!("cgroup {}", word(&v))),
    ];
    facts.add("enforcement", enforcement.into_iter().flatten().collect::<Vec<_>>().join(", "));
    facts.add("agent", host.agent_version.clone().unwrap_or_else(absent));
    facts.add("capacity", present::resources(&host.inventory.capacity));
    facts.add("granted", present::resources(&host.granted));
    let labels: Vec<String> = host.inventory.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    facts.add("labels", if labels.is_empty() { absent() } else { labels.join(", ") });
    facts.add("evidence", format!("{} accepted, {} refused since the verifier started", host.accepted, host.refused));
    facts
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use quotary_common::id::HostId;
    use quotary_common::reason::Reason;
    use quotary_common::units::Resources;
    use quotary_common::wire::{Error, Inventory};

    /// A host whose id follows from a number.
    pub(crate) fn host(number: u8) -> HostView {
        let id = HostId::of(&[&[number]]);
        HostView {
            host: id,
            id: id.to_string(),
            hostname: Some("edge\u{1b}[2J".to_owned()),
            zone: Some("lab".to_owned()),
            zone_best: "lab".to_owned(),
            tpm: "software".to_owned(),
            trusted: true,
            valid_until_ms: Some(130_000),
            sequence: 3,
            evidence: None,
            evidence_at_ms: Some(10_000),
            epoch: 1,
            boot_id: None,
            last_refusal: None,
            findings: vec![],
            mode: None,
            backend: None,
            hierarchy: None,
            agent_version: None,
            inventory: Inventory {
                labels: [("region".to_owned(), "north".to_owned())].into(),
                capacity: Resources { cpu_millicores: Some(4000), ..Resources::default() },
            },
            granted: Resources::default(),
            accepted: 3,
            refused: 0,
        }
    }

    #[test]
    fn a_refused_host_is_not_shown_as_trusted() {
        let mut view = host(1);
        assert_eq!(verdict(&view), "trusted");
        let error = Error { reason: Reason::ChainForked, detail: "two envelopes".to_owned(), retry: false };
        view.last_refusal = Some(error);
        assert_eq!(verdict(&view), "refused: chain-forked");
        assert!(facts(&view, 20_000).render().contains("chain-forked: two envelopes"));
    }

    #[test]
    fn a_list_shows_age_and_capacity_and_cleans_the_hosts_own_name() {
        let text = table(&[host(1)], 22_000).render(false);
        assert!(text.contains("12 s ago") && text.contains("cpu 4"), "{text}");
        assert!(text.contains("edge?[2J") && !text.contains('\u{1b}'), "{text}");
    }
}
