//! Files that are there whole or not at all.

use std::io::Write as _;
use std::path::Path;

use quotary_cli::exit::{Code, Failure};

/// Writes a file beside its place and moves it there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Code::Unreadable, format!("cannot write {}: {error}", path.display()))
    };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    // Results are for whoever may read the directory, as those of any other program are.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
