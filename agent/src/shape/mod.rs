//! From verified plans to values of running services, and back to what was before.
//!
//! Does: decides, tick by tick, what is written for a target under a plan ([`controller`]), has whoever owns the target's
//! cgroup write it ([`backend`], [`systemd`]), each write journaled before it is made and read back after ([`Shaper`]), and
//! sees to it that systemd itself puts back what a dead agent left ([`deadline`]).
//! May assume: plans that `common::plan` has verified; readings of the kernel that are at most a tick old; one shaper per
//! state directory, called from one thread that may block.
//! Promises: nothing is tightened faster than the rules allow, and nothing that pressure forbids; every value has a
//! baseline to which it goes back: at the plan's end or cancellation, on a stop, at the end of the lease, with the agent
//! dead or alive; in `observe` and `dry-run` nothing is written.
//! Must never: decide by anything but the plan, the reading, the rules and the two clocks that it is given; write a file of a
//! cgroup that systemd owns (but `memory.reclaim`, which holds no state); move a unit that is protected here; fight another
//! writer.
//!
//! | module | what it holds |
//! |---|---|
//! | [`controller`] | pure: plan, reading, rules and time to at most one write |
//! | `record` | the journal's records, and what they add up to |
//! | [`backend`], [`holds`] | the one door to a target: what plans need of its owner, and what grants do |
//! | [`systemd`], [`groups`] (with `groups_held`), `owners` | who serves it: units, groups of our own, and which of the two |
//! | [`egress`], [`storage`] with [`hand`] | network egress, project quotas; who does what needs a capability |
//! | [`above`] | controllers that come on for siblings |
//! | `kernel`, `reclaim` | what the kernel shows; memory given back without a limit |
//! | [`local`] | what no plan may do on this host |
//! | `permitting` | what `authority` is asked: whether people decided that a plan may move its target |
//! | `shaper` and its parts `moving`, `ending`, `left` | the shell that does it, and what it has not put back yet |
//! | [`deadline`] | the timer that outlives the agent |

pub mod above;
pub mod backend;
pub mod controller;
pub mod deadline;
pub mod egress;
mod ending;
mod error;
pub mod groups;
mod groups_held;
pub mod hand;
pub mod holds;
mod kernel;
mod left;
pub mod local;
mod moving;
mod owners;
mod permitting;
mod reclaim;
mod record;
mod shaper;
pub mod storage;
pub mod systemd;
mod telling;
#[cfg(test)]
mod tests;
mod turns;

pub use self::deadline::Program;
pub use self::error::ShapeError;
pub use self::local::Local;
pub(crate) use self::owners::Owners;
pub use self::shaper::{Config, OfGrants, Shaper, TargetView, rules_of_host};
