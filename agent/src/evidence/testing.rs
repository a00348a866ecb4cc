//! A frame for tests of this room and of those that stand on it.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{Backend, BackendKind, Hierarchy, HostFacts, Mode, Name, WitnessedCheckpoint};
use quotary_common::id::{BootId, DeploymentId, Digest, HostId};

use super::Frame;

/// A small frame.
pub(crate) fn frame() -> Frame {
    Frame {
        deployment: DeploymentId::of(&[b"d"]),
        host: HostId::of(&[b"h"]),
        boot_id: BootId::new([1; 16]),
        tls_key: Digest::of(&[b"t"]),
        checkpoint: Some(WitnessedCheckpoint { size: 3, root: Digest::of(&[b"r"]) }),
        agent_version: Name::lossy("0.1.0"),
        built_at_ms: 50_000,
        backend: Backend {
            kind: BackendKind::Direct,
            mode: Mode::Enforce,
            hierarchy: Hierarchy::V1,
            controls: Bounded::default(),
        },
        facts: HostFacts {
            hostname: Name::lossy("host"),
            kernel: Name::lossy("6"),
            cpu_millicores: 2000,
            memory_bytes: 1 << 30,
            os: None,
        },
    }
}
