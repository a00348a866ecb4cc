//! The loop that ties the rooms together.
//!
//! Does: samples each second, sends evidence when it is due, applies what comes back, answers the sockets, lets
//! the enforcer see what time brought, and on a stop puts everything back.
//! May assume: one agent per state directory (it takes the lock); a current-thread runtime.
//! Promises: nothing waits for the disk, the TPM or the verifier but what needs them: they work beside the loop
//! (a thread for the enforcer, one for the TPM, one task for the link); every task and thread is joined on a stop,
//! within the configured time.
//! Must never: apply what is not verified, keep a request of somebody who is gone, hold up the sampler.

mod agent;
mod asks;
mod enforcement;
mod exchanging;
mod gauges;
mod grants;
mod hearing;
mod learning;
mod linking;
mod requests;
mod restore;
mod schedule;
mod supervision;
mod ticks;
mod view;
mod works;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use enforcement::EnforcementError;
use quotary_common::envelope::HostFacts;
pub use restore::{RestoreError, Restored, restore};
pub use works::PutBack;

use crate::config::{Config, KeptError};
use crate::enforce;
use crate::sample::{self, SampleError};
use crate::shape;
use crate::socket::{Asks, Limits, Listener, SocketError, SocketKind};
use crate::state::{StateDir, StateError};
use agent::Agent;
use enforcement::Enforcement;

/// Questions of the sockets that may wait for the loop.
const ASKS_MAX: usize = 1024;

/// What keeps the agent from running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error("the state directory cannot be used")]
    State(#[from] StateError),
    /// The host does not say who it is.
    #[error("the host cannot be read")]
    Host(#[from] SampleError),
    /// Enforcement cannot begin.
    #[error("enforcement cannot begin")]
    Enforcement(#[from] EnforcementError),
    /// What `restore` needs of the configuration cannot be kept.
    #[error("what `restore` needs of the configuration cannot be kept: nothing is enforced without")]
    Keep(#[from] KeptError),
    /// A socket cannot be opened.
    #[error("the local sockets cannot be opened")]
    Socket(#[from] SocketError),
    /// The stop took too long.
    #[error("the agent did not stop in order within {limit_ms} ms: what is left is put back at the next start")]
    Stop {
        /// How long it had, ms.
        limit_ms: u64,
    },
}

/// Runs the agent until `stop`; then puts everything back and ends within the configured time.
///
/// # Errors
/// [`RunError`] when it cannot begin, or could not end in order.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let state = StateDir::open(&config.state_dir)?;
    let _lock = state.lock()?;
    let boot_id = sample::boot_id(&config.root)?;
    let facts = sample::facts(&config.root)?;
    let (enforcing, shaping) = settings(&config, &state, &facts);
    // Before anything is in force: from now on it can be put back whatever becomes of the configuration.
    config.keep(&state)?;
    let opened = Enforcement::open(enforcing, shaping, config.kill_switch_file.clone(), boot_id)?;
    match &opened.facts.why_not {
        Some(why_not) => tracing::warn!(mode = ?opened.facts.mode, %why_not, "the agent starts, and goes only so far"),
        None => tracing::info!(mode = ?opened.facts.mode, backend = ?opened.facts.can.backend.kind, "the agent starts"),
    }
    let (asks, asked, obstacle) = Asks::channel(ASKS_MAX);
    let sockets = Sockets::open(&config, asks)?;
    let limit = Duration::from_millis(config.shutdown_ms);
    let mut agent = Agent::new(config, state, boot_id, facts, opened, asked, obstacle)?;
    agent.run(&stop).await;
    tracing::info!("the agent stops and puts everything back");
    agent.supervision.stopping(limit);
    let ended = tokio::time::timeout(limit, async {
        sockets.stop().await;
        let is_restored = agent.stop(limit).await;
        sockets.join().await;
        is_restored
    });
    if ended.await == Ok(true) {
        tracing::info!("the agent has stopped");
        Ok(())
    } else {
        Err(RunError::Stop { limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) })
    }
}

/// How enforcement and shaping are set up on this host.
fn settings(config: &Config, state: &StateDir, facts: &HostFacts) -> (enforce::Config, shape::Config) {
    let devices = config.disks.clone().unwrap_or_else(|| enforce::whole_disks(&config.root));
    let link_bits = shape::egress::link_bits(&config.root, config.shape.egress_interfaces.as_deref());
    let storage_bytes = shape::storage::ceiling_bytes(&config.root, &config.shape.storage);
    let shaping = shape::Config {
        root: config.root.clone(),
        state_dir: state.clone(),
        mode: config.mode,
        delegated_parent: config.delegated_parent.as_ref().map(|parent| parent.as_str().to_owned()),
        devices: devices.clone(),
        egress_interfaces: config.shape.egress_interfaces.clone(),
        storage: config.shape.storage.clone(),
        rules: shape::rules_of_host(config.shape.rules.clone(), facts, link_bits, storage_bytes),
        local: config.shape.local.clone(),
        program: shape::Program::this(&config.path, &config.state_dir),
        grants: shape::OfGrants::default(),
    };
    let enforcing = enforce::Config {
        root: config.root.clone(),
        state_dir: state.clone(),
        mode: config.mode,
        delegated_parent: config.delegated_parent.as_ref().map(|parent| parent.as_str().to_owned()),
        devices,
    };
    (enforcing, shaping)
}

/// Both sockets' tasks.
struct Sockets {
    tasks: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Sockets {
    fn open(config: &Config, asks: Asks) -> Result<Self, SocketError> {
        let sockets = Self { tasks: TaskTracker::new(), stop: CancellationToken::new(), cut: CancellationToken::new() };
        let limits = Limits { connections_per_uid_max: config.connections_per_uid_max };
        for (path, kind) in [(config.socket(), SocketKind::Application), (config.admin_socket(), SocketKind::Admin)] {
            let listener = Listener::bind(&path, kind)?;
            // Peers are real processes: they stand in the running kernel's /proc, whatever tree is sampled.
            let root = std::path::PathBuf::from("/");
            sockets.tasks.spawn(listener.serve(asks.clone(), root, limits, sockets.stop.clone(), sockets.cut.clone()));
        }
        Ok(sockets)
    }

    /// No new connections.
    async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::task::yield_now().await;
    }

    /// Ends what is still open.
    async fn join(&self) {
        self.cut.cancel();
        self.tasks.wait().await;
    }
}
