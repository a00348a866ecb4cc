//! Random rosters and rules, each as a document that is read and as what the simple model knows of it.

use super::simple::{Person, Roster, Rule, Rules};
use crate::quorum::decide::Proposed;
use crate::quorum::ssh::{Fingerprint, SshKey};
use crate::quorum::tests::fixture::{Signer, t0};

pub(super) const PEOPLE: usize = 6;
pub(super) const ROLES: [&str; 4] = ["operator", "security", "manager", "rescue"];
const LEVELS: [&str; 4] = ["low", "medium", "high", "critical"];
pub(super) const MINUTE: u64 = 60_000;

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Chance(pub u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
    pub(super) fn minutes(&mut self, from: u64, to: u64) -> u64 {
        (from + self.next() % (to - from + 1)) * MINUTE
    }
    /// One time in `of`.
    pub(super) fn is_one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
    fn some_of(&mut self, count: usize, of: usize) -> Vec<usize> {
        (0..count).filter(|_| self.is_one_in(of)).collect()
    }
}

/// The key of a person: an even number is a key in a file, an odd one a security key.
pub(super) fn signer(key: usize) -> Signer {
    let name = format!("model key {key}");
    if key.is_multiple_of(2) { Signer::of(&name) } else { Signer::security_key(&name) }
}

pub(super) fn name(who: usize) -> String {
    format!("p{who}")
}

/// Documents to draw from, read once.
pub(super) struct Pool {
    pub rosters: Vec<(Roster, crate::quorum::roster::Roster, Proposed)>,
    pub rules: Vec<(Rules, crate::quorum::rules::Rules, Proposed)>,
    pub keys: Vec<Fingerprint>,
}

impl Pool {
    pub(super) fn new(chance: &mut Chance, count: usize) -> Self {
        let rosters = (0..count).map(|id| {
            let simple = roster(chance, id);
            let real = crate::quorum::roster::Roster::parse(roster_document(&simple).as_bytes()).unwrap();
            (simple, real.clone(), Proposed::Roster(real))
        });
        let rosters = rosters.collect();
        let rules = (0..count).map(|id| {
            let simple = rules(chance, id);
            let real = crate::quorum::rules::Rules::parse(rules_document(&simple).as_bytes()).unwrap();
            (simple, real.clone(), Proposed::Rules(Box::new(real)))
        });
        let rules = rules.collect();
        let keys = (0..2 * PEOPLE).map(|key| SshKey::parse(&signer(key).line()).unwrap().fingerprint()).collect();
        Self { rosters, rules, keys }
    }
}

fn roster(chance: &mut Chance, id: usize) -> Roster {
    let person = |who: usize, chance: &mut Chance| {
        let mut roles = chance.some_of(ROLES.len(), 2);
        if !roles.contains(&0) && chance.is_one_in(2) {
            roles.push(0);
        }
        let mut keys = Vec::new();
        for key in [2 * who, 2 * who + 1] {
            let limit = |chance: &mut Chance, to| chance.is_one_in(10).then(|| t0() + chance.minutes(0, to));
            let (from, until) = (limit(chance, 30), limit(chance, 200).map(|until| until + 31 * MINUTE));
            if key.is_multiple_of(2) || chance.is_one_in(2) {
                keys.push((key, from, until));
            }
        }
        Person { roles, keys }
    };
    let people = (0..PEOPLE).map(|who| (!chance.is_one_in(8)).then(|| person(who, chance))).collect();
    let mut roster = Roster { id, version: 1 + chance.next() % 9, people };
    roster.people[0] = roster.people[0].take().or(Some(Person { roles: vec![0], keys: Vec::new() }));
    roster
}

fn instant(field: &str, at_ms: Option<u64>) -> String {
    at_ms.map_or_else(String::new, |at_ms| format!("{field} = {}\n", crate::instant::rfc3339(at_ms)))
}

fn roster_document(roster: &Roster) -> String {
    let mut text = format!("# {}\nversion = {}\n", roster.id, roster.version);
    for (who, person) in roster.people.iter().enumerate() {
        let Some(person) = person else { continue };
        let roles: Vec<&str> = person.roles.iter().map(|role| ROLES[*role]).collect();
        text += &format!("[[people]]\nname = '{}'\nroles = {roles:?}\n", name(who));
        for (key, from, until) in &person.keys {
            text += &format!("[[people.keys]]\nkey = '{}'\n", signer(*key).line());
            text += &(instant("valid_from", *from) + &instant("valid_until", *until));
        }
    }
    text
}

fn rules(chance: &mut Chance, id: usize) -> Rules {
    let mut levels = vec![rule(chance, None)];
    for _ in 0..3 {
        let lower = rule(chance, levels.first());
        levels.insert(0, lower);
    }
    let glass =
        (!chance.is_one_in(6)).then(|| (chance.below(ROLES.len()), 1 + chance.below(2), chance.minutes(60, 400)));
    let freeze = (!chance.is_one_in(6)).then(|| (chance.below(ROLES.len()), chance.minutes(60, 400)));
    Rules { id, version: 1 + chance.next() % 9, levels, glass, freeze }
}

/// A rule that asks for no more than the one above it.
fn rule(chance: &mut Chance, above: Option<&Rule>) -> Rule {
    let approvals = 1 + chance.below(above.map_or(4, |above| above.approvals));
    let mut roles: Vec<(usize, usize)> = Vec::new();
    let mut left = approvals;
    for role in 0..ROLES.len() {
        let most = above.map_or(2, |above| above.roles.iter().find(|(other, _)| *other == role).map_or(0, |(_, n)| *n));
        let count = if chance.is_one_in(2) { chance.below(most.min(left) + 1) } else { 0 };
        if count > 0 {
            roles.push((role, count));
            left -= count;
        }
    }
    let mut approvers = chance.some_of(ROLES.len(), 2);
    if approvers.is_empty() {
        approvers.push(0);
    }
    let within = |all: Vec<usize>, above: Option<&Vec<usize>>| -> Vec<usize> {
        all.into_iter().filter(|one| above.is_none_or(|above| above.contains(one))).collect()
    };
    let exclude_people = within(chance.some_of(PEOPLE, 12), above.map(|above| &above.exclude_people));
    let exclude_roles = within(chance.some_of(ROLES.len(), 16), above.map(|above| &above.exclude_roles));
    let (mut escalation, mut after) = (Vec::new(), 0);
    while chance.is_one_in(3) && escalation.len() < 3 {
        after += chance.minutes(1, 40);
        let (roles, mut people) = (chance.some_of(ROLES.len(), 3), chance.some_of(PEOPLE, 5));
        if roles.is_empty() && people.is_empty() {
            people.push(chance.below(PEOPLE));
        }
        escalation.push((after, roles, people));
    }
    let delay = chance.minutes(0, 20);
    Rule {
        approvals,
        roles,
        approvers,
        exclude_people,
        exclude_roles,
        approve_within: chance.minutes(40, 200),
        apply_within: chance.minutes(60, 300),
        delay: above.map_or(delay, |above| delay.min(above.delay)),
        vetoes: above.map_or(1, |above| above.vetoes) + usize::from(chance.is_one_in(5)),
        presence: above.is_none_or(|above| above.presence) && chance.is_one_in(3),
        escalation,
    }
}

fn rules_document(rules: &Rules) -> String {
    let roles = |roles: &[usize]| roles.iter().map(|role| ROLES[*role].to_owned()).collect::<Vec<String>>();
    let people = |people: &[usize]| people.iter().map(|who| name(*who)).collect::<Vec<String>>();
    let mut text = format!("# {}\nversion = {}\n", rules.id, rules.version);
    for (level, rule) in LEVELS.iter().zip(&rules.levels) {
        let counts: Vec<String> = rule.roles.iter().map(|(role, n)| format!("{} = {n}", ROLES[*role])).collect();
        let exclude = [people(&rule.exclude_people), roles(&rule.exclude_roles)].concat();
        text += &format!(
            "[criticality.{level}]\napprovals = {}\nroles = {{ {} }}\napprovers = {:?}\nexclude = {exclude:?}\n\
             approve_within_s = {}\napply_within_s = {}\ndelay_s_min = {}\nvetoes = {}\nrequire_user_presence = {}\n",
            rule.approvals,
            counts.join(", "),
            roles(&rule.approvers),
            rule.approve_within / 1000,
            rule.apply_within / 1000,
            rule.delay / 1000,
            rule.vetoes,
            rule.presence,
        );
        for (after, add_roles, add_people) in &rule.escalation {
            text += &format!(
                "[[criticality.{level}.escalation]]\nafter_s = {}\nadd_roles = {:?}\nadd_people = {:?}\n",
                after / 1000,
                roles(add_roles),
                people(add_people),
            );
        }
    }
    let review = "review_within_s = 3600\nreview_approvals = 1\n";
    if let Some((role, count, longest)) = rules.glass {
        let (role, longest) = (ROLES[role], longest / 1000);
        text += &format!("[break_glass]\nrole = '{role}'\napprovals = {count}\nlasts_s_max = {longest}\n{review}");
    }
    if let Some((role, longest)) = rules.freeze {
        text += &format!("[freeze]\nrole = '{}'\nlasts_s_max = {}\n{review}", ROLES[role], longest / 1000);
    }
    text
}
