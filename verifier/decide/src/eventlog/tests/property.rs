//! Properties of any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::efi::{SignatureDatabase, Variable, device_path_file, loaded_file};
use super::super::*;
use super::build::{clean, header, write};
use super::hostile::everything;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..2048)) {
        let _ = everything(&bytes);
        let _ = everything(&[header(&[(0x0B, 32), (4, 20)], &[]), bytes.clone()].concat());
        let _ = MeasureLog::parse(&bytes);
        let _ = MeasureLog::parse(&[b"\x1e", bytes.as_slice(), b"\n"].concat());
        let _ = (Variable::read(&bytes), SignatureDatabase::read(&bytes), loaded_file(&bytes));
        prop_assert!(device_path_file(&bytes).len() <= bytes.len() * 2);
    }

    #[test]
    fn a_log_with_changed_bytes_is_read_or_refused_and_its_report_is_bounded(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = write(&clean());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(report) = everything(&bytes) {
            prop_assert!(report.problems.len() <= PROBLEMS_MAX);
            prop_assert!(report.events.len() * 32 <= bytes.len());
            let state = secure_boot(&EventLog::parse(&bytes).unwrap());
            prop_assert!(state.problems.is_empty() || state.state.is_none());
        }
    }

    #[test]
    fn events_lie_one_after_the_other_within_the_bytes(bytes in vec(any::<u8>(), 0..512)) {
        let bytes = [write(&clean()), bytes].concat();
        if let Ok(log) = EventLog::parse(&bytes) {
            for pair in log.events().windows(2) {
                prop_assert!(pair[0].offset() + 16 + pair[0].data().len() <= pair[1].offset());
                prop_assert_eq!(pair[0].number() + 1, pair[1].number());
            }
        }
    }

    #[test]
    fn device_paths_of_any_node_lengths_end(lengths in vec(any::<u16>(), 0..200)) {
        let path: Vec<u8> = lengths.iter().flat_map(|length| [[4, 4], length.to_le_bytes()].concat()).collect();
        let _ = device_path_file(&path);
    }
}
