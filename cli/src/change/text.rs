//! The text of a change, fetched and held against what was asked for.

use quotary_common::id::{ChangeId, DeploymentId};
use quotary_common::keys::deployment_of;
use quotary_common::quorum::change::{Change, ChangeText};
use quotary_common::quorum::freeze::held_by;
use quotary_common::wire::{ChangeSubject, ChangeSummary, ChangeView, ListChanges, ShowChange};

use crate::exit::{Code, Failure};
use crate::present;
use crate::session::Session;

/// Characters of a whole short id.
const SHORT_ID: usize = 28;

/// A change whose text is what it says it is.
#[derive(Debug)]
pub(super) struct Fetched {
    /// As it was answered.
    pub(super) view: ChangeView,
    /// Its text, read.
    pub(super) text: ChangeText,
}

/// The id that a person means, as routes take it.
pub(super) async fn named(session: &Session, given: &str) -> Result<String, Failure> {
    let given = given.to_ascii_lowercase();
    if given.parse::<ChangeId>().is_ok() || (given.starts_with("c-") && given.len() == SHORT_ID) {
        return Ok(given);
    }
    let changes = session.ask::<ListChanges>(&[""]).await?;
    pick(&changes, &given).map_err(|what| Failure::new(Code::Refused, what))
}

fn pick(changes: &[ChangeSummary], given: &str) -> Result<String, String> {
    let short = if given.starts_with("c-") { given.to_owned() } else { format!("c-{given}") };
    let mut found = changes.iter().filter(|change| change.id.starts_with(&short));
    match (found.next(), found.count()) {
        _ if short.len() == 2 => Err("an empty change id: see `quotary change list`".to_owned()),
        (Some(one), 0) => Ok(one.id.clone()),
        (None, _) => Err(format!("no change's id begins with `{}`: see `quotary change list`", present::clean(given))),
        (Some(_), more) => Err(format!("{} changes' ids begin so: give more of it", more + 1)),
    }
}

/// Fetches a change, and checks its text.
///
/// # Errors
/// It is not there, or its text is not one, or not that of the change that was asked for.
pub(super) async fn fetch(session: &Session, given: &str) -> Result<Fetched, Failure> {
    let id = named(session, given).await?;
    let view = session.ask::<ShowChange>(&[&id]).await?;
    let pinned = session.credentials().root_key.as_ref().map(deployment_of);
    checked(view, &id, pinned).map_err(|what| {
        let told = format!("what the verifier answers for change {}: {}", present::clean(given), present::clean(&what));
        Failure::new(Code::Unreadable, format!("{told}; sign none of it, and ask who runs the verifier"))
    })
}

/// Says on standard error what cannot be checked of a text where no root key is pinned.
pub(super) fn warn_unpinned(session: &Session) {
    if let Some(warning) = unpinned(session.credentials().root_key.is_some(), &session.credentials().verifier) {
        eprintln!("quotary: {warning}");
    }
}

fn unpinned(is_pinned: bool, verifier: &str) -> Option<String> {
    (!is_pinned).then(|| {
        format!(
            "NO ROOT KEY IS PINNED: that this text is of your deployment, and not of another one that the verifier or its CA has \
             chosen, is not checked here, nor is the namespace that is signed in. Get the root key (64 hexadecimal characters, \
             root.pub in the verifier's data directory) from who made the deployment, and log in again: quotary login --verifier {} \
             --ca-pin HEX --root-key HEX --token-file FILE",
            present::clean(verifier)
        )
    })
}

/// Whether a change that was just made is of what was sent: its document byte for byte, or none.
///
/// # Errors
/// It is not: it must not be left standing.
pub(super) fn is_of(view: &ChangeView, subject: &ChangeSubject) -> Result<(), Failure> {
    let is_sent = |change: &Change| match subject {
        ChangeSubject::Policy(text) | ChangeSubject::Roster(text) | ChangeSubject::Rules(text) => {
            change.document == *text
        }
        ChangeSubject::Revoke(_) => change.document.is_empty(),
        ChangeSubject::Freeze(held) => held_by(change).is_some_and(|id| id.is_named(held)),
    };
    match ChangeText::parse(view.text.as_bytes()) {
        Ok(text) if is_sent(text.change()) && text.digest() == view.sha256 => Ok(()),
        _ => {
            let id = present::clean(&view.summary.id);
            let what = format!(
                "change {id} was made, and is not of the document that was sent: `quotary change withdraw {id}`"
            );
            Err(Failure::new(Code::Unreadable, what))
        }
    }
}

fn checked(view: ChangeView, id: &str, pinned: Option<DeploymentId>) -> Result<Fetched, String> {
    let text = ChangeText::parse(view.text.as_bytes()).map_err(|fault| format!("its text is none: {fault}"))?;
    let change = text.change();
    if text.digest() != view.sha256 {
        return Err("its text has not the SHA-256 that it states".to_owned());
    }
    if !change.id.is_named(id) || view.summary.id != change.id.to_string() {
        return Err(format!("its text is that of another change, {}", change.id));
    }
    if let Some(other) = pinned.filter(|pinned| *pinned != change.deployment) {
        return Err(format!("its text is of deployment {}, and the pinned root key is {other}'s", change.deployment));
    }
    if !change.deployment.hex().starts_with(&view.namespace) || view.namespace.len() != 16 {
        return Err("its namespace is not its deployment's".to_owned());
    }
    Ok(Fetched { view, text })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::fixture::{deployment, id, text, view};
    use super::*;

    #[test]
    fn a_text_that_is_what_was_asked_for_passes_under_either_form_of_its_id() {
        let text = text(id("one"));
        for asked in [id("one").hex(), id("one").to_string()] {
            assert_eq!(checked(view(&text), &asked, Some(deployment())).unwrap().text, text);
        }
        assert!(checked(view(&text), &id("one").hex(), None).is_ok());
    }

    #[test]
    fn another_changes_text_other_bytes_and_another_deployment_are_refused() {
        let asked = id("one").hex();
        let refused = |change: &dyn Fn(&mut ChangeView), pinned| {
            let mut view = view(&text(id("one")));
            change(&mut view);
            checked(view, &asked, pinned).unwrap_err()
        };
        let other = text(id("two"));
        let swapped = |view: &mut ChangeView| {
            view.text = String::from_utf8(other.bytes().to_vec()).unwrap();
            view.sha256 = other.digest();
        };
        assert!(refused(&swapped, None).contains("another change"));
        assert!(refused(&|view| view.text.push('\n'), None).contains("its text is none"));
        assert!(refused(&|view| view.text = view.text.replace("alice", "carol"), None).contains("SHA-256"));
        assert!(refused(&|view| view.summary.id = id("two").to_string(), None).contains("another change"));
        assert!(refused(&|view| view.namespace = "0".repeat(16), None).contains("namespace"));
        assert!(refused(&|view| view.namespace.truncate(3), None).contains("namespace"));
        assert!(refused(&|_| (), Some(DeploymentId::of(&[b"another"]))).contains("pinned root key"));
    }

    #[test]
    fn without_a_root_key_it_is_said_what_is_not_checked_and_how_to_pin_one() {
        assert_eq!(unpinned(true, "https://v:1"), None);
        let told = unpinned(false, "https://v:1").unwrap();
        for part in ["of your deployment", "root.pub", "--verifier https://v:1 --ca-pin HEX --root-key HEX"] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn a_change_of_another_document_than_was_sent_is_told() {
        let text = text(id("one"));
        let document = text.change().document.clone();
        assert!(is_of(&view(&text), &ChangeSubject::Policy(document.clone())).is_ok());
        let told = is_of(&view(&text), &ChangeSubject::Policy(document + "\n")).unwrap_err();
        assert!(told.message().contains("quotary change withdraw c-"), "{}", told.message());
        assert!(is_of(&view(&text), &ChangeSubject::Revoke("web".to_owned())).is_err());
        assert!(is_of(&view(&text), &ChangeSubject::Freeze("c-1".to_owned())).is_err());
    }

    #[test]
    fn a_change_is_named_by_a_beginning_that_only_it_has() {
        let changes: Vec<ChangeSummary> = ["c-aab", "c-aac", "c-b"]
            .map(|one| ChangeSummary { id: one.to_owned(), ..view(&text(id("one"))).summary })
            .into();
        assert_eq!(pick(&changes, "c-b"), Ok("c-b".to_owned()));
        assert_eq!(pick(&changes, "aac"), Ok("c-aac".to_owned()));
        assert!(pick(&changes, "c-aa").unwrap_err().contains("2 changes'"));
        assert!(pick(&changes, "x").unwrap_err().contains("quotary change list"));
        assert!(pick(&changes, "c-").is_err() && pick(&changes, "").is_err());
    }
}
