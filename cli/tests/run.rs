//! `quotary run` against a small agent: exit codes, signals, the grant's beginning and end, and none at all.
#![expect(clippy::unwrap_used, reason = "tests")]

mod agent;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent::{Agent, GRANT, Manner, grant};
use rustix::process::{Pid, Signal, kill_process};

const QUOTARY: &str = env!("CARGO_BIN_EXE_quotary");

/// `quotary run` with this socket and these words.
fn run(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(QUOTARY);
    command.arg("run").arg("--socket").arg(socket).args(words).stdin(Stdio::null());
    command
}

fn output(socket: &Path, words: &[&str]) -> Output {
    run(socket, words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running `quotary run` in a process group of its own, killed if a test fails.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(agent: &Agent, words: &[&str]) -> Self {
        let mut command = run(&agent.socket, words);
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
    fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }
    fn code(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// The state letter of a process (`/proc/PID/stat`, field 3).
fn state(pid: &str) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

fn wait_for_state(pid: &str, wanted: char) {
    let until = Instant::now() + Duration::from_secs(20);
    while state(pid) != wanted {
        assert!(Instant::now() < until, "{pid} never reached state {wanted}, it is in {}", state(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_command_runs_under_its_grant_and_its_exit_code_is_passed_on() {
    let agent = Agent::start(Manner::default());
    let words =
        ["--cpu", "500m", "--memory", "256M", "--name", "job", "--", "sh", "-c", "echo $$ $QUOTARY_GRANT; exit 7"];
    let output = output(&agent.socket, &words);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stderr), "", "nothing is said unless asked");
    let asked = agent.asked();
    let expected = [
        "POST /v1/requests".to_owned(),
        format!("POST /v1/grants/{GRANT}/enter"),
        format!("DELETE /v1/grants/{GRANT}"),
    ];
    let without_watching: Vec<_> = asked.iter().filter(|asked| !asked.ends_with("/events")).cloned().collect();
    assert_eq!(without_watching, expected);
    let notes = agent.notes();
    let body: serde_json::Value = serde_json::from_str(&notes[0].body).unwrap();
    assert_eq!(body["resources"]["cpu_millicores"], 500);
    assert_eq!(body["resources"]["memory_bytes"], 256 << 20);
    assert_eq!((&body["class"], &body["name"], &body["wait_ms"]), (&"burstable".into(), &"job".into(), &30_000.into()));
    // The peer that entered is the very process that became the command.
    let entered = notes.iter().find(|note| note.asked == expected[1]).unwrap();
    assert_eq!(text(&output.stdout).trim(), format!("{} {GRANT}", entered.pid));
    assert_ne!(entered.pid, notes[0].pid);
}

#[test]
fn a_command_that_a_signal_ended_and_one_that_cannot_run_have_a_shells_codes() {
    let agent = Agent::start(Manner::default());
    assert_eq!(output(&agent.socket, &["--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let missing = output(&agent.socket, &["--", "/nonexistent/command"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("/nonexistent/command"));
    assert_eq!(output(&agent.socket, &["--", "/etc/passwd"]).status.code(), Some(126));
    agent.wait_for(&format!("DELETE /v1/grants/{GRANT}"), 3);
}

#[test]
fn standard_input_and_output_are_the_commands_own() {
    let agent = Agent::start(Manner::default());
    let mut command = run(&agent.socket, &["--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "through\n");
}

#[test]
fn signals_are_passed_on_and_the_grant_is_given_back_then_too() {
    let agent = Agent::start(Manner::default());
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script = format!("trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.02; done");
        let mut running = Running::start(&agent, &["--", "sh", "-c", &script]);
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.line(), format!("got {name}"));
        assert_eq!(running.code(), Some(9), "{name}");
    }
    agent.wait_for(&format!("DELETE /v1/grants/{GRANT}"), 6);
}

#[test]
fn a_command_that_a_passed_on_signal_ends_gives_128_and_the_signal() {
    let agent = Agent::start(Manner::default());
    let mut running = Running::start(&agent, &["--", "sh", "-c", "echo ready; exec sleep 30"]);
    assert_eq!(running.line(), "ready");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(143));
    agent.wait_for(&format!("DELETE /v1/grants/{GRANT}"), 1);
}

#[test]
fn stop_and_continue_reach_both_halves() {
    let agent = Agent::start(Manner::default());
    let mut running = Running::start(&agent, &["--", "sh", "-c", "echo $$; exec sleep 30"]);
    let (command, supervisor) = (running.line(), running.child.id().to_string());
    wait_for_state(&command, 'S');
    running.signal(Signal::TSTP);
    wait_for_state(&command, 'T');
    wait_for_state(&supervisor, 'T');
    running.signal(Signal::CONT);
    wait_for_state(&command, 'S');
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(143));
}

#[test]
fn signals_that_were_ignored_before_stay_ignored_for_the_command() {
    let agent = Agent::start(Manner::default());
    let script = format!("trap '' HUP; exec {QUOTARY} run --socket \"$1\" -- grep SigIgn /proc/self/status");
    let output = Command::new("sh").args(["-c", &script, "sh"]).arg(&agent.socket).output().unwrap();
    let line = text(&output.stdout);
    let set = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(set & 1, 1, "{line}");
}

#[test]
fn a_key_on_the_terminal_reaches_the_command_once() {
    let agent = Agent::start(Manner::default());
    let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    // A session of its own, with this terminal: quotary and the command are its foreground.
    let script =
        "trap 'echo interrupted' INT; echo ready; n=0; while [ $n -lt 40 ]; do sleep 0.02; n=$((n+1)); done; exit 5";
    let mut command = Command::new("setsid");
    command.args(["-c", "-w", QUOTARY, "run", "--socket"]).arg(&agent.socket).args(["--", "sh", "-c", script]);
    let mut child = command.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
    drop(command);
    let mut master = std::fs::File::from(master);
    let mut seen = String::new();
    let mut pressed = false;
    let mut bytes = [0; 256];
    // The master reads an error once nobody has the terminal any more.
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if !pressed && seen.contains("ready") {
            master.write_all(b"\x03").unwrap();
            pressed = true;
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(5), "{seen}");
    assert_eq!(seen.matches("interrupted").count(), 1, "{seen}");
}

#[test]
fn without_an_agent_the_command_runs_after_one_line_of_warning() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let mut command = run(&socket, &["--", "sh", "-c", "echo \"ran [$QUOTARY_GRANT]\"; exit 3"]);
    let output = command.env("QUOTARY_GRANT", "stale").output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "ran []\n"));
    let errors = text(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("no grant") && errors.contains("none.sock"), "{errors}");
    assert_eq!(self::output(&socket, &["--", "/nonexistent/command"]).status.code(), Some(127));
}

#[test]
fn fail_does_not_run_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let output = output(&socket, &["--if-unavailable", "fail", "--", "echo", "ran"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(69), ""));
    let agent = Agent::start(Manner { refuses: 1, ..Manner::default() });
    let output = self::output(&agent.socket, &["--if-unavailable", "fail", "--", "echo", "ran"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(69), ""));
    assert!(text(&output.stderr).contains("capacity: the host is full"), "{output:?}");
}

#[test]
fn wait_asks_until_there_is_a_grant() {
    let agent = Agent::start(Manner { refuses: 2, ..Manner::default() });
    let output = output(&agent.socket, &["--if-unavailable", "wait", "--", "echo", "ran"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "ran\n"));
    assert_eq!(text(&output.stderr).lines().count(), 1, "told once");
    assert_eq!(agent.asked().iter().filter(|asked| *asked == "POST /v1/requests").count(), 3);
}

#[test]
fn a_signal_while_asking_ends_the_asking() {
    let agent = Agent::start(Manner { silent: true, ..Manner::default() });
    let mut running = Running::start(&agent, &["--", "echo", "ran"]);
    agent.wait_for("POST /v1/requests", 1);
    running.signal(Signal::INT);
    assert_eq!(running.code(), Some(130));
    assert_eq!(running.line(), "");
}

#[test]
fn no_answer_in_time_is_no_grant() {
    let agent = Agent::start(Manner { silent: true, ..Manner::default() });
    let began = Instant::now();
    let output = output(&agent.socket, &["--if-unavailable", "fail", "--wait-for", "100ms", "--", "echo", "ran"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_cgroup_that_cannot_be_entered_is_warned_of_or_fails_as_told() {
    let agent = Agent::start(Manner { closed: true, ..Manner::default() });
    let ran = output(&agent.socket, &["--", "echo", "ran"]);
    assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(0), "ran\n"));
    assert!(text(&ran.stderr).contains("cannot enter"), "{ran:?}");
    let failed = output(&agent.socket, &["--if-unavailable", "fail", "--", "echo", "ran"]);
    assert_eq!((failed.status.code(), text(&failed.stdout).as_str()), (Some(69), ""));
    agent.wait_for(&format!("DELETE /v1/grants/{GRANT}"), 2);
}

#[test]
fn a_changed_grant_is_told_if_asked_and_its_early_end_always() {
    for verbose in [false, true] {
        let agent = Agent::start(Manner::default());
        let words = ["--verbose", "--", "sh", "-c", "echo ready; read -r line; exit 0"];
        let mut command = run(&agent.socket, &words[usize::from(!verbose)..]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        agent.wait_for(&format!("GET /v1/grants/{GRANT}/events"), 1);
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut next = || errors.next().unwrap().unwrap();
        if verbose {
            assert!(next().contains("granted cpu 500m as web of shop"));
            assert!(next().contains("memory.soft_limit_in_bytes = 1 is advisory"));
            agent.tell(grant(250, "running", ""));
            assert_eq!(next(), "quotary: the grant shrinks: cpu 500m → cpu 250m");
            agent.tell(grant(750, "running", ""));
            assert_eq!(next(), "quotary: the grant grows: cpu 250m → cpu 750m");
        }
        agent.tell(grant(500, "ended", ""));
        assert!(next().contains("the grant has ended"));
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_dry_run_is_said_plainly() {
    let agent = Agent::start(Manner { mode: "dry-run", ..Manner::default() });
    let output = output(&agent.socket, &["--", "true"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("nothing is limited"), "{output:?}");
}
