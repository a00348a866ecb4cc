//! Both services under a service manager: what it hears of them, and the secrets that it gives them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quotary_tests::world::{Options, PATIENCE, Running, World};

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: String,
}

impl Manager {
    fn at(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, path, heard: String::new() }
    }

    /// The environment that systemd gives, with a watchdog of one second.
    fn lead(&self, command: &mut Command, credentials: &Path) {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
        command.env("CREDENTIALS_DIRECTORY", credentials);
    }

    /// Listens until it has heard `text` so often.
    fn hear(&mut self, text: &str, times: usize, running: &Running) {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 4096];
        while self.heard.matches(text).count() < times {
            if let Ok(length) = self.socket.recv(&mut bytes) {
                self.heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
            let is_over = Instant::now() > deadline || running.ended().unwrap().is_some();
            assert!(!is_over, "{text} was not heard but\n{}\n{}", self.heard, running.log_tail());
        }
    }

    /// Hears all that was said until now.
    fn drain(&mut self) -> &str {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            self.heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        &self.heard
    }
}

#[test]
fn both_services_tell_that_they_are_ready_alive_and_stopping_and_take_the_secrets_that_they_are_given() {
    let world = World::new(Options::quick(1)).unwrap();
    let credentials = world.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    // Where the data directory has no key (any more) the one that is given serves.
    for (key, given) in
        [("keys/grant.pk8", "grant.pk8"), ("keys/nonce.key", "nonce.key"), ("tls/key.pem", "tls-key.pem")]
    {
        std::fs::rename(world.path("verifier").join(key), credentials.join(given)).unwrap();
    }
    let mut manager = Manager::at(world.path("notify-verifier"));
    let mut command = Command::new(world.binaries().path("quotary-verifier"));
    command.arg("run").arg("--config").arg(world.verifier_config());
    manager.lead(&mut command, &credentials);
    let verifier = world.spawner().start("quotary-verifier", &command, None, &world.path("verifier.log")).unwrap();
    manager.hear("READY=1\nSTATUS=serving ", 1, &verifier);
    manager.hear("WATCHDOG=1", 3, &verifier);

    world.make_join_token(0).unwrap();
    let host = world.host(0);
    std::fs::rename(host.join_token(), credentials.join("join-token")).unwrap();
    let mut hears = Manager::at(world.path("notify-agent"));
    let mut command = Command::new(world.binaries().path("quotary-agent"));
    command.arg("--config").arg(host.config());
    hears.lead(&mut command, &credentials);
    let agent = world.spawner().start("quotary-agent", &command, None, &world.path("agent.log")).unwrap();
    hears.hear("READY=1", 1, &agent);
    hears.hear("the verifier accepts evidence", 1, &agent);
    hears.hear("WATCHDOG=1", 3, &agent);

    assert!(agent.stop(PATIENCE).unwrap().success());
    // Meanwhile nobody read what the verifier told, and its words filled the queue: that has held nothing up.
    manager.drain();
    assert!(verifier.stop(PATIENCE).unwrap().success());
    assert!(hears.drain().contains("STOPPING=1") && manager.drain().contains("STOPPING=1"));
}
