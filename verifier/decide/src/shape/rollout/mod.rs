//! Roll-out: a plan goes to a few hosts first, and to more only while nothing suffers.
//!
//! Does: chooses the hosts of each stage ([`Rollout::hosts`]) and says after each look whether the next may begin ([`Stand::look`]).
//! May assume: that counts are of accepted evidence, of the hosts that have the plan, over the time since the last look.
//! Promises: the same change and hosts give the same stages; a later stage holds every host of the earlier ones; a stage has one host at
//! least; a breached guard halts for good, and nothing but a new roll-out goes on.
//! Must never: read a clock, or go on for want of news: a look without counts holds.

mod stand;
#[cfg(test)]
mod tests;

pub use stand::{Counts, Guard, Next, Stand};

use std::collections::BTreeSet;

use quotary_common::id::{HostId, sha256};
use thiserror::Error;

/// Stages at most.
const STAGES_MAX: usize = 16;

/// How a plan is rolled out: made only by [`Rollout::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    stages_percent: Vec<u8>,
    hold_ms: u64,
    most: Counts,
}

/// Why a roll-out is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RolloutFault {
    /// No stages, or too many.
    #[error("a roll-out has 1 to 16 stages")]
    Stages,
    /// Stages that do not grow to all.
    #[error("each stage has more percent of the hosts than the one before, and the last has 100")]
    Order,
}

impl Rollout {
    /// Stages in percent of the hosts, how long guards must hold before the next stage, ms, and how much each guard lets pass in one stage.
    ///
    /// # Errors
    /// [`RolloutFault`] when the stages do not grow to all hosts.
    pub fn new(stages_percent: Vec<u8>, hold_ms: u64, most: Counts) -> Result<Self, RolloutFault> {
        if stages_percent.is_empty() || stages_percent.len() > STAGES_MAX {
            return Err(RolloutFault::Stages);
        }
        let grows = stages_percent.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
        if !grows || stages_percent.first() == Some(&0) || stages_percent.last() != Some(&100) {
            return Err(RolloutFault::Order);
        }
        Ok(Self { stages_percent, hold_ms, most })
    }

    /// All hosts at once: what a change without a roll-out has.
    pub fn at_once() -> Self {
        Self { stages_percent: vec![100], hold_ms: 0, most: Counts::default() }
    }

    /// How many stages there are.
    pub fn stages(&self) -> usize {
        self.stages_percent.len()
    }

    /// The hosts that have the plan in a stage (0 is the first; past the last: all), among those there are: the first of them in the order of
    /// SHA-256 over the change's and the host's id, rounded up. Nobody chooses the hosts, and a host that joins moves few others.
    pub fn hosts(&self, change: &[u8; 32], hosts: &BTreeSet<HostId>, stage: usize) -> BTreeSet<HostId> {
        let percent = self.stages_percent.get(stage).copied().unwrap_or(100);
        let count = (hosts.len() * usize::from(percent)).div_ceil(100);
        let place = |host: &HostId| sha256(&[b"quotary-rollout-v1", change, host.as_bytes()]);
        let mut order: Vec<([u8; 32], HostId)> = hosts.iter().map(|host| (place(host), *host)).collect();
        order.sort_unstable();
        order.into_iter().take(count).map(|(_, host)| host).collect()
    }
}
