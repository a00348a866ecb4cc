//! One history: a small verifier that keeps what it must, and the same history in the simple model's words.

use super::pool::{Chance, MINUTE, PEOPLE, Pool, name, signer};
use super::simple::{self, Answer, What, answer};
use crate::cbor::{BoundedBytes, Version, from_bytes, to_bytes};
use crate::id::{ChangeId, Digest};
use crate::plan::OnPressure;
use crate::quorum::authority::Authority;
use crate::quorum::change::{Change, ChangeText, Kind, Way};
use crate::quorum::criticality::Criticality;
use crate::quorum::decide::{Case, Decided, Moment, Outcome, Proposed, Under, decide};
use crate::quorum::decision::{QuorumDecision, verify};
use crate::quorum::roster::Roster;
use crate::quorum::tests::fixture::{deployment, t0, word};
use crate::quorum::vote::{Ballot, Cast, CheckedVote, SignatureCache, Verb, Vote};
use crate::units::Resources;

/// How often what was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub pending: u64,
    pub rejected: u64,
    pub expired: u64,
    pub approved: u64,
    pub applied: u64,
    pub applied_authority: u64,
    pub applied_emergency: u64,
    pub refused_at_apply: u64,
    pub agent_took: u64,
    pub agent_refused: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.pending, other.pending),
            (&mut self.rejected, other.rejected),
            (&mut self.expired, other.expired),
            (&mut self.approved, other.approved),
            (&mut self.applied, other.applied),
            (&mut self.applied_authority, other.applied_authority),
            (&mut self.applied_emergency, other.applied_emergency),
            (&mut self.refused_at_apply, other.refused_at_apply),
            (&mut self.agent_took, other.agent_took),
            (&mut self.agent_refused, other.agent_refused),
        ] {
            *sum += more;
        }
    }
}

/// What the verifier keeps, and what the model knows.
pub(super) struct History<'a> {
    pool: &'a Pool,
    chance: Chance,
    is_signed: bool,
    name: String,
    seen: Seen,
    // The verifier's: places in the pool, the text, the votes.
    roster: usize,
    rules: usize,
    creation: (usize, usize),
    text: ChangeText,
    ballot: Ballot,
    cache: SignatureCache,
    proposed: Option<&'a Proposed>,
    // The model's.
    change: simple::Change,
    votes: Vec<simple::Vote>,
    /// Who signed which bytes for what: kept apart from everything that could be edited.
    signed: Vec<(usize, Verb, Vec<u8>)>,
    /// The texts so far, the last one in force.
    texts: Vec<ChangeText>,
    // The world's.
    now: u64,
    level_now: usize,
    is_barred: bool,
    approved_at: Option<u64>,
    /// Whether it was rejected or expired when it was looked at last.
    is_over: bool,
}

const VERBS: [(Verb, simple::Verb); 5] = [
    (Verb::Approval, simple::Verb::Approve),
    (Verb::Rejection, simple::Verb::Reject),
    (Verb::Withdrawal, simple::Verb::Withdraw),
    (Verb::BreakGlass, simple::Verb::Break),
    (Verb::Review, simple::Verb::Review),
];

impl<'a> History<'a> {
    pub(super) fn new(pool: &'a Pool, mut chance: Chance, is_signed: bool, name: String) -> Self {
        let (roster, rules) = (chance.below(pool.rosters.len()), chance.below(pool.rules.len()));
        // Mostly with a number above that of the one in force.
        let place = |chance: &mut Chance, version: &dyn Fn(usize) -> u64| {
            (0..3).map(|_| chance.below(pool.rosters.len())).max_by_key(|place| version(*place)).unwrap()
        };
        let (what, proposed) = match chance.below(6) {
            0 => {
                let (simple, _, proposed) = &pool.rosters[place(&mut chance, &|place| pool.rosters[place].0.version)];
                (What::Roster(simple.clone()), Some(proposed))
            }
            1 => {
                let (simple, _, proposed) = &pool.rules[place(&mut chance, &|place| pool.rules[place].0.version)];
                (What::Rules(simple.clone()), Some(proposed))
            }
            _ => (What::Policy, None),
        };
        let change = any_change(&mut chance, what, (&pool.rosters[roster].0, &pool.rules[rules].0));
        let text = text_of(&change, pool, proposed);
        Self {
            pool,
            is_signed,
            name,
            seen: Seen::default(),
            roster,
            rules,
            creation: (roster, rules),
            texts: vec![text.clone()],
            text,
            ballot: Ballot::default(),
            cache: SignatureCache::default(),
            proposed,
            now: change.proposed,
            level_now: change.level,
            change,
            votes: Vec::new(),
            signed: Vec::new(),
            is_barred: chance.is_one_in(20),
            approved_at: None,
            is_over: false,
            chance,
        }
    }

    pub(super) fn run(mut self) -> Seen {
        for _ in 0..4 + self.chance.below(12) {
            match self.chance.below(32) {
                0 => self.edit(),
                1 => self.roster = self.chance.below(self.pool.rosters.len()),
                2 => self.rules = self.chance.below(self.pool.rules.len()),
                3 => self.level_now = self.chance.below(4),
                4 => self.is_barred = !self.is_barred,
                5 => self.now = self.now.saturating_sub(self.chance.minutes(1, 30)),
                6..=8 => self.now += self.chance.minutes(1, 60),
                9 | 10 => self.restart(),
                11..=15 => self.apply(),
                _ => self.vote(),
            }
            self.now += self.chance.next() % MINUTE;
            self.look();
            // Little happens after a change is over; some histories go on, since an edit or other rules may revive it.
            if self.is_over && self.chance.is_one_in(2) {
                break;
            }
        }
        self.seen
    }

    fn edit(&mut self) {
        if self.approved_at.is_some() {
            return;
        }
        let editor = self.chance.below(PEOPLE);
        let what = self.change.what.clone();
        let pair = (&self.pool.rosters[self.roster].0, &self.pool.rules[self.rules].0);
        let mut change = any_change(&mut self.chance, what, pair);
        change.proposed = self.now;
        let shift = |at: u64| at - t0() + change.proposed;
        (change.effective, change.approve_by, change.apply_by) =
            (shift(change.effective), shift(change.approve_by), shift(change.apply_by));
        change.until = change.until.map(shift);
        change.text = self.texts.len();
        change.own[0] = self.change.own[0];
        change.own[1] = editor;
        self.change = change;
        self.creation = (self.roster, self.rules);
        self.text = text_of(&self.change, self.pool, self.proposed);
        self.texts.push(self.text.clone());
    }

    /// A vote, mostly of a fitting verb on the text in force, with a key of one's own; it may come twice.
    fn vote(&mut self) {
        let who = self.chance.below(PEOPLE);
        let key = 2 * who + usize::from(self.chance.is_one_in(3));
        let fitting = if self.change.way == simple::Way::Glass { 3 } else { 0 };
        let verb = match self.chance.below(16) {
            0 => 1,
            1 => 2,
            2 => self.chance.below(5),
            _ => fitting,
        };
        let number = if self.chance.is_one_in(12) { self.chance.below(self.texts.len()) } else { self.texts.len() - 1 };
        let (touched, text) = (key % 2 == 1 && !self.chance.is_one_in(4), self.texts[number].clone());
        let (real, simple) = VERBS[verb];
        let claimed = if self.chance.is_one_in(40) { self.chance.below(PEOPLE) } else { who };
        let vote = self.signed_vote((claimed, key), real, &text, touched);
        self.signed.push((who, real, text.bytes().to_vec()));
        // Who claims another name is nobody there: the check of signatures refuses the vote.
        if claimed == who && self.cast(vote) {
            self.votes.push(simple::Vote { who, key, verb: simple, text: number, cast: self.now, touched });
        }
    }

    /// With the signature, or with a note of what it would show in its place.
    fn signed_vote(&self, (who, key): (usize, usize), verb: Verb, text: &ChangeText, touched: bool) -> Vote {
        let signature = match self.is_signed {
            true => signer(key).sign_with(&verb.namespace(&deployment()), text.bytes(), u8::from(touched)),
            false => vec![u8::from(touched)],
        };
        Vote {
            version: Version,
            person: word(&name(who)),
            key: self.pool.keys[key],
            verb,
            text: text.digest(),
            cast_at_ms: self.now,
            signature: BoundedBytes::new(signature).unwrap(),
        }
    }

    fn cast(&mut self, vote: Vote) -> bool {
        let cast = self.ballot.cast(vote.clone());
        assert_ne!(self.ballot.cast(vote), Cast::Kept, "{}: the same vote twice", self.name);
        cast == Cast::Kept
    }

    /// Everything that is kept is written and read again; half of the time a crash has lost what came last.
    fn restart(&mut self) {
        if self.chance.is_one_in(2) {
            let who = self.chance.below(PEOPLE);
            let lost = self.signed_vote((who, 2 * who), Verb::Approval, &self.text, false);
            let mut ballot = self.ballot.clone();
            ballot.cast(lost);
        }
        self.ballot = from_bytes(&to_bytes(&self.ballot), 1 << 20).unwrap();
        self.text = ChangeText::parse(self.text.bytes()).unwrap();
        self.cache = SignatureCache::default();
        if self.chance.is_one_in(50) {
            let roster = &self.pool.rosters[self.roster].1;
            assert_eq!(&Roster::parse(roster.bytes()).unwrap(), roster);
        }
    }

    fn checked(&mut self) -> Vec<CheckedVote> {
        if !self.is_signed {
            let unsigned = |vote: &Vote| {
                let shown = (vote.key, vote.signature.first() == Some(&1));
                CheckedVote::unsigned(&vote.person, vote.verb, vote.text, vote.cast_at_ms, shown)
            };
            return self.ballot.votes().iter().map(unsigned).collect();
        }
        let mut rosters = vec![&self.pool.rosters[self.roster].1];
        if let Some(Proposed::Roster(next)) = self.proposed {
            rosters.push(next);
        }
        self.ballot.checked(&self.text, &rosters, &mut self.cache).0
    }

    fn under(&self, (roster, rules): (usize, usize)) -> Under<'a> {
        Under { roster: &self.pool.rosters[roster].1, rules: &self.pool.rules[rules].1 }
    }

    /// Asks both, and holds their answers against each other.
    fn ask(&mut self, moment: Moment) -> Outcome {
        let votes = self.checked();
        let under = (self.under((self.roster, self.rules)), self.under(self.creation));
        let case = Case::new(&self.text, &votes, under, self.proposed, (moment, self.now)).unwrap();
        let case = case.with_criticality(Criticality::ALL[self.level_now]).with_break_glass_barred(self.is_barred);
        let outcome = decide(&case);
        let expected = answer(&self.change, &self.votes, &self.model_now(moment, self.level_now, self.is_barred));
        let told = match outcome.decided {
            Decided::Approved => Answer::Yes,
            Decided::Pending(_) => Answer::NotYet,
            Decided::Rejected(_) => Answer::No,
            Decided::Expired(_) => Answer::TooLate,
        };
        assert_eq!(
            told,
            expected,
            "{}: {moment:?} at {}: {:#?}\n{:#?}\n{:#?}",
            self.name,
            self.now,
            outcome.explain(),
            self.change,
            self.votes
        );
        outcome
    }

    fn model_now(&self, moment: Moment, level: usize, barred: bool) -> simple::Now<'a> {
        let approved_at = match moment {
            Moment::Apply { approved_at_ms } => Some(approved_at_ms),
            Moment::Vote | Moment::Approval => None,
        };
        let (roster, rules) = (&self.pool.rosters[self.roster].0, &self.pool.rules[self.rules].0);
        simple::Now { roster, rules, level, at: self.now, approved_at, barred }
    }

    /// What a verifier does after each event: decides anew, and takes the change for approved when it is.
    fn look(&mut self) {
        if self.approved_at.is_some() {
            return;
        }
        let outcome = self.ask(Moment::Vote);
        self.is_over = matches!(outcome.decided, Decided::Rejected(_) | Decided::Expired(_));
        match outcome.decided {
            Decided::Approved => {
                self.seen.approved += 1;
                // The crash before the commit: it is not approved, and will be asked again.
                if !self.chance.is_one_in(4) {
                    self.ask(Moment::Approval);
                    self.approved_at = Some(self.now);
                }
            }
            Decided::Pending(_) => self.seen.pending += 1,
            Decided::Rejected(_) => self.seen.rejected += 1,
            Decided::Expired(_) => self.seen.expired += 1,
        }
    }

    fn apply(&mut self) {
        let Some(approved_at_ms) = self.approved_at else { return };
        let moment = Moment::Apply { approved_at_ms };
        let outcome = self.ask(moment);
        if self.is_signed {
            self.ask_agent(approved_at_ms);
        }
        if !outcome.is_approved() {
            self.seen.refused_at_apply += 1;
            return;
        }
        self.seen.applied += 1;
        self.seen.applied_authority += u64::from(self.proposed.is_some());
        self.seen.applied_emergency += u64::from(self.change.way != simple::Way::Quorum);
        for note in outcome.votes.iter().filter(|note| note.counted.is_ok()) {
            let has_signed = |(who, verb, bytes): &(usize, Verb, Vec<u8>)| {
                (name(*who).as_str(), *verb, &bytes[..]) == (note.person.as_str(), note.verb, self.text.bytes())
            };
            assert!(self.signed.iter().any(has_signed), "{}: {} signed other bytes", self.name, note.person);
        }
    }

    /// An agent sees the text, the votes that hold and the documents; it knows of no criticality but the text's.
    fn ask_agent(&mut self, approved_at_ms: u64) {
        let held: Vec<_> = self.checked().iter().map(|vote| (vote.person().clone(), vote.verb(), vote.key())).collect();
        let holds = |vote: &&Vote| {
            vote.text == self.text.digest() && held.contains(&(vote.person.clone(), vote.verb, vote.key))
        };
        let votes = self.ballot.votes().iter().filter(holds).cloned().collect();
        let under = (self.under((self.roster, self.rules)), self.under(self.creation));
        let decision = QuorumDecision::new(&self.text, votes, under, approved_at_ms).unwrap();
        let (roster, rules) = (under.0.roster.digest(), under.0.rules.digest());
        let pin = Authority { version: Version, deployment: deployment(), number: 1, roster, rules };
        let verified = verify(&decision.to_bytes(), &pin, &deployment(), self.now);
        let now = self.model_now(Moment::Apply { approved_at_ms }, self.change.level, false);
        let is_expected =
            answer(&self.change, &self.votes, &now) == Answer::Yes && approved_at_ms >= self.change.proposed;
        assert_eq!(verified.is_ok(), is_expected, "{}: {verified:?}", self.name);
        match verified {
            Ok(verified) => {
                assert_eq!(verified.text().bytes(), self.text.bytes());
                self.seen.agent_took += 1;
            }
            Err(_) => self.seen.agent_refused += 1,
        }
    }
}

/// A change proposed at the beginning, by random people and at random times that go together.
fn any_change(chance: &mut Chance, what: What, (roster, rules): (&simple::Roster, &simple::Rules)) -> simple::Change {
    let way = match (&what, chance.below(8)) {
        (What::Policy, 0) => simple::Way::Glass,
        (What::Policy, 1) => simple::Way::Freeze,
        _ => simple::Way::Quorum,
    };
    let level = if matches!(what, What::Policy) { chance.below(4) } else { 3 };
    let mut own = vec![chance.below(PEOPLE), chance.below(PEOPLE)];
    if chance.is_one_in(4) {
        own.push(chance.below(PEOPLE));
    }
    let approve_by = t0() + chance.minutes(20, 180);
    let effective = t0() + chance.minutes(0, 300);
    let apply_by = approve_by.max(effective) + chance.minutes(0, 120);
    let until = (way != simple::Way::Quorum).then(|| effective + chance.minutes(1, 200));
    let (roster, rules) = (roster.clone(), rules.clone());
    simple::Change {
        what,
        way,
        text: 0,
        own,
        level,
        roster,
        rules,
        proposed: t0(),
        effective,
        approve_by,
        apply_by,
        until,
    }
}

fn text_of(change: &simple::Change, pool: &Pool, proposed: Option<&Proposed>) -> ChangeText {
    let (roster, rules) = (pool.rosters[change.roster.id].1.digest(), pool.rules[change.rules.id].1.digest());
    let (kind, policy, base, document) = match proposed {
        None => (Kind::AlterPolicy, "web", Digest::of(&[b"base"]), &b"policy"[..]),
        Some(Proposed::Roster(next)) => (Kind::Roster, "roster", roster, next.bytes()),
        Some(Proposed::Rules(next)) => (Kind::Rules, "rules", rules, next.bytes()),
    };
    let person = |who: &usize| word(&name(*who));
    let way = match change.way {
        simple::Way::Quorum => Way::Quorum,
        simple::Way::Glass => Way::BreakGlass,
        simple::Way::Freeze => Way::Freeze,
    };
    let change = Change {
        deployment: deployment(),
        id: ChangeId::of(&[b"change"]),
        kind,
        name: word(policy),
        way,
        requester: person(&change.own[0]),
        editor: person(&change.own[1]),
        applier: change.own.get(2).map_or_else(|| word("verifier"), person),
        criticality: Criticality::ALL[change.level],
        base: Some(base),
        roster,
        rules,
        proposed_ms: change.proposed,
        effective_ms: change.effective,
        approve_by_ms: change.approve_by,
        apply_by_ms: change.apply_by,
        until_ms: change.until,
        slew: Resources::default(),
        on_pressure: OnPressure::Hold,
        nonce: u128::try_from(change.text).unwrap().to_be_bytes(),
        inputs: Vec::new(),
        covers: Vec::new(),
        document: String::from_utf8(document.to_vec()).unwrap(),
    };
    ChangeText::render(&change).unwrap()
}
