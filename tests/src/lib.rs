//! The test world and the attackers: what the demo, the scenarios and the benches run on.
//!
//! Does: runs the real programs on real TPMs (software ones) and real cgroups, and attacks them from outside.
//! May assume: that the programs are built (beside this one, or where `QUOTARY_BIN_DIR` says).
//! Promises: whatever happens, what a world started is gone when it is dropped.
//! Must never: reach into a program by a hook that the product does not have.

pub mod attack;
pub mod bench;
pub mod eval;
pub mod host;
pub mod world;
