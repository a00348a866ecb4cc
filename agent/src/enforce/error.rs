//! What can go wrong between a grant and the kernel.

use std::path::PathBuf;

use quotary_common::id::GrantId;
use quotary_common::reason::{Reason, Refusal};

use crate::shape::ShapeError;
use crate::state::StateError;

/// The kernel, or what stands for it, did not do a step.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A directory or file could not be opened, read or written.
    #[error("cannot {step} `{path}`")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// cgroups-rs could not do it.
    #[error("cannot {step} `{path}`")]
    Group {
        /// What was tried.
        step: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// What the library said.
        #[source]
        source: cgroups_rs::fs::error::Error,
    },
    /// A group still has processes after they were moved out several times.
    #[error("`{path}` still has processes: they fork faster than they can be moved; it is tried again")]
    Busy {
        /// The cgroup's directory.
        path: PathBuf,
    },
}

impl KernelError {
    /// The operating system's error number, if it came from there.
    pub(crate) fn errno(&self) -> Option<rustix::io::Errno> {
        let number = match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Group { source, .. } => std::error::Error::source(source)
                .and_then(|cause| cause.downcast_ref::<std::io::Error>())
                .and_then(std::io::Error::raw_os_error),
            Self::Busy { .. } => None,
        };
        number.map(rustix::io::Errno::from_raw_os_error)
    }
}

/// Enforcement that could not be done as asked.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// The configured parent of our groups is no cgroup path.
    #[error("`{given}` is not a parent for cgroups: use a path like /quotary, below the hierarchy's root")]
    Parent {
        /// What was configured.
        given: String,
    },
    /// The journal could not be read, or not be written: then nothing is done.
    #[error("the enforcement journal does not work; no control is written without it")]
    Journal(#[source] StateError),
    /// Nobody holds such a grant here.
    #[error("no grant {grant} is held on this host: ask for one first")]
    UnknownGrant {
        /// The grant.
        grant: GrantId,
    },
    /// Its lease has run out.
    #[error("the lease of grant {grant} has run out: ask for a new one")]
    LeaseOver {
        /// The grant.
        grant: GrantId,
    },
    /// It has no group: making it failed.
    #[error(
        "grant {grant} has no cgroup: making it failed, see the agent's log; it is tried again at the next renewal"
    )]
    NoGroup {
        /// The grant.
        grant: GrantId,
    },
    /// The process that wants in is gone.
    #[error("process {pid} is gone")]
    NoProcess {
        /// Its pid.
        pid: u32,
    },
    /// Its pid now belongs to another process.
    #[error("process {pid} is not the one that asked: it started at tick {found}, not {expected}")]
    OtherProcess {
        /// The pid.
        pid: u32,
        /// The start time that was given, in clock ticks since boot.
        expected: u64,
        /// The start time that was found.
        found: u64,
    },
    /// It is another user's: a program that it became, or the process that has its pid now.
    #[error("process {pid} is of uid {found}, not of uid {expected}, which asked")]
    OtherOwner {
        /// The pid.
        pid: u32,
        /// The uid that asked.
        expected: u32,
        /// The real uid that was found.
        found: u32,
    },
    /// Facts about the process could not be read.
    #[error("cannot look at process {pid}")]
    Process {
        /// Its pid.
        pid: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel did not take it in; it is back where it was.
    #[error("process {pid} could not be moved into the cgroup of grant {grant}")]
    Enter {
        /// The grant.
        grant: GrantId,
        /// The pid.
        pid: u32,
        /// Why.
        #[source]
        source: Box<ShapeError>,
    },
}

impl EnforceError {
    /// What an application is told, when its call is what failed.
    pub fn refusal(&self) -> Refusal {
        let reason = match self {
            Self::UnknownGrant { .. } => Reason::NotFound,
            Self::LeaseOver { .. } => Reason::LeaseExpired,
            Self::NoProcess { .. } | Self::OtherProcess { .. } | Self::OtherOwner { .. } | Self::Process { .. } => {
                Reason::NotOwner
            }
            Self::Parent { .. } | Self::Journal(_) | Self::NoGroup { .. } | Self::Enter { .. } => Reason::Unavailable,
        };
        Refusal::new(reason, self.to_string())
    }
}
