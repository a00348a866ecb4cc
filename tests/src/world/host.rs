//! One host of a world: its files, its agent, and what runs under it.

use std::path::{Path, PathBuf};

use quotary_common::id::HostId;

use super::options::HostOptions;
use super::process::Running;
use super::road::Road;

/// A host: a directory, a software TPM in it, an agent that may or may not run.
#[derive(Debug)]
pub struct Host {
    pub(super) options: HostOptions,
    pub(super) directory: PathBuf,
    pub(super) cgroup: String,
    pub(super) road: Option<Road>,
    pub(super) agent: Option<Running>,
    pub(super) id: Option<HostId>,
}

impl Host {
    /// Its name within the world.
    pub fn name(&self) -> &str {
        &self.options.name
    }
    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// What its agent keeps.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }
    /// Its agent's configuration.
    pub fn config(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }
    /// Its join token.
    pub fn join_token(&self) -> PathBuf {
        self.directory.join("join.token")
    }
    /// The socket for applications.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/agent.sock")
    }
    /// The socket for root.
    pub fn admin_socket(&self) -> PathBuf {
        self.directory.join("run/admin.sock")
    }
    /// The cgroup below which its agent makes groups.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }
    /// Its way to the verifier, if that can be turned.
    pub fn road(&self) -> Option<&Road> {
        self.road.as_ref()
    }
    /// Its agent, if it was started.
    pub fn agent(&self) -> Option<&Running> {
        self.agent.as_ref()
    }
    /// Its id, once [`super::World::wait_for_trust`] has seen it.
    pub fn id(&self) -> Option<HostId> {
        self.id
    }
    /// What its agent logs.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }
}
