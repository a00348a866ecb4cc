//! What can go wrong while sampling: each costs one part of one sample.

use std::path::PathBuf;

/// A file that is there but cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The kernel refused to open or read it.
    #[error("cannot read {}: check that the agent runs as root and that the file system is mounted", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any kernel makes it.
    #[error("{} is larger than {bytes_max} bytes and is left out of the sample", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How many bytes are read at most.
        bytes_max: usize,
    },
    /// Not the form that the kernel documents.
    #[error("{} is not in the kernel's form: {what}; its part of the sample is left out", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// Not the form that the kernel documents, as `procfs` sees it.
    #[error("{} is not in the kernel's form; its part of the sample is left out", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What `procfs` says.
        #[source]
        source: procfs::ProcError,
    },
    /// A file without which the agent cannot state who and where it is.
    #[error("{} is missing: is proc mounted there?", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// A cgroup path that would lead out of the tree.
    #[error(
        "cgroup path `{cgroup}` does not start with `/` or has a `.` or `..` in it: the application is not sampled"
    )]
    Outside {
        /// The path as given.
        cgroup: String,
    },
    /// `sysinfo` cannot tell a fact of this host.
    #[error("cannot learn the host's {fact} from the running system")]
    Fact {
        /// Which fact.
        fact: &'static str,
        /// Why.
        #[source]
        source: sysinfo::Error,
    },
}
