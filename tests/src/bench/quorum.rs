//! Quorum decisions: five votes by people of a roster of twelve, their signatures checked before or just now.
//!
//! Keys and signatures are those of `ssh-keygen`. A decision is what the verifier does when a vote comes or time passes: each vote of the
//! ballot is held against text, roster and signature, then all of them against the rules. Bare ring checks the very same
//! signatures in the same run. All is counted in CPU time of the thread, in turns.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use quotary_common::cbor::Text;
use quotary_common::id::{ChangeId, DeploymentId, Digest};
use quotary_common::plan::OnPressure;
use quotary_common::quorum::change::{Change, ChangeText, Kind, Way};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::decide::{Case, Moment, Outcome, Under, decide};
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::rules::Rules;
use quotary_common::quorum::vote::{Ballot, Cast, SignatureCache, Verb, Vote};
use quotary_common::units::Resources;
use ring::digest::{SHA512, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Serialize;

use super::report::{Gate, Good, Line, median, progress, short};
use super::{ROUNDS, cpu};
use crate::world::{KeyKind, Signer};

/// Everybody on the roster; who asks is the first.
const PEOPLE: [(&str, &[&str]); 12] = [
    ("alice", &["operator"]),
    ("bob", &["operator"]),
    ("carol", &["operator"]),
    ("dave", &["operator", "security"]),
    ("erin", &["security"]),
    ("frank", &["security"]),
    ("gina", &["manager"]),
    ("hugo", &["manager"]),
    ("ivan", &["operator"]),
    ("judy", &["operator"]),
    ("karl", &["security"]),
    ("lena", &["manager"]),
];
/// Who approves.
const VOTERS: [&str; 5] = ["bob", "carol", "dave", "erin", "gina"];
/// What it takes: all of them, and of the roles so many that the one with two of them has to be given the right one.
const RULES: &str = "version = 1
[criticality.critical]
approvals = 5
roles = { operator = 2, security = 2, manager = 1 }
approvers = ['operator', 'security', 'manager']
approve_within_s = 86400
apply_within_s = 86400
delay_s_min = 600
";
const ROLES: usize = 3;
/// Changes that are decided in turn: no text or key stays hot in a cache by itself.
const CHANGES: usize = 64;
/// With keys of several kinds: RSA signs slowly.
const CHANGES_MIXED: usize = 16;
/// Decisions of one kind between two readings of the clock.
const TURN: usize = 16;
const ED25519_KEYS: [KeyKind; 5] = [KeyKind::Ed25519; 5];
const MIXED_KEYS: [KeyKind; 5] = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Ed25519, KeyKind::P256, KeyKind::Rsa3072];
const PROPOSED_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// Quorum decisions.
#[derive(Debug, Clone, Serialize)]
pub struct Quorum {
    /// People on the roster.
    pub people: usize,
    /// Roles that the rule asks for.
    pub roles: usize,
    /// Votes of each decision; all count.
    pub votes: usize,
    /// Changes, decided in turn.
    pub changes: usize,
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds: decisions per second of CPU time, each signature having been checked before.
    pub cached_per_core_second: f64,
    /// Median over the rounds: the same, each signature (Ed25519) checked anew.
    pub cold_per_core_second: f64,
    /// Median over the rounds: Ed25519 signatures that ring checks per second of CPU time, by itself.
    pub bare_signatures_per_core_second: f64,
    /// Median over the rounds: what ring takes for the signatures of a cold decision, beside the decision.
    pub cold_ratio_to_bare: f64,
    /// Median over the rounds: decisions per second of CPU time where two keys are Ed25519, two ECDSA P-256 and one RSA of 3072 bits.
    pub cold_mixed_keys_per_core_second: f64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// Decisions per second of CPU time, signatures checked before.
    pub cached_per_core_second: f64,
    /// The same, signatures checked anew.
    pub cold_per_core_second: f64,
    /// Signatures that ring checks per second of CPU time.
    pub bare_signatures_per_core_second: f64,
    /// Ring's time for the signatures of a cold decision, beside the decision's.
    pub cold_ratio_to_bare: f64,
    /// Decisions with keys of several kinds per second of CPU time, signatures checked anew.
    pub cold_mixed_keys_per_core_second: f64,
}

/// Measures [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// When `ssh-keygen` is not there, or a decision does not come to an approval: then there is nothing to measure.
pub(super) fn measure(round: Duration) -> anyhow::Result<Quorum> {
    measure_of((CHANGES, CHANGES_MIXED), round)
}

fn measure_of((changes, changes_mixed): (usize, usize), round: Duration) -> anyhow::Result<Quorum> {
    progress(&format!("quorum, {changes} changes with {} votes each, signed by ssh-keygen", VOTERS.len()));
    let (temp, temp_mixed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let plain = Setting::new(temp.path(), ED25519_KEYS, changes)?;
    let mixed = Setting::new(temp_mixed.path(), MIXED_KEYS, changes_mixed)?;
    run(&plain, &mixed, Duration::from_millis(200).min(round))?; // warms caches and clocks up
    let rounds = (0..ROUNDS).map(|_| run(&plain, &mixed, round)).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick));
    Ok(Quorum {
        people: PEOPLE.len(),
        roles: ROLES,
        votes: VOTERS.len(),
        changes,
        cached_per_core_second: of(|round| round.cached_per_core_second),
        cold_per_core_second: of(|round| round.cold_per_core_second),
        bare_signatures_per_core_second: of(|round| round.bare_signatures_per_core_second),
        cold_ratio_to_bare: of(|round| round.cold_ratio_to_bare),
        cold_mixed_keys_per_core_second: of(|round| round.cold_mixed_keys_per_core_second),
        rounds,
    })
}

fn run(plain: &Setting, mixed: &Setting, for_so_long: Duration) -> anyhow::Result<Round> {
    let mut cache = SignatureCache::default();
    for matter in &plain.matters {
        plain.decided(matter, &mut cache)?;
    }
    let checked_before = cache.len();
    let mut spent = [Duration::ZERO; 4];
    let mut turns = 0_u32;
    let started = Instant::now();
    let (mut next, mut next_mixed) = (plain.matters.iter().cycle(), mixed.matters.iter().cycle());
    while turns == 0 || started.elapsed() < for_so_long {
        let turn: Vec<&Matter> = next.by_ref().take(TURN).collect();
        let turn_mixed: Vec<&Matter> = next_mixed.by_ref().take(TURN).collect();
        let begin = cpu::of_this_thread();
        for matter in &turn {
            black_box(plain.decided(matter, &mut cache)?);
        }
        let cached = cpu::of_this_thread();
        for matter in &turn {
            black_box(plain.decided(matter, &mut SignatureCache::default())?);
        }
        let cold = cpu::of_this_thread();
        for signature in turn.iter().flat_map(|matter| &matter.bare) {
            signature.check()?;
        }
        let bare = cpu::of_this_thread();
        for matter in &turn_mixed {
            black_box(mixed.decided(matter, &mut SignatureCache::default())?);
        }
        let end = cpu::of_this_thread();
        let parts = [(begin, cached), (cached, cold), (cold, bare), (bare, end)];
        for (sum, (from, to)) in spent.iter_mut().zip(parts) {
            *sum += to.saturating_sub(from);
        }
        turns += 1;
    }
    ensure!(cache.len() == checked_before, "a signature was checked that had been checked before");
    let count = f64::from(turns) * TURN as f64;
    let [cached, cold, bare, mixed] = spent.map(|spent| spent.as_secs_f64() / count);
    ensure!(cached > 0.0 && bare > 0.0, "the round was too short to measure");
    Ok(Round {
        cached_per_core_second: 1.0 / cached,
        cold_per_core_second: 1.0 / cold,
        bare_signatures_per_core_second: VOTERS.len() as f64 / bare,
        cold_ratio_to_bare: bare / cold,
        cold_mixed_keys_per_core_second: 1.0 / mixed,
    })
}

/// Who decides, and what about.
struct Setting {
    roster: Roster,
    rules: Rules,
    matters: Vec<Matter>,
}

/// A change with its votes.
struct Matter {
    text: ChangeText,
    ballot: Ballot,
    /// The signatures of the votes that are Ed25519, as ring takes them.
    bare: Vec<BareSignature>,
}

struct BareSignature {
    key: UnparsedPublicKey<Vec<u8>>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Setting {
    /// People with keys in `directory`, those of the voters of these kinds, and changes that all voters approve.
    fn new(directory: &Path, kinds: [KeyKind; 5], changes: usize) -> anyhow::Result<Self> {
        let mut text = "version = 1\n".to_owned();
        let mut voters = Vec::new();
        for (name, roles) in PEOPLE {
            let kind = VOTERS.iter().zip(kinds).find(|(voter, _)| **voter == name).map(|(_, kind)| kind);
            let signer = Signer::make(directory, name, kind.unwrap_or(KeyKind::Ed25519))?;
            let key = signer.public();
            text += &format!("[[people]]\nname = '{name}'\nroles = {roles:?}\n[[people.keys]]\nkey = '{key}'\n");
            voters.extend(kind.map(|_| signer));
        }
        let roster = Roster::parse(text.as_bytes()).map_err(|faults| anyhow!("the roster: {faults:?}"))?;
        let rules = Rules::parse(RULES.as_bytes()).map_err(|faults| anyhow!("the rules: {faults:?}"))?;
        let mut setting = Self { roster, rules, matters: Vec::new() };
        for index in 0..changes {
            let matter = setting.matter(index, &voters, &directory.join("change.txt"))?;
            setting.matters.push(matter);
        }
        Ok(setting)
    }

    /// Change number `index`, which all voters sign in `file`.
    fn matter(&self, index: usize, voters: &[Signer], file: &Path) -> anyhow::Result<Matter> {
        let text = ChangeText::render(&self.change(index)?)?;
        std::fs::write(file, text.bytes())?;
        let namespace = Verb::Approval.namespace(&text.change().deployment);
        let (mut ballot, mut bare) = (Ballot::default(), Vec::new());
        for voter in voters {
            let armoured = std::fs::read_to_string(voter.sign(&namespace, file)?)?;
            let vote = Vote::from_armoured(&armoured, Verb::Approval, &text, &self.roster, PROPOSED_MS + HOUR_MS)?;
            bare.extend(BareSignature::of(&vote.signature, &text));
            ensure!(ballot.cast(vote) == Cast::Kept, "a vote was not kept");
        }
        Ok(Matter { text, ballot, bare })
    }

    fn change(&self, index: usize) -> anyhow::Result<Change> {
        let word = |text: &str| Text::new(text).context("a name");
        let number = index.to_be_bytes();
        let cover = |host: u64| {
            let line =
                format!("application=web-{host} tenant=shop uid={host} class=burstable memory_bytes.limit=200>100");
            Ok(line.parse()?)
        };
        Ok(Change {
            deployment: DeploymentId::of(&[b"bench"]),
            id: ChangeId::of(&[&number]),
            kind: Kind::AlterPolicy,
            name: word(&format!("policy-{index}"))?,
            way: Way::Quorum,
            requester: word(PEOPLE[0].0)?,
            editor: word(PEOPLE[0].0)?,
            applier: word("verifier")?,
            criticality: Criticality::High,
            base: Some(Digest::of(&[b"base", &number])),
            roster: self.roster.digest(),
            rules: self.rules.digest(),
            proposed_ms: PROPOSED_MS,
            effective_ms: PROPOSED_MS + 6 * HOUR_MS,
            approve_by_ms: PROPOSED_MS + 4 * HOUR_MS,
            apply_by_ms: PROPOSED_MS + 8 * HOUR_MS,
            until_ms: None,
            slew: Resources::default(),
            on_pressure: OnPressure::Hold,
            nonce: [7; 16],
            inputs: Vec::new(),
            covers: (1..=8).map(cover).collect::<anyhow::Result<_>>()?,
            document: format!("name = 'policy-{index}'\n"),
        })
    }

    /// One decision, which must be an approval by the votes of everybody who voted.
    fn decided(&self, matter: &Matter, cache: &mut SignatureCache) -> anyhow::Result<Outcome> {
        let text = black_box(&matter.text);
        let (votes, failed) = black_box(&matter.ballot).checked(text, &[&self.roster], cache);
        let under = Under { roster: &self.roster, rules: &self.rules };
        let case = Case::new(text, &votes, (under, under), None, (Moment::Vote, PROPOSED_MS + 2 * HOUR_MS))?;
        let outcome = decide(&case);
        let is_by_all = failed.is_empty() && outcome.votes.iter().all(|note| note.counted.is_ok());
        ensure!(outcome.is_approved() && is_by_all, "not approved by all: {}", outcome.explain().join("; "));
        Ok(outcome)
    }
}

impl BareSignature {
    /// From an SSH signature over the text (PROTOCOL.sshsig); `None` for one that is not Ed25519.
    fn of(signature: &[u8], text: &ChangeText) -> Option<Self> {
        let mut rest = signature.strip_prefix(b"SSHSIG")?.get(4..)?;
        let [mut key, namespace, reserved, hash, mut made] = [(); 5].map(|()| string(&mut rest));
        let (kind, key) = (string(key.as_mut()?)?, string(key.as_mut()?)?);
        let (_, made) = (string(made.as_mut()?)?, string(made.as_mut()?)?);
        if (kind, hash?) != (&b"ssh-ed25519"[..], &b"sha512"[..]) {
            return None;
        }
        let mut message = b"SSHSIG".to_vec();
        for part in [namespace?, reserved?, hash?, digest(&SHA512, text.bytes()).as_ref()] {
            message.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
            message.extend_from_slice(part);
        }
        Some(Self { key: UnparsedPublicKey::new(&ED25519, key.to_vec()), message, signature: made.to_vec() })
    }

    fn check(&self) -> anyhow::Result<()> {
        let held = black_box(&self.key).verify(black_box(&self.message), black_box(&self.signature));
        held.map_err(|_| anyhow!("a bare signature does not hold"))
    }
}

/// Takes one string with its length before it, as SSH writes them.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (taken, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(taken)
}

impl Quorum {
    /// What must hold.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let figure = ("quorum decision, signatures checked before", "/s, core", self.cached_per_core_second);
        vec![Gate::new(figure, Good::AtLeast, (100_000.0, 200_000.0))]
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let what = format!(
            "quorum decisions ({} votes, {} roles, {} people, {} changes in turn)",
            self.votes, self.roles, self.people, self.changes
        );
        let cold = format!(
            "{} /s and core; bare ring Ed25519 {} signatures /s; ring's part of a decision {}",
            short(self.cold_per_core_second),
            short(self.bare_signatures_per_core_second),
            short(self.cold_ratio_to_bare)
        );
        let mixed = format!("{} /s and core", short(self.cold_mixed_keys_per_core_second));
        vec![
            Line::new(what, format!("{} /s and core", short(self.cached_per_core_second))),
            Line::new("  each signature checked anew, Ed25519", cold),
            Line::new("  the same, 2 Ed25519, 2 P-256, 1 RSA 3072", mixed),
        ]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_decision_is_an_approval_by_five_people_and_checks_each_signature_once() {
        let temp = tempfile::tempdir().unwrap();
        let setting = Setting::new(temp.path(), ED25519_KEYS, 2).unwrap();
        let mut cache = SignatureCache::default();
        for known in [5, 10, 10, 10] {
            let matter = &setting.matters[if known == 5 { 0 } else { 1 }];
            assert_eq!(setting.decided(matter, &mut cache).unwrap().votes.len(), 5);
            assert_eq!(cache.len(), known);
        }
        assert_eq!(setting.roster.people().count(), 12);
        // One less, and it is none.
        let mut fewer = Ballot::default();
        for vote in setting.matters[0].ballot.votes().iter().skip(1) {
            assert_eq!(fewer.cast(vote.clone()), Cast::Kept);
        }
        let short = Matter { text: setting.matters[0].text.clone(), ballot: fewer, bare: Vec::new() };
        assert!(setting.decided(&short, &mut cache).is_err());
    }

    #[test]
    fn the_bare_signatures_are_those_of_the_votes() {
        let temp = tempfile::tempdir().unwrap();
        let setting = Setting::new(temp.path(), ED25519_KEYS, 1).unwrap();
        let matter = &setting.matters[0];
        assert_eq!(matter.bare.len(), 5);
        for bare in &matter.bare {
            bare.check().unwrap();
            let message = [&bare.message[..], b"x"].concat();
            assert!(bare.key.verify(&message, &bare.signature).is_err());
        }
    }

    #[test]
    fn decisions_with_keys_of_several_kinds_are_measured_too() {
        let quorum = measure_of((2, 1), Duration::from_millis(1)).unwrap();
        assert_eq!((quorum.people, quorum.roles, quorum.votes, quorum.changes), (12, 3, 5, 2));
        assert!(quorum.rounds.len() == ROUNDS && quorum.cold_mixed_keys_per_core_second > 0.0);
        assert!(quorum.cached_per_core_second > quorum.cold_per_core_second);
        assert!(quorum.cold_ratio_to_bare > 0.0 && quorum.bare_signatures_per_core_second > 0.0);
    }
}
