//! Leases on the host: where they live.
//!
//! The mechanism itself is [`quotary_common::lease`], the same on both ends; nothing is added to it here.
//! A host's leases are kept beside what they hold up: the enforcement journal records the lease of every grant
//! ([`crate::enforce`]), so that a restart after a crash knows which limits still stand, and the enforcer's tick
//! ends what has run out. They count on `CLOCK_BOOTTIME` of one boot, from the building of the envelope that
//! the grant set answers.
//! Must never: keep a limit past its lease, or count on a clock that somebody can set.

pub use quotary_common::lease::{Lease, LeaseState};
