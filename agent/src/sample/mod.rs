//! Reads what the kernel says of a host and its applications, and folds it into metric windows.
//!
//! Does: [`Reader`] reads `/proc` and the cgroup tree under a root path into a [`Sample`]; [`Rates`] turns two
//! samples into readings; [`Fold`] gathers readings into metric windows (mean, max, p95) and counts events.
//! May assume: nothing about what the files hold; an old kernel lacks some, a broken one garbles some.
//! Promises: an absent file is `None`, a garbled one costs its own part only; no clock is read (the caller says
//! what `CLOCK_BOOTTIME` is); a counter that goes backward gives an event and never a number; memory is bounded.
//! Must never: write a file, follow a cgroup path out of the tree, map an application to a tenant (the verifier does).
//!
//! ```text
//! Reader::sample(now) → Sample ┐
//!                              ├ Rates::between → Fold::add → Fold::take_closed → Windows
//!           the sample before ─┘
//! ```

mod application;
mod cgroup;
mod discover;
mod error;
mod facts;
mod file;
mod filesystem;
mod fold;
mod host;
mod parse;
mod rates;
mod reader;
mod series;
mod tally;
mod tree;
mod windows;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use application::{Application, ApplicationSample};
pub use error::SampleError;
pub use facts::{boot_id, facts};
pub use filesystem::FilesystemUsage;
pub use fold::Fold;
pub use host::{DiskCounters, HostSample, InterfaceCounters, Pressure};
pub use rates::{Rates, Reading, Subject};
pub use reader::{Reader, Sample};
pub use tree::{CgroupTree, LegacyMounts};
pub use windows::{ApplicationWindows, Windows};
