//! What can go wrong with the storage itself (a refused batch is an [`super::Outcome`], not an error).

use super::batch::Conflict;

/// The storage failed, or may not be used. Nothing of the call took effect.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("cannot {step} {}", .path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process writes there.
    #[error("the data directory {} is in use by another process: stop the other verifier first", .path.display())]
    InUse {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// Not a file of ours.
    #[error("{} is not a Quotary store (application id {found:#010x}): point the configuration at another data directory", .path.display())]
    Foreign {
        /// The file.
        path: std::path::PathBuf,
        /// The application id that it carries.
        found: i32,
    },
    /// Written by another version.
    #[error("{} has schema version {found}, this program knows {known}: run the version that wrote it, or migrate", .path.display())]
    Schema {
        /// The file.
        path: std::path::PathBuf,
        /// Its version.
        found: i32,
        /// Ours.
        known: i32,
    },
    /// The check on opening found damage.
    #[error("{} is damaged ({finding}): restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// The first thing that was found.
        finding: String,
    },
    /// The file system cannot carry a write-ahead log (network file systems mostly).
    #[error("{} cannot have a write-ahead log (its file system allows journal mode {mode} only): put the data directory on a local disk", .path.display())]
    FileSystem {
        /// The file.
        path: std::path::PathBuf,
        /// The journal mode that SQLite fell back to.
        mode: String,
    },
    /// A statement failed.
    #[error("the store failed to {step}")]
    Sqlite {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// The closing batch was refused, and the group with it.
    #[error("the group's closing batch was refused: nothing was committed")]
    Closing(#[source] Conflict),
    /// A number that no row of ours can carry.
    #[error("the store holds {what} {number}, which cannot be: restore it from a backup")]
    Number {
        /// What it should be.
        what: &'static str,
        /// What stands there.
        number: i64,
    },
}
