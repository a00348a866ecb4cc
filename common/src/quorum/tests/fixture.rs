//! People with keys made from their names, rules, and a change that they vote on.

use data_encoding::BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::id::{ChangeId, DeploymentId, Digest, sha256};
use crate::instant::parse_rfc3339;
use crate::plan::OnPressure;
use crate::quorum::change::{Change, ChangeText, Kind, Way};
use crate::quorum::criticality::Criticality;
use crate::quorum::decide::{Case, Decided, Moment, NotCounted, Outcome, Proposed, Under, decide};
use crate::quorum::roster::{Roster, Word};
use crate::quorum::rules::Rules;
use crate::quorum::vote::{CheckedVote, Verb, Vote};
use crate::units::Resources;

/// When the change of the tests is proposed.
pub(super) fn t0() -> u64 {
    parse_rfc3339("2026-11-23T07:00:00Z").unwrap()
}
pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;

pub(super) fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

pub(super) fn deployment() -> DeploymentId {
    DeploymentId::of(&[b"deployment of the tests"])
}

/// An SSH key that follows from a name.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    is_security_key: bool,
}

/// Bytes with their length before them, as SSH writes them.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl Signer {
    pub(super) fn of(name: &str) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&sha256(&[name.as_bytes()])).unwrap();
        Self { pair, is_security_key: false }
    }
    pub(super) fn security_key(name: &str) -> Self {
        Self { is_security_key: true, ..Self::of(name) }
    }
    fn algorithm(&self) -> &'static str {
        if self.is_security_key { "sk-ssh-ed25519@openssh.com" } else { "ssh-ed25519" }
    }
    fn key(&self) -> Vec<u8> {
        let application = if self.is_security_key { string(b"ssh:") } else { Vec::new() };
        [string(self.algorithm().as_bytes()), string(self.pair.public_key().as_ref()), application].concat()
    }
    pub(super) fn line(&self) -> String {
        format!("{} {} somebody@somewhere", self.algorithm(), BASE64.encode(&self.key()))
    }
    /// An SSH signature without armour; a security key adds its flags.
    pub(super) fn sign_with(&self, namespace: &str, message: &[u8], flags: u8) -> Vec<u8> {
        let hash = ring::digest::digest(&ring::digest::SHA512, message);
        let parts = [namespace.as_bytes(), b"", b"sha512", hash.as_ref()];
        let signed = [b"SSHSIG".to_vec(), parts.map(string).concat()].concat();
        let (signed, trailer) = if self.is_security_key {
            let trailer = [&[flags][..], &7u32.to_be_bytes()].concat();
            ([&sha256(&[b"ssh:"])[..], &trailer, &sha256(&[&signed])].concat(), trailer)
        } else {
            (signed, Vec::new())
        };
        let raw = [string(self.algorithm().as_bytes()), string(self.pair.sign(&signed).as_ref()), trailer].concat();
        let head = [b"SSHSIG".to_vec(), 1u32.to_be_bytes().to_vec(), string(&self.key())].concat();
        [head, [namespace.as_bytes(), b"", b"sha512", &raw].map(string).concat()].concat()
    }
    pub(super) fn sign(&self, namespace: &str, message: &[u8]) -> Vec<u8> {
        self.sign_with(namespace, message, 1)
    }
    /// A vote as it is kept.
    pub(super) fn vote(&self, person: &str, verb: Verb, text: &ChangeText, at_ms: u64) -> Vote {
        use crate::quorum::ssh::SshSignature;
        let bytes = self.sign(&verb.namespace(&text.change().deployment), text.bytes());
        let signature = SshSignature::from_bytes(&bytes).unwrap();
        Vote {
            version: crate::cbor::Version,
            person: word(person),
            key: signature.key().fingerprint(),
            verb,
            text: text.digest(),
            cast_at_ms: at_ms,
            signature: crate::cbor::BoundedBytes::new(bytes).unwrap(),
        }
    }
}

pub(super) fn roster_text(version: u64, people: &[(&str, &[&str])]) -> String {
    let person = |(name, roles): &(&str, &[&str])| {
        format!(
            "[[people]]\nname = '{name}'\nroles = {roles:?}\n[[people.keys]]\nkey = '{}'\n",
            Signer::of(name).line()
        )
    };
    format!("version = {version}\n{}", people.iter().map(person).collect::<String>())
}

pub(super) fn roster_of(version: u64, people: &[(&str, &[&str])]) -> Roster {
    Roster::parse(roster_text(version, people).as_bytes()).unwrap()
}

pub(super) const PEOPLE: [(&str, &[&str]); 9] = [
    ("alice", &["operator"]),
    ("bob", &["operator"]),
    ("carol", &["security"]),
    ("dave", &["operator", "security"]),
    ("erin", &["operator"]),
    ("frank", &["manager"]),
    ("gina", &["rescue"]),
    ("hugo", &["rescue", "operator"]),
    ("ivan", &["rescue"]),
];

pub(super) const RULES: &str = "version = 2
[criticality.low]
approvals = 1
approvers = ['operator', 'security']
approve_within_s = 7200
apply_within_s = 86400
[criticality.high]
approvals = 2
roles = { security = 1 }
approvers = ['operator', 'security']
approve_within_s = 7200
apply_within_s = 86400
delay_s_min = 600
[[criticality.high.escalation]]
after_s = 1800
add_roles = ['manager']
webhook = 'https://example.org/hook'
[criticality.critical]
approvals = 3
roles = { security = 1 }
approvers = ['operator', 'security']
approve_within_s = 7200
apply_within_s = 86400
delay_s_min = 600
[break_glass]
role = 'rescue'
approvals = 1
lasts_s_max = 14400
review_within_s = 86400
review_approvals = 2
[freeze]
role = 'operator'
lasts_s_max = 14400
review_within_s = 86400
review_approvals = 1
";

pub(super) fn rules() -> Rules {
    Rules::parse(RULES.as_bytes()).unwrap()
}

pub(super) fn rules_with(from: &str, to: &str) -> Rules {
    assert!(RULES.contains(from));
    Rules::parse(RULES.replace(from, to).as_bytes()).unwrap()
}

/// A deployment with its roster and rules.
pub(super) struct World {
    pub roster: Roster,
    pub rules: Rules,
}

impl World {
    pub(super) fn new() -> Self {
        Self { roster: roster_of(3, &PEOPLE), rules: rules() }
    }
    pub(super) fn under(&self) -> Under<'_> {
        Under { roster: &self.roster, rules: &self.rules }
    }
    /// The change that alice asks for, after `edit`.
    pub(super) fn change(&self, edit: impl FnOnce(&mut Change)) -> Change {
        let mut change = Change {
            deployment: deployment(),
            id: ChangeId::of(&[b"change of the tests"]),
            kind: Kind::AlterPolicy,
            name: word("web"),
            way: Way::Quorum,
            requester: word("alice"),
            editor: word("alice"),
            applier: word("verifier"),
            criticality: Criticality::High,
            base: Some(Digest::of(&[b"base"])),
            roster: self.roster.digest(),
            rules: self.rules.digest(),
            proposed_ms: t0(),
            effective_ms: t0() + 2 * HOUR_MS,
            approve_by_ms: t0() + HOUR_MS,
            apply_by_ms: t0() + 3 * HOUR_MS,
            until_ms: None,
            slew: Resources::default(),
            on_pressure: OnPressure::Hold,
            nonce: [7; 16],
            inputs: Vec::new(),
            covers: Vec::new(),
            document: "policy = 'web'\n".to_owned(),
        };
        edit(&mut change);
        change
    }
    pub(super) fn text(&self, edit: impl FnOnce(&mut Change)) -> ChangeText {
        ChangeText::render(&self.change(edit)).unwrap()
    }
    /// A change of roster or rules to `document`.
    pub(super) fn authority_text(&self, kind: Kind, document: &[u8]) -> ChangeText {
        self.text(|change| {
            let (name, base) = match kind {
                Kind::Roster => ("roster", self.roster.digest()),
                _ => ("rules", self.rules.digest()),
            };
            (change.kind, change.name, change.base) = (kind, word(name), Some(base));
            change.criticality = Criticality::Critical;
            change.document = String::from_utf8(document.to_vec()).unwrap();
        })
    }
}

/// A vote with the key that follows from the person's name, and no signature.
pub(super) fn vote_at(text: &ChangeText, person: &str, verb: Verb, at_ms: u64) -> CheckedVote {
    let key = crate::quorum::ssh::SshKey::parse(&Signer::of(person).line()).unwrap().fingerprint();
    CheckedVote::unsigned(&word(person), verb, text.digest(), at_ms, (key, false))
}

pub(super) fn vote(text: &ChangeText, person: &str, verb: Verb) -> CheckedVote {
    vote_at(text, person, verb, t0() + MINUTE_MS)
}

pub(super) fn approvals(text: &ChangeText, people: &[&str]) -> Vec<CheckedVote> {
    people.iter().map(|person| vote(text, person, Verb::Approval)).collect()
}

/// Decides two minutes after the proposal, under one roster and rules.
pub(super) fn decided(world: &World, text: &ChangeText, votes: &[CheckedVote]) -> Outcome {
    decided_at(world, text, votes, Moment::Vote, t0() + 2 * MINUTE_MS)
}

pub(super) fn decided_at(
    world: &World,
    text: &ChangeText,
    votes: &[CheckedVote],
    moment: Moment,
    now_ms: u64,
) -> Outcome {
    let proposed = Proposed::of(text).unwrap();
    let under = (world.under(), world.under());
    decide(&Case::new(text, votes, under, proposed.as_ref(), (moment, now_ms)).unwrap())
}

pub(super) fn notes(outcome: &Outcome) -> Vec<Result<(), NotCounted>> {
    outcome.votes.iter().map(|note| note.counted).collect()
}

/// How many people more, and of which roles.
pub(super) fn missing(outcome: &Outcome) -> Option<(usize, Vec<(&str, usize)>)> {
    match &outcome.decided {
        Decided::Pending(missing) => {
            Some((missing.people, missing.roles.iter().map(|(role, count)| (role.as_str(), *count)).collect()))
        }
        _ => None,
    }
}
