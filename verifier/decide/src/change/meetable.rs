//! Whether a roster can meet quorum rules at all: what would hang for ever is refused before it is in force.

use quotary_common::id::{ChangeId, DeploymentId, Digest};
use quotary_common::plan::OnPressure;
use quotary_common::quorum::change::{Change, ChangeText, Kind, Way};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::decide::{Case, Inadmissible, Moment, Under, admit, reviewers_lacking};
use quotary_common::quorum::roster::{VERIFIER, Word};
use quotary_common::quorum::rules::Rules;
use quotary_common::units::Resources;

/// What nobody could ever approve or review, whoever asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeetable {
    /// Which votes are missing.
    pub what: Lacking,
    /// By which way.
    pub way: Way,
    /// A change of which criticality.
    pub criticality: Criticality,
    /// Why: where that is for want of people, as it is when the person asks for it who leaves most to others.
    pub why: String,
}

/// Which votes nobody could give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// Those that decide.
    Approvals,
    /// Those that an emergency asks for afterwards.
    Reviews,
}

impl std::fmt::Display for Unmeetable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.what, self.way) {
            (Lacking::Reviews, Way::Freeze) => {
                write!(f, "a freeze of criticality `{}` could never be reviewed (`freeze`)", self.criticality)?;
            }
            (Lacking::Reviews, _) => {
                write!(
                    f,
                    "a broken glass of criticality `{}` could never be reviewed (`break_glass`)",
                    self.criticality
                )?;
            }
            (_, Way::Quorum) => write!(f, "nobody could approve a change of criticality `{}`", self.criticality)?,
            (_, Way::BreakGlass) => f.write_str("nobody could break the glass (`break_glass`)")?,
            (_, Way::Freeze) => f.write_str("nobody could hold a change where it is (`freeze`)")?,
        }
        write!(f, ": {}", self.why)
    }
}

/// All that nobody could approve or review by these rules, asked as for a change that is proposed at `now_ms` (Unix ms): each criticality that has a rule of its
/// own, and each emergency that the rules know: its votes at the lowest criticality, since who may do less is still there for that, and its review at each.
pub fn unmeetable(under: Under<'_>, now_ms: u64) -> Vec<Unmeetable> {
    let own = |level: &Criticality| {
        let next = Criticality::ALL.into_iter().find(|next| next > level);
        next.is_none_or(|next| under.rules.rule(next) != under.rules.rule(*level))
    };
    let levels = Criticality::ALL.into_iter().filter(own).map(|level| (Way::Quorum, level));
    let glass = under.rules.break_glass().map(|_| (Way::BreakGlass, Criticality::Low));
    let freeze = under.rules.freeze().map(|_| (Way::Freeze, Criticality::Low));
    let all = levels.chain(glass).chain(freeze);
    let against = |(way, criticality)| {
        let why = against(under, (way, criticality), now_ms)?;
        Some(Unmeetable { what: Lacking::Approvals, way, criticality, why })
    };
    let mut found: Vec<Unmeetable> = all.filter_map(against).collect();
    let unreviewed = |way| {
        let mut levels = [Criticality::Low].into_iter().chain(Criticality::ALL.into_iter().filter(own));
        // What nobody could do needs no review.
        levels.find_map(|criticality| {
            let can_be = too_few(under, (way, criticality), now_ms).is_none();
            let why = unreviewed(under, (way, criticality), now_ms).filter(|_| can_be)?;
            Some(Unmeetable { what: Lacking::Reviews, way, criticality, why })
        })
    };
    let known = [under.rules.break_glass().map(|_| Way::BreakGlass), under.rules.freeze().map(|_| Way::Freeze)];
    found.extend(known.into_iter().flatten().filter_map(unreviewed));
    found
}

/// Who is missing to review an emergency when those decide it who leave most to others; `None`: nobody.
fn unreviewed(under: Under<'_>, what: (Way, Criticality), now_ms: u64) -> Option<String> {
    let lacking = whoever_asks(under, what, now_ms, reviewers_lacking).min().filter(|lacking| *lacking > 0)?;
    let people = if lacking == 1 { "one person is".to_owned() } else { format!("{lacking} people are") };
    Some(format!("{people} missing who could approve such a change in quiet times and did not decide it"))
}

/// What is found of such a change as each person of the roster would ask for it.
fn whoever_asks<T>(
    under: Under<'_>,
    what: (Way, Criticality),
    now_ms: u64,
    find: impl Fn(&Case<'_>) -> T,
) -> impl Iterator<Item = T> {
    let clocks = clocks(under.rules, what, now_ms);
    under.roster.people().filter_map(move |person| {
        // Whoever cannot be named in a text asks for nothing.
        let text = ChangeText::render(&asked_by(&person.name, under, what, clocks)).ok()?;
        let case = Case::new(&text, &[], (under, under), None, (Moment::Vote, now_ms)).ok()?;
        Some(find(&case))
    })
}

/// What stands against it whoever asks; `None`: somebody can ask so that others can approve.
fn against(under: Under<'_>, (way, criticality): (Way, Criticality), now_ms: u64) -> Option<String> {
    let rule = under.rules.rule(criticality);
    let (delay_s, within_s) = (rule.delay_ms_min / 1_000, rule.apply_within_ms / 1_000);
    let too_long = way == Way::Quorum && delay_s >= within_s;
    let too_long = too_long.then(|| {
        format!(
            "`delay_s_min` ({delay_s} s) leaves no effective time within `apply_within_s` ({within_s} s) of an approval"
        )
    });
    let too_few = too_few(under, (way, criticality), now_ms).map(|why| why.to_string());
    let why: Vec<String> = too_long.into_iter().chain(too_few).collect();
    (!why.is_empty()).then(|| why.join("; "))
}

/// Who is missing when the person asks for it who leaves most to others; `None`: nobody.
fn too_few(under: Under<'_>, what: (Way, Criticality), now_ms: u64) -> Option<Inadmissible> {
    let too_few = |case: &Case<'_>| {
        let why = admit(case).err().unwrap_or_default();
        why.into_iter().find(|why| matches!(why, Inadmissible::TooFewEligible { .. }))
    };
    let all: Option<Vec<Inadmissible>> = whoever_asks(under, what, now_ms, too_few).collect();
    all?.into_iter().min_by_key(lacks)
}

/// How many people more it takes.
fn lacks(why: &Inadmissible) -> usize {
    match why {
        Inadmissible::TooFewEligible { missing, .. } => missing.people,
        _ => 0,
    }
}

/// Instants of a change, Unix ms.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    proposed_ms: u64,
    effective_ms: u64,
    approve_by_ms: u64,
    apply_by_ms: u64,
    until_ms: Option<u64>,
}

/// All the time that a change's rule gives.
fn clocks(rules: &Rules, (way, criticality): (Way, Criticality), now_ms: u64) -> Clocks {
    let rule = rules.rule(criticality);
    let lasts_ms = match way {
        Way::Quorum => None,
        Way::BreakGlass => rules.break_glass().map(|glass| glass.lasts_ms_max),
        Way::Freeze => rules.freeze().map(|freeze| freeze.lasts_ms_max),
    };
    let approve_by_ms = now_ms.saturating_add(rule.approve_within_ms);
    let apply_by_ms = approve_by_ms.saturating_add(rule.apply_within_ms);
    let delay_ms = if way == Way::Quorum { rule.delay_ms_min } else { 0 };
    Clocks {
        proposed_ms: now_ms,
        effective_ms: now_ms.saturating_add(delay_ms).min(apply_by_ms),
        approve_by_ms,
        apply_by_ms,
        until_ms: lasts_ms.map(|lasts_ms| now_ms.saturating_add(lasts_ms)),
    }
}

/// A change that asks for nothing but what its criticality and its way ask for.
fn asked_by(person: &Word, under: Under<'_>, (way, criticality): (Way, Criticality), clocks: Clocks) -> Change {
    let Clocks { proposed_ms, effective_ms, approve_by_ms, apply_by_ms, until_ms } = clocks;
    Change {
        deployment: DeploymentId::of(&[]),
        id: ChangeId::of(&[]),
        kind: Kind::RevokePolicy,
        name: Word::lossy("any"),
        way,
        requester: person.clone(),
        editor: person.clone(),
        applier: Word::lossy(VERIFIER),
        criticality,
        base: Some(Digest::of(&[])),
        roster: under.roster.digest(),
        rules: under.rules.digest(),
        proposed_ms,
        effective_ms,
        approve_by_ms,
        apply_by_ms,
        until_ms,
        slew: Resources::default(),
        on_pressure: OnPressure::default(),
        nonce: [0; 16],
        inputs: Vec::new(),
        covers: Vec::new(),
        document: String::new(),
    }
}
