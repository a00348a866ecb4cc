//! API: routes, rights, bounds; what a caller may see and ask.
//!
//! Does: mounts every route of the table with the check of its right, reads bodies within bounds, and turns
//! refusals into replies with their status.
//! May assume: nothing of a request; of a connection, that its client key signed the handshake.
//! Promises: no handler runs before its route's right holds; every reply that is no success is a
//! [`quotary_common::wire::Error`]; a refusal whose leaf is due is durable before it is answered; a stream tells
//! what is committed only, and who reads it slowly loses it, not memory of ours.
//! Must never: hold a caller's bytes beyond the bound; tell one caller about another's secrets.

mod anomalies;
mod auth;
mod changes;
mod enrolments;
mod events;
mod evidence;
mod forecasts;
mod history;
mod models;
mod mount;
mod openapi;
mod places;
mod plans;
mod report;
mod results;
mod serve;
mod views;
mod zones;

use std::sync::Arc;

use axum::Router;
use quotary_common::id::{DeploymentId, Digest};
use quotary_common::quorum::vote::SignatureCache;
use quotary_common::reason::Refusal;
use quotary_common::sign::{PublicKey, SigningKey};
use quotary_common::tpm::PcrSelection;
use quotary_common::wire;
use quotary_decide::attest::{EkAllowList, TrustRoots};
use tokio_util::sync::CancellationToken;

pub use events::Streams;
pub use mount::routes_mounted;
pub use serve::{ServeError, serve};

use crate::clock::Clock;
use crate::config::{AlarmRules, Times};
use crate::core::{AuditLog, Command, EventLog, Ground, Queue, View};
use crate::planner::{LeftOut, Previews, Watched};
use crate::predict::{Contest, Feed, Judged};
use crate::store::Reader;
use crate::webhook::WebhookState;

/// What handlers have at hand.
pub struct App {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The verifier's name.
    pub name: String,
    /// How it is reached.
    pub url: String,
    /// The root's public key.
    pub root: PublicKey,
    /// What the root says of the verifier's keys.
    pub certificate: Vec<u8>,
    /// SHA-256 of the SPKI of the TLS CA.
    pub ca_spki: Digest,
    /// MACs nonces.
    pub nonce_key: quotary_common::nonce::NonceKey,
    /// Who certifies EKs.
    pub roots: TrustRoots,
    /// The only EKs that are admitted, if there is a list.
    pub ek_allow_list: Option<EkAllowList>,
    /// Names of the zones.
    pub zones: Vec<String>,
    /// Signs attestation results.
    pub result_key: SigningKey,
    /// What a quote must cover.
    pub selection: PcrSelection,
    /// Times.
    pub timing: Times,
    /// The clock.
    pub clock: Clock,
    /// Which models forecast and are tried, and how they fare.
    pub contest: Contest,
    /// To the writer.
    pub queue: Queue,
    /// What was committed.
    pub view: Arc<View>,
    /// The log.
    pub audit: Arc<AuditLog>,
    /// How often anomalies alarm, and how long they warn.
    pub alarm_rules: AlarmRules,
    /// How many series are judged.
    pub judged: Judged,
    /// What no chunk of history holds yet.
    pub feed: Feed,
    /// Kept evidence.
    pub reader: std::sync::Mutex<Box<dyn Reader>>,
    /// What is told of the log.
    pub events: Arc<EventLog>,
    /// Places for event streams.
    pub streams: Streams,
    /// How the webhooks fare.
    pub webhooks: Vec<Arc<WebhookState>>,
    /// Ends what does not end by itself.
    pub stop: CancellationToken,
    /// Enrolments that wait for their activation.
    pub pending: enrolments::PendingEnrolments,
    /// Zones, applications and forecasts: what policies are held against.
    pub ground: Ground,
    /// What was seen of policies' use.
    pub watched: Watched,
    /// For what changes have no plan.
    pub left_out: LeftOut,
    /// Signature checks of votes that held.
    pub signatures: std::sync::Mutex<SignatureCache>,
    /// Shows plans as they would be.
    pub previews: Previews,
    /// Dry runs of zones at once.
    pub zone_checks: Arc<tokio::sync::Semaphore>,
}

pub use enrolments::PendingEnrolments;

impl App {
    /// Counts a refusal and, where its leaf is due, has it committed; returns what is answered.
    async fn refuse(
        &self,
        host: Option<&quotary_common::id::HostId>,
        what: &'static str,
        refusal: Refusal,
        input: &[u8],
    ) -> Refusal {
        let Some(count) = self.view.count_refused(host, what, &refusal, self.clock.now_ms()) else { return refusal };
        let (host, refused, input) = (host.copied(), refusal.clone(), View::input(input));
        let committed =
            self.queue.ask(|answer| Command::Refused { host, what, refusal: refused, input, count, answer }).await;
        // What cannot be made durable is not answered as if it were.
        committed.err().unwrap_or(refusal)
    }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let mut mount = mount::Mount::new(app);
    mount.route::<wire::BeginEnrolment, _, _>(enrolments::begin);
    mount.route::<wire::ActivateEnrolment, _, _>(enrolments::activate);
    mount.route::<wire::AskNonce, _, _>(evidence::nonce);
    mount.route::<wire::SendEvidence, _, _>(evidence::send);
    mount.route::<wire::ListHosts, _, _>(views::hosts);
    mount.route::<wire::ShowHost, _, _>(views::host);
    mount.route::<wire::ShowEvidence, _, _>(views::evidence);
    mount.route::<wire::ShowAppraisal, _, _>(results::appraisal);
    mount.route::<wire::ShowResult, _, _>(results::result);
    mount.route::<wire::ShowResultKeys, _, _>(results::keys);
    mount.route::<wire::RevokeHost, _, _>(results::revoke);
    mount.route::<wire::CheckZones, _, _>(zones::check);
    mount.route::<wire::ListGrants, _, _>(views::grants);
    mount.route::<wire::ListPlans, _, _>(plans::list);
    mount.route::<wire::ShowPlan, _, _>(plans::show);
    mount.route::<wire::DraftPlan, _, _>(plans::draft);
    mount.route::<wire::CancelPlan, _, _>(plans::cancel);
    mount.route::<wire::ShowReport, _, _>(report::report);
    mount.route::<wire::ListForecasts, _, _>(forecasts::list);
    mount.route::<wire::ListHourlyForecasts, _, _>(forecasts::by_hour);
    mount.route::<wire::ShowHistory, _, _>(history::history);
    mount.route::<wire::ListAnomalies, _, _>(anomalies::list);
    mount.route::<wire::ListModels, _, _>(models::list);
    mount.route::<wire::ShadowModel, _, _>(models::shadow);
    mount.route::<wire::WithdrawModel, _, _>(models::withdraw);
    mount.route::<wire::PromoteModel, _, _>(models::promote);
    mount.route::<wire::RollBackModel, _, _>(models::roll_back);
    mount.route::<wire::ShowAuthority, _, _>(changes::authority);
    mount.route::<wire::AskAuthority, _, _>(changes::links);
    mount.route::<wire::ListQuorumDecisions, _, _>(changes::in_force);
    mount.route::<wire::ShowQuorumDecision, _, _>(changes::decision);
    mount.route::<wire::ListPolicies, _, _>(changes::policies);
    mount.route::<wire::ListChanges, _, _>(changes::list);
    mount.route::<wire::ShowChange, _, _>(changes::show);
    mount.route::<wire::PreviewChange, _, _>(changes::preview);
    mount.route::<wire::ProposeChange, _, _>(changes::propose);
    mount.route::<wire::EditChange, _, _>(changes::edit);
    mount.route::<wire::CastVote, _, _>(changes::vote);
    mount.route::<wire::WithdrawChange, _, _>(changes::withdraw);
    mount.stream::<wire::WatchEvents, _, _>(events::watch);
    mount.route::<wire::ShowStatus, _, _>(views::status);
    mount.route::<wire::MakeJoinToken, _, _>(views::join_token);
    mount.route::<wire::MakeOperatorToken, _, _>(views::operator_token);
    mount.route::<wire::ShowCheckpoint, _, _>(views::checkpoint);
    mount.route::<wire::ShowTile, _, _>(views::tile);
    mount.route::<wire::ShowLeaf, _, _>(views::leaf);
    mount.route::<wire::ShowOpenApi, _, _>(openapi::document);
    mount.finish()
}
