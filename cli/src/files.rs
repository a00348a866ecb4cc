//! Files that are there whole or not at all.

use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::exit::{Code, Failure};
use crate::present;

/// Writes a file beside its place and moves it there, over one that is there already.
///
/// # Errors
/// It cannot be written; the file is named.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = written_beside(path, bytes).and_then(|file| Ok(file.persist(path).map(drop)?));
    written.map_err(|error| unwritable(path, &error))
}

/// Writes a file that is not there yet; `-` is standard output.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        return present::print_bytes(bytes);
    }
    let written = written_beside(path, bytes).and_then(|file| Ok(file.persist_noclobber(path).map(drop)?));
    written.map_err(|error| unwritable(path, &error))
}

fn written_beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    // Results are for whoever may read the directory, as those of any other program are.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(file)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::AlreadyExists => "it is there already: name a new file".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Code::Unreadable, format!("cannot write {}: {what}", path.display()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_takes_no_others_place_and_a_written_one_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        write_new(&path, b"one").unwrap();
        let refused = write_new(&path, b"two").unwrap_err();
        assert!(refused.message().contains("name a new file"), "{}", refused.message());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half-written is left");
    }
}
