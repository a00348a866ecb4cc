//! Both directions with the `ssh-keygen` that people have: we verify what it signs, and it verifies what we keep, with
//! the list of allowed signers that a roster renders. Where the tool is not installed these tests fail, unless `QUOTARY_WITHOUT_OPENSSH=1` says
//! that it may be missing.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use quotary_common::cbor::Text;
use quotary_common::id::{ChangeId, DeploymentId, Digest};
use quotary_common::instant::parse_rfc3339;
use quotary_common::plan::OnPressure;
use quotary_common::quorum::change::{Change, ChangeText, Kind, Way};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::ssh::SshFault;
use quotary_common::quorum::vote::{SignatureCache, Verb, Vote, VoteFault, check};
use quotary_common::units::Resources;

const SSH_KEYGEN: &str = "/usr/bin/ssh-keygen";
/// Options of `ssh-keygen -t` for each person, who is called after the first.
const KINDS: [&[&str]; 5] =
    [&["ed25519"], &["ecdsa", "-b", "256"], &["ecdsa", "-b", "384"], &["rsa", "-b", "2048"], &["rsa", "-b", "3072"]];

fn is_there() -> bool {
    let is_there = Path::new(SSH_KEYGEN).exists();
    let may_be_missing = std::env::var_os("QUOTARY_WITHOUT_OPENSSH").is_some_and(|value| value == "1");
    assert!(
        is_there || may_be_missing,
        "{SSH_KEYGEN} is not there: `tools/install-packages` installs it; QUOTARY_WITHOUT_OPENSSH=1 does without these tests"
    );
    is_there
}

fn keygen(dir: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(SSH_KEYGEN);
    command.current_dir(dir).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

fn person(kind: usize) -> String {
    format!("person{kind}")
}

/// Makes a key of each kind, and a roster of their holders; `times` are added to each key.
fn roster(dir: &Path, times: &str) -> Roster {
    let mut text = "version = 1\n".to_owned();
    for (kind, options) in KINDS.iter().enumerate() {
        let name = person(kind);
        if !dir.join(&name).exists() {
            assert!(keygen(dir, &[&["-q", "-N", "", "-C", "a comment", "-f", &name, "-t"], *options].concat()));
        }
        let key = std::fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
        text += &format!("[[people]]\nname = '{name}'\n[[people.keys]]\nkey = '{}'\n{times}", key.trim_end());
    }
    Roster::parse(text.as_bytes()).unwrap()
}

fn change(roster: &Roster) -> ChangeText {
    let at_ms = parse_rfc3339("2026-11-23T07:00:00Z").unwrap();
    let word = |text: &str| Text::new(text).unwrap();
    let change = Change {
        deployment: DeploymentId::of(&[b"deployment"]),
        id: ChangeId::of(&[b"change"]),
        kind: Kind::CreatePolicy,
        name: word("web"),
        way: Way::Quorum,
        requester: word("alice"),
        editor: word("alice"),
        applier: word("verifier"),
        criticality: Criticality::High,
        base: None,
        roster: roster.digest(),
        rules: Digest::of(&[b"rules"]),
        proposed_ms: at_ms,
        effective_ms: at_ms + 2000,
        approve_by_ms: at_ms + 1000,
        apply_by_ms: at_ms + 3000,
        until_ms: None,
        slew: Resources::default(),
        on_pressure: OnPressure::Hold,
        nonce: [3; 16],
        inputs: Vec::new(),
        covers: Vec::new(),
        document: "name = 'web' # é\n".to_owned(),
    };
    ChangeText::render(&change).unwrap()
}

/// Signs the exported text as a person does who has nothing but `ssh-keygen`.
fn signed(dir: &Path, text: &ChangeText, name: &str, verb: Verb, options: &[&str]) -> String {
    std::fs::write(dir.join("change.txt"), text.bytes()).unwrap();
    let _ = std::fs::remove_file(dir.join("change.txt.sig"));
    let namespace = verb.namespace(&text.change().deployment);
    assert!(keygen(dir, &[&["-Y", "sign", "-f", name, "-n", &namespace], options, &["change.txt"]].concat()));
    std::fs::read_to_string(dir.join("change.txt.sig")).unwrap()
}

/// Whether `ssh-keygen -Y verify` accepts a signature, with the signers that the roster allows.
fn accepts(dir: &Path, roster: &Roster, text: &ChangeText, name: &str, verb: Verb, armoured: &str) -> bool {
    let deployment = text.change().deployment;
    std::fs::write(dir.join("allowed"), roster.allowed_signers(&deployment)).unwrap();
    std::fs::write(dir.join("kept.sig"), armoured).unwrap();
    std::fs::write(dir.join("change.txt"), text.bytes()).unwrap();
    let namespace = verb.namespace(&deployment);
    let mut command = Command::new(SSH_KEYGEN);
    command.current_dir(dir).args(["-Y", "verify", "-f", "allowed", "-I", name, "-n", &namespace, "-s", "kept.sig"]);
    let input = std::fs::File::open(dir.join("change.txt")).unwrap();
    command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn what_ssh_keygen_signs_is_a_vote_and_what_is_kept_of_it_ssh_keygen_verifies() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let roster = roster(dir.path(), "");
    let text = change(&roster);
    for kind in 0..KINDS.len() {
        let name = person(kind);
        for (verb, options) in [(Verb::Approval, &[][..]), (Verb::Rejection, &["-O", "hashalg=sha256"])] {
            let armoured = signed(dir.path(), &text, &name, verb, options);
            let vote = Vote::from_armoured(&armoured, verb, &text, &roster, 1).unwrap();
            let checked = check(&vote, &text, &[&roster], &mut SignatureCache::default()).unwrap();
            assert_eq!((checked.person().as_str(), checked.is_user_present()), (name.as_str(), false));
            let kept = vote.armoured().unwrap();
            assert_eq!(kept, armoured, "{options:?} {name}");
            assert!(accepts(dir.path(), &roster, &text, &name, verb, &kept));
        }
    }
}

#[test]
fn both_refuse_another_text_another_verb_and_another_person() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let roster = roster(dir.path(), "");
    let text = change(&roster);
    let other = ChangeText::render(&Change { nonce: [4; 16], ..text.change().clone() }).unwrap();
    for kind in 0..KINDS.len() {
        let name = person(kind);
        let armoured = signed(dir.path(), &text, &name, Verb::Approval, &[]);
        let vote = Vote::from_armoured(&armoured, Verb::Approval, &text, &roster, 1).unwrap();
        let refused =
            |vote: &Vote, text: &ChangeText| check(vote, text, &[&roster], &mut SignatureCache::default()).unwrap_err();
        assert_eq!(
            refused(&Vote { text: other.digest(), ..vote.clone() }, &other),
            VoteFault::Signature(SshFault::Wrong)
        );
        assert!(!accepts(dir.path(), &roster, &other, &name, Verb::Approval, &armoured));
        let rejection = Vote { verb: Verb::Rejection, ..vote.clone() };
        assert_eq!(refused(&rejection, &text), VoteFault::Signature(SshFault::Namespace));
        assert!(!accepts(dir.path(), &roster, &text, &name, Verb::Rejection, &armoured));
        let next = person((kind + 1) % KINDS.len());
        let as_another = Vote { person: Text::new(&next).unwrap(), ..vote };
        assert!(matches!(refused(&as_another, &text), VoteFault::OtherPerson(_)));
        assert!(!accepts(dir.path(), &roster, &text, &next, Verb::Approval, &armoured));
    }
}

#[test]
fn the_times_of_keys_stand_in_the_list_of_allowed_signers() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = change(&roster(dir.path(), ""));
    let name = person(0);
    let armoured = signed(dir.path(), &text, &name, Verb::Approval, &[]);
    for (times, is_accepted) in [
        ("valid_from = 2001-01-01T00:00:00Z\nvalid_until = 9000-01-01T00:00:00Z\n", true),
        ("valid_until = 2001-01-01T00:00:00Z\n", false),
        ("valid_from = 9000-01-01T00:00:00Z\n", false),
    ] {
        let roster = roster(dir.path(), times);
        assert_eq!(accepts(dir.path(), &roster, &text, &name, Verb::Approval, &armoured), is_accepted, "{times}");
    }
}
