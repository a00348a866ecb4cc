//! Shaping plans: drafted, shown, cancelled.

use std::sync::Arc;

use quotary_common::id::HostId;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, PlanControlView, PlanToldView, PlanView, PlanWriteView};
use quotary_decide::shape::PlanRecord;

use super::App;
use super::auth::Caller;
use super::mount::Call;
use super::views::no_host;
use crate::core::{Command, no_plan};

pub(super) async fn list(call: Call<wire::ListPlans>) -> Result<Vec<PlanView>, Refusal> {
    let now_ms = call.app.clock.now_ms();
    let hosts = call.app.view.hosts();
    Ok(hosts.iter().flat_map(|snapshot| snapshot.plans.iter().map(|record| view(record, now_ms))).collect())
}

pub(super) async fn show(call: Call<wire::ShowPlan>) -> Result<PlanView, Refusal> {
    let record = named(&call.app, call.path.first().map(String::as_str).unwrap_or_default())?;
    Ok(view(&record, call.app.clock.now_ms()))
}

pub(super) async fn draft(call: Call<wire::DraftPlan>) -> Result<PlanView, Refusal> {
    let host = host_of(&call.app, call.body.host.as_deref())?;
    let actor = actor(&call.caller)?;
    let request = Box::new(call.body);
    let record = call.app.queue.ask(|answer| Command::DraftPlan { host, request, actor, answer }).await?;
    tracing::info!(%host, plan = %record.plan().id, target = %record.plan().target, "a plan was drafted");
    Ok(view(&record, call.app.clock.now_ms()))
}

pub(super) async fn cancel(call: Call<wire::CancelPlan>) -> Result<PlanView, Refusal> {
    let record = named(&call.app, call.path.first().map(String::as_str).unwrap_or_default())?;
    let actor = actor(&call.caller)?;
    let (host, plan) = (record.plan().host, record.plan().id);
    let record = call.app.queue.ask(|answer| Command::CancelPlan { host, plan, actor, answer }).await?;
    tracing::info!(%host, %plan, "a plan was cancelled");
    Ok(view(&record, call.app.clock.now_ms()))
}

fn actor(caller: &Caller) -> Result<String, Refusal> {
    match caller {
        Caller::Operator(token) => Ok(format!("token {token}")),
        Caller::Joiner(_) | Caller::Host(..) => Err(Refusal::new(Reason::Forbidden, "plans are made by operators")),
    }
}

/// The host that is named, or the only one.
fn host_of(app: &App, named: Option<&str>) -> Result<HostId, Refusal> {
    if let Some(text) = named {
        return app.view.host_named(text).map(|snapshot| snapshot.host.record.host).ok_or_else(|| no_host(text));
    }
    match app.view.hosts().as_slice() {
        [only] => Ok(only.host.record.host),
        [] => Err(Refusal::new(Reason::NotFound, "no host is enrolled yet")),
        many => Err(Refusal::new(Reason::Malformed, format!("there are {} hosts: say which one (--host)", many.len()))),
    }
}

fn named(app: &App, text: &str) -> Result<Arc<PlanRecord>, Refusal> {
    let hosts = app.view.hosts();
    let mut all = hosts.iter().flat_map(|snapshot| snapshot.plans.iter());
    all.find(|record| record.plan().id.is_named(text)).cloned().ok_or_else(|| no_plan(text))
}

fn view(record: &PlanRecord, now_ms: u64) -> PlanView {
    let plan = record.plan();
    let controls = plan.courses.iter().map(|course| {
        let mut writes = record.writes().iter();
        PlanControlView {
            control: course.control,
            unit: course.control.unit().to_owned(),
            setpoints: course.setpoints.to_vec(),
            last_write: writes.find(|write| write.control.as_str() == course.control.file_name()).map(|write| {
                PlanWriteView {
                    control: write.control.as_str().to_owned(),
                    after: write.after.as_str().to_owned(),
                    actual: write.actual.as_ref().map(|actual| actual.as_str().to_owned()),
                    effective: write.effective,
                    dry_run: write.dry_run,
                    evidence: write.evidence,
                    committed_at_ms: write.committed_at_ms,
                }
            }),
        }
    });
    PlanView {
        plan: plan.id,
        id: plan.id.to_string(),
        host: plan.host,
        target: plan.target.clone(),
        state: record.state(now_ms),
        told: record.told().map(|told| PlanToldView {
            what: told.kind,
            evidence: told.evidence,
            committed_at_ms: told.committed_at_ms,
        }),
        over: record.over(),
        epoch: plan.epoch,
        made_by: record.made_by().to_owned(),
        made_at_ms: record.made_at_ms(),
        starts_at_ms: plan.starts_at_ms,
        effective_at_ms: plan.effective_at_ms,
        ends_at_ms: plan.ends_at_ms,
        on_pressure: plan.on_pressure,
        hold_ms_max: plan.hold_ms_max,
        overrides: plan.overrides,
        controls: controls.collect(),
    }
}
