//! One load, two groups: in one a plan moves the CPU quota, in the other the same change is a cliff.
//!
//! Both begin at one instant with the same quota and end with the same one, which is less than they use at first and more than
//! the load needs in neither: the load lies between the two. What is counted runs from the plan's start to its end. The plan is
//! moved by the agent's own shaper, over this host's real cgroups.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use quotary_agent::enforce::group::GroupPath;
use quotary_agent::enforce::probe::{Mount, probe};
use quotary_agent::shape::controller::{CheckedRules, Now};
use quotary_agent::shape::{Config, Local, OfGrants, Shaper};
use quotary_agent::state::StateDir;
use quotary_agent::{clock, sample};
use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::{CgroupPath, Envelope, Mode, Name};
use quotary_common::grant::{Accepted, GrantSet, GrantSetVersion};
use quotary_common::id::{BootId, Digest, HostId, PlanId};
use quotary_common::keys::{self, KeyCertificate, deployment_of};
use quotary_common::limits::LEASE_MS_MAX;
use quotary_common::plan::{self, Course, OnPressure, Plan, Setpoint, ShapedControl, Target, VerifiedPlan};
use quotary_common::sign::SigningKey;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::ROUNDS;
use super::content::{self, Content, Place};
use super::report::{Gate, Good, Line, median, percentile, progress, short};

/// The quota before, and after.
const BEFORE_MILLICORES: u64 = 800;
const AFTER_MILLICORES: u64 = 400;
/// What the load needs: between the two.
const LOAD_MILLICORES: u64 = 480;
/// One request comes every so often, whether the last one is done or not.
const ARRIVAL: Duration = Duration::from_millis(10);
const PARENT: &str = "/quotary-bench";
const PERIOD_US: u64 = 100_000;

/// Plan and cliff, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Transition {
    /// The quota before.
    pub before_millicores: u64,
    /// The quota after.
    pub after_millicores: u64,
    /// What the load needs.
    pub load_millicores: u64,
    /// How long the plan takes, s.
    pub over_s: u64,
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds: time throttled under the plan by that under the cliff.
    pub throttled_ratio: f64,
    /// Median over the rounds: p99 of a request's latency under the plan, ms.
    pub plan_p99_ms: f64,
    /// Median over the rounds: the same under the cliff, ms.
    pub cliff_p99_ms: f64,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Under the plan.
    pub plan: Side,
    /// Under the cliff.
    pub cliff: Side,
}

/// One of the two groups.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Time throttled, ms.
    pub throttled_ms: u64,
    /// Requests that were done.
    pub requests: usize,
    /// p99 of their latency, ms.
    pub p99_ms: f64,
    /// The quota at the end, thousandths of a core.
    pub quota_millicores: u64,
}

/// Measures [`ROUNDS`] rounds of `over` each.
///
/// # Errors
/// When there is no CPU controller to be written (it needs root), or a group does not end where it should.
pub(super) fn measure(over: Duration) -> anyhow::Result<Transition> {
    let parent = GroupPath::parse(PARENT).context("the parent's path")?;
    let survey = probe(Path::new("/"), &parent);
    ensure!(survey.capabilities.writable, "no cgroup can be written: run it as root");
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        progress(&format!("plan and cliff side by side, round {round}, {} s", over.as_secs()));
        let done = one_round(&survey.mounts, over);
        for group in ["plan", "cliff", ""] {
            for mount in &survey.mounts {
                let _gone = fs::remove_dir(dir(mount, group));
            }
        }
        rounds.push(done?);
    }
    let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
    Ok(Transition {
        before_millicores: BEFORE_MILLICORES,
        after_millicores: AFTER_MILLICORES,
        load_millicores: LOAD_MILLICORES,
        over_s: over.as_secs(),
        throttled_ratio: of(&|round| round.plan.throttled_ms as f64 / round.cliff.throttled_ms.max(1) as f64),
        plan_p99_ms: of(&|round| round.plan.p99_ms),
        cliff_p99_ms: of(&|round| round.cliff.p99_ms),
        rounds,
    })
}

fn dir(mount: &Mount, group: &str) -> PathBuf {
    mount.dir.join(PARENT.trim_start_matches('/')).join(group)
}

/// A group with a worker in it.
struct Group<'m> {
    mounts: &'m [Mount],
    name: &'static str,
    worker: Child,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

impl<'m> Group<'m> {
    fn new(mounts: &'m [Mount], name: &'static str) -> anyhow::Result<Self> {
        for mount in mounts {
            fs::create_dir_all(dir(mount, name)).with_context(|| dir(mount, name).display().to_string())?;
        }
        let program = std::env::current_exe()?;
        let worker = Command::new(program).arg("--worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let group = Self { mounts, name, worker };
        group.set_quota(BEFORE_MILLICORES)?;
        for mount in mounts {
            fs::write(dir(mount, name).join("cgroup.procs"), group.worker.id().to_string())?;
        }
        Ok(group)
    }

    fn cpu_file(&self, file: &str) -> anyhow::Result<PathBuf> {
        let all = self.mounts.iter().map(|mount| dir(mount, self.name).join(file));
        all.into_iter().find(|path| path.exists()).ok_or_else(|| anyhow!("{} has no {file}", self.name))
    }

    fn set_quota(&self, millicores: u64) -> anyhow::Result<()> {
        let quota_us = millicores * PERIOD_US / 1000;
        match self.cpu_file("cpu.max") {
            Ok(path) => fs::write(path, format!("{quota_us} {PERIOD_US}"))?,
            Err(_) => fs::write(self.cpu_file("cpu.cfs_quota_us")?, quota_us.to_string())?,
        }
        Ok(())
    }

    fn quota_millicores(&self) -> anyhow::Result<u64> {
        let text = match self.cpu_file("cpu.max") {
            Ok(path) => fs::read_to_string(path)?,
            Err(_) => fs::read_to_string(self.cpu_file("cpu.cfs_quota_us")?)?,
        };
        let quota_us: u64 = text.split_ascii_whitespace().next().context("a quota")?.parse()?;
        Ok(quota_us * 1000 / PERIOD_US)
    }

    fn throttled_us(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(self.cpu_file("cpu.stat")?)?;
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        of("throttled_usec ").or_else(|| of("throttled_time ").map(|ns| ns / 1000)).context("throttled time")
    }

    /// Has the worker begin.
    fn go(&mut self) -> anyhow::Result<()> {
        let stdin = self.worker.stdin.as_mut().context("the worker's input")?;
        Ok(stdin.write_all(b"go\n")?)
    }

    /// Ends the worker; the latencies of what it did between `from_us` and `to_us` of `CLOCK_MONOTONIC`.
    fn latencies_us(&mut self, from_us: u64, to_us: u64) -> anyhow::Result<Vec<u64>> {
        drop(self.worker.stdin.take());
        let stdout = self.worker.stdout.take().context("the worker's output")?;
        let mut latencies = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let (done, latency) = line.split_once(' ').context("the worker's words")?;
            if (from_us..=to_us).contains(&done.parse::<u64>()?) {
                latencies.push(latency.parse()?);
            }
        }
        Ok(latencies)
    }
}

fn one_round(mounts: &[Mount], over: Duration) -> anyhow::Result<Round> {
    let temp = tempfile::tempdir()?;
    let mut shaper = shaper(temp.path())?;
    let (mut planned, mut cut) = (Group::new(mounts, "plan")?, Group::new(mounts, "cliff")?);
    planned.go()?;
    cut.go()?;
    // Both run freely for a while.
    std::thread::sleep(Duration::from_secs(2));
    let before = (planned.throttled_us()?, cut.throttled_us()?);
    let (from, from_us) = (Instant::now(), monotonic_us());
    shaper.take(vec![verified(over)?], now());
    cut.set_quota(AFTER_MILLICORES)?;
    while from.elapsed() < over {
        shaper.tick(now());
        std::thread::sleep(Duration::from_secs(1).min(over.saturating_sub(from.elapsed())));
    }
    shaper.tick(now());
    let (to_us, after) = (monotonic_us(), (planned.throttled_us()?, cut.throttled_us()?));
    let side = |group: &mut Group<'_>, throttled_us: u64| -> anyhow::Result<Side> {
        let quota_millicores = group.quota_millicores()?;
        let latencies = group.latencies_us(from_us, to_us)?;
        // The last ones may still wait for their turn; that there are far fewer means that the service stood still.
        let arrived = usize::try_from(over.as_millis() / ARRIVAL.as_millis())?;
        let least = arrived * usize::try_from(AFTER_MILLICORES * 3 / 4)? / usize::try_from(LOAD_MILLICORES)?;
        ensure!(latencies.len() > least, "{} of {arrived} requests were done", latencies.len());
        let p99_ms = percentile(&latencies, 99) as f64 / 1000.0;
        Ok(Side { throttled_ms: throttled_us / 1000, requests: latencies.len(), p99_ms, quota_millicores })
    };
    let round = Round { plan: side(&mut planned, after.0 - before.0)?, cliff: side(&mut cut, after.1 - before.1)? };
    for (name, side) in [("plan", &round.plan), ("cliff", &round.cliff)] {
        ensure!(side.quota_millicores == AFTER_MILLICORES, "the {name} ended at {} millicores", side.quota_millicores);
    }
    Ok(round)
}

fn now() -> Now {
    Now { unix_ms: clock::unix_ms(), boottime_ms: clock::boottime_ms() }
}

fn boot_id() -> anyhow::Result<BootId> {
    Ok(sample::boot_id(Path::new("/"))?)
}

fn shaper(at: &Path) -> anyhow::Result<Shaper> {
    let config = Config {
        root: PathBuf::from("/"),
        state_dir: StateDir::open(at.join("state"))?,
        mode: Mode::Enforce,
        delegated_parent: Some(PARENT.to_owned()),
        devices: Vec::new(),
        egress_interfaces: None,
        storage: Vec::new(),
        rules: CheckedRules::default(),
        local: Local::default(),
        program: None,
        grants: OfGrants::default(),
    };
    Ok(Shaper::open(config, boot_id()?, now())?.0)
}

fn key() -> anyhow::Result<SigningKey> {
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
        .map_err(|_| anyhow!("no randomness"))?;
    Ok(SigningKey::from_pkcs8(document.as_ref())?)
}

/// The plan, signed and verified as one that a reply brings.
fn verified(over: Duration) -> anyhow::Result<VerifiedPlan> {
    let (root, signing) = (key()?, key()?);
    let deployment = deployment_of(&root.public());
    let certificate = KeyCertificate {
        version: Version,
        deployment,
        verifier: Name::lossy("bench"),
        grant_key: signing.public(),
        log_key: signing.public(),
        not_after_ms: u64::MAX,
        result_key: signing.public(),
    };
    let keys = keys::verify(&root.sign(&certificate), &root.public(), 0)?;
    let host = HostId::of(&[b"bench"]);
    let place = Place {
        deployment,
        host,
        tls_key: Digest::of(&[b"key"]),
        sequence: 1,
        predecessor: Digest::new([0; 32]),
        checkpoint: None,
    };
    let stated = content::envelope(place, Content::Small, Vec::new(), &[]);
    let envelope = Envelope { boot_id: boot_id()?, built_at_ms: clock::boottime_ms(), ..stated };
    let starts_at_ms = clock::unix_ms();
    let over_ms = u64::try_from(over.as_millis())?;
    let effective_at_ms = starts_at_ms + over_ms;
    let setpoints = Bounded::new(vec![Setpoint { at_ms: effective_at_ms, value: AFTER_MILLICORES }]);
    let course = Course { control: ShapedControl::CpuQuota, setpoints: setpoints.context("one setpoint")? };
    let moved = Plan {
        version: Version,
        deployment,
        host,
        id: PlanId::of(&[b"plan"]),
        epoch: 1,
        target: Target::Cgroup(CgroupPath::lossy(&format!("{PARENT}/plan"))),
        generation: 1,
        starts_at_ms,
        effective_at_ms,
        ends_at_ms: None,
        not_after_ms: effective_at_ms,
        courses: Bounded::new(vec![course]).context("one course")?,
        on_pressure: OnPressure::Proceed,
        hold_ms_max: 0,
        overrides: false,
        decision: None,
    };
    let signed = vec![signing.sign(&moved).to_bytes()];
    let named = plan::digest_of(&signed);
    let digest = Digest::of(&[b"envelope"]);
    let set = GrantSet {
        version: GrantSetVersion::naming(named.as_ref()),
        deployment,
        host,
        boot_id: envelope.boot_id,
        sequence: envelope.sequence,
        envelope: digest,
        epoch: 1,
        generation: 1,
        lease_ms: LEASE_MS_MAX,
        grants: Bounded::default(),
        refusals: Bounded::default(),
        evidence: digest,
        plans: named,
    };
    let set = quotary_common::grant::verify(&signing.sign(&set), &keys, (&envelope, &digest), Accepted::default())
        .map_err(|refusal| anyhow!("{refusal}"))?;
    let mut plans = plan::verify(&signed, &keys, &set).map_err(|refusal| anyhow!("{refusal}"))?;
    plans.pop().context("one plan")
}

fn clock_us(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds * 1_000_000 + nanoseconds / 1000
}

fn monotonic_us() -> u64 {
    clock_us(ClockId::Monotonic)
}

/// The sample service: a request every [`ARRIVAL`], each needing its part of a core, until its input ends. For each request
/// it says when it was done and how long after its arrival, microseconds.
///
/// # Errors
/// When nobody listens.
pub fn work() -> std::io::Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&ended);
    std::thread::spawn(move || {
        // Until whoever started us has had enough.
        let _ = std::io::stdin().read_line(&mut String::new());
        told.store(true, std::sync::atomic::Ordering::Release);
    });
    let arrival_us = u64::try_from(ARRIVAL.as_micros()).unwrap_or(u64::MAX);
    let need_us = arrival_us * LOAD_MILLICORES / 1000;
    // Told at the end: nobody reads before, and a full pipe would hold up the service.
    let mut done = Vec::new();
    let mut arrived_us = monotonic_us();
    while !ended.load(std::sync::atomic::Ordering::Acquire) {
        let wait_us = arrived_us.saturating_sub(monotonic_us());
        std::thread::sleep(Duration::from_micros(wait_us));
        let began_us = clock_us(ClockId::ThreadCPUTime);
        while clock_us(ClockId::ThreadCPUTime) - began_us < need_us {
            std::hint::spin_loop();
        }
        let done_us = monotonic_us();
        done.push((done_us, done_us - arrived_us));
        arrived_us += arrival_us;
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    done.iter().try_for_each(|(done_us, latency_us)| writeln!(out, "{done_us} {latency_us}"))?;
    out.flush()
}

impl Transition {
    /// What must hold.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let figure = ("throttled time under a plan beside a cliff", "ratio", self.throttled_ratio);
        vec![Gate::new(figure, Good::AtMost, (1.0 / 3.0, 0.1))]
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let what = format!(
            "{} to {} millicores over {} s under a load of {}",
            self.before_millicores, self.after_millicores, self.over_s, self.load_millicores
        );
        let value = format!(
            "throttled time, plan by cliff {}; p99 of a request {} ms under the plan, {} ms under the cliff",
            short(self.throttled_ratio),
            short(self.plan_p99_ms),
            short(self.cliff_p99_ms)
        );
        vec![Line::new(what, value)]
    }
}
