//! `quotary-agent restore`: puts back what is in force, or only what no lease covers any more, without the agent.
//!
//! systemd calls it after a crash (`ExecStopPost=`) and at the end of the leases (a transient timer); root by hand.

use quotary_client::{ClientError, LocalClient};
use quotary_common::envelope::{HostFacts, Name};
use quotary_common::wire::{Nothing, RestoreAll};

use super::works::{PutBack, Works};
use super::{RunError, settings};
use crate::config::Config;
use crate::sample;
use crate::state::{StateDir, StateError};

/// What `restore` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// The agent runs, and ends leases by itself.
    AgentRuns,
    /// This was put back, and this was not.
    Done(PutBack),
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

/// Puts back what no lease covers (`only_ended`), or everything; everything as well where the kill switch is set. An agent that
/// runs is asked to do it, and looks at the switch by itself.
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
            return Ok(Restored::Done(PutBack { grants: reply.grants, targets: reply.targets, left: reply.left }));
        }
        Err(error) => return Err(RunError::State(error).into()),
    };
    let boot_id = sample::boot_id(&config.root).map_err(RunError::Host)?;
    let (enforcing, shaping) = settings(config, &state, &facts(config));
    let opened = Works::open(enforcing, shaping, config.kill_switch_file.clone(), boot_id);
    let (mut works, mut outcome) = opened.map_err(RunError::Enforcement)?;
    if only_ended && !works.is_switch_set() {
        return Ok(Restored::Done(works.tell_ended(&outcome)));
    }
    // What opening has ended counts as well.
    outcome.append(works.restore_all());
    Ok(Restored::Done(works.tell_all(&outcome)))
}

/// What the host has; what it does not say is not needed to put back: it bounds plans, and none is followed here.
fn facts(config: &Config) -> HostFacts {
    sample::facts(&config.root).unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "the host does not say what it has");
        let unknown = || Name::lossy("unknown");
        HostFacts { hostname: unknown(), kernel: unknown(), cpu_millicores: 0, memory_bytes: 0, os: None }
    })
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
