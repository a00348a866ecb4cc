//! The end of a world: in order when all went well, by force when not.

use std::time::Duration;

use anyhow::Result;

use super::process::{naming, tail};
use super::{POLL, World};

/// How long what was told to end may take to be gone.
const GONE: Duration = Duration::from_secs(10);

impl World {
    /// Stops agents and verifier in order, and says what they have left behind: processes and cgroups. The directory
    /// goes, and anything left is removed, when the world is dropped, which this does.
    ///
    /// # Errors
    /// When a program does not end well.
    pub fn take_down(mut self) -> Result<Vec<String>> {
        for index in 0..self.hosts.len() {
            if self.hosts[index].agent.is_some() {
                self.stop_agent(index)?;
            }
        }
        if self.verifier.is_some() {
            self.stop_verifier()?;
        }
        let mut left = self.leftovers()?;
        let deadline = std::time::Instant::now() + GONE;
        while !left.is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(POLL);
            left = self.leftovers()?;
        }
        let directory = self.directory.path().to_owned();
        drop(self);
        if directory.exists() {
            left.push(format!("directory {}", directory.display()));
        }
        Ok(left)
    }

    /// What there is of this world's processes and cgroups: while it runs, everything; after its end, nothing.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut left: Vec<String> =
            naming(self.directory.path())?.into_iter().map(|(pid, line)| format!("process {pid}: {line}")).collect();
        for host in &self.hosts {
            left.extend(
                self.kernel.directories(&host.cgroup).iter().map(|group| format!("cgroup {}", group.display())),
            );
        }
        Ok(left)
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        let mut logs = vec![self.path("verifier.log")];
        logs.extend(self.hosts.iter().map(super::Host::log));
        logs.iter().filter(|log| log.exists()).map(|log| tail(log) + "\n").collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tails());
        }
        self.verifier = None;
        for host in &mut self.hosts {
            host.agent = None;
            host.road = None;
            self.kernel.tidy(&host.cgroup);
        }
    }
}
