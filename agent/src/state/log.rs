//! An append-only log of records: what [`Log::append`] returned for survives a crash; a torn tail is cut off.
//!
//! The file is a header and frames: length (4 bytes, big-endian), the first 8 bytes of the payload's SHA-256,
//! the payload in canonical CBOR. It is what journaled steps stand on: write what will be done, do it, write
//! what was done; after a crash the records tell what may have happened. [`Log::compact`] replaces all records
//! by fewer that mean the same.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use quotary_common::cbor;
use quotary_common::id::sha256;
use rustix::fs::OFlags;

use super::{StateError, durable};

const HEADER: &[u8] = b"quotary-log-v1\n";
const FRAME_BYTES: usize = 12;
/// Largest record, in bytes; a longer one is neither written nor read.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Largest log that is read, in bytes; its owner compacts long before.
pub const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a log's file ended when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With its last frame.
    Whole,
    /// Within a frame: the write that a crash cut short. It was never acknowledged, so nothing is lost.
    Torn {
        /// What was cut off, in bytes.
        bytes: usize,
    },
    /// With a whole frame that is not what was written: a bad disk, or another hand.
    Damaged {
        /// What could not be read, in bytes; it stands in the file with `.damaged` added to its name.
        bytes: usize,
    },
}

/// A log that is open for appending.
#[derive(Debug)]
pub struct Log<R> {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    broken: bool,
    records: PhantomData<fn(R) -> R>,
}

impl<R> Log<R>
where
    R: Encode<()> + for<'b> Decode<'b, ()>,
{
    /// Opens the log at `path`, making it where it is missing, and gives its records in order.
    ///
    /// # Errors
    /// [`StateError`] when the file cannot be read or mended, is above [`LOG_BYTES_MAX`], or is no log.
    pub fn open(path: &Path) -> Result<(Self, Vec<R>, Tail), StateError> {
        let bytes = durable::read(path, LOG_BYTES_MAX)?.unwrap_or_default();
        let Some(read) = parse::<R>(&bytes) else {
            return Err(StateError::NotALog { path: path.to_path_buf() });
        };
        if let Tail::Damaged { .. } = read.tail {
            durable::write(&damaged_beside(path), &bytes, durable::PRIVATE)?;
        }
        if read.good_bytes == 0 {
            durable::write(path, HEADER, durable::PRIVATE)?;
        }
        let good_bytes = read.good_bytes.max(HEADER.len());
        let file = open_to_append(path)?;
        if bytes.len() > good_bytes {
            file.set_len(good_bytes as u64)
                .and_then(|()| file.sync_all())
                .map_err(|source| StateError::io("cut the torn end of", path, source))?;
        }
        let mut log =
            Self { path: path.to_path_buf(), file, len_bytes: good_bytes as u64, broken: false, records: PhantomData };
        log.seek_end()?;
        Ok((log, read.records, read.tail))
    }

    /// Appends the records, in order, and makes them last: none of them can be lost once this returns.
    ///
    /// # Errors
    /// [`StateError`] when they were not made to last: what they announce must then not be done.
    pub fn append(&mut self, records: &[R]) -> Result<(), StateError> {
        self.append_lazily(records)?;
        if let Err(source) = self.file.sync_data() {
            // After a failed fsync nobody knows what is on the disk.
            self.broken = true;
            return Err(StateError::io("make last", &self.path, source));
        }
        Ok(())
    }

    /// Appends without waiting for the disk: for what a restart would find out by looking.
    ///
    /// # Errors
    /// [`StateError`] when they were not written.
    pub fn append_lazily(&mut self, records: &[R]) -> Result<(), StateError> {
        if self.broken {
            return Err(StateError::Broken { path: self.path.clone() });
        }
        let mut bytes = Vec::new();
        for record in records {
            self.frame(record, &mut bytes)?;
        }
        if let Err(source) = self.file.write_all(&bytes) {
            // A short write would make everything after it unreadable.
            let mended = self.file.set_len(self.len_bytes).is_ok() && self.seek_end().is_ok();
            self.broken = !mended;
            return Err(StateError::io("append to", &self.path, source));
        }
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Replaces everything by these records, at once: a crash leaves the old log or the new one.
    ///
    /// # Errors
    /// [`StateError`] when it could not be done; the old log is then still in use.
    pub fn compact(&mut self, records: &[R]) -> Result<(), StateError> {
        let mut bytes = HEADER.to_vec();
        for record in records {
            self.frame(record, &mut bytes)?;
        }
        durable::write(&self.path, &bytes, durable::PRIVATE)?;
        // From here the open file is the old log, which no longer has a name: appending there would be lost.
        self.broken = true;
        self.file = open_to_append(&self.path)?;
        self.len_bytes = bytes.len() as u64;
        self.seek_end()?;
        self.broken = false;
        Ok(())
    }

    /// Its size, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn frame(&self, record: &R, out: &mut Vec<u8>) -> Result<(), StateError> {
        let payload = cbor::to_bytes(record);
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= RECORD_BYTES_MAX);
        let Some(length) = length else {
            return Err(StateError::TooLarge {
                path: self.path.clone(),
                bytes: payload.len() as u64,
                bytes_max: RECORD_BYTES_MAX as u64,
            });
        };
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&sha256(&[&payload])[..8]);
        out.extend_from_slice(&payload);
        Ok(())
    }

    fn seek_end(&mut self) -> Result<(), StateError> {
        self.file
            .seek(SeekFrom::Start(self.len_bytes))
            .map(drop)
            .map_err(|source| StateError::io("seek in", &self.path, source))
    }
}

fn open_to_append(path: &Path) -> Result<File, StateError> {
    OpenOptions::new()
        .write(true)
        .custom_flags(durable::flags(OFlags::NOFOLLOW | OFlags::CLOEXEC))
        .open(path)
        .map_err(|source| StateError::io("open", path, source))
}

fn damaged_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

struct Read<R> {
    records: Vec<R>,
    good_bytes: usize,
    tail: Tail,
}

/// The records of a log's bytes; `None` when they do not begin as a log does.
fn parse<R>(bytes: &[u8]) -> Option<Read<R>>
where
    R: Encode<()> + for<'b> Decode<'b, ()>,
{
    let mut read = Read { records: Vec::new(), good_bytes: 0, tail: Tail::Whole };
    let Some(mut rest) = bytes.strip_prefix(HEADER) else {
        // Made, and cut short before its first record.
        let torn = HEADER.starts_with(bytes);
        read.tail = if bytes.is_empty() { Tail::Whole } else { Tail::Torn { bytes: bytes.len() } };
        return torn.then_some(read);
    };
    read.good_bytes = HEADER.len();
    while !rest.is_empty() {
        let Some((payload, sum, after)) = split_frame(rest) else {
            read.tail = Tail::Torn { bytes: rest.len() };
            break;
        };
        let record = (sha256(&[payload])[..8] == *sum).then(|| cbor::from_bytes::<R>(payload, RECORD_BYTES_MAX).ok());
        let Some(Some(record)) = record else {
            read.tail = Tail::Damaged { bytes: rest.len() };
            break;
        };
        read.records.push(record);
        rest = after;
        read.good_bytes = bytes.len() - rest.len();
    }
    Some(read)
}

/// Payload, sum and rest of the first frame, if it is there whole.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(FRAME_BYTES)?;
    let (length, sum) = head.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    let (payload, after) = rest.split_at_checked(length)?;
    Some((payload, sum, after))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    fn written(records: &[u64]) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let (mut log, before, tail) = Log::<u64>::open(&path).unwrap();
        assert!(before.is_empty() && tail == Tail::Whole);
        for record in records {
            log.append(&[*record]).unwrap();
        }
        (temp, path)
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_every_whole_record_and_goes_on() {
        let records = [7, 300, 70_000, u64::MAX];
        let (_temp, path) = written(&records);
        let whole = fs::read(&path).unwrap();
        let mut most = 0;
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut log, kept, tail) = Log::<u64>::open(&path).unwrap();
            assert_eq!(kept, records[..kept.len()], "cut at {cut}");
            assert!(kept.len() >= most && !matches!(tail, Tail::Damaged { .. }), "cut at {cut}");
            most = kept.len();
            log.append(&[5]).unwrap();
            let (_, again, tail) = Log::<u64>::open(&path).unwrap();
            assert_eq!((again.len(), again.last(), tail), (kept.len() + 1, Some(&5), Tail::Whole), "cut at {cut}");
        }
        assert_eq!(most, records.len());
    }

    #[test]
    fn a_changed_byte_is_found_and_the_damaged_file_is_kept() {
        let (_temp, path) = written(&[1, 2, 3]);
        let mut bytes = fs::read(&path).unwrap();
        let at = HEADER.len() + FRAME_BYTES + 1 + FRAME_BYTES;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (_, kept, tail) = Log::<u64>::open(&path).unwrap();
        assert_eq!(kept, [1]);
        assert!(matches!(tail, Tail::Damaged { .. }));
        assert_eq!(fs::read(damaged_beside(&path)).unwrap(), bytes);
    }

    #[test]
    fn compaction_replaces_all_records_and_later_ones_follow() {
        let (_temp, path) = written(&[1, 2, 3]);
        let (mut log, _, _) = Log::<u64>::open(&path).unwrap();
        let before = log.len_bytes();
        log.compact(&[6]).unwrap();
        assert!(log.len_bytes() < before);
        log.append_lazily(&[7]).unwrap();
        assert_eq!(Log::<u64>::open(&path).unwrap().1, [6, 7]);
    }

    #[test]
    fn a_file_that_is_no_log_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        fs::write(&path, b"something else entirely").unwrap();
        assert!(matches!(Log::<u64>::open(&path), Err(StateError::NotALog { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"something else entirely");
    }
}
