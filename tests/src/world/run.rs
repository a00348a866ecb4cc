//! Applications: commands under `quotary run` on a host of the world.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use super::{Running, World};

/// A command to be run under a grant.
#[derive(Debug, Clone)]
pub struct Run {
    /// On which host.
    pub host: usize,
    /// As which user (and group of the same number); absent: as we are.
    pub uid: Option<u32>,
    /// What is asked for, as `quotary run` takes it: `--cpu`, `500m`, …
    pub asked: Vec<String>,
    /// The command.
    pub command: Vec<OsString>,
}

impl Run {
    /// A command on a host, with what it asks for.
    pub fn new<C: Into<OsString>>(host: usize, asked: &[&str], command: impl IntoIterator<Item = C>) -> Self {
        let asked = asked.iter().map(|&argument| argument.to_owned()).collect();
        Self { host, uid: None, asked, command: command.into_iter().map(Into::into).collect() }
    }
    /// The same as another user: only root may do that.
    #[must_use]
    pub fn as_uid(mut self, uid: Option<u32>) -> Self {
        self.uid = uid;
        self
    }
}

impl World {
    /// The command line of a run, without its user.
    pub fn run_command(&self, run: &Run) -> Command {
        let mut command = Command::new(self.path("bin/quotary"));
        command.env_remove("QUOTARY_SOCKET").arg("run").arg("--socket").arg(self.host(run.host).socket());
        command.args(&run.asked).arg("--").args(&run.command);
        command
    }

    /// Starts a run, which goes on beside us; what it prints is in `log` in the world's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_run(&self, name: &str, run: &Run) -> Result<Running> {
        self.spawner().start(name, &self.run_command(run), run.uid, &self.path(&format!("run-{name}.log")))
    }
}
