//! Policies, who decides about them, and changes, as operators propose, see and sign them.

use serde::{Deserialize, Serialize};

use super::route::Base64;
use crate::id::{Digest, HostId, PlanId};
use crate::plan::{Setpoint, ShapedControl, Target};

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChangeSubject {
    /// Puts a policy document (TOML) in force, new or in the place of the one with its name.
    Policy(String),
    /// Takes the policy of this name out.
    Revoke(String),
    /// Puts another roster (TOML) in force.
    Roster(String),
    /// Puts other quorum rules (TOML) in force.
    Rules(String),
    /// Holds the change of this id where it is: one operator, for a time; reviewed afterwards.
    Freeze(String),
}

/// Proposes a change, or edits one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// What it would do.
    pub subject: ChangeSubject,
    /// By which way: `quorum` (where this is left out), `break-glass` or `freeze` (where the subject is one, and only there); the
    /// latter two end by themselves and are reviewed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// How long it lasts from its effective time on, ms: with `break-glass` and `freeze`, and only there; as long as its rules
    /// allow where that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_ms: Option<u64>,
    /// When it is to be in force, Unix ms; where that is left out, as early as its rule allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_at_ms: Option<u64>,
    /// What is applied with it, by digest: a saved plan of a provisioner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<ChangeInput>,
}

/// Something that is applied with a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeInput {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// What it is called.
    pub name: String,
}

/// A vote: an SSH signature over exactly the change's text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoteRequest {
    /// What it says: `approval`, `rejection`, `withdrawal`, `break-glass`, `review`.
    pub verb: String,
    /// What `ssh-keygen -Y sign` wrote, with its armour.
    pub signature: String,
}

/// A document in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentView {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its own number.
    pub version: u64,
    /// Its text (TOML).
    pub text: String,
}

/// Who decides: the roster and the rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityView {
    /// The roster.
    pub roster: DocumentView,
    /// The rules.
    pub rules: DocumentView,
    /// How many times one of them was changed.
    pub number: u64,
    /// The roster's keys as `ssh-keygen -Y verify -f` reads them.
    pub allowed_signers: String,
    /// The deployment's part of the namespace: `quotary-approval-v1@THIS`.
    pub namespace: String,
}

/// A policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// The document.
    pub document: DocumentView,
    /// Its criticality.
    pub criticality: String,
    /// Since when it is in force, Unix ms.
    pub since_ms: u64,
    /// The change that put it in force.
    pub change: String,
    /// What it holds for now.
    pub holds_for: Vec<HeldView>,
    /// What was seen of use against its thresholds: lines crossed, and whether it is idle.
    #[serde(default)]
    pub watched: Vec<String>,
    /// Documents with better numbers that are suggested for it, the newest last: proposed by somebody, they are changes like any other.
    #[serde(default)]
    pub drafts: Vec<String>,
}

/// A unit that a policy holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// The host.
    pub host: HostId,
    /// The application.
    pub application: String,
    /// Its tenant.
    pub tenant: String,
    /// The unit, or the group.
    pub target: Target,
    /// Whether the host meets the zone that the policy asks for: else nothing is guaranteed there.
    pub meets_zone: bool,
}

/// A change in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSummary {
    /// Its id, `c-…`.
    pub id: String,
    /// What it does: `create policy`, `alter policy`, `revoke policy`, `freeze`, `alter roster`, `alter rules`.
    pub kind: String,
    /// The policy's name; `roster` or `rules`.
    pub name: String,
    /// Where it stands: `proposed`, `approving`, `approved`, `shaping`, `in force`, `rejected`, `expired`, `withdrawn`, `revoked`;
    /// a freeze that is over has `ended`.
    pub state: String,
    /// Since when, Unix ms.
    pub since_ms: u64,
    /// By which way: `quorum`, `break-glass`, `freeze`.
    pub way: String,
    /// Why it is over or does not move, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Its criticality.
    pub criticality: String,
    /// Who asked for it.
    pub requester: String,
    /// When it was proposed, Unix ms.
    pub proposed_at_ms: u64,
    /// When it takes effect, Unix ms.
    pub effective_at_ms: u64,
    /// Until when it may be approved, Unix ms.
    pub approve_by_ms: u64,
    /// Until when it may be applied, Unix ms.
    pub apply_by_ms: u64,
    /// When it ends by itself, Unix ms: break-glass and freeze alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What the quorum comes to, in a few words.
    pub quorum: String,
}

/// A change with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// What a list shows of it.
    #[serde(flatten)]
    pub summary: ChangeSummary,
    /// SHA-256 of its text: what every vote signs.
    pub sha256: Digest,
    /// The text, byte for byte.
    pub text: String,
    /// What the quorum comes to, in words, line by line.
    pub explained: Vec<String>,
    /// What people sign with: namespaces are `quotary-VERB-v1@THIS`.
    pub namespace: String,
    /// Every vote, those that do not count too.
    pub votes: Vec<VoteView>,
    /// What it would do, line by line.
    pub impact: Vec<String>,
    /// The plans that were made for it.
    #[serde(default)]
    pub plans: Vec<PlanId>,
    /// What no plan could be made for, and why.
    #[serde(default)]
    pub without_plan: Vec<String>,
    /// Since when all of its units stand at their targets, Unix ms, as their hosts attested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aligned_at_ms: Option<u64>,
    /// The review that follows break-glass and freeze; absent where none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
    /// What whoever just voted is to know, where there is something: that he has said so before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The review of what did not wait for its quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewView {
    /// Where it stands: `to come` (nothing is in force yet), `due`, `overdue`, `done`, `done late`.
    pub state: String,
    /// Until when it is to be done, Unix ms.
    pub by_ms: u64,
    /// By so many people more.
    pub missing: u64,
    /// Whose review counts.
    pub by: Vec<String>,
    /// Who else may, with `quotary change review`: who may approve such a change in quiet times, but for those who asked for this one or said yes to it.
    pub may: Vec<String>,
    /// What follows if nobody does, or did, or what came of it.
    pub follows: String,
}

/// A vote as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteView {
    /// Who.
    pub person: String,
    /// With which key: `SHA256:…`, as `ssh-keygen -l` shows it.
    pub key: String,
    /// What it says.
    pub verb: String,
    /// When it came, Unix ms.
    pub cast_at_ms: u64,
    /// Whether it is counted.
    pub counted: bool,
    /// Why it is, or is not.
    pub reason: String,
    /// The text that it is for.
    pub sha256: Digest,
    /// The signature, with its armour: `ssh-keygen -Y verify` reads it.
    pub signature: String,
}

/// What the plans of a change are, or would be if it were approved now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangePreview {
    /// The change.
    pub id: String,
    /// Whether they are given; otherwise they are made from what is there now, and may come out otherwise.
    pub given: bool,
    /// When the change takes effect, Unix ms.
    pub effective_at_ms: u64,
    /// Each control of each target.
    pub courses: Vec<CoursePreview>,
    /// What no plan can be made for, and why.
    pub without: Vec<String>,
}

/// One control of one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CoursePreview {
    /// The host.
    pub host: HostId,
    /// The application.
    pub application: String,
    /// What is moved.
    pub target: Target,
    /// The control.
    pub control: ShapedControl,
    /// The unit of its values.
    pub unit: String,
    /// What holds today; absent: nothing does, so that it begins at what the host uses or has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
    /// When the plan starts, Unix ms.
    pub starts_at_ms: u64,
    /// The setpoints.
    pub setpoints: Vec<Setpoint>,
    /// The forecast of demand over the window, where there is one.
    pub band: Vec<BandPoint>,
    /// Where the forecast comes from.
    pub method: String,
}

/// What demand is forecast to be at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BandPoint {
    /// When, Unix ms.
    pub at_ms: u64,
    /// Half of the time it is below this.
    pub p50: f64,
    /// Nine times of ten.
    pub p90: f64,
    /// Ninety-nine times of a hundred.
    pub p99: f64,
}

/// What a host needs to check quorum decisions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuthorityReply {
    /// How many times roster or rules were changed.
    pub number: u64,
    /// What the deployment's root signed: the first roster and rules, by digest.
    pub genesis: Base64,
    /// The first roster (TOML).
    pub roster: Base64,
    /// The first rules (TOML).
    pub rules: Base64,
    /// The quorum decision of each change of roster or rules since, in order, from `after` on; as many as a reply holds.
    pub links: Vec<Base64>,
}

/// Which quorum decisions are in force that may reach a host, whether anything of theirs runs there yet or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuorumDecisionsReply {
    /// Stands for them, as in the reply to evidence; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Digest>,
    /// SHA-256 of the text of each.
    pub texts: Vec<Digest>,
}

/// A quorum decision in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuorumDecisionReply {
    /// Canonical bytes of [`crate::quorum::decision::QuorumDecision`]: claimed.
    pub decision: Base64,
}
