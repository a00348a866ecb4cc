//! What a host stated last.

use minicbor::{Decode, Encode};
use quotary_common::cbor::Bounded;
use quotary_common::envelope::{Backend, BackendKind, Hierarchy, Mode, Name, Support, WitnessedCheckpoint};
use quotary_common::id::BootId;
use quotary_common::limits::COURSES_MAX;
use quotary_common::plan::ShapedControl;

/// What an operator wants to see of an accepted envelope without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seen {
    /// Boot.
    #[n(0)]
    pub boot_id: BootId,
    /// Name.
    #[n(1)]
    pub hostname: Name,
    /// Agent version.
    #[n(2)]
    pub agent_version: Name,
    /// How it enforces.
    #[n(3)]
    pub mode: Mode,
    /// Who writes.
    #[n(4)]
    pub backend: BackendKind,
    /// Which hierarchy.
    #[n(5)]
    pub hierarchy: Hierarchy,
    /// The checkpoint that it witnessed.
    #[n(6)]
    pub witnessed: Option<WitnessedCheckpoint>,
    /// `CLOCK_BOOTTIME` when it was built, ms.
    #[n(7)]
    pub built_at_ms: Option<u64>,
    /// The anchor of that clock: see [`Timeline::began_ms`](crate::history::Timeline::began_ms).
    #[n(8)]
    pub began_ms: Option<u64>,
    /// Controls that it stated to be unsupported.
    #[n(9)]
    pub lacks: Option<Bounded<ShapedControl, COURSES_MAX>>,
}

/// The controls that a host says it has not. On version 1 its controls have other names, and nothing is known.
pub(super) fn lacking(backend: &Backend) -> Option<Bounded<ShapedControl, COURSES_MAX>> {
    let is_lacking = |control: &&ShapedControl| {
        let mut states = backend.controls.iter();
        states.any(|state| state.support == Support::Unsupported && state.control.as_str() == control.file_name())
    };
    let lacking: Vec<ShapedControl> = ShapedControl::ALL.iter().filter(is_lacking).copied().collect();
    (!lacking.is_empty()).then(|| Bounded::truncating(lacking).0)
}
