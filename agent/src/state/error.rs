//! What can go wrong with the agent's files.

use std::path::{Path, PathBuf};

/// A file of the agent's state that could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system said no.
    #[error("cannot {step} `{path}`")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// Larger than it may be.
    #[error("`{path}` has {bytes} bytes, at most {bytes_max} are read: it is not a file of this agent, or is damaged")]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// Its size; at least this.
        bytes: u64,
        /// What is read at most.
        bytes_max: u64,
    },
    /// A directory, a device or a link where a file should be.
    #[error("`{path}` is not a regular file: move it away")]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// The state directory is not the agent's alone.
    #[error("the state directory `{path}` cannot be used: {why}")]
    NotOurs {
        /// Where.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// Another agent runs on the same state.
    #[error("`{path}` is locked: another agent runs on this state directory; stop it first")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A log that could not be cut back after a failed append, so that nothing more may be appended.
    #[error("`{path}` could not be mended after a failed write: free some space and restart the agent")]
    Broken {
        /// Where.
        path: PathBuf,
    },
    /// A file that begins as no log of this version does.
    #[error("`{path}` is not a log of this version: move it away, or run the version that wrote it")]
    NotALog {
        /// Where.
        path: PathBuf,
    },
}

impl StateError {
    pub(crate) fn io(step: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { step, path: path.to_path_buf(), source }
    }
}
