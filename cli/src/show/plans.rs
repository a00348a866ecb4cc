//! `quotary plan …`

use std::collections::BTreeMap;

use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::PlanId;
use quotary_common::plan::{ShapedControl, Target};
use quotary_common::wire::{
    CancelPlan, DraftPlan, ListPlans, PlanControlView, PlanRequest, PlanState, PlanToldView, PlanView, ShowPlan,
};

use crate::args::{PlanCommand, PlanDraftArgs};
use crate::exit::{Code, Failure};
use crate::now_ms;
use crate::present::{self, Align, Facts, Table};
use crate::session::Session;

/// Does what was asked.
pub(crate) async fn plan(session: &Session, command: PlanCommand, json: bool) -> Result<(), Failure> {
    match command {
        PlanCommand::Draft(args) => {
            let host = match &args.host {
                Some(host) => Some(session.host(host).await?.hex()),
                None => None,
            };
            let drafted = session.call::<DraftPlan>(&[], &request(&args, host, now_ms())?).await?;
            one(&drafted, json)
        }
        PlanCommand::List => {
            let plans = session.ask::<ListPlans>(&[]).await?;
            if json { present::json(&plans) } else { present::print_table(&table(&plans, now_ms())) }
        }
        PlanCommand::Show { plan } => {
            let id = named(session, &plan).await?;
            one(&session.ask::<ShowPlan>(&[&id.hex()]).await?, json)
        }
        PlanCommand::Cancel { plan } => {
            let id = named(session, &plan).await?;
            one(&session.ask::<CancelPlan>(&[&id.hex()]).await?, json)
        }
    }
}

fn one(plan: &PlanView, json: bool) -> Result<(), Failure> {
    if json { present::json(plan) } else { present::print(&facts(plan, now_ms()).render()) }
}

/// The plan that a person means.
async fn named(session: &Session, text: &str) -> Result<PlanId, Failure> {
    let ids: Vec<PlanId> = session.ask::<ListPlans>(&[]).await?.iter().map(|view| view.plan).collect();
    pick(&ids, text).map_err(|what| Failure::new(Code::Refused, what))
}

fn pick(ids: &[PlanId], text: &str) -> Result<PlanId, String> {
    let text = text.to_ascii_lowercase();
    let is_meant = |id: &PlanId| id.to_string().starts_with(&text) || id.hex().starts_with(&text);
    let found: Vec<PlanId> = ids.iter().copied().filter(is_meant).collect();
    match found.as_slice() {
        _ if text.is_empty() => Err("an empty plan id: see `quotary plan list`".to_owned()),
        [one] => Ok(*one),
        [] => Err(format!("no plan's id begins with `{}`: see `quotary plan list`", present::clean(&text))),
        several => Err(format!("{} plans' ids begin so: give more of it", several.len())),
    }
}

fn request(args: &PlanDraftArgs, host: Option<String>, now_ms: u64) -> Result<PlanRequest, Failure> {
    let usage = |what: String| Failure::new(Code::Usage, what);
    let target = match (&args.unit, &args.cgroup) {
        (Some(unit), _) => {
            Target::Unit(Name::new(unit).ok_or_else(|| usage("the unit's name is too long".to_owned()))?)
        }
        (None, path) => {
            let path = path.as_deref().unwrap_or_default();
            Target::Cgroup(CgroupPath::new(path).ok_or_else(|| usage("the group's path is too long".to_owned()))?)
        }
    };
    let values = [
        (ShapedControl::CpuWeight, args.cpu_weight),
        (ShapedControl::CpuIdle, args.cpu_idle.then_some(1)),
        (ShapedControl::CpuQuota, args.cpu_quota),
        (ShapedControl::MemoryHigh, args.memory),
        (ShapedControl::MemoryLow, args.memory_low),
        (ShapedControl::IoWeight, args.io_weight),
        (ShapedControl::IoReadMax, args.io_read),
        (ShapedControl::IoWriteMax, args.io_write),
        (ShapedControl::NetworkEgress, args.network),
        (ShapedControl::Storage, args.storage),
    ];
    let values: BTreeMap<_, _> = values.into_iter().filter_map(|(control, value)| Some((control, value?))).collect();
    Ok(PlanRequest {
        host,
        target,
        values,
        starts_at_ms: args.start_in.map(|wait_ms| now_ms.saturating_add(wait_ms)),
        over_ms: args.over,
        hold_for_ms: args.hold_for,
        on_pressure: args.on_pressure,
        hold_ms_max: args.hold_max,
        overrides: args.overrides,
    })
}

fn table(plans: &[PlanView], now_ms: u64) -> Table {
    let columns = [
        ("PLAN", Align::Left),
        ("HOST", Align::Left),
        ("TARGET", Align::Left),
        ("STATE", Align::Left),
        ("VALUES", Align::Left),
        ("ATTESTED", Align::Left),
        ("EFFECTIVE", Align::Right),
        ("ENDS", Align::Right),
    ];
    let mut table = Table::new(&columns, "no plans: `quotary plan draft` makes one");
    for plan in plans {
        let values: Vec<String> =
            plan.controls.iter().map(|control| format!("{} {}", control.control, target(control))).collect();
        let attested: Vec<String> = plan.controls.iter().filter_map(actual).collect();
        table.row([
            plan.id.clone(),
            plan.host.to_string(),
            plan.target.to_string(),
            state(plan),
            values.join(", "),
            attested.join(", "),
            present::age(plan.effective_at_ms, now_ms),
            plan.ends_at_ms.map_or_else(|| "-".to_owned(), |at_ms| present::age(at_ms, now_ms)),
        ]);
    }
    table
}

/// Where it stands by the clock, and what its host says of that.
fn state(plan: &PlanView) -> String {
    match (&plan.over, &plan.told) {
        (Some((change, _)), _) => change.name().to_owned(),
        (None, Some(told)) => format!("{}, {}", plan.state.name(), fares(told)),
        (None, None) => plan.state.name().to_owned(),
    }
}

/// How it fares, in a word.
fn fares(told: &PlanToldView) -> String {
    let word = crate::agent::word(&told.what);
    word.strip_prefix("plan-").map_or(word.clone(), str::to_owned)
}

/// Where a control goes, in its unit.
fn target(control: &PlanControlView) -> String {
    control.setpoints.last().map(|last| amount(control.control, last.value)).unwrap_or_default()
}

/// What was read back, as the host stated it.
fn actual(control: &PlanControlView) -> Option<String> {
    let write = control.last_write.as_ref()?;
    let shown = write.actual.as_ref().unwrap_or(&write.after);
    let shown = match (control.control, shown.parse::<u64>()) {
        (ShapedControl::MemoryHigh | ShapedControl::MemoryLow, Ok(value)) => amount(control.control, value),
        _ => shown.clone(),
    };
    let note = match (write.dry_run, write.effective) {
        (true, _) => " (not written: dry run)",
        (false, false) => " (not effective)",
        (false, true) => "",
    };
    Some(format!("{} {shown}{note}", control.control))
}

/// A control's value, with its unit.
pub(crate) fn amount(control: ShapedControl, value: u64) -> String {
    match control {
        ShapedControl::CpuWeight | ShapedControl::IoWeight | ShapedControl::CpuIdle => value.to_string(),
        ShapedControl::CpuQuota => present::amount("millicores", value),
        ShapedControl::MemoryHigh | ShapedControl::MemoryLow | ShapedControl::Storage => {
            present::amount("bytes", value)
        }
        ShapedControl::IoReadMax | ShapedControl::IoWriteMax => present::amount("bytes_per_second", value),
        ShapedControl::NetworkEgress => present::amount("bits_per_second", value),
    }
}

fn facts(plan: &PlanView, now_ms: u64) -> Facts {
    let at = |at_ms: u64| format!("{} ({})", present::time(at_ms), present::age(at_ms, now_ms));
    let mut facts = Facts::default();
    facts.add("plan", &plan.id);
    facts.add("host", plan.host.to_string());
    facts.add("target", plan.target.to_string());
    facts.add("state", state(plan));
    if let Some(told) = &plan.told {
        facts.add(
            "told by the host",
            format!("{}, {}, in evidence {}", fares(told), at(told.committed_at_ms), told.evidence),
        );
    }
    if let Some((change, at_ms)) = &plan.over {
        facts.add(change.name(), at(*at_ms));
    }
    facts.add("made", format!("{} by {}", at(plan.made_at_ms), plan.made_by));
    facts.add("starts", at(plan.starts_at_ms));
    facts.add("effective", at(plan.effective_at_ms));
    facts.add("ends", plan.ends_at_ms.map_or_else(|| "when it is cancelled".to_owned(), at));
    let hold = format!("{}, {} s at most", crate::agent::word(&plan.on_pressure), plan.hold_ms_max / 1000);
    facts.add("on pressure", hold);
    for control in &plan.controls {
        let attested = actual(control).unwrap_or_else(|| "nothing attested yet".to_owned());
        let state = if plan.state == PlanState::Over { "was to be" } else { "to" };
        facts.add(control.control.name(), format!("{state} {}; {attested}", target(control)));
    }
    facts
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn drafted(line: &str) -> PlanRequest {
        let words = ["quotary", "plan", "draft"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Plan(PlanCommand::Draft(args)) => request(&args, None, 1_000).unwrap(),
            _ => unreachable!("it is a draft"),
        }
    }

    #[test]
    fn a_draft_says_target_values_and_times() {
        let request = drafted("--unit web.service --memory 200M --cpu-weight 50 --over 2m");
        assert_eq!(request.target, Target::Unit(Name::lossy("web.service")));
        let values = [(ShapedControl::CpuWeight, 50), (ShapedControl::MemoryHigh, 200 << 20)];
        assert_eq!(request.values, BTreeMap::from(values));
        assert_eq!((request.over_ms, request.starts_at_ms, request.hold_for_ms), (120_000, None, None));
        let request =
            drafted("--cgroup /quotary/a --cpu-idle --over 0s --start-in 1s --hold-for 8h --on-pressure proceed");
        assert_eq!(request.values, BTreeMap::from([(ShapedControl::CpuIdle, 1)]));
        assert_eq!((request.over_ms, request.starts_at_ms, request.hold_for_ms), (0, Some(2_000), Some(28_800_000)));
    }

    #[test]
    fn a_draft_without_target_or_values_or_with_two_targets_is_a_usage_fault() {
        for line in [
            "--memory 200M --over 2m",
            "--unit a.service --over 2m",
            "--unit a.service --cgroup /a --memory 1G --over 2m",
            "--unit a.service --memory 1G",
            "--unit a.service --cpu-weight 0 --over 1m",
        ] {
            let words = ["quotary", "plan", "draft"].into_iter().chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn a_plan_is_named_by_a_beginning_that_only_it_has() {
        let ids = [PlanId::new([1; 32]), PlanId::new([2; 32])];
        assert_eq!(pick(&ids, &ids[0].to_string()), Ok(ids[0]));
        assert_eq!(pick(&ids, "0202"), Ok(ids[1]));
        assert!(pick(&ids, "0").is_err() && pick(&ids, "ff").is_err() && pick(&ids, "").is_err());
    }
}
