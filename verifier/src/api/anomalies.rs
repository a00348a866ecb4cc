//! Alarms, and what a host's results warn of.

use quotary_common::id::HostId;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, AnomaliesView, AnomalyFindingView, AnomalyView, FindingView};
use quotary_decide::alarm::AlarmRecord;

use super::App;
use super::mount::Call;
use super::views::no_host;

/// Alarms of one reply at most.
const LISTED_MAX: usize = 1_000;
/// The finding's code, as operators see it among others.
const FINDING: &str = "anomaly";

pub(super) async fn list(call: Call<wire::ListAnomalies>) -> Result<AnomaliesView, Refusal> {
    let app = &call.app;
    let mut query = call.query.iter().map(|value| value.as_deref().filter(|value| !value.is_empty()));
    let (host, since) = (query.next().flatten(), query.next().flatten());
    let host = match host {
        Some(name) => Some(app.view.host_named(name).ok_or_else(|| no_host(name))?.host.record.host),
        None => None,
    };
    let malformed = |_| Refusal::new(Reason::Malformed, "since must be an instant in Unix ms");
    let since_ms = since.map_or(Ok(0), |text| text.parse::<u64>().map_err(malformed))?;
    let alarms = app.view.alarms.since(host.as_ref(), since_ms);
    let counts = app.judged.counts();
    Ok(AnomaliesView {
        anomalies: alarms.iter().take(LISTED_MAX).map(|alarm| view(alarm)).collect(),
        older: alarms.len().saturating_sub(LISTED_MAX) as u64,
        series: counts.series,
        warming_up: counts.warming_up,
        per_series_and_month: app.alarm_rules.per_series_and_month,
    })
}

fn view(alarm: &AlarmRecord) -> AnomalyView {
    let place = match alarm.place() {
        quotary_decide::alarm::Place::Host(host) => host.to_string(),
        quotary_decide::alarm::Place::Sum(name) => name,
        quotary_decide::alarm::Place::Gauges(host, cgroup) => format!("{host} {cgroup}"),
    };
    AnomalyView {
        host: alarm.host(),
        place,
        at_ms: alarm.at_ms(),
        told_at_ms: alarm.told_at_ms(),
        findings: alarm.findings().iter().map(AnomalyFindingView::from).collect(),
        beyond: alarm.beyond(),
    }
}

/// What a host's results warn of: its newest alarm, for a stated time after it was told. It lowers no zone and refuses nothing.
pub(super) fn warning(app: &App, host: &HostId, now_ms: u64) -> Option<FindingView> {
    let since_ms = now_ms.saturating_sub(app.alarm_rules.warning_ms).saturating_add(1);
    let alarm = view(app.view.alarms.newest_of(host, since_ms).as_deref()?);
    let oddest = alarm.findings.first()?;
    let others = alarm.findings.len() - 1 + usize::try_from(alarm.beyond).unwrap_or(usize::MAX);
    let more = if others > 0 { format!(", and {others} more") } else { String::new() };
    let detail = format!(
        "{} of {} {}: {} came, {} was expected ({}, score {}){more}",
        oddest.kind.code(),
        oddest.subject,
        oddest.resource,
        oddest.came,
        oddest.expected,
        oddest.unit,
        oddest.score
    );
    Some(FindingView { zone: None, code: FINDING.to_owned(), event: None, detail })
}
