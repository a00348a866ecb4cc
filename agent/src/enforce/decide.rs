//! What is to be done: grants that came, leases that ran out, what a restart finds. Pure.
//!
//! Each function looks at what is held (the journal's view), the clock and an input, and gives the steps;
//! the shell does them, journaled, in that order.

use quotary_common::envelope::{ControlValue, Hierarchy, Mode};
use quotary_common::grant::Grant;
use quotary_common::id::{BootId, GrantId};
use quotary_common::lease::{Lease, LeaseState};
use quotary_common::units::{Class, Resources};

use super::controls::{Device, Knob, Setting, in_whole_percents, wanted};
use super::group::GroupPath;
use super::held::{GroupState, Held, HeldGrant};
use super::record::EndReason;
use crate::shape::holds::scope_of_grant;

/// One step of enforcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// End a grant: lift its limits, move its processes back, remove its group.
    End {
        /// The grant.
        grant: GrantId,
        /// Why.
        reason: EndReason,
    },
    /// Raise the epoch: what was granted under a lower one ends.
    Fence {
        /// The new epoch.
        epoch: u64,
    },
    /// All grants that are held now hold until then.
    Renew {
        /// The new lease.
        lease: Lease,
    },
    /// Hold a grant from now on.
    Take {
        /// The grant.
        grant: GrantId,
        /// Where its group stands, or would stand.
        cgroup: GroupPath,
        /// Until when.
        lease: Lease,
    },
    /// Make its group.
    Make {
        /// The grant.
        grant: GrantId,
    },
    /// Write controls in its group.
    Set {
        /// The grant.
        grant: GrantId,
        /// The values, in the order of writing.
        settings: Vec<Setting>,
    },
}

/// The instant, as leases count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// This boot.
    pub boot_id: BootId,
    /// `CLOCK_BOOTTIME`, ms.
    pub now_ms: u64,
}

/// How enforcement is set up here.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How far the agent goes.
    pub mode: Mode,
    /// Which hierarchy carries the controllers.
    pub hierarchy: Hierarchy,
    /// The parent of our groups.
    pub parent: GroupPath,
    /// Whether grants are held in scopes of systemd's, and not in groups of ours.
    pub in_scopes: bool,
    /// The host's whole disks.
    pub devices: Vec<Device>,
}

impl Setup {
    /// Where the group of a grant stands.
    pub fn group_of(&self, grant: &GrantId) -> Option<GroupPath> {
        if self.in_scopes { scope_of_grant(grant) } else { self.parent.of_grant(grant) }
    }

    /// What a class and an amount ask for here.
    pub fn wanted(&self, class: Class, resources: &Resources) -> Vec<Setting> {
        let settings = wanted(class, resources, self.hierarchy, &self.devices);
        if self.in_scopes { in_whole_percents(settings) } else { settings }
    }
}

/// Steps that bring what is held to a grant set: end what it no longer lists, renew, take what is new, resize.
///
/// A set of an older epoch, of another boot, or whose lease is already over, gives nothing: its word is stale, and
/// what is held ends by its own leases. But an epoch that it raises stays raised, however late the set came.
pub fn on_grants(held: &Held, grants: &[Grant], lease: &Lease, setup: &Setup, now: Now) -> Vec<Step> {
    if !lease.is_running(now.boot_id, held.epoch, now.now_ms) {
        let raised = lease.epoch > held.epoch;
        return raised.then_some(Step::Fence { epoch: lease.epoch }).into_iter().collect();
    }
    let mut steps = Vec::new();
    for (id, known) in running(held) {
        if !grants.iter().any(|grant| grant.id == *id) {
            let fenced = known.lease.epoch < lease.epoch;
            let reason = if fenced { EndReason::Fenced } else { EndReason::Withdrawn };
            steps.push(Step::End { grant: *id, reason });
        }
    }
    let stay = steps.len() < running(held).count();
    if stay || lease.epoch > held.epoch || !held.ended.is_empty() {
        steps.push(Step::Renew { lease: *lease });
    }
    for grant in grants {
        let known = held.grants.get(&grant.id);
        if known.is_some_and(|known| known.ending.is_some()) || held.ended_since(&grant.id, lease) {
            continue;
        }
        let Some(cgroup) = setup.group_of(&grant.id) else { continue };
        if known.is_none() {
            steps.push(Step::Take { grant: grant.id, cgroup, lease: *lease });
        }
        if setup.mode == Mode::Observe {
            continue;
        }
        if known.is_none_or(|known| known.group != GroupState::Made) {
            steps.push(Step::Make { grant: grant.id });
        }
        let settings = missing(known, setup.wanted(grant.class, &grant.resources));
        if !settings.is_empty() {
            steps.push(Step::Set { grant: grant.id, settings });
        }
    }
    steps
}

/// What of `wanted` does not stand yet, and what stands but is no longer wanted and goes back to its baseline.
///
/// A contested control is left to the other writer.
fn missing(known: Option<&HeldGrant>, wanted: Vec<Setting>) -> Vec<Setting> {
    let Some(known) = known else { return wanted };
    let lifted = known.written.iter().filter_map(|(knob, written)| {
        let baseline = written.baseline.clone()?;
        let gone = !wanted.iter().any(|setting| setting.knob == *knob);
        gone.then_some(Setting { knob: *knob, value: baseline })
    });
    let settings: Vec<Setting> = lifted.chain(wanted.iter().cloned()).collect();
    settings.into_iter().filter(|setting| !stands(known, setting.knob, &setting.value)).collect()
}

fn stands(known: &HeldGrant, knob: Knob, value: &ControlValue) -> bool {
    // A value that the kernel refused is not written again and again: it was reported as not effective.
    known.written.get(&knob).is_some_and(|written| written.contested || (written.setpoint == *value && written.ended))
}

/// What ended by itself: leases that ran out, that another boot counted, or that a higher epoch voids.
pub fn on_time(held: &Held, now: Now) -> Vec<(GrantId, EndReason)> {
    running(held)
        .filter_map(|(id, known)| {
            let reason = match known.lease.state(now.boot_id, held.epoch, now.now_ms) {
                LeaseState::Running { .. } => return None,
                LeaseState::Expired => EndReason::LeaseExpired,
                LeaseState::OtherBoot => EndReason::OtherBoot,
                LeaseState::Fenced => EndReason::Fenced,
            };
            Some((*id, reason))
        })
        .collect()
}

/// What a start ends: what [`on_time`] ends, and, where the agent no longer enforces, every group it made.
pub fn on_start(held: &Held, mode: Mode, now: Now) -> Vec<(GrantId, EndReason)> {
    let mut ends = on_time(held, now);
    if mode != Mode::Enforce {
        let made = running(held).filter(|(_, known)| known.group != GroupState::None);
        let more: Vec<_> = made
            .filter(|(id, _)| !ends.iter().any(|(ended, _)| ended == *id))
            .map(|(id, _)| (*id, EndReason::NotEnforcing))
            .collect();
        ends.extend(more);
    }
    ends
}

/// Grants that are held and not ending.
pub fn running(held: &Held) -> impl Iterator<Item = (&GrantId, &HeldGrant)> {
    held.grants.iter().filter(|(_, known)| known.ending.is_none())
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
