//! The kernel's measurement logs, as evidence carries them: read, bounded, and not looked into.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use quotary_common::cbor::BoundedBytes;
use quotary_common::evidence::{ImaForm, ImaIncrement};
use quotary_common::id::BootId;
use quotary_common::limits::{BOOT_LOG_BYTES_MAX, IMA_INCREMENT_BYTES_MAX};
use quotary_common::wire::LogsWanted;

const BOOT_LOG: &str = "sys/kernel/security/tpm0/binary_bios_measurements";
/// The kernel's binary lists, the stronger first.
const IMA_LISTS: [(ImaForm, &str); 2] = [
    (ImaForm::BinarySha256, "sys/kernel/security/ima/binary_runtime_measurements_sha256"),
    (ImaForm::BinarySha1, "sys/kernel/security/ima/binary_runtime_measurements"),
];

/// Where the logs are: below a root path, `/` in life.
#[derive(Debug, Clone)]
pub struct KernelLogs {
    root: PathBuf,
}

type BootLog = BoundedBytes<BOOT_LOG_BYTES_MAX>;

impl KernelLogs {
    /// The logs below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What is wanted of the logs of boot `boot_id`. A log that is not there, or too large, is left out with a warning:
    /// the verifier says what follows from that.
    pub async fn read(&self, wanted: &LogsWanted, boot_id: BootId) -> (Option<BootLog>, Option<ImaIncrement>) {
        let is_held = wanted.held_of == Some(boot_id);
        let boot_wanted = wanted.boot_log && !(is_held && wanted.has_boot_log);
        let offset_bytes = if is_held { wanted.ima_offset_bytes } else { 0 };
        let (root, ima_wanted) = (self.root.clone(), wanted.ima_list);
        let reading = tokio::task::spawn_blocking(move || {
            let boot_log = if boot_wanted { told("boot log", boot_log(&root)) } else { None };
            let ima = if ima_wanted { told("IMA list", ima_list(&root, offset_bytes)) } else { None };
            (boot_log, ima)
        });
        reading.await.unwrap_or((None, None))
    }
}

fn told<T>(what: &str, read: io::Result<T>) -> Option<T> {
    read.inspect_err(|error| tracing::warn!(%error, "the {what} cannot be sent")).ok()
}

fn boot_log(root: &Path) -> io::Result<BootLog> {
    let mut bytes = Vec::new();
    File::open(root.join(BOOT_LOG))?.take(BOOT_LOG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let too_large = || io::Error::other(format!("it has more than {BOOT_LOG_BYTES_MAX} bytes"));
    BoundedBytes::new(bytes).ok_or_else(too_large)
}

fn ima_list(root: &Path, offset_bytes: u64) -> io::Result<ImaIncrement> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (form, path) in IMA_LISTS {
        match File::open(root.join(path)) {
            Ok(file) => return increment(file, form, offset_bytes),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn increment(mut file: File, form: ImaForm, offset_bytes: u64) -> io::Result<ImaIncrement> {
    file.seek(SeekFrom::Start(offset_bytes))?;
    let mut bytes = Vec::new();
    file.take(IMA_INCREMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let has_more = bytes.len() > IMA_INCREMENT_BYTES_MAX;
    bytes.truncate(IMA_INCREMENT_BYTES_MAX);
    let bytes = BoundedBytes::new(bytes).unwrap_or_default();
    Ok(ImaIncrement { form, offset_bytes, bytes, has_more })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tree(boot_log: usize, list: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>()).unwrap();
        };
        write(BOOT_LOG, boot_log);
        write(IMA_LISTS[1].1, list);
        root
    }

    const BOOT: BootId = BootId::new([1; 16]);

    #[tokio::test]
    async fn nothing_is_read_that_nobody_wants_and_a_held_boot_goes_on() {
        let root = tree(100, 1000);
        let logs = KernelLogs::new(root.path());
        assert_eq!(logs.read(&LogsWanted::default(), BOOT).await, (None, None));
        let all = LogsWanted { boot_log: true, ima_list: true, ..LogsWanted::default() };
        let (boot, ima) = logs.read(&all, BOOT).await;
        assert_eq!(boot.unwrap().len(), 100);
        let ima = ima.unwrap();
        assert_eq!((ima.form, ima.offset_bytes, ima.bytes.len(), ima.has_more), (ImaForm::BinarySha1, 0, 1000, false));
        let held = LogsWanted { held_of: Some(BOOT), has_boot_log: true, ima_offset_bytes: 400, ..all };
        let (boot, ima) = logs.read(&held, BOOT).await;
        assert_eq!((boot, ima.as_ref().unwrap().bytes.len()), (None, 600));
        assert_eq!(ima.unwrap().bytes[0], u8::try_from(400 % 251).unwrap());
        let (boot, ima) = logs.read(&held, BootId::new([2; 16])).await;
        assert_eq!((boot.is_some(), ima.unwrap().offset_bytes), (true, 0), "another boot starts anew");
    }

    #[tokio::test]
    async fn a_long_list_is_cut_and_says_so_and_a_log_too_large_is_left_out() {
        let root = tree(BOOT_LOG_BYTES_MAX + 1, IMA_INCREMENT_BYTES_MAX + 10);
        let logs = KernelLogs::new(root.path());
        let all = LogsWanted { boot_log: true, ima_list: true, ..LogsWanted::default() };
        let (boot, ima) = logs.read(&all, BOOT).await;
        let ima = ima.unwrap();
        assert_eq!((boot, ima.bytes.len(), ima.has_more), (None, IMA_INCREMENT_BYTES_MAX, true));
        let none = KernelLogs::new(Path::new("/nonexistent"));
        assert_eq!(none.read(&all, BOOT).await, (None, None));
    }
}
