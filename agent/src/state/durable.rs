//! Whole files: replaced so that a crash leaves the old content or the new one, never a mixture.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::StateError;

/// The mode of a file that only the agent's user may read and write.
pub const PRIVATE: u32 = 0o600;

/// Open flags as the standard library takes them.
pub(crate) fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Replaces the file at `path` by `bytes`, with permission bits `mode` ([`PRIVATE`] unless others must read it).
///
/// A temporary file in the same directory is written and fsynced, renamed over `path`, and the directory is
/// fsynced: when this returns, the new content survives a power cut. One writer per path at a time.
///
/// # Errors
/// [`StateError::Io`] with the step that failed; the old content is then still there.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    let temporary = temporary_beside(path);
    let outcome = write_new(&temporary, bytes, mode).and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| StateError::io("rename into place", path, source))
    });
    if let Err(error) = outcome {
        // What is left of it is worth nothing; the next write removes it if this fails.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(path)
}

/// Reads the file at `path` whole, or `None` when it is not there. At most `bytes_max` bytes are read.
///
/// # Errors
/// [`StateError::TooLarge`] above `bytes_max`; [`StateError::NotAFile`] for a link, directory or device;
/// [`StateError::Io`] otherwise.
pub fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, StateError> {
    let opened = OpenOptions::new()
        .read(true)
        // NONBLOCK: a fifo put here must not stop the agent.
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK))
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(StateError::NotAFile { path: path.to_path_buf() });
        }
        Err(source) => return Err(StateError::io("open", path, source)),
    };
    let facts = file.metadata().map_err(|source| StateError::io("look at", path, source))?;
    if !facts.is_file() {
        return Err(StateError::NotAFile { path: path.to_path_buf() });
    }
    let bytes_max = bytes_max as u64;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| StateError::io("read", path, source))?;
    if bytes.len() as u64 > bytes_max {
        return Err(StateError::TooLarge {
            path: path.to_path_buf(),
            bytes: facts.len().max(bytes.len() as u64),
            bytes_max,
        });
    }
    Ok(Some(bytes))
}

/// Removes the file at `path` if it is there, and makes that last.
///
/// # Errors
/// [`StateError::Io`] when it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StateError::io("remove", path, source)),
    }
}

/// Makes the names in the directory of `path` last.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StateError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| StateError::io("make last the directory", directory, source))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}

fn write_new(temporary: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    let make = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::CLOEXEC))
            .open(temporary)
    };
    let mut file = match make() {
        // A crash left it there.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::remove_file(temporary).and_then(|()| make()),
        made => made,
    }
    .map_err(|source| StateError::io("make", temporary, source))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| StateError::io("write", temporary, source))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_missing_file_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        assert_eq!(read(&path, 10).unwrap(), None);
        write(&path, b"one", PRIVATE).unwrap();
        write(&path, b"two", PRIVATE).unwrap();
        assert_eq!(read(&path, 3).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no temporary file is left");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path, 10).unwrap(), None);
    }

    #[test]
    fn a_temporary_file_that_a_crash_left_does_not_stop_the_next_write() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(temp.path().join(".file.new"), b"half").unwrap();
        write(&path, b"whole", PRIVATE).unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"whole");
    }

    #[test]
    fn too_large_a_file_a_link_and_a_directory_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        write(&path, b"four", PRIVATE).unwrap();
        assert!(matches!(read(&path, 3), Err(StateError::TooLarge { bytes: 4, bytes_max: 3, .. })));
        symlink(&path, temp.path().join("link")).unwrap();
        assert!(matches!(read(&temp.path().join("link"), 10), Err(StateError::NotAFile { .. })));
        assert!(matches!(read(temp.path(), 10), Err(StateError::NotAFile { .. })));
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"x").unwrap();
        assert!(write(&path, b"new", PRIVATE).is_err());
        assert!(path.join("inside").exists());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
