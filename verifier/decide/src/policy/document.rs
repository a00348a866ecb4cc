//! What a policy says, and its document.

use quotary_common::cbor::Text;
use quotary_common::envelope::Name;
use quotary_common::id::Digest;
use quotary_common::plan::{OnPressure, ShapedControl};
use quotary_common::quorum::criticality::Criticality;
use quotary_common::units::{Class, ResourceKind, Resources};
use serde::{Deserialize, Serialize};

use super::select::Selector;

/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;

/// What a policy says. Amounts hold for each unit or run of the application on each host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// Its name: one policy in force of a name.
    pub name: Name,
    /// One more for each document of this name.
    pub version: u64,
    /// How much depends on it.
    pub criticality: Criticality,
    /// What it is for, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<DESCRIPTION_BYTES_MAX>>,
    /// The service class; absent: as each application asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The trust zone that a host must meet before anything is guaranteed on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Name>,
    /// The services that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Name>,
    /// The APIs that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<Name>,
    /// Whom it is for.
    pub select: Selector,
    /// The least that is kept for it.
    #[serde(skip_serializing_if = "is_nothing")]
    pub guarantee: Resources,
    /// The most that it may have.
    #[serde(skip_serializing_if = "is_nothing")]
    pub limit: Resources,
    /// What it rests on.
    #[serde(skip_serializing_if = "DependsOn::is_empty")]
    pub depends_on: DependsOn,
    /// When its numbers are to be looked at again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
    /// How its limits move.
    #[serde(skip_serializing_if = "Shaping::is_default")]
    pub shaping: Shaping,
}

fn is_nothing(amounts: &Resources) -> bool {
    *amounts == Resources::default()
}

/// What a policy rests on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DependsOn {
    /// Applications that must have what they need before it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applications: Vec<Name>,
    /// Policies that must be in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Name>,
}

impl DependsOn {
    /// Whether it rests on nothing.
    pub fn is_empty(&self) -> bool {
        self.applications.is_empty() && self.policies.is_empty()
    }
}

/// A line of utilisation, in percent of the limit, and what follows when usage is beyond it for the stated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Whose usage.
    pub resource: ResourceKind,
    /// Where the line is.
    #[serde(flatten)]
    pub line: Line,
    /// For how long without a break, seconds.
    pub for_s: u64,
    /// What follows.
    pub then: Then,
}

/// Where a threshold's line is, in percent of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Line {
    /// Beyond it is above it.
    #[serde(rename = "above_percent")]
    Above(u64),
    /// Beyond it is below it.
    #[serde(rename = "below_percent")]
    Below(u64),
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Above(percent) => write!(f, "above {percent} %"),
            Self::Below(percent) => write!(f, "below {percent} %"),
        }
    }
}

/// What a threshold leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// A draft of a change with suggested numbers.
    Review,
    /// A notice.
    Alert,
}

/// How limits move to a policy's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shaping {
    /// What pressure does to tightening.
    pub on_pressure: OnPressure,
    /// Time between setpoints, seconds; absent: as the planner finds right for the delay window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution_s: Option<u64>,
    /// Stages of the roll-out: shares of the units that it moves, in percent, ascending, the last one 100.
    pub rollout_percent: Vec<u64>,
    /// The fastest that each limit may move, its unit per second; absent: as fast as the delay window asks for.
    #[serde(skip_serializing_if = "is_nothing")]
    pub slew_per_second: Resources,
}

impl Default for Shaping {
    fn default() -> Self {
        let slew_per_second = Resources::default();
        Self { on_pressure: OnPressure::default(), resolution_s: None, rollout_percent: vec![100], slew_per_second }
    }
}

impl Shaping {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A document that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the policy cannot be written as TOML")]
pub struct WriteError(#[from] toml::ser::Error);

impl Terms {
    /// A document that says this, without comments. Reading it gives these terms back if they hold together.
    ///
    /// # Errors
    /// [`WriteError`] when a number is beyond what TOML has (63 bits).
    pub fn to_document(&self) -> Result<String, WriteError> {
        Ok(toml::to_string(self)?)
    }
}

/// A policy: terms that hold together, and the digest of the document that they were read from. [`super::read`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    terms: Terms,
    digest: Digest,
}

impl Policy {
    pub(super) const fn new(terms: Terms, digest: Digest) -> Self {
        Self { terms, digest }
    }
    /// SHA-256 of the document's exact bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl std::ops::Deref for Policy {
    type Target = Terms;
    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// What a limit of a resource may be: the range of the control that holds it in the kernel.
pub(super) const fn limit_range(kind: ResourceKind) -> (u64, u64) {
    match kind {
        ResourceKind::Cpu => ShapedControl::CpuQuota.range(),
        ResourceKind::Memory => ShapedControl::MemoryHigh.range(),
        ResourceKind::Storage => ShapedControl::Storage.range(),
        ResourceKind::Disk => ShapedControl::IoReadMax.range(),
        ResourceKind::Network => ShapedControl::NetworkEgress.range(),
    }
}
