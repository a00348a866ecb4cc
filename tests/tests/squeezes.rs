//! A compromised verifier against a real agent: plans whose every signature holds, with decisions that people made of something else; and a
//! deployment whose deciders are gone, which the root begins anew.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Child, Command};

use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::{ChangeId, HostId, PlanId};
use quotary_common::plan::{OnPressure, ShapedControl, Target};
use quotary_common::quorum::change::{Change, ChangeText, Kind, Way};
use quotary_common::quorum::covers::{Cover, Reach, Span};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::decide::Under;
use quotary_common::quorum::decision::QuorumDecision;
use quotary_common::quorum::roster::{Roster, Word};
use quotary_common::quorum::rules::Rules;
use quotary_common::quorum::vote::{Verb, Vote};
use quotary_common::units::{Class, Resources};
use quotary_tests::attack::{Proxy, Squeeze, Stolen, StolenCa, StolenKey, stolen_grant_key};
use quotary_tests::world::{HostOptions, KeyKind, Options, PATIENCE, Signer, World};

const RULES: &str = "version = 1\n[criticality.critical]\napprovals = 2\napprovers = [\"operator\"]\n\
    approve_within_s = 600\napply_within_s = 600\ndelay_s_min = 1\n";
/// What the change of the tests says of the weight in contention, before and after, in millicores.
const SPAN: Span = Span { before: Some(1_000), after: Some(500) };

/// Who decides: alice asks, bob and carol approve.
struct People {
    keys: Vec<(&'static str, Signer)>,
    directory: tempfile::TempDir,
}

impl People {
    fn new(names: [&'static str; 3]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = |name| (name, Signer::make(directory.path(), name, KeyKind::Ed25519).unwrap());
        Self { keys: names.into_iter().map(key).collect(), directory }
    }

    fn roster(&self, version: u64) -> String {
        let person = |(name, key): &(&str, Signer)| {
            let key = key.public();
            format!("[[people]]\nname = \"{name}\"\nroles = [\"operator\"]\n[[people.keys]]\nkey = \"{key}\"\n")
        };
        format!("version = {version}\n{}", self.keys.iter().map(person).collect::<String>())
    }

    /// A decision that they really made, with their keys.
    fn decide(&self, change: &Change, approved_at_ms: u64) -> Vec<u8> {
        let roster = Roster::parse(self.roster(1).as_bytes()).unwrap();
        let rules = Rules::parse(RULES.as_bytes()).unwrap();
        let text = ChangeText::render(change).unwrap();
        let file = self.directory.path().join("change.txt");
        std::fs::write(&file, text.bytes()).unwrap();
        let namespace = Verb::Approval.namespace(&change.deployment);
        let vote = |(_, key): &(&str, Signer)| {
            let signature = std::fs::read_to_string(key.sign(&namespace, &file).unwrap()).unwrap();
            Vote::from_armoured(&signature, Verb::Approval, &text, &roster, approved_at_ms).unwrap()
        };
        let votes = self.keys.iter().skip(1).map(vote).collect();
        let under = || Under { roster: &roster, rules: &rules };
        QuorumDecision::new(&text, votes, (under(), under()), approved_at_ms).unwrap().to_bytes()
    }
}

/// A process that rests, in a group that an administrator made for it.
struct Group {
    path: CgroupPath,
    process: Child,
}

impl Group {
    fn start(world: &World) -> Self {
        let path = format!("{}/rests", world.host(0).cgroup());
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        for file in ["cpu.shares", "cpuacct.usage", "memory.limit_in_bytes", "blkio.weight"] {
            let Some(file) = world.kernel().file(&path, file) else { continue };
            let directory = file.parent().unwrap();
            std::fs::create_dir_all(directory).unwrap();
            std::fs::write(directory.join("cgroup.procs"), process.id().to_string()).unwrap();
        }
        Self { path: CgroupPath::lossy(&path), process }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A world with a running agent behind a road, which knows who decides.
fn scene(people: &People) -> World {
    let options = Options {
        hosts: vec![HostOptions::new("host-a").behind_road()],
        authority: Some((people.roster(1), RULES.to_owned())),
        ..Options::quick(1)
    };
    let mut world = World::new(options).unwrap();
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    wait_for_authority(&world, 0);
    world
}

fn wait_for_authority(world: &World, number: u64) {
    let pinned = |world: &World| {
        let authority = world.agent_view(0)?.authority;
        Ok(authority.filter(|pinned| pinned.number == number).map(|_| ()))
    };
    world.wait("the agent to learn who decides", PATIENCE, pinned).unwrap();
}

fn now_ms() -> u64 {
    quotary_agent::clock::unix_ms()
}

/// Alice's change of so named a policy, which gives the group half of its share.
fn change(world: &World, people: &People, name: &str, (group, host): (&CgroupPath, HostId)) -> Change {
    let roster = Roster::parse(people.roster(1).as_bytes()).unwrap();
    let rules = Rules::parse(RULES.as_bytes()).unwrap();
    let now_ms = now_ms();
    let mut cover = Cover {
        application: Name::lossy("rests"),
        tenant: Name::lossy("lab"),
        host: Some(host),
        reach: Reach::Cgroup(group.clone()),
        class: Class::BestEffort,
        guarantee: [None; 5],
        limit: [None; 5],
    };
    cover.guarantee[0] = Some(SPAN);
    let word = Word::lossy;
    Change {
        deployment: world
            .runtime()
            .block_on(quotary_tests::host::Operator::of(world).unwrap().status())
            .unwrap()
            .deployment,
        id: ChangeId::of(&[name.as_bytes()]),
        kind: Kind::CreatePolicy,
        name: word(name),
        way: Way::Quorum,
        requester: word("alice"),
        editor: word("alice"),
        applier: word("verifier"),
        criticality: Criticality::Critical,
        base: None,
        roster: roster.digest(),
        rules: rules.digest(),
        proposed_ms: now_ms - 10_000,
        effective_ms: now_ms,
        approve_by_ms: now_ms - 1_500,
        apply_by_ms: now_ms + 300_000,
        until_ms: None,
        slew: Resources::default(),
        on_pressure: OnPressure::Proceed,
        nonce: [7; 16],
        inputs: Vec::new(),
        covers: vec![cover],
        document: format!("name = '{name}'\n"),
    }
}

#[test]
fn a_genuine_decision_serves_neither_beyond_its_span_nor_for_another_host_nor_after_its_time() {
    let people = People::new(["alice", "bob", "carol"]);
    let world = scene(&people);
    if !world.kernel().lets_us_limit_or_is_left_out(&format!("{}-probe", world.host(0).cgroup())).unwrap() {
        return;
    }
    let group = Group::start(&world);
    let own = world.host(0).id().unwrap();
    let decided = |name: &str, host: HostId, edit: &dyn Fn(&mut Change)| {
        let mut change = change(&world, &people, name, (&group.path, host));
        edit(&mut change);
        // Ten seconds before now it was proposed, and it could be approved until some seconds ago.
        people.decide(&change, if name == "late" { change.approve_by_ms + 1 } else { change.proposed_ms + 5_000 })
    };
    let genuine = decided("genuine", own, &|_| {});
    let elsewhere = decided("elsewhere", HostId::new([9; 32]), &|_| {});
    // Approved when its time for that was over.
    let late = decided("late", own, &|_| {});

    let stolen = Stolen {
        ca: StolenCa::copied_from(&world.offline_dir()).unwrap(),
        host_key: StolenKey::copied_from(&world.host(0).state_dir()).unwrap(),
    };
    let proxy = Proxy::start(world.runtime().handle(), &stolen, &world.verifier_url()).unwrap();
    world.host(0).road().unwrap().turn_to(proxy.address());
    let attacks = [
        ("beyond its span", 10, &genuine, "it is not within its quorum decision over policy `genuine`"),
        ("for another host", 50, &elsewhere, "it is not within its quorum decision over policy `elsewhere`"),
        ("after its time", 50, &late, "its quorum decision does not hold"),
    ];
    let squeeze = |what: &str, value, decision: &[u8], above_generation| {
        let plan = PlanId::of(&[what.as_bytes()]);
        let (target, control) = (Target::Cgroup(group.path.clone()), ShapedControl::CpuWeight);
        let squeeze = Squeeze { plan, target, control, value, decision: Some(decision.to_vec()), above_generation };
        proxy.squeeze(squeeze, stolen_grant_key(&world.path("verifier")).unwrap());
        plan
    };
    for (place, (what, value, decision, why)) in (0..).zip(attacks) {
        let plan = squeeze(what, value, decision, place);
        let refused = world.wait(what, PATIENCE, |world| {
            let view = world.agent_view(0)?;
            assert!(view.targets.iter().all(|target| target.plan != plan), "{what}: it was followed");
            // For a moment it is one that has not begun.
            let mut left = view.not_followed.into_iter().filter(|left| left.plan == plan);
            Ok(left.find(|left| left.why.contains("quorum decision")))
        });
        let refused = refused.unwrap().why;
        assert!(refused.contains(why), "{what}: {refused}");
    }
    // Nothing else was wrong with them: what was decided is done.
    let plan = squeeze("what was decided", 50, &genuine, 10);
    let followed = world.wait("what was decided to be done", PATIENCE, |world| {
        let view = world.agent_view(0)?;
        Ok(view.targets.into_iter().find(|target| target.plan == plan && !target.controls.is_empty()))
    });
    assert_eq!(followed.unwrap().controls[0].target, Some(50));
}

#[test]
fn when_those_who_decide_are_gone_the_root_begins_anew_and_hosts_follow_it() {
    let mut world = scene(&People::new(["alice", "bob", "carol"]));
    let others = People::new(["gina", "hans", "ida"]);
    let (roster, rules) = (world.path("roster-2.toml"), world.path("rules-2.toml"));
    std::fs::write(&roster, others.roster(2)).unwrap();
    std::fs::write(&rules, RULES).unwrap();
    world.stop_verifier().unwrap();
    let authority = |world: &World, again: bool| {
        let mut command = Command::new(world.binaries().path("quotary-verifier"));
        command.arg("authority").arg("--config").arg(world.verifier_config());
        command.arg("--offline-dir").arg(world.offline_dir()).arg("--roster").arg(&roster).arg("--rules").arg(&rules);
        command.args(again.then_some("--again")).output().unwrap()
    };
    let refused = authority(&world, false);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a roster is in force already"), "{refused:?}");
    let begun = authority(&world, true);
    assert!(begun.status.success(), "{begun:?}");
    world.start_verifier().unwrap();
    wait_for_authority(&world, 1);
    let shown = world.cli_ok(&["policy", "authority", "--document", "roster"]).unwrap();
    assert!(shown.contains("gina") && !shown.contains("alice"), "{shown}");
    let _report = world.cli_ok(&["audit", "verify"]).unwrap();
}
