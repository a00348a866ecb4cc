//! The worker of one webhook: from its place in the log on, batch by batch, until the verifier stops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use quotary_common::id::DeploymentId;
use quotary_common::wire::{EventBatch, HostEvent, WebhookView};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio_util::sync::CancellationToken;

use super::backoff::wait_ms;
use super::receiver::Webhook;
use crate::clock::Clock;
use crate::core::{Command, EventLog, Queue};

/// Leaves that tell its receiver nothing are passed over; after so many the new place is made durable all the same.
const PASSED_OVER_MAX: u64 = 10_000;

/// How a webhook fares, for operators.
#[derive(Debug)]
pub struct WebhookState {
    receiver: String,
    now: Mutex<Now>,
}

#[derive(Debug, Clone, Default)]
struct Now {
    next_leaf: u64,
    /// When the oldest event that waits was decided, Unix ms.
    waiting_since_ms: Option<u64>,
    failures: u64,
    last_error: Option<String>,
    delivered_at_ms: Option<u64>,
}

impl WebhookState {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As operators see it at `now_ms`.
    pub fn view(&self, now_ms: u64) -> WebhookView {
        let now = self.now().clone();
        WebhookView {
            receiver: self.receiver.clone(),
            next_leaf: now.next_leaf,
            lag_ms: now.waiting_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)),
            failures: now.failures,
            last_error: now.last_error,
            delivered_at_ms: now.delivered_at_ms,
        }
    }
}

/// What delivers to one receiver.
pub struct Delivery {
    webhook: Webhook,
    deployment: DeploymentId,
    log: Arc<EventLog>,
    queue: Queue,
    clock: Clock,
    state: Arc<WebhookState>,
    /// The place that is durable.
    durable_leaf: u64,
}

impl Delivery {
    /// A worker for `webhook`, whose receiver has acknowledged everything before `next_leaf`.
    pub fn new(
        webhook: Webhook,
        next_leaf: u64,
        deployment: DeploymentId,
        log: Arc<EventLog>,
        queue: Queue,
        clock: Clock,
    ) -> Self {
        let now = Mutex::new(Now { next_leaf, ..Now::default() });
        let state = Arc::new(WebhookState { receiver: webhook.receiver().shown().to_owned(), now });
        Self { webhook, deployment, log, queue, clock, state, durable_leaf: next_leaf }
    }

    /// How it fares.
    pub fn state(&self) -> Arc<WebhookState> {
        Arc::clone(&self.state)
    }

    /// Works until `stop` is cancelled. A delivery that is cut off then is made again after the restart.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        let mut grown = self.log.grown();
        let mut next_leaf = self.durable_leaf;
        loop {
            grown.mark_unchanged();
            let page = match self.log.page(next_leaf).await {
                Ok(page) => page,
                Err(error) => {
                    self.failed(format!("the log cannot be read: {error}")).await;
                    continue;
                }
            };
            let events: Vec<HostEvent> =
                page.events.into_iter().filter(|event| self.webhook.kinds().contains(&event.kind)).collect();
            let is_told = !events.is_empty();
            if is_told {
                self.deliver(events).await;
            }
            next_leaf = page.next_leaf;
            if is_told || next_leaf.saturating_sub(self.durable_leaf) >= PASSED_OVER_MAX {
                self.acknowledge(next_leaf).await;
            }
            if !page.more && grown.changed().await.is_err() {
                return;
            }
        }
    }

    /// Posts events until they are acknowledged: each time the same bytes.
    async fn deliver(&self, events: Vec<HostEvent>) {
        self.state.now().waiting_since_ms = events.first().map(|event| event.time_ms);
        let (first, count) = (events.first().map_or(0, |event| event.leaf_index), events.len());
        let batch = EventBatch { deployment: self.deployment, events };
        let body = match serde_json::to_vec(&batch) {
            Ok(body) => Bytes::from(body),
            Err(error) => return tracing::error!(%error, first, "events cannot be written as JSON: they are left out"),
        };
        while let Err(error) = self.webhook.post(body.clone()).await {
            self.failed(error.to_string()).await;
        }
        let mut now = self.state.now();
        if now.failures > 0 {
            tracing::info!(receiver = self.state.receiver, first, count, "a webhook's receiver answers again");
        }
        *now = Now { next_leaf: now.next_leaf, delivered_at_ms: Some(self.clock.now_ms()), ..Now::default() };
    }

    /// Makes the new place durable; until it is, a restart would deliver again.
    async fn acknowledge(&mut self, next_leaf: u64) {
        let webhook = self.webhook.receiver().key();
        while let Err(refusal) = self.queue.ask(|answer| Command::Acknowledged { webhook, next_leaf, answer }).await {
            self.failed(format!("its place cannot be kept: {refusal}")).await;
        }
        self.durable_leaf = next_leaf;
        let mut now = self.state.now();
        *now = Now { next_leaf, delivered_at_ms: now.delivered_at_ms, ..Now::default() };
    }

    /// Notes a failure and waits, longer each time.
    async fn failed(&self, why: String) {
        let failures = {
            let mut now = self.state.now();
            now.failures += 1;
            now.last_error = Some(why.clone());
            now.failures
        };
        let wait_ms = wait_ms(failures, chance());
        tracing::warn!(receiver = self.state.receiver, failures, wait_ms, why, "a webhook's delivery failed");
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// A number that nobody foresees; 0 when the random source fails, which only shortens a wait.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_or(0, |()| u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
