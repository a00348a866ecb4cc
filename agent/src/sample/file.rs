//! Bounded reading of small kernel files through one path and one buffer that are used again and again.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::SampleError;

/// Most bytes read of one file (`/proc/diskstats` of ten thousand disks stays under 2 MiB).
pub(super) const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most faults that one sample carries; a host whose every file is garbled says no more by listing them all.
pub(super) const FAULTS_MAX: usize = 32;

/// Why a text could not be used.
#[derive(Debug)]
pub(super) enum Garbled {
    /// It breaks this rule.
    Rule(&'static str),
    /// `procfs` refuses it.
    Proc(procfs::ProcError),
}
impl From<procfs::ProcError> for Garbled {
    fn from(error: procfs::ProcError) -> Self {
        Self::Proc(error)
    }
}

/// The one path and the one buffer.
#[derive(Debug, Default)]
pub(super) struct Files {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Files {
    /// Reads `directory`/`inside`/`name` and parses it; `None` if this kernel, or this cgroup, has no such file.
    ///
    /// Bytes outside ASCII come as `?`: the kernel's numbers have none, and a parser that slices text by bytes
    /// then cannot meet half a character.
    pub(super) fn parse<T>(
        &mut self,
        directory: &Path,
        inside: &str,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Garbled>,
    ) -> Result<Option<T>, SampleError> {
        if !self.read(directory, inside, name)? {
            return Ok(None);
        }
        for byte in self.bytes.iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|_| Garbled::Rule("text"));
        text.and_then(parse).map(Some).map_err(|garbled| match garbled {
            Garbled::Rule(what) => SampleError::Malformed { path: self.path.clone(), what },
            Garbled::Proc(source) => SampleError::Parse { path: self.path.clone(), source },
        })
    }

    /// Reads a file meant for people, replacing what is not UTF-8.
    pub(super) fn text(&mut self, directory: &Path, name: &str) -> Result<Option<String>, SampleError> {
        Ok(self.read(directory, "", name)?.then(|| String::from_utf8_lossy(&self.bytes).into_owned()))
    }

    /// The path that was last read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The inode of a directory, if it is there: the kernel never gives a cgroup's to another one.
    pub(super) fn inode(&mut self, directory: &Path, inside: &str) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        self.point_to(directory, inside, "");
        std::fs::metadata(&self.path).ok().filter(std::fs::Metadata::is_dir).map(|metadata| metadata.ino())
    }

    fn point_to(&mut self, directory: &Path, inside: &str, name: &str) {
        self.path.as_mut_os_string().clear();
        self.path.push(directory);
        for part in [inside.trim_matches('/'), name].into_iter().filter(|part| !part.is_empty()) {
            self.path.push(part);
        }
    }

    /// Whether the file is there; its bytes are then in the buffer.
    fn read(&mut self, directory: &Path, inside: &str, name: &str) -> Result<bool, SampleError> {
        self.point_to(directory, inside, name);
        self.bytes.clear();
        let read =
            File::open(&self.path).and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut self.bytes));
        match read {
            Ok(_) if self.bytes.len() > FILE_BYTES_MAX => {
                self.bytes = Vec::new();
                Err(SampleError::TooLarge { path: self.path.clone(), bytes_max: FILE_BYTES_MAX })
            }
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(source) => Err(SampleError::Read { path: self.path.clone(), source }),
        }
    }
}

/// Not there, its cgroup is just being removed (`ENODEV`), or switched off such as PSI by `psi=0` (`EOPNOTSUPP`).
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || [Errno::NODEV, Errno::OPNOTSUPP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Collects faults of parts, so that one garbled file does not cost the sample.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<SampleError>);

impl Faults {
    /// The value, or nothing and the fault kept.
    pub(super) fn keep<T>(&mut self, result: Result<Option<T>, SampleError>) -> Option<T> {
        match result {
            Ok(value) => value,
            Err(fault) => {
                self.add(fault);
                None
            }
        }
    }
    /// Keeps a fault, up to [`FAULTS_MAX`].
    pub(super) fn add(&mut self, fault: SampleError) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(fault);
        }
    }
}
