//! An emergency at a running verifier: proposed, the glass broken by the few, in force, ended by itself, what was before back, reviewed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use quotary_client::Client;
use quotary_common::cbor::Bounded;
use quotary_common::envelope::{
    ApplicationReport, BackendKind, CgroupPath, ControlState, Mode, Name, PendingRequest, Support,
};
use quotary_common::id::ChangeId;
use quotary_common::leaf::Decision;
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::plan::ShapedControl;
use quotary_common::wire::{
    CastVote, ChangeRequest, ChangeSubject, ChangeView, ListPolicies, MakeOperatorToken, Nothing, OperatorTokenRequest,
    ProposeChange, Right, ShowChange, VoteRequest,
};
use quotary_tests::host::{DrivenHost, Operator, backend, boottime_ms, request};
use quotary_tests::world::{Application, KeyKind, Options, PATIENCE, Signer, Timing, World};

const UID: u32 = 23_457;
const GIB: u64 = 1 << 30;
/// How long the emergency lasts, ms: plans take ten seconds where the effective time has come.
const LASTS_MS: u64 = 20_000;
const RULES: &str = "version = 1\n\
    [criticality.critical]\napprovals = 1\napprovers = [\"operator\", \"security\"]\n\
    approve_within_s = 600\napply_within_s = 600\ndelay_s_min = 1\n\
    [break_glass]\nrole = \"on-call\"\napprovals = 2\nlasts_s_max = 60\nreview_within_s = 600\nreview_approvals = 1\n";
const PEOPLE: [(&str, &str); 5] =
    [("alice", "operator"), ("bob", "operator"), ("carol", "security"), ("erin", "on-call"), ("frank", "on-call")];

fn policy(version: u64, memory_bytes: u64) -> ChangeSubject {
    ChangeSubject::Policy(format!(
        "name = \"web-memory\"\nversion = {version}\ncriticality = \"high\"\n\
         [select]\napplication = \"web\"\n[limit]\nmemory_bytes = {memory_bytes}\ndisk_bytes_per_second = 1000000\n"
    ))
}

struct Scene {
    world: World,
    operator: Operator,
    keys: Vec<(&'static str, Signer)>,
    host: DrivenHost,
    /// Bytes of memory that its one grant has.
    granted: Option<u64>,
    /// Where the keys are.
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = |(name, _)| (name, Signer::make(directory.path(), name, KeyKind::Ed25519).unwrap());
        let keys: Vec<(&str, Signer)> = PEOPLE.into_iter().map(key).collect();
        let person = |((name, role), (_, key)): (&(&str, &str), &(&str, Signer))| {
            let key = key.public();
            format!("[[people]]\nname = \"{name}\"\nroles = [\"{role}\"]\n[[people.keys]]\nkey = \"{key}\"\n")
        };
        let roster = format!("version = 1\n{}", PEOPLE.iter().zip(&keys).map(person).collect::<String>());
        let options = Options {
            timing: Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK },
            applications: vec![Application::of_uid("web", "shop", UID)],
            authority: Some((roster, RULES.to_owned())),
            ..Options::quick(0)
        };
        let mut world = World::new(options).unwrap();
        world.start_verifier().unwrap();
        let operator = Operator::of(&world).unwrap();
        let mut host = world.runtime().block_on(operator.host("a")).unwrap();
        host.backend = backend(BackendKind::Systemd, Mode::Enforce);
        let lacks = |control: ShapedControl| ControlState {
            control: Name::lossy(control.file_name()),
            support: Support::Unsupported,
        };
        host.backend.controls = Bounded::new(vec![lacks(ShapedControl::IoReadMax)]).unwrap();
        host.requests = vec![PendingRequest { uid: UID, ..request("one", 100, 4 * GIB) }];
        Self { world, operator, keys, host, granted: None, _directory: directory }
    }

    fn as_alice(&self) -> Client {
        let request = OperatorTokenRequest {
            name: "alice".to_owned(),
            rights: vec![Right::Change, Right::Read],
            valid_for_ms: 600_000,
        };
        let token = self.world.runtime().block_on(self.operator.client.call::<MakeOperatorToken>(&[], &request));
        self.operator.with_token(Some(&token.unwrap().token)).unwrap()
    }

    fn propose(&self, subject: ChangeSubject, lasts_ms: Option<u64>) -> ChangeView {
        let now_ms = self.world.runtime().block_on(self.operator.status()).unwrap().now_ms;
        let request = ChangeRequest {
            subject,
            way: lasts_ms.map(|_| "break-glass".to_owned()),
            lasts_ms,
            effective_at_ms: lasts_ms.is_none().then_some(now_ms + 3_000),
            inputs: Vec::new(),
        };
        self.world.runtime().block_on(self.as_alice().call::<ProposeChange>(&[], &request)).unwrap()
    }

    fn show(&self, id: &str) -> ChangeView {
        self.world.runtime().block_on(self.operator.client.call::<ShowChange>(&[id], &Nothing {})).unwrap()
    }

    /// A vote over the exported text.
    fn vote(&self, change: &ChangeView, name: &str, verb: &str) -> ChangeView {
        let file = self.world.path(&format!("{}.change", change.summary.id));
        std::fs::write(&file, &change.text).unwrap();
        let namespace = format!("quotary-{verb}-v1@{}", change.namespace);
        let (_, key) = self.keys.iter().find(|(one, _)| *one == name).unwrap();
        let signature = std::fs::read_to_string(key.sign(&namespace, &file).unwrap()).unwrap();
        let request = VoteRequest { verb: verb.to_owned(), signature };
        let (client, path) = (self.as_alice(), [change.summary.id.as_str()]);
        self.world.runtime().block_on(client.call::<CastVote>(&path, &request)).unwrap()
    }

    /// One evidence of a service that uses a gibibyte of memory.
    fn attest(&mut self) {
        let now_ms = boottime_ms().unwrap();
        let window = MetricWindow {
            metric: Metric::MemoryBytes,
            start_ms: now_ms - 1_000,
            duration_ms: 1_000,
            samples: 1,
            mean: GIB,
            max: GIB,
            p95: GIB,
            label: None,
        };
        let windows = || MetricWindows::new(std::slice::from_ref(&window)).unwrap();
        let web = ApplicationReport {
            cgroup: CgroupPath::lossy("/system.slice/web.service"),
            unit: Some(Name::lossy("web.service")),
            uid: Some(UID),
            grant: None,
            windows: windows(),
        };
        self.host.load = (windows(), vec![web]);
        let (_, _, set) = self.world.runtime().block_on(self.host.attest()).unwrap();
        self.granted = set.set().grants.first().and_then(|grant| grant.resources.memory_bytes);
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.attest();
            if is_so(self) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Where the plan that the host has takes the memory limit.
    fn target(&self) -> Option<u64> {
        self.host.plans.first().and_then(|plan| plan.checked().target_value(ShapedControl::MemoryHigh))
    }

    fn versions(&self) -> Vec<u64> {
        let listed = self.world.runtime().block_on(self.operator.client.call::<ListPolicies>(&[], &Nothing {}));
        listed.unwrap().iter().map(|policy| policy.document.version).collect()
    }
}

#[test]
fn an_emergency_holds_for_its_time_gives_back_what_was_before_and_is_reviewed() {
    let mut scene = Scene::new();
    scene.until("the service is seen", |scene| scene.granted == Some(4 * GIB));
    let quiet = scene.propose(policy(1, 2 * GIB), None);
    // What the host cannot do is known before anybody approves, and named with the change after.
    let is_told = |lines: &[String]| lines.iter().any(|line| line.contains("the host has no such control"));
    assert!(is_told(&quiet.impact), "{:?}", quiet.impact);
    assert_eq!(quiet.review, None);
    let _approved = scene.vote(&quiet, "carol", "approval");
    let quiet = quiet.summary.id;
    scene.until("the first in force", |scene| scene.show(&quiet).summary.state == "in force");
    scene.until("its plan", |scene| scene.target() == Some(2 * GIB));
    assert_eq!(scene.granted, Some(2 * GIB), "grants are cut to it");
    assert!(is_told(&scene.show(&quiet).without_plan), "{:?}", scene.show(&quiet).without_plan);

    let glass = scene.propose(policy(2, 3 * GIB), Some(LASTS_MS));
    let id = glass.summary.id.clone();
    assert_eq!((glass.summary.way.as_str(), glass.summary.state.as_str()), ("break-glass", "approving"));
    assert_eq!(glass.review.as_ref().unwrap().state, "to come");
    // Whom a quiet change asks breaks no glass, and one of the few does not do.
    let other = scene.vote(&glass, "bob", "break-glass");
    assert!(other.votes.iter().all(|vote| !vote.counted), "{:?}", other.votes);
    let one = scene.vote(&glass, "erin", "break-glass");
    assert_eq!((one.summary.state.as_str(), one.note), ("approving", None));
    let again = scene.vote(&glass, "erin", "break-glass");
    assert!(again.note.is_some_and(|note| note.contains("`erin` has said so already")));
    let _two = scene.vote(&glass, "frank", "break-glass");
    scene.until("in force", |scene| scene.show(&id).summary.state == "in force");
    assert_eq!((scene.versions(), scene.show(&quiet).summary.state.as_str()), (vec![2], "revoked"));
    scene.until("the emergency's plan", |scene| scene.target() == Some(3 * GIB));
    assert_eq!(scene.granted, Some(3 * GIB), "what a policy cut grows back as far as policies allow");
    let due = scene.show(&id).review.unwrap();
    assert_eq!((due.state.as_str(), due.missing, due.by), ("due", 1, vec![]));
    assert_eq!(due.may, ["bob", "carol"], "not who asked, nor who broke the glass; who had no say in it may");

    // Killed while it holds, it ends by itself all the same, and what was before holds again.
    scene.world.kill_verifier();
    scene.world.start_verifier().unwrap();
    scene.until("over", |scene| scene.show(&id).summary.state == "revoked");
    assert!(scene.show(&id).summary.until_ms.unwrap() <= scene.show(&id).summary.since_ms);
    assert_eq!((scene.versions(), scene.show(&quiet).summary.state.as_str()), (vec![1], "in force"));
    scene.until("what was before", |scene| scene.target() == Some(2 * GIB));
    assert_eq!(scene.granted, Some(2 * GIB));
    assert!(scene.show(&id).summary.why.unwrap().contains("to be reviewed until"));

    let reviewed = scene.vote(&glass, "carol", "review").review.unwrap();
    assert_eq!((reviewed.state.as_str(), reviewed.missing, reviewed.by), ("done", 0, vec!["carol".to_owned()]));
    let leaves = scene.world.runtime().block_on(scene.operator.leaves(0)).unwrap();
    let id: ChangeId = leaves
        .iter()
        .find_map(|leaf| match &leaf.decision {
            Decision::ChangeMoved(moved) if moved.change.to_string() == id => Some(moved.change),
            _ => None,
        })
        .unwrap();
    let told: Vec<(String, String)> = leaves
        .iter()
        .filter_map(|leaf| match &leaf.decision {
            Decision::ChangeMoved(moved) if moved.change == id => {
                let why = moved.why.as_ref().map(|why| why.as_str().to_owned()).unwrap_or_default();
                Some((moved.state.as_str().to_owned(), why))
            }
            _ => None,
        })
        .collect();
    // Its plans may be made before it holds, or just after: it waits for nobody.
    let states: Vec<&str> = told.iter().map(|(state, _)| state.as_str()).filter(|state| *state != "shaping").collect();
    assert_eq!(states, ["proposed", "approving", "approved", "in force", "revoked", "revoked"]);
    assert_eq!(told.last().unwrap().1, "reviewed in time");
    let votes = leaves.iter().filter(|leaf| matches!(&leaf.decision, Decision::VoteCast(vote) if vote.change == id));
    assert_eq!(votes.count(), 4, "what is said again is no vote");
    let _report = scene.world.cli_ok(&["audit", "verify"]).unwrap();

    // Without any policy the next evidence brings all that was asked for.
    let revocation = scene.propose(ChangeSubject::Revoke("web-memory".to_owned()), None);
    let _approved = scene.vote(&revocation, "carol", "approval");
    scene.until("revoked", |scene| scene.versions().is_empty());
    scene.attest();
    assert_eq!(scene.granted, Some(4 * GIB));
}
