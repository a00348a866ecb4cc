//! The writer's working state, and what one command makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::cbor::{self, Bounded, Text, Version};
use quotary_common::id::{ChangeId, DeploymentId, Digest, HostId, TokenId};
use quotary_common::leaf::{
    Decision, GrantChange, Granted, Leaf, Refused, TokenMade, Verdict, VerdictChanged, Verdicts,
};
use quotary_common::reason::Refusal;
use quotary_common::sign::SigningKey;
use quotary_common::wire::AppraisalView;
use quotary_decide::alarm::AlarmBook;
use quotary_decide::allocate::{Book, GrantRecord};
use quotary_decide::attest::LearnedReferences;
use quotary_decide::change;
use quotary_decide::observe::Observed;
use quotary_decide::policy::Runs;
use quotary_decide::registry::{Admission, Host, RefusalMeter, TokenRecord, TokenScope};
use quotary_decide::shape::{PlanBook, PlanRecord};

use super::anomalies::AlarmChange;
use super::command::Answer;
use super::plans::Reply;
use super::standing::Ground;
use super::tables::{self, grant_key};
use crate::config::Times;
use crate::predict::{Contest, ModelSet};
use crate::store::{Batch, Partition};
use crate::teller::{Tell, Told};

/// What does not change while the writer runs.
#[derive(Debug)]
pub struct Settings {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Signs grant sets.
    pub grant_key: SigningKey,
    /// Who certifies EKs, and which are admitted.
    pub admission: Admission,
    /// Zones, applications and forecasts: what policies are held against.
    pub ground: Ground,
    /// Times.
    pub timing: Times,
    /// Evidence kept per host.
    pub evidence_keep_per_host: u64,
    /// How long chunks of metric history are kept, ms.
    pub history_keep_ms: u64,
    /// Where to leave what people are to be told.
    pub tell: Tell,
    /// The models as they were committed.
    pub contest: Contest,
}

/// The working state: ahead of the store by the group in hand, never seen from outside.
#[derive(Debug)]
pub struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) hosts: BTreeMap<HostId, Host>,
    pub(super) replies: BTreeMap<HostId, Arc<Reply>>,
    pub(super) plans: PlanBook,
    pub(super) observed: BTreeMap<HostId, Arc<Observed>>,
    /// What runs on each host, by its last accepted evidence.
    pub(super) runs: BTreeMap<HostId, Arc<[Runs]>>,
    /// Policies, changes, and who decides.
    pub(super) changes: change::Book,
    pub(super) tokens: BTreeMap<TokenId, TokenRecord>,
    pub(super) book: Book,
    pub(super) learned: LearnedReferences,
    /// Alarms that are kept, by their keys.
    pub(super) alarms: AlarmBook,
    /// Every step that ended before was judged, Unix ms.
    pub(super) judged_until_ms: Option<u64>,
    /// Which models forecast and are tried.
    pub(super) models: ModelSet,
    /// The last row of history that was looked at for its age.
    pub(super) history_swept: Option<(Partition, Vec<u8>)>,
    /// Refused requests are told once per host and reason in a while.
    pub(super) requests_refused: RefusalMeter,
}

/// An answer that waits for the commit.
pub(super) enum Pending {
    /// To an acceptance, a finding, a refusal, or a token.
    Done(Answer<()>, Result<(), Refusal>),
    /// To a finding: whether it was new.
    Found(Answer<bool>, Result<bool, Refusal>),
    /// To an enrolment: the epoch.
    Enrolled(Answer<u64>, Result<u64, Refusal>),
    /// To a plan that was drafted or cancelled.
    Planned(Answer<Arc<PlanRecord>>, Result<Arc<PlanRecord>, Refusal>),
    /// To what was asked of a change.
    Changed(Answer<ChangeId>, Result<ChangeId, Refusal>),
}

impl Pending {
    pub(super) fn send(self) {
        // Whoever asked may be gone; what was decided stands.
        let _gone = match self {
            Self::Done(answer, result) => answer.send(result).is_err(),
            Self::Found(answer, result) => answer.send(result).is_err(),
            Self::Enrolled(answer, result) => answer.send(result).is_err(),
            Self::Planned(answer, result) => answer.send(result).is_err(),
            Self::Changed(answer, result) => answer.send(result).is_err(),
        };
    }
}

/// What one command makes: one batch, and what to do when it is durable.
#[derive(Default)]
pub(super) struct Step {
    /// State and leaves.
    pub(super) batch: Batch,
    /// An unchanged verdict, for the group's shared leaf.
    pub(super) verdict: Option<Verdict>,
    /// Hosts whose snapshot changes.
    pub(super) hosts: Vec<HostId>,
    /// Tokens that are new or changed.
    pub(super) tokens: Vec<TokenId>,
    /// The load of committed evidence, for history.
    pub(super) history: Option<quotary_decide::history::BoundedLoad>,
    /// How a host stands in each zone, for who asks why.
    pub(super) explained: Option<(HostId, AppraisalView)>,
    /// Alarms that are new or changed, or let go of.
    pub(super) alarms: Vec<AlarmChange>,
    /// Which models forecast and are tried from now on.
    pub(super) models: Option<ModelSet>,
    /// What people are to be told.
    pub(super) told: Vec<Told>,
    /// Whether policies, changes or who decides are others now.
    pub(super) changes: bool,
    /// The answer.
    pub(super) pending: Option<Pending>,
}

impl Step {
    pub(super) fn leaf(&mut self, at_ms: u64, actor: &str, decision: Decision) {
        let leaf = Leaf { version: Version, at_ms, actor: Text::lossy(actor), decision };
        self.batch.leaves.push(leaf.to_bytes());
    }

    pub(super) fn put<T: minicbor::Encode<()>>(
        &mut self,
        table: crate::store::Table,
        partition: Partition,
        key: &[u8],
        value: &T,
    ) {
        let batch = std::mem::take(&mut self.batch);
        self.batch = batch.put(table, partition, key, cbor::to_bytes(value));
    }

    /// Puts a row that is made already, or deletes it where there is none any more.
    pub(super) fn put_bytes(&mut self, table: crate::store::Table, key: &[u8], row: Option<Vec<u8>>) {
        let batch = std::mem::take(&mut self.batch);
        self.batch = match row {
            Some(row) => batch.put(table, Partition::Deployment, key, row),
            None => batch.delete(table, Partition::Deployment, key),
        };
    }

    pub(super) fn delete(&mut self, table: crate::store::Table, partition: Partition, key: Vec<u8>) {
        let batch = std::mem::take(&mut self.batch);
        self.batch = batch.delete(table, partition, key);
    }
}

/// The shared leaf of a group's unchanged verdicts.
pub(super) fn shared_leaf(verdicts: Vec<Verdict>, at_ms: u64) -> Option<Vec<u8>> {
    if verdicts.is_empty() {
        return None;
    }
    let accepted = Bounded::truncating(verdicts).0;
    let decision = Decision::Verdicts(Verdicts { accepted });
    Some(Leaf { version: Version, at_ms, actor: Text::lossy("verifier"), decision }.to_bytes())
}

impl State {
    /// A refusal's leaf.
    pub(super) fn refused(
        &self,
        host: Option<HostId>,
        what: &str,
        refusal: &Refusal,
        input: Digest,
        count: u64,
        now_ms: u64,
    ) -> Step {
        let mut step = Step::default();
        let actor = host.map_or_else(|| "unknown".to_owned(), |host| format!("host {host}"));
        let refused = Refused { host, what: Text::lossy(what), refusal: refusal.clone(), input, request: None, count };
        step.leaf(now_ms, &actor, Decision::Refused(refused));
        step
    }

    pub(super) fn make_token(&mut self, record: TokenRecord, actor: &str, now_ms: u64) -> Step {
        let mut step = Step::default();
        let (what, scope) = match &record.scope {
            TokenScope::Join { zone_best, capacity, .. } => {
                ("join", format!("zone {zone_best}, {}", serde_json::to_string(capacity).unwrap_or_default()))
            }
            TokenScope::Operator { name, rights } => {
                let rights: Vec<&str> = rights.iter().map(Text::as_str).collect();
                ("operator", format!("{name}: {}", rights.join(", ")))
            }
        };
        let made = TokenMade {
            token: record.id,
            what: Text::lossy(what),
            scope: Text::lossy(&scope),
            not_after_ms: record.not_after_ms,
        };
        step.leaf(now_ms, actor, Decision::TokenMade(made));
        step.put(tables::TOKENS, Partition::Deployment, record.id.as_bytes(), &record);
        step.tokens.push(record.id);
        self.tokens.insert(record.id, record);
        step
    }

    /// Ends what silence ended, and lets go of tokens that are long over.
    pub(super) fn tick(&mut self, now_ms: u64) -> Step {
        let mut step = Step::default();
        for record in self.book.expired(now_ms) {
            self.book.remove(&record.host, &record.grant.id);
            step.delete(tables::GRANTS, Partition::of_host(&record.host), grant_key(&record.host, &record.grant.id));
            step.leaf(now_ms, "verifier", granted(&record, GrantChange::Expired, record_input(&record)));
            step.hosts.push(record.host);
        }
        self.lapse(&mut step, now_ms);
        self.tick_plans(&mut step, now_ms);
        self.tick_changes(&mut step, now_ms);
        let over: Vec<TokenId> = self
            .tokens
            .values()
            .filter(|token| token.not_after_ms.saturating_add(TOKEN_KEEP_MS) < now_ms)
            .map(|token| token.id)
            .collect();
        for id in over {
            self.tokens.remove(&id);
            step.delete(tables::TOKENS, Partition::Deployment, id.as_bytes().to_vec());
            step.tokens.push(id);
        }
        step
    }
}

impl State {
    /// Trust that ended for want of news is a change of verdict.
    fn lapse(&mut self, step: &mut Step, now_ms: u64) {
        let over = |host: &&mut Host| host.progress.zone.is_some() && host.progress.valid_until_ms <= now_ms;
        for host in self.hosts.values_mut().filter(over) {
            let (id, from) = (host.record.host, host.progress.zone.clone());
            *host = host.lapsed();
            step.put(tables::PROGRESS, Partition::of_host(&id), id.as_bytes(), &host.progress);
            step.hosts.push(id);
            let Some(evidence) = host.progress.evidence else { continue };
            let verdict = Verdict { host: id, sequence: host.progress.sequence, evidence };
            let changed = VerdictChanged { verdict, from, to: None, findings: Bounded::default() };
            step.leaf(now_ms, "verifier", Decision::VerdictChanged(changed));
        }
    }
}

/// How long an ended token's record is kept, so that its caller is told that it expired.
const TOKEN_KEEP_MS: u64 = 24 * 3600 * 1000;

/// A decision that only time made has no input but the record itself.
fn record_input(record: &GrantRecord) -> Digest {
    Digest::of(&[&cbor::to_bytes(record)])
}

/// The leaf of a grant's change.
pub(super) fn granted(record: &GrantRecord, change: GrantChange, input: Digest) -> Decision {
    let over = matches!(change, GrantChange::Released | GrantChange::Expired | GrantChange::Revoked);
    Decision::Granted(Granted {
        host: record.host,
        grant: record.grant.id,
        change,
        application: record.grant.application.clone(),
        tenant: record.grant.tenant.clone(),
        class: record.grant.class,
        resources: if over { Default::default() } else { record.grant.resources },
        input,
        why: (!over).then(|| record.why.clone()),
        model: record.model.filter(|_| !over),
    })
}
