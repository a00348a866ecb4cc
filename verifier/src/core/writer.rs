//! The writer's thread: group, decide, commit, publish, reply.

use std::sync::Arc;

use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::Decision;
use quotary_common::limits::BATCH_VERDICTS_MAX;
use quotary_common::reason::Refusal;
use tokio::sync::mpsc;

use super::audit::AuditLog;
use super::command::Command;
use super::events::EventLog;
use super::evidence::Finding;
use super::plans::Drafting;
use super::state::{Pending, State, Step, shared_leaf};
use super::tables;
use super::view::{HostSnapshot, HostTally, View};
use crate::clock::Clock;
use crate::predict::Feed;
use crate::store::{Batch, Conflict, Partition, Scan, Store, StoreError};

/// Why the writer stopped. It answers nobody then: what it decided is not durable.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The store failed.
    #[error("the store failed: the verifier stops without answering")]
    Store(#[source] StoreError),
    /// The store is not what the working state was made of.
    #[error("the store refused a batch of its only writer: another process changed it")]
    Conflict(#[source] Conflict),
}

/// The single writer.
pub struct Writer {
    state: State,
    store: Box<dyn Store>,
    view: Arc<View>,
    audit: Arc<AuditLog>,
    events: Arc<EventLog>,
    clock: Clock,
    feed: Feed,
}

impl Writer {
    /// A writer; publishes the loaded state at once.
    pub fn new(
        state: State,
        store: Box<dyn Store>,
        view: Arc<View>,
        (audit, events): (Arc<AuditLog>, Arc<EventLog>),
        clock: Clock,
        feed: Feed,
    ) -> Self {
        let writer = Self { state, store, view, audit, events, clock, feed };
        let hosts: Vec<HostId> = writer.state.hosts.keys().copied().collect();
        for id in hosts {
            writer.publish_host(&id);
        }
        let alarms = writer.state.alarms.iter().map(|(key, alarm)| (key.clone(), Some(Arc::clone(alarm))));
        writer.view.alarms.publish(alarms.collect());
        writer.view.publish_changes(writer.state.changes.clone());
        for (id, record) in &writer.state.tokens {
            writer.view.publish_token(*id, Some(record.clone()));
        }
        for told in writer.state.escalated_before() {
            writer.state.settings.tell.tell(told);
        }
        writer
    }

    /// Appends a leaf of the verifier's own, such as its start.
    ///
    /// # Errors
    /// [`WriterError`] when it cannot be made durable.
    pub fn commit_leaf(&mut self, leaf: Vec<u8>) -> Result<(), WriterError> {
        let step = Step { batch: Batch::default().leaf(leaf), ..Step::default() };
        self.commit(vec![step], self.clock.now_ms())
    }

    /// Where each webhook of the configuration goes on. A new one begins at the log's end, and that is made durable; one
    /// that is configured no longer is forgotten.
    ///
    /// # Errors
    /// [`WriterError`] when it cannot be read or made durable.
    pub fn resume_webhooks(&mut self, webhooks: &[Digest]) -> Result<Vec<u64>, WriterError> {
        let size = self.audit.checkpoint().size;
        let kept = self.store.scan(&Scan::all(tables::WEBHOOKS)).map_err(WriterError::Store)?;
        let mut step = Step::default();
        for row in kept.iter().filter(|row| !webhooks.iter().any(|key| key.as_bytes() == row.key.as_slice())) {
            step.delete(tables::WEBHOOKS, Partition::Deployment, row.key.clone());
        }
        let mut places = Vec::with_capacity(webhooks.len());
        for webhook in webhooks {
            let row = kept.iter().find(|row| webhook.as_bytes() == row.key.as_slice());
            let place = row.and_then(|row| Some(u64::from_be_bytes(row.value.as_slice().try_into().ok()?)));
            // A place beyond the log is one of a log that a restore has lost.
            let place = place.filter(|place| *place <= size).unwrap_or(size);
            places.push(place);
            step.batch.puts.extend(acknowledged(webhook, place).puts);
        }
        self.commit(vec![step], self.clock.now_ms())?;
        Ok(places)
    }

    /// Works until every sender is gone.
    ///
    /// # Errors
    /// [`WriterError`]: the process must end, so that nobody is told what is not durable.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), WriterError> {
        let mut held_back = None;
        while let Some(first) = held_back.take().or_else(|| commands.blocking_recv()) {
            let now_ms = self.clock.now_ms();
            let mut steps = vec![self.step(first, now_ms)];
            while steps.len() < BATCH_VERDICTS_MAX {
                match commands.try_recv() {
                    // The shared leaf of a group comes last: what was accepted before an enrolment must stand before it.
                    Ok(command @ Command::Enrol { .. }) => {
                        held_back = Some(command);
                        break;
                    }
                    Ok(command) => steps.push(self.step(command, now_ms)),
                    Err(_) => break,
                }
            }
            self.commit(steps, now_ms)?;
        }
        Ok(())
    }

    fn step(&mut self, command: Command, now_ms: u64) -> Step {
        match command {
            Command::Accept { evidence, measured, enrolled_at_ms, answer } => {
                self.state.accept((evidence, &measured, enrolled_at_ms), answer, &*self.store, now_ms)
            }
            Command::Finding { host, refusal, input, envelope, enrolled_at_ms, answer } => {
                let finding = Finding { host, refusal, input, envelope, enrolled_at_ms };
                self.state.finding(&finding, answer, now_ms)
            }
            Command::Refused { host, what, refusal, input, count, answer } => {
                let mut step = self.state.refused(host, what, &refusal, input, count, now_ms);
                step.pending = Some(Pending::Done(answer, Ok(())));
                step
            }
            Command::Revoke { host, why, actor, answer } => self.state.revoke(&host, &why, &actor, answer, now_ms),
            Command::Enrol { checked, token, answer } => self.state.enrol(&checked, token, answer, now_ms),
            Command::MakeToken { record, actor, answer } => {
                let mut step = self.state.make_token(*record, &actor, now_ms);
                step.pending = Some(Pending::Done(answer, Ok(())));
                step
            }
            Command::DraftPlan { host, request, actor, answer } => {
                self.state.draft_plan(Drafting { host, request, actor, answer }, now_ms)
            }
            Command::CancelPlan { host, plan, actor, answer } => {
                self.state.cancel_plan((host, plan), &actor, answer, now_ms)
            }
            Command::Change { ask, by, actor, answer } => self.state.ask_change(*ask, (&by, &actor), answer, now_ms),
            Command::PolicyWatched { seen } => {
                let mut step = Step::default();
                step.leaf(now_ms, "verifier", Decision::PolicyWatched(*seen));
                step
            }
            Command::PlansMade { made } => self.state.take_plans(*made, now_ms),
            Command::Acknowledged { webhook, next_leaf, answer } => {
                let batch = acknowledged(&webhook, next_leaf);
                Step { batch, pending: Some(Pending::Done(answer, Ok(()))), ..Step::default() }
            }
            Command::KeepHistory { batch } => {
                let mut step = Step { batch, ..Step::default() };
                self.state.sweep_history(&mut step, self.store.as_ref(), now_ms);
                step
            }
            Command::ChangeModels { change, actor, answer } => {
                self.state.change_models(&change, &actor, answer, now_ms)
            }
            Command::ReturnModel { champion, covered } => self.state.return_model(&champion, covered, now_ms),
            Command::Judged { alarms, until_ms } => self.state.judged(alarms, until_ms, now_ms),
            Command::Answer { answer } => Step { pending: Some(Pending::Done(answer, Ok(()))), ..Step::default() },
            Command::Tick => {
                self.audit.append(&[], now_ms);
                let mut step = self.state.tick(now_ms);
                for tally in self.view.refusals_due(now_ms) {
                    let refusal = Refusal::new(tally.reason, "more of the same");
                    let more =
                        self.state.refused(tally.host, "counted", &refusal, Digest::new([0; 32]), tally.count, now_ms);
                    step.batch.leaves.extend(more.batch.leaves);
                }
                step
            }
        }
    }

    fn commit(&mut self, mut steps: Vec<Step>, now_ms: u64) -> Result<(), WriterError> {
        let batches: Vec<Batch> = steps.iter_mut().map(|step| std::mem::take(&mut step.batch)).collect();
        let closing = shared_leaf(steps.iter_mut().filter_map(|step| step.verdict.take()).collect(), now_ms);
        let mut committed = Vec::new();
        let writes = closing.is_some() || batches.iter().any(|batch| *batch != Batch::default());
        if writes {
            let mut shared = closing.iter().map(|leaf| Batch::default().leaf(leaf.clone()));
            let group = self.store.commit_group(&batches, &mut |_| shared.next()).map_err(WriterError::Store)?;
            if let Some(conflict) = group.outcomes.into_iter().find_map(Result::err) {
                return Err(WriterError::Conflict(conflict));
            }
            committed = batches.into_iter().flat_map(|batch| batch.leaves).chain(closing).collect();
            self.audit.append(&committed, now_ms);
        }
        for step in steps {
            self.publish(step, now_ms);
        }
        // Last: whoever hears of it finds the state that it tells of.
        self.events.publish(&committed);
        Ok(())
    }

    fn publish(&self, step: Step, now_ms: u64) {
        for id in &step.hosts {
            self.publish_host(id);
        }
        for id in &step.tokens {
            self.view.publish_token(*id, self.state.tokens.get(id).cloned());
        }
        for told in step.told {
            self.state.settings.tell.tell(told);
        }
        if step.changes {
            self.view.publish_changes(self.state.changes.clone());
        }
        self.view.alarms.publish(step.alarms);
        if let Some(models) = step.models {
            self.state.settings.contest.set_models(models);
        }
        if let Some((id, explained)) = step.explained {
            self.view.explain(&id, explained);
        }
        if let Some(load) = step.history {
            self.view.count_accepted(&load.host());
            self.feed.record(load, now_ms);
        }
        if let Some(pending) = step.pending {
            pending.send();
        }
    }

    fn publish_host(&self, id: &HostId) {
        let Some(host) = self.state.hosts.get(id) else { return };
        let share = self.state.book.host(id);
        let tally = self.view.host(id).map_or_else(|| Arc::new(HostTally::default()), |old| Arc::clone(&old.tally));
        self.view.publish(HostSnapshot {
            host: host.clone(),
            grants: share.map(|share| share.entries().cloned().collect()).unwrap_or_default(),
            held_until_ms: share.map_or(0, |share| share.held_until_ms),
            reply: self.state.replies.get(id).cloned(),
            plans: self.state.plans.of_host(id).cloned().collect(),
            runs: self.state.runs.get(id).cloned().unwrap_or_default(),
            observed: self.state.observed.get(id).cloned().unwrap_or_default(),
            tally,
        });
    }
}

/// The row of a webhook whose receiver has acknowledged what was for it before `next_leaf`.
fn acknowledged(webhook: &Digest, next_leaf: u64) -> Batch {
    Batch::default().put(tables::WEBHOOKS, Partition::Deployment, *webhook.as_bytes(), next_leaf.to_be_bytes())
}
