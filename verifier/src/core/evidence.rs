//! Accepting evidence: appraisal, allocation, the signed reply, and the record of it all.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::cbor::{Bounded, Text};
use quotary_common::envelope::Name;
use quotary_common::grant::{GrantSet, GrantSetVersion};
use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::{Decision, EpochRaised, GrantChange, Refused, Verdict, VerdictChanged, ZoneLearned};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{AppraisalView, FindingView};
use quotary_decide::allocate::{self, Allocation, Asked};
use quotary_decide::attest::{Appraisal, LogFinding, Measured, VerifiedEvidence, appraise};
use quotary_decide::audit::COMMIT_GRACE_MS;
use quotary_decide::history::{BoundedLoad, Bounds, SeriesKey, Standing, Subject};
use quotary_decide::policy::runs_of;
use quotary_decide::registry::{Host, Promise};
use quotary_decide::shape::PlanRecord;

use super::command::Answer;
use super::plans::Reply;
use super::state::{Pending, State, Step, granted};
use super::tables::{self, SequenceRow, grant_key, sequence_key};
use crate::store::{Expect, Partition, Reader, Scan};

impl State {
    /// Accepts verified evidence, or refuses it by appraisal.
    pub(super) fn accept(
        &mut self,
        (evidence, measured, enrolled_at_ms): (Box<VerifiedEvidence>, &Measured, u64),
        answer: Answer<()>,
        store: &dyn Reader,
        now_ms: u64,
    ) -> Step {
        let id = evidence.claims().host;
        let Some(host) = self.hosts.get(&id).cloned() else {
            return answered(answer, Err(Refusal::new(Reason::UnknownHost, format!("{id} is not enrolled"))));
        };
        if host.record.enrolled_at_ms != enrolled_at_ms {
            return answered(answer, Err(enrolled_since()));
        }
        if evidence.nonce().expiry_ms().saturating_add(COMMIT_GRACE_MS) < now_ms {
            let detail = "the nonce ended while the evidence waited: ask for another";
            return answered(answer, Err(Refusal::new(Reason::NonceExpired, detail)));
        }
        if host.progress.envelope == evidence.envelope_digest() {
            // Two copies of one evidence came at once: the first was committed, the reply is the same.
            return answered(answer, Ok(()));
        }
        if let Some((at_ms, why)) = &host.progress.revoked {
            let detail = format!("an operator revoked the host at {at_ms} (Unix ms): {why}");
            return answered(answer, Err(Refusal::new(Reason::Revoked, detail)));
        }
        let appraisal = appraise(&evidence, measured, host.enrolled(), &self.settings.ground.zones, &self.learned);
        let explained = Some((id, explain(&host, &appraisal, measured, now_ms)));
        if let Some(refusal) = &appraisal.revoke {
            let mut step = answered(answer, Err(refusal.clone()));
            if host.progress.zone.is_some() {
                self.fence(&mut step, &host, (refusal, evidence.evidence_digest(), evidence.envelope_digest()), now_ms);
            }
            return Step { explained, ..step };
        }
        if let Some(refusal) = appraisal.refusal() {
            return Step { explained, ..answered(answer, Err(refusal.clone())) };
        }
        let timing = self.settings.timing;
        let promise =
            Promise { trust_ms: timing.trust_ms, hold_ms: timing.lease_ms.saturating_add(timing.lease_margin_ms) };
        let bounds = Bounds {
            capacity: host.record.capacity,
            before: host.timeline(),
            since_ms: host.last_known_ms(),
            now_ms,
            window_ms: timing.window_ms,
            wait_ms: timing.lease_ms,
        };
        let load = BoundedLoad::of(&evidence, &bounds);
        let next = match host.accept((&evidence, measured, &load), &appraisal, now_ms, promise) {
            Ok(next) => next,
            Err(error) => return answered(answer, Err(Refusal::new(Reason::SequenceStale, error.to_string()))),
        };
        let mut step = Step { explained, ..Step::default() };
        self.learn(&mut step, &evidence, &appraisal, now_ms);
        self.observe(&mut step, &host, (&evidence, &load), now_ms);
        // A list that stays on its way proves nothing: once the trust has aged out, grants end, and hold what they held.
        let proves_nothing = !appraisal.pending.is_empty() && !next.is_trusted(now_ms);
        let allocation = if proves_nothing {
            self.revoke_grants(&mut step, &id, evidence.envelope_digest(), now_ms);
            Allocation::default()
        } else {
            self.allocate(&evidence, &next, now_ms)
        };
        self.record_verdict(&mut step, &host, &next, &evidence, &appraisal, now_ms);
        self.record_allocation(&mut step, &evidence, &allocation, now_ms);
        let plans = if proves_nothing { Vec::new() } else { self.plans_for(&id, next.progress.epoch) };
        self.note_writes(&mut step, &evidence, now_ms);
        self.note_alignment(&mut step, &id, now_ms);
        self.record_reply(&mut step, &next, allocation, plans);
        self.prune(&mut step, &next, store);
        self.runs.insert(id, runs_of(&load).into());
        step.history = Some(self.placed(load, &next));
        self.hosts.insert(id, next);
        step.hosts.push(id);
        step.pending = Some(Pending::Done(answer, Ok(())));
        step
    }

    /// The load with whose it is, and what limits it, as the host stands now.
    fn placed(&self, load: BoundedLoad, next: &Host) -> BoundedLoad {
        let entries = self.book.host(&next.record.host).into_iter().flat_map(|share| share.entries());
        let grants: Vec<_> = entries.map(|entry| &entry.record).collect();
        load.placed(&Standing {
            enrolled_at_ms: next.record.enrolled_at_ms,
            pool: next.progress.zone.as_ref(),
            capacity: next.record.capacity,
            grants: &grants,
            rules: &self.settings.ground.rules,
        })
    }

    fn learn(&mut self, step: &mut Step, evidence: &VerifiedEvidence, appraisal: &Appraisal, now_ms: u64) {
        let Some((zone, values)) = &appraisal.learned else { return };
        let Some(bounded) = Bounded::new(values.clone()) else { return };
        let learned = ZoneLearned { zone: zone.clone(), verdict: verdict(evidence), values: bounded };
        let key = zone.as_str().as_bytes();
        step.put(tables::ZONES, Partition::Deployment, key, &learned.values);
        let batch = std::mem::take(&mut step.batch);
        step.batch = batch.expect(tables::ZONES, Partition::Deployment, key, Expect::Absent);
        step.leaf(now_ms, "verifier", Decision::ZoneLearned(learned));
        self.learned.insert(zone.clone(), values.clone());
    }

    fn allocate(&mut self, evidence: &VerifiedEvidence, next: &Host, now_ms: u64) -> Allocation {
        let id = next.record.host;
        let timing = self.settings.timing;
        let mut outlooks = BTreeMap::new();
        for application in evidence.claims().applications.iter() {
            let Some(grant) = application.grant else { continue };
            let subject = Subject::Cgroup(application.cgroup.as_str().to_owned());
            let of_grant: BTreeMap<_, _> = quotary_common::units::ResourceKind::ALL
                .into_iter()
                .filter_map(|resource| {
                    let key = SeriesKey { host: Some(id), subject: subject.clone(), measure: resource.into() };
                    self.settings.ground.forecasts.outlook(&key).map(|outlook| (resource, outlook))
                })
                .collect();
            outlooks.insert(grant, of_grant);
        }
        let facts = self.settings.ground.facts(next);
        let asked = Asked {
            envelope: evidence.claims(),
            epoch: next.progress.epoch,
            trusted: next.is_trusted(now_ms),
            outlooks: &outlooks,
            limits: &|application, tenant| {
                self.changes.limits_at(&quotary_decide::policy::Place { application, tenant, host: &facts })
            },
            dwell_ms: timing.resize_dwell_ms,
            now_ms,
        };
        let allocation = allocate::decide(&self.book, &self.settings.ground.rules, &asked);
        for (record, _) in &allocation.changed {
            self.book.put(record.clone());
        }
        for (record, _) in &allocation.ended {
            self.book.remove(&record.host, &record.grant.id);
        }
        self.book.hold_until(&id, next.progress.held_until_ms);
        allocation
    }

    fn record_verdict(
        &self,
        step: &mut Step,
        before: &Host,
        next: &Host,
        evidence: &VerifiedEvidence,
        appraisal: &Appraisal,
        now_ms: u64,
    ) {
        let id = next.record.host;
        let partition = Partition::of_host(&id);
        let row = SequenceRow {
            committed_at_ms: now_ms,
            evidence: evidence.evidence_digest(),
            envelope: evidence.envelope_digest(),
        };
        let batch = std::mem::take(&mut step.batch);
        step.batch = batch
            .put(tables::EVIDENCE, partition, *evidence.evidence_digest().as_bytes(), evidence.evidence_bytes())
            .put(tables::SEQUENCES, partition, sequence_key(&next.record, next.progress.sequence), row.to_bytes())
            .expect(
                tables::PROGRESS,
                partition,
                *id.as_bytes(),
                Expect::value(&quotary_common::cbor::to_bytes(&before.progress)),
            );
        step.put(tables::PROGRESS, partition, id.as_bytes(), &next.progress);
        let verdict = verdict(evidence);
        let from = before.is_trusted(now_ms).then(|| before.progress.zone.clone()).flatten();
        if from == next.progress.zone {
            step.verdict = Some(verdict);
        } else {
            let findings = Bounded::truncating(appraisal.reasons.iter().map(|refusal| refusal.reason).collect()).0;
            let changed = VerdictChanged { verdict, from, to: next.progress.zone.clone(), findings };
            step.leaf(now_ms, &format!("host {id}"), Decision::VerdictChanged(changed));
        }
    }

    fn record_allocation(
        &mut self,
        step: &mut Step,
        evidence: &VerifiedEvidence,
        allocation: &Allocation,
        now_ms: u64,
    ) {
        let id = evidence.claims().host;
        let partition = Partition::of_host(&id);
        let actor = format!("host {id}");
        let input = evidence.envelope_digest();
        // As it was decided: what is given may rest on what was released. So the log, read leaf by leaf, never shows
        // more granted than there is.
        for (record, change) in &allocation.ended {
            step.delete(tables::GRANTS, partition, grant_key(&id, &record.grant.id));
            step.leaf(now_ms, &actor, granted(record, *change, input));
        }
        for (record, change) in &allocation.changed {
            step.put(tables::GRANTS, partition, &grant_key(&id, &record.grant.id), record);
            step.leaf(now_ms, &actor, granted(record, *change, input));
        }
        for refused in &allocation.refused {
            let Some(count) = self.requests_refused.count(Some(id), refused.refusal.reason, now_ms) else { continue };
            let refused = Refused {
                host: Some(id),
                what: Text::lossy("request"),
                refusal: refused.refusal.clone(),
                input,
                request: Some(refused.request),
                count,
            };
            step.leaf(now_ms, &actor, Decision::Refused(refused));
        }
    }

    /// The signed grant set that answers the host's committed evidence, now and when it is sent again.
    pub(super) fn record_reply(
        &mut self,
        step: &mut Step,
        next: &Host,
        allocation: Allocation,
        plans: Vec<Arc<PlanRecord>>,
    ) {
        let (id, progress) = (next.record.host, &next.progress);
        // Before the first evidence there is nothing to answer.
        let (Some(seen), Some(evidence)) = (&progress.seen, progress.evidence) else { return };
        let named = Reply::digest_of(&plans);
        let set = GrantSet {
            version: GrantSetVersion::naming(named.as_ref()),
            deployment: self.settings.deployment,
            host: id,
            boot_id: seen.boot_id,
            sequence: progress.sequence,
            envelope: progress.envelope,
            epoch: progress.epoch,
            generation: progress.generation,
            lease_ms: self.settings.timing.lease_ms,
            grants: Bounded::truncating(allocation.grants).0,
            refusals: Bounded::truncating(allocation.refused).0,
            evidence,
            plans: named,
        };
        let reply = Reply { set: self.settings.grant_key.sign(&set).to_bytes(), plans };
        let batch = std::mem::take(&mut step.batch);
        step.batch = batch.put(tables::REPLIES, Partition::of_host(&id), *id.as_bytes(), reply.to_row());
        self.replies.insert(id, Arc::new(reply));
    }

    /// Lets go of the oldest evidence once this enrolment has as much as is kept, that of earlier enrolments first: one
    /// more than comes in, so that a backlog shrinks. Until then what was before stays: a host that was revoked and
    /// enrolled anew has its past behind it still. The log keeps the digests. The evidence that brought the boot log of this boot stays:
    /// `zone learn` and `zone check` read it.
    fn prune(&self, step: &mut Step, next: &Host, store: &dyn Reader) {
        let host = next.record.host;
        let partition = Partition::of_host(&host);
        let Some(beyond) = next.progress.sequence.checked_sub(self.settings.evidence_keep_per_host).filter(|n| *n > 0)
        else {
            return;
        };
        let first_kept = beyond.saturating_add(1);
        let first_kept = sequence_key(&next.record, first_kept);
        let oldest = Scan::all(tables::SEQUENCES).partition(partition).prefix(host.as_bytes().to_vec()).limit(3);
        let rows = match store.scan(&oldest) {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!(%host, %error, "old evidence could not be pruned"),
        };
        let boot = next.progress.logs.as_ref().and_then(|logs| logs.boot.as_ref()).map(|boot| boot.evidence);
        let old = rows.into_iter().filter(|row| row.key < first_kept);
        let old = old.map(|row| (SequenceRow::from_bytes(&row.value).map(|row| row.evidence), row.key));
        for (evidence, key) in old.filter(|(evidence, _)| evidence.is_none() || *evidence != boot).take(2) {
            if let Some(evidence) = evidence {
                step.delete(tables::EVIDENCE, partition, evidence.as_bytes().to_vec());
            }
            step.delete(tables::SEQUENCES, partition, key);
        }
    }

    /// A finding under a valid signature: the epoch rises, trust and grants end; the same envelope does so once.
    pub(super) fn finding(&mut self, finding: &Finding, answer: Answer<bool>, now_ms: u64) -> Step {
        let Finding { host: id, refusal, input, envelope, enrolled_at_ms } = finding;
        let mut step = Step::default();
        let Some(host) = self.hosts.get(id).filter(|host| host.record.enrolled_at_ms == *enrolled_at_ms) else {
            step.pending = Some(Pending::Found(answer, Err(enrolled_since())));
            return step;
        };
        if host.has_seen_fork(envelope) {
            step.pending = Some(Pending::Found(answer, Ok(false)));
            return step;
        }
        let host = host.clone();
        self.fence(&mut step, &host, (refusal, *input, *envelope), now_ms);
        step.pending = Some(Pending::Found(answer, Ok(true)));
        step
    }

    /// Raises a host's epoch for what `input` shows in `envelope`: its trust and its grants end at once.
    fn fence(
        &mut self,
        step: &mut Step,
        host: &Host,
        (refusal, input, envelope): (&Refusal, Digest, Digest),
        now_ms: u64,
    ) {
        let actor = format!("host {}", host.record.host);
        self.end(step, host.fenced(envelope), (refusal, input), &actor, now_ms);
    }

    /// Commits a host whose epoch was raised.
    fn end(&mut self, step: &mut Step, next: Host, (refusal, input): (&Refusal, Digest), actor: &str, now_ms: u64) {
        let id = next.record.host;
        step.put(tables::PROGRESS, Partition::of_host(&id), id.as_bytes(), &next.progress);
        let raised = EpochRaised { host: id, epoch: next.progress.epoch, refusal: refusal.clone(), input };
        step.leaf(now_ms, actor, Decision::EpochRaised(raised));
        self.revoke_grants(step, &id, input, now_ms);
        // Whoever sends the committed evidence again learns of the new epoch, not of the old one's grants.
        self.void_plans(step, &id, next.progress.epoch, now_ms);
        self.record_reply(step, &next, Allocation::default(), Vec::new());
        self.hosts.insert(id, next);
        step.hosts.push(id);
    }

    /// An operator revokes a host: its epoch rises, and nothing of it is accepted until it enrols again.
    pub(super) fn revoke(
        &mut self,
        id: &HostId,
        why: &Text<256>,
        actor: &str,
        answer: Answer<u64>,
        now_ms: u64,
    ) -> Step {
        let mut step = Step::default();
        let Some(host) = self.hosts.get(id) else {
            let refusal = Refusal::new(Reason::UnknownHost, format!("{id} is not enrolled"));
            step.pending = Some(Pending::Enrolled(answer, Err(refusal)));
            return step;
        };
        let next = host.revoked(now_ms, why.clone());
        let epoch = next.progress.epoch;
        let refusal = Refusal::new(Reason::Revoked, why.as_str());
        self.end(&mut step, next, (&refusal, Digest::of(&[why.as_str().as_bytes()])), actor, now_ms);
        step.pending = Some(Pending::Enrolled(answer, Ok(epoch)));
        step
    }

    pub(super) fn revoke_grants(&mut self, step: &mut Step, id: &HostId, input: Digest, now_ms: u64) {
        for record in self.book.fence(id) {
            step.leaf(now_ms, "verifier", granted(&record, GrantChange::Revoked, input));
        }
    }
}

/// What a finding rests on.
pub(super) struct Finding {
    pub(super) host: HostId,
    pub(super) refusal: Refusal,
    pub(super) input: Digest,
    pub(super) envelope: Digest,
    pub(super) enrolled_at_ms: u64,
}

fn enrolled_since() -> Refusal {
    Refusal::new(Reason::SequenceStale, "the host was enrolled again meanwhile: ask for a nonce")
}

fn answered(answer: Answer<()>, result: Result<(), Refusal>) -> Step {
    Step { pending: Some(Pending::Done(answer, result)), ..Step::default() }
}

/// How the host stood in each zone that was tried.
fn explain(host: &Host, appraisal: &Appraisal, measured: &Measured, now_ms: u64) -> AppraisalView {
    let held = measured.held();
    let finding = |zone: Option<&Name>, finding: &LogFinding| FindingView {
        zone: zone.map(|zone| zone.as_str().to_owned()),
        code: finding.code.as_str().to_owned(),
        event: finding.event,
        detail: finding.detail.as_str().to_owned(),
    };
    let of_boot = held.boot.iter().flat_map(|boot| boot.findings.iter()).map(|(zone, one)| finding(Some(zone), one));
    let of_ima = held.ima_findings.iter().map(|one| finding(None, one));
    AppraisalView {
        host: host.record.host,
        at_ms: now_ms,
        zone: appraisal.zone.as_ref().map(|zone| zone.as_str().to_owned()),
        zone_best: host.record.zone_best.as_str().to_owned(),
        failed: appraisal.reasons.iter().chain(&appraisal.revoke).map(Into::into).collect(),
        secure_boot: held.boot.as_ref().and_then(|boot| boot.secure_boot),
        boot_log_evidence: held.boot.as_ref().map(|boot| boot.evidence),
        ima_entries: held.ima.map(|ima| ima.entries()),
        ima_findings: held.ima.map(|ima| ima.findings()),
        findings: of_boot.chain(of_ima).collect(),
    }
}

fn verdict(evidence: &VerifiedEvidence) -> Verdict {
    let claims = evidence.claims();
    Verdict { host: claims.host, sequence: claims.sequence, evidence: evidence.evidence_digest() }
}
