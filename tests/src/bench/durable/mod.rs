//! Durable evidence per second, end to end: a real verifier process, its store as shipped, TLS that is kept alive,
//! and hosts that send their next evidence as soon as the last was answered.
//!
//! Every host enrols over the routes and activates its credential; every evidence is a new envelope under a new
//! nonce with a new signature; every reply is checked. Afterwards the verifier is killed (SIGKILL), started again,
//! and must know all that it acknowledged. What the load itself costs is told apart: both share this machine.

mod host;
mod logs;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::host::LoadHost;
use super::report::{median, percentile, progress};
use super::{ROUNDS, begin, cpu, pause, take_down};
use crate::host::Operator;
use crate::world::{Options, Timing, World};

/// Before the first round: caches, connections, and a log that is not empty.
const WARM_UP: Duration = Duration::from_secs(3);
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
/// Hosts that enrol at once.
const ENROL_AT_ONCE: usize = 16;

/// How much load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Hosts, each with a connection of its own.
    pub hosts: usize,
    /// Hosts that wait for a reply at once, at most.
    pub in_flight: usize,
    /// One round.
    pub round: Duration,
    /// Whether evidence carries a boot log once and an IMA increment each time, and the zone asks for them.
    pub with_logs: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Durable {
    /// Hosts.
    pub hosts: usize,
    /// Hosts that waited for a reply at once, at most.
    pub in_flight: usize,
    /// Whether evidence carried boot logs and IMA increments.
    pub with_logs: bool,
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds.
    pub evidence_per_second: f64,
    /// Median over the rounds: the verifier's CPU time, in cores.
    pub verifier_cpu_cores: f64,
    /// Median over the rounds: the load's own CPU time, in cores.
    pub load_cpu_cores: f64,
    /// Median over the rounds: the verifier's CPU time per evidence, microseconds.
    pub verifier_cpu_microseconds_per_evidence: f64,
    /// Half of the replies came within so long, ms.
    pub reply_p50_ms: f64,
    /// 95 % of the replies came within so long, ms.
    pub reply_p95_ms: f64,
    /// What the verifier caused to be written to storage per evidence, bytes, where the kernel tells.
    pub storage_written_bytes_per_evidence: Option<f64>,
    /// The verifier's resident memory at the end, bytes.
    pub verifier_resident_bytes: u64,
    /// Evidence acknowledged before the kill, and found after it.
    pub evidence_found_after_kill: u64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// Accepted evidence per second of wall time.
    pub evidence_per_second: f64,
    /// The verifier's CPU time per wall time.
    pub verifier_cpu_cores: f64,
    /// The load's own CPU time per wall time.
    pub load_cpu_cores: f64,
    /// The verifier's CPU time per evidence, microseconds.
    pub verifier_cpu_microseconds_per_evidence: f64,
    /// Half of the replies came within so long, ms.
    pub reply_p50_ms: f64,
    /// 95 % of the replies came within so long, ms.
    pub reply_p95_ms: f64,
}

/// What the tasks of the load share.
struct Shared {
    stop: AtomicBool,
    accepted: AtomicU64,
    /// The round that runs: 0 while warming up.
    round: AtomicUsize,
    /// How long replies took, microseconds, by round.
    replies_us: Vec<Mutex<Vec<u64>>>,
    places: Semaphore,
}

/// Measures [`ROUNDS`] rounds.
///
/// # Errors
/// When the verifier does not start, refuses what holds, or forgets what it acknowledged.
pub(super) fn measure(load: Load) -> anyhow::Result<Durable> {
    let mut options = Options::quick(0);
    options.timing = Timing::SHIPPED;
    options.log = "warn".to_owned();
    if load.with_logs {
        options.verifier_extra = "[ima]\nallow = [\"allowed.txt\"]\n".to_owned();
        options.zone_joined_extra = logs::zone_toml()?;
        options.verifier_files = vec![("allowed.txt".to_owned(), logs::allow_list())];
    }
    let mut world = begin(options)?;
    check_disk(&world)?;
    world.start_verifier()?;
    let operator = Operator::of(&world)?;
    progress(&format!("durable, {} hosts enrol", load.hosts));
    let hosts = world.runtime().block_on(enrol(&operator, &world.verifier_url(), load))?;
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        accepted: AtomicU64::new(0),
        round: AtomicUsize::new(0),
        replies_us: (0..=ROUNDS).map(|_| Mutex::default()).collect(),
        places: Semaphore::new(load.in_flight.max(1)),
    });
    let driven = world.runtime().spawn(drive(hosts, Arc::clone(&shared)));
    let rounds = rounds(&world, &shared, load.round);
    shared.stop.store(true, Ordering::Relaxed);
    let hosts = world.runtime().block_on(driven).context("the load ended in a panic")??;
    let (rounds, written) = rounds?;
    let resident_bytes = cpu::of_process(pid(&world)?)?.resident_bytes;
    let found = check_after_kill(&mut world, &operator, &hosts)?;
    take_down(world)?;
    let of = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick));
    Ok(Durable {
        hosts: load.hosts,
        in_flight: load.in_flight,
        with_logs: load.with_logs,
        evidence_per_second: of(|round| round.evidence_per_second),
        verifier_cpu_cores: of(|round| round.verifier_cpu_cores),
        load_cpu_cores: of(|round| round.load_cpu_cores),
        verifier_cpu_microseconds_per_evidence: of(|round| round.verifier_cpu_microseconds_per_evidence),
        reply_p50_ms: of(|round| round.reply_p50_ms),
        reply_p95_ms: of(|round| round.reply_p95_ms),
        storage_written_bytes_per_evidence: written,
        verifier_resident_bytes: resident_bytes,
        evidence_found_after_kill: found,
        rounds,
    })
}

/// A figure for durability from memory would be a lie.
fn check_disk(world: &World) -> anyhow::Result<()> {
    let place = world.path("verifier");
    let kind = rustix::fs::statfs(&place).with_context(|| format!("cannot look at {}", place.display()))?.f_type;
    ensure!(kind != TMPFS_MAGIC, "{} is in memory (tmpfs): set TMPDIR to a directory on a disk", place.display());
    Ok(())
}

fn pid(world: &World) -> anyhow::Result<u32> {
    world.verifier().map(crate::world::Running::pid).context("the verifier does not run")
}

async fn enrol(operator: &Operator, url: &str, load: Load) -> anyhow::Result<Vec<LoadHost>> {
    let count = load.hosts;
    let mut hosts = Vec::with_capacity(count);
    while hosts.len() < count {
        // A few at once: enrolment is not what is measured.
        let mut some = JoinSet::new();
        for _ in 0..(count - hosts.len()).min(ENROL_AT_ONCE) {
            let (client, ca_pin, url) = (operator.client.clone(), operator.ca_pin, url.to_owned());
            some.spawn(async move { LoadHost::enrol(&client, ca_pin, &url, load.with_logs).await });
        }
        while let Some(enrolled) = some.join_next().await {
            hosts.push(enrolled.context("an enrolment ended in a panic")??);
        }
    }
    Ok(hosts)
}

/// The load, until told to stop; the hosts as they are then.
async fn drive(hosts: Vec<LoadHost>, shared: Arc<Shared>) -> anyhow::Result<Vec<LoadHost>> {
    let mut tasks = JoinSet::new();
    for mut host in hosts {
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            while !shared.stop.load(Ordering::Relaxed) {
                let _place = shared.places.acquire().await.map_err(|_| anyhow!("the load was closed"))?;
                let took = host.exchange().await.inspect_err(|_| shared.stop.store(true, Ordering::Relaxed))?;
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                if let Some(replies) = shared.replies_us.get(shared.round.load(Ordering::Relaxed)) {
                    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                    replies.lock().unwrap_or_else(PoisonError::into_inner).push(took_us);
                }
            }
            anyhow::Ok(host)
        });
    }
    let mut hosts = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        hosts.push(ended.context("a host of the load ended in a panic")??);
    }
    Ok(hosts)
}

/// Where all counters stand.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    accepted: u64,
    verifier: cpu::Usage,
    load_cpu: Duration,
}

impl Reading {
    fn now(pid: u32, shared: &Shared) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            accepted: shared.accepted.load(Ordering::Relaxed),
            verifier: cpu::of_process(pid)?,
            load_cpu: cpu::of_this_process(),
        })
    }
}

/// All rounds, and what was written to storage per evidence over all of them.
fn rounds(world: &World, shared: &Shared, length: Duration) -> anyhow::Result<(Vec<Round>, Option<f64>)> {
    let pid = pid(world)?;
    pause(world, WARM_UP.min(length))?;
    let begin = Reading::now(pid, shared)?;
    let mut all = Vec::new();
    for n in 1..=ROUNDS {
        shared.round.store(n, Ordering::Relaxed);
        let before = Reading::now(pid, shared)?;
        pause(world, length)?;
        if shared.stop.load(Ordering::Relaxed) {
            bail!("the load stopped before its time");
        }
        let after = Reading::now(pid, shared)?;
        let replies_us = shared.replies_us.get(n).map(|all| all.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let round = round(&before, &after, &replies_us.unwrap_or_default());
        progress(&format!("durable, round {n} of {ROUNDS}: {:.0} evidence/s", round.evidence_per_second));
        all.push(round);
    }
    let end = Reading::now(pid, shared)?;
    let written = end.verifier.storage_written_bytes.zip(begin.verifier.storage_written_bytes);
    let count = end.accepted.saturating_sub(begin.accepted).max(1) as f64;
    Ok((all, written.map(|(end, begin)| end.saturating_sub(begin) as f64 / count)))
}

fn round(before: &Reading, after: &Reading, replies_us: &[u64]) -> Round {
    let wall = after.at.duration_since(before.at).as_secs_f64();
    let accepted = after.accepted.saturating_sub(before.accepted) as f64;
    let verifier = after.verifier.cpu.saturating_sub(before.verifier.cpu).as_secs_f64();
    let load = after.load_cpu.saturating_sub(before.load_cpu).as_secs_f64();
    let ms = |percent| percentile(replies_us, percent) as f64 / 1000.0;
    Round {
        evidence_per_second: accepted / wall,
        verifier_cpu_cores: verifier / wall,
        load_cpu_cores: load / wall,
        verifier_cpu_microseconds_per_evidence: verifier * 1e6 / accepted.max(1.0),
        reply_p50_ms: ms(50),
        reply_p95_ms: ms(95),
    }
}

/// Kills the verifier, starts it again, and asks it for every host.
fn check_after_kill(world: &mut World, operator: &Operator, hosts: &[LoadHost]) -> anyhow::Result<u64> {
    progress("durable, SIGKILL to the verifier, and its start again");
    let acknowledged: u64 = hosts.iter().map(LoadHost::accepted).sum();
    world.kill_verifier();
    world.start_verifier()?;
    world.runtime().block_on(async {
        for host in hosts {
            host.check_not_forgotten().await?;
        }
        let status = operator.status().await?;
        ensure!(status.hosts == hosts.len() as u64, "{} hosts were enrolled, {} are known", hosts.len(), status.hosts);
        anyhow::Ok(())
    })?;
    Ok(acknowledged)
}
