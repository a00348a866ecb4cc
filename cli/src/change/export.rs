//! Texts and votes as files, for OpenSSH.

use std::fmt::Write as _;
use std::path::Path;

use quotary_common::instant::rfc3339;
use quotary_common::quorum::change::Way;
use quotary_common::quorum::roster::is_word;
use quotary_common::quorum::ssh::SshSignature;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::{ShowAuthority, VoteView};
use serde::Serialize;

use super::text::{Fetched, fetch, warn_unpinned};
use crate::args::{ExportTextArgs, VotesArgs};
use crate::audit::Directory;
use crate::exit::{Code, Failure};
use crate::policy::standing::allowed_signers;
use crate::session::Session;
use crate::{files, present};

/// Writes the text that people sign, and says how.
pub(super) async fn text(session: &Session, args: &ExportTextArgs) -> Result<(), Failure> {
    let fetched = fetch(session, &args.id.change).await?;
    warn_unpinned(session);
    files::write_new(&args.file, fetched.text.bytes())?;
    eprint!("{}", how_to_sign(&fetched, &args.file));
    Ok(())
}

/// What to do with the text: by whatever way the change takes.
fn how_to_sign(fetched: &Fetched, file: &Path) -> String {
    let change = fetched.text.change();
    // What went to standard output is signed from the file that it was written to.
    let file = if file.as_os_str() == "-" { "FILE".to_owned() } else { file.display().to_string() };
    let (verb, command) = match change.way {
        Way::BreakGlass => (Verb::BreakGlass, "break-glass"),
        Way::Quorum | Way::Freeze => (Verb::Approval, "approve"),
    };
    format!(
        "quotary: SHA-256 {}\nquotary: to approve: ssh-keygen -Y sign -n {} -f KEY {file}\n\
         quotary: then: quotary change {command} {} --signature {file}.sig\n",
        fetched.text.digest().hex(),
        verb.namespace(&change.deployment),
        change.id
    )
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    change: String,
    sha256: String,
    directory: String,
    votes: Vec<WrittenVote>,
    of_earlier_texts: usize,
}

/// A vote's file.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct WrittenVote {
    file: String,
    person: String,
    verb: String,
    holds: bool,
    counted: bool,
    reason: String,
    command: String,
}

/// Writes the votes on the text as it is now, and prints the commands that check them.
pub(super) async fn votes(session: &Session, args: &VotesArgs, json: bool) -> Result<(), Failure> {
    let fetched = fetch(session, &args.id.change).await?;
    warn_unpinned(session);
    let authority = session.ask::<ShowAuthority>(&[]).await?;
    let signers = allowed_signers(session, &authority)?;
    let votes = content(&fetched).map_err(|what| Failure::new(Code::Unreadable, what))?;
    let directory = Directory::create(&args.out)?;
    if !directory.is_empty()? {
        let what = format!("{} is not empty: name a new directory", args.out.display());
        return Err(Failure::new(Code::Usage, what));
    }
    directory.write("change.txt", fetched.text.bytes())?;
    directory.write("allowed_signers", signers.as_bytes())?;
    for (written, signature) in &votes {
        directory.write(&written.file, signature.as_bytes())?;
    }
    let of_earlier_texts = fetched.view.votes.len() - votes.len();
    let written = Written {
        change: fetched.text.change().id.to_string(),
        sha256: fetched.text.digest().hex(),
        directory: args.out.display().to_string(),
        votes: votes.into_iter().map(|(written, _)| written).collect(),
        of_earlier_texts,
    };
    if json { present::json(&written) } else { present::print(&written.text()) }
}

/// Each vote on this text with its signature; whoever named person and verb, the file's name is a plain one.
fn content(fetched: &Fetched) -> Result<Vec<(WrittenVote, String)>, String> {
    let mut written = Vec::new();
    for (number, vote) in fetched.view.votes.iter().filter(|vote| vote.sha256 == fetched.view.sha256).enumerate() {
        let verb = Verb::ALL.into_iter().find(|verb| verb.name() == vote.verb);
        let (Some(verb), true) = (verb, is_word(&vote.person)) else {
            return Err(format!("a vote of `{}` is none", present::clean(&vote.person)));
        };
        let signature = SshSignature::parse(&vote.signature)
            .map_err(|fault| format!("the signature of {} {fault}", vote.person))?;
        let namespace = verb.namespace(&fetched.text.change().deployment);
        let holds =
            signature.verify(&namespace, fetched.text.hashes()).is_ok_and(|shown| shown.key.to_string() == vote.key);
        let file = format!("{:02}-{}-{verb}.sig", number + 1, vote.person);
        let command = command(vote, &namespace, &file);
        written.push((
            WrittenVote {
                file,
                person: vote.person.clone(),
                verb: vote.verb.clone(),
                holds,
                counted: vote.counted,
                reason: vote.reason.clone(),
                command,
            },
            signature.armoured(),
        ));
    }
    Ok(written)
}

/// As the keys counted when the vote was cast, since theirs may be over by now.
fn command(vote: &VoteView, namespace: &str, file: &str) -> String {
    let at: String = rfc3339(vote.cast_at_ms - vote.cast_at_ms % 1000).chars().filter(char::is_ascii_digit).collect();
    format!(
        "ssh-keygen -Y verify -O verify-time={at}Z -f allowed_signers -I {} -n {namespace} -s {file} < change.txt",
        vote.person
    )
}

impl Written {
    /// For people, and for a shell.
    fn text(&self) -> String {
        let mut text = format!("# {}, SHA-256 {}: {} vote(s)\n", self.change, self.sha256, self.votes.len());
        let _ = writeln!(text, "cd '{}'", present::clean(&self.directory).replace('\'', "'\\''"));
        for vote in &self.votes {
            let counted = if vote.counted { "counted".to_owned() } else { format!("not counted ({})", vote.reason) };
            let holds = if vote.holds { "holds" } else { "DOES NOT HOLD" };
            let head = format!("{} of {}: {counted}; its signature {holds}", vote.verb, vote.person);
            let _ = writeln!(text, "# {}\n{}", present::clean(&head), vote.command);
        }
        if self.of_earlier_texts > 0 {
            let _ = writeln!(
                text,
                "# {} vote(s) of earlier texts, which do not count, are not written",
                self.of_earlier_texts
            );
        }
        text
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::fixture::{id, text, view};
    use super::*;

    /// A signature by a key that follows from nothing, in its form alone.
    fn armoured() -> String {
        let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let key = [string(b"ssh-ed25519"), string(&[7; 32])].concat();
        let raw = [string(b"ssh-ed25519"), string(&[9; 64])].concat();
        let parts = [&key[..], b"quotary-approval-v1@x", b"", b"sha512", &raw].map(string).concat();
        let bytes = [b"SSHSIG".to_vec(), 1_u32.to_be_bytes().to_vec(), parts].concat();
        SshSignature::from_bytes(&bytes).unwrap().armoured()
    }

    fn fetched(person: &str, verb: &str) -> Fetched {
        let text = text(id("one"));
        let mut view = view(&text);
        view.votes.push(VoteView {
            person: person.to_owned(),
            key: "SHA256:x".to_owned(),
            verb: verb.to_owned(),
            cast_at_ms: 1_795_330_800_123,
            counted: true,
            reason: "counted".to_owned(),
            sha256: text.digest(),
            signature: armoured(),
        });
        Fetched { view, text }
    }

    #[test]
    fn votes_become_files_with_the_command_that_checks_them_at_their_time() {
        let mut fetched = fetched("alice", "approval");
        let earlier =
            VoteView { sha256: quotary_common::id::Digest::of(&[b"before"]), ..fetched.view.votes[0].clone() };
        fetched.view.votes.push(earlier);
        let content = content(&fetched).unwrap();
        assert_eq!(content.len(), 1, "a vote of an earlier text is not written");
        let (vote, signature) = &content[0];
        assert_eq!((vote.file.as_str(), vote.holds), ("01-alice-approval.sig", false));
        assert_eq!(*signature, armoured());
        let namespace = Verb::Approval.namespace(&fetched.text.change().deployment);
        let expected = format!(
            "ssh-keygen -Y verify -O verify-time=20261122070000Z -f allowed_signers -I alice -n {namespace} \
             -s 01-alice-approval.sig < change.txt"
        );
        assert_eq!(vote.command, expected);
        let written = Written {
            change: "c-x".to_owned(),
            sha256: String::new(),
            directory: "it's".to_owned(),
            votes: content.into_iter().map(|(vote, _)| vote).collect(),
            of_earlier_texts: 1,
        };
        let told = written.text();
        assert!(
            !told.contains("counted, counted")
                && told.contains("approval of alice: counted; its signature DOES NOT HOLD\n")
        );
        assert!(
            told.contains("cd 'it'\\''s'\n") && told.contains("DOES NOT HOLD") && told.contains("1 vote(s) of earlier")
        );
    }

    #[test]
    fn whoever_exports_a_text_is_told_its_digest_its_namespace_and_what_comes_next() {
        let fetched = fetched("alice", "approval");
        for (file, shown) in [("change.txt", "change.txt"), ("-", "FILE")] {
            let told = how_to_sign(&fetched, Path::new(file));
            let namespace = Verb::Approval.namespace(&fetched.text.change().deployment);
            for part in [
                fetched.text.digest().hex(),
                format!("ssh-keygen -Y sign -n {namespace} -f KEY {shown}\n"),
                format!("quotary change approve {} --signature {shown}.sig\n", fetched.text.change().id),
            ] {
                assert!(told.contains(&part), "{part} in {told}");
            }
        }
    }

    #[test]
    fn no_name_of_a_person_leads_out_of_the_directory() {
        for (person, verb) in [("../../x", "approval"), ("", "approval"), ("alice", "../x"), ("a b", "approval")] {
            assert!(content(&fetched(person, verb)).is_err(), "{person} {verb}");
        }
    }
}
