//! The rules once more, as simply as they can be said: no digests, no matching, no order of work, everything tried.
//!
//! It shares nothing with what it is held against: people, roles and keys are numbers, times are numbers.

/// A person of a roster.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub roles: Vec<usize>,
    /// Key, from when, until when.
    pub keys: Vec<(usize, Option<u64>, Option<u64>)>,
}

/// A roster: place by place who is on it.
#[derive(Debug, Clone)]
pub(super) struct Roster {
    pub id: usize,
    pub version: u64,
    pub people: Vec<Option<Person>>,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub approvals: usize,
    /// Role and how many of it.
    pub roles: Vec<(usize, usize)>,
    pub approvers: Vec<usize>,
    pub exclude_people: Vec<usize>,
    pub exclude_roles: Vec<usize>,
    pub approve_within: u64,
    pub apply_within: u64,
    pub delay: u64,
    pub vetoes: usize,
    pub presence: bool,
    /// After how long, which roles, which people.
    pub escalation: Vec<(u64, Vec<usize>, Vec<usize>)>,
}

#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub id: usize,
    pub version: u64,
    /// By criticality, the lowest first.
    pub levels: Vec<Rule>,
    /// Role, people, longest time.
    pub glass: Option<(usize, usize, u64)>,
    /// Role, longest time.
    pub freeze: Option<(usize, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Quorum,
    Glass,
    Freeze,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Approve,
    Reject,
    Withdraw,
    Break,
    Review,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Policy,
    Roster(Roster),
    Rules(Rules),
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub what: What,
    pub way: Way,
    /// Which text of the change it is.
    pub text: usize,
    pub own: Vec<usize>,
    pub level: usize,
    pub roster: Roster,
    pub rules: Rules,
    pub proposed: u64,
    pub effective: u64,
    pub approve_by: u64,
    pub apply_by: u64,
    pub until: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Vote {
    pub who: usize,
    pub key: usize,
    pub verb: Verb,
    pub text: usize,
    pub cast: u64,
    pub touched: bool,
}

#[derive(Debug)]
pub(super) struct Now<'a> {
    pub roster: &'a Roster,
    pub rules: &'a Rules,
    pub level: usize,
    pub at: u64,
    pub approved_at: Option<u64>,
    pub barred: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    NotYet,
    No,
    TooLate,
}

type Pair<'a> = (&'a Roster, &'a Rules);

/// What holds of a change, these votes, now.
pub(super) fn answer(change: &Change, votes: &[Vote], now: &Now<'_>) -> Answer {
    let level = if matches!(change.what, What::Policy) { change.level.max(now.level) } else { 3 };
    // Each side: all of its pairs must agree with a voter; each pair's bar must be reached.
    let standing: Vec<Pair<'_>> = vec![(now.roster, now.rules), (&change.roster, &change.rules)];
    let mut sides = vec![standing];
    match &change.what {
        What::Policy => {}
        What::Roster(next) => sides.push(vec![(next, now.rules)]),
        What::Rules(next) => sides.push(vec![(now.roster, next)]),
    }
    let rules: Vec<&Rule> = sides.iter().flatten().map(|(_, rules)| &rules.levels[level]).collect();
    let approve_by = rules.iter().map(|rule| change.proposed + rule.approve_within).fold(change.approve_by, u64::min);

    // A vote is heard when it is for this text, of this way, in time, and its key is the voter's own on that side.
    let heard = |vote: &Vote, side: &[Pair<'_>]| {
        let fits = match vote.verb {
            Verb::Approve => change.way != Way::Glass,
            Verb::Break => change.way == Way::Glass,
            Verb::Reject => change.way != Way::Freeze,
            Verb::Withdraw => true,
            Verb::Review => false,
        };
        let before_approval = match now.approved_at {
            Some(approved_at) if matches!(vote.verb, Verb::Reject | Verb::Withdraw) => vote.cast <= approved_at,
            _ => true,
        };
        let own_key = side[0].0.people[vote.who].as_ref().is_some_and(|person| {
            person.keys.iter().any(|(key, from, until)| {
                let valid = |at: u64| from.is_none_or(|from| from <= at) && until.is_none_or(|until| at < until);
                *key == vote.key && valid(now.at) && valid(vote.cast)
            })
        });
        vote.text == change.text && fits && vote.cast <= approve_by && before_approval && own_key
    };
    let heard_somewhere = |vote: &Vote| sides.iter().any(|side| heard(vote, side));
    let did =
        |who: usize, verb: Verb| votes.iter().any(|vote| vote.who == who && vote.verb == verb && heard_somewhere(vote));
    let age = now.at.saturating_sub(change.proposed);
    let may = |who: usize, pair: &Pair<'_>| may_vote(change, level, age, who, pair);

    let rejecters = (0..now.roster.people.len()).filter(|who| {
        let rejects = |vote: &&Vote| vote.who == *who && vote.verb == Verb::Reject;
        let counts = |vote: &Vote| sides.iter().any(|side| heard(vote, side) && may(*who, &side[0]));
        !did(*who, Verb::Withdraw) && votes.iter().filter(rejects).any(counts)
    });
    let vetoes = rules.iter().map(|rule| rule.vetoes).min().unwrap();
    if rejecters.count() >= vetoes || is_blocked(change, now, &sides) {
        return Answer::No;
    }
    if is_too_late(change, now, &rules, approve_by) {
        return Answer::TooLate;
    }
    let all_sides = sides.iter().all(|side| {
        let people: Vec<usize> = (0..now.roster.people.len())
            .filter(|who| !did(*who, Verb::Withdraw) && !did(*who, Verb::Reject))
            .filter(|who| side.iter().all(|pair| may(*who, pair)))
            .filter(|who| {
                let approves = |vote: &&Vote| vote.who == *who && matches!(vote.verb, Verb::Approve | Verb::Break);
                let touched = |vote: &Vote| {
                    let asked = side.iter().any(|(_, rules)| rules.levels[level].presence);
                    vote.touched || !asked || change.way == Way::Freeze
                };
                votes.iter().filter(approves).any(|vote| heard(vote, side) && touched(vote))
            })
            .collect();
        side.iter().all(|pair| is_reached(change, level, pair, &people))
    });
    if all_sides { Answer::Yes } else { Answer::NotYet }
}

fn may_vote(change: &Change, level: usize, age: u64, who: usize, (roster, rules): &Pair<'_>) -> bool {
    let Some(person) = &roster.people[who] else { return false };
    let rule = &rules.levels[level];
    let has = |roles: &[usize]| person.roles.iter().any(|role| roles.contains(role));
    if (change.own.contains(&who) && change.way != Way::Freeze) || rule.exclude_people.contains(&who) {
        return false;
    }
    if has(&rule.exclude_roles) {
        return false;
    }
    match change.way {
        Way::Glass => rules.glass.is_some_and(|(role, _, _)| person.roles.contains(&role)),
        Way::Freeze => rules.freeze.is_some_and(|(role, _)| person.roles.contains(&role)),
        Way::Quorum => {
            let added = |(after, roles, people): &(u64, Vec<usize>, Vec<usize>)| {
                *after <= age && (has(roles) || people.contains(&who))
            };
            has(&rule.approvers) || rule.escalation.iter().any(added)
        }
    }
}

/// Whether these people reach the bar: tried with every assignment of people to places.
fn is_reached(change: &Change, level: usize, (roster, rules): &Pair<'_>, people: &[usize]) -> bool {
    match change.way {
        Way::Glass => {
            let least = if level == 3 { 2 } else { 1 };
            rules.glass.is_some_and(|(_, count, _)| people.len() >= count.max(least))
        }
        Way::Freeze => rules.freeze.is_some() && !people.is_empty(),
        Way::Quorum => {
            let rule = &rules.levels[level];
            let places: Vec<usize> = rule.roles.iter().flat_map(|(role, count)| vec![*role; *count]).collect();
            people.len() >= rule.approvals && can_fill(roster, &places, people)
        }
    }
}

fn can_fill(roster: &Roster, places: &[usize], people: &[usize]) -> bool {
    let Some((role, rest)) = places.split_first() else { return true };
    people.iter().any(|who| {
        let others: Vec<usize> = people.iter().copied().filter(|other| other != who).collect();
        let has = roster.people[*who].as_ref().is_some_and(|person| person.roles.contains(role));
        has && can_fill(roster, rest, &others)
    })
}

fn is_blocked(change: &Change, now: &Now<'_>, sides: &[Vec<Pair<'_>>]) -> bool {
    let emergency_is_off = |(_, rules): &Pair<'_>| {
        let longest = match change.way {
            Way::Quorum => return false,
            Way::Glass => rules.glass.map(|(_, _, longest)| longest),
            Way::Freeze => rules.freeze.map(|(_, longest)| longest),
        };
        longest.is_none_or(|longest| change.until.unwrap() - change.proposed > longest)
    };
    let moved = match &change.what {
        What::Policy => false,
        What::Roster(next) => change.roster.id != now.roster.id || next.version <= now.roster.version,
        What::Rules(next) => change.rules.id != now.rules.id || next.version <= now.rules.version,
    };
    moved || sides.iter().flatten().any(emergency_is_off) || (change.way == Way::Glass && now.barred)
}

fn is_too_late(change: &Change, now: &Now<'_>, rules: &[&Rule], approve_by: u64) -> bool {
    let approved = now.approved_at.unwrap_or(now.at);
    let apply_by = match now.approved_at {
        Some(at) => rules.iter().map(|rule| at + rule.apply_within).fold(change.apply_by, u64::min),
        None => change.apply_by,
    };
    let too_near =
        |rule: &&Rule| change.way == Way::Quorum && rule.delay > 0 && approved + rule.delay > change.effective;
    approved > approve_by
        || now.at > apply_by
        || rules.iter().any(too_near)
        || change.until.is_some_and(|until| now.at >= until)
}
