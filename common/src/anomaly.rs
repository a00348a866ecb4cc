//! Alarms: what was odd about a series, as the audit log keeps it and as replies tell it.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::cbor::{Bounded, Text};
use crate::id::{Digest, HostId};

/// Findings of one leaf at most; the rest is counted.
pub const ANOMALY_FINDINGS_MAX: usize = 16;
/// Longest name of a series' subject in a leaf, bytes: a longer path is cut.
pub const ANOMALY_SUBJECT_BYTES_MAX: usize = 256;

macro_rules! kinds {
    ($($number:literal $variant:ident $code:literal $doc:literal;)*) => {
        /// What is odd about a series. The list grows; a kind never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
        #[cbor(index_only)]
        pub enum AnomalyKind {
            $(#[doc = $doc] #[n($number)] #[serde(rename = $code)] $variant,)*
        }
        impl AnomalyKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The name, as it stands in replies and documents.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }
            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}

kinds! {
    1 Spike "spike" "A point away from where the series was, and alone.";
    2 LevelShift "level-shift" "The series has gone away from where it was for long.";
    3 Flatline "flatline" "One value, for longer than ever.";
    4 Leak "leak" "Means that rise for longer than ever.";
    5 UnusualDensity "unusual-density" "Many small surprises, closer together than they used to be.";
    6 UnusualShape "unusual-shape" "A course of points like none before.";
}

impl AnomalyKind {
    /// What expected and came are in, where that is not the series' own unit.
    pub const fn own_unit(self) -> Option<&'static str> {
        match self {
            Self::Flatline => Some("points"),
            Self::UnusualDensity => Some("nats"),
            Self::Spike | Self::LevelShift | Self::Leak | Self::UnusualShape => None,
        }
    }
}

/// An alarm in the audit log, version 1: what is odd at one place at about the same time.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Anomaly {
    /// The host; absent for a sum over hosts.
    #[n(0)]
    pub host: Option<HostId>,
    /// The sum, `tenant:NAME` or `pool:NAME`; absent for a host.
    #[n(1)]
    pub sum: Option<Text<ANOMALY_SUBJECT_BYTES_MAX>>,
    /// Where the first odd step began, Unix ms: with the place, the alarm's name.
    #[n(2)]
    pub at_ms: u64,
    /// Whether the alarm was told before, and this adds what was found since.
    #[n(3)]
    pub continues: bool,
    /// What is odd, the oddest first.
    #[n(4)]
    pub findings: Bounded<AnomalyFinding, ANOMALY_FINDINGS_MAX>,
    /// How many more there were.
    #[n(5)]
    pub beyond: u32,
    /// SHA-256 of the steps that the oddest series held when it was judged: for each, oldest first, its start (Unix ms) and
    /// its mean, both as 64 bits, big-endian.
    #[n(6)]
    pub input: Digest,
}

/// What is odd about one series, with the figures behind it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AnomalyFinding {
    /// Whose demand: `host`, a cgroup's path, `tenant:NAME` or `pool:NAME`.
    #[n(0)]
    pub subject: Text<ANOMALY_SUBJECT_BYTES_MAX>,
    /// Of what, with its unit, as `cpu_millicores`.
    #[n(1)]
    pub resource: Text<64>,
    /// What is odd.
    #[n(2)]
    pub kind: AnomalyKind,
    /// Where the odd step began, Unix ms.
    #[n(3)]
    pub at_ms: u64,
    /// How odd, 0 to 1000.
    #[n(4)]
    pub score_permille: u16,
    /// What was to be expected, in thousandths of the unit.
    #[n(5)]
    pub expected_milli: i64,
    /// What came, in thousandths of the unit.
    #[n(6)]
    pub came_milli: i64,
    /// Over how many steps.
    #[n(7)]
    pub points: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;
    use crate::limits::LEAF_BYTES_MAX;

    #[test]
    fn a_kind_keeps_its_code_in_every_form() {
        let codes = ["spike", "level-shift", "flatline", "leak", "unusual-density", "unusual-shape"];
        assert_eq!(AnomalyKind::ALL.iter().map(|kind| kind.code()).collect::<Vec<_>>(), codes);
        for kind in AnomalyKind::ALL {
            assert_eq!(serde_json::to_value(kind).ok(), Some(serde_json::json!(kind.code())));
            assert!(kind.meaning().ends_with('.'));
        }
    }

    #[test]
    fn the_greatest_alarm_is_a_leaf() {
        let finding = AnomalyFinding {
            subject: Text::lossy(&"x".repeat(ANOMALY_SUBJECT_BYTES_MAX)),
            resource: Text::lossy(&"y".repeat(64)),
            kind: AnomalyKind::Leak,
            at_ms: u64::MAX,
            score_permille: 1000,
            expected_milli: i64::MIN,
            came_milli: i64::MAX,
            points: u32::MAX,
        };
        let anomaly = Anomaly {
            host: Some(HostId::of(&[b"h"])),
            sum: Some(Text::lossy(&"x".repeat(ANOMALY_SUBJECT_BYTES_MAX))),
            at_ms: u64::MAX,
            continues: true,
            findings: Bounded::truncating(vec![finding; ANOMALY_FINDINGS_MAX]).0,
            beyond: u32::MAX,
            input: Digest::of(&[]),
        };
        assert!(cbor::to_bytes(&anomaly).len() < LEAF_BYTES_MAX / 4);
    }
}
