//! Changes as people see them.

use quotary_common::quorum::change::ChangeText;
use quotary_common::quorum::freeze::held_by;
use quotary_common::wire::{ChangeSummary, ChangeView, ListChanges, ReviewView, VoteView};

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
            if is_void(change) { "-".to_owned() } else { present::age(change.effective_at_ms, now_ms) },
            change.quorum.clone(),
        ]);
    }
    table
}

/// Whether it will never be in force: its times say nothing any more.
fn is_void(change: &ChangeSummary) -> bool {
    ["rejected", "expired", "withdrawn"].contains(&change.state.as_str())
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
    if let Ok(text) = ChangeText::parse(view.text.as_bytes()) {
        // The text that people sign has ids in full.
        facts.add("in its text", text.change().id.hex());
        if let Some(held) = held_by(text.change()) {
            facts.add("holds", format!("{held} (in its text {})", held.hex()));
        }
    }
    facts.add("what", what(change));
    facts.add("state", format!("{}, since {}", change.state, at(change.since_ms)));
    if let Some(why) = &change.why {
        facts.add("why", why);
    }
    facts.add("by", &change.way);
    facts.add("criticality", &change.criticality);
    facts.add("requester", format!("{}, {}", change.requester, at(change.proposed_at_ms)));
    if let Some(editor) = editor(view) {
        // One operator freezes at once, whoever wrote it.
        let votes = if change.way == "freeze" { "" } else { ", who does not vote on it" };
        facts.add("edited by", format!("{editor}{votes}"));
    }
    if is_void(change) {
        facts.add("effective", format!("never (it was to be at {})", present::time(change.effective_at_ms)));
    } else {
        facts.add("effective", at(change.effective_at_ms));
        facts.add("approve by", at(change.approve_by_ms));
        facts.add("apply by", at(change.apply_by_ms));
        if let Some(until_ms) = change.until_ms {
            facts.add("ends by itself", at(until_ms));
        }
    }
    if let Some(review) = &view.review {
        facts.add("review", reviewed(review, now_ms));
        facts.add("reviewed by", if review.by.is_empty() { "nobody yet".to_owned() } else { review.by.join(", ") });
        if review.missing > 0 {
            facts.add("may review", review.may.join(", "));
        }
        facts.add("what follows", &review.follows);
    }
    if let Some(aligned_ms) = view.aligned_at_ms {
        facts.add("at its targets", format!("since {}, as hosts attested", at(aligned_ms)));
    } else if change.state == "in force" && !view.plans.is_empty() {
        facts.add(
            "at its targets",
            "not attested of all: `quotary plan list` says where each stands, and whether pressure holds it",
        );
    }
    facts.add("sha256", view.sha256.hex());
    facts.add("namespaces", format!("quotary-VERB-v1@{}", view.namespace));
    for plan in &view.plans {
        facts.add("plan", plan.to_string());
    }
    facts
}

/// Who edited it last, where that is somebody else than who asked for it.
fn editor(view: &ChangeView) -> Option<String> {
    let text = ChangeText::parse(view.text.as_bytes()).ok()?;
    let change = text.change();
    (change.editor != change.requester).then(|| change.editor.to_string())
}

/// Where a review stands, and until when it is to be done.
fn reviewed(review: &ReviewView, now_ms: u64) -> String {
    let lacks = match review.missing {
        0 => String::new(),
        1 => ", by one more person".to_owned(),
        missing => format!(", by {missing} more people"),
    };
    let is_done = review.state.starts_with("done");
    let by = format!(", until {} ({})", present::time(review.by_ms), present::age(review.by_ms, now_ms));
    format!("{}{lacks}{}", review.state, if is_done { "" } else { &by })
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
        let counted = match (vote.counted, vote.verb.as_str()) {
            (true, _) => "yes",
            // Not among the votes that decide.
            (false, "review") => "apart",
            (false, _) => "no",
        };
        let of = if vote.sha256 == view.sha256 { "" } else { " (of an earlier text)" };
        table.row([
            vote.person.clone(),
            vote.verb.clone(),
            present::age(vote.cast_at_ms, now_ms),
            counted.to_owned(),
            if vote.counted { "-".to_owned() } else { format!("{}{of}", vote.reason) },
            vote.key.clone(),
        ]);
    }
    table
}

/// Where a change stands, in short.
pub(super) fn standing(view: &ChangeView) -> String {
    let change = &view.summary;
    let quorum = if change.quorum == change.state { String::new() } else { format!("; {}", change.quorum) };
    let head = format!("{}, {}: {}{quorum}", change.id, what(change), change.state);
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
    fn what_is_over_before_it_was_in_force_has_no_time_to_come() {
        let text = text(id("one"));
        let mut view = view(&text);
        let now_ms = 1_795_330_800_000;
        for (state, is_to_come) in [("approving", true), ("withdrawn", false), ("expired", false), ("rejected", false)]
        {
            view.summary.state = state.to_owned();
            let shown = facts(&view, now_ms).render();
            assert_eq!(shown.contains("in 2 s"), is_to_come, "{shown}");
            assert_eq!(shown.contains("never (it was to be at 2026-11-22T07:00:02Z)"), !is_to_come, "{shown}");
            let row = table(std::slice::from_ref(&view.summary), now_ms).render(false);
            assert_eq!(row.contains("in 2 s"), is_to_come, "{row}");
        }
    }

    #[test]
    fn both_forms_of_an_id_are_shown() {
        let text = text(id("one"));
        let shown = facts(&view(&text), 0).render();
        assert!(shown.contains(&id("one").hex()) && shown.contains(&id("one").to_string()), "{shown}");
    }

    #[test]
    fn an_emergency_shows_who_has_looked_at_it_and_what_follows() {
        let mut view = view(&text(id("one")));
        assert!(!facts(&view, 0).render().contains("review"));
        let review = ReviewView {
            state: "due".to_owned(),
            by_ms: 1_795_330_802_000,
            missing: 2,
            by: Vec::new(),
            may: vec!["bob".to_owned(), "dave".to_owned()],
            follows: "no glass is broken".to_owned(),
        };
        view.review = Some(review.clone());
        let shown = facts(&view, 1_795_330_800_000).render();
        for part in
            ["due, by 2 more people, until 2026-11-22T07:00:02Z (in 2 s)", "nobody yet", "bob, dave", "no glass"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let (state, by) = ("done late".to_owned(), vec!["bob".to_owned(), "dave".to_owned()]);
        view.review = Some(ReviewView { state, by, missing: 0, may: Vec::new(), ..review });
        let shown = facts(&view, 1_795_330_800_000).render();
        assert!(shown.lines().any(|line| line.starts_with("review ") && line.ends_with("done late")), "{shown}");
        assert!(shown.lines().any(|line| line.starts_with("reviewed by") && line.ends_with("bob, dave")), "{shown}");
        assert!(!shown.contains("may review"), "{shown}");
        let text = text(id("one"));
        let of_bob = VoteView { verb: "review".to_owned(), ..vote("bob", false, "a review", text.digest()) };
        assert!(votes(&[of_bob], &view, 0).render(false).contains("apart"));
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
        assert!(!shown.contains('\u{1b}') && !shown.contains("edited by"));
        (view.aligned_at_ms, view.summary.state) = (None, "in force".to_owned());
        assert!(!facts(&view, 0).render().contains("at its targets"), "it moves nothing");
        view.plans.push(quotary_common::id::PlanId::new([1; 32]));
        assert!(facts(&view, 0).render().contains("not attested of all: `quotary plan list`"));
        (view.summary.state, view.aligned_at_ms) = ("approving".to_owned(), Some(1));
        view.text = view.text.replace("editor: alice", "editor: bob");
        assert!(facts(&view, 0).render().contains("bob, who does not vote on it"));
        view.summary.way = "freeze".to_owned();
        assert!(!facts(&view, 0).render().contains("who does not vote"), "whoever wrote a freeze may approve it");
        assert_eq!(section("impact", &["a\u{1b}[2Jb".to_owned()]), "\nimpact:\n  a?[2Jb\n");
        assert_eq!(section("impact", &[]), "");
        assert!(standing(&view).starts_with("c-") && standing(&view).contains("approving; 2 more people\n"));
        (view.summary.state, view.summary.quorum) = ("approved".to_owned(), "approved".to_owned());
        assert!(standing(&view).contains(": approved\n"), "{}", standing(&view));
    }
}
