//! Changes from the proposal to the vote, with the OpenSSH that people have, against a small verifier.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../src/change/fixture.rs"]
mod fixture;
mod verifier;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quotary_common::id::Digest;
use quotary_common::quorum::change::ChangeText;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::vote::{SignatureCache, Verb, Vote, check};
use quotary_common::wire::{AuthorityView, ChangeView, DocumentView, VoteRequest, VoteView};
use verifier::Verifier;

const RULES: &str = "version = 2\n[criticality.critical]\napprovals = 2\napprovers = ['operator']\napprove_within_s = 3600\n\
                     apply_within_s = 7200\n";

const PREVIEW: &str = r#"{"id":"c-x","given":true,"effective_at_ms":180000,"courses":[{
    "host":"7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b","application":"web",
    "target":{"unit":"web.service"},"control":"memory-high","unit":"bytes","now":536870912,"starts_at_ms":1000,
    "setpoints":[{"at_ms":1000,"value":536870912},{"at_ms":180000,"value":268435456}],"band":[],"method":"model"}],
    "without":["db.service: no host has it"]}"#;

/// A deployment with people whose keys lie in a directory, and a change.
struct World {
    directory: tempfile::TempDir,
    verifier: Verifier,
    text: ChangeText,
    roster: Roster,
}

fn openssh_is_missing() -> bool {
    let missing = Command::new("ssh-keygen").arg("-?").stdin(Stdio::null()).output().is_err();
    if missing {
        eprintln!("skipped: tools/install-packages installs openssh-client");
    }
    missing
}

/// Writes a program by another process: what this one has open to write, a child of another test could keep from starting.
fn write_script(path: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-ec", r#"printf '#!/bin/sh\n%s\n' "$1" > "$0"; chmod 755 "$0""#]).arg(path).arg(script);
    assert!(command.status().unwrap().success());
}

fn make_key(directory: &Path, name: &str, passphrase: &str) -> PathBuf {
    let path = directory.join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-C", "somebody", "-N", passphrase, "-f"]).arg(&path);
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    path
}

/// The change as it is shown with these votes.
fn view(text: &ChangeText, votes: &[VoteView]) -> ChangeView {
    ChangeView { votes: votes.to_vec(), ..fixture::view(text) }
}

fn document(text: &str, version: u64) -> DocumentView {
    DocumentView { sha256: Digest::of(&[text.as_bytes()]), version, text: text.to_owned() }
}

/// Takes a vote as a verifier does: whose it is follows from its key, and the requester's own does not count.
fn take(body: &str, text: &ChangeText, roster: &Roster) -> Result<VoteView, String> {
    let request: VoteRequest = serde_json::from_str(body).unwrap();
    let verb = Verb::ALL.into_iter().find(|verb| verb.name() == request.verb).unwrap();
    let at_ms = text.change().proposed_ms + 500;
    let vote = Vote::from_armoured(&request.signature, verb, text, roster, at_ms).map_err(|fault| fault.to_string())?;
    let checked = check(&vote, text, &[roster], &mut SignatureCache::default()).map_err(|fault| fault.to_string())?;
    let counted = checked.person().as_str() != "alice";
    Ok(VoteView {
        person: checked.person().to_string(),
        key: checked.key().to_string(),
        verb: verb.name().to_owned(),
        cast_at_ms: at_ms,
        counted,
        reason: if counted { "counted" } else { "who asks for a change does not vote on it" }.to_owned(),
        sha256: text.digest(),
        signature: vote.armoured().unwrap(),
    })
}

impl World {
    /// With alice and bob on the roster, each with a key; bob's has the passphrase `secret`.
    fn new() -> Self {
        Self::answering(|_| ())
    }

    /// One whose answers about the change are altered.
    fn answering(alter: impl Fn(&mut ChangeView) + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut people = "version = 1\n".to_owned();
        for (name, passphrase) in [("alice", ""), ("bob", "secret"), ("carol", "")] {
            let key = make_key(directory.path(), name, passphrase).with_extension("pub");
            let key = std::fs::read_to_string(key).unwrap();
            people += &format!(
                "[[people]]\nname = '{name}'\nroles = ['operator']\n[[people.keys]]\nkey = '{}'\n",
                key.trim()
            );
        }
        make_key(directory.path(), "stranger", "");
        let roster = Roster::parse(people.as_bytes()).unwrap();
        let text = fixture::text(fixture::id("one"));
        let authority = serde_json::to_string(&AuthorityView {
            roster: document(&people, 1),
            rules: document(RULES, 2),
            number: 0,
            allowed_signers: roster.allowed_signers(&text.change().deployment),
            namespace: fixture::deployment().hex()[..16].to_owned(),
        })
        .unwrap();
        let votes: Arc<Mutex<Vec<VoteView>>> = Arc::default();
        let (shown, known) = (text.clone(), roster.clone());
        let root_key = Digest::new([7; 32]).hex();
        let verifier = Verifier::start(directory.path(), Some(&root_key), move |asked, body| {
            let (hex, short) = (shown.change().id.hex(), shown.change().id.to_string());
            let mut votes = votes.lock().unwrap();
            match asked.strip_suffix('?').unwrap_or(asked) {
                "GET /v1/authority" => return (200, authority.clone()),
                "GET /v1/changes?state=in%20force" => return (200, "[]".to_owned()),
                asked if asked.ends_with("/preview") => return (200, PREVIEW.to_owned()),
                "GET /v1/changes" => return (200, serde_json::to_string(&[view(&shown, &votes).summary]).unwrap()),
                "POST /v1/changes" => {}
                asked if asked == format!("GET /v1/changes/{hex}") || asked == format!("GET /v1/changes/{short}") => {}
                asked if asked == format!("POST /v1/changes/{hex}/votes") => match take(body, &shown, &known) {
                    Ok(vote) => votes.push(vote),
                    Err(fault) => {
                        return (400, format!(r#"{{"reason":"signature","detail":"{fault}","retry":false}}"#));
                    }
                },
                _ => return (404, r#"{"reason":"not-found","detail":"no such route","retry":false}"#.to_owned()),
            }
            let mut view = view(&shown, &votes);
            alter(&mut view);
            (200, serde_json::to_string(&view).unwrap())
        });
        Self { directory, verifier, text, roster }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `quotary` as somebody runs it who is logged in and has no agent; the change's id is put in for `ID`.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotary"));
        let id = self.text.change().id.to_string();
        let words = line.split_whitespace().map(|word| if word == "ID" { id.clone() } else { word.to_owned() });
        command.args(words).current_dir(self.directory.path()).stdin(Stdio::null());
        command
            .env("QUOTARY_CREDENTIALS", &self.verifier.credentials)
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("DISPLAY");
        command
    }

    fn quotary(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn votes_sent(&self) -> usize {
        self.verifier.notes().iter().filter(|(asked, _)| asked.ends_with("/votes")).count()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn an_approval_shows_the_text_is_signed_by_openssh_and_counts() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let done = world.quotary("change approve ID --key carol --yes");
    assert_eq!(done.status.code(), Some(0), "{}{}", out(&done), errors(&done));
    let told = out(&done);
    assert!(told.contains(std::str::from_utf8(world.text.bytes()).unwrap()), "{told}");
    assert!(told.contains(&format!("SHA-256 {}", world.text.digest().hex())), "{told}");
    assert!(told.contains("the approval of carol counts") && told.contains("2 more people"), "{told}");
    assert_eq!(world.votes_sent(), 1);
    let rejected = world.quotary("--json change reject ID --key carol --yes");
    assert_eq!(rejected.status.code(), Some(0), "{}", errors(&rejected));
    let json: ChangeView = serde_json::from_slice(&rejected.stdout).unwrap();
    assert_eq!(json.votes.last().unwrap().verb, "rejection");
    assert!(errors(&rejected).contains("quotary-change-v1"), "the text is shown beside the JSON");
}

#[test]
fn where_no_root_key_is_pinned_signing_says_so_and_the_json_does_not() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    for line in ["--json change approve ID --key carol --yes", "change export ID -"] {
        assert!(!errors(&world.quotary(line)).contains("NO ROOT KEY"), "{line}");
    }
    let credentials = std::fs::read_to_string(&world.verifier.credentials).unwrap();
    let unpinned: String =
        credentials.lines().filter(|line| !line.starts_with("root_key")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&world.verifier.credentials, unpinned).unwrap();
    let done = world.quotary("--json change approve ID --key carol --yes");
    assert_eq!(done.status.code(), Some(0), "{}", errors(&done));
    let told = errors(&done);
    assert!(told.contains("NO ROOT KEY IS PINNED") && told.contains("--root-key HEX"), "{told}");
    let _json: ChangeView = serde_json::from_slice(&done.stdout).unwrap();
    for line in ["change export ID -", "change votes ID --out votes"] {
        assert!(errors(&world.quotary(line)).contains("NO ROOT KEY IS PINNED"), "{line}");
    }
}

#[test]
fn a_text_on_standard_output_is_the_text_alone_and_standard_error_says_how_to_sign_it() {
    let world = World::new();
    let done = world.quotary("change export ID -");
    assert_eq!(done.stdout, world.text.bytes());
    let namespace = Verb::Approval.namespace(&world.text.change().deployment);
    assert!(errors(&done).contains(&format!("ssh-keygen -Y sign -n {namespace} -f KEY FILE\n")), "{}", errors(&done));
}

#[test]
fn a_vote_that_does_not_count_is_told_and_ends_with_1() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let done = world.quotary("change approve ID --key alice --yes");
    assert_eq!(done.status.code(), Some(1), "{}", errors(&done));
    assert!(out(&done).contains("the approval of alice is taken and DOES NOT COUNT: who asks"), "{}", out(&done));
    let refused = world.quotary("change approve ID --key stranger --yes");
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors(&refused).contains("nobody on the roster has the key"), "{}", errors(&refused));
}

#[test]
fn nothing_is_signed_without_a_yes_or_of_what_was_not_asked_for() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let asked = world.quotary("change approve ID --key carol");
    assert_eq!(asked.status.code(), Some(64));
    assert!(errors(&asked).contains("--yes"), "{}", errors(&asked));
    let no_key = world.quotary("change approve ID --yes");
    assert!(no_key.status.code() == Some(64) && errors(&no_key).contains("SSH_AUTH_SOCK"), "{}", errors(&no_key));
    assert_eq!(world.votes_sent(), 0);
    let other = fixture::text(fixture::id("two"));
    let swapping = World::answering(move |view| {
        view.text = String::from_utf8(other.bytes().to_vec()).unwrap();
        view.sha256 = other.digest();
    });
    let wrong = World::answering(|view| view.text = view.text.replace("alice", "carol"));
    for (world, why) in [(swapping, "another change"), (wrong, "SHA-256")] {
        for line in ["change approve ID --key carol --yes", "change export ID out.txt", "change show ID"] {
            let refused = world.quotary(line);
            assert_eq!(refused.status.code(), Some(2), "{line}: {}", errors(&refused));
            assert!(errors(&refused).contains(why), "{line}: {}", errors(&refused));
        }
        assert!(world.votes_sent() == 0 && !world.path("out.txt").exists());
    }
}

#[test]
fn on_a_terminal_the_text_is_paged_and_only_a_yes_signs() {
    if openssh_is_missing() || Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let world = World::new();
    let answered = |answer: &str| {
        let id = world.text.change().id.to_string();
        let line = format!("{} change approve {id} --key carol", env!("CARGO_BIN_EXE_quotary"));
        // A terminal of its own, into which the answer is typed.
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).current_dir(world.directory.path()).env("PAGER", "sed s/^/paged:/");
        terminal.env("QUOTARY_CREDENTIALS", &world.verifier.credentials);
        let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let no = answered("no\n");
    assert!(no.status.code() == Some(1) && out(&no).contains("nothing was signed"), "{}", out(&no));
    assert_eq!(world.votes_sent(), 0);
    let yes = answered("yes\n");
    assert_eq!(yes.status.code(), Some(0), "{}", out(&yes));
    for part in ["paged:quotary-change-v1", "as approval? (yes or no)", "the approval of carol counts"] {
        assert!(out(&yes).contains(part), "{part} in {}", out(&yes));
    }
    assert_eq!(world.votes_sent(), 1);
}

#[test]
fn an_encrypted_key_asks_for_its_passphrase_as_openssh_does() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    for (passphrase, code) in [("secret", 0), ("wrong", 1)] {
        let askpass = world.path("askpass");
        write_script(&askpass, &format!("echo {passphrase}"));
        let mut command = world.command("change approve ID --key bob --yes");
        let done = command.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{passphrase}: {}", errors(&done));
    }
    assert_eq!(world.votes_sent(), 1);
}

/// An ssh-agent on a socket in the directory; it ends with the test.
struct Agent(Child);

impl Agent {
    fn start(directory: &Path) -> Self {
        let socket = directory.join("agent");
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let agent = Self(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            assert!(Instant::now() < until, "ssh-agent does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_agents_one_key_on_the_roster_signs_and_of_several_one_must_be_said() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let _agent = Agent::start(world.directory.path());
    let socket = world.path("agent");
    let add = |name: &str| {
        let mut command = Command::new("ssh-add");
        command.arg("-q").arg(world.path(name)).env("SSH_AUTH_SOCK", &socket).stdin(Stdio::null());
        assert!(command.status().unwrap().success());
    };
    let approve = |line: &str| world.command(line).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    let none = approve("change approve ID --yes");
    assert!(none.status.code() == Some(1) && errors(&none).contains("none of the 0 keys"), "{}", errors(&none));
    add("stranger");
    add("carol");
    // Its private half is with the agent alone.
    std::fs::remove_file(world.path("carol")).unwrap();
    let done = approve("change approve ID --yes");
    assert_eq!(done.status.code(), Some(0), "{}{}", out(&done), errors(&done));
    assert!(out(&done).contains("the approval of carol counts"), "{}", out(&done));
    add("alice");
    let several = approve("change approve ID --yes");
    assert_eq!(several.status.code(), Some(1));
    for part in ["of alice", "of carol", "--key FILE.pub"] {
        assert!(errors(&several).contains(part), "{part}: {}", errors(&several));
    }
    let said = approve("change approve ID --key carol.pub --yes");
    assert_eq!(said.status.code(), Some(0), "{}", errors(&said));
}

#[test]
fn an_exported_text_is_signed_elsewhere_and_kept_votes_are_checked_by_openssh_alone() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let exported = world.quotary("change export ID change.txt");
    assert_eq!(exported.status.code(), Some(0), "{}", errors(&exported));
    assert_eq!(std::fs::read(world.path("change.txt")).unwrap(), world.text.bytes());
    assert_eq!(world.quotary("change export ID -").stdout, world.text.bytes());
    assert_eq!(world.quotary("change export ID change.txt").status.code(), Some(2), "a file is never written over");
    let namespace = Verb::Approval.namespace(&world.text.change().deployment);
    assert!(errors(&exported).contains(&format!("ssh-keygen -Y sign -n {namespace}")), "{}", errors(&exported));
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-Y", "sign", "-n", &namespace, "-f", "carol", "change.txt"])
        .current_dir(world.directory.path());
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    let for_another = world.quotary("change reject ID --signature change.txt.sig");
    assert!(for_another.status.code() == Some(1) && errors(&for_another).contains("another namespace"));
    let done = world.quotary("change approve ID --signature change.txt.sig");
    assert_eq!(done.status.code(), Some(0), "{}", errors(&done));
    assert_eq!(world.quotary("change approve ID --key alice --yes").status.code(), Some(1));

    let written = world.quotary("change votes ID --out votes");
    assert_eq!(written.status.code(), Some(0), "{}", errors(&written));
    let commands = out(&written);
    assert!(commands.contains("approval of carol: counted") && commands.contains("its signature holds"), "{commands}");
    assert!(commands.contains("approval of alice: not counted"), "{commands}");
    let run = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(world.directory.path()).stdin(Stdio::null()).output().unwrap()
    };
    let checked = run(&commands);
    assert!(checked.status.success(), "{commands}{}", errors(&checked));
    assert_eq!(out(&checked).matches("Good \"quotary-approval-v1@").count(), 2, "{}", out(&checked));
    std::fs::write(world.path("votes/change.txt"), [world.text.bytes(), b"\n"].concat()).unwrap();
    assert!(!run(&commands).status.success(), "over other bytes no vote holds");
    assert_eq!(world.quotary("change votes ID --out votes").status.code(), Some(64));
}

#[test]
fn a_proposal_sends_the_document_as_it_is_and_shows_the_impact() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    std::fs::write(world.path("web.toml"), fixture::DOCUMENT).unwrap();
    let done = world.quotary("change propose web.toml --effective 2026-12-01T06:00:00Z");
    assert_eq!(done.status.code(), Some(0), "{}", errors(&done));
    assert!(out(&done).contains("tenant shop: memory -256 MiB"), "{}", out(&done));
    let sent: serde_json::Value = serde_json::from_str(&world.verifier.sent("POST /v1/changes")[0]).unwrap();
    assert_eq!(
        (&sent["subject"]["policy"], &sent["effective_at_ms"]),
        (&fixture::DOCUMENT.into(), &1_796_104_800_000_u64.into())
    );
    let changing = World::new();
    std::fs::write(changing.path("web.toml"), fixture::DOCUMENT.replace("'high'", "'low'")).unwrap();
    let other = changing.quotary("change propose web.toml");
    assert!(
        other.status.code() == Some(2) && errors(&other).contains("not of the document that was sent"),
        "{}",
        errors(&other)
    );
    std::fs::write(world.path("bad.toml"), fixture::DOCUMENT.replace("'high'", "'huge'")).unwrap();
    let refused = world.quotary("change propose bad.toml");
    assert!(
        refused.status.code() == Some(2) && errors(&refused).contains("bad.toml:3: criticality: "),
        "{}",
        errors(&refused)
    );
    assert_eq!(world.verifier.sent("POST /v1/changes").len(), 1);
}

#[test]
fn a_change_is_found_by_a_beginning_of_its_id_and_listed() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let short = &world.text.change().id.to_string()[..8];
    let shown = world.quotary(&format!("change show {short}"));
    assert_eq!(shown.status.code(), Some(0), "{}", errors(&shown));
    assert!(out(&shown).contains("create policy web"), "{}", out(&shown));
    assert!(out(&world.quotary("change list")).contains("2 more people"));
    assert!(out(&world.quotary("change list --state in-force")).contains("no changes"));
    assert_eq!(world.quotary("change show c-nothing").status.code(), Some(1));
}

#[test]
fn who_decides_is_shown_and_the_roster_diffed_against_what_is_in_force() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let shown = world.quotary("policy authority");
    assert!(out(&shown).contains("carol") && out(&shown).contains("critical"), "{}{}", out(&shown), errors(&shown));
    let roster = world.quotary("policy authority --document roster");
    assert_eq!(roster.stdout, world.roster.bytes());
    let signers = world.quotary("policy authority --allowed-signers -");
    assert_eq!(out(&signers), world.roster.allowed_signers(&world.text.change().deployment));
    std::fs::write(
        world.path("roster.toml"),
        out(&roster).replace("version = 1", "version = 2").replace("'carol'", "'dora'"),
    )
    .unwrap();
    let diff = world.quotary("policy diff roster.toml");
    for part in ["roster, version 1 -> 2", "people.carol.roles: [\"operator\"] -> none", "people.dora.roles: none -> "]
    {
        assert!(out(&diff).contains(part), "{part} in {}{}", out(&diff), errors(&diff));
    }
}

#[test]
fn a_preview_is_shown_and_handed_over_to_be_drawn() {
    if openssh_is_missing() {
        return;
    }
    let world = World::new();
    let shown = world.quotary("change preview ID");
    assert_eq!(shown.status.code(), Some(0), "{}", errors(&shown));
    for part in ["the plans that are given", "web.service", "512 MiB", "256 MiB", "no plan: db.service: no host has it"]
    {
        assert!(out(&shown).contains(part), "{part} in {}", out(&shown));
    }
    // The program that draws lies beside this one: one that keeps what it is handed, or fails.
    let own = world.path("quotary");
    let built = env!("CARGO_BIN_EXE_quotary");
    std::fs::hard_link(built, &own).or_else(|_| std::fs::copy(built, &own).map(drop)).unwrap();
    for (script, code) in [("cat > handed; echo \"$@\" > words", 0), ("echo why >&2; exit 2", 2)] {
        let offline = world.path("quotary-offline");
        write_script(&offline, script);
        let id = world.text.change().id.to_string();
        let mut command = Command::new(&own);
        command.args(["change", "preview", &id, "--plot", "plan.svg"]).current_dir(world.directory.path());
        let done = command.env("QUOTARY_CREDENTIALS", &world.verifier.credentials).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{}", errors(&done));
        assert!(out(&done).contains("web.service"), "what there is to say is said before it is drawn");
    }
    let handed: serde_json::Value = serde_json::from_slice(&std::fs::read(world.path("handed")).unwrap()).unwrap();
    assert_eq!(handed["courses"][0]["setpoints"][1]["value"], 268_435_456);
    assert_eq!(std::fs::read_to_string(world.path("words")).unwrap(), "__draw plan.svg\n");
}
