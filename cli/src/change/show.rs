//! Changes as people see them.

use quotary_common::wire::{ChangeSummary, ChangeView, ListChanges, VoteView};

use crate::exit::Failure;
use crate::present::{self, Align, Facts, Table};
use crate::session::Session;
use crate::show::leaf;
use crate::{now_ms, policy};

/// Changes, the newest first.
pub(super) async fn list(session: &Session, state: Option<&str>, json: bool) -> Result<(), Failure> {
    let changes = session.ask::<ListChanges>(&[&state.unwrap_or_default().replace('-', " ")]).await?;
    if json { present::json(&changes) } else { present::print_table(&table(&changes, now_ms())) }
}

fn table(changes: &[ChangeSummary], now_ms: u64) -> Table {
    let columns = [
        ("CHANGE", Align::Left),
        ("WHAT", Align::Left),
        ("STATE", Align::Left),
        ("CRITICALITY", Align::Left),
        ("BY", Align::Left),
        ("REQUESTER", Align::Left),
        ("EFFECTIVE", Align::Right),
        ("QUORUM", Align::Left),
    ];
    let mut table = Table::new(&columns, "no changes: `quotary change propose` asks for one");
    for change in changes {
        table.row([
            change.id.clone(),
            what(change),
            change.state.clone(),
            change.criticality.clone(),
            change.way.clone(),
            change.requester.clone(),
            present::age(change.effective_at_ms, now_ms),
            change.quorum.clone(),
        ]);
    }
    table
}

/// `alter policy gold`, `alter roster`.
fn what(change: &ChangeSummary) -> String {
    leaf::subject(&change.kind, &change.name)
}

/// One change.
pub(super) fn one(view: &ChangeView, json: bool) -> Result<(), Failure> {
    if json {
        return present::json(view);
    }
    let now_ms = now_ms();
    present::print(&facts(view, now_ms).render())?;
    for (title, lines) in
        [("impact", &view.impact), ("quorum", &view.explained), ("no plan could be made for", &view.without_plan)]
    {
        present::print(&section(title, lines))?;
    }
    if !view.votes.is_empty() {
        present::print("\n")?;
        present::print_table(&votes(&view.votes, view, now_ms))?;
    }
    present::print(&format!(
        "\nthe text that people sign: quotary change export {} -\n",
        present::clean(&view.summary.id)
    ))
}

fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("  {}", policy::standing::lines(line))).collect();
    format!("\n{title}:\n{lines}")
}

fn facts(view: &ChangeView, now_ms: u64) -> Facts {
    let change = &view.summary;
    let at = |at_ms: u64| format!("{} ({})", present::time(at_ms), present::age(at_ms, now_ms));
    let mut facts = Facts::default();
    facts.add("change", &change.id);
    facts.add("what", what(change));
    facts.add("state", format!("{}, since {}", change.state, at(change.since_ms)));
    if let Some(why) = &change.why {
        facts.add("why", why);
    }
    facts.add("by", &change.way);
    facts.add("criticality", &change.criticality);
    facts.add("requester", format!("{}, {}", change.requester, at(change.proposed_at_ms)));
    facts.add("effective", at(change.effective_at_ms));
    facts.add("approve by", at(change.approve_by_ms));
    facts.add("apply by", at(change.apply_by_ms));
    if let Some(until_ms) = change.until_ms {
        facts.add("ends by itself", at(until_ms));
    }
    if let Some(aligned_ms) = view.aligned_at_ms {
        facts.add("at its targets", format!("since {}, as hosts attested", at(aligned_ms)));
    }
    facts.add("sha256", view.sha256.hex());
    facts.add("namespaces", format!("quotary-VERB-v1@{}", view.namespace));
    for plan in &view.plans {
        facts.add("plan", plan.to_string());
    }
    facts
}

fn votes(votes: &[VoteView], view: &ChangeView, now_ms: u64) -> Table {
    let columns = [
        ("PERSON", Align::Left),
        ("VOTE", Align::Left),
        ("CAST", Align::Right),
        ("COUNTED", Align::Left),
        ("WHY", Align::Left),
        ("KEY", Align::Left),
    ];
    let mut table = Table::new(&columns, "no votes");
    for vote in votes {
        let counted = if vote.counted { "yes" } else { "no" };
        let of = if vote.sha256 == view.sha256 { "" } else { " (of an earlier text)" };
        table.row([
            vote.person.clone(),
            vote.verb.clone(),
            present::age(vote.cast_at_ms, now_ms),
            counted.to_owned(),
            format!("{}{of}", vote.reason),
            vote.key.clone(),
        ]);
    }
    table
}

/// Where a change stands, in short.
pub(super) fn standing(view: &ChangeView) -> String {
    let change = &view.summary;
    let head = format!("{}, {}: {}; {}", change.id, what(change), change.state, change.quorum);
    format!("{}\n{}", present::clean(&head), section("quorum", &view.explained))
}

#[cfg(test)]
mod tests {
    use quotary_common::id::Digest;

    use super::super::fixture::{id, text, view};
    use super::*;

    fn vote(person: &str, counted: bool, reason: &str, sha256: Digest) -> VoteView {
        VoteView {
            person: person.to_owned(),
            key: format!("SHA256:{person}"),
            verb: "approval".to_owned(),
            cast_at_ms: 1_000,
            counted,
            reason: reason.to_owned(),
            sha256,
            signature: String::new(),
        }
    }

    #[test]
    fn a_list_says_what_each_change_does_and_what_it_waits_for() {
        let mut roster = view(&text(id("two"))).summary;
        (roster.kind, roster.name) = ("alter roster".to_owned(), "roster".to_owned());
        let shown = table(&[view(&text(id("one"))).summary, roster], 1_795_330_800_000).render(false);
        let rows: Vec<&str> = shown.lines().collect();
        assert!(rows[1].contains("create policy web") && rows[1].contains("2 more people"), "{shown}");
        assert!(rows[2].contains("alter roster  ") && !rows[2].contains("roster roster"), "{shown}");
        assert!(rows[1].contains("in 2 s"), "{shown}");
        assert!(table(&[], 0).render(false).contains("quotary change propose"));
    }

    #[test]
    fn votes_are_shown_with_whether_they_count_and_why() {
        let text = text(id("one"));
        let mut view = view(&text);
        view.votes.push(vote("bob", true, "counted", text.digest()));
        view.votes.push(vote("alice", false, "who asks for a change does not vote on it", text.digest()));
        view.votes.push(vote("carol", false, "dismissed", Digest::of(&[b"before"])));
        let shown = votes(&view.votes, &view, 61_000).render(false);
        let rows: Vec<&str> = shown.lines().skip(1).collect();
        assert!(rows[0].contains("bob") && rows[0].contains("yes") && rows[0].contains("60 s ago"), "{shown}");
        assert!(rows[1].contains("no ") && rows[1].contains("who asks"), "{shown}");
        assert!(rows[2].contains("dismissed (of an earlier text)"), "{shown}");
    }

    #[test]
    fn a_change_tells_its_times_and_digest_and_hostile_lines_move_no_cursor() {
        let text = text(id("one"));
        let mut view = view(&text);
        view.summary.why = Some("it does not move\u{1b}[2J".to_owned());
        view.aligned_at_ms = Some(1_795_330_802_500);
        let shown = facts(&view, 1_795_330_800_000).render();
        for part in
            ["create policy web", "2026-11-22T07:00:02Z (in 2 s)", &text.digest().hex(), "?[2J", "as hosts attested"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains('\u{1b}'));
        assert_eq!(section("impact", &["a\u{1b}[2Jb".to_owned()]), "\nimpact:\n  a?[2Jb\n");
        assert_eq!(section("impact", &[]), "");
        assert!(standing(&view).starts_with("c-"));
    }
}
