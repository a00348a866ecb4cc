//! `quotary agent …`: the agent on this machine, for root.

use quotary_client::LocalClient;
use quotary_common::wire::{
    AgentView, Nothing, PinnedAuthority, RestoreAll, RestoreReply, ShapedControlView, ShowAgent, UnsupportedControl,
};

use crate::args::AgentCommand;
use crate::exit::{Code, Failure};
use crate::present::{self, Align, Facts, Table};
use crate::show::plans::amount;

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
            present::print_table(&grants(&view))?;
            for table in shaping(&view) {
                present::print("\n")?;
                present::print_table(&table)?;
            }
            Ok(())
        }
        AgentCommand::Restore(at) => {
            let reply = LocalClient::new(&at.socket).call::<RestoreAll>(&[], &Nothing {}).await?;
            if json {
                present::json(&reply)?;
            }
            let RestoreReply { grants, targets, left } = reply;
            if !left.is_empty() {
                let left: Vec<String> = left.iter().map(|name| present::clean(name).to_string()).collect();
                let told = format!(
                    "{grants} grants ended and {targets} units released; not put back, and tried again: {}",
                    left.join(", ")
                );
                return Err(Failure::new(Code::Refused, told));
            }
            if json {
                return Ok(());
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
    for UnsupportedControl { control, why } in &view.unsupported {
        facts.add("unsupported", format!("{}: {}", control.name(), present::clean(why)));
    }
    if let Some(PinnedAuthority { number, roster, rules }) = &view.authority {
        facts.add("authority", format!("{number}, roster {}, rules {}", roster.hex(), rules.hex()));
    }
    if let Some(why) = &view.authority_why_not {
        facts.add("authority lacks", present::clean(why).to_string());
    }
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
        ("BACKEND", Align::Left),
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
            grant.backend.as_ref().map_or_else(|| "-".to_owned(), word),
            grant.cgroup.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

/// What plans move, and which plans are not followed: nothing where there are none.
fn shaping(view: &AgentView) -> Vec<Table> {
    let columns = [
        ("TARGET", Align::Left),
        ("PLAN", Align::Left),
        ("BACKEND", Align::Left),
        ("CONTROL", Align::Left),
        ("STANDING", Align::Left),
        ("PRESENT", Align::Right),
        ("SETPOINT", Align::Right),
        ("TO", Align::Right),
        ("BASELINE", Align::Right),
        ("LATE", Align::Right),
        ("CGROUP", Align::Left),
    ];
    let mut moved = Table::new(&columns, "no plan moves anything");
    for target in &view.targets {
        for one in &target.controls {
            let value = |value: Option<u64>, none: &str| {
                value.map_or_else(|| none.to_owned(), |value| amount(one.control, value))
            };
            moved.row([
                target.target.to_string(),
                target.id.clone(),
                word(&target.backend),
                one.control.name().to_owned(),
                standing(one),
                value(one.present, "no limit"),
                value(one.setpoint, "-"),
                value(one.target, "-"),
                value(one.baseline, "no limit"),
                one.late_by_ms.map_or_else(|| "-".to_owned(), present::duration),
                target.cgroup.clone(),
            ]);
        }
    }
    let columns = [("NOT FOLLOWED", Align::Left), ("TARGET", Align::Left), ("WHY", Align::Left)];
    let mut left = Table::new(&columns, "");
    for plan in &view.not_followed {
        left.row([plan.id.clone(), plan.target.to_string(), plan.why.clone()]);
    }
    let moved = (!view.targets.is_empty()).then_some(moved);
    moved.into_iter().chain((!view.not_followed.is_empty()).then_some(left)).collect()
}

fn standing(one: &ShapedControlView) -> String {
    match &one.by {
        Some(by) => format!("{} ({by})", one.standing),
        None => one.standing.clone(),
    }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn view(more: serde_json::Value) -> AgentView {
        let mut view = serde_json::json!({
            "host": null, "id": null, "version": "1", "mode": "enforce", "why_not": null, "backend": "systemd",
            "hierarchy": "v2", "sequence": 1, "last_accepted_ms_ago": null, "last_refusal": null,
            "tpm_in_lockout": false, "tpm_manufacturer": "IBM", "tpm_child_pid": null, "quote_us": [],
            "request_to_enforced_us": [], "grants": []
        });
        view.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn what_plans_move_is_a_row_for_each_control_and_nothing_where_there_are_none() {
        assert!(shaping(&view(serde_json::json!({}))).is_empty(), "an agent from before plans");
        let plan = "01".repeat(32);
        let controls = serde_json::json!([
            { "control": "memory-high", "unit": "bytes", "standing": "held", "by": "memory-pressure",
              "present": 314_572_800, "setpoint": 262_144_000, "target": 209_715_200, "baseline": null, "late_by_ms": 9_000 },
            { "control": "cpu-weight", "unit": "weight", "standing": "reached",
              "present": 50, "setpoint": 50, "target": 50, "baseline": 100 },
        ]);
        let with = view(serde_json::json!({
            "targets": [{ "target": { "unit": "web.service" }, "plan": plan, "id": "p-one", "backend": "systemd",
                          "cgroup": "/system.slice/web.service", "held_ms": 4, "controls": controls }],
            "unsupported": [{ "control": "storage", "why": "no directory is named" }],
            "not_followed": [{ "target": { "unit": "db.service" }, "plan": plan, "id": "p-two", "why": "it does not run" }],
        }));
        let authority = serde_json::json!({ "number": 3, "roster": plan, "rules": plan });
        let pinned = view(serde_json::json!({ "authority": authority, "authority_why_not": "nobody answers" }));
        let told = facts(&pinned).render();
        assert!(told.contains(&format!("3, roster {plan}, rules {plan}")) && told.contains("nobody answers"), "{told}");
        assert!(!facts(&view(serde_json::json!({}))).render().contains("authority"), "an agent from before quorums");
        let told = facts(&with).render();
        assert!(told.contains("unsupported") && told.contains("storage: no directory is named"), "{told}");
        let shown: Vec<String> = shaping(&with).iter().map(|table| table.render(false)).collect();
        let [moved, left] = shown.as_slice() else { unreachable!("{shown:?}") };
        let rows: Vec<Vec<&str>> =
            moved.lines().map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(
            rows[1][..9],
            [
                "web.service",
                "p-one",
                "systemd",
                "memory-high",
                "held (memory-pressure)",
                "300 MiB",
                "250 MiB",
                "200 MiB",
                "no limit"
            ]
        );
        assert_eq!(rows[2][3..10], ["cpu-weight", "reached", "50", "50", "50", "100", "-"]);
        assert!(left.contains("db.service") && left.contains("it does not run"), "{left}");
    }
}
