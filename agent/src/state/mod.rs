//! What the agent keeps on disk, and how it is kept.
//!
//! Does: replaces whole files so that a crash leaves the old or the new content ([`durable`]), appends records
//! so that a crash loses at most the last one ([`log`]), and guards the directory in which all of that stands
//! ([`StateDir`]).
//! May assume: a local file system that honours fsync; one writer per file (see [`StateDir::lock`]).
//! Promises: what was reported as written survives a crash or a power cut; nothing here is readable by others.
//! Must never: know what the bytes mean; follow a symbolic link at the last step; read without a bound.

pub mod durable;
mod error;
pub mod log;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

pub use self::error::StateError;

/// The directory of everything the agent keeps: its own, and nobody else's (mode 0700).
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// Held while this process is the one that writes in a state directory; let go when dropped or when it dies.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateDir {
    /// Opens the directory, making it (mode 0700) where it is missing.
    ///
    /// # Errors
    /// [`StateError::NotOurs`] when it is no directory, belongs to another user or lets others in;
    /// [`StateError::Io`] when it cannot be made or looked at.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| StateError::io("make the state directory", &path, source))?;
        let facts = fs::symlink_metadata(&path)
            .map_err(|source| StateError::io("look at the state directory", &path, source))?;
        let refuse = |why: String| Err(StateError::NotOurs { path: path.clone(), why });
        if !facts.is_dir() {
            return refuse("it is not a directory (a symbolic link is not followed)".to_owned());
        }
        let own_uid = rustix::process::geteuid().as_raw();
        if facts.uid() != own_uid {
            return refuse(format!("it belongs to uid {}, the agent runs as uid {own_uid}", facts.uid()));
        }
        if facts.mode() & 0o077 != 0 {
            return refuse(format!("its mode is {:04o}: run `chmod 700` on it", facts.mode() & 0o7777));
        }
        Ok(Self { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of this name stands.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces the file `name`, mode 0600: see [`durable::write`].
    ///
    /// # Errors
    /// As [`durable::write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        durable::write(&self.file(name), bytes, durable::PRIVATE)
    }

    /// Reads the file `name`, if it is there: see [`durable::read`].
    ///
    /// # Errors
    /// As [`durable::read`].
    pub fn read(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, StateError> {
        durable::read(&self.file(name), bytes_max)
    }

    /// Makes this process the only one that writes here.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another process (or an earlier lock of this one) holds it.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.file("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(durable::PRIVATE)
            .custom_flags(durable::flags(OFlags::NOFOLLOW | OFlags::CLOEXEC))
            .open(&path)
            .map_err(|source| StateError::io("open the lock", &path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Locked { path }),
            Err(source) => Err(StateError::io("take the lock", &path, source.into())),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_state_directory_is_made_private_and_refused_when_others_may_enter() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/state");
        StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::NotOurs { .. })));
    }

    #[test]
    fn a_link_in_place_of_the_state_directory_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("elsewhere")).unwrap();
        symlink(temp.path().join("elsewhere"), temp.path().join("state")).unwrap();
        assert!(matches!(StateDir::open(temp.path().join("state")), Err(StateError::NotOurs { .. })));
    }

    #[test]
    fn only_one_holder_of_the_lock_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path().join("state")).unwrap();
        let first = dir.lock().unwrap();
        assert!(matches!(dir.lock(), Err(StateError::Locked { .. })));
        drop(first);
        assert!(dir.lock().is_ok());
    }
}
