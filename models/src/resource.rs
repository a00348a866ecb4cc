//! The kinds of resource that a model tells apart.

use std::fmt;

use serde::Deserialize;

/// What a series measures. The unit is the caller's: the model is scale-free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// CPU use.
    Cpu,
    /// Memory in use.
    Memory,
    /// Disk throughput.
    Disk,
    /// Network throughput.
    Network,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Disk, Self::Network];

    /// The word in manifests and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Network => "network",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
