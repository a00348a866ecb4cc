//! From verified grants to kernel limits, and back to what was before.
//!
//! Does: finds out what the cgroup tree can do ([`probe`]), says what a grant means in its controls
//! ([`controls`]), decides what is to be done ([`decide`]), and does it in groups of its own ([`Enforcer`]), each
//! step journaled before it is done and read back after.
//! May assume: one enforcer per state directory; that it is called from one thread that may block on files.
//! Promises: a limit never outlives its lease while the agent runs, nor a start of the agent after a crash;
//! every value can be put back; what is reported as effective was read back from the kernel; processes are
//! moved, never killed; in `observe` and `dry-run` nothing in the kernel is touched.
//! Must never: write a file of a cgroup that is not its own (but for enabling controllers along the way to its
//! subtree on version 2, which it announces and leaves enabled, since others may rely on it by then); set a
//! hard memory limit; fight another writer; follow a link out of its subtree.
//!
//! | module | what it holds |
//! |---|---|
//! | [`controls`], [`decide`] | pure: amounts to values, grants and time to steps |
//! | [`record`], [`held`], [`journal`] | the write-ahead journal: records, what they add up to, the file |
//! | [`group`], [`process`], [`probe`] | cgroup paths, processes, the host's cgroup tree |
//! | [`groups`], [`direct`] | the direct backend: groups by cgroups-rs, control files by ourselves |
//! | [`enforcer`] and its parts `writing`, `entering`, `ending`, `enrolment` | the shell that does the steps |

mod comparing;
pub mod controls;
pub mod decide;
pub mod devices;
pub mod direct;
mod ending;
pub mod enforcer;
mod enrolment;
mod entering;
mod error;
pub mod group;
pub mod groups;
pub mod held;
pub mod journal;
mod planned;
pub mod probe;
pub mod process;
pub mod record;
mod writing;

pub use self::controls::Device;
pub use self::devices::whole_disks;
pub use self::enforcer::{Config, Enforcer, Outcome};
pub use self::error::{EnforceError, KernelError};
pub use self::groups::{CgroupsRs, Groups};
pub use self::probe::{Capabilities, probe};
pub use self::record::{EndReason, Owner};

#[cfg(test)]
pub(crate) mod tests;
