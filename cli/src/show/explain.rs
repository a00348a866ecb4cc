//! `quotary explain`

use quotary_common::wire::{AppraisalView, ShowAppraisal};

use crate::exit::Failure;
use crate::now_ms;
use crate::present::{self, Align, Facts, Table};
use crate::session::Session;

/// Says why one host is in its zone.
pub(crate) async fn one(session: &Session, host: &str, json: bool) -> Result<(), Failure> {
    let id = session.host(host).await?;
    let view = session.ask::<ShowAppraisal>(&[&id.hex()]).await?;
    if json {
        return present::json(&view);
    }
    present::print(&facts(&view, now_ms()).render())?;
    if !view.failed.is_empty() {
        present::print("\nWhy it is in no better zone\n")?;
        for failed in &view.failed {
            present::print(&format!("  {}: {}\n", failed.reason, present::clean(&failed.detail)))?;
        }
    }
    if view.findings.is_empty() {
        return Ok(());
    }
    present::print("\nWhat its logs show\n")?;
    present::print_table(&findings(&view))
}

fn facts(view: &AppraisalView, now_ms: u64) -> Facts {
    let mut facts = Facts::default();
    facts.add("host", view.host.to_string());
    facts.add("appraised", present::age(view.at_ms, now_ms));
    let best = if view.zone.as_ref() == Some(&view.zone_best) { " (the best it may enter)" } else { "" };
    let zone = view.zone.as_ref().map_or_else(|| "none".to_owned(), |zone| format!("{zone}{best}"));
    facts.add("zone", zone);
    let secure_boot = view.secure_boot.map_or("not known", |on| if on { "on" } else { "off" });
    facts.add("Secure Boot", secure_boot.to_owned());
    if let (Some(entries), Some(findings)) = (view.ima_entries, view.ima_findings) {
        facts.add("IMA list", format!("{entries} entries, {findings} findings"));
    }
    facts
}

fn findings(view: &AppraisalView) -> Table {
    let columns =
        [("ZONE", Align::Left), ("FINDING", Align::Left), ("EVENT", Align::Right), ("WHAT WAS SEEN", Align::Left)];
    let mut table = Table::new(&columns, "nothing");
    for finding in &view.findings {
        table.row([
            finding.zone.clone().unwrap_or_else(|| "-".to_owned()),
            finding.code.clone(),
            finding.event.map_or_else(|| "-".to_owned(), |event| event.to_string()),
            finding.detail.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use quotary_common::id::HostId;
    use quotary_common::wire::FindingView;

    use super::*;

    #[test]
    fn what_failed_is_told_with_its_event() {
        let view = AppraisalView {
            host: HostId::new([1; 32]),
            at_ms: 1,
            zone: Some("joined".to_owned()),
            zone_best: "measured".to_owned(),
            failed: vec![],
            secure_boot: Some(true),
            boot_log_evidence: None,
            ima_entries: Some(340),
            ima_findings: Some(1),
            findings: vec![FindingView {
                zone: Some("measured".to_owned()),
                code: "stage-unknown".to_owned(),
                event: Some(21),
                detail: "stage command-line: 00ff is not among the zone's".to_owned(),
            }],
        };
        let text = facts(&view, 2).render();
        assert!(text.contains("340 entries, 1 findings") && text.contains("joined"), "{text}");
        assert!(!text.contains("the best"), "{text}");
        let table = findings(&view).render(false);
        assert!(table.contains("stage-unknown") && table.contains("21"), "{table}");
    }
}
