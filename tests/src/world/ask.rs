//! Asking a world: the operator's command, and root's socket on each host.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use quotary_client::LocalClient;
use quotary_common::wire::{AgentView, ForecastView, GrantView, HostView, Nothing, ShowAgent, StatusView};
use serde::de::DeserializeOwned;

use super::{LABEL, World, succeed};

impl World {
    /// The operator's `quotary`, logged in.
    pub fn cli_command(&self) -> Command {
        let mut command = Command::new(self.path("bin/quotary"));
        command.env("QUOTARY_CREDENTIALS", self.path("operator/credentials.toml"));
        command
    }

    /// Runs the operator's `quotary`, whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.cli_command().args(arguments).output().context("quotary cannot be run")
    }

    /// Runs the operator's `quotary`, which must succeed; what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn cli_ok(&self, arguments: &[&str]) -> Result<String> {
        succeed(self.cli_command().args(arguments))
    }

    /// What the operator's `quotary --json` printed.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub fn cli_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let printed = self.cli_ok(&[&["--json"], arguments].concat())?;
        serde_json::from_str(&printed).with_context(|| format!("quotary {arguments:?} printed: {printed}"))
    }

    /// `quotary host list`.
    ///
    /// # Errors
    /// As [`World::cli_json`].
    pub fn host_views(&self) -> Result<Vec<HostView>> {
        self.cli_json(&["host", "list"])
    }

    /// `quotary grant list`.
    ///
    /// # Errors
    /// As [`World::cli_json`].
    pub fn grant_views(&self) -> Result<Vec<GrantView>> {
        self.cli_json(&["grant", "list"])
    }

    /// `quotary forecast`.
    ///
    /// # Errors
    /// As [`World::cli_json`].
    pub fn forecast_views(&self) -> Result<Vec<ForecastView>> {
        self.cli_json(&["forecast"])
    }

    /// `quotary status`.
    ///
    /// # Errors
    /// As [`World::cli_json`].
    pub fn status_view(&self) -> Result<StatusView> {
        self.cli_json(&["status"])
    }

    /// What the agent of host `index` says of itself on root's socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn agent_view(&self, index: usize) -> Result<AgentView> {
        let client = LocalClient::new(self.host(index).admin_socket());
        Ok(self.runtime().block_on(client.call::<ShowAgent>(&[], &Nothing {}))?)
    }

    /// What the verifier says of host `index`, found by the label of its join token.
    ///
    /// # Errors
    /// When it does not answer, or does not know the host yet.
    pub fn host_view(&self, index: usize) -> Result<HostView> {
        let name = self.host(index).name();
        let mut views = self.host_views()?.into_iter();
        let is_it = |view: &HostView| view.inventory.labels.get(LABEL).is_some_and(|label| label == name);
        views.find(is_it).with_context(|| format!("{name} is not enrolled"))
    }

    /// Waits until host `index` is enrolled and trusted.
    ///
    /// # Errors
    /// When it does not come to that within `patience`, with what the agent said last.
    pub fn wait_for_trust(&mut self, index: usize, patience: Duration) -> Result<HostView> {
        let what = format!("{} to be trusted", self.host(index).name());
        let waited = self.wait(&what, patience, |world| {
            // Until the agent is up and enrolled there is nobody to ask.
            Ok(world.host_view(index).ok().filter(|view| view.trusted))
        });
        let log = || self.host(index).agent().map(super::Running::log_tail).unwrap_or_default();
        let view = waited.map_err(|error| anyhow!("{error:#}\n{}", log()))?;
        self.hosts[index].id = Some(view.host);
        Ok(view)
    }

    /// Waits until the verifier has accepted `more` further evidences of host `index`.
    ///
    /// # Errors
    /// When it does not come to that within `patience`.
    pub fn wait_for_evidence(&self, index: usize, more: u64, patience: Duration) -> Result<HostView> {
        let from = self.host_view(index)?.sequence;
        let what = format!("{more} evidences of {}", self.host(index).name());
        self.wait(&what, patience, |world| {
            let view = world.host_view(index)?;
            Ok((view.sequence >= from + more).then_some(view))
        })
    }
}
