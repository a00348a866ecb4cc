//! A directory with a copy of the log: C2SP tlog-tiles paths, and beside them what checking needs.
//!
//! `checkpoint` (signed note), `keys` (canonical key certificate), `root-key` (hexadecimal), `tile/…`,
//! `evidence/<digest>`.

use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use quotary_decide::audit::AuditFiles;

use crate::exit::{Code, Failure};

/// Where the key certificate stands.
pub(super) const KEYS_PATH: &str = "keys";
/// Where the root key stands.
pub(super) const ROOT_KEY_PATH: &str = "root-key";

/// The directory.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// One that is there.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        match path.is_dir() {
            true => Ok(Self(path.to_owned())),
            false => Err(Failure::new(Code::Unreadable, format!("{} is not a directory", path.display()))),
        }
    }

    /// One that is made if it is not there.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(path)
            .map_err(|e| Failure::new(Code::Unreadable, format!("cannot make {}: {e}", path.display())))?;
        Self::open(path)
    }

    /// As people know it.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, whole or not at all.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let at = self.at(path).map_err(|e| failed("write", path, &e))?;
        let write = || -> io::Result<()> {
            let parent = at.parent().unwrap_or(&self.0);
            std::fs::create_dir_all(parent)?;
            let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(parent)?;
            file.write_all(bytes)?;
            file.persist(&at)?;
            Ok(())
        };
        write().map_err(|e| failed("write", &at.display().to_string(), &e))
    }

    /// Reads a file of our own, `None` if it is not there.
    pub(super) fn get(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        self.read(path, bytes_max).map_err(|e| failed("read", &self.0.join(path).display().to_string(), &e))
    }

    /// Reads a file that a whole copy has.
    pub(super) fn needed(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let copy = self.0.display();
        self.get(path, bytes_max)?.ok_or_else(|| {
            let what = format!("{copy} has no `{path}`: is it a copy by `quotary audit fetch`, and whole?");
            Failure::new(Code::Unreadable, what)
        })
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> Result<bool, Failure> {
        let mut entries = std::fs::read_dir(&self.0).map_err(|e| failed("read", &self.0.display().to_string(), &e))?;
        Ok(entries.next().is_none())
    }

    /// The place of a relative path without any way up or out.
    fn at(&self, path: &str) -> io::Result<PathBuf> {
        let relative = Path::new(path);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if plain && !path.is_empty() { Ok(self.0.join(relative)) } else { Err(io::ErrorKind::InvalidFilename.into()) }
    }
}

impl AuditFiles for Directory {
    type Error = io::Error;

    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, io::Error> {
        let file = match std::fs::File::open(self.at(path)?) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

fn failed(what: &str, path: &str, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::PermissionDenied { Code::NoPermission } else { Code::Unreadable };
    Failure::new(code, format!("cannot {what} {path}: {error}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_whole_and_read_within_bounds() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::create(&temporary.path().join("a/b")).unwrap();
        directory.write("tile/0/x001/234", &[7; 100]).unwrap();
        assert_eq!(directory.read("tile/0/x001/234", 100).unwrap().unwrap().len(), 100);
        assert_eq!(directory.read("tile/0/x001/234", 10).unwrap().unwrap().len(), 11, "one more than allowed tells");
        assert!(directory.read("tile/0/none", 10).unwrap().is_none());
        let names: Vec<_> = std::fs::read_dir(temporary.path().join("a/b/tile/0/x001")).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing half-written is left");
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::create(temporary.path()).unwrap();
        for path in ["../x", "/etc/passwd", "a/../../x", "", "."] {
            assert!(directory.write(path, b"x").is_err(), "{path}");
            assert!(directory.read(path, 1).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(Directory::open(&temporary.path().join("none")).unwrap_err().code(), 2);
    }
}
