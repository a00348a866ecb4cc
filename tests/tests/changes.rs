//! A policy from its proposal to its revocation: who decides, what is signed, what hosts are given, and what a kill leaves.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use quotary_client::Client;
use quotary_common::envelope::{
    ApplicationReport, BackendKind, CgroupPath, ControlValue, EnforcementWrite, Event, EventKind, Mode, Name,
};
use quotary_common::id::Digest;
use quotary_common::leaf::Decision;
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::plan::{ShapedControl, Target};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::coverage::{TargetFacts, covers};
use quotary_common::quorum::decision::verify;
use quotary_common::sign::{PublicKey, Signed};
use quotary_common::wire::{
    AskAuthority, CastVote, ChangeRequest, ChangeSubject, ChangeView, ListPolicies, ListQuorumDecisions,
    MakeOperatorToken, Nothing, OperatorTokenRequest, PreviewChange, ProposeChange, Right, ShapedControlView,
    ShowChange, ShowCheckpoint, ShowQuorumDecision, VoteRequest, WithdrawChange,
};
use quotary_tests::host::{DrivenHost, Operator, backend, boottime_ms, reason_of};
use quotary_tests::world::{Application, KeyKind, Options, PATIENCE, Run, Signer, Timing, World};

const UID: u32 = 23_456;
const CGROUP: &str = "/system.slice/web.service";
const GIB: u64 = 1 << 30;

const RULES: &str = "version = 1\n\
    [criticality.critical]\napprovals = 2\napprovers = [\"operator\", \"security\"]\nroles = { security = 1 }\n\
    approve_within_s = 600\napply_within_s = 600\ndelay_s_min = 1\n\
    [freeze]\nrole = \"operator\"\nlasts_s_max = 60\nreview_within_s = 600\nreview_approvals = 1\n";

fn policy(version: u64, memory_bytes: u64) -> String {
    format!(
        "name = \"web-memory\"\nversion = {version}\ncriticality = \"high\"\n\
         [select]\napplication = \"web\"\n[limit]\nmemory_bytes = {memory_bytes}\n\
         [[thresholds]]\nresource = \"memory\"\nabove_percent = 90\nfor_s = 1\nthen = \"review\"\n"
    )
}

/// A person with keys.
struct Person {
    name: &'static str,
    role: &'static str,
    keys: Vec<Signer>,
}

fn roster(people: &[Person]) -> String {
    let key = |key: &Signer| format!("[[people.keys]]\nkey = \"{}\"\n", key.public());
    let person = |person: &Person| {
        let keys: String = person.keys.iter().map(key).collect();
        format!("[[people]]\nname = \"{}\"\nroles = [\"{}\"]\n{keys}", person.name, person.role)
    };
    format!("version = 1\n{}", people.iter().map(person).collect::<String>())
}

struct Scene {
    world: World,
    operator: Operator,
    people: Vec<Person>,
    host: DrivenHost,
    /// Where the keys are.
    _keys: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(RULES, 0)
    }

    /// One with so many hosts whose agents can be started.
    fn with(rules: &str, agents: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let person = |name: &'static str, role: &'static str, count: usize| {
            let key = |index| Signer::make(directory.path(), &format!("{name}-{index}"), KeyKind::Ed25519).unwrap();
            Person { name, role, keys: (0..count).map(key).collect() }
        };
        let people = vec![person("alice", "operator", 1), person("bob", "operator", 2), person("carol", "security", 1)];
        let options = Options {
            timing: Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK },
            applications: vec![Application::of_uid("web", "shop", UID)],
            authority: Some((roster(&people), rules.to_owned())),
            ..Options::quick(agents)
        };
        let mut world = World::new(options).unwrap();
        world.start_verifier().unwrap();
        let operator = Operator::of(&world).unwrap();
        let mut host = world.runtime().block_on(operator.host("a")).unwrap();
        host.backend = backend(BackendKind::Systemd, Mode::Enforce);
        Self { world, operator, people, host, _keys: directory }
    }

    /// A client with a token in somebody's name.
    fn as_person(&self, name: &str) -> Client {
        let request = OperatorTokenRequest {
            name: name.to_owned(),
            rights: vec![Right::Change, Right::Read],
            valid_for_ms: 600_000,
        };
        let token = self.world.runtime().block_on(self.operator.client.call::<MakeOperatorToken>(&[], &request));
        self.operator.with_token(Some(&token.unwrap().token)).unwrap()
    }

    fn person(&self, name: &str) -> &Person {
        self.people.iter().find(|person| person.name == name).unwrap()
    }

    fn propose(&self, subject: ChangeSubject, in_ms: u64) -> ChangeView {
        let now_ms = self.world.runtime().block_on(self.operator.status()).unwrap().now_ms;
        let request = ChangeRequest {
            subject,
            way: None,
            lasts_ms: None,
            effective_at_ms: Some(now_ms + in_ms),
            inputs: Vec::new(),
        };
        self.world.runtime().block_on(self.as_person("alice").call::<ProposeChange>(&[], &request)).unwrap()
    }

    fn show(&self, id: &str) -> ChangeView {
        self.world.runtime().block_on(self.operator.client.call::<ShowChange>(&[id], &Nothing {})).unwrap()
    }

    /// A vote with one of somebody's keys, over the exported text.
    fn vote(&self, change: &ChangeView, name: &str, key: usize, verb: &str) -> ChangeView {
        let file = self.world.path(&format!("{}.change", change.summary.id));
        std::fs::write(&file, &change.text).unwrap();
        let namespace = format!("quotary-{verb}-v1@{}", change.namespace);
        let signature = self.person(name).keys[key].sign(&namespace, &file).unwrap();
        let signature = std::fs::read_to_string(signature).unwrap();
        let request = VoteRequest { verb: verb.to_owned(), signature };
        let (client, path) = (self.as_person("alice"), [change.summary.id.as_str()]);
        self.world.runtime().block_on(client.call::<CastVote>(&path, &request)).unwrap()
    }

    /// One evidence that says that the service uses memory.
    fn attest(&mut self) {
        self.world.runtime().block_on(attest(&mut self.host));
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.until_with(what, |_| (), is_so);
    }

    /// The same, with something that is done before each evidence.
    fn until_with(&mut self, what: &str, before: impl Fn(&mut Self), is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            before(self);
            self.attest();
            if is_so(self) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn plans(&self) -> usize {
        self.host.plans.len()
    }
}

/// One evidence of a host whose service uses a gibibyte of memory.
async fn attest(host: &mut DrivenHost) {
    let now_ms = boottime_ms().unwrap();
    let window = |metric, value| MetricWindow {
        metric,
        start_ms: now_ms - 1_000,
        duration_ms: 1_000,
        samples: 1,
        mean: value,
        max: value,
        p95: value,
        label: None,
    };
    let windows = || MetricWindows::new(&[window(Metric::MemoryBytes, GIB)]).unwrap();
    let web = ApplicationReport {
        cgroup: CgroupPath::lossy(CGROUP),
        unit: Some(Name::lossy("web.service")),
        uid: Some(UID),
        grant: None,
        windows: windows(),
    };
    host.load = (windows(), vec![web]);
    host.attest().await.unwrap();
}

/// The host is told of a change that is in force, and of no other, and is shown what it is told of; what stands for it.
fn shown_as_told(scene: &Scene, change: &ChangeView, pin: &Authority) -> Option<Digest> {
    let (runtime, client, path) = (scene.world.runtime(), &scene.host.client, scene.host.id.hex());
    let told = runtime.block_on(client.call::<ListQuorumDecisions>(&[&path], &Nothing {})).unwrap();
    assert_eq!(told.texts, [change.sha256]);
    let show = |text: Digest| runtime.block_on(client.call::<ShowQuorumDecision>(&[&path, &text.hex()], &Nothing {}));
    let now_ms = runtime.block_on(scene.operator.status()).unwrap().now_ms;
    let shown = verify(&show(change.sha256).unwrap().decision.0, pin, &scene.host.deployment, now_ms).unwrap();
    assert_eq!(shown.text().digest(), change.sha256);
    assert_eq!(reason_of(&show(Digest::of(&[b"other"]))).unwrap().code(), "not-found");
    told.name
}

#[test]
fn a_policy_is_decided_by_people_given_to_hosts_with_its_decision_and_revoked() {
    let mut scene = Scene::new();
    scene.until("the service is seen", |scene| scene.plans() == 0);

    // What nobody on the roster asks for, and what does not hold together, is refused; nothing of it stays.
    let stranger = scene.as_person("mallory");
    let bad = ChangeRequest {
        subject: ChangeSubject::Policy("name = \"x\"".to_owned()),
        way: None,
        lasts_ms: None,
        effective_at_ms: None,
        inputs: Vec::new(),
    };
    let runtime = scene.world.runtime().handle().clone();
    let refused = runtime.block_on(stranger.call::<ProposeChange>(&[], &bad));
    assert_eq!(reason_of(&refused).unwrap().code(), "forbidden");
    let refused = runtime.block_on(scene.as_person("alice").call::<ProposeChange>(&[], &bad));
    assert_eq!(reason_of(&refused).unwrap().code(), "malformed", "{refused:?}");

    // Proposed: the impact is there before anybody approves, and the plan can be looked at.
    let change = scene.propose(ChangeSubject::Policy(policy(1, 512 << 20)), 12_000);
    let id = change.summary.id.clone();
    assert_eq!((change.summary.state.as_str(), change.summary.requester.as_str()), ("approving", "alice"));
    assert!(change.impact.iter().any(|line| line.contains("throttled") || line.contains("web of shop")), "{change:?}");
    let preview = runtime.block_on(scene.operator.client.call::<PreviewChange>(&[&id], &Nothing {})).unwrap();
    assert!(!preview.given && preview.courses.len() == 1, "{preview:?}");
    assert_eq!(preview.courses[0].control, ShapedControl::MemoryHigh);
    assert_eq!(preview.courses[0].setpoints.last().unwrap().value, 512 << 20);

    // The requester's own approval, and a second key of one person, count for nothing.
    let own = scene.vote(&change, "alice", 0, "approval");
    assert!(own.votes.iter().all(|vote| !vote.counted), "{:?}", own.votes);
    let _first = scene.vote(&change, "bob", 0, "approval");
    let second = scene.vote(&change, "bob", 1, "approval");
    assert_eq!(second.votes.iter().filter(|vote| vote.counted).count(), 1, "{:?}", second.votes);
    assert_eq!(second.summary.state, "approving");
    // Killed here, nothing is lost.
    scene.world.kill_verifier();
    scene.world.start_verifier().unwrap();
    assert_eq!(scene.show(&id).votes.len(), 3);
    let approved = scene.vote(&change, "carol", 0, "approval");
    assert!(["approved", "shaping"].contains(&approved.summary.state.as_str()), "{approved:?}");

    // The host is given a plan that carries the decision, which holds under what the root signed.
    scene.until("a plan", |scene| scene.plans() == 1);
    let authority = runtime.block_on(scene.host.client.call::<AskAuthority>(&[&scene.host.id.hex()], &Nothing {}));
    let authority = authority.unwrap();
    let told = runtime.block_on(scene.operator.client.call::<ShowCheckpoint>(&[], &Nothing {})).unwrap().root_key;
    let root = PublicKey(data_encoding::HEXLOWER.decode(told.as_bytes()).unwrap().try_into().unwrap());
    let signed = Signed::from_bytes(&authority.genesis.0).unwrap();
    let pin = Authority::genesis(&signed, &root, &scene.host.deployment).unwrap();
    let given = scene.host.plans[0].checked().clone();
    let plan = given.plan();
    let now_ms = runtime.block_on(scene.operator.status()).unwrap().now_ms;
    let decision = verify(plan.decision.as_deref().unwrap(), &pin, &scene.host.deployment, now_ms).unwrap();
    let facts = TargetFacts {
        host: scene.host.id,
        unit: Some(Name::lossy("web.service")),
        cgroup: CgroupPath::lossy("/system.slice/web.service"),
        uid: Some(UID),
        actual: Default::default(),
        present: Default::default(),
        now_ms,
    };
    covers(&decision, &given, &facts).unwrap();
    let other = TargetFacts { uid: Some(UID + 1), ..facts.clone() };
    assert!(covers(&decision, &given, &other).is_err());
    assert_eq!(plan.target, Target::Unit(Name::lossy("web.service")));
    assert_eq!(given.target_value(ShapedControl::MemoryHigh), Some(512 << 20));
    assert_eq!(plan.effective_at_ms, change.summary.effective_at_ms);

    // In force at its effective time, and not before.
    assert!(runtime.block_on(scene.operator.client.call::<ListPolicies>(&[], &Nothing {})).unwrap().is_empty());
    let in_force = |scene: &Scene| scene.show(&id).summary.state == "in force";
    scene.until("in force", in_force);
    let policies = runtime.block_on(scene.operator.client.call::<ListPolicies>(&[], &Nothing {})).unwrap();
    assert_eq!(policies[0].document.text, policy(1, 512 << 20));
    assert_eq!(policies[0].holds_for.len(), 1);
    let told = shown_as_told(&scene, &change, &pin);

    // It uses twice what it may have: a review, with a document that would do.
    let listed = |scene: &Scene| {
        scene.world.runtime().block_on(scene.operator.client.call::<ListPolicies>(&[], &Nothing {})).unwrap()
    };
    scene.until("a review", |scene| !listed(scene)[0].drafts.is_empty());
    let seen = &listed(&scene)[0];
    assert!(seen.watched[0].contains("web.service") && seen.watched[0].contains("200 %"), "{seen:?}");
    assert!(seen.drafts[0].contains("version = 2"), "{seen:?}");

    // Revoked by a change of its own: the plan ends.
    let revocation = scene.propose(ChangeSubject::Revoke("web-memory".to_owned()), 4_000);
    let _bob = scene.vote(&revocation, "bob", 0, "approval");
    let _carol = scene.vote(&revocation, "carol", 0, "approval");
    scene.until("no plan any more", |scene| scene.plans() == 0);
    assert_eq!(scene.show(&id).summary.state, "revoked");
    assert!(runtime.block_on(scene.operator.client.call::<ListPolicies>(&[], &Nothing {})).unwrap().is_empty());
    assert_ne!(shown_as_told(&scene, &revocation, &pin), told);

    // All of it stands in the log, from leaf 0 on.
    let leaves = runtime.block_on(scene.operator.leaves(0)).unwrap();
    assert!(matches!(&leaves[0].decision, Decision::Genesis(genesis) if genesis.authority.is_some()));
    let states: Vec<String> = leaves
        .iter()
        .filter_map(|leaf| match &leaf.decision {
            Decision::ChangeMoved(moved) if moved.change.to_string() == id => Some(moved.state.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(states, ["proposed", "approving", "approved", "shaping", "in force", "revoked"]);
    let votes = leaves.iter().filter(|leaf| matches!(leaf.decision, Decision::VoteCast(_))).count();
    assert_eq!(votes, 6);
    let _report = scene.world.cli_ok(&["audit", "verify"]).unwrap();
}

#[test]
fn what_moves_can_be_held_and_taken_back_and_what_held_before_goes_on_holding() {
    let mut scene = Scene::new();
    scene.until("the service is seen", |scene| scene.plans() == 0);
    let runtime = scene.world.runtime().handle().clone();
    let decide = |scene: &Scene, change: &ChangeView| {
        let _bob = scene.vote(change, "bob", 0, "approval");
        scene.vote(change, "carol", 0, "approval")
    };
    let first = scene.propose(ChangeSubject::Policy(policy(1, 2 * GIB)), 5_000);
    let _approved = decide(&scene, &first);
    let first = first.summary.id;
    scene.until("the first in force", |scene| scene.show(&first).summary.state == "in force");
    let second = scene.propose(ChangeSubject::Policy(policy(2, GIB)), 30_000);
    let _approved = decide(&scene, &second);
    let id = second.summary.id.clone();
    let target = |scene: &Scene| {
        scene.host.plans.first().and_then(|plan| plan.checked().target_value(ShapedControl::MemoryHigh))
    };
    scene.until("it moves", |scene| target(scene) == Some(GIB));

    // One operator holds it where it is, for a time; then it goes on.
    let still = |scene: &Scene| {
        let plan = scene.host.plans.first()?.checked();
        let value = plan.target_value(ShapedControl::MemoryHigh)?;
        (GIB < value && value < 2 * GIB && plan.plan().courses[0].setpoints.len() == 1).then_some(value)
    };
    let hold = ChangeRequest {
        subject: ChangeSubject::Freeze(id.clone()),
        way: None,
        lasts_ms: Some(6_000),
        effective_at_ms: None,
        inputs: Vec::new(),
    };
    std::thread::sleep(Duration::from_secs(3));
    let freeze = runtime.block_on(scene.as_person("alice").call::<ProposeChange>(&[], &hold)).unwrap();
    assert_eq!((freeze.summary.way.as_str(), freeze.summary.state.as_str()), ("freeze", "approving"), "{freeze:?}");
    let _by_who_asked = scene.vote(&freeze, "alice", 0, "approval");
    scene.until("it stands still", |scene| still(scene).is_some());
    let held = scene.show(&id).summary;
    assert!(held.state == "shaping" && held.why.as_ref().unwrap().contains("held where it is until"), "{held:?}");
    scene.until("it goes on", |scene| target(scene) == Some(GIB));
    let over = scene.show(&freeze.summary.id).summary.state;
    assert_eq!(over, "ended");
    let reviewed = scene.vote(&freeze, "carol", 0, "review");
    assert!(reviewed.votes.iter().any(|vote| vote.verb == "review"));

    let refused = runtime.block_on(scene.as_person("bob").call::<WithdrawChange>(&[&id], &Nothing {}));
    assert_eq!(reason_of(&refused).unwrap().code(), "forbidden");
    let withdrawn = runtime.block_on(scene.as_person("alice").call::<WithdrawChange>(&[&id], &Nothing {})).unwrap();
    assert_eq!(withdrawn.summary.state, "withdrawn");
    scene.until("it goes back", |scene| target(scene) == Some(2 * GIB));
    let policies = runtime.block_on(scene.operator.client.call::<ListPolicies>(&[], &Nothing {})).unwrap();
    assert_eq!(policies[0].document.version, 1);
    // By what held before, and so past the time at which the change would have come into force.
    let decision = scene.host.plans[0].checked().plan().decision.clone().unwrap();
    let text = scene.show(&first).text;
    assert!(decision.windows(text.len()).any(|part| part == text.as_bytes()));
    let past = |scene: &Scene| {
        let now_ms = scene.world.runtime().block_on(scene.operator.status()).unwrap().now_ms;
        now_ms > second.summary.effective_at_ms + 3_000
    };
    scene.until("past its time", |scene| {
        assert_eq!(target(scene), Some(2 * GIB));
        past(scene)
    });
}

/// What was read back of `memory.high`, under the plan that the host has.
fn read_back(host: &DrivenHost, value: u64) -> EnforcementWrite {
    let value = ControlValue::lossy(&value.to_string());
    EnforcementWrite {
        plan: Some(host.plans[0].checked().plan().id),
        grant: None,
        cgroup: CgroupPath::lossy(CGROUP),
        backend: BackendKind::Systemd,
        control: Name::lossy(ShapedControl::MemoryHigh.file_name()),
        before: None,
        after: value.clone(),
        actual: Some(value),
        effective: true,
        at_ms: boottime_ms().unwrap(),
        dry_run: false,
    }
}

#[test]
fn a_plan_whose_host_stands_elsewhere_is_made_anew_to_the_same_end_though_the_verifier_was_killed() {
    let mut scene = Scene::new();
    scene.attest();
    let change = scene.propose(ChangeSubject::Policy(policy(1, 512 << 20)), 90_000);
    let _bob = scene.vote(&change, "bob", 0, "approval");
    let _carol = scene.vote(&change, "carol", 0, "approval");
    scene.until("a plan", |scene| scene.plans() == 1);
    // What it was made for is forgotten.
    scene.world.kill_verifier();
    scene.world.start_verifier().unwrap();
    scene.until("it is given again", |scene| scene.plans() == 1);
    let first = scene.host.plans[0].checked().plan().clone();
    let stuck = 2 * GIB;
    scene.until_with(
        "another plan",
        |scene| scene.host.writes = vec![read_back(&scene.host, stuck)],
        |scene| scene.host.plans[0].checked().plan().id != first.id,
    );
    let anew = scene.host.plans[0].checked().plan();
    assert_eq!((anew.effective_at_ms, &anew.decision), (first.effective_at_ms, &first.decision));
    assert!(anew.generation > first.generation && anew.starts_at_ms > first.starts_at_ms);
    assert_eq!(scene.host.plans[0].checked().target_value(ShapedControl::MemoryHigh), Some(512 << 20));
    let why = scene.show(&change.summary.id).summary.why.unwrap();
    assert!(why.contains(&format!("memory-high is {stuck}, and its plan has ")), "{why}");
}

#[test]
fn what_starts_on_an_old_host_after_the_apply_by_time_is_under_its_policy_all_the_same() {
    let mut scene = Scene::with(&RULES.replace("_within_s = 600\ndelay", "_within_s = 8\ndelay"), 1);
    let probe = format!("{}-probe", scene.world.host(0).cgroup());
    if !scene.world.kernel().lets_us_limit_or_is_left_out(&probe).unwrap() {
        return;
    }
    scene.world.start_agent(0).unwrap();
    scene.world.wait_for_trust(0, PATIENCE).unwrap();
    let change = scene.propose(ChangeSubject::Policy(policy(1, 96 << 20)), 4_000);
    let _bob = scene.vote(&change, "bob", 0, "approval");
    let _carol = scene.vote(&change, "carol", 0, "approval");
    let id = change.summary.id;
    let past = |world: &World| {
        let (operator, id) = (&scene.operator, [id.as_str()]);
        let shown = world.runtime().block_on(operator.client.call::<ShowChange>(&id, &Nothing {}))?;
        let now_ms = world.runtime().block_on(operator.status())?.now_ms;
        let is_under_way = ["approved", "shaping", "in force"].contains(&shown.summary.state.as_str());
        assert!(is_under_way, "{shown:?}");
        Ok((shown.summary.state == "in force" && now_ms > shown.summary.apply_by_ms + 1_000).then_some(()))
    };
    scene.world.wait("the apply-by time to be past", PATIENCE, past).unwrap();

    let asked = ["--if-unavailable", "fail", "--cpu", "100m", "--memory", "160MiB"];
    let run = Run::new(0, &asked, ["sleep", "600"]).as_uid(Some(UID));
    let _run = scene.world.start_run("web", &run).unwrap();
    let followed = scene.world.wait("its plan to be followed", PATIENCE, |world| {
        let view = world.agent_view(0)?;
        let refused = view.not_followed.iter().find(|left| left.why.contains("quorum decision"));
        assert!(refused.is_none(), "{refused:?}");
        let memory = |control: &&ShapedControlView| control.control == ShapedControl::MemoryHigh;
        Ok(view.targets.iter().find_map(|target| target.controls.iter().find(memory).cloned()))
    });
    assert_eq!(followed.unwrap().target, Some(96 << 20));
}

#[test]
fn a_roll_out_goes_to_some_hosts_first_and_stops_where_something_is_killed() {
    let mut scene = Scene::new();
    let runtime = scene.world.runtime().handle().clone();
    let mut other = runtime.block_on(scene.operator.host("b")).unwrap();
    other.backend = backend(BackendKind::Systemd, Mode::Enforce);
    runtime.block_on(attest(&mut other));
    scene.attest();
    let staged = format!("{}[shaping]\nrollout_percent = [50, 100]\n", policy(1, 512 << 20));
    let change = scene.propose(ChangeSubject::Policy(staged), 60_000);
    let _bob = scene.vote(&change, "bob", 0, "approval");
    let _carol = scene.vote(&change, "carol", 0, "approval");
    let id = change.summary.id;
    let begun = Instant::now();
    let mut both = |scene: &mut Scene, killed: bool| {
        assert!(begun.elapsed() < PATIENCE, "{:?}", scene.show(&id));
        let first_has = scene.plans() > 0;
        let killing = if first_has { &mut scene.host } else { &mut other };
        if killed {
            let (cgroup, at_ms) = (Some(CgroupPath::lossy(CGROUP)), boottime_ms().unwrap());
            killing.events = vec![Event { kind: EventKind::OomKill, cgroup, count: 1, at_ms }];
        }
        runtime.block_on(attest(&mut other));
        scene.attest();
        scene.host.events.clear();
        other.events.clear();
        std::thread::sleep(Duration::from_millis(200));
        (scene.plans(), other.plans.len())
    };
    while both(&mut scene, false) == (0, 0) {}
    for _ in 0..10 {
        let (one, two) = both(&mut scene, false);
        assert_eq!(one + two, 1, "one host has it for now");
    }
    let _killed = both(&mut scene, true);
    while scene.show(&id).summary.state != "rejected" {
        let (one, two) = both(&mut scene, false);
        assert_eq!(one + two, 1, "the other never gets it");
    }
    assert!(scene.show(&id).summary.why.unwrap().contains("were out of memory once in one stage"));
    // Nothing limited it before: what was there holds again.
    while both(&mut scene, false) != (0, 0) {}
}
