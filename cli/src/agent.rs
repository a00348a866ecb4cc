//! `quotary agent …`: the agent on this machine, for root.

use quotary_client::LocalClient;
use quotary_common::wire::{AgentView, Nothing, RestoreAll, RestoreReply, ShowAgent};

use crate::args::AgentCommand;
use crate::exit::Failure;
use crate::present::{self, Align, Facts, Table};

/// Asks the agent's admin socket.
pub(crate) async fn agent(command: &AgentCommand, json: bool) -> Result<(), Failure> {
    match command {
        AgentCommand::Show(at) => {
            let view = LocalClient::new(&at.socket).call::<ShowAgent>(&[], &Nothing {}).await?;
            if json {
                return present::json(&view);
            }
            present::print(&facts(&view).render())?;
            present::print("\n")?;
            present::print_table(&grants(&view))
        }
        AgentCommand::Restore(at) => {
            let RestoreReply { grants, targets } =
                LocalClient::new(&at.socket).call::<RestoreAll>(&[], &Nothing {}).await?;
            if json {
                return present::json(&RestoreReply { grants, targets });
            }
            present::print(&format!(
                "{grants} grants ended and {targets} units released, the state before Quotary put back; nothing is enforced until the agent is started again\n"
            ))
        }
    }
}

fn facts(view: &AgentView) -> Facts {
    let mut facts = Facts::default();
    facts.add("host", view.id.as_deref().unwrap_or("not enrolled"));
    facts.add("version", &view.version);
    let why = view.why_not.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    facts.add("mode", format!("{}{why}", word(&view.mode)));
    facts.add("backend", format!("{}, cgroup {}", word(&view.backend), word(&view.hierarchy)));
    facts.add("sequence", view.sequence.to_string());
    let accepted = view.last_accepted_ms_ago.map(|ms| format!("{} ago", present::duration(ms)));
    facts.add("last accepted", accepted.unwrap_or_else(|| "never".to_owned()));
    if let Some(refusal) = &view.last_refusal {
        facts.add("last refusal", format!("{}: {}", refusal.reason, refusal.detail));
    }
    let lockout = if view.tpm_in_lockout { ", in dictionary-attack lockout" } else { "" };
    facts.add("TPM", format!("{}{lockout}", view.tpm_manufacturer));
    if let Some(pid) = view.tpm_child_pid {
        facts.add("software TPM", format!("pid {pid}"));
    }
    facts.add("quote p50", median(&view.quote_us));
    facts.add("enforced p50", median(&view.request_to_enforced_us));
    facts
}

fn grants(view: &AgentView) -> Table {
    let columns = [
        ("GRANT", Align::Left),
        ("APPLICATION", Align::Left),
        ("TENANT", Align::Left),
        ("CLASS", Align::Left),
        ("RESOURCES", Align::Left),
        ("LEASE LEFT", Align::Right),
        ("CGROUP", Align::Left),
    ];
    let mut table = Table::new(&columns, "no grants");
    for grant in &view.grants {
        table.row([
            grant.id.clone(),
            grant.application.clone(),
            grant.tenant.clone(),
            grant.class.to_string(),
            present::resources(&grant.resources),
            present::duration(grant.lease_left_ms),
            grant.cgroup.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

/// The middle of what was measured.
fn median(us: &[u64]) -> String {
    let mut sorted = us.to_vec();
    sorted.sort_unstable();
    match sorted.get(sorted.len() / 2) {
        Some(middle) => format!("{}.{} ms over {}", middle / 1000, middle % 1000 / 100, sorted.len()),
        None => "-".to_owned(),
    }
}

/// A kebab-case enum as it stands in JSON.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
