//! Teller: tells people that a change waits for them, as the quorum rules in force say: by a webhook, or a command of the configuration.
//!
//! Does: takes what the writer has committed, posts it to the webhook of the configuration that the rules name, signed with its secret, or
//! hands it to a named command on its standard input; tries a few times.
//! May assume: that what it is told of is durable.
//! Promises: bounded waiting, bounded processes; what could not be told is in the log, with whom and why.
//! Must never: post to an address, or run a program, that the configuration does not name: documents choose among what root has written down.

mod command;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use quotary_common::quorum::roster::Word;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::webhook::{Receiver, Webhook};

/// What waits to be told at most.
const QUEUE_MAX: usize = 256;
/// Tellings at once.
const AT_ONCE_MAX: usize = 4;
/// The pauses before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// JSON.
    pub body: String,
    /// The address of a webhook, as a document names it.
    pub webhook: Option<String>,
    /// The name of a command, as a document names it.
    pub command: Option<Word>,
}

/// Where to leave what is to be told.
#[derive(Debug, Clone)]
pub struct Tell(mpsc::Sender<Told>);

impl Tell {
    /// Leaves something to be told. With no room it is not told, and the log says so.
    pub fn tell(&self, told: Told) {
        if let Err(error) = self.0.try_send(told) {
            tracing::error!(%error, "people could not be told of a change");
        }
    }
}

/// Tells.
#[derive(Debug)]
pub struct Teller {
    webhooks: Vec<Webhook>,
    commands: BTreeMap<Word, Vec<String>>,
    told: mpsc::Receiver<Told>,
}

impl Teller {
    /// A teller with the webhooks and commands of the configuration, and where to leave what it is to tell.
    pub fn new(webhooks: Vec<Webhook>, commands: BTreeMap<Word, Vec<String>>) -> (Self, Tell) {
        let (sender, told) = mpsc::channel(QUEUE_MAX);
        (Self { webhooks, commands, told }, Tell(sender))
    }

    /// Works until it is stopped, and until what it has begun is done.
    pub async fn run(mut self, stop: CancellationToken) {
        let (tasks, places) = (TaskTracker::new(), Arc::new(Semaphore::new(AT_ONCE_MAX)));
        loop {
            let told = tokio::select! {
                () = stop.cancelled() => break,
                told = self.told.recv() => told,
            };
            let Some(told) = told else { break };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let ways = self.ways(&told);
            let stop = stop.clone();
            tasks.spawn(async move {
                for way in ways {
                    way.try_some_times(&told.body, &stop).await;
                }
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    /// By which ways it is told: those of the configuration that the document names.
    fn ways(&self, told: &Told) -> Vec<Way> {
        let mut ways = Vec::new();
        if let Some(address) = &told.webhook {
            let key = Receiver::parse(address).ok().map(|receiver| receiver.key());
            let named = self.webhooks.iter().find(|webhook| Some(webhook.receiver().key()) == key);
            match named {
                Some(webhook) => ways.push(Way::Webhook(Box::new(webhook.clone()))),
                None => tracing::error!(
                    "the quorum rules name a webhook that the configuration does not have: nobody is told"
                ),
            }
        }
        if let Some(name) = &told.command {
            match self.commands.get(name) {
                Some(argv) => ways.push(Way::Command(name.clone(), argv.clone())),
                None => {
                    tracing::error!(command = %name, "the quorum rules name a command that the configuration does not have: nobody is told")
                }
            }
        }
        ways
    }
}

enum Way {
    Webhook(Box<Webhook>),
    Command(Word, Vec<String>),
}

impl Way {
    async fn try_some_times(&self, body: &str, stop: &CancellationToken) {
        let mut pauses = PAUSES.into_iter();
        loop {
            let tried = match self {
                Self::Webhook(webhook) => webhook.tell(Bytes::from(body.to_owned())).await,
                Self::Command(_, argv) => command::run(argv, body).await.map_err(|why| why.to_string()),
            };
            let Err(why) = tried else { return };
            let whom = match self {
                Self::Webhook(webhook) => webhook.receiver().shown().to_owned(),
                Self::Command(name, _) => format!("command {name}"),
            };
            let Some(pause) = pauses.next() else {
                tracing::error!(whom, why, "people were not told of a change");
                return;
            };
            tracing::warn!(whom, why, "people were not told of a change yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
