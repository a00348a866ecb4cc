//! The measurement logs of the kernel and of systemd, as evidence carries them: read, bounded, and not looked into.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use quotary_common::cbor::BoundedBytes;
use quotary_common::evidence::{ImaForm, ImaIncrement};
use quotary_common::id::{BootId, Digest};
use quotary_common::limits::{BOOT_LOG_BYTES_MAX, IMA_INCREMENT_BYTES_MAX, MEASURE_LOG_BYTES_MAX};
use quotary_common::wire::LogsWanted;

const BOOT_LOG: &str = "sys/kernel/security/tpm0/binary_bios_measurements";
/// The kernel's binary lists, the stronger first.
const IMA_LISTS: [(ImaForm, &str); 2] = [
    (ImaForm::BinarySha256, "sys/kernel/security/ima/binary_runtime_measurements_sha256"),
    (ImaForm::BinarySha1, "sys/kernel/security/ima/binary_runtime_measurements"),
];
/// What systemd measured since the kernel started: a JSON text sequence, which it keeps by itself.
const MEASURE_LOG: &str = "run/log/systemd/tpm2-measure.log";

/// Where the logs are: below a root path, `/` in life.
#[derive(Debug, Clone)]
pub struct MeasuredLogs {
    root: PathBuf,
}

type BootLog = BoundedBytes<BOOT_LOG_BYTES_MAX>;
type MeasureLog = BoundedBytes<MEASURE_LOG_BYTES_MAX>;

/// The logs that one evidence carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadLogs {
    /// The boot log.
    pub boot_log: Option<BootLog>,
    /// A part of the IMA list.
    pub ima: Option<ImaIncrement>,
    /// The measure log; only ever beside the boot log that it goes on from.
    pub measure_log: Option<MeasureLog>,
}

impl MeasuredLogs {
    /// The logs below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What is wanted of the logs of boot `boot_id`. A log that is not there, or too large, is left out with a warning
    /// (the measure log without one where it is not there: older systems have none): the verifier says what follows.
    pub async fn read(&self, wanted: &LogsWanted, boot_id: BootId) -> ReadLogs {
        let is_held = wanted.held_of == Some(boot_id);
        let offset_bytes = if is_held { wanted.ima_offset_bytes } else { 0 };
        let (root, wanted) = (self.root.clone(), *wanted);
        let reading = tokio::task::spawn_blocking(move || {
            let measure_log = if wanted.measure_log { told("measure log", measure_log(&root)).flatten() } else { None };
            let digest = measure_log.as_ref().map(|log| Digest::of(&[&**log]));
            let has_moved = digest.is_some_and(|digest| wanted.measure_log_held != Some(digest));
            let boot_wanted = wanted.boot_log && !(is_held && wanted.has_boot_log && !has_moved);
            let boot_log = if boot_wanted { told("boot log", boot_log(&root)) } else { None };
            let ima = if wanted.ima_list { told("IMA list", ima_list(&root, offset_bytes)) } else { None };
            let measure_log = measure_log.filter(|_| boot_log.is_some());
            ReadLogs { boot_log, ima, measure_log }
        });
        reading.await.unwrap_or_default()
    }
}

fn told<T>(what: &str, read: io::Result<T>) -> Option<T> {
    read.inspect_err(|error| tracing::warn!(%error, "the {what} cannot be sent")).ok()
}

fn boot_log(root: &Path) -> io::Result<BootLog> {
    whole(File::open(root.join(BOOT_LOG))?)
}

fn measure_log(root: &Path) -> io::Result<Option<MeasureLog>> {
    match File::open(root.join(MEASURE_LOG)) {
        Ok(file) => whole(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn whole<const MAX: usize>(file: File) -> io::Result<BoundedBytes<MAX>> {
    let mut bytes = Vec::new();
    file.take(MAX as u64 + 1).read_to_end(&mut bytes)?;
    BoundedBytes::new(bytes).ok_or_else(|| io::Error::other(format!("it has more than {MAX} bytes")))
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
        let logs = MeasuredLogs::new(root.path());
        assert_eq!(logs.read(&LogsWanted::default(), BOOT).await, ReadLogs::default());
        let all = LogsWanted { boot_log: true, ima_list: true, ..LogsWanted::default() };
        let read = logs.read(&all, BOOT).await;
        assert_eq!((read.boot_log.unwrap().len(), read.measure_log), (100, None));
        let ima = read.ima.unwrap();
        assert_eq!((ima.form, ima.offset_bytes, ima.bytes.len(), ima.has_more), (ImaForm::BinarySha1, 0, 1000, false));
        let held = LogsWanted { held_of: Some(BOOT), has_boot_log: true, ima_offset_bytes: 400, ..all };
        let read = logs.read(&held, BOOT).await;
        assert_eq!((read.boot_log, read.ima.as_ref().unwrap().bytes.len()), (None, 600));
        assert_eq!(read.ima.unwrap().bytes[0], u8::try_from(400 % 251).unwrap());
        let read = logs.read(&held, BootId::new([2; 16])).await;
        assert_eq!((read.boot_log.is_some(), read.ima.unwrap().offset_bytes), (true, 0), "another boot starts anew");
    }

    #[tokio::test]
    async fn a_long_list_is_cut_and_says_so_and_a_log_too_large_is_left_out() {
        let root = tree(BOOT_LOG_BYTES_MAX + 1, IMA_INCREMENT_BYTES_MAX + 10);
        let logs = MeasuredLogs::new(root.path());
        let all = LogsWanted { boot_log: true, ima_list: true, ..LogsWanted::default() };
        let read = logs.read(&all, BOOT).await;
        let ima = read.ima.unwrap();
        assert_eq!((read.boot_log, ima.bytes.len(), ima.has_more), (None, IMA_INCREMENT_BYTES_MAX, true));
        let none = MeasuredLogs::new(Path::new("/nonexistent"));
        assert_eq!(none.read(&all, BOOT).await, ReadLogs::default());
    }

    #[tokio::test]
    async fn the_measure_log_comes_with_the_boot_log_whenever_it_is_another_than_the_held_one() {
        let root = tree(100, 0);
        let logs = MeasuredLogs::new(root.path());
        let wanted = LogsWanted { boot_log: true, measure_log: true, ..LogsWanted::default() };
        let sent = |read: ReadLogs| (read.boot_log.is_some(), read.measure_log.map(|log| log.to_vec()));
        assert_eq!(sent(logs.read(&wanted, BOOT).await), (true, None), "a system without one");
        let held = LogsWanted { held_of: Some(BOOT), has_boot_log: true, ..wanted };
        assert_eq!(sent(logs.read(&held, BOOT).await), (false, None));
        let path = root.path().join(MEASURE_LOG);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"one").unwrap();
        assert_eq!(sent(logs.read(&held, BOOT).await), (true, Some(b"one".to_vec())));
        let held = LogsWanted { measure_log_held: Some(Digest::of(&[b"one"])), ..held };
        assert_eq!(sent(logs.read(&held, BOOT).await), (false, None), "nothing new");
        let anew = LogsWanted { has_boot_log: false, ..held };
        assert_eq!(sent(logs.read(&anew, BOOT).await), (true, Some(b"one".to_vec())), "the boot log never goes alone");
        std::fs::write(&path, b"one, two").unwrap();
        assert_eq!(sent(logs.read(&held, BOOT).await), (true, Some(b"one, two".to_vec())));
        let unasked = LogsWanted { measure_log: false, ..anew };
        assert_eq!(sent(logs.read(&unasked, BOOT).await), (true, None));
        std::fs::write(&path, vec![7; MEASURE_LOG_BYTES_MAX + 1]).unwrap();
        assert_eq!(sent(logs.read(&anew, BOOT).await), (true, None), "too large: the boot log goes without it");
        std::fs::write(&path, b"one").unwrap();
        std::fs::remove_file(root.path().join(BOOT_LOG)).unwrap();
        assert_eq!(sent(logs.read(&anew, BOOT).await), (false, None), "it says nothing without the boot log");
    }
}
