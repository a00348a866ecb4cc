//! Changes: proposed, edited, voted on, taken back; and what is in force.

use std::sync::PoisonError;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, Digest, HostId};
use quotary_common::instant::rfc3339;
use quotary_common::quorum::change::{Input, Way};
use quotary_common::quorum::decide::Outcome;
use quotary_common::quorum::roster::Word;
use quotary_common::quorum::vote::{Verb, Vote, VoteFault, check};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{
    self, AuthorityReply, AuthorityView, Base64, ChangePreview, ChangeRequest, ChangeSummary, ChangeView, DocumentView,
    HeldView, PolicyView, QuorumDecisionReply, QuorumDecisionsReply, ReviewView, VoteRequest, VoteView,
};
use quotary_decide::change::{Book, InForce, Kept, Review};
use quotary_decide::policy::life::State;
use quotary_decide::registry::TokenScope;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::App;
use super::auth::Caller;
use super::mount::Call;
use crate::core::{ChangeAsk, Command, Proposal, no_person};
use crate::planner::Sight;

/// Bytes of decisions in one page of the authority, before base64: a reply stays within what an agent reads.
const LINKS_BYTES_MAX: usize = 512 * 1024;

pub(super) async fn authority(call: Call<wire::ShowAuthority>) -> Result<AuthorityView, Refusal> {
    let book = call.app.view.changes();
    let governing = book.governing().ok_or_else(nobody)?;
    let (roster, rules) = (governing.roster(), governing.rules());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(AuthorityView {
        roster: DocumentView { sha256: roster.digest(), version: roster.version(), text: text(roster.bytes()) },
        rules: DocumentView { sha256: rules.digest(), version: rules.version(), text: text(rules.bytes()) },
        number: governing.pin().number,
        allowed_signers: roster.allowed_signers(&call.app.deployment),
        namespace: namespace(&call.app),
    })
}

/// What a host needs to walk from genesis to who decides now.
pub(super) async fn links(call: Call<wire::AskAuthority>) -> Result<AuthorityReply, Refusal> {
    let book = call.app.view.changes();
    let governing = book.governing().ok_or_else(nobody)?;
    let after = call.query.first().and_then(Option::as_deref).filter(|text| !text.is_empty());
    let after: u64 = after.map_or(Ok(0), str::parse).map_err(|_| malformed("after must be a number"))?;
    let mut bytes = 0;
    let page = governing.links_after(after).iter().take_while(|link| {
        let is_first = bytes == 0;
        bytes += link.len();
        is_first || bytes <= LINKS_BYTES_MAX
    });
    let links = page.map(|link| Base64(link.clone())).collect();
    let (roster, rules) = governing.first();
    Ok(AuthorityReply {
        number: governing.pin().number,
        genesis: Base64(governing.genesis_signed().to_vec()),
        roster: Base64(roster.bytes().to_vec()),
        rules: Base64(rules.bytes().to_vec()),
        links,
    })
}

/// Which decisions are in force that may reach the host.
pub(super) async fn in_force(call: Call<wire::ListQuorumDecisions>) -> Result<QuorumDecisionsReply, Refusal> {
    let (book, host) = (call.app.view.changes(), host_of(&call.path)?);
    let texts = book.in_force_for(&host, call.app.clock.now_ms());
    Ok(QuorumDecisionsReply { name: book.in_force_name(&host), texts })
}

/// One of them.
pub(super) async fn decision(call: Call<wire::ShowQuorumDecision>) -> Result<QuorumDecisionReply, Refusal> {
    let (book, host) = (call.app.view.changes(), host_of(&call.path)?);
    let text: Option<Digest> = call.path.get(1).and_then(|text| text.parse().ok());
    let text = text.ok_or_else(|| malformed("a quorum decision is named by the SHA-256 of its text"))?;
    let gone = || Refusal::new(Reason::NotFound, "no quorum decision over this text is in force here");
    Ok(QuorumDecisionReply { decision: Base64(book.in_force_by(&host, &text).ok_or_else(gone)?.to_vec()) })
}

fn host_of(path: &[String]) -> Result<HostId, Refusal> {
    let id = path.first().and_then(|text| text.parse().ok());
    id.ok_or_else(|| malformed("no host has such an id"))
}

pub(super) async fn policies(call: Call<wire::ListPolicies>) -> Result<Vec<PolicyView>, Refusal> {
    let app = &call.app;
    let sight = Sight::new(app.deployment, &app.view, &app.ground, app.clock.now_ms());
    let held = sight.standing.held(sight.book.map());
    let view = |held_policy: &InForce| {
        let policy = &held_policy.policy;
        let of_policy = sight.standing.units.iter().zip(&held.holdings).filter_map(|(unit, holding)| {
            let holding = holding.as_ref().filter(|holding| holding.policy.name == policy.name)?;
            Some(HeldView {
                host: unit.host,
                application: unit.application.as_str().to_owned(),
                tenant: unit.tenant.as_str().to_owned(),
                target: unit.target.clone(),
                meets_zone: holding.meets_zone,
            })
        });
        let text = held_policy.text.to_string();
        let seen = app.watched.of(&policy.name);
        PolicyView {
            name: policy.name.as_str().to_owned(),
            document: DocumentView { sha256: policy.digest(), version: policy.version, text },
            criticality: policy.criticality.to_string(),
            since_ms: held_policy.since_ms,
            change: held_policy.change.to_string(),
            holds_for: of_policy.collect(),
            watched: seen.words,
            drafts: seen.drafts,
        }
    };
    Ok(sight.book.policies().values().map(view).collect())
}

pub(super) async fn list(call: Call<wire::ListChanges>) -> Result<Vec<ChangeSummary>, Refusal> {
    let book = call.app.view.changes();
    let state = call.query.first().and_then(Option::as_deref).filter(|text| !text.is_empty());
    let mut all: Vec<(&ChangeId, &Kept)> = book.changes().iter().map(|(id, kept)| (id, &**kept)).collect();
    all.retain(|(_, kept)| state.is_none_or(|state| [kept.state_name(), kept.record().state.name()].contains(&state)));
    all.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.record().proposed_at_ms));
    Ok(all.into_iter().map(|(id, kept)| summary(&book, id, kept)).collect())
}

pub(super) async fn show(call: Call<wire::ShowChange>) -> Result<ChangeView, Refusal> {
    let book = call.app.view.changes();
    let id = named(&book, &call.path)?;
    view(&call.app, &book, &id)
}

pub(super) async fn propose(call: Call<wire::ProposeChange>) -> Result<ChangeView, Refusal> {
    let (by, actor) = person(&call.app, &call.caller)?;
    let proposal = proposal(random().map(ChangeId::new)?, call.body)?;
    let id = asked(&call.app, ChangeAsk::Propose(Box::new(proposal)), by, actor).await?;
    view(&call.app, &call.app.view.changes(), &id)
}

pub(super) async fn edit(call: Call<wire::EditChange>) -> Result<ChangeView, Refusal> {
    let (by, actor) = person(&call.app, &call.caller)?;
    let id = named(&call.app.view.changes(), &call.path)?;
    let proposal = proposal(id, call.body)?;
    let id = asked(&call.app, ChangeAsk::Edit(Box::new(proposal)), by, actor).await?;
    view(&call.app, &call.app.view.changes(), &id)
}

pub(super) async fn withdraw(call: Call<wire::WithdrawChange>) -> Result<ChangeView, Refusal> {
    let (by, actor) = person(&call.app, &call.caller)?;
    let id = named(&call.app.view.changes(), &call.path)?;
    let id = asked(&call.app, ChangeAsk::Withdraw { id }, by, actor).await?;
    view(&call.app, &call.app.view.changes(), &id)
}

/// A vote: bounds, then who has the key, then the signature; whether it counts is decided by the writer.
pub(super) async fn vote(call: Call<wire::CastVote>) -> Result<ChangeView, Refusal> {
    let (by, actor) = person(&call.app, &call.caller)?;
    let (app, book) = (&call.app, call.app.view.changes());
    let id = named(&book, &call.path)?;
    let kept = book.change(&id)?;
    let VoteRequest { verb, signature } = &call.body;
    let verb = Verb::ALL.into_iter().find(|one| one.name() == verb);
    let verb =
        verb.ok_or_else(|| malformed("the verb must be approval, rejection, withdrawal, break-glass or review"))?;
    let rosters = book.rosters_of(kept);
    let refused = |fault: &VoteFault| Refusal::new(Reason::Change, format!("the vote is refused: {fault}"));
    let now_ms = app.clock.now_ms();
    let mut read = rosters.iter().map(|roster| Vote::from_armoured(signature, verb, kept.text(), roster, now_ms));
    let first = read.next().ok_or_else(nobody)?;
    let vote = first.or_else(|fault| read.find_map(Result::ok).ok_or(fault)).map_err(|fault| refused(&fault))?;
    let checked = {
        let mut cache = app.signatures.lock().unwrap_or_else(PoisonError::into_inner);
        check(&vote, kept.text(), &rosters, &mut cache).map_err(|fault| refused(&fault))?
    };
    tracing::info!(change = %id, person = %vote.person, verb = verb.name(), "a vote came");
    let note = said_before(kept, &vote);
    let ask = ChangeAsk::Vote { id, vote: Box::new(vote), checked: Box::new(checked) };
    let id = asked(app, ask, by, actor).await?;
    Ok(ChangeView { note, ..view(app, &app.view.changes(), &id)? })
}

pub(super) async fn preview(call: Call<wire::PreviewChange>) -> Result<ChangePreview, Refusal> {
    let app = &call.app;
    let sight = Sight::new(app.deployment, &app.view, &app.ground, app.clock.now_ms());
    let id = named(&sight.book, &call.path)?;
    app.previews.of(&sight, &id, (&app.ground, app.timing.forecast_step_ms)).await
}

async fn asked(app: &App, ask: ChangeAsk, by: Word, actor: String) -> Result<ChangeId, Refusal> {
    let ask = Box::new(ask);
    app.queue.ask(|answer| Command::Change { ask, by, actor, answer }).await
}

fn proposal(id: ChangeId, body: ChangeRequest) -> Result<Proposal, Refusal> {
    let quiet = if matches!(body.subject, wire::ChangeSubject::Freeze(_)) { Way::Freeze } else { Way::Quorum };
    let way = body.way.as_deref().map_or(Some(quiet), Way::of_name);
    let input = |input: &wire::ChangeInput| {
        let name = Name::new(&input.name).filter(|name| !name.as_str().is_empty());
        name.map(|name| Input { digest: input.sha256, name })
    };
    let inputs: Option<Vec<Input>> = body.inputs.iter().map(input).collect();
    Ok(Proposal {
        id,
        subject: body.subject,
        way: way.ok_or_else(|| malformed("way must be quorum, break-glass or freeze"))?,
        lasts_ms: body.lasts_ms,
        effective_at_ms: body.effective_at_ms,
        inputs: inputs.ok_or_else(|| malformed("an input has a name of at most 128 bytes"))?,
        nonce: random()?,
    })
}

/// Who asks: the person whose name the token is in.
fn person(app: &App, caller: &Caller) -> Result<(Word, String), Refusal> {
    let Caller::Operator(token) = caller else {
        return Err(Refusal::new(Reason::Forbidden, "changes are asked for by people"));
    };
    let name = match app.view.token(token).map(|record| record.scope) {
        Some(TokenScope::Operator { name, .. }) => name,
        _ => return Err(Refusal::new(Reason::Forbidden, "changes are asked for by people")),
    };
    let book = app.view.changes();
    let governing = book.governing().ok_or_else(nobody)?;
    let word = Word::new(name.as_str()).filter(|word| governing.roster().person(word).is_some());
    let word = word.ok_or_else(|| no_person(name.as_str()))?;
    Ok((word, format!("{name}, token {token}")))
}

fn named(book: &Book, path: &[String]) -> Result<ChangeId, Refusal> {
    let text = path.first().map(String::as_str).unwrap_or_default();
    if let Ok(id) = text.parse::<ChangeId>() {
        return book.change(&id).map(|_| id);
    }
    let found = book.changes().keys().find(|id| id.is_named(text)).copied();
    let shown: String = text.chars().take(80).collect();
    found
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("no change `{shown}`: `quotary change list` shows them")))
}

fn summary(book: &Book, id: &ChangeId, kept: &Kept) -> ChangeSummary {
    let held = book.held_until_ms(id).map(|until_ms| format!("held where it is until {}", rfc3339(until_ms)));
    let (record, change) = (kept.record(), kept.text().change());
    ChangeSummary {
        id: id.to_string(),
        kind: kept.kind_name().to_owned(),
        name: record.name.as_str().to_owned(),
        state: kept.state_name().to_owned(),
        since_ms: record.since_ms,
        way: change.way.name().to_owned(),
        why: record.why.as_ref().map(|why| why.as_str().to_owned()).or(held),
        criticality: change.criticality.to_string(),
        requester: change.requester.as_str().to_owned(),
        proposed_at_ms: record.proposed_at_ms,
        effective_at_ms: record.times.effective_at_ms,
        approve_by_ms: record.times.approve_by_ms,
        apply_by_ms: record.times.apply_by_ms,
        until_ms: change.until_ms,
        quorum: kept.outcome().and_then(|outcome| outcome.explain().into_iter().next()).unwrap_or_default(),
    }
}

fn view(app: &App, book: &Book, id: &ChangeId) -> Result<ChangeView, Refusal> {
    let kept = book.change(id)?;
    let plans: Vec<(HostId, quotary_common::id::PlanId)> = app
        .view
        .hosts()
        .iter()
        .flat_map(|snapshot| snapshot.plans.iter())
        .filter(|record| record.change() == Some(*id))
        .map(|record| (record.plan().host, record.plan().id))
        .collect();
    let is_moving = matches!(kept.record().state, State::Shaping | State::InForce);
    Ok(ChangeView {
        summary: summary(book, id, kept),
        sha256: kept.text().digest(),
        text: String::from_utf8_lossy(kept.text().bytes()).into_owned(),
        explained: kept.outcome().map(Outcome::explain).unwrap_or_default(),
        namespace: namespace(app),
        votes: votes(kept),
        impact: book.impact_now(id),
        plans: plans.into_iter().map(|(_, plan)| plan).collect(),
        without_plan: app.left_out.of(id),
        aligned_at_ms: kept.record().aligned_at_ms.filter(|_| is_moving),
        review: book.review_of(id, app.clock.now_ms()).map(review),
        note: None,
    })
}

fn review(review: Review) -> ReviewView {
    let names = |people: Vec<Word>| people.iter().map(ToString::to_string).collect();
    ReviewView {
        state: review.state.to_owned(),
        by_ms: review.by_ms,
        missing: review.missing as u64,
        by: names(review.by),
        may: names(review.may),
        follows: review.follows.to_owned(),
    }
}

/// What somebody is told who has said the same before.
fn said_before(kept: &Kept, vote: &Vote) -> Option<String> {
    let same = |one: &&Vote| (&one.person, one.verb, one.text) == (&vote.person, vote.verb, vote.text);
    let before = kept.ballot().votes().iter().find(same)?;
    let at = rfc3339(before.cast_at_ms);
    Some(format!("`{}` has said so already, at {at}: whoever says it again counts once", vote.person))
}

/// Every vote, and whether it counts: as the quorum was asked last.
fn votes(kept: &Kept) -> Vec<VoteView> {
    let notes = kept.outcome().map(|outcome| outcome.votes.as_slice()).unwrap_or_default();
    let note = |vote: &Vote| {
        let is_it = |checked: &quotary_common::quorum::vote::CheckedVote| {
            (checked.person(), checked.verb(), checked.text(), checked.key(), checked.cast_at_ms())
                == (&vote.person, vote.verb, vote.text, vote.key, vote.cast_at_ms)
        };
        kept.checked().iter().position(is_it).and_then(|place| notes.get(place))
    };
    let view = |vote: &Vote| {
        let (counted, reason) = match note(vote).map(|note| &note.counted) {
            Some(Ok(())) => (true, "counted".to_owned()),
            Some(Err(why)) => (false, why.to_string()),
            None if vote.text != kept.text().digest() => {
                (false, "dismissed: it is for an earlier text of the change".to_owned())
            }
            None if vote.verb == Verb::Review => (false, "a review: `review` says what it comes to".to_owned()),
            None => (false, "not asked about yet".to_owned()),
        };
        VoteView {
            person: vote.person.as_str().to_owned(),
            key: vote.key.to_string(),
            verb: vote.verb.name().to_owned(),
            cast_at_ms: vote.cast_at_ms,
            counted,
            reason,
            sha256: vote.text,
            signature: vote.armoured().unwrap_or_default(),
        }
    };
    kept.ballot().votes().iter().map(view).collect()
}

fn namespace(app: &App) -> String {
    app.deployment.hex().chars().take(16).collect()
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Refusal::new(Reason::Unavailable, "the random source failed"))?;
    Ok(bytes)
}

fn nobody() -> Refusal {
    let how = "nobody decides about changes yet: `quotary-verifier authority` puts the first roster and quorum rules in force";
    Refusal::new(Reason::NotFound, how)
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(Reason::Malformed, why)
}
