//! The drop-ins in which systemd keeps what was set at run time: what was there before ours, and putting it back.
//!
//! A runtime property of a unit that has a file stands in `/run/systemd/system.control/UNIT.d/50-NAME.conf`, one of a
//! transient unit in `/run/systemd/transient/UNIT.d/`; a persistent one in `/etc/systemd/system.control/UNIT.d/`. An
//! administrator's `systemctl set-property` writes the same names: so what stands there is somebody's.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::shape::ShapeError;
use crate::shape::backend::{Override, Prior};
use crate::shape::controller::Value;
use crate::state::durable;

/// Most bytes of a drop-in that is kept: systemd's own have under a hundred.
const DROP_IN_BYTES_MAX: usize = 4096;
/// Most bytes of an administrator's drop-in that is looked into, and most drop-ins of a unit.
const FOREIGN_BYTES_MAX: u64 = 65_536;
const DROP_INS_MAX: usize = 256;
/// As systemd makes them: units are public.
const DROP_IN_MODE: u32 = 0o644;

/// The directories.
#[derive(Debug, Clone)]
pub(super) struct DropIns {
    runtime: PathBuf,
    transient: PathBuf,
    persistent: PathBuf,
}

/// An administrator's drop-in, by whatever links lead to it: systemd named it, and their directories are theirs.
fn read_foreign(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FOREIGN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FOREIGN_BYTES_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Whether a unit file assigns a property (systemd.syntax(7)).
fn sets(file: &[u8], name: &str) -> bool {
    file.split(|byte| *byte == b'\n').any(|line| {
        let rest = line.trim_ascii().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    })
}

impl DropIns {
    /// Those of the tree below `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self {
            runtime: root.join("run/systemd/system.control"),
            transient: root.join("run/systemd/transient"),
            persistent: root.join("etc/systemd/system.control"),
        }
    }

    /// Where systemd keeps a runtime value.
    pub(super) fn path(&self, unit: &str, name: &str, is_transient: bool) -> PathBuf {
        let base = if is_transient { &self.transient } else { &self.runtime };
        base.join(format!("{unit}.d")).join(format!("50-{name}.conf"))
    }

    /// Whether somebody has set this value by hand.
    pub(super) fn overridden(&self, unit: &str, name: &str) -> Result<Override, ShapeError> {
        let file = format!("{unit}.d/50-{name}.conf");
        if self.read(&self.persistent.join(&file))?.is_some() {
            return Ok(Override::Persistent);
        }
        // A transient unit's are what it was started with: not an override of anything.
        let is_runtime = self.read(&self.runtime.join(&file))?.is_some();
        Ok(if is_runtime { Override::Runtime } else { Override::None })
    }

    /// Whether one of a unit's drop-ins comes after ours and sets the same: systemd reads them in the order of their file names,
    /// whatever directory they are in, so that ours would be undone by the next reload.
    pub(super) fn overridden_later(paths: &[String], name: &str) -> Option<String> {
        let ours = format!("50-{name}.conf");
        let later = paths
            .iter()
            .filter(|path| Path::new(path).file_name().is_some_and(|file| file.as_encoded_bytes() > ours.as_bytes()));
        // One that cannot be read, or is too long for a drop-in, may say anything.
        let sets = |path: &&String| match read_foreign(Path::new(path.as_str())) {
            Ok(bytes) => sets(&bytes, name),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        later.take(DROP_INS_MAX).find(sets).cloned()
    }

    /// A drop-in's bytes; `None` where there is none.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, ShapeError> {
        let failed = |source| ShapeError::File { step: "read the drop-in", path: path.to_path_buf(), source };
        durable::read(path, DROP_IN_BYTES_MAX).map_err(|error| failed(std::io::Error::other(error)))
    }

    /// Puts back what was there: the drop-in's bytes, or nothing, and then no empty directory either.
    pub(super) fn put_back(&self, prior: &Prior) -> Result<(), ShapeError> {
        let Some(path) = prior.drop_in_path.as_deref().map(Path::new).filter(|path| self.is_ours(path)) else {
            return Ok(());
        };
        let failed = |step: &'static str, source| ShapeError::File { step, path: path.to_path_buf(), source };
        match &prior.drop_in {
            Some(bytes) => durable::write(path, bytes, DROP_IN_MODE)
                .map_err(|error| failed("put back the drop-in", std::io::Error::other(error))),
            None => match fs::remove_file(path) {
                Ok(()) => {
                    self.remove_empty(path);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(source) => Err(failed("remove the drop-in", source)),
            },
        }
    }

    /// Removes the drop-in of a transient unit's value, and with the last one their directory.
    pub(super) fn remove(&self, unit: &str, name: &str) -> Result<(), ShapeError> {
        let drop_in_path = Some(self.path(unit, name, true).display().to_string());
        self.put_back(&Prior { value: Value::Unlimited, drop_in: None, drop_in_path, note: None })
    }

    /// A journal that somebody has changed must not make us remove another file.
    fn is_ours(&self, path: &Path) -> bool {
        let is_plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        is_plain && (path.starts_with(&self.runtime) || path.starts_with(&self.transient))
    }

    fn remove_empty(&self, path: &Path) {
        // Not empty is the usual case, and no fault: others have drop-ins there too.
        if let Some(unit) = path.parent() {
            let _ = fs::remove_dir(unit);
        }
        let _ = fs::remove_dir(&self.runtime);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, DropIns) {
        let temp = tempfile::tempdir().unwrap();
        let drop_ins = DropIns::below(temp.path());
        (temp, drop_ins)
    }

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn prior(path: &Path, drop_in: Option<&str>) -> Prior {
        Prior {
            value: Value::Unlimited,
            drop_in: drop_in.map(|text| text.as_bytes().to_vec()),
            drop_in_path: Some(path.display().to_string()),
            note: None,
        }
    }

    #[test]
    fn where_nothing_was_nothing_is_left_not_even_a_directory() {
        let (temp, drop_ins) = tree();
        fs::create_dir_all(temp.path().join("run/systemd")).unwrap();
        let path = drop_ins.path("a.service", "MemoryHigh", false);
        put(&path, "ours");
        drop_ins.put_back(&prior(&path, None)).unwrap();
        assert!(!temp.path().join("run/systemd/system.control").exists());
        drop_ins.put_back(&prior(&path, None)).unwrap();
    }

    #[test]
    fn another_drop_in_stays_and_an_administrators_comes_back_byte_for_byte() {
        let (_temp, drop_ins) = tree();
        let path = drop_ins.path("a.service", "MemoryHigh", false);
        let other = drop_ins.path("a.service", "CPUWeight", false);
        put(&path, "ours");
        put(&other, "theirs");
        drop_ins.put_back(&prior(&path, None)).unwrap();
        assert!(other.exists() && !path.exists());
        put(&path, "ours");
        drop_ins.put_back(&prior(&path, Some("# by hand\n[Service]\nMemoryHigh=1G\n"))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# by hand\n[Service]\nMemoryHigh=1G\n");
    }

    #[test]
    fn what_an_administrator_set_is_told_apart_by_how_long_it_holds() {
        let (temp, drop_ins) = tree();
        let of = |unit| drop_ins.overridden(unit, "MemoryHigh").unwrap();
        assert_eq!(of("a.service"), Override::None);
        put(&drop_ins.path("a.service", "MemoryHigh", false), "by hand");
        assert_eq!(of("a.service"), Override::Runtime);
        put(&temp.path().join("etc/systemd/system.control/a.service.d/50-MemoryHigh.conf"), "for good");
        assert_eq!(of("a.service"), Override::Persistent);
        put(&drop_ins.path("b.scope", "MemoryHigh", true), "started with");
        assert_eq!(of("b.scope"), Override::None);
    }

    #[test]
    fn a_path_elsewhere_is_left_alone() {
        let (temp, drop_ins) = tree();
        for path in [temp.path().join("etc/passwd"), temp.path().join("run/systemd/transient/../../x")] {
            fs::create_dir_all(temp.path().join("run/systemd/transient")).unwrap();
            put(&path, "somebody's");
            drop_ins.put_back(&prior(&path, None)).unwrap();
            assert!(path.exists(), "{}", path.display());
        }
    }
}
