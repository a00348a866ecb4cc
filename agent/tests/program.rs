//! The agent's program as an operator meets it: its configuration, its sockets, its end.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use quotary_client::LocalClient;
use quotary_common::envelope::Mode;
use quotary_common::units::{Class, Resources};
use quotary_common::wire::{AskGrant, GrantRequest, Nothing, RequestReply, RestoreAll, ShowAgent};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quotary-agent");

fn checked(directory: &Path, text: &str) -> Output {
    let path = directory.join("agent.toml");
    std::fs::write(&path, text).unwrap();
    Command::new(PROGRAM).arg("--config").arg(path).arg("--check-config").output().unwrap()
}

#[test]
fn the_configuration_is_checked_whole_and_a_fault_exits_64() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(checked(temp.path(), "").status.code(), Some(0));
    let shipped = include_str!("../../systemd/agent.toml");
    assert_eq!(checked(temp.path(), shipped).status.code(), Some(0));
    let output = checked(temp.path(), "sample_ms = 1\nstate_dir = \"x\"\n");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64));
    assert!(told.contains("sample_ms") && told.contains("state_dir"), "{told}");
    assert_eq!(checked(temp.path(), "sample = 1").status.code(), Some(64));
    assert_eq!(checked(temp.path(), "log = \"a=b=c\"\n").status.code(), Some(64));
    let usage = Command::new(PROGRAM).arg("--frobnicate").output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
    let absent = Command::new(PROGRAM).args(["--config", "/nonexistent/agent.toml"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(64));
    let version = Command::new(PROGRAM).arg("--version").output().unwrap();
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}

/// A running agent in observe mode without a TPM, killed when the test ends.
struct Running {
    temp: tempfile::TempDir,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let here = temp.path().display();
        // Nobody listens on port 1: the TPM is away.
        let text = format!(
            "state_dir = \"{here}/state\"\nruntime_dir = \"{here}/run\"\nmode = \"observe\"\nretry_max_ms = 200\n\
             kill_switch_file = \"{here}/stop\"\n\
             [tpm]\naccess = \"swtpm\"\nswtpm_port = 1\n"
        );
        let config = temp.path().join("agent.toml");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(temp.path().join("log")).unwrap();
        let child =
            Command::new(PROGRAM).arg("--config").arg(config).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let running = Self { temp, child };
        running.wait_for(|running| running.temp.path().join("run/admin.sock").exists());
        running
    }
    fn wait_for(&self, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < end, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.temp.path().join("log")).unwrap()
    }
    fn client(&self, socket: &str) -> LocalClient {
        LocalClient::new(self.temp.path().join("run").join(socket))
    }
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

#[tokio::test]
async fn without_a_tpm_the_agent_runs_says_so_and_stops_in_order() {
    let mut running = Running::start();
    if rustix::process::geteuid().is_root() {
        let view = running.client("admin.sock").call::<ShowAgent>(&[], &Nothing {}).await.unwrap();
        assert_eq!((view.mode, view.host, view.sequence), (Mode::Observe, None, 0));
    }
    running.wait_for(|running| running.log().contains("swtpm"));
    let request = GrantRequest {
        resources: Resources { cpu_millicores: Some(100), ..Resources::default() },
        class: Class::Burstable,
        name: None,
        wait_ms: 100,
    };
    let RequestReply::NoAnswer { detail, .. } =
        running.client("agent.sock").call::<AskGrant>(&[], &request).await.unwrap()
    else {
        panic!("nobody can have granted it")
    };
    assert!(detail.contains("TPM"), "the obstacle is told: {detail}");

    let second = Command::new(PROGRAM).arg("--config").arg(running.temp.path().join("agent.toml")).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "one agent per state directory");

    running.signal(Signal::TERM);
    let status = running.child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", running.log());
    assert!(
        !running.temp.path().join("run/agent.sock").exists() && !running.temp.path().join("run/admin.sock").exists()
    );
    assert!(running.log().contains("the agent has stopped"));
}

#[test]
fn after_a_kill_the_next_agent_takes_the_sockets_over() {
    let mut running = Running::start();
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    assert!(running.temp.path().join("run/agent.sock").exists(), "left behind");
    let config = running.temp.path().join("agent.toml");
    let log = std::fs::File::create(running.temp.path().join("log")).unwrap();
    running.child =
        Command::new(PROGRAM).arg("--config").arg(config).stderr(log).stdout(Stdio::null()).spawn().unwrap();
    running.wait_for(|running| {
        std::os::unix::net::UnixStream::connect(running.temp.path().join("run/agent.sock")).is_ok()
    });
    running.signal(Signal::INT);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_kill_switch_that_goes_does_not_undo_what_root_asked_for() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let running = Running::start();
    let admin = running.client("admin.sock");
    let why_not = async || admin.call::<ShowAgent>(&[], &Nothing {}).await.unwrap().why_not.unwrap_or_default();
    let switch = running.temp.path().join("stop");
    std::fs::write(&switch, "").unwrap();
    running.wait_for(|running| running.log().contains("the kill switch is set"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(why_not().await.contains("the kill switch is set"), "{}", why_not().await);
    let reply = admin.call::<RestoreAll>(&[], &Nothing {}).await.unwrap();
    assert_eq!((reply.grants, reply.targets, reply.left.len()), (0, 0, 0));
    std::fs::remove_file(&switch).unwrap();
    running.wait_for(|running| running.log().contains("the kill switch is gone"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(why_not().await.contains("root has put everything back"), "{}", why_not().await);
}

#[test]
fn restore_does_not_need_a_configuration_that_holds_once_an_agent_has_started() {
    let mut running = Running::start();
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    let config = running.temp.path().join("agent.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("sample_ms = often\n{good}")).unwrap();
    let restored = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).arg("--config").arg(&config).args(arguments).output().unwrap();
        let told = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.code(), told)
    };
    for arguments in [&["restore"][..], &["restore", "--ended"]] {
        let (code, told) = restored(arguments);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("is not a configuration") && told.contains("last start kept"), "{told}");
        assert!(told.contains("put back: 0 grants"), "{told}");
    }
    assert_eq!(restored(&[]).0, Some(64), "the agent itself does not start with it");
    std::fs::remove_file(running.temp.path().join("state/restore.toml")).unwrap();
    let (code, told) = restored(&["restore"]);
    assert!(code == Some(64) && told.contains("restore.toml is not there"), "{told}");
}
