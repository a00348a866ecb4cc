//! Hearing which quorum decisions are in force, beside the loop and beside the way to the verifier: evidence never waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use quotary_client::ClientError;
use quotary_common::id::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::agent::Agent;
use super::learning::whatever_becomes_of;
use super::linking::Stage;
use crate::authority::{Before, Heard, Told, hear, in_a_line};
use crate::clock;

/// After so long what was missed is asked for again, ms: a host that has been away too long misses some for good.
const AGAIN_MS: u64 = 3_600_000;

/// What hearing came to; `None`: who heard died of a fault of its own.
pub(super) type Hears = Option<Result<Told, ClientError>>;

/// What the verifier says is in force, and whether this host has heard it all.
#[derive(Debug)]
pub(super) struct Hearing {
    /// What was heard to the end: what stands for it, and the number of who decided then.
    of: Option<(Digest, u64)>,
    /// What was heard and is not known to be in force here yet.
    decisions: Vec<Arc<Heard>>,
    /// What was asked for last, and when, by the boot's clock, ms.
    asked: Option<((Digest, u64), u64)>,
    /// Why something was missed, in a sentence. The same is not logged again and again.
    missed: Option<String>,
    working: Option<JoinHandle<()>>,
    done: mpsc::Sender<Hears>,
    pub(super) results: mpsc::Receiver<Hears>,
}

impl Default for Hearing {
    fn default() -> Self {
        let (done, results) = mpsc::channel(1);
        Self { of: None, decisions: Vec::new(), asked: None, missed: None, working: None, done, results }
    }
}

impl Hearing {
    /// Begins anew, for another enrolment.
    pub(super) fn begin(&mut self) {
        if let Some(working) = self.working.take() {
            working.abort();
        }
        *self = Self::default();
    }

    /// What is to be put in force here.
    pub(super) fn decisions(&self) -> Vec<Arc<Heard>> {
        self.decisions.clone()
    }

    /// Lets go of what is in force here.
    pub(super) fn settle(&mut self, in_force: &BTreeSet<Digest>) {
        self.decisions.retain(|heard| !in_force.contains(&heard.text()));
    }

    /// Whether the verifier is to be asked, where it calls what is in force by `name` and who decides has `number`.
    fn is_behind(&self, name: Digest, number: u64, now_ms: u64) -> bool {
        let told = (name, number);
        let is_new = self.asked.is_none_or(|(asked, _)| asked != told);
        let is_long_ago = self.asked.is_some_and(|(_, at_ms)| now_ms.saturating_sub(at_ms) >= AGAIN_MS);
        self.working.is_none() && self.of != Some(told) && (is_new || is_long_ago)
    }

    /// Takes up what was heard, and whether something is to be put in force by it.
    fn take_up(&mut self, heard: Hears) -> bool {
        self.working = None;
        let missed = match heard {
            Some(Ok(Told { name, listed, decisions, missed, broke_off })) => {
                // What was heard before and could not be put in force yet still can.
                self.decisions.retain(|heard| listed.contains(&heard.text()));
                self.decisions.extend(decisions);
                let is_whole = missed.is_empty() && broke_off.is_none();
                self.of = self.asked.map(|(asked, _)| asked).filter(|(asked, _)| is_whole && Some(*asked) == name);
                if self.of.is_none() && missed.is_empty() {
                    // It has changed while it was told, or broke off: the next reply has it asked again.
                    self.asked = None;
                }
                let broke_off = broke_off.map(|error| in_a_line(&error));
                let missed: Vec<String> = missed.into_iter().chain(broke_off).collect();
                (!missed.is_empty()).then(|| missed.join("; "))
            }
            other => {
                // Nobody answered: with the next reply.
                self.asked = None;
                let why = other.map(|outcome| outcome.err().map(|error| in_a_line(&error)).unwrap_or_default());
                Some(why.unwrap_or_else(|| "it broke off".to_owned()))
            }
        };
        if let Some(why) = &missed {
            if self.missed.as_ref() == Some(why) {
                tracing::debug!(%why, "not all that is in force was heard again");
            } else {
                tracing::warn!(%why, "not all that is in force holds here");
            }
        }
        self.missed = missed;
        !self.decisions.is_empty()
    }

    /// Ends what is being done.
    pub(super) async fn stop(mut self) {
        if let Some(working) = self.working.take() {
            working.abort();
            let _ = working.await;
        }
    }
}

impl Agent {
    /// Begins to hear what a reply says is in force, unless that is known or being done. Who decides comes first.
    pub(super) fn hear_if_other(&mut self, name: Option<Digest>, now_ms: u64) {
        let Stage::Enrolled { exchange, .. } = &self.linking.stage else { return };
        let Some(before) = self.learning.settled().map(|(pin, since_ms)| {
            let heard = self.hearing.decisions.iter().filter(|heard| heard.under() == &pin);
            let known = self.holding.shaped.in_force.iter().copied().chain(heard.map(|heard| heard.text())).collect();
            Before { pin, since_ms, known }
        }) else {
            return;
        };
        let Some(name) = name.filter(|name| self.hearing.is_behind(*name, before.pin.number, now_ms)) else { return };
        let (client, host) = (exchange.client.clone(), exchange.identity.host());
        self.hearing.asked = Some(((name, before.pin.number), now_ms));
        let done = self.hearing.done.clone();
        self.hearing.working = Some(tokio::spawn(async move {
            let hearing = async move { Some(hear(&client, &host, before).await) };
            // The loop is gone: the next start hears it.
            let _ = done.send(whatever_becomes_of(hearing, || None).await).await;
        }));
    }

    /// Takes up what was heard.
    pub(super) fn heard(&mut self, heard: Hears) {
        if self.hearing.take_up(heard) {
            // It is put in force with the next reply.
            self.schedule.soon(clock::boottime_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::tests::fixture::heard;

    fn name(of: &str) -> Digest {
        Digest::of(&[of.as_bytes()])
    }

    /// Asks what is called so, and is told this.
    fn told(hearing: &mut Hearing, asked: Digest, told: Hears, now_ms: u64) -> bool {
        hearing.asked = Some(((asked, 1), now_ms));
        hearing.take_up(told)
    }

    fn whole(of: Digest, decisions: Vec<Arc<Heard>>) -> Hears {
        let listed = decisions.iter().map(|heard| heard.text()).collect();
        Some(Ok(Told { name: Some(of), listed, decisions, ..Told::default() }))
    }

    #[tokio::test]
    async fn what_was_heard_whole_is_asked_for_again_when_it_or_who_decides_changes() {
        let mut hearing = Hearing::default();
        assert!(hearing.is_behind(name("a"), 1, 0));
        assert!(!told(&mut hearing, name("a"), whole(name("a"), Vec::new()), 0), "nothing new");
        assert!(!hearing.is_behind(name("a"), 1, 10 * AGAIN_MS));
        assert!(hearing.is_behind(name("b"), 1, 1) && hearing.is_behind(name("a"), 2, 1));
        hearing.working = Some(tokio::spawn(async {}));
        assert!(!hearing.is_behind(name("b"), 1, 1), "one at a time");
        hearing.stop().await;
    }

    #[test]
    fn what_changed_while_it_was_told_or_broke_off_is_asked_for_with_the_next_reply() {
        let mut hearing = Hearing::default();
        told(&mut hearing, name("a"), whole(name("b"), Vec::new()), 0);
        assert!(hearing.is_behind(name("a"), 1, 0) && hearing.is_behind(name("b"), 1, 0));
        for none in [None, Some(Err(ClientError::Bearer))] {
            told(&mut hearing, name("a"), none, 0);
            assert!(hearing.is_behind(name("a"), 1, 0) && hearing.missed.is_some());
        }
    }

    #[test]
    fn what_was_missed_is_asked_for_again_after_an_hour_and_at_once_when_something_changes() {
        let mut hearing = Hearing::default();
        let missed = || {
            let missed = vec!["x".to_owned()];
            Some(Ok(Told { name: Some(name("a")), missed, ..Told::default() }))
        };
        told(&mut hearing, name("a"), missed(), 7);
        assert_eq!(hearing.missed.as_deref(), Some("x"));
        assert!(!hearing.is_behind(name("a"), 1, 7 + AGAIN_MS - 1) && hearing.is_behind(name("a"), 1, 7 + AGAIN_MS));
        assert!(hearing.is_behind(name("b"), 1, 8) && hearing.is_behind(name("a"), 2, 8));
        told(&mut hearing, name("a"), whole(name("a"), Vec::new()), 9);
        assert_eq!(hearing.missed, None);
    }

    #[test]
    fn what_was_heard_is_shown_until_it_is_in_force() {
        let mut hearing = Hearing::default();
        let (one, other) = (heard(1), heard(2));
        assert!(told(&mut hearing, name("a"), whole(name("a"), vec![Arc::clone(&one), Arc::clone(&other)]), 0));
        hearing.settle(&BTreeSet::from([one.text()]));
        assert_eq!(hearing.decisions(), [Arc::clone(&other)]);
        // It was known, so it is not shown again; and what is listed no more is let go of.
        let listed = BTreeSet::from([other.text()]);
        told(&mut hearing, name("b"), Some(Ok(Told { name: Some(name("b")), listed, ..Told::default() })), 1);
        assert_eq!(hearing.decisions(), [other]);
        told(&mut hearing, name("c"), whole(name("c"), Vec::new()), 2);
        assert_eq!(hearing.decisions(), []);
        let broke_off = Told { name: Some(name("d")), broke_off: Some(ClientError::Bearer), ..Told::default() };
        told(&mut hearing, name("d"), Some(Ok(broke_off)), 3);
        assert!(hearing.is_behind(name("d"), 1, 3) && hearing.missed.is_some());
    }
}
