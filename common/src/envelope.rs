//! The envelope: everything an agent states about its host at one instant, as canonical bytes.
//!
//! The quote's `extraData` covers these bytes (design §5). What stands here is *claimed* until the verifier
//! has checked that quote, and even then only bound to a TPM and an instant, not proven true.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::cbor::{self, Bounded, CborError, Text};
use crate::id::{BootId, DeploymentId, Digest, GrantId, HostId, PlanId, RequestId};
use crate::limits::{
    APPLICATIONS_MAX, CGROUP_PATH_BYTES_MAX, CONTROL_VALUE_BYTES_MAX, CONTROLLERS_MAX, ENVELOPE_BYTES_MAX, EVENTS_MAX,
    NAME_BYTES_MAX, REQUESTS_MAX, WRITES_MAX,
};
use crate::metric::{MetricWindows, WindowForm};
use crate::units::{Class, Resources};

/// A short name: unit, device, zone, application.
pub type Name = Text<NAME_BYTES_MAX>;
/// A cgroup path, as `/proc/PID/cgroup` gives it.
pub type CgroupPath = Text<CGROUP_PATH_BYTES_MAX>;
/// A kernel control's value as the kernel shows it.
pub type ControlValue = Text<CONTROL_VALUE_BYTES_MAX>;

/// Versions of the form, which differ in how metric windows stand (docs/decisions/0007).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum EnvelopeVersion {
    /// Each window is a map: as kept from before, and as older agents make it.
    #[n(1)]
    WindowMaps,
    /// Windows stand by interval.
    #[n(2)]
    WindowGroups,
}

impl EnvelopeVersion {
    /// The form that windows have in this version.
    pub const fn window_form(self) -> WindowForm {
        match self {
            Self::WindowMaps => WindowForm::Maps,
            Self::WindowGroups => WindowForm::Groups,
        }
    }
}

/// Envelope, version 1 and 2; [`Envelope::seal`] and [`ClaimedEnvelope::parse`] hold its windows to its version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Envelope {
    /// Form version.
    #[n(0)]
    pub version: EnvelopeVersion,
    /// The deployment this is meant for.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The host that speaks.
    #[n(2)]
    pub host: HostId,
    /// The kernel's boot id.
    #[n(3)]
    pub boot_id: BootId,
    /// 1 for the first envelope of an enrolment, then one more each time.
    #[n(4)]
    pub sequence: u64,
    /// SHA-256 of the previous envelope; 32 zero bytes before the first.
    #[n(5)]
    pub predecessor: Digest,
    /// SHA-256 of the SubjectPublicKeyInfo of the agent's TLS client key.
    #[n(6)]
    pub tls_key: Digest,
    /// The last audit checkpoint that the agent has seen and checked.
    #[n(7)]
    pub checkpoint: Option<WitnessedCheckpoint>,
    /// The agent's version.
    #[n(8)]
    pub agent_version: Name,
    /// `CLOCK_BOOTTIME` when this was built, ms: a lease that answers it counts from here.
    #[n(9)]
    pub built_at_ms: u64,
    /// How the agent enforces.
    #[n(10)]
    pub backend: Backend,
    /// Metric windows of the host.
    #[n(11)]
    pub host_windows: MetricWindows,
    /// The applications that were seen.
    #[n(12)]
    pub applications: Bounded<ApplicationReport, APPLICATIONS_MAX>,
    /// What happened since the last envelope.
    #[n(13)]
    pub events: Bounded<Event, EVENTS_MAX>,
    /// Every enforcement write since the last envelope.
    #[n(14)]
    pub writes: Bounded<EnforcementWrite, WRITES_MAX>,
    /// Requests that wait for a grant.
    #[n(15)]
    pub requests: Bounded<PendingRequest, REQUESTS_MAX>,
    /// Grants in use; a grant that was given earlier and is not here is released.
    #[n(16)]
    pub held: Bounded<GrantId, APPLICATIONS_MAX>,
    /// What the host says it has; the operator's inventory decides.
    #[n(17)]
    pub facts: HostFacts,
}

/// An envelope together with the bytes it came from: made only by [`ClaimedEnvelope::parse`] or [`Envelope::seal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedEnvelope {
    envelope: Envelope,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Envelope {
    /// The canonical bytes and their digest.
    ///
    /// # Errors
    /// [`CborError::TooLarge`] when they exceed [`ENVELOPE_BYTES_MAX`], [`CborError::NotCanonical`] when windows are of
    /// another version.
    pub fn seal(self) -> Result<ClaimedEnvelope, CborError> {
        self.check_windows()?;
        let bytes = cbor::to_bytes(&self);
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(CborError::TooLarge { bytes: bytes.len(), bytes_max: ENVELOPE_BYTES_MAX });
        }
        let digest = Digest::of(&[&bytes]);
        Ok(ClaimedEnvelope { envelope: self, bytes, digest })
    }

    /// One version has one form of windows.
    fn check_windows(&self) -> Result<(), CborError> {
        let form = self.version.window_form();
        let mut all = self.applications.iter().map(|application| &application.windows);
        if self.host_windows.is_of(form) && all.all(|windows| windows.is_of(form)) {
            Ok(())
        } else {
            Err(CborError::NotCanonical)
        }
    }
}

impl ClaimedEnvelope {
    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`CborError`] when they are too many or not the canonical form.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, CborError> {
        let bytes = bytes.into();
        let envelope = cbor::from_bytes::<Envelope>(&bytes, ENVELOPE_BYTES_MAX)?;
        envelope.check_windows()?;
        let digest = Digest::of(&[&bytes]);
        Ok(Self { envelope, bytes, digest })
    }
    /// What is claimed.
    pub fn claims(&self) -> &Envelope {
        &self.envelope
    }
    /// The canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A checkpoint as a witness states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct WitnessedCheckpoint {
    /// Number of leaves.
    #[n(0)]
    pub size: u64,
    /// Root hash (RFC 6962).
    #[n(1)]
    pub root: Digest,
}

/// Whether and how the agent acts on grants and plans.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Backend {
    /// Who writes the controls.
    #[n(0)]
    pub kind: BackendKind,
    /// How far the agent goes.
    #[n(1)]
    pub mode: Mode,
    /// Which cgroup hierarchy carries the controllers.
    #[n(2)]
    pub hierarchy: Hierarchy,
    /// What each control can do here.
    #[n(3)]
    pub controls: Bounded<ControlState, CONTROLLERS_MAX>,
}

/// Who writes the controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// Nobody: no controllers, or not allowed.
    #[n(0)]
    None,
    /// The agent, in a subtree of its own.
    #[n(1)]
    Direct,
    /// The systemd manager, asked over D-Bus.
    #[n(2)]
    Systemd,
}

/// How far the agent goes (design §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Report only.
    #[n(0)]
    Observe,
    /// Show would-be writes.
    #[n(1)]
    DryRun,
    /// Write.
    #[n(2)]
    #[default]
    Enforce,
}

/// Which cgroup hierarchy carries the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    /// No controller is writable.
    #[n(0)]
    None,
    /// Version 1 (also a hybrid host, whose controllers are on version 1).
    #[n(1)]
    V1,
    /// Version 2, unified.
    #[n(2)]
    V2,
}

/// What a control can do on this host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ControlState {
    /// The kernel's file name, such as `cpu.max`.
    #[n(0)]
    pub control: Name,
    /// What it can do.
    #[n(1)]
    pub support: Support,
}

/// What the kernel does with a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// Not there.
    #[n(0)]
    Unsupported,
    /// Accepted, but the kernel does not act on it.
    #[n(1)]
    Advisory,
    /// The kernel acts on it.
    #[n(2)]
    Effective,
}

/// What was seen of one application: kernel facts only; the verifier decides which application it is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ApplicationReport {
    /// Its cgroup.
    #[n(0)]
    pub cgroup: CgroupPath,
    /// Its systemd unit, if one owns the cgroup.
    #[n(1)]
    pub unit: Option<Name>,
    /// The uid that asked for the grant, or owns the processes.
    #[n(2)]
    pub uid: Option<u32>,
    /// The grant that it runs under.
    #[n(3)]
    pub grant: Option<GrantId>,
    /// Its metric windows.
    #[n(4)]
    pub windows: MetricWindows,
}

/// Something that happened, counted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Event {
    /// What.
    #[n(0)]
    pub kind: EventKind,
    /// To whom: a cgroup; absent for the host.
    #[n(1)]
    pub cgroup: Option<CgroupPath>,
    /// How often since the last envelope.
    #[n(2)]
    pub count: u64,
    /// `CLOCK_BOOTTIME` when last seen, ms.
    #[n(3)]
    pub at_ms: u64,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The kernel killed a process for want of memory.
    #[n(1)]
    OomKill,
    /// A group was throttled by its CPU quota.
    #[n(2)]
    CpuThrottled,
    /// A group went over its soft memory limit.
    #[n(3)]
    MemoryHigh,
    /// A counter went backward (reset or wrap): the window has a gap there.
    #[n(4)]
    CounterReset,
    /// More was seen than an envelope may carry; `count` items were left out.
    #[n(5)]
    LeftOut,
    /// The agent started.
    #[n(6)]
    AgentStarted,
    /// A value was put back at the start, since no running lease covered it.
    #[n(7)]
    Restored,
    /// Another writer changed a control that the agent had written.
    #[n(8)]
    Contested,
    /// Pressure holds a plan's tightening.
    #[n(9)]
    PlanHeld,
    /// Pressure made a plan release what it had tightened.
    #[n(10)]
    PlanRolledBack,
    /// A control was not at its target at the plan's effective time.
    #[n(11)]
    PlanLate,
    /// Pressure held a plan for as long as it allows: it tightens no further.
    #[n(12)]
    PlanGivenUp,
    /// A plan is not followed: its target is protected, gone, or set by an administrator.
    #[n(13)]
    PlanRefused,
}

/// One write to a control, as journaled.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnforcementWrite {
    /// The plan that asked for it.
    #[n(0)]
    pub plan: Option<PlanId>,
    /// The grant that asked for it.
    #[n(1)]
    pub grant: Option<GrantId>,
    /// The cgroup.
    #[n(2)]
    pub cgroup: CgroupPath,
    /// Who wrote.
    #[n(3)]
    pub backend: BackendKind,
    /// The kernel's file name.
    #[n(4)]
    pub control: Name,
    /// The value before.
    #[n(5)]
    pub before: Option<ControlValue>,
    /// The value asked for (the setpoint).
    #[n(6)]
    pub after: ControlValue,
    /// The value read back.
    #[n(7)]
    pub actual: Option<ControlValue>,
    /// Whether the kernel acts on it.
    #[n(8)]
    pub effective: bool,
    /// `CLOCK_BOOTTIME` of the write, ms.
    #[n(9)]
    pub at_ms: u64,
    /// Not written: only shown (dry run).
    #[n(10)]
    pub dry_run: bool,
}

/// A request that waits for a grant: what an application asks, and what the kernel says of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PendingRequest {
    /// Made by the agent when the application asked; the same in every envelope that repeats it.
    #[n(0)]
    pub id: RequestId,
    /// The peer's uid.
    #[n(1)]
    pub uid: u32,
    /// The peer's gid.
    #[n(2)]
    pub gid: u32,
    /// The peer's pid.
    #[n(3)]
    pub pid: u32,
    /// The peer's start time, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    #[n(4)]
    pub start_time_ticks: u64,
    /// The peer's cgroup when it asked.
    #[n(5)]
    pub cgroup: CgroupPath,
    /// The systemd unit of that cgroup.
    #[n(6)]
    pub unit: Option<Name>,
    /// What it calls itself: a claim only.
    #[n(7)]
    pub name: Option<Name>,
    /// Its service class.
    #[n(8)]
    pub class: Class,
    /// What it asks for.
    #[n(9)]
    pub resources: Resources,
}

/// What the host says it has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HostFacts {
    /// Its name.
    #[n(0)]
    pub hostname: Name,
    /// Kernel release.
    #[n(1)]
    pub kernel: Name,
    /// Online CPUs, in thousandths.
    #[n(2)]
    pub cpu_millicores: u64,
    /// Memory, bytes.
    #[n(3)]
    pub memory_bytes: u64,
    /// Distribution and version (`PRETTY_NAME`).
    #[n(4)]
    pub os: Option<Name>,
}
