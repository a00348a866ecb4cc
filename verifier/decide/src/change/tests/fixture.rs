//! People with SSH keys made from their names, a host with a service, and a book that is read back from its rows after every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::BASE64;
use quotary_common::cbor::Version;
use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::{ChangeId, DeploymentId, HostId, sha256};
use quotary_common::keys::deployment_of;
use quotary_common::plan::Target;
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::change::Way;
use quotary_common::quorum::roster::{Roster, Word};
use quotary_common::quorum::rules::Rules as QuorumRules;
use quotary_common::quorum::ssh::SshSignature;
use quotary_common::quorum::vote::{SignatureCache, Verb, Vote, check};
use quotary_common::reason::Refusal;
use quotary_common::sign::{Signed, SigningKey};
use quotary_common::units::{Class, Resources};
use quotary_common::wire::ChangeSubject;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::allocate::{Rule, Rules, Selector};
use crate::change::{Asked, Book, Effect, Governing, GoverningFault, Rows, World};
use crate::policy::life::{Input, State};
use crate::policy::{Catalogue, Enforcing, HostFacts, Standing, Unit};

pub(super) const GIB: u64 = 1 << 30;
pub(super) const T0: u64 = 1_790_000_000_000;
pub(super) const MINUTE_MS: u64 = 60_000;
const ROW_BYTES_MAX: usize = 1 << 20;

/// Two approvals, one of them of security, within an hour; a minute at least before anything holds. Glass is broken by two of on-call.
pub(super) const RULES: &str = "version = 1
[criticality.critical]
approvals = 2
roles = { security = 1 }
approvers = ['operator', 'security']
approve_within_s = 3600
apply_within_s = 7200
delay_s_min = 60
[break_glass]
role = 'on-call'
approvals = 2
lasts_s_max = 3600
review_within_s = 3600
review_approvals = 1
[freeze]
role = 'operator'
lasts_s_max = 1800
review_within_s = 3600
review_approvals = 1
";

pub(super) const PEOPLE: [(&str, &str); 6] = [
    ("alice", "operator"),
    ("bob", "operator"),
    ("carol", "security"),
    ("dave", "security"),
    ("erin", "on-call"),
    ("frank", "on-call"),
];

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

/// A roster of these people with so great a version.
pub(super) fn roster(version: u64, people: &[(&str, &str)]) -> String {
    let person = |(name, role): &(&str, &str)| {
        let line = format!("ssh-ed25519 {}", BASE64.encode(&key(name)));
        format!("[[people]]\nname = '{name}'\nroles = ['{role}']\n[[people.keys]]\nkey = '{line}'\n")
    };
    format!("version = {version}\n{}", people.iter().map(person).collect::<String>())
}

pub(super) fn policy(version: u64, memory_bytes: u64) -> ChangeSubject {
    ChangeSubject::Policy(format!(
        "name = 'web-memory'\nversion = {version}\ncriticality = 'high'\n[select]\napplication = 'web'\n[limit]\nmemory_bytes = {memory_bytes}\n"
    ))
}

pub(super) fn revoke() -> ChangeSubject {
    ChangeSubject::Revoke("web-memory".to_owned())
}

fn links_of(governing: &Governing) -> BTreeMap<u64, Vec<u8>> {
    (governing.first_number() + 1..).zip(governing.links().iter().cloned()).collect()
}

fn root() -> SigningKey {
    let mut pkcs8 = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
    pkcs8.extend([7; 32]);
    SigningKey::from_pkcs8(&pkcs8).unwrap()
}

fn deployment() -> DeploymentId {
    deployment_of(&root().public())
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A verifier's book, with the clock in its hand.
pub(super) struct Verifier {
    pub(super) book: Book,
    pub(super) now_ms: u64,
    /// What followed from all steps so far.
    pub(super) effects: Vec<Effect>,
    cache: SignatureCache,
    /// Rows of links from before the root began anew.
    links_before: BTreeMap<u64, Vec<u8>>,
    rules: Rules,
    standing: Standing,
    made: u8,
}

impl Verifier {
    pub(super) fn new() -> Self {
        Self::under(RULES)
    }

    /// One whose quorum rules are these.
    pub(super) fn under(rules: &str) -> Self {
        let roster = Roster::parse(roster(1, &PEOPLE).as_bytes()).unwrap();
        let quorum = QuorumRules::parse(rules.as_bytes()).unwrap();
        let (deployment, root) = (deployment(), root());
        let authority =
            Authority { version: Version, deployment, number: 0, roster: roster.digest(), rules: quorum.digest() };
        let signed = root.sign(&authority).to_bytes();
        let governing =
            Governing::genesis(&signed, (roster.bytes(), quorum.bytes()), (&root.public(), &deployment)).unwrap();
        let mut book = Book::default();
        book.begin(governing).unwrap();
        let rule = Rule {
            application: name("web"),
            tenant: name("shop"),
            selector: Selector { unit: Some("web.service".to_owned()), ..Selector::default() },
            class_best: Class::Burstable,
            quota: Resources::default(),
        };
        let host = HostId::new([2; 32]);
        let capacity = Resources { memory_bytes: Some(16 * GIB), ..Resources::default() };
        let unit = Unit {
            application: name("web"),
            tenant: name("shop"),
            host,
            cgroup: CgroupPath::new("/system.slice/web.service").unwrap(),
            target: Target::Unit(name("web.service")),
            granted: Resources::default(),
            usage: Resources { memory_bytes: Some(GIB), ..Resources::default() },
            peak: Resources::default(),
        };
        let hosts = [(host, HostFacts::new(host, capacity))].into();
        let standing = Standing { hosts, units: vec![unit], overcommit_percent: 100, ..Standing::default() };
        let rules = Rules::new(vec![rule], BTreeMap::new(), 100);
        let (effects, cache, links_before) = (Vec::new(), SignatureCache::default(), BTreeMap::new());
        Self { book, now_ms: T0, effects, cache, links_before, rules, standing, made: 0 }
    }

    /// The host has less memory than it had.
    pub(super) fn shrink_host(&mut self, memory_bytes: u64) {
        for host in self.standing.hosts.values_mut() {
            host.capacity.memory_bytes = Some(memory_bytes);
        }
    }

    /// What the host stated of what it can set; `None`: nothing.
    pub(super) fn enforces(&mut self, enforcing: Option<Enforcing>) {
        let hosts = self.standing.hosts.keys().copied();
        self.standing.enforcing = hosts.filter_map(|host| Some((host, enforcing.clone()?))).collect();
    }

    /// One step with the world of now; then all is written, and read back.
    pub(super) fn step<T>(&mut self, work: impl FnOnce(&mut Book, &World<'_>) -> T) -> T {
        let done = self.unwritten(work);
        self.restart();
        done
    }

    /// One step that is not read back.
    fn unwritten<T>(&mut self, work: impl FnOnce(&mut Book, &World<'_>) -> T) -> T {
        let catalogue = Catalogue {
            tenants: [name("shop")].into(),
            applications: [(name("web"), name("shop"))].into(),
            policies: self.book.policies().keys().cloned().collect(),
            ..Catalogue::default()
        };
        let world = World {
            deployment: deployment(),
            catalogue: &catalogue,
            standing: &self.standing,
            rules: &self.rules,
            now_ms: self.now_ms,
        };
        work(&mut self.book, &world)
    }

    /// So many changes were asked for and taken back, one a millisecond, the last one now; the first of them. None is read back: there are too many.
    pub(super) fn crowd(&mut self, count: u32) -> ChangeId {
        let model = self.propose("alice", &policy(9, GIB), 10).unwrap();
        self.withdraw(model, "alice").unwrap();
        let model = self.book.changes.remove(&model).unwrap();
        let id = |n: u32| ChangeId::of(&[b"crowd", &n.to_be_bytes()]);
        for n in 0..count {
            let mut one = (*model).clone();
            one.record.since_ms = self.now_ms - u64::from(count - n);
            self.book.changes.insert(id(n), Arc::new(one));
        }
        id(0)
    }

    /// Minutes later, and nothing is read back.
    pub(super) fn later_unwritten(&mut self, minutes: u64) {
        self.now_ms += minutes * MINUTE_MS;
        let effects = self.unwritten(|book, world| book.tick(world));
        self.effects.extend(effects);
    }

    /// The book as a restart finds it; it says the same.
    fn restart(&mut self) {
        let old = &self.book;
        let governing = old.governing().unwrap();
        let links = self.links_before.clone().into_iter().chain(links_of(governing)).collect();
        let governing = Governing::from_row(&governing.to_row(), links, ROW_BYTES_MAX).unwrap();
        let rows = Rows {
            governing: Some(governing),
            policies: old.policies().keys().map(|name| old.policy_row(name).unwrap()).collect(),
            changes: old.changes().keys().map(|id| (*id, old.change_row(id).unwrap())).collect(),
        };
        let again = Book::from_rows(rows, ROW_BYTES_MAX).unwrap();
        assert_eq!(again.changes().keys().collect::<Vec<_>>(), old.changes().keys().collect::<Vec<_>>());
        for (id, kept) in old.changes() {
            let read = again.change(id).unwrap();
            assert_eq!((read.record(), read.text(), read.ballot()), (kept.record(), kept.text(), kept.ballot()));
            assert_eq!((read.decision(), read.impact()), (kept.decision(), kept.impact()));
            assert_eq!(read.edit().map(|edit| edit.name()), kept.edit().map(|edit| edit.name()));
        }
        let documents = |book: &Book| {
            let one = |held: &crate::change::InForce| (held.text.clone(), held.change, held.since_ms);
            book.policies().values().map(one).collect::<Vec<_>>()
        };
        assert_eq!(documents(&again), documents(old));
        assert_eq!(again.governing().unwrap().pin(), old.governing().unwrap().pin());
        self.book = again;
    }

    /// The root signs these with a number, in place of who decides.
    pub(super) fn begin_anew(&mut self, number: u64, roster: &str, rules: &str) -> Result<(), GoverningFault> {
        let digests = (
            Roster::parse(roster.as_bytes()).unwrap().digest(),
            QuorumRules::parse(rules.as_bytes()).unwrap().digest(),
        );
        let (deployment, root) = (deployment(), root());
        let authority = Authority { version: Version, deployment, number, roster: digests.0, rules: digests.1 };
        let signed = root.sign(&authority).to_bytes();
        let now = self.book.governing().unwrap();
        let documents = (roster.as_bytes(), rules.as_bytes());
        let anew = now.begun_anew(&signed, documents, (&root.public(), &deployment))?;
        self.links_before.extend(links_of(now));
        self.book.governing = Some(Arc::new(anew));
        self.restart();
        Ok(())
    }

    /// What somebody pins who knows the root alone, and walks from what it signed last.
    pub(super) fn walked(&self) -> Authority {
        let (governing, root) = (self.book.governing().unwrap(), root());
        let signed = Signed::from_bytes(governing.genesis_signed()).unwrap();
        let mut pin = Authority::genesis(&signed, &root.public(), &deployment()).unwrap();
        for link in governing.links_after(pin.number) {
            pin = pin.advance(link, self.now_ms).unwrap();
        }
        pin
    }

    fn took(&mut self, effects: Result<Vec<Effect>, Refusal>) -> Result<(), Refusal> {
        effects.map(|effects| self.effects.extend(effects))
    }

    fn asked<'a>(
        id: ChangeId,
        subject: &'a ChangeSubject,
        by: &'a Word,
        way: Way,
        effective_at_ms: Option<u64>,
    ) -> Asked<'a> {
        let lasts_ms = (way != Way::Quorum).then_some(20 * MINUTE_MS);
        Asked { subject, by, way, lasts_ms, effective_at_ms, inputs: Vec::new(), id, nonce: [id.as_bytes()[0]; 16] }
    }

    /// Somebody proposes; in so many minutes it is to be in force.
    pub(super) fn propose(&mut self, by: &str, subject: &ChangeSubject, minutes: u64) -> Result<ChangeId, Refusal> {
        self.propose_by(by, subject, Way::Quorum, Some(self.now_ms + minutes * MINUTE_MS))
    }

    pub(super) fn propose_by(
        &mut self,
        by: &str,
        subject: &ChangeSubject,
        way: Way,
        effective_at_ms: Option<u64>,
    ) -> Result<ChangeId, Refusal> {
        self.made += 1;
        let (id, by) = (ChangeId::new([self.made; 32]), Word::new(by).unwrap());
        let effects =
            self.step(|book, world| book.propose(&Self::asked(id, subject, &by, way, effective_at_ms), world));
        self.took(effects).map(|()| id)
    }

    pub(super) fn edit(
        &mut self,
        id: ChangeId,
        by: &str,
        subject: &ChangeSubject,
        minutes: u64,
    ) -> Result<(), Refusal> {
        let (by, at_ms) = (Word::new(by).unwrap(), self.now_ms + minutes * MINUTE_MS);
        let nonce = [self.made ^ 0x80; 16];
        self.made += 1;
        let effects = self.step(|book, world| {
            book.edit(&Asked { nonce, ..Self::asked(id, subject, &by, Way::Quorum, Some(at_ms)) }, world)
        });
        self.took(effects)
    }

    pub(super) fn vote(&mut self, id: ChangeId, who: &str, verb: Verb) -> Result<(), Refusal> {
        let vote = self.signed(id, who, verb);
        let kept = self.book.change(&id).unwrap();
        let rosters = self.book.rosters_of(kept);
        let checked = check(&vote, kept.text(), &rosters, &mut self.cache).unwrap();
        let effects = self.step(|book, world| book.cast(id, vote, checked, world));
        self.took(effects)
    }

    fn signed(&self, id: ChangeId, who: &str, verb: Verb) -> Vote {
        let kept = self.book.change(&id).unwrap();
        let text = kept.text();
        let namespace = verb.namespace(&text.change().deployment);
        let hash = ring::digest::digest(&ring::digest::SHA512, text.bytes());
        let parts = [namespace.as_bytes(), b"", b"sha512"];
        let signed = [b"SSHSIG".to_vec(), parts.map(string).concat(), string(hash.as_ref())].concat();
        let raw = [&b"ssh-ed25519"[..], pair(who).sign(&signed).as_ref()].map(string).concat();
        let head = [b"SSHSIG".to_vec(), 1u32.to_be_bytes().to_vec(), string(&key(who))].concat();
        let bytes = [head, parts.map(string).concat(), string(&raw)].concat();
        let armoured = SshSignature::from_bytes(&bytes).unwrap().armoured();
        let rosters = self.book.rosters_of(kept);
        let mut read = rosters.iter().map(|roster| Vote::from_armoured(&armoured, verb, text, roster, self.now_ms));
        read.find_map(Result::ok).unwrap()
    }

    pub(super) fn withdraw(&mut self, id: ChangeId, by: &str) -> Result<(), Refusal> {
        let by = Word::new(by).unwrap();
        let effects = self.step(|book, world| book.withdraw(id, &by, world));
        self.took(effects)
    }

    pub(super) fn told(&mut self, id: ChangeId, input: Input) -> Result<(), Refusal> {
        let effects = self.step(|book, world| book.told(id, input, world));
        self.took(effects)
    }

    /// Minutes later.
    pub(super) fn later(&mut self, minutes: u64) {
        self.now_ms += minutes * MINUTE_MS;
        let effects = self.step(|book, world| book.tick(world));
        self.effects.extend(effects);
    }

    pub(super) fn state(&self, id: ChangeId) -> State {
        self.book.change(&id).unwrap().record().state
    }

    /// The limit of the policy in force, bytes of memory.
    pub(super) fn limit(&self) -> Option<u64> {
        self.book.policies().get(&name("web-memory"))?.policy.limit.memory_bytes
    }

    /// A change that was approved by those whom its rule asks for, whose limits move; in so many minutes it is to be in force.
    pub(super) fn moving(&mut self, subject: &ChangeSubject, minutes: u64) -> ChangeId {
        let id = self.propose("alice", subject, minutes).unwrap();
        self.vote(id, "bob", Verb::Approval).unwrap();
        self.vote(id, "carol", Verb::Approval).unwrap();
        self.told(id, Input::Planned).unwrap();
        id
    }

    /// A change that was approved by those whom its rule asks for, planned, and is in force.
    pub(super) fn in_force(&mut self, subject: &ChangeSubject) -> ChangeId {
        let id = self.moving(subject, 10);
        self.later(10);
        assert_eq!(self.state(id), State::InForce);
        id
    }
}
