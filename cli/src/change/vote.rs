//! Votes: shown, asked for, signed, handed in.

use std::io::{self, BufRead as _, IsTerminal as _};

use quotary_common::quorum::change::ChangeText;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::{CastVote, ChangeView, ShowAuthority, VoteRequest, VoteView};

use super::sign::{Signed, Signer, sign, taken};
use super::text::{fetch, warn_unpinned};
use super::{keys, show};
use crate::args::VoteArgs;
use crate::exit::{Code, Failure};
use crate::policy::standing::deciding;
use crate::session::Session;
use crate::{now_ms, present};

/// Votes; the exit code: 1 where the vote was taken and does not count.
pub(super) async fn vote(session: &Session, args: &VoteArgs, verb: Verb, json: bool) -> Result<u8, Failure> {
    let fetched = fetch(session, &args.id.change).await?;
    let text = &fetched.text;
    warn_unpinned(session);
    let signed = match &args.signature {
        Some(file) => taken(file, text, verb)?,
        None => {
            if !args.yes && !io::stdin().is_terminal() {
                let what = "standard input is no terminal, where you could be asked: --yes signs without asking";
                return Err(Failure::new(Code::Usage, what));
            }
            // Before anything is shown, so that nobody reads a long text in vain.
            let signer = signer(session, args).await?;
            let key = match &signer {
                Signer::Agent(key) => Some(key.fingerprint().to_string()),
                Signer::File(_) => None,
            };
            takes(&fetched.view, text, verb, key.as_deref())?;
            shown(text, verb, json)?;
            if !args.yes && !confirmed(text, verb)? {
                return Err(Failure::new(Code::Refused, "nothing was signed"));
            }
            sign(text, verb, &signer)?
        }
    };
    let request = VoteRequest { verb: verb.name().to_owned(), signature: signed.armoured.clone() };
    let id = text.change().id.hex();
    let view = session.call::<CastVote>(&[&id], &request).await?;
    let own = own(&view, text, verb, &signed);
    if json {
        present::json(&view)?;
    } else {
        present::print(&told(&view, own, verb))?;
    }
    Ok(if own.is_some_and(|own| stands(&view, own, verb)) { 0 } else { Code::Refused as u8 })
}

/// Whether a change takes such a vote now: before anybody reads a long text, and touches a key, in vain. One that this key (as `ssh-keygen -l` shows it)
/// has given may be given again: its reply may have been lost.
fn takes(view: &ChangeView, text: &ChangeText, verb: Verb, key: Option<&str>) -> Result<(), Failure> {
    let (state, way) = (view.summary.state.as_str(), text.change().way);
    let is_again =
        |vote: &VoteView| Some(vote.key.as_str()) == key && vote.verb == verb.name() && vote.sha256 == text.digest();
    if view.votes.iter().any(is_again) {
        return Ok(());
    }
    let is_taken = match verb {
        Verb::Review => ["in force", "revoked", "ended"].contains(&state),
        _ => ["proposed", "approving"].contains(&state),
    };
    let why = match (verb, way) {
        (_, _) if verb.is_taken_by(way) && is_taken => return Ok(()),
        (_, _) if verb.is_taken_by(way) => {
            let why = view.summary.why.as_ref().filter(|_| verb != Verb::Review).map(|why| format!(" ({why})"));
            let when = if verb == Verb::Review { "once it has been in force" } else { "until it is approved" };
            format!("it is {state}{}, and takes such votes {when}", why.unwrap_or_default())
        }
        (Verb::Review, _) => "it is decided by its quorum: there is nothing to review".to_owned(),
        (Verb::BreakGlass, way) => format!("it goes by {}: `quotary change approve`", way.name()),
        (Verb::Approval, way) => format!("it goes by {}: `quotary change break-glass`", way.name()),
        (_, way) => format!("it goes by {}, which nobody holds up", way.name()),
    };
    Err(Failure::new(Code::Refused, format!("{} takes no {verb}: {why}", view.summary.id)))
}

/// Whether a vote does what it is for. A review is not among the votes that decide: it is counted apart.
fn stands(view: &ChangeView, own: &VoteView, verb: Verb) -> bool {
    let reviews = || view.review.as_ref().is_some_and(|review| review.by.contains(&own.person));
    own.counted || (verb == Verb::Review && reviews())
}

/// What signs: the key file that was given, or the agent's one key that is on the roster.
async fn signer(session: &Session, args: &VoteArgs) -> Result<Signer, Failure> {
    if let Some(path) = &args.key {
        std::fs::File::open(path).map_err(|error| crate::input::unreadable(path, &error))?;
        return Ok(Signer::File(path.clone()));
    }
    let offered = keys::offered()?;
    let (roster, _) = deciding(&session.ask::<ShowAuthority>(&[]).await?)?;
    let key = keys::choose(offered, &roster, now_ms());
    key.map(Signer::Agent).map_err(|what| Failure::new(Code::Refused, what))
}

/// Shows what is to be signed. Where JSON is asked for, standard output is for that alone.
fn shown(text: &ChangeText, verb: Verb, json: bool) -> Result<(), Failure> {
    // A change's text has no character that people do not see.
    let mut whole = String::from_utf8_lossy(text.bytes()).into_owned();
    if !whole.ends_with('\n') {
        whole.push('\n');
    }
    let digest = format!("\nSHA-256 {}\n{}\n", text.digest().hex(), verb.namespace(&text.change().deployment));
    if json {
        eprint!("{whole}{digest}");
        return Ok(());
    }
    present::page(&whole)?;
    present::print(&digest)
}

fn confirmed(text: &ChangeText, verb: Verb) -> Result<bool, Failure> {
    let finality = if verb == Verb::Withdrawal { ", after which no vote of yours on it counts" } else { "" };
    eprint!("Sign this text of {} as {verb}{finality}? (yes or no) ", text.change().id);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new(Code::Unreadable, format!("cannot read the answer: {error}")))?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// Our vote as the verifier keeps it.
fn own<'v>(view: &'v ChangeView, text: &ChangeText, verb: Verb, signed: &Signed) -> Option<&'v VoteView> {
    let key = signed.key.to_string();
    let is_own = |vote: &&VoteView| vote.key == key && vote.verb == verb.name() && vote.sha256 == text.digest();
    view.votes.iter().rev().find(is_own)
}

fn told(view: &ChangeView, own: Option<&VoteView>, verb: Verb) -> String {
    let head = match own {
        Some(own) if verb == Verb::Review && stands(view, own, verb) => {
            format!("the review of {} is taken", own.person)
        }
        Some(own) if verb == Verb::Review => format!(
            "the review of {} is taken and DOES NOT COUNT: it is not one of those who may review this change now",
            own.person
        ),
        Some(own) if own.counted => format!("the {verb} of {} counts", own.person),
        Some(own) => format!("the {verb} of {} is taken and DOES NOT COUNT: {}", own.person, own.reason),
        None => format!("the {verb} was taken, and is not among the change's votes now"),
    };
    let note = view.note.as_ref().map(|note| format!("{}\n", present::clean(note))).unwrap_or_default();
    format!("{}\n{note}{}", present::clean(&head), show::standing(view))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::id::Digest;
    use quotary_common::quorum::change::{Change, Way};
    use quotary_common::quorum::ssh::Fingerprint;
    use quotary_common::wire::ReviewView;

    use super::super::fixture::{id, text, view};
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for yes in ["y\n", "yes\n", " YES \n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yess\n", "approve\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }

    #[test]
    fn what_takes_no_such_vote_says_so_before_anything_is_signed() {
        let quorum = text(id("one"));
        let change = quorum.change().clone();
        let glass = Change { way: Way::BreakGlass, until_ms: Some(change.effective_ms + 1), ..change };
        let glass = ChangeText::render(&glass).unwrap();
        let mut view = view(&quorum);
        let refused = |view: &ChangeView, text: &ChangeText, verb| {
            takes(view, text, verb, None).map_err(|failure| failure.message().to_owned()).err().unwrap_or_default()
        };
        assert_eq!(refused(&view, &quorum, Verb::Approval), "");
        for (verb, part) in [(Verb::Review, "nothing to review"), (Verb::BreakGlass, "`quotary change approve`")] {
            assert!(refused(&view, &quorum, verb).contains(part));
        }
        for state in ["approved", "shaping", "in force", "rejected"] {
            (view.summary.state, view.summary.why) = (state.to_owned(), Some("of a reason".to_owned()));
            let told = refused(&view, &quorum, Verb::Approval);
            assert!(told.contains(&format!("takes no approval: it is {state} (of a reason)")), "{told}");
        }
        assert!(refused(&view, &glass, Verb::Approval).contains("`quotary change break-glass`"));
        assert!(
            refused(&view, &glass, Verb::Review).contains("it is rejected, and takes such votes once it has been in")
        );
        view.summary.state = "revoked".to_owned();
        assert_eq!(refused(&view, &glass, Verb::Review), "");
        // The reply to it was lost.
        view.votes.push(VoteView {
            person: "bob".to_owned(),
            key: "SHA256:own".to_owned(),
            verb: Verb::Rejection.name().to_owned(),
            cast_at_ms: 1,
            counted: true,
            reason: "counted".to_owned(),
            sha256: quorum.digest(),
            signature: String::new(),
        });
        assert!(takes(&view, &quorum, Verb::Rejection, Some("SHA256:own")).is_ok());
        assert!(takes(&view, &quorum, Verb::Rejection, Some("SHA256:other")).is_err());
        assert!(takes(&view, &quorum, Verb::Approval, Some("SHA256:own")).is_err());
    }

    #[test]
    fn ones_own_vote_is_told_with_whether_it_counts_and_what_is_missing() {
        let text = text(id("one"));
        let key = Fingerprint(Digest::of(&[b"key"]));
        let signed = Signed { armoured: String::new(), key };
        let mut view = view(&text);
        assert!(own(&view, &text, Verb::Approval, &signed).is_none());
        view.votes.push(VoteView {
            person: "bob".to_owned(),
            key: key.to_string(),
            verb: "approval".to_owned(),
            cast_at_ms: 1,
            counted: false,
            reason: "another vote of this person counts already".to_owned(),
            sha256: text.digest(),
            signature: String::new(),
        });
        let found = own(&view, &text, Verb::Approval, &signed);
        let words = told(&view, found, Verb::Approval);
        assert!(words.starts_with("the approval of bob is taken and DOES NOT COUNT: another vote"), "{words}");
        assert!(words.contains("2 more people"), "{words}");
        assert!(own(&view, &text, Verb::Rejection, &signed).is_none());
        view.votes[0].counted = true;
        let words = told(&view, own(&view, &text, Verb::Approval, &signed), Verb::Approval);
        assert!(words.starts_with("the approval of bob counts\n"), "{words}");
        let review = VoteView { verb: "review".to_owned(), counted: false, ..view.votes[0].clone() };
        let uncounted = VoteView { counted: false, ..view.votes[0].clone() };
        assert!(!stands(&view, &review, Verb::Review) && !stands(&view, &uncounted, Verb::Approval));
        assert!(told(&view, Some(&review), Verb::Review).contains("bob is taken and DOES NOT COUNT: it is not"));
        let other = VoteView { person: "carol".to_owned(), ..review };
        view.review = Some(ReviewView {
            state: "due".to_owned(),
            by_ms: 2,
            missing: 1,
            by: vec!["carol".to_owned()],
            may: Vec::new(),
            follows: String::new(),
        });
        assert!(stands(&view, &other, Verb::Review));
        assert!(told(&view, Some(&other), Verb::Review).starts_with("the review of carol is taken\n"));
        view.votes[0].sha256 = Digest::of(&[b"an earlier text"]);
        assert!(own(&view, &text, Verb::Approval, &signed).is_none());
    }
}
