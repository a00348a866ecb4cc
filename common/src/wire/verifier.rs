//! The verifier's routes (wire.md, Routes of the first line).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agent::{
    ActivationRequest, EnrolmentChallenge, EnrolmentReply, EnrolmentRequest, EvidenceReply, EvidenceRequest, NonceReply,
};
use super::anomaly::AnomaliesView;
use super::appraisal::{AppraisalView, RevocationReply, RevocationRequest, ZoneCheckReply, ZoneCheckRequest};
use super::change::{
    AuthorityReply, AuthorityView, ChangePreview, ChangeRequest, ChangeSummary, ChangeView, PolicyView,
    QuorumDecisionReply, QuorumDecisionsReply, VoteRequest,
};
use super::event::{HostEvent, WebhookView};
use super::forecast::HourlyForecasts;
use super::history::HistoryView;
use super::model::{ModelRequest, ModelsView, PromotionRequest, RollbackRequest};
use super::plan::{PlanRequest, PlanView};
use super::report::ReportView;
use super::route::{Base64, Nothing, Right, routes};
use crate::envelope::{BackendKind, Hierarchy, Mode, WitnessedCheckpoint};
use crate::id::{BootId, DeploymentId, Digest, GrantId, HostId, TokenId};
use crate::limits::{CHANGE_BODY_BYTES_MAX, MODEL_BODY_BYTES_MAX, ZONE_CHECK_BODY_BYTES_MAX};
use crate::units::{Class, Resources};

routes! { VERIFIER_ROUTES:
    BeginEnrolment Post "/v1/enrolments" Join (EnrolmentRequest) -> (EnrolmentChallenge)
        "Begins an enrolment: checks the EK chain and the AK, and answers a credential that only this TPM can activate.";
    ActivateEnrolment Post "/v1/enrolments/{id}/activation" Join (ActivationRequest) -> (EnrolmentReply)
        "Ends an enrolment with the activated credential; a wrong one deletes the enrolment and tells nothing.";
    AskNonce Post "/v1/hosts/{id}/nonce" Host (Nothing) -> (NonceReply)
        "A fresh nonce for the host's next evidence, and what that evidence must follow.";
    SendEvidence Post "/v1/hosts/{id}/evidence" Host (EvidenceRequest) -> (EvidenceReply)
        "Evidence in; verdict, grant set, plans and the next nonce out.";
    ListHosts Get "/v1/hosts" Read (Nothing) -> (Vec<HostView>)
        "All enrolled hosts with their verdicts.";
    ShowHost Get "/v1/hosts/{id}" Read (Nothing) -> (HostView)
        "One host.";
    ShowEvidence Get "/v1/hosts/{id}/evidence/{digest}" Read (Nothing) -> (EvidenceView)
        "One evidence as it is kept; `latest` names the last accepted.";
    ShowAppraisal Get "/v1/hosts/{id}/appraisal" Read (Nothing) -> (AppraisalView)
        "How the host stood in each zone by its last evidence: which check failed, on which event, and what would satisfy it.";
    ShowResult Get "/v1/hosts/{id}/result" Read (Nothing) -> (ResultReply)
        "The host's attestation result: an EAR as a signed JWT.";
    ShowResultKeys Get "/v1/jwks.json" Read (Nothing) -> (JwkSet)
        "The keys that sign attestation results (RFC 7517).";
    RevokeHost Post "/v1/hosts/{id}/revocation" Admin (RevocationRequest) -> (RevocationReply)
        "Revokes a host: its epoch rises, its grants end, and nothing of it is accepted until it enrols with a new token.";
    CheckZones Post "/v1/zones/check" Admin (ZoneCheckRequest) -> (ZoneCheckReply)
        "A dry run: how hosts would stand in zones that are not in force, by their recorded evidence. Nothing changes." at most ZONE_CHECK_BODY_BYTES_MAX;
    ListGrants Get "/v1/grants" Read (Nothing) -> (Vec<GrantView>)
        "All grants that hold capacity.";
    ListPlans Get "/v1/plans" Read (Nothing) -> (Vec<PlanView>)
        "All shaping plans that are given, and those that ended within a day, with the last attested write of each control.";
    ShowPlan Get "/v1/plans/{id}" Read (Nothing) -> (PlanView)
        "One shaping plan.";
    DraftPlan Post "/v1/plans" Admin (PlanRequest) -> (PlanView)
        "Drafts a shaping plan by hand for one unit or group of a host: straight lines from what is there to the values.";
    CancelPlan Delete "/v1/plans/{id}" Admin (Nothing) -> (PlanView)
        "Cancels a shaping plan: the host puts back what was before.";
    ShowReport Get "/v1/report{?host}" Read (Nothing) -> (ReportView)
        "What plans and grants would have limited on hosts that only watch (`observe`, `dry-run`), by their windows; of one host or all.";
    ListForecasts Get "/v1/forecasts" Read (Nothing) -> (Vec<ForecastView>)
        "The current forecast of each host and application, and of the sums of tenants and pools.";
    ListHourlyForecasts Get "/v1/forecasts/hourly{?host,subject,resource,hours,after}" Read (Nothing) -> (HourlyForecasts)
        "Forecasts of the next `hours` (24; at most 168), hour by hour, page by page: of all or of one `host`, `subject` (as in history) and `resource`; `after` is the page before's `next`.";
    ShowHistory Get "/v1/history{?host,subject,resource,resolution,from,after}" Read (Nothing) -> (HistoryView)
        "Metric history, page by page: points of one `minute` (default), `step` or `hour`, from Unix ms `from` on, of all or of one `host`, `subject` (`host`, a cgroup's path, `tenant:NAME`, `pool:NAME`) and `resource`; `after` is the page before's `next`.";
    ListAnomalies Get "/v1/anomalies{?host,since}" Read (Nothing) -> (AnomaliesView)
        "Alarms of series that behaved oddly, the newest first, at most 1,000; of one `host`, told from Unix ms `since` on; and how many series are judged or still warming up.";
    ListModels Get "/v1/models" Read (Nothing) -> (ModelsView)
        "The models that forecast and are tried, how good their forecasts were, and what the contest between them comes to.";
    ShadowModel Post "/v1/models/challenger" Admin (ModelRequest) -> (ModelsView)
        "Tries a model beside the one that forecasts, on the same series; nothing else changes." at most MODEL_BODY_BYTES_MAX;
    WithdrawModel Delete "/v1/models/challenger" Admin (Nothing) -> (ModelsView)
        "Ends the trial of a model.";
    PromoteModel Post "/v1/models/promotion" Admin (PromotionRequest) -> (ModelsView)
        "Lets the model that is tried forecast, if it is proven better.";
    RollBackModel Post "/v1/models/rollback" Admin (RollbackRequest) -> (ModelsView)
        "Lets the model forecast again that did before.";
    ShowAuthority Get "/v1/authority" Read (Nothing) -> (AuthorityView)
        "Who decides about changes: the roster and the quorum rules in force, and the roster's keys as `ssh-keygen -Y verify` reads them.";
    AskAuthority Get "/v1/hosts/{id}/authority{?after}" Host (Nothing) -> (AuthorityReply)
        "What a host needs to check quorum decisions: the first roster and rules as the root signed them, and the decisions since, from number `after` (0) on, page by page.";
    ListQuorumDecisions Get "/v1/hosts/{id}/quorum-decisions" Host (Nothing) -> (QuorumDecisionsReply)
        "Which quorum decisions are in force that may reach the host, by the SHA-256 of their texts.";
    ShowQuorumDecision Get "/v1/hosts/{id}/quorum-decisions/{text}" Host (Nothing) -> (QuorumDecisionReply)
        "One of them, by the SHA-256 of its text.";
    ListPolicies Get "/v1/policies" Read (Nothing) -> (Vec<PolicyView>)
        "The policies in force, with their documents, whom they hold for, and how what they hold for fares.";
    ListChanges Get "/v1/changes{?state}" Read (Nothing) -> (Vec<ChangeSummary>)
        "Changes of policies, roster and rules, the newest first; those of one `state`, or all that are kept.";
    ShowChange Get "/v1/changes/{id}" Read (Nothing) -> (ChangeView)
        "One change: the text that people sign, its impact, its votes, and what the quorum comes to.";
    PreviewChange Get "/v1/changes/{id}/preview" Read (Nothing) -> (ChangePreview)
        "What the plans of a change would be, or are: setpoints over the forecast of demand.";
    ProposeChange Post "/v1/changes" Change (ChangeRequest) -> (ChangeView)
        "Proposes a change: its impact is computed, and what nobody could approve or nothing could satisfy is refused with the reason." at most CHANGE_BODY_BYTES_MAX;
    EditChange Post "/v1/changes/{id}/edits" Change (ChangeRequest) -> (ChangeView)
        "Edits a change: another text; approvals of the one before are dismissed." at most CHANGE_BODY_BYTES_MAX;
    CastVote Post "/v1/changes/{id}/votes" Change (VoteRequest) -> (ChangeView)
        "Hands in a vote: an SSH signature over exactly the change's text. Whose it is follows from its key.";
    WithdrawChange Delete "/v1/changes/{id}" Change (Nothing) -> (ChangeView)
        "Takes a change back before it is in force: limits that moved go back.";
    WatchEvents Get "/v1/events{?from}" Read (Nothing) => (HostEvent)
        "Events of hosts from leaf `from` on (without it: from now on), as server-sent events; `Last-Event-ID` resumes.";
    ShowStatus Get "/v1/status" Read (Nothing) -> (StatusView)
        "What the verifier is, how it fares, and how large its log is.";
    MakeJoinToken Post "/v1/join-tokens" Admin (JoinTokenRequest) -> (TokenReply)
        "Makes a join token for one host, with its best zone and its inventory.";
    MakeOperatorToken Post "/v1/operator-tokens" Admin (OperatorTokenRequest) -> (TokenReply)
        "Makes an operator token with rights and an end.";
    ShowCheckpoint Get "/v1/audit/checkpoint" Audit (Nothing) -> (CheckpointView)
        "The newest signed checkpoint of the audit log (C2SP signed note).";
    ShowTile Get "/v1/audit/tile/{*path}" Audit (Nothing) -> (Base64)
        "A tile or entry bundle of the audit log (C2SP tlog-tiles).";
    ShowLeaf Get "/v1/audit/leaves/{n}" Audit (Nothing) -> (LeafView)
        "One leaf of the audit log.";
    ShowOpenApi Get "/v1/openapi.json" Read (Nothing) -> (serde_json::Value)
        "This table as an OpenAPI document.";
}

/// Asks for a join token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The best zone that the host may enter.
    pub zone: String,
    /// What the operator knows of it.
    pub inventory: Inventory,
    /// How long the token may be used, ms.
    pub valid_for_ms: u64,
}

/// What the operator knows of a host: the capacity that is granted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Labels, such as `region = "north"`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it has.
    pub capacity: Resources,
}

/// Asks for an operator token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorTokenRequest {
    /// For whom, as it will stand in the log.
    pub name: String,
    /// What it may do: `read`, `audit`, `admin`; `change`, for which the name must be that of a person on the roster.
    pub rights: Vec<Right>,
    /// How long it holds, ms.
    pub valid_for_ms: u64,
}

/// A token that was made: its text is shown once and kept nowhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenReply {
    /// Its public id.
    pub id: TokenId,
    /// The secret text.
    pub token: String,
    /// Until when it holds, Unix ms.
    pub not_after_ms: u64,
}

/// A host as operators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostView {
    /// The id.
    pub host: HostId,
    /// Its short form.
    pub id: String,
    /// Its name, as it says itself.
    pub hostname: Option<String>,
    /// The zone that it is in; absent when it is not trusted now.
    pub zone: Option<String>,
    /// The best zone that it may enter.
    pub zone_best: String,
    /// `hardware`, `software`, or `uncertified`: by the CA that issued its EK certificate.
    pub tpm: String,
    /// Whether its trust holds now.
    pub trusted: bool,
    /// Until when it holds, Unix ms.
    pub valid_until_ms: Option<u64>,
    /// Last committed sequence number.
    pub sequence: u64,
    /// Name of the last accepted evidence.
    pub evidence: Option<Digest>,
    /// When it was committed, Unix ms.
    pub evidence_at_ms: Option<u64>,
    /// Fencing number.
    pub epoch: u64,
    /// Its boot.
    pub boot_id: Option<BootId>,
    /// The last refusal, until the next accepted evidence.
    pub last_refusal: Option<super::Error>,
    /// Findings of the last accepted evidence.
    pub findings: Vec<String>,
    /// How it enforces.
    pub mode: Option<Mode>,
    /// Who writes its controls.
    pub backend: Option<BackendKind>,
    /// Which hierarchy.
    pub hierarchy: Option<Hierarchy>,
    /// Agent version.
    pub agent_version: Option<String>,
    /// What it has.
    pub inventory: Inventory,
    /// What is granted of it.
    pub granted: Resources,
    /// Number of accepted evidences since this verifier started.
    pub accepted: u64,
    /// Number of refused ones.
    pub refused: u64,
}

/// An attestation result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResultReply {
    /// The EAR as a signed JWT (compact serialisation).
    pub ear: String,
}

/// The keys that sign attestation results (RFC 7517).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys.
    pub keys: Vec<serde_json::Value>,
}

/// One kept evidence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EvidenceView {
    /// Its name.
    pub digest: Digest,
    /// The host.
    pub host: HostId,
    /// Canonical bytes.
    pub evidence: Base64,
}

/// A grant that holds capacity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrantView {
    /// The grant.
    pub grant: GrantId,
    /// Its short form.
    pub id: String,
    /// The host.
    pub host: HostId,
    /// The application.
    pub application: String,
    /// The tenant.
    pub tenant: String,
    /// The class.
    pub class: Class,
    /// What it may use.
    pub resources: Resources,
    /// What was asked for.
    pub requested: Resources,
    /// How long a lease is, ms.
    pub lease_ms: u64,
    /// Until when the capacity is held for it without further evidence, Unix ms.
    pub held_until_ms: u64,
    /// Whether a higher epoch has ended it: it only holds capacity then.
    #[serde(default)]
    pub revoked: bool,
    /// The epoch under which it was given.
    pub epoch: u64,
    /// Why it has this size.
    pub why: String,
}

/// A forecast of one series.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForecastView {
    /// The host; absent for the sum of a tenant or a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// The application's cgroup; absent for the host, for a sum, and for a grant that nothing was seen of yet.
    pub cgroup: Option<String>,
    /// The tenant whose applications are summed, on whatever host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The pool whose hosts are summed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The grant, if the application runs under one.
    pub grant: Option<GrantId>,
    /// What is forecast: `cpu_millicores`, `memory_bytes`, `storage_bytes`, `disk_bytes_per_second`,
    /// `network_bits_per_second`; or what an application states: `requests_per_minute`, `errors_per_minute`,
    /// `request_latency_microseconds`.
    pub resource: String,
    /// `model` or `ewma`, whichever has the greater share; `climatology` (of what little is known, and of series like this one) or
    /// `declared` (the request) for a series that is too young for both.
    pub method: String,
    /// Whether the series has too little history of its own: `climatology` and `declared`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insufficient_history: bool,
    /// Name of the model, where one has a share in the answer.
    pub model: Option<String>,
    /// SHA-256 of the model, where one has a share in the answer.
    pub model_sha256: Option<String>,
    /// One step, seconds.
    pub interval_s: u64,
    /// Quantile levels of the steps.
    pub quantile_levels: Vec<f64>,
    /// Per step, one value for each level.
    pub steps: Vec<Vec<f64>>,
    /// Quantile levels of the peaks.
    pub peak_levels: Vec<f64>,
    /// Peak over so many seconds from now, one value for each level.
    pub peaks: BTreeMap<String, Vec<f64>>,
    /// Points of the series' own history it rests on.
    pub history_rows: u64,
    /// Age of the oldest, seconds.
    pub history_age_s: u64,
}

/// The newest checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckpointView {
    /// The signed note.
    pub note: String,
    /// The verifier's key certificate, for the log key (canonical [`crate::sign::Signed`]).
    pub keys: Base64,
    /// The deployment root key, hexadecimal: pin it from elsewhere.
    pub root_key: String,
}

/// One leaf.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeafView {
    /// Its index.
    pub n: u64,
    /// Canonical bytes.
    pub leaf: Base64,
}

/// What the verifier is and how it fares.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The verifier's name.
    pub verifier: String,
    /// Its version.
    pub version: String,
    /// Since when it runs, Unix ms.
    pub started_at_ms: u64,
    /// Its clock, Unix ms.
    pub now_ms: u64,
    /// Enrolled hosts.
    pub hosts: u64,
    /// Hosts whose trust holds.
    pub hosts_trusted: u64,
    /// Grants that hold capacity.
    pub grants: u64,
    /// Evidence accepted since the start.
    pub accepted: u64,
    /// Evidence refused since the start.
    pub refused: u64,
    /// The log.
    pub audit: WitnessedCheckpoint,
    /// The highest checkpoint that a host has witnessed.
    pub witnessed: Option<WitnessedCheckpoint>,
    /// The forecast model, or why there is none.
    pub model: String,
    /// After a restart or restore nothing is reallocated before this, Unix ms.
    pub holds_until_ms: u64,
    /// Event streams that are open.
    #[serde(default)]
    pub event_streams: u64,
    /// The webhooks, in the order of the configuration.
    #[serde(default)]
    pub webhooks: Vec<WebhookView>,
}
