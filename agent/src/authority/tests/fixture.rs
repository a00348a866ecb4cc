//! People with SSH keys made from their names, who decide about a policy for `web.service`.

use std::sync::Arc;

use data_encoding::BASE64;
use quotary_common::cbor::{Bounded, BoundedBytes, Version};
use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::{ChangeId, DeploymentId, Digest, HostId, PlanId, sha256};
use quotary_common::keys::deployment_of;
use quotary_common::plan::{CheckedPlan, Course, OnPressure, Plan, Setpoint, ShapedControl, Target, check};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::change::{Change, ChangeText, Kind, Way};
use quotary_common::quorum::covers::{Cover, Reach, Span};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::decide::Under;
use quotary_common::quorum::decision::{QuorumDecision, verify};
use quotary_common::quorum::roster::{Roster, Word};
use quotary_common::quorum::rules::Rules;
use quotary_common::quorum::ssh::SshSignature;
use quotary_common::quorum::vote::{Verb, Vote};
use quotary_common::units::{Class, Resources};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::authority::{Heard, Lack, Seen, Trust};
use crate::enforce::tests::root_key;
use crate::state::StateDir;

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
/// When plans of the tests begin.
pub(crate) const NOW: u64 = 1_700_000_000_000;
/// When changes of the tests are proposed.
pub(crate) const PROPOSED: u64 = NOW - HOUR_MS;
/// When they take effect.
pub(crate) const EFFECTIVE: u64 = NOW + MINUTE_MS;
pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn deployment() -> DeploymentId {
    deployment_of(&root_key().public())
}

pub(crate) fn host() -> HostId {
    HostId::new([2; 32])
}

fn pair(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&sha256(&[name.as_bytes()])).unwrap()
}

/// Bytes with their length before them, as SSH writes them.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn key(name: &str) -> Vec<u8> {
    [&b"ssh-ed25519"[..], pair(name).public_key().as_ref()].map(string).concat()
}

/// What `ssh-keygen -Y sign` would write, without its armour.
fn signature(person: &str, verb: Verb, text: &ChangeText) -> Vec<u8> {
    let namespace = verb.namespace(&text.change().deployment);
    let hash = ring::digest::digest(&ring::digest::SHA512, text.bytes());
    let parts = [namespace.as_bytes(), b"", b"sha512"];
    let signed = [b"SSHSIG".to_vec(), parts.map(string).concat(), string(hash.as_ref())].concat();
    let raw = [&b"ssh-ed25519"[..], pair(person).sign(&signed).as_ref()].map(string).concat();
    let head = [b"SSHSIG".to_vec(), 1u32.to_be_bytes().to_vec(), string(&key(person))].concat();
    [head, parts.map(string).concat(), string(&raw)].concat()
}

fn vote(person: &str, text: &ChangeText) -> Vote {
    let verb = if text.change().way == Way::BreakGlass { Verb::BreakGlass } else { Verb::Approval };
    let bytes = signature(person, verb, text);
    Vote {
        version: Version,
        person: Word::new(person).unwrap(),
        key: SshSignature::from_bytes(&bytes).unwrap().key().fingerprint(),
        verb,
        text: text.digest(),
        cast_at_ms: PROPOSED + MINUTE_MS,
        signature: BoundedBytes::new(bytes).unwrap(),
    }
}

pub(crate) fn roster_text(version: u64, people: &[&str]) -> String {
    let person = |name: &&str| {
        let key = BASE64.encode(&key(name));
        format!("[[people]]\nname = '{name}'\nroles = ['operator']\n[[people.keys]]\nkey = 'ssh-ed25519 {key} x'\n")
    };
    format!("version = {version}\n{}", people.iter().map(person).collect::<String>())
}

const RULES: &str = "version = 1
[criticality.high]
approvals = 2
approvers = ['operator']
approve_within_s = 86400
apply_within_s = 86400
[criticality.critical]
approvals = 2
approvers = ['operator']
approve_within_s = 86400
apply_within_s = 86400
[break_glass]
role = 'operator'
approvals = 1
lasts_s_max = 86400
review_within_s = 86400
review_approvals = 1
";

/// Who decides: alice asks, bob and carol approve.
pub(crate) struct World {
    roster: Roster,
    rules: Rules,
    number: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(0, &["alice", "bob", "carol"])
    }

    /// After so many changes of the roster.
    pub(crate) fn of(number: u64, people: &[&str]) -> Self {
        let roster = Roster::parse(roster_text(number + 1, people).as_bytes()).unwrap();
        Self { roster, rules: Rules::parse(RULES.as_bytes()).unwrap(), number }
    }

    /// The first ones, with keys that end then, Unix ms.
    pub(crate) fn with_keys_until(until_ms: u64) -> Self {
        let until = quotary_common::instant::rfc3339(until_ms);
        let ends = format!("[[people.keys]]\nvalid_until = '{until}'\n");
        let text = roster_text(1, &["alice", "bob", "carol"]).replace("[[people.keys]]\n", &ends);
        Self { roster: Roster::parse(text.as_bytes()).unwrap(), ..Self::new() }
    }

    pub(crate) fn pin(&self) -> Authority {
        let (roster, rules) = (self.roster.digest(), self.rules.digest());
        Authority { version: Version, deployment: deployment(), number: self.number, roster, rules }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust { pin: Some(self.pin()), ..nobody() }
    }

    /// Whom this host believes when the verifier says what is in force, at an instant.
    pub(crate) fn trust_with(&self, in_force: &[&CheckedPlan], now_ms: u64) -> Trust {
        let heard = |plan: &&CheckedPlan| {
            let bytes = plan.plan().decision.clone().unwrap().to_vec();
            let verified = verify(&bytes, &self.pin(), &deployment(), now_ms).unwrap();
            Arc::new(Heard { bytes, verified, under: self.pin(), as_of_ms: now_ms })
        };
        Trust { heard: in_force.iter().map(heard).collect(), ..self.trust() }
    }

    /// The change of policy `web` that alice asks for, after `edit`: half the CPU, and half of a gigabyte.
    pub(crate) fn text(&self, edit: impl FnOnce(&mut Change)) -> ChangeText {
        let mut change = Change {
            deployment: deployment(),
            id: ChangeId::of(&[b"change"]),
            kind: Kind::AlterPolicy,
            name: Word::new("web").unwrap(),
            way: Way::Quorum,
            requester: Word::new("alice").unwrap(),
            editor: Word::new("alice").unwrap(),
            applier: Word::new("verifier").unwrap(),
            criticality: Criticality::High,
            base: Some(Digest::of(&[b"base"])),
            roster: self.roster.digest(),
            rules: self.rules.digest(),
            proposed_ms: PROPOSED,
            effective_ms: EFFECTIVE,
            approve_by_ms: PROPOSED + HOUR_MS / 2,
            apply_by_ms: NOW + HOUR_MS,
            until_ms: None,
            slew: Resources::default(),
            on_pressure: OnPressure::Hold,
            nonce: [7; 16],
            inputs: Vec::new(),
            covers: vec![cover(Reach::Unit(Name::lossy("web.service")))],
            document: "policy = 'web'\n".to_owned(),
        };
        edit(&mut change);
        ChangeText::render(&change).unwrap()
    }

    /// A decision with the votes of these people, approved ten minutes after it was proposed.
    pub(crate) fn sent(&self, text: &ChangeText, people: &[&str]) -> QuorumDecision {
        let under = || Under { roster: &self.roster, rules: &self.rules };
        let votes = people.iter().map(|person| vote(person, text)).collect();
        QuorumDecision::new(text, votes, (under(), under()), PROPOSED + 10 * MINUTE_MS).unwrap()
    }

    /// The same votes as the verifier sends them when `now` decide.
    pub(crate) fn sent_under(&self, now: &Self, text: &ChangeText, people: &[&str]) -> Vec<u8> {
        let votes = people.iter().map(|person| vote(person, text)).collect();
        let [now, then] = [now, self].map(|world| Under { roster: &world.roster, rules: &world.rules });
        QuorumDecision::new(text, votes, (now, then), PROPOSED + 10 * MINUTE_MS).unwrap().to_bytes()
    }

    /// What bob and carol decided, after `edit`.
    pub(crate) fn decision(&self, edit: impl FnOnce(&mut Change)) -> Vec<u8> {
        self.sent(&self.text(edit), &["bob", "carol"]).to_bytes()
    }

    /// The decision that makes `next` decide.
    pub(crate) fn link(&self, next: &Self, people: &[&str]) -> Vec<u8> {
        let text = self.text(|change| {
            (change.kind, change.name) = (Kind::Roster, Word::new("roster").unwrap());
            (change.criticality, change.base) = (Criticality::Critical, Some(self.roster.digest()));
            (change.covers, change.effective_ms) = (Vec::new(), PROPOSED + 20 * MINUTE_MS);
            change.document = String::from_utf8(next.roster.bytes().to_vec()).unwrap();
        });
        self.sent(&text, people).to_bytes()
    }
}

/// A decision that the verifier said is in force.
pub(crate) fn heard(nonce: u8) -> Arc<Heard> {
    let decision = World::new().decision(|change| change.nonce = [nonce; 16]);
    let plan = plan(Some(decision), ShapedControl::MemoryHigh, 512 * MIB, |_| ());
    World::new().trust_with(&[&plan], EFFECTIVE).heard.remove(0)
}

/// Nobody decides yet.
pub(crate) fn nobody() -> Trust {
    Trust { host: host(), deployment: deployment(), pin: None, since_ms: None, lack: Lack::Nothing, heard: Vec::new() }
}

pub(crate) fn cover(reach: Reach) -> Cover {
    let mut cover = Cover {
        application: Name::lossy("shop"),
        tenant: Name::lossy("acme"),
        host: None,
        reach,
        class: Class::BestEffort,
        guarantee: [None; 5],
        limit: [None; 5],
    };
    cover.guarantee[0] = Some(Span { before: Some(1_000), after: Some(500) });
    cover.limit[1] = Some(Span { before: Some(1_024 * MIB), after: Some(512 * MIB) });
    cover
}

/// A plan of a minute for a control of `web.service`.
pub(crate) fn plan(
    decision: Option<Vec<u8>>,
    control: ShapedControl,
    value: u64,
    edit: impl FnOnce(&mut Plan),
) -> CheckedPlan {
    let setpoints = Bounded::new(vec![Setpoint { at_ms: EFFECTIVE, value }]).unwrap();
    let mut plan = Plan {
        version: Version,
        deployment: deployment(),
        host: host(),
        id: PlanId::new([1; 32]),
        epoch: 1,
        target: Target::Unit(Name::lossy("web.service")),
        generation: 1,
        starts_at_ms: NOW,
        effective_at_ms: EFFECTIVE,
        ends_at_ms: None,
        not_after_ms: EFFECTIVE,
        courses: Bounded::new(vec![Course { control, setpoints }]).unwrap(),
        on_pressure: OnPressure::Hold,
        hold_ms_max: 60_000,
        overrides: false,
        decision,
    };
    edit(&mut plan);
    check(plan).unwrap()
}

/// What the host sees of `web.service`, whose controls stand at these values.
pub(crate) fn seen(present: &[(ShapedControl, u64)]) -> Seen {
    Seen {
        unit: Name::new("web.service"),
        cgroup: CgroupPath::lossy("/system.slice/web.service"),
        uid: None,
        present: present.iter().copied().collect(),
        from: present.iter().copied().collect(),
        stood: present.iter().copied().collect(),
    }
}

/// A state directory in memory.
pub(crate) fn state() -> (tempfile::TempDir, StateDir) {
    let temp = crate::enforce::tests::fake::in_memory();
    let state = StateDir::open(temp.path().join("state")).unwrap();
    (temp, state)
}

/// Puts a directory where the temporary file of a write would be made: as a disk that refuses.
pub(crate) fn refuse_writes(state: &StateDir, file: &str, refuse: bool) {
    let path = state.path().join(format!(".{file}.new"));
    if refuse { std::fs::create_dir(path).unwrap() } else { std::fs::remove_dir(path).unwrap() }
}
