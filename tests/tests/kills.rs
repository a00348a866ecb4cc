//! SIGKILL of agents and verifier at random instants, fifty times, while applications come and go.
//!
//! `QUOTARY_SEED` repeats a run's choices (not its timing); the seed of each run is printed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quotary_common::envelope::Mode;
use quotary_common::id::{GrantId, HostId};
use quotary_common::leaf::{Decision, GrantChange, Leaf};
use quotary_common::units::{ResourceKind, Resources};
use quotary_tests::host::Operator;
use quotary_tests::world::{Options, PATIENCE, Run, Running, Timing, World};

const KILLS: u32 = 50;
const HOSTS: usize = 2;
/// A grant whose asker died before it knew of it is given back by the agent after a minute.
const UNUSED: Duration = Duration::from_secs(100);
/// Applications at once: more than the hosts have room for, so that some are refused.
const RUNS_MAX: usize = 10;

/// SplitMix64: choices that a seed repeats.
struct Choices(u64);

impl Choices {
    fn new() -> Self {
        let now = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let seed = std::env::var("QUOTARY_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
        eprintln!("QUOTARY_SEED={seed}");
        Self(seed)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What one application found in its environment: its grant, or nothing.
fn grant_of(run: &Running) -> Option<GrantId> {
    let printed = run.printed().unwrap();
    printed.lines().find_map(|line| line.strip_prefix("grant=")?.parse().ok())
}

fn start_application(world: &World, number: usize, choices: &mut Choices) -> Running {
    let host = usize::try_from(choices.below(HOSTS as u64)).unwrap();
    let cpu = format!("{}m", 100 + choices.below(900));
    let asked = ["--cpu", &cpu, "--memory", "32M", "--wait-for", "8s"];
    let lasts = format!("echo grant=$QUOTARY_GRANT; sleep 0.{}", choices.below(10));
    world.start_run(&format!("application-{number}"), &Run::new(host, &asked, ["sh", "-c", &lasts])).unwrap()
}

/// An application that runs through all kills, under one grant.
struct Steadfast {
    run: Running,
    host: usize,
    grant: GrantId,
    limits: Vec<(String, Option<String>)>,
}

impl Steadfast {
    fn start(world: &World, host: usize) -> Self {
        let asked = ["--cpu", "300m", "--memory", "32M", "--if-unavailable", "fail"];
        let command = ["sh", "-c", "echo grant=$QUOTARY_GRANT; sleep 600; :"];
        let run = world.start_run(&format!("steadfast-{host}"), &Run::new(host, &asked, command)).unwrap();
        let grant = world.wait("its grant", PATIENCE, |_| Ok(grant_of(&run))).unwrap();
        let limits = limits(world, host, &grant);
        // Where cgroups are not writable, the agent only shows what it would do.
        assert_eq!(limits.is_empty(), world.agent_view(host).unwrap().mode != Mode::Enforce, "{limits:?}");
        Self { run, host, grant, limits }
    }

    /// It still runs, under the same grant, in the eyes of agent and verifier, within the same limits.
    fn stands(&self, world: &World) {
        assert!(self.run.ended().unwrap().is_none(), "{}", self.run.log_tail());
        assert_eq!(limits(world, self.host, &self.grant), self.limits);
        assert!(world.grant_views().unwrap().iter().any(|grant| grant.grant == self.grant), "{} is lost", self.grant);
    }
}

/// What the kernel shows for the effective controls of a grant, which the agent must hold.
fn limits(world: &World, host: usize, grant: &GrantId) -> Vec<(String, Option<String>)> {
    let grants = world.agent_view(host).unwrap().grants;
    let held = grants.into_iter().find(|held| held.grant == *grant).unwrap_or_else(|| panic!("{grant} is lost"));
    let Some(group) = held.cgroup else { return Vec::new() };
    let effective = held.controls.into_iter().filter(|control| control.effective);
    effective.map(|control| (control.control.clone(), world.kernel().read(&group, &control.control))).collect()
}

/// What is granted never exceeds what a host has, as the verifier tells at any instant.
fn nothing_is_granted_twice(world: &World) {
    let mut sums: BTreeMap<HostId, u64> = BTreeMap::new();
    for grant in world.grant_views().unwrap() {
        *sums.entry(grant.host).or_default() += grant.resources.cpu_millicores.unwrap_or(0);
    }
    let capacity = world.options().hosts[0].cpu_millicores;
    assert!(sums.values().all(|sum| *sum <= capacity), "{sums:?} of {capacity}");
}

#[test]
fn fifty_kills_lose_and_double_no_grant_and_leave_no_limit_behind() {
    let mut choices = Choices::new();
    let timing =
        Timing { evidence_ms: 1_000, lease_ms: 40_000, lease_margin_ms: 1_000, retry_max_ms: 500, ..Timing::QUICK };
    let mut world = World::new(Options { timing, log: "warn".to_owned(), ..Options::quick(HOSTS) }).unwrap();
    world.start_verifier().unwrap();
    for host in 0..HOSTS {
        world.start_agent(host).unwrap();
    }
    for host in 0..HOSTS {
        world.wait_for_trust(host, PATIENCE).unwrap();
    }
    let steadfast: Vec<Steadfast> = (0..HOSTS).map(|host| Steadfast::start(&world, host)).collect();
    let (mut running, mut ended): (Vec<Running>, Vec<Running>) = (Vec::new(), Vec::new());
    for kill in 0..KILLS {
        for _ in 0..=choices.below(2) {
            if running.len() < RUNS_MAX {
                running.push(start_application(&world, running.len() + ended.len(), &mut choices));
            }
        }
        std::thread::sleep(Duration::from_millis(20 + choices.below(1_200)));
        match usize::try_from(choices.below(HOSTS as u64 + 1)).unwrap() {
            HOSTS => {
                world.kill_verifier();
                world.start_verifier().unwrap();
            }
            host => {
                world.kill_agent(host);
                world.start_agent(host).unwrap();
            }
        }
        nothing_is_granted_twice(&world);
        let (over, still): (Vec<_>, Vec<_>) = running.into_iter().partition(|run| run.ended().unwrap().is_some());
        ended.extend(over);
        running = still;
        if kill % 10 == 9 {
            eprintln!("{} kills, {} applications", kill + 1, ended.len() + running.len());
        }
    }
    for run in running {
        run.wait(PATIENCE).unwrap();
        ended.push(run);
    }
    for host in 0..HOSTS {
        world.wait_for_trust(host, PATIENCE).unwrap();
        world.wait_for_evidence(host, 1, PATIENCE).unwrap();
    }
    for application in &steadfast {
        application.stands(&world);
    }
    for Steadfast { run, .. } in &steadfast {
        run.stop(PATIENCE).unwrap();
    }
    come_to_rest(&world);
    check(&world, &ended);
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}

/// Nobody holds anything any more.
fn come_to_rest(world: &World) {
    world
        .wait("every grant to be given back", UNUSED, |world| {
            for host in 0..HOSTS {
                if !world.agent_view(host)?.grants.is_empty() {
                    return Ok(None);
                }
            }
            Ok(world.grant_views()?.is_empty().then_some(()))
        })
        .unwrap();
    for host in world.hosts() {
        for directory in world.kernel().directories(host.cgroup()) {
            let below = std::fs::read_dir(&directory).unwrap().flatten();
            let groups: Vec<_> = below.filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect();
            assert!(groups.is_empty(), "limits were left behind: {groups:?}");
        }
    }
}

/// The log tells the same: it verifies, and by it every grant began once and ended once, within what there is.
fn check(world: &World, applications: &[Running]) {
    world.cli_ok(&["audit", "verify"]).unwrap();
    let operator = Operator::of(world).unwrap();
    let leaves = world.runtime().block_on(operator.leaves(0)).unwrap();
    let given = replay(&leaves, world.options().hosts[0].cpu_millicores);
    let seen: Vec<GrantId> = applications.iter().filter_map(grant_of).collect();
    let unique: BTreeSet<GrantId> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "two applications ran under one grant");
    assert!(unique.is_subset(&given), "an application ran under a grant that the log does not know");
    eprintln!(
        "{} applications, {} under a grant, {} grants, {} leaves",
        applications.len(),
        seen.len(),
        given.len(),
        leaves.len()
    );
    assert!(seen.len() * 4 > applications.len(), "hardly any application got a grant: the test shows little");
    for run in applications {
        assert!(run.ended().unwrap().unwrap().success(), "{}", run.log_tail());
    }
}

/// All grants ever given.
fn replay(leaves: &[Leaf], capacity_millicores: u64) -> BTreeSet<GrantId> {
    let (mut given, mut holds) = (BTreeSet::new(), BTreeMap::<HostId, BTreeMap<GrantId, Resources>>::new());
    for leaf in leaves {
        let Decision::Granted(granted) = &leaf.decision else { continue };
        let of_host = holds.entry(granted.host).or_default();
        match granted.change {
            GrantChange::Given => {
                assert!(given.insert(granted.grant), "{} was given twice", granted.grant);
                of_host.insert(granted.grant, granted.resources);
            }
            GrantChange::Resized => assert!(of_host.insert(granted.grant, granted.resources).is_some()),
            GrantChange::Released | GrantChange::Expired => {
                assert!(of_host.remove(&granted.grant).is_some(), "{} ended twice", granted.grant);
            }
            // No host was cloned here: a kill is no finding.
            GrantChange::Revoked => assert_ne!(granted.change, GrantChange::Revoked, "{granted:?}"),
        }
        let sum: u64 = of_host.values().filter_map(|resources| resources.get(ResourceKind::Cpu)).sum();
        assert!(sum <= capacity_millicores, "{sum} of {capacity_millicores} millicores are granted");
    }
    let left: Vec<_> = holds.values().flat_map(BTreeMap::keys).collect();
    assert!(left.is_empty(), "grants that never ended: {left:?}");
    given
}
