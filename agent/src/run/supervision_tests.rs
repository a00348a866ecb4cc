//! What a service manager hears of an agent, through a real datagram socket.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use quotary_common::envelope::{HostFacts, Name};
use quotary_common::id::BootId;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::run::agent::Agent;
use crate::run::enforcement::{Enforcement, Opened};
use crate::socket::Asks;
use crate::state::StateDir;

const BOOT: BootId = BootId::new([3; 16]);

/// A service manager's socket, and the way of an agent to it.
fn listening(at: &Path, watchdog: Option<Duration>) -> (UnixDatagram, Supervision) {
    let path = at.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let tell = move |states: &[NotifyState<'_>]| {
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        UnixDatagram::unbound()?.send_to(text.as_bytes(), &path).map(drop)
    };
    (socket, Supervision::new(Box::new(tell), watchdog))
}

fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut lines = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(length) = socket.recv(&mut bytes) {
        lines.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned));
    }
    lines
}

#[test]
fn a_sign_of_life_goes_out_four_times_in_the_watchdogs_time_and_no_more_often() {
    let temp = tempfile::tempdir().unwrap();
    let (socket, mut supervision) = listening(temp.path(), Some(Duration::from_secs(8)));
    supervision.ready("observe: begins");
    assert_eq!(heard(&socket), ["READY=1", "STATUS=observe: begins"]);
    for now_ms in (10_000..18_000).step_by(500) {
        supervision.alive(now_ms, "observe: begins");
    }
    assert_eq!(heard(&socket), ["WATCHDOG=1"; 4]);
    supervision.alive(18_000, "observe: two\nlines");
    assert_eq!(heard(&socket), ["STATUS=observe: two lines", "WATCHDOG=1"]);
    supervision.stopping(Duration::from_secs(20));
    let stopping = ["STOPPING=1", "STATUS=putting every limit back", "WATCHDOG_USEC=30000000", "WATCHDOG=1"];
    assert_eq!(heard(&socket), stopping);
}

#[test]
fn without_a_watchdog_the_status_alone_is_told_and_a_manager_that_is_gone_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (socket, mut supervision) = listening(temp.path(), None);
    supervision.alive(1_000, "enforce");
    supervision.stopping(Duration::from_secs(1));
    assert_eq!(heard(&socket), ["STATUS=enforce", "STOPPING=1", "STATUS=putting every limit back"]);
    drop(socket);
    supervision.alive(2_000, "still here");
}

/// An agent that observes an empty tree and has no TPM.
fn agent(at: &Path, change: impl FnOnce(Opened) -> Opened) -> Agent {
    let text =
        format!("root = {at:?}\nmode = \"observe\"\nsample_ms = 200\n[tpm]\ndevice_path = {:?}\n", at.join("tpm"));
    let config = crate::config::Config::parse(&text, Path::new("agent.toml")).unwrap();
    let state = StateDir::open(at.join("state")).unwrap();
    let name = || Name::lossy("host");
    let facts = HostFacts { hostname: name(), kernel: name(), cpu_millicores: 1, memory_bytes: 1, os: None };
    let (enforcing, shaping) = crate::run::settings(&config, &state, &facts);
    let switch = config.kill_switch_file.clone();
    let opened = change(Enforcement::open(enforcing, shaping, switch, BOOT).unwrap());
    let (_, asked, obstacle) = Asks::channel(1);
    Agent::new(config, state, BOOT, facts, opened, asked, obstacle).unwrap()
}

/// What the service manager hears of it in 2.5 s; whether it still ran then.
async fn heard_of(mut agent: Agent, at: &Path) -> (Vec<String>, bool) {
    let (socket, supervision) = listening(at, Some(Duration::from_secs(1)));
    agent.supervision = supervision;
    let stop = CancellationToken::new();
    let ended = tokio::time::timeout(Duration::from_millis(2_500), agent.run(&stop)).await;
    (heard(&socket), ended.is_err())
}

#[tokio::test]
async fn an_agent_gives_signs_of_life() {
    let temp = tempfile::tempdir().unwrap();
    let (told, runs) = heard_of(agent(temp.path(), |opened| opened), temp.path()).await;
    assert!(runs);
    assert_eq!(told.first().map(String::as_str), Some("READY=1"));
    assert!(told.iter().filter(|line| *line == "WATCHDOG=1").count() >= 2, "{told:?}");
}

#[tokio::test]
async fn an_agent_whose_enforcement_thread_hangs_gives_none_though_its_loop_goes_round() {
    let temp = tempfile::tempdir().unwrap();
    let mut kept = None;
    let agent = agent(temp.path(), |opened| {
        let (hung, keep) = opened.hang();
        kept = Some(keep);
        hung
    });
    let (told, runs) = heard_of(agent, temp.path()).await;
    assert!(runs);
    assert!(told.contains(&"READY=1".to_owned()) && !told.contains(&"WATCHDOG=1".to_owned()), "{told:?}");
}
