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

#[cfg(test)]
mod tests {
    use super::*;

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
