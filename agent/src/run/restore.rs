//! `quotary-agent restore`: puts back what is in force, or only what no lease covers any more, without the agent.
//!
//! systemd calls it after a crash (`ExecStopPost=`) and at the end of the leases (a transient timer); root by hand.

use quotary_client::{ClientError, LocalClient};
use quotary_common::wire::{Nothing, RestoreAll};

use super::works::Works;
use super::{RunError, settings};
use crate::config::Config;
use crate::sample;
use crate::state::{StateDir, StateError};

/// What `restore` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The agent runs, and ends leases by itself.
    AgentRuns,
    /// So many grants were ended, and so many units and groups have their own values again.
    Done {
        /// Grants.
        grants: u64,
        /// Units and groups.
        targets: u64,
    },
}

/// A restore that was not done.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It could not be done here.
    #[error("not everything could be put back")]
    Here(#[from] RunError),
    /// The agent runs, and did not do it.
    #[error("the agent runs, and did not put everything back: ask it with `quotary agent status`")]
    Agent(#[from] ClientError),
}

/// Puts back what no lease covers (`only_ended`), or everything. An agent that runs is asked to do it.
///
/// # Errors
/// [`RestoreError`] saying what stands in the way; what is left is in the journal still.
pub async fn restore(config: &Config, only_ended: bool) -> Result<Restored, RestoreError> {
    let state = StateDir::open(&config.state_dir).map_err(RunError::State)?;
    let _lock = match state.lock() {
        Ok(lock) => lock,
        Err(StateError::Locked { .. }) if only_ended => return Ok(Restored::AgentRuns),
        Err(StateError::Locked { .. }) => {
            let reply = LocalClient::new(config.admin_socket()).call::<RestoreAll>(&[], &Nothing {}).await?;
            return Ok(Restored::Done { grants: reply.grants, targets: reply.targets });
        }
        Err(error) => return Err(RunError::State(error).into()),
    };
    let boot_id = sample::boot_id(&config.root).map_err(RunError::Host)?;
    let facts = sample::facts(&config.root).map_err(RunError::Host)?;
    let (enforcing, shaping) = settings(config, &state, &facts);
    let opened = Works::open(enforcing, shaping, config.kill_switch_file.clone(), boot_id);
    let (mut works, mut outcome) = opened.map_err(RunError::Enforcement)?;
    if !only_ended {
        outcome.append(works.restore_all());
    }
    let targets: std::collections::BTreeSet<_> =
        outcome.writes.iter().filter(|write| write.plan.is_some()).map(|write| write.cgroup.clone()).collect();
    Ok(Restored::Done { grants: outcome.ended.len() as u64, targets: targets.len() as u64 })
}
