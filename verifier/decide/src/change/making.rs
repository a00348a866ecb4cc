//! From what somebody asks for to the text that people sign.

use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, Digest};
use quotary_common::instant::rfc3339;
use quotary_common::limits::{DETAIL_BYTES_MAX, POLICIES_MAX};
use quotary_common::plan::OnPressure;
use quotary_common::quorum::change::{Change, ChangeText, Input, Kind, Way};
use quotary_common::quorum::covers::Cover;
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::decide::{Case, Moment, Proposed, Under, admit};
use quotary_common::quorum::document::Faults;
use quotary_common::quorum::roster::{Roster, VERIFIER, Word};
use quotary_common::quorum::rules::{Rule, Rules};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::Resources;
use quotary_common::wire::ChangeSubject;

use super::book::{Book, World, refuse};
use super::fields::{between_rosters, between_rules, in_words};
use super::freezing::Frozen;
use super::governing::Governing;
use super::meetable::unmeetable;
use crate::policy::life::{Emergency, Times};
use crate::policy::{self, Edit, Impact, Shaping, assess};
use crate::shape::unenforced;

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// What the change would do.
    pub subject: &'a ChangeSubject,
    /// Who asks, by his token.
    pub by: &'a Word,
    /// By which way; a freeze has its own.
    pub way: Way,
    /// How long an emergency lasts from its effective time on, ms.
    pub lasts_ms: Option<u64>,
    /// When it is to be in force, Unix ms; absent: as early as its rule allows.
    pub effective_at_ms: Option<u64>,
    /// What is applied with it.
    pub inputs: Vec<Input>,
    /// Random.
    pub id: ChangeId,
    /// Random.
    pub nonce: [u8; 16],
}

/// A text with what it came from.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) text: ChangeText,
    pub(super) times: Times,
    pub(super) proposed: Option<Proposed>,
    pub(super) impact: Vec<String>,
    pub(super) escalate_after_ms: Vec<u64>,
}

/// What a document would do, before clocks.
struct Matter {
    kind: Kind,
    name: Name,
    criticality: Criticality,
    base: Option<Digest>,
    document: String,
    proposed: Option<Proposed>,
    covers: Vec<Cover>,
    slew: Resources,
    on_pressure: OnPressure,
    impact: Vec<String>,
}

impl Book {
    /// The text of what is asked for; `requester` asked first, where this is an edit.
    ///
    /// # Errors
    /// `malformed` with the document's faults; `change` with what stands against it: no capacity, policies tied, a rule that nobody can meet.
    pub(super) fn make(&self, asked: &Asked<'_>, requester: &Word, world: &World<'_>) -> Result<Made, Refusal> {
        let governing = self.decides()?;
        let is_freeze = matches!(asked.subject, ChangeSubject::Freeze(_));
        if is_freeze != (asked.way == Way::Freeze) {
            return Err(refuse("a freeze holds a change where it is, and nothing else does: name the change"));
        }
        let mut matter = self.matter(asked, governing, world)?;
        let rules = match &matter.proposed {
            Some(Proposed::Rules(next)) => vec![&**governing.rules(), &**next],
            _ => vec![&**governing.rules()],
        };
        let of_level: Vec<&Rule> = rules.iter().map(|rules: &&Rules| rules.rule(matter.criticality)).collect();
        let times = match asked.way {
            Way::Quorum if asked.lasts_ms.is_some() => {
                return Err(refuse("a change by quorum lasts: only an emergency (`break-glass`) ends by itself"));
            }
            Way::Quorum => times(&of_level, asked.effective_at_ms, world.now_ms)?,
            way => emergency(way, asked, (governing.rules(), &of_level), world.now_ms)?,
        };
        matter.impact.extend(too_early(&of_level, &times, world.now_ms));
        let escalate_after_ms = match asked.way {
            Way::Quorum => of_level.iter().flat_map(|rule| &rule.escalation).map(|step| step.after_ms).collect(),
            // Nobody else may approve an emergency, however long it waits.
            Way::BreakGlass | Way::Freeze => Vec::new(),
        };
        let word = |name: &Name| {
            Word::new(name.as_str()).ok_or_else(|| refuse(format!("`{name}` is too long for the name of a change")))
        };
        let change = Change {
            deployment: world.deployment,
            id: asked.id,
            kind: matter.kind,
            name: word(&matter.name)?,
            way: asked.way,
            requester: requester.clone(),
            editor: asked.by.clone(),
            applier: Word::lossy(VERIFIER),
            criticality: matter.criticality,
            base: matter.base,
            roster: governing.roster().digest(),
            rules: governing.rules().digest(),
            proposed_ms: world.now_ms,
            effective_ms: times.effective_at_ms,
            approve_by_ms: times.approve_by_ms,
            apply_by_ms: times.apply_by_ms,
            until_ms: times.emergency.map(|emergency| emergency.ends_at_ms),
            slew: matter.slew,
            on_pressure: matter.on_pressure,
            nonce: asked.nonce,
            inputs: asked.inputs.clone(),
            covers: matter.covers,
            document: matter.document,
        };
        let text =
            ChangeText::render(&change).map_err(|fault| refuse(format!("the change cannot be written: {fault}")))?;
        admissible(&text, governing, matter.proposed.as_ref(), world.now_ms)?;
        Ok(Made { text, times, proposed: matter.proposed, impact: matter.impact, escalate_after_ms })
    }

    fn matter(&self, asked: &Asked<'_>, governing: &Governing, world: &World<'_>) -> Result<Matter, Refusal> {
        let id = &asked.id;
        match asked.subject {
            ChangeSubject::Policy(document) => {
                let policy =
                    policy::read(document.as_bytes(), Some(world.catalogue)).map_err(|faults| told(&faults))?;
                let shaping = policy.shaping.clone();
                let edit = Edit::Put(Arc::new(policy));
                self.of_policy(id, &edit, (document, &shaping), world)
            }
            ChangeSubject::Revoke(name) => {
                let name = Name::new(name).filter(|name| self.policies.contains_key(name));
                let name = name.ok_or_else(|| Refusal::new(Reason::NotFound, "no policy of this name is in force"))?;
                let shaping = self.policies.get(&name).map(|held| held.policy.shaping.clone()).unwrap_or_default();
                self.of_policy(id, &Edit::Revoke(name), ("", &shaping), world)
            }
            ChangeSubject::Freeze(named) => {
                let Frozen { name, criticality, text, document, impact } = self.frozen(named)?;
                Ok(Matter {
                    kind: Kind::AlterPolicy,
                    name: Name::lossy(name.as_str()),
                    criticality,
                    base: Some(text),
                    document,
                    proposed: None,
                    covers: Vec::new(),
                    slew: Resources::default(),
                    on_pressure: OnPressure::default(),
                    impact,
                })
            }
            ChangeSubject::Roster(document) => {
                let roster = Roster::parse(document.as_bytes()).map_err(|faults| told(&faults))?;
                above(roster.version(), governing.roster().version(), "roster")?;
                let people = roster.people().count();
                let mut impact = vec![format!("the roster would have {people} people, version {}", roster.version())];
                impact.extend(in_words(&between_rosters(governing.roster(), &roster)));
                let next = Under { roster: &roster, rules: governing.rules() };
                impact.extend(unmeetable(next, world.now_ms).iter().map(ToString::to_string));
                let (base, proposed) = (governing.roster().digest(), Proposed::Roster(roster));
                Ok(of_authority(Kind::Roster, "roster", (base, document, proposed), impact))
            }
            ChangeSubject::Rules(document) => {
                let rules = Rules::parse(document.as_bytes()).map_err(|faults| told(&faults))?;
                above(rules.version(), governing.rules().version(), "quorum rules")?;
                let mut impact = vec![format!("the quorum rules would be of version {}", rules.version())];
                impact.extend(in_words(&between_rules(governing.rules(), &rules)));
                let next = Under { roster: governing.roster(), rules: &rules };
                impact.extend(unmeetable(next, world.now_ms).iter().map(ToString::to_string));
                let (base, proposed) = (governing.rules().digest(), Proposed::Rules(Box::new(rules)));
                Ok(of_authority(Kind::Rules, "rules", (base, document, proposed), impact))
            }
        }
    }

    fn of_policy(
        &self,
        id: &ChangeId,
        edit: &Edit,
        (document, shaping): (&str, &Shaping),
        world: &World<'_>,
    ) -> Result<Matter, Refusal> {
        let name = edit.name().clone();
        let held = self.policies.get(&name);
        if let (Some(held), Some(new)) = (held, edit.puts()) {
            above(new.version, held.policy.version, "policy")?;
        }
        if held.is_none() && edit.puts().is_some() && self.policies.len() >= POLICIES_MAX {
            let why = format!(
                "{POLICIES_MAX} policies are in force, as many as hosts keep: revoke one, or let one be for more"
            );
            return Err(refuse(why));
        }
        let impact = self.impact(edit, world);
        if let Some(why) = against(&impact, "").or_else(|| self.against_others(id, edit, world)) {
            return Err(refuse(why));
        }
        let hosts = &world.standing.hosts;
        let covers =
            policy::covers((&self.map, edit), hosts, world.rules).map_err(|fault| refuse(fault.to_string()))?;
        let mut told: Vec<String> = impact.to_string().lines().map(str::to_owned).collect();
        told.extend(
            covers
                .nameless
                .iter()
                .map(|name| format!("application {name} is known by no unit, cgroup or uid: nothing moves for it")),
        );
        told.extend(unenforced(&self.map, edit, world.standing));
        told.extend(self.besides(id, &name, &covers.lines));
        Ok(Matter {
            kind: match (held, edit.puts()) {
                (_, None) => Kind::RevokePolicy,
                (None, Some(_)) => Kind::CreatePolicy,
                (Some(_), Some(_)) => Kind::AlterPolicy,
            },
            name,
            criticality: impact.criticality,
            base: held.map(|held| held.policy.digest()),
            document: document.to_owned(),
            proposed: None,
            covers: covers.lines,
            slew: shaping.slew_per_second,
            on_pressure: shaping.on_pressure,
            impact: told,
        })
    }

    /// What stands against it beside the policies in force: what else is approved and on its way.
    pub(super) fn against_others(&self, id: &ChangeId, edit: &Edit, world: &World<'_>) -> Option<String> {
        let with_others = assess(&self.map_with_others(id, edit.name()), edit, world.standing);
        against(&with_others, " beside what is approved already")
    }

    /// What an edit of the policies in force would do now.
    pub(super) fn impact(&self, edit: &Edit, world: &World<'_>) -> Impact {
        assess(&self.map, edit, world.standing)
    }
}

/// What stands against a change, however many approve.
pub(super) fn against(impact: &Impact, beside: &str) -> Option<String> {
    let why = impact.refusals.first()?;
    let more = impact.refusals.len() - 1;
    let others = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Some(format!("it cannot be done{beside}: {why}{others}"))
}

fn of_authority(
    kind: Kind,
    name: &str,
    (base, document, proposed): (Digest, &str, Proposed),
    impact: Vec<String>,
) -> Matter {
    Matter {
        kind,
        name: Name::lossy(name),
        criticality: Criticality::Critical,
        base: Some(base),
        document: document.to_owned(),
        proposed: Some(proposed),
        covers: Vec::new(),
        slew: Resources::default(),
        on_pressure: OnPressure::default(),
        impact,
    }
}

/// A document's faults, as many as a reply holds.
fn told(faults: &Faults) -> Refusal {
    let all = faults.to_string();
    let fits = all
        .char_indices()
        .take_while(|(at, _)| *at < DETAIL_BYTES_MAX - 40)
        .last()
        .map_or(0, |(at, c)| at + c.len_utf8());
    let more = if fits < all.len() { " … (`quotary policy check` tells all)" } else { "" };
    Refusal::new(Reason::Malformed, format!("{}{more}", all.get(..fits).unwrap_or_default()))
}

fn above(version: u64, before: u64, what: &str) -> Result<(), Refusal> {
    if version > before {
        return Ok(());
    }
    Err(refuse(format!("its version is {version}; the {what} in force has {before}: a new one must have a greater")))
}

/// What people are told who could approve too early: a change is applied within a time of its approval, whenever that was.
fn too_early(rules: &[&Rule], times: &Times, now_ms: u64) -> Option<String> {
    let within_ms = rules.iter().map(|rule| rule.apply_within_ms).min().filter(|_| times.emergency.is_none())?;
    let from_ms = times.effective_at_ms.saturating_sub(within_ms);
    (from_ms > now_ms).then(|| {
        let (from, within_s) = (rfc3339(from_ms), within_ms / 1_000);
        format!("not to be approved before {from}: its rule lets it be applied within {within_s} s of its approval, and it would expire")
    })
}

/// The clocks that all rules allow: approval as long as may be, the effective time when it was asked for or as soon as it can be.
fn times(rules: &[&Rule], effective_at_ms: Option<u64>, now_ms: u64) -> Result<Times, Refusal> {
    let least = |of: fn(&Rule) -> u64| rules.iter().map(|rule| of(rule)).min().unwrap_or_default();
    let delay_ms_min = rules.iter().map(|rule| rule.delay_ms_min).max().unwrap_or_default();
    let last_ms = now_ms.saturating_add(least(|rule| rule.approve_within_ms));
    // Without an effective time, as much of it is left for approval as may be.
    let effective_at_ms = effective_at_ms.unwrap_or_else(|| last_ms.saturating_add(delay_ms_min));
    let approve_by_ms = last_ms.min(effective_at_ms.saturating_sub(delay_ms_min));
    if approve_by_ms <= now_ms {
        let delay_s = delay_ms_min.div_ceil(1_000);
        return Err(refuse(format!(
            "the effective time is too near: from its approval on, its rule asks for {delay_s} s at least"
        )));
    }
    let apply_by_ms = approve_by_ms.saturating_add(least(|rule| rule.apply_within_ms));
    if effective_at_ms >= apply_by_ms {
        let within_s = least(|rule| rule.apply_within_ms) / 1_000;
        return Err(refuse(format!(
            "the effective time is too far: its rule asks for it within {within_s} s of its approval"
        )));
    }
    Ok(Times { approve_by_ms, apply_by_ms, effective_at_ms, delay_ms_min, emergency: None })
}

/// The clocks of an emergency: it waits for nobody but those who break the glass, ends by itself, and is reviewed.
fn emergency(
    way: Way,
    asked: &Asked<'_>,
    (rules, of_level): (&Rules, &[&Rule]),
    now_ms: u64,
) -> Result<Times, Refusal> {
    let known = match way {
        Way::Freeze => rules.freeze().map(|freeze| (freeze.lasts_ms_max, freeze.review)),
        _ => rules.break_glass().map(|glass| (glass.lasts_ms_max, glass.review)),
    };
    let table = if way == Way::Freeze { "[freeze]" } else { "[break_glass]" };
    let unknown = || refuse(format!("the quorum rules in force know no such way: they have no {table}"));
    let (lasts_ms_max, review) = known.ok_or_else(unknown)?;
    let within = |of: fn(&Rule) -> u64| of_level.iter().map(|rule| of(rule)).min().unwrap_or_default();
    let effective_at_ms = asked.effective_at_ms.unwrap_or(now_ms).max(now_ms);
    let approve_by_ms = now_ms.saturating_add(within(|rule| rule.approve_within_ms).min(lasts_ms_max));
    let lasts_ms = asked.lasts_ms.unwrap_or(lasts_ms_max.saturating_sub(effective_at_ms - now_ms));
    let ends_at_ms = effective_at_ms.saturating_add(lasts_ms);
    Ok(Times {
        approve_by_ms: approve_by_ms.min(ends_at_ms),
        apply_by_ms: approve_by_ms.saturating_add(within(|rule| rule.apply_within_ms)).min(ends_at_ms),
        effective_at_ms,
        delay_ms_min: 0,
        emergency: Some(Emergency { ends_at_ms, review_by_ms: ends_at_ms.saturating_add(review.within_ms) }),
    })
}

/// Whether anybody could ever approve it.
fn admissible(
    text: &ChangeText,
    governing: &Governing,
    proposed: Option<&Proposed>,
    now_ms: u64,
) -> Result<(), Refusal> {
    let under: Under<'_> = governing.under();
    let case = Case::new(text, &[], (under, under), proposed, (Moment::Vote, now_ms));
    let case = case.map_err(|fault| refuse(fault.to_string()))?;
    admit(&case).map_err(|against| {
        let all: Vec<String> = against.iter().map(ToString::to_string).collect();
        refuse(format!("nobody could approve it: {}", all.join("; ")))
    })
}
