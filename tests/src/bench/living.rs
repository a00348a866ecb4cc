//! The real agent on a software TPM, timed as shipped: how long a request takes until it is enforced, and what the
//! agent costs a host from day to day.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use quotary_common::envelope::{ClaimedEnvelope, Envelope, Mode};
use quotary_common::evidence::Evidence;
use quotary_common::wire::{AgentView, Nothing, ShowEvidence};
use serde::Serialize;

use super::report::{median, percentile, progress};
use super::{ROUNDS, begin, cpu, pause, take_down};
use crate::host::Operator;
use crate::world::{Options, PATIENCE, Run, Running, Timing, World};

/// Requests of one round.
const REQUESTS: u32 = 40;
/// Whose they are when we may choose: each uid has its own share of early evidence.
const FIRST_UID: u32 = 20_000;

/// Applications that run under a grant each while the agent's cost is measured.
const APPLICATIONS: u32 = 8;

/// From a request to its controls.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// How far the agent goes on this machine.
    pub mode: Mode,
    /// Requests, all rounds together.
    pub requests: usize,
    /// Each round.
    pub rounds: Vec<LatencyRound>,
    /// Median over the rounds: half of the requests were enforced within so long, ms.
    pub request_to_enforced_p50_ms: f64,
    /// Median over the rounds: 95 % were, ms.
    pub request_to_enforced_p95_ms: f64,
    /// Median over the rounds: half of the TPM's quotes took at most so long, ms.
    pub tpm_quote_p50_ms: f64,
    /// How much of the one the other is.
    pub tpm_quote_share_percent: f64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LatencyRound {
    /// Half of the requests were enforced within so long, ms.
    pub request_to_enforced_p50_ms: f64,
    /// 95 % were, ms.
    pub request_to_enforced_p95_ms: f64,
    /// Half of the TPM's quotes took at most so long, ms.
    pub tpm_quote_p50_ms: f64,
}

/// What the agent costs.
#[derive(Debug, Clone, Serialize)]
pub struct AgentCost {
    /// One sample, ms.
    pub sample_ms: u64,
    /// One evidence, ms.
    pub evidence_ms: u64,
    /// Applications in its last envelope.
    pub applications: usize,
    /// Canonical bytes of its last envelope.
    pub envelope_bytes: usize,
    /// Metric windows in it.
    pub metric_windows: usize,
    /// Wall time of all rounds together, seconds.
    pub observed_seconds: f64,
    /// Each round: the agent's CPU time, percent of one core.
    pub rounds_cpu_percent: Vec<f64>,
    /// Median over the rounds.
    pub cpu_percent: f64,
    /// Most that was resident at the end of a round, bytes: the agent's process alone.
    pub resident_bytes: u64,
    /// Most that was ever resident, bytes.
    pub resident_peak_bytes: u64,
    /// The software TPM beside it: percent of one core.
    pub software_tpm_cpu_percent: f64,
    /// The software TPM beside it: resident, bytes.
    pub software_tpm_resident_bytes: u64,
}

fn world() -> anyhow::Result<World> {
    let mut options = Options::quick(1);
    options.timing = Timing::SHIPPED;
    options.log = "warn".to_owned();
    let mut world = begin(options)?;
    world.start_verifier()?;
    world.start_agent(0)?;
    world.wait_for_trust(0, PATIENCE)?;
    Ok(world)
}

/// Measures [`ROUNDS`] rounds of [`REQUESTS`] requests, one after the other.
///
/// # Errors
/// When the world does not come up, or a request is not granted.
pub(super) fn measure_latency() -> anyhow::Result<Latency> {
    progress("latency, a verifier and an agent start");
    let world = world()?;
    let mut rounds = Vec::new();
    for n in 1..=ROUNDS {
        let round = latency_round(&world)?;
        let [p50, p95] = [round.request_to_enforced_p50_ms, round.request_to_enforced_p95_ms];
        progress(&format!("latency, round {n} of {ROUNDS}: p50 {p50:.1} ms, p95 {p95:.1} ms"));
        rounds.push(round);
    }
    let mode = world.agent_view(0)?.mode;
    take_down(world)?;
    let of = |pick: fn(&LatencyRound) -> f64| median(rounds.iter().map(pick));
    let request_p50_ms = of(|round| round.request_to_enforced_p50_ms);
    let quote_p50_ms = of(|round| round.tpm_quote_p50_ms);
    Ok(Latency {
        mode,
        requests: ROUNDS * REQUESTS as usize,
        request_to_enforced_p50_ms: request_p50_ms,
        request_to_enforced_p95_ms: of(|round| round.request_to_enforced_p95_ms),
        tpm_quote_p50_ms: quote_p50_ms,
        tpm_quote_share_percent: quote_p50_ms / request_p50_ms * 100.0,
        rounds,
    })
}

fn may_choose_uid() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs only under a grant, as user `n` of ours if we may choose.
fn granted(n: u32, command: &[&str]) -> Run {
    let asked = ["--cpu", "50m", "--memory", "64M", "--if-unavailable", "fail"];
    Run::new(0, &asked, command.iter().copied()).as_uid(may_choose_uid().then_some(FIRST_UID + n))
}

fn latency_round(world: &World) -> anyhow::Result<LatencyRound> {
    let before = world.agent_view(0)?;
    for n in 0..REQUESTS {
        let running = world.start_run("latency", &granted(n, &["true"]))?;
        let status = running.wait(PATIENCE)?;
        ensure!(status.success(), "`quotary run -- true` ended with {status}:\n{}", running.log_tail());
        if !may_choose_uid() {
            // One uid brings evidence forward once in this time only: that wait is policy, not cost.
            pause(world, Duration::from_millis(Timing::SHIPPED.request_interval_ms))?;
        }
    }
    let after = world.agent_view(0)?;
    let newest = |of: fn(&AgentView) -> &Vec<u64>, least: usize| -> anyhow::Result<Vec<u64>> {
        let (old, all) = (of(&before).len(), of(&after));
        let new = all.len().checked_sub(old).filter(|new| *new >= least).with_context(|| {
            format!("the agent tells {} figures after {old}, at least {least} more should be there", all.len())
        })?;
        Ok(all.iter().rev().take(new).copied().collect())
    };
    let requests_us = newest(|view| &view.request_to_enforced_us, REQUESTS as usize)?;
    let quotes_us = newest(|view| &view.quote_us, 1)?;
    let ms = |values: &[u64], percent| percentile(values, percent) as f64 / 1000.0;
    Ok(LatencyRound {
        request_to_enforced_p50_ms: ms(&requests_us, 50),
        request_to_enforced_p95_ms: ms(&requests_us, 95),
        tpm_quote_p50_ms: ms(&quotes_us, 50),
    })
}

/// Measures [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// When the world does not come up, or the agent ends.
pub(super) fn measure_agent(round: Duration) -> anyhow::Result<AgentCost> {
    progress("agent, a verifier and an agent start");
    let world = world()?;
    let agent = world.host(0).agent().map(Running::pid).context("the agent does not run")?;
    let tpm = world.agent_view(0)?.tpm_child_pid.context("the agent runs no software TPM")?;
    let applications = start_applications(&world)?;
    // What it does once at its start is not what it costs from day to day.
    pause(&world, Duration::from_secs(2).min(round))?;
    let mut cost = AgentCost {
        sample_ms: Timing::SHIPPED.sample_ms,
        evidence_ms: Timing::SHIPPED.evidence_ms,
        applications: 0,
        envelope_bytes: 0,
        metric_windows: 0,
        observed_seconds: 0.0,
        rounds_cpu_percent: Vec::new(),
        cpu_percent: 0.0,
        resident_bytes: 0,
        resident_peak_bytes: 0,
        software_tpm_cpu_percent: 0.0,
        software_tpm_resident_bytes: 0,
    };
    let mut of_tpm = Vec::new();
    for n in 1..=ROUNDS {
        let (before, tpm_before, started) = (cpu::of_process(agent)?, cpu::of_process(tpm)?, Instant::now());
        pause(&world, round)?;
        let (after, tpm_after, wall) =
            (cpu::of_process(agent)?, cpu::of_process(tpm)?, started.elapsed().as_secs_f64());
        let percent = |from: cpu::Usage, to: cpu::Usage| to.cpu.saturating_sub(from.cpu).as_secs_f64() / wall * 100.0;
        cost.observed_seconds += wall;
        cost.rounds_cpu_percent.push(percent(before, after));
        of_tpm.push(percent(tpm_before, tpm_after));
        cost.resident_bytes = cost.resident_bytes.max(after.resident_bytes);
        cost.resident_peak_bytes = cost.resident_peak_bytes.max(after.resident_peak_bytes);
        cost.software_tpm_resident_bytes = cost.software_tpm_resident_bytes.max(tpm_after.resident_bytes);
        let mib = after.resident_bytes as f64 / f64::from(1 << 20);
        progress(&format!("agent, round {n} of {ROUNDS}: {:.2} % of a core, {mib:.1} MiB", percent(before, after)));
    }
    cost.cpu_percent = median(cost.rounds_cpu_percent.iter().copied());
    cost.software_tpm_cpu_percent = median(of_tpm.into_iter());
    let envelope = last_envelope(&world)?;
    let claims: &Envelope = envelope.claims();
    cost.applications = claims.applications.len();
    cost.envelope_bytes = envelope.bytes().len();
    let of_applications: usize = claims.applications.iter().map(|application| application.windows.len()).sum();
    cost.metric_windows = claims.host_windows.len() + of_applications;
    for application in applications {
        application.stop(PATIENCE)?;
    }
    take_down(world)?;
    Ok(cost)
}

/// Applications that hold a grant each and sleep.
fn start_applications(world: &World) -> anyhow::Result<Vec<Running>> {
    let all = (0..APPLICATIONS).map(|n| world.start_run(&format!("sleeper-{n}"), &granted(n, &["sleep", "86400"])));
    let all = all.collect::<anyhow::Result<Vec<_>>>()?;
    world.wait("the applications to have their grants", PATIENCE, |world| {
        if let Some(ended) = all.iter().find(|one| !matches!(one.ended(), Ok(None))) {
            bail!("`quotary run -- sleep` ended:\n{}", ended.log_tail());
        }
        Ok((world.agent_view(0)?.grants.len() == all.len()).then_some(()))
    })?;
    Ok(all)
}

fn last_envelope(world: &World) -> anyhow::Result<ClaimedEnvelope> {
    let host = world.host(0).id().context("the host has no id")?.hex();
    let operator = Operator::of(world)?;
    let asked = async { operator.client.call::<ShowEvidence>(&[&host, "latest"], &Nothing {}).await };
    let view = world.runtime().block_on(asked).context("the last evidence is not to be had")?;
    Ok(ClaimedEnvelope::parse(Evidence::from_bytes(&view.evidence.0)?.envelope)?)
}
