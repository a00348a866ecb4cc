//! The routes of the agent's local sockets: applications on one, root alone on the other.
//!
//! Who asks comes from the kernel (the peer's uid, pid and cgroup), never from a body.

use serde::{Deserialize, Serialize};

use super::route::{Empty, Nothing, routes};
use crate::envelope::{BackendKind, Hierarchy, Mode, Name};
use crate::id::{Digest, GrantId, HostId, PlanId, RequestId};
use crate::metric::Gauge;
use crate::plan::{ShapedControl, Target};
use crate::units::{Class, Resources};

routes! { LOCAL_ROUTES:
    AskGrant Post "/v1/requests" Peer (GrantRequest) -> (RequestReply)
        "Asks for resources: waits until the verifier has answered, at most `wait_ms`.";
    ShowGrant Get "/v1/grants/{id}" Peer (Nothing) -> (LocalGrant)
        "The caller's own grant.";
    ReleaseGrant Delete "/v1/grants/{id}" Peer (Nothing) -> (Empty)
        "Gives the caller's own grant back.";
    WatchGrant Get "/v1/grants/{id}/events" Peer (Nothing) => (LocalGrant)
        "The caller's own grant each time it changes, one JSON object a line, until it ends.";
    EnterGrant Post "/v1/grants/{id}/enter" Peer (Nothing) -> (LocalGrant)
        "Moves the connected peer itself into the grant's cgroup.";
    StateGauges Post "/v1/grants/{id}/gauges" Peer (GaugeStatement) -> (GaugesHeld)
        "States the caller's own gauges, from within the cgroup of its own grant; each stands for 15 s, then it is a gap.";
}

routes! { ADMIN_ROUTES:
    ShowAgent Get "/v1/agent" Peer (Nothing) -> (AgentView)
        "What the agent is, how it fares, and what it holds.";
    RestoreAll Post "/v1/restore" Peer (Nothing) -> (RestoreReply)
        "Puts back the state before Quotary and enforces nothing until the agent is started again.";
}

/// Asks for resources.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// What is asked for.
    pub resources: Resources,
    /// The service class.
    #[serde(default)]
    pub class: Class,
    /// What the application calls itself: a claim only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// How long to wait for an answer, ms (at most 300 000).
    pub wait_ms: u64,
}

/// What came of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum RequestReply {
    /// It was granted.
    Granted {
        /// The grant.
        grant: LocalGrant,
    },
    /// The verifier refused it.
    Refused {
        /// The request.
        request: RequestId,
        /// Why.
        error: super::Error,
    },
    /// There was no answer in time; the request is withdrawn.
    NoAnswer {
        /// The request.
        request: RequestId,
        /// Why there may be none.
        detail: String,
    },
}

/// A grant as its application sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalGrant {
    /// The grant.
    pub grant: GrantId,
    /// Its short form.
    pub id: String,
    /// The application, by the verifier's rule.
    pub application: String,
    /// The tenant.
    pub tenant: String,
    /// The class.
    pub class: Class,
    /// What it may use.
    pub resources: Resources,
    /// What is left of the lease, ms.
    pub lease_left_ms: u64,
    /// The cgroup that carries the limits; absent where nothing is enforced.
    pub cgroup: Option<String>,
    /// Who owns that cgroup and sets its limits; absent where there is none, and from an agent that does not say.
    #[serde(default)]
    pub backend: Option<BackendKind>,
    /// How far the agent goes.
    pub mode: Mode,
    /// Whether it still holds.
    pub state: GrantState,
    /// Each control's value as asked, as read back, and whether the kernel acts on it.
    pub controls: Vec<ControlView>,
}

/// Whether a grant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantState {
    /// It holds.
    Running,
    /// It has ended: released, expired or revoked.
    Ended,
}

/// One control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlView {
    /// The kernel's file name.
    pub control: String,
    /// What was asked for.
    pub requested: String,
    /// What the kernel shows.
    pub actual: Option<String>,
    /// Whether the kernel acts on it.
    pub effective: bool,
}

/// What an application says of itself now: only what it names is stated, and what it stated before stands its time.
///
/// It is the application's own word: it is signed with the host's evidence and recorded, and never sizes a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaugeStatement {
    /// Requests that it takes, per minute (at most 10^12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// What fails of what it does, per minute (at most 10^12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors_per_minute: Option<u64>,
    /// What one request takes, microseconds (at most a day): a mean or a percentile, always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_latency_microseconds: Option<u64>,
}

impl GaugeStatement {
    /// What it says of one gauge.
    pub const fn get(&self, gauge: Gauge) -> Option<u64> {
        match gauge {
            Gauge::RequestsPerMinute => self.requests_per_minute,
            Gauge::ErrorsPerMinute => self.errors_per_minute,
            Gauge::RequestLatencyMicroseconds => self.request_latency_microseconds,
        }
    }

    /// Each gauge that it states, with its value.
    pub fn stated(&self) -> impl Iterator<Item = (Gauge, u64)> {
        Gauge::ALL.into_iter().filter_map(|gauge| Some((gauge, self.get(gauge)?)))
    }
}

/// What became of a statement of gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugesHeld {
    /// How long the values stand from now on, ms, unless they are stated again.
    pub held_for_ms: u64,
}

/// The agent, for root on its host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentView {
    /// The host's id, once enrolled.
    pub host: Option<HostId>,
    /// Its short form.
    pub id: Option<String>,
    /// Version.
    pub version: String,
    /// How far it goes.
    pub mode: Mode,
    /// Why it goes no further, where that is so.
    pub why_not: Option<String>,
    /// Who writes.
    pub backend: BackendKind,
    /// Which hierarchy.
    pub hierarchy: Hierarchy,
    /// Last committed sequence number.
    pub sequence: u64,
    /// How long since the verifier last accepted evidence, ms.
    pub last_accepted_ms_ago: Option<u64>,
    /// What the verifier said last when it refused.
    pub last_refusal: Option<super::Error>,
    /// Whether the TPM is in dictionary-attack lockout.
    pub tpm_in_lockout: bool,
    /// The TPM's maker.
    pub tpm_manufacturer: String,
    /// Pid of the software TPM, if the agent runs one.
    pub tpm_child_pid: Option<u32>,
    /// How long the last quotes took, microseconds, oldest first (at most 1024).
    pub quote_us: Vec<u64>,
    /// From a request's arrival to its controls being read back, microseconds, oldest first (at most 1024).
    pub request_to_enforced_us: Vec<u64>,
    /// Grants held.
    pub grants: Vec<LocalGrant>,
    /// What plans move here.
    #[serde(default)]
    pub targets: Vec<ShapedTarget>,
    /// Plans that were given and are not followed.
    #[serde(default)]
    pub not_followed: Vec<PlanNotFollowed>,
    /// Who decides about policies, as this host has pinned it; absent where nobody has told it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PinnedAuthority>,
    /// Why who decides is not known here, or not as far as the verifier knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_why_not: Option<String>,
    /// Controls that this host has not, or not for each unit, as far as it is known why.
    #[serde(default)]
    pub unsupported: Vec<UnsupportedControl>,
}

/// Who decides about policies: what a host holds quorum decisions against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedAuthority {
    /// How many times roster or rules were changed.
    pub number: u64,
    /// SHA-256 of the roster.
    pub roster: Digest,
    /// SHA-256 of the quorum rules.
    pub rules: Digest,
}

/// A control that a host has not, or not for each unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsupportedControl {
    /// Which.
    pub control: ShapedControl,
    /// Why, in a sentence.
    pub why: String,
}

/// What a plan moves, as it stands on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapedTarget {
    /// What is moved.
    pub target: Target,
    /// The plan that it follows.
    pub plan: PlanId,
    /// Its short form.
    pub id: String,
    /// Who writes.
    pub backend: BackendKind,
    /// Its cgroup.
    pub cgroup: String,
    /// How long in all pressure has held it under this plan, ms.
    pub held_ms: u64,
    /// Each control.
    pub controls: Vec<ShapedControlView>,
}

/// One control that a plan moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapedControlView {
    /// The control.
    pub control: ShapedControl,
    /// The unit of its values.
    pub unit: String,
    /// How it stands: `moving`, `held`, `contested`, `given-up`, `reached`, `unsupported`, `decaying`, `at-baseline`.
    pub standing: String,
    /// What holds it, or made it give up: `memory-pressure`, `cpu-pressure`, `io-pressure`, `throttled`,
    /// `out-of-memory`, `oomd`, `reclaim-stalled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was written last, or found when nothing was written yet; in `observe` and `dry-run`, what would have been.
    /// Null: no limit.
    pub present: Option<u64>,
    /// Where the plan's line was at the last tick, within the host's own bounds; null while none moves it.
    pub setpoint: Option<u64>,
    /// Where the plan takes it, within the host's own bounds; null while none moves it.
    pub target: Option<u64>,
    /// What it goes back to. Null: no limit.
    pub baseline: Option<u64>,
    /// How late it is, ms; absent while it is in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_by_ms: Option<u64>,
}

/// A plan that was given and is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNotFollowed {
    /// What it would move.
    pub target: Target,
    /// The plan.
    pub plan: PlanId,
    /// Its short form.
    pub id: String,
    /// Why.
    pub why: String,
}

/// What was put back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreReply {
    /// How many grants were ended.
    pub grants: u64,
    /// How many units and groups have their own values again.
    #[serde(default)]
    pub targets: u64,
    /// What could not be put back, by name; of very many the first.
    #[serde(default)]
    pub left: Vec<String>,
}
