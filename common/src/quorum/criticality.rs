//! How much harm a change can do, and what it therefore takes.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// How much harm a change can do. What is unknown or not mapped is [`Criticality::Critical`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Criticality {
    /// Can be put right at leisure.
    #[n(0)]
    Low,
    /// Somebody would notice.
    #[n(1)]
    Medium,
    /// Something would stop.
    #[n(2)]
    High,
    /// Everything might; also whatever nobody has said anything about.
    #[n(3)]
    #[default]
    Critical,
}

impl Criticality {
    /// All, the lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The criticality of that name, or the highest for any other text.
    pub fn of_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|level| level.name() == name).unwrap_or_default()
    }
}

impl std::fmt::Display for Criticality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Acts that touch limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Stop: put back the state before Quotary, on one host or all.
    Stop,
    /// Restore the baseline: the last policy in force.
    RestoreBaseline,
    /// Hold where we are, shortly.
    Freeze,
    /// Anything that alters what holds from then on.
    Change,
}

/// Whether an act needs signatures. This is where it is decided that stopping and restoring the baseline never do: what
/// is needed in an emergency must not wait for people. Both lead back to what was signed before, or to no limits of
/// ours at all; a freeze takes one operator, everything else the quorum of its criticality.
pub const fn needs_quorum(act: Act) -> bool {
    match act {
        Act::Stop | Act::RestoreBaseline => false,
        Act::Freeze | Act::Change => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emergency_tightening_never_needs_quorum_and_loosening_does() {
        assert!(!needs_quorum(Act::Stop) && !needs_quorum(Act::RestoreBaseline));
        assert!(needs_quorum(Act::Change) && needs_quorum(Act::Freeze));
    }

    #[test]
    fn what_is_unknown_has_the_highest_criticality() {
        for unknown in ["", "Low", "lowest", "none", "low "] {
            assert_eq!(Criticality::of_name(unknown), Criticality::Critical);
        }
        assert_eq!(Criticality::default(), Criticality::Critical);
        assert!(Criticality::ALL.into_iter().all(|level| Criticality::of_name(level.name()) == level));
        assert!(Criticality::ALL.is_sorted());
    }
}
