//! What is in force: policies, and who decides about them.

use quotary_common::keys::deployment_of;
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::roster::{Roster, Word};
use quotary_common::quorum::rules::{Rule, Rules};
use quotary_common::wire::{AuthorityView, DocumentView, HeldView, ListPolicies, PolicyView, ShowAuthority};
use quotary_decide::change::key_words;

use super::document::Document;
use crate::args::{AuthorityArgs, DocumentKind};
use crate::exit::{Code, Failure};
use crate::present::{self, Align, Facts, Table};
use crate::session::Session;
use crate::{files, now_ms};

/// The policies in force.
pub(super) async fn list(session: &Session, json: bool) -> Result<(), Failure> {
    let policies = session.ask::<ListPolicies>(&[]).await?;
    if json { present::json(&policies) } else { present::print_table(&table(&policies, now_ms())) }
}

fn table(policies: &[PolicyView], now_ms: u64) -> Table {
    let columns = [
        ("POLICY", Align::Left),
        ("VERSION", Align::Right),
        ("CRITICALITY", Align::Left),
        ("IN FORCE", Align::Right),
        ("HOLDS FOR", Align::Right),
        ("SEEN", Align::Left),
    ];
    let mut table = Table::new(&columns, "no policies are in force: `quotary change propose FILE` asks for one");
    for policy in policies {
        table.row([
            policy.name.clone(),
            policy.document.version.to_string(),
            policy.criticality.clone(),
            present::age(policy.since_ms, now_ms),
            format!("{} unit(s)", policy.holds_for.len()),
            policy.watched.join("; "),
        ]);
    }
    table
}

/// One policy in force.
pub(super) async fn one(
    session: &Session,
    name: &str,
    (document, draft): (bool, bool),
    json: bool,
) -> Result<(), Failure> {
    let policies = session.ask::<ListPolicies>(&[]).await?;
    let Some(policy) = policies.into_iter().find(|policy| policy.name == name) else {
        let what = format!("no policy `{}` is in force: see `quotary policy list`", present::clean(name));
        return Err(Failure::new(Code::Refused, what));
    };
    if document {
        return alone(&policy.document, DocumentKind::Policy);
    }
    if draft {
        let none = || {
            Failure::new(Code::Refused, "nothing is suggested for this policy: no review has come of its thresholds")
        };
        return present::print(policy.drafts.last().ok_or_else(none)?);
    }
    if json {
        return present::json(&policy);
    }
    present::print(&facts(&policy, now_ms()).render())?;
    present::print("\n")?;
    present::print_table(&held(&policy.holds_for))?;
    present::print(&format!("\n{}", lines(&policy.document.text)))
}

fn facts(policy: &PolicyView, now_ms: u64) -> Facts {
    let mut facts = Facts::default();
    facts.add("policy", &policy.name);
    facts.add("version", policy.document.version.to_string());
    facts.add("sha256", policy.document.sha256.hex());
    facts.add("criticality", &policy.criticality);
    let since = format!("{} ({})", present::time(policy.since_ms), present::age(policy.since_ms, now_ms));
    facts.add("in force since", format!("{since}, by {}", policy.change));
    for seen in &policy.watched {
        facts.add("seen", seen);
    }
    facts
}

fn held(units: &[HeldView]) -> Table {
    let columns = [
        ("HOST", Align::Left),
        ("TARGET", Align::Left),
        ("APPLICATION", Align::Left),
        ("TENANT", Align::Left),
        ("ZONE MET", Align::Left),
    ];
    let mut table = Table::new(&columns, "it holds for nothing now");
    for unit in units {
        let meets = if unit.meets_zone { "yes" } else { "no: nothing is guaranteed there" };
        let target = unit.target.to_string();
        table.row([unit.host.to_string(), target, unit.application.clone(), unit.tenant.clone(), meets.to_owned()]);
    }
    table
}

/// A text of several lines as a terminal may see it.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", present::clean(line))).collect()
}

/// A document in force, read: it must be what its digest says.
pub(super) fn parsed(view: &DocumentView, kind: DocumentKind) -> Result<Document, Failure> {
    let unreadable =
        |what: String| Failure::new(Code::Unreadable, format!("the {} that the verifier answers {what}", kind.name()));
    let document = Document::parse(view.text.as_bytes(), kind);
    let document = document.map_err(|faults| unreadable(format!("does not read here: {faults}")))?;
    if document.sha256() == view.sha256 {
        Ok(document)
    } else {
        Err(unreadable(format!("has not the SHA-256 that it states, {}", view.sha256.hex())))
    }
}

/// Prints a document in force alone.
fn alone(view: &DocumentView, kind: DocumentKind) -> Result<(), Failure> {
    parsed(view, kind)?;
    present::print(&view.text)
}

/// The roster and the rules in force.
///
/// # Errors
/// The verifier does not answer, or with what does not read.
pub(crate) fn deciding(view: &AuthorityView) -> Result<(Roster, Rules), Failure> {
    let documents = (parsed(&view.roster, DocumentKind::Roster)?, parsed(&view.rules, DocumentKind::Rules)?);
    match documents {
        (Document::Roster(roster), Document::Rules(rules)) => Ok((*roster, *rules)),
        _ => Err(Failure::new(Code::Unreadable, "the verifier answers other documents than were asked for")),
    }
}

/// The roster's keys as `ssh-keygen -Y verify` reads them, made here from the roster where the root key is pinned.
pub(crate) fn allowed_signers(session: &Session, view: &AuthorityView) -> Result<String, Failure> {
    let (roster, _) = deciding(view)?;
    match session.credentials().root_key.as_ref().map(deployment_of) {
        Some(deployment) => Ok(roster.allowed_signers(&deployment)),
        None => Ok(view.allowed_signers.clone()),
    }
}

/// Who decides.
pub(super) async fn authority(session: &Session, args: &AuthorityArgs, json: bool) -> Result<(), Failure> {
    let view = session.ask::<ShowAuthority>(&[]).await?;
    match args.document.as_deref() {
        Some("rules") => return alone(&view.rules, DocumentKind::Rules),
        Some(_) => return alone(&view.roster, DocumentKind::Roster),
        None => {}
    }
    if let Some(path) = &args.allowed_signers {
        let signers = allowed_signers(session, &view)?;
        if path.as_os_str() == "-" {
            return present::print(&signers);
        }
        files::write(path, signers.as_bytes())?;
        eprintln!(
            "quotary: {} written; namespaces are quotary-VERB-v1@{}",
            path.display(),
            present::clean(&view.namespace)
        );
    }
    if json {
        return present::json(&view);
    }
    let (roster, rules) = deciding(&view)?;
    let mut facts = Facts::default();
    facts.add("roster", format!("version {}, SHA-256 {}", roster.version(), roster.digest().hex()));
    facts.add("rules", format!("version {}, SHA-256 {}", rules.version(), rules.digest().hex()));
    facts.add("changed", format!("{} time(s) since the deployment's root signed the first", view.number));
    facts.add("namespaces", format!("quotary-VERB-v1@{}", view.namespace));
    present::print(&format!("{}\n", facts.render()))?;
    present::print_table(&people(&roster, now_ms()))?;
    present::print("\n")?;
    present::print_table(&by_criticality(&rules))?;
    present::print(&emergencies(&rules))
}

fn people(roster: &Roster, now_ms: u64) -> Table {
    let columns = [("PERSON", Align::Left), ("ROLES", Align::Left), ("KEY", Align::Left), ("WHAT IT IS", Align::Left)];
    let mut table = Table::new(&columns, "nobody");
    for person in roster.people() {
        let mut head = [person.name.to_string(), words(&person.roles)];
        if person.keys.is_empty() {
            let [name, roles] = head.clone();
            table.row([name, roles, "-".to_owned(), "no key".to_owned()]);
        }
        for key in &person.keys {
            let [name, roles] = std::mem::take(&mut head);
            let counts = if key.is_valid_at(now_ms) { "" } else { " (does not count now)" };
            table.row([name, roles, key.key.fingerprint().to_string(), key_words(key) + counts]);
        }
    }
    table
}

fn words<'w>(words: impl IntoIterator<Item = &'w Word>) -> String {
    let words: Vec<&str> = words.into_iter().map(Word::as_str).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn by_criticality(rules: &Rules) -> Table {
    let columns = [
        ("CRITICALITY", Align::Left),
        ("APPROVALS", Align::Right),
        ("AMONG THEM", Align::Left),
        ("WHO MAY VOTE", Align::Left),
        ("NOT", Align::Left),
        ("APPROVE WITHIN", Align::Right),
        ("APPLY WITHIN", Align::Right),
        ("DELAY", Align::Right),
        ("VETOES", Align::Right),
        ("TOUCH", Align::Left),
        ("ESCALATION", Align::Left),
    ];
    let mut table = Table::new(&columns, "no rules");
    for criticality in Criticality::ALL {
        let rule = rules.rule(criticality);
        let roles: Vec<String> = rule.roles.iter().map(|(role, count)| format!("{count} {role}")).collect();
        table.row([
            criticality.to_string(),
            rule.approvals.to_string(),
            if roles.is_empty() { "-".to_owned() } else { roles.join(", ") },
            words(&rule.approvers),
            words(&rule.exclude),
            present::duration(rule.approve_within_ms),
            present::duration(rule.apply_within_ms),
            if rule.delay_ms_min == 0 { "-".to_owned() } else { present::duration(rule.delay_ms_min) },
            rule.vetoes.to_string(),
            if rule.requires_user_presence { "yes" } else { "no" }.to_owned(),
            escalation(rule),
        ]);
    }
    table
}

fn escalation(rule: &Rule) -> String {
    let step = |step: &quotary_common::quorum::rules::Escalation| {
        let added = step.add_roles.iter().chain(&step.add_people).map(|word| format!("+{word}"));
        let told = [("webhook", step.webhook.is_some()), ("command", step.command.is_some())];
        let told = told.into_iter().filter(|(_, is)| *is).map(|(what, _)| what.to_owned());
        let all: Vec<String> = added.chain(told).collect();
        format!("after {}: {}", present::duration(step.after_ms), all.join(" "))
    };
    if rule.escalation.is_empty() {
        "-".to_owned()
    } else {
        rule.escalation.iter().map(step).collect::<Vec<_>>().join("; ")
    }
}

fn emergencies(rules: &Rules) -> String {
    let review = |review: quotary_common::quorum::rules::Review| {
        format!("{} review(s) within {} of its end", review.approvals, present::duration(review.within_ms))
    };
    let glass = rules.break_glass().map_or_else(
        || "nobody may".to_owned(),
        |glass| {
            let lasts = present::duration(glass.lasts_ms_max);
            // Whatever the table says.
            let critical = if glass.approvals < 2 { " (2 where it is critical)" } else { "" };
            format!(
                "{}{critical} of role {}, lasts {lasts} at most, {}",
                glass.approvals,
                glass.role,
                review(glass.review)
            )
        },
    );
    let freeze = rules.freeze().map_or_else(
        || "nobody may".to_owned(),
        |freeze| {
            let lasts = present::duration(freeze.lasts_ms_max);
            format!("one of role {}, lasts {lasts} at most, {}", freeze.role, review(freeze.review))
        },
    );
    let reviews = if rules.break_glass().is_none() && rules.freeze().is_none() {
        ""
    } else {
        "reviews: of who may vote on such a change by quorum, and neither asked for it, edited it last nor approved it; while one is \
         overdue there is no emergency and no freeze\n"
    };
    format!("\nbreak-glass: {glass}\nfreeze: {freeze}\n{reviews}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::Name;
    use quotary_common::id::{Digest, HostId};
    use quotary_common::plan::Target;

    use super::super::document::tests::{POLICY, RULES, roster};
    use super::*;

    fn view(text: &str, version: u64) -> DocumentView {
        DocumentView { sha256: Digest::of(&[text.as_bytes()]), version, text: text.to_owned() }
    }

    #[test]
    fn a_policy_is_shown_with_what_it_holds_for_and_what_was_seen() {
        let unit = HeldView {
            host: HostId::of(&[b"h"]),
            application: "web".to_owned(),
            tenant: "shop".to_owned(),
            target: Target::Unit(Name::lossy("web.service")),
            meets_zone: false,
        };
        let policy = PolicyView {
            name: "gold".to_owned(),
            document: view(POLICY, 3),
            criticality: "high".to_owned(),
            since_ms: 1_000,
            change: "c-abc".to_owned(),
            holds_for: vec![unit],
            watched: vec!["memory above 90 % for 10 min".to_owned()],
            drafts: Vec::new(),
        };
        let rows = table(std::slice::from_ref(&policy), 61_000).render(false);
        for part in ["gold", "high", "60 s ago", "1 unit(s)", "above 90 %"] {
            assert!(rows.contains(part), "{part} in {rows}");
        }
        assert!(facts(&policy, 61_000).render().contains("by c-abc"));
        assert!(held(&policy.holds_for).render(false).contains("no: nothing is guaranteed"));
        assert!(table(&[], 0).render(false).contains("quotary change propose"));
    }

    #[test]
    fn who_decides_is_shown_person_by_person_and_rule_by_rule() {
        let people_text = roster(4, &[("alice", "operator"), ("bob", "security")]);
        let authority = AuthorityView {
            roster: view(&people_text, 4),
            rules: view(RULES, 2),
            number: 1,
            allowed_signers: String::new(),
            namespace: "0011223344556677".to_owned(),
        };
        let (roster, rules) = deciding(&authority).unwrap();
        let people = people(&roster, 1_000).render(false);
        assert!(people.contains("alice") && people.contains("SHA256:") && people.contains("ssh-ed25519"), "{people}");
        let rules_shown = by_criticality(&rules).render(false);
        assert!(rules_shown.lines().count() == 5 && rules_shown.contains("critical"), "{rules_shown}");
        assert_eq!(emergencies(&rules), "\nbreak-glass: nobody may\nfreeze: nobody may\n");
        let glass = "[break_glass]\nrole = 'operator'\napprovals = 1\nlasts_s_max = 3600\nreview_within_s = 86400\nreview_approvals = 2\n";
        let told = emergencies(&Rules::parse(format!("{RULES}{glass}").as_bytes()).unwrap());
        assert!(
            told.contains("1 (2 where it is critical) of role operator")
                && told.contains("2 review(s) within 24 h of its end"),
            "{told}"
        );
        assert!(told.contains("reviews: of who may vote"), "{told}");
    }

    #[test]
    fn a_document_that_is_not_its_digest_is_refused() {
        let mut wrong = view(RULES, 2);
        wrong.text.push('\n');
        let refused = parsed(&wrong, DocumentKind::Rules).unwrap_err();
        assert!(refused.code() == 2 && refused.message().contains("SHA-256"), "{}", refused.message());
    }
}
