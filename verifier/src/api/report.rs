//! The report of hosts that only watch.

use quotary_common::envelope::Mode;
use quotary_common::plan::ShapedControl;
use quotary_common::reason::Refusal;
use quotary_common::wire::{self, ModeCounts, ReportHost, ReportLine, ReportView, UntoldView};
use quotary_decide::observe::{Cause, Kind, Line};

use super::mount::Call;
use super::views::no_host;
use crate::core::HostSnapshot;

pub(super) async fn report(call: Call<wire::ShowReport>) -> Result<ReportView, Refusal> {
    let (app, now_ms) = (&call.app, call.app.clock.now_ms());
    let hosts = match call.query.first().and_then(Option::as_ref) {
        None => app.view.hosts(),
        Some(name) => vec![app.view.host_named(name).ok_or_else(|| no_host(name))?],
    };
    let mut modes = ModeCounts::default();
    for snapshot in &hosts {
        let count = match snapshot.host.progress.seen.as_ref().map(|seen| seen.mode) {
            Some(Mode::Observe) => &mut modes.observe,
            Some(Mode::DryRun) => &mut modes.dry_run,
            Some(Mode::Enforce) => &mut modes.enforce,
            None => &mut modes.unknown,
        };
        *count += 1;
    }
    let hosts = hosts.iter().map(|snapshot| host(snapshot, now_ms)).collect();
    Ok(ReportView { made_at_ms: now_ms, window_ms: app.timing.window_ms, modes, hosts })
}

fn host(snapshot: &HostSnapshot, now_ms: u64) -> ReportHost {
    let (record, progress) = (&snapshot.host.record, &snapshot.host.progress);
    let (seen, observed) = (progress.seen.as_ref(), &snapshot.observed);
    ReportHost {
        host: record.host,
        id: record.host.to_string(),
        hostname: seen.map(|seen| seen.hostname.as_str().to_owned()),
        mode: seen.map(|seen| seen.mode),
        trusted: snapshot.host.is_trusted(now_ms),
        since_ms: observed.since_ms(),
        last_ms: progress.evidence.map(|_| progress.committed_at_ms),
        evidences: observed.evidences(),
        left_out: observed.left_out(),
        lines: observed.lines().iter().map(line).collect(),
    }
}

fn line(line: &Line) -> ReportLine {
    let (plan, grant, by) = match line.cause {
        Cause::Plan(plan) => (Some(plan), None, plan.to_string()),
        Cause::Grant(grant) => (None, Some(grant), grant.to_string()),
    };
    let excess = line.excess.per_second();
    let of = |controls: &[ShapedControl], value: u64| controls.contains(&line.control).then_some(value);
    let untold = line.untold_ms.iter().map(|(why, ms)| UntoldView { why: why.code().to_owned(), ms: *ms });
    ReportLine {
        subject: line.subject.as_str().to_owned(),
        tenant: line.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()),
        control: line.control,
        unit: line.control.unit().to_owned(),
        kind: Kind::of(line.control).name().to_owned(),
        plan,
        grant,
        by,
        made_by: line.maker.as_str().to_owned(),
        from_ms: line.from_ms,
        last_ms: line.last_ms,
        limit: line.limit,
        compared_ms: line.compared_ms,
        used_mean: line.used_mean(),
        over_ms: line.over_ms,
        peaks_ms: line.peaks_ms,
        excess_max: line.excess_max,
        // A thousandth of a core for a second is a millisecond of CPU time.
        throttled_cpu_ms: of(&[ShapedControl::CpuQuota], excess),
        reclaimed_bytes_max: of(&[ShapedControl::MemoryHigh], line.excess_max),
        reclaimed_byte_seconds: of(&[ShapedControl::MemoryHigh], excess),
        delayed_bytes: of(&[ShapedControl::IoReadMax, ShapedControl::IoWriteMax], excess),
        delayed_bits: of(&[ShapedControl::NetworkEgress], excess),
        untold: untold.collect(),
        refused_at_ms: line.refused_at_ms,
    }
}
