//! Shaping plans in the writer: made, ended, told of; and the reply that carries them.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Bounded, CborError, Text};
use quotary_common::id::{Digest, HostId, PlanId};
use quotary_common::leaf::{Decision, PlanChange, Planned};
use quotary_common::limits::{PLANS_MAX, SIGNED_BYTES_MAX};
use quotary_common::plan::digest_of;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::PlanRequest;
use quotary_decide::attest::VerifiedEvidence;
use quotary_decide::shape::{Asked, PlanBook, PlanRecord, draft};

use super::command::Answer;
use super::state::{Pending, State, Step};
use super::tables::{self, plan_key};
use crate::store::Partition;

/// A host's last reply: the signed grant set, and the plans that it names.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The signed grant set.
    pub set: Vec<u8>,
    /// The plans, in the order in which the set names them.
    pub plans: Vec<Arc<PlanRecord>>,
}

/// A reply's row where there are plans; without any it is the signed grant set alone, as rows always were.
#[derive(Debug, Encode, Decode)]
struct ReplyRow {
    #[cbor(n(0), with = "minicbor::bytes")]
    set: Vec<u8>,
    #[n(1)]
    plans: Bounded<PlanId, PLANS_MAX>,
}

impl Reply {
    /// What a grant set says of these plans.
    pub(super) fn digest_of(plans: &[Arc<PlanRecord>]) -> Option<Digest> {
        let signed: Vec<&[u8]> = plans.iter().map(|record| record.signed()).collect();
        digest_of(&signed)
    }

    pub(super) fn to_row(&self) -> Vec<u8> {
        if self.plans.is_empty() {
            return self.set.clone();
        }
        let plans = self.plans.iter().map(|record| record.plan().id).collect();
        cbor::to_bytes(&ReplyRow { set: self.set.clone(), plans: Bounded::truncating(plans).0 })
    }

    /// Reads a row. `None` where a plan of it is kept no longer: then there is no reply to send again.
    ///
    /// # Errors
    /// [`CborError`] when it is none.
    pub(super) fn from_row(bytes: Vec<u8>, host: &HostId, book: &PlanBook) -> Result<Option<Self>, CborError> {
        // A map is a signed form, an array is a row with plans (RFC 8949 §3.1, major types 5 and 4).
        if bytes.first().is_none_or(|first| first >> 5 != 4) {
            return Ok(Some(Self { set: bytes, plans: Vec::new() }));
        }
        let row: ReplyRow = cbor::from_bytes(&bytes, SIGNED_BYTES_MAX + PLANS_MAX * 40)?;
        let plans: Option<Vec<_>> = row.plans.iter().map(|id| book.get(host, id).cloned()).collect();
        Ok(plans.map(|plans| Self { set: row.set, plans }))
    }
}

/// Who drafts, and where the answer goes.
pub(super) struct Drafting {
    pub(super) host: HostId,
    pub(super) request: Box<PlanRequest>,
    pub(super) actor: String,
    pub(super) answer: Answer<Arc<PlanRecord>>,
}

impl State {
    /// Drafts a plan by hand; one that the target has already is replaced.
    pub(super) fn draft_plan(&mut self, drafting: Drafting, now_ms: u64) -> Step {
        let Drafting { host: id, request, actor, answer } = drafting;
        let mut step = Step::default();
        let drafted = match self.hosts.get(&id) {
            None => Err(Refusal::new(Reason::UnknownHost, format!("{id} is not enrolled"))),
            Some(host) => draft(&Asked {
                deployment: self.settings.deployment,
                host,
                request: &request,
                book: &self.plans,
                now_ms,
            }),
        };
        let plan = match drafted {
            Ok(plan) => plan,
            Err(refusal) => {
                step.pending = Some(Pending::Planned(answer, Err(refusal)));
                return step;
            }
        };
        let target = plan.plan().target.clone();
        let replaced = self.plans.end(&id, PlanChange::Replaced, now_ms, |record| record.plan().target == target);
        self.record_ended(&mut step, &replaced, &actor, now_ms);
        let record = PlanRecord::new(plan, &self.settings.grant_key, &actor, now_ms);
        self.record_plan(&mut step, &record, (PlanChange::Drafted, &actor), now_ms);
        let kept = Arc::new(record.clone());
        self.plans.put(record);
        step.hosts.push(id);
        step.pending = Some(Pending::Planned(answer, Ok(kept)));
        step
    }

    /// Cancels a plan: the host puts back what was before, with the reply to its next evidence.
    pub(super) fn cancel_plan(
        &mut self,
        (host, plan): (HostId, PlanId),
        actor: &str,
        answer: Answer<Arc<PlanRecord>>,
        now_ms: u64,
    ) -> Step {
        let mut step = Step::default();
        let ended = self.plans.end(&host, PlanChange::Cancelled, now_ms, |record| record.plan().id == plan);
        self.record_ended(&mut step, &ended, actor, now_ms);
        step.hosts.push(host);
        let result = self.plans.get(&host, &plan).cloned().ok_or_else(|| no_plan(&plan.to_string()));
        step.pending = Some(Pending::Planned(answer, result));
        step
    }

    /// What an accepted envelope tells of plans' writes.
    pub(super) fn note_writes(&mut self, step: &mut Step, evidence: &VerifiedEvidence, now_ms: u64) {
        for record in self.plans.note(evidence.claims(), evidence.evidence_digest(), now_ms) {
            put_plan(step, &record);
        }
    }

    /// The plans that the host is given with its next reply.
    pub(super) fn plans_for(&self, host: &HostId, epoch: u64) -> Vec<Arc<PlanRecord>> {
        self.plans.given(host).filter(|record| record.plan().epoch == epoch).take(PLANS_MAX).cloned().collect()
    }

    /// A raised epoch voids the plans that were made under a lower one.
    pub(super) fn void_plans(&mut self, step: &mut Step, host: &HostId, epoch: u64, now_ms: u64) {
        let voided = self.plans.end(host, PlanChange::Voided, now_ms, |record| record.plan().epoch < epoch);
        self.record_ended(step, &voided, "verifier", now_ms);
    }

    /// Ends what time ended, and lets go of what was over long ago.
    pub(super) fn tick_plans(&mut self, step: &mut Step, now_ms: u64) {
        let ended = self.plans.expire(now_ms);
        self.record_ended(step, &ended, "verifier", now_ms);
        step.hosts.extend(ended.iter().map(|record| record.plan().host));
        for record in self.plans.forget(now_ms) {
            let plan = record.plan();
            step.delete(tables::PLANS, Partition::of_host(&plan.host), plan_key(&plan.host, &plan.id));
            step.hosts.push(plan.host);
        }
    }

    pub(super) fn record_ended(&self, step: &mut Step, ended: &[Arc<PlanRecord>], actor: &str, now_ms: u64) {
        for record in ended {
            let Some((change, _)) = record.over() else { continue };
            self.record_plan(step, record, (change, actor), now_ms);
        }
    }

    pub(super) fn record_plan(
        &self,
        step: &mut Step,
        record: &PlanRecord,
        (change, actor): (PlanChange, &str),
        now_ms: u64,
    ) {
        let plan = record.plan();
        put_plan(step, record);
        let what = (change == PlanChange::Drafted).then(|| Text::lossy(&record.summary()));
        let planned = Planned {
            host: plan.host,
            plan: plan.id,
            change,
            target: plan.target.clone(),
            input: Digest::of(&[record.signed()]),
            what,
        };
        step.leaf(now_ms, actor, Decision::Planned(planned));
    }
}

fn put_plan(step: &mut Step, record: &PlanRecord) {
    let plan = record.plan();
    let batch = std::mem::take(&mut step.batch);
    let key = plan_key(&plan.host, &plan.id);
    step.batch = batch.put(tables::PLANS, Partition::of_host(&plan.host), key, record.to_bytes());
}

/// There is no such plan.
pub(crate) fn no_plan(text: &str) -> Refusal {
    let shown: String = text.chars().take(80).collect();
    Refusal::new(Reason::NotFound, format!("no plan `{shown}`: `quotary plan list` shows them"))
}
