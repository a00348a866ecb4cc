//! Two hundred groups of our own that plans move at once: what that costs the real agent; and how long a value is wrong after
//! each fault.
//!
//! Groups of our own are what this host has; units are shaped in the virtual machine (`tests/vm/targets`).

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use quotary_common::envelope::Mode;
use quotary_common::wire::PlanView;
use serde::Serialize;

use super::report::{Line, median, progress, short};
use super::{MIB, ROUNDS, begin, cpu, pause, take_down};
use crate::world::{Kernel, Options, PATIENCE, Running, Timing, World};

/// Groups that are shaped at once.
const TARGETS: usize = 200;
/// What a plan moves a target's CPU share to, one after the other: each round tightens.
const WEIGHTS: [&str; ROUNDS] = ["80", "60", "40"];
/// And its CPU quota.
const QUOTAS: [&str; ROUNDS] = ["800m", "600m", "400m"];
/// How a value is looked at while something is done to the agent.
const LOOK: Duration = Duration::from_millis(2);
/// How long what is in force may take to go, lease and decay included, or to come back.
const BACK: Duration = Duration::from_secs(900);

/// What shaping many targets costs, and what faults do.
#[derive(Debug, Clone, Serialize)]
pub struct Targets {
    /// Targets under a plan each, with two controls each.
    pub targets: usize,
    /// Each round: the agent's CPU time while all of them move, percent of one core.
    pub rounds_cpu_percent: Vec<f64>,
    /// Median over the rounds.
    pub cpu_percent: f64,
    /// The agent's CPU time while it holds all of them at their targets, percent of one core.
    pub held_cpu_percent: f64,
    /// Most that was resident at the end of a round, bytes.
    pub resident_bytes: u64,
    /// The greatest delay after the effective time until every target had reached its own, ms.
    pub reached_late_ms: u64,
    /// What faults do to one of them.
    pub faults: Faults,
}

/// How long a value was wrong, or how long it took to be put back.
#[derive(Debug, Clone, Serialize)]
pub struct Faults {
    /// The lease, s.
    pub lease_s: f64,
    /// The agent is killed and started again: for how long the value was not the plan's, ms.
    pub agent_sigkill_wrong_ms: u64,
    /// The verifier is gone: after how long what was before stood there again, s.
    pub verifier_gone_restored_s: f64,
    /// The agent is asked to stop: after how long what was before stood there again, s.
    pub stop_restored_s: f64,
    /// The agent was dead for longer than the lease, which nobody but it can end on this host: from its next start until what
    /// was before stood there again, s.
    pub start_after_lease_restored_s: f64,
}

/// Measures [`ROUNDS`] rounds of `round` each, then the faults.
///
/// # Errors
/// When no cgroup can be written (it needs root), the world does not come up, or a plan is not followed.
pub(super) fn measure(round: Duration) -> anyhow::Result<Targets> {
    let world = world(Timing::SHIPPED)?;
    let agent = world.host(0).agent().map(Running::pid).context("the agent does not run")?;
    let groups = (0..TARGETS).map(|n| Sleeper::start(&world, n)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut rounds, mut resident_bytes, mut reached_late_ms) = (Vec::new(), 0, 0);
    for (n, values) in WEIGHTS.into_iter().zip(QUOTAS).enumerate() {
        let start_in = format!("{}ms", Timing::SHIPPED.evidence_ms * 2);
        let plans = groups.iter().map(|group| group.draft(&world, values, (&start_in, round)));
        let plans = plans.collect::<anyhow::Result<Vec<PlanView>>>()?;
        let begins_ms = plans.iter().map(|plan| plan.starts_at_ms).max().unwrap_or(0);
        let ends_ms = plans.iter().map(|plan| plan.effective_at_ms).max().unwrap_or(0);
        wait_until(&world, begins_ms)?;
        let (before, started) = (cpu::of_process(agent)?, Instant::now());
        wait_until(&world, ends_ms)?;
        let (after, wall) = (cpu::of_process(agent)?, started.elapsed());
        let late = world.wait("every target to be reached", PATIENCE, |world| {
            let view = world.agent_view(0)?;
            let reached = |standing: &str| standing == "reached";
            let all = view.targets.iter().filter(|one| one.controls.iter().all(|control| reached(&control.standing)));
            Ok((all.count() == TARGETS).then(|| quotary_agent::clock::unix_ms().saturating_sub(ends_ms)))
        })?;
        rounds.push(percent(before, after, wall));
        resident_bytes = resident_bytes.max(after.resident_bytes);
        reached_late_ms = reached_late_ms.max(late);
        let (cost, mib) = (percent(before, after, wall), after.resident_bytes as f64 / MIB);
        progress(&format!("{TARGETS} targets move, round {} of {ROUNDS}: {cost:.2} % of a core, {mib:.1} MiB", n + 1));
    }
    let (before, started) = (cpu::of_process(agent)?, Instant::now());
    pause(&world, round)?;
    let held_cpu_percent = percent(before, cpu::of_process(agent)?, started.elapsed());
    end(world, groups)?;
    Ok(Targets {
        targets: TARGETS,
        cpu_percent: median(rounds.iter().copied()),
        rounds_cpu_percent: rounds,
        held_cpu_percent,
        resident_bytes,
        reached_late_ms,
        faults: measure_faults()?,
    })
}

fn world(timing: Timing) -> anyhow::Result<World> {
    let options = Options { mode: Mode::Enforce, timing, log: "warn".to_owned(), ..Options::quick(1) };
    let mut world = begin(options)?;
    let probe = format!("{}-probe", world.host(0).cgroup());
    ensure!(world.kernel().lets_us_limit(&probe), "no cgroup can be written: run it as root");
    world.start_verifier()?;
    world.start_agent(0)?;
    world.wait_for_trust(0, PATIENCE)?;
    Ok(world)
}

/// Ends it all, the groups that we made included.
fn end(mut world: World, groups: Vec<Sleeper>) -> anyhow::Result<()> {
    drop(groups);
    if world.host(0).agent().is_some() {
        world.stop_agent(0)?;
    }
    world.kernel().tidy(world.host(0).cgroup());
    take_down(world)
}

fn percent(from: cpu::Usage, to: cpu::Usage, wall: Duration) -> f64 {
    to.cpu.saturating_sub(from.cpu).as_secs_f64() / wall.as_secs_f64() * 100.0
}

fn wait_until(world: &World, unix_ms: u64) -> anyhow::Result<()> {
    pause(world, Duration::from_millis(unix_ms.saturating_sub(quotary_agent::clock::unix_ms())))
}

/// A group with a process that sleeps.
struct Sleeper {
    group: String,
    process: Child,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sleeper {
    fn start(world: &World, n: usize) -> anyhow::Result<Self> {
        let group = format!("{}/target-{n}", world.host(0).cgroup());
        let process = Command::new("sleep").arg("86400").stdin(Stdio::null()).spawn().context("sleep")?;
        let sleeper = Self { group, process };
        for file in ["cpu.shares", "cpuacct.usage", "memory.limit_in_bytes", "blkio.weight"] {
            let path = world.kernel().file(&sleeper.group, file);
            let Some(directory) = path.as_deref().and_then(std::path::Path::parent) else { continue };
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
            std::fs::write(directory.join("cgroup.procs"), sleeper.process.id().to_string())?;
        }
        Ok(sleeper)
    }

    /// A plan for its CPU share and quota.
    fn draft(
        &self,
        world: &World,
        (weight, quota): (&str, &str),
        (start_in, over): (&str, Duration),
    ) -> anyhow::Result<PlanView> {
        let over = format!("{}s", over.as_secs());
        let what = ["--cpu-weight", weight, "--cpu-quota", quota, "--on-pressure", "proceed"];
        let when = ["--start-in", start_in, "--over", &over];
        world.cli_json(&[&["plan", "draft", "--cgroup", &self.group], &what[..], &when[..]].concat())
    }
}

/// The quota of a group, thousandths of a core; `None` without one.
fn quota_millicores(kernel: &Kernel, group: &str) -> Option<u64> {
    let number = |name: &str| kernel.read(group, name)?.split(' ').next()?.parse::<u64>().ok();
    let quota_us = number("cpu.cfs_quota_us").or_else(|| number("cpu.max"))?;
    Some(quota_us / 100)
}

/// Looks at a group's quota all the time, until it is asked how long that was not what it should have been.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    fn start(world: &World, group: &str, expected: Option<u64>) -> Self {
        let (kernel, group, ended) = (world.kernel().clone(), group.to_owned(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let (mut wrong, mut last) = (Duration::ZERO, Instant::now());
            while !told.load(Ordering::Acquire) {
                let now = Instant::now();
                if quota_millicores(&kernel, &group) != expected {
                    wrong += now - last;
                }
                last = now;
                std::thread::sleep(LOOK);
            }
            wrong
        });
        Self { ended, thread }
    }

    fn wrong_ms(self) -> anyhow::Result<u64> {
        self.ended.store(true, Ordering::Release);
        let wrong = self.thread.join().map_err(|_| anyhow!("nobody looked at the value"))?;
        Ok(u64::try_from(wrong.as_millis())?)
    }
}

fn measure_faults() -> anyhow::Result<Faults> {
    const HELD: Option<u64> = Some(400);
    progress("faults while a plan is in force");
    let mut world = world(Timing::QUICK)?;
    let sleeper = Sleeper::start(&world, 0)?;
    let quota = |world: &World| quota_millicores(world.kernel(), &sleeper.group);
    let until = |world: &World, what: &str, expected: Option<u64>| -> anyhow::Result<f64> {
        let from = Instant::now();
        world.wait(what, BACK, |world| Ok((quota(world) == expected).then_some(())))?;
        let took = from.elapsed().as_secs_f64();
        progress(&format!("{what}: {took:.1} s"));
        Ok(took)
    };
    sleeper.draft(&world, ("50", "400m"), ("1s", Duration::from_secs(2)))?;
    until(&world, "the plan's target", HELD)?;
    // Until its evidence has told of it, and somewhat longer.
    pause(&world, Duration::from_millis(Timing::QUICK.evidence_ms * 2))?;

    let watch = Watch::start(&world, &sleeper.group, HELD);
    world.kill_agent(0);
    pause(&world, Duration::from_secs(2))?;
    world.start_agent(0)?;
    world.wait_for_trust(0, PATIENCE)?;
    pause(&world, Duration::from_millis(Timing::QUICK.evidence_ms * 2))?;
    let agent_sigkill_wrong_ms = watch.wrong_ms()?;

    world.stop_verifier()?;
    let verifier_gone_restored_s = until(&world, "the end of the lease, the verifier being gone", None)?;
    world.start_verifier()?;
    until(&world, "the plan to go on, the verifier being back", HELD)?;

    world.kill_agent(0);
    pause(&world, Duration::from_millis(Timing::QUICK.lease_ms + 2_000))?;
    // So that it is not told to begin anew before it has been seen to end what was.
    world.stop_verifier()?;
    world.start_agent(0)?;
    let start_after_lease_restored_s = until(&world, "the start of an agent to end what was", None)?;
    world.start_verifier()?;
    until(&world, "the plan to go on, the agent being back", HELD)?;

    let from = Instant::now();
    world.stop_agent(0)?;
    let stop_restored_s = from.elapsed().as_secs_f64();
    ensure!(quota(&world).is_none(), "an agent that was stopped has left a quota");
    end(world, vec![sleeper])?;
    let lease_s = Timing::QUICK.lease_ms as f64 / 1000.0;
    Ok(Faults {
        lease_s,
        agent_sigkill_wrong_ms,
        verifier_gone_restored_s,
        stop_restored_s,
        start_after_lease_restored_s,
    })
}

impl Targets {
    pub(super) fn lines(&self) -> Vec<Line> {
        let cost = format!(
            "{} % of a core while they move, {} % while they are held, {} MiB resident; all reached within {} ms",
            short(self.cpu_percent),
            short(self.held_cpu_percent),
            short(self.resident_bytes as f64 / MIB),
            self.reached_late_ms
        );
        let faults = &self.faults;
        let wrong = format!("{} ms wrong", faults.agent_sigkill_wrong_ms);
        let restored = format!(
            "everything put back {} s after the verifier fell silent (lease {} s), {} s after a stop, {} s after the start of an \
             agent that was dead for longer than the lease",
            short(faults.verifier_gone_restored_s),
            short(faults.lease_s),
            short(faults.stop_restored_s),
            short(faults.start_after_lease_restored_s)
        );
        vec![
            Line::new(format!("agent that shapes {} groups, two controls each", self.targets), cost),
            Line::new("  a value after SIGKILL of the agent and its next start", wrong),
            Line::new("  a plan that ends", restored),
        ]
    }
}
