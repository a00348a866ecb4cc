//! From verified plans to values of running services, and back to what was before.
//!
//! Does: decides, tick by tick, what is written for a target under a plan ([`controller`]).
//! May assume: plans that `common::plan` has verified; readings of the kernel that are at most a tick old.
//! Promises: nothing is tightened faster than the rules allow, and nothing that pressure forbids; every value has a
//! baseline to which it goes back.
//! Must never: decide by anything but the plan, the reading, the rules and the two clocks that it is given.

pub mod controller;
