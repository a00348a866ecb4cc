//! Criticality, until the quorum room's is there.
use serde::{Deserialize, Serialize};

/// How much depends on something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criticality {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}
impl std::fmt::Display for Criticality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(CRITICALITIES[*self as usize].0)
    }
}
/// Words.
pub(super) const CRITICALITIES: [(&str, Criticality); 4] = [
    ("low", Criticality::Low),
    ("medium", Criticality::Medium),
    ("high", Criticality::High),
    ("critical", Criticality::Critical),
];
