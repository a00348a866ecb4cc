//! The enforcement journal: records on disk, and what they add up to in memory, kept in step.

use super::held::Held;
use super::record::Record;
use crate::state::log::{LOG_BYTES_MAX, Log, Tail};
use crate::state::{StateDir, StateError};

/// The journal's file in the state directory.
pub const FILE_NAME: &str = "enforce.journal";
/// Size from which the log is replaced by the fewest records that mean the same, in bytes.
const COMPACT_BYTES_MIN: u64 = 256 * 1024;

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    log: Log<Record>,
    held: Held,
    compact_at_bytes: u64,
}

impl Journal {
    /// Opens the journal and replays it.
    ///
    /// # Errors
    /// [`StateError`] when its file cannot be read or mended.
    pub fn open(state_dir: &StateDir) -> Result<Self, StateError> {
        let (log, records, tail) = Log::open(&state_dir.file(FILE_NAME))?;
        match tail {
            Tail::Whole => {}
            Tail::Torn { bytes } => tracing::info!(bytes, "the enforcement journal ended within a record: a crash"),
            Tail::Damaged { bytes } => tracing::error!(
                bytes,
                "the enforcement journal is damaged; what was read is used, a copy is kept beside it"
            ),
        }
        let mut held = Held::default();
        for record in &records {
            held.add(record);
        }
        Ok(Self { log, held, compact_at_bytes: COMPACT_BYTES_MIN })
    }

    /// What is held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Writes records ahead of what they announce: when this returns, a crash cannot lose them.
    ///
    /// # Errors
    /// [`StateError`]: what they announce must then not be done.
    pub fn announce(&mut self, records: &[Record]) -> Result<(), StateError> {
        self.log.append(records)?;
        self.take(records);
        Ok(())
    }

    /// Writes what came of an announced step; after a crash a look at the kernel tells it again.
    pub fn conclude(&mut self, records: &[Record]) {
        if let Err(error) = self.log.append_lazily(records) {
            tracing::error!(%error, "the outcome of a step was not journaled");
        }
        self.take(records);
    }

    /// Announces what puts things back, which happens even if the disk refuses: no limit stays for want of space.
    pub fn announce_undo(&mut self, records: &[Record]) {
        if let Err(error) = self.log.append(records) {
            tracing::error!(%error, "an undo was not journaled; it is done all the same");
        }
        self.take(records);
    }

    fn take(&mut self, records: &[Record]) {
        for record in records {
            self.held.add(record);
        }
        if self.log.len_bytes() > self.compact_at_bytes {
            if let Err(error) = self.log.compact(&self.held.records()) {
                tracing::error!(%error, "the enforcement journal could not be compacted");
            }
            // Never so late that what is written could not be read at the next start.
            self.compact_at_bytes =
                COMPACT_BYTES_MIN.max(self.log.len_bytes().saturating_mul(4)).min(LOG_BYTES_MAX as u64 / 2);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use quotary_common::envelope::{CgroupPath, ControlValue};
    use quotary_common::id::{BootId, GrantId};

    use super::*;
    use crate::enforce::controls::{Control, Knob};
    use crate::enforce::record::LeaseForm;

    const GRANT: GrantId = GrantId::new([1; 32]);
    const KNOB: Knob = Knob { control: Control::CpuQuota, device: None };

    fn state_dir() -> (tempfile::TempDir, StateDir) {
        let temp = crate::enforce::tests::fake::in_memory();
        let dir = StateDir::open(temp.path().join("state")).unwrap();
        (temp, dir)
    }

    fn granted(lease_ms: u64) -> Record {
        let lease = LeaseForm { boot_id: BootId::new([1; 16]), epoch: 1, start_ms: 0, lease_ms };
        Record::Granted { grant: GRANT, cgroup: CgroupPath::lossy("/quotary/run-x"), lease, owner: None }
    }

    fn writing(before: &str, after: &str) -> Record {
        let (before, after) = (Some(ControlValue::lossy(before)), ControlValue::lossy(after));
        Record::Writing { grant: GRANT, knob: KNOB, before, after }
    }

    #[test]
    fn a_journal_cut_at_any_byte_still_knows_every_value_that_may_have_been_written() {
        let (_temp, dir) = state_dir();
        let path = dir.file(FILE_NAME);
        let mut journal = Journal::open(&dir).unwrap();
        let mut announced = vec![(0, None)];
        for (before, after) in [("-1", "20000"), ("20000", "30000"), ("30000", "40000")] {
            journal.announce(&[granted(9), Record::Making { grant: GRANT }]).unwrap();
            journal.announce(&[writing(before, after)]).unwrap();
            // Only now the kernel's file would be written: from here on its old value must not be lost.
            announced.push((fs::metadata(&path).unwrap().len(), Some(after)));
            journal.conclude(&[Record::Wrote { grant: GRANT, knob: KNOB, actual: Some(ControlValue::lossy(after)) }]);
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let journal = Journal::open(&dir).unwrap();
            let (_, after) = announced.iter().rev().find(|(len, _)| *len <= cut as u64).unwrap();
            let written = journal.held().grants.get(&GRANT).and_then(|held| held.written.get(&KNOB));
            if let Some(after) = after {
                let written = written.unwrap();
                assert_eq!(written.baseline, Some(ControlValue::lossy("-1")), "cut at {cut}");
                // A later announcement may be there too: it was made before its write.
                assert!(written.setpoint.as_str() >= *after, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_long_journal_is_compacted_and_means_the_same() {
        let (_temp, dir) = state_dir();
        let mut journal = Journal::open(&dir).unwrap();
        journal.announce(&[granted(9), writing("-1", "1")]).unwrap();
        let many: Vec<_> = (0..1000).map(|n| writing("1", &n.to_string())).collect();
        for _ in 0..6 {
            journal.announce(&many).unwrap();
        }
        let held = journal.held().clone();
        assert!(fs::metadata(dir.file(FILE_NAME)).unwrap().len() < COMPACT_BYTES_MIN);
        drop(journal);
        assert_eq!(*Journal::open(&dir).unwrap().held(), held);
        assert_eq!(held.grants[&GRANT].written[&KNOB].baseline, Some(ControlValue::lossy("-1")));
    }

    #[test]
    fn any_bytes_in_place_of_the_journal_are_an_error_or_a_state_never_a_panic() {
        use proptest::prelude::*;
        let (_temp, dir) = state_dir();
        let mut journal = Journal::open(&dir).unwrap();
        journal.announce(&[granted(9), writing("-1", "1")]).unwrap();
        let whole = fs::read(dir.file(FILE_NAME)).unwrap();
        proptest!(ProptestConfig::with_cases(64), |(at in 0..whole.len(), byte: u8, tail: Vec<u8>)| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes.extend(tail);
            fs::write(dir.file(FILE_NAME), &bytes).unwrap();
            let _ = Journal::open(&dir);
        });
    }
}
