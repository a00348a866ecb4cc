//! Learning who decides about policies, beside the loop and beside the way to the verifier: evidence never waits for it.

use quotary_common::id::DeploymentId;
use quotary_common::quorum::authority::Authority;
use quotary_common::sign::PublicKey;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::agent::Agent;
use super::linking::Stage;
use crate::authority::{Lack, LearnError, Pin, Trust, in_a_line, learn};
use crate::clock;
use crate::identity::Identity;
use crate::state::StateDir;

/// What learning came to; the pin is gone where the runtime ended, or what learned died.
pub(super) type Learned = (Option<Pin>, Result<(), LearnError>);

/// The pin, and what is learned for it.
#[derive(Debug)]
pub(super) struct Learning {
    /// Away while somebody learns with it.
    pin: Option<Pin>,
    /// Where it is kept, and whose it is: to load it again.
    kept: Option<(StateDir, PublicKey, DeploymentId)>,
    /// What it says.
    authority: Option<Authority>,
    /// Since when somebody is pinned, Unix ms.
    since_ms: Option<u64>,
    working: Option<JoinHandle<()>>,
    /// Why it lacks something, in a sentence. The same is not logged again and again.
    why_not: Option<String>,
    done: mpsc::Sender<Learned>,
    pub(super) results: mpsc::Receiver<Learned>,
}

impl Default for Learning {
    fn default() -> Self {
        let (done, results) = mpsc::channel(1);
        Self { pin: None, kept: None, authority: None, since_ms: None, working: None, why_not: None, done, results }
    }
}

impl Learning {
    /// Takes up what is pinned for an enrolment. A file that does not read is told, and nothing is learned in its place.
    pub(super) fn begin(&mut self, state: StateDir, identity: &Identity) {
        if let Some(working) = self.working.take() {
            working.abort();
        }
        // What another enrolment learned is not this one's.
        *self = Self::default();
        self.kept = Some((state, identity.root(), identity.deployment()));
        self.load();
    }

    fn load(&mut self) {
        let Some((state, root, deployment)) = self.kept.clone() else { return };
        match Pin::load(state, root, deployment) {
            Ok(pin) => self.holds(pin),
            Err(error) => {
                let why = in_a_line(&error);
                tracing::error!(%why, "who decides about policies is not known");
                self.why_not = Some(why);
            }
        }
    }

    fn holds(&mut self, pin: Pin) {
        (self.authority, self.since_ms) = (pin.authority().copied(), pin.since_ms());
        self.pin = Some(pin);
    }

    /// Who decides, as pinned.
    pub(super) fn pinned(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Who decides, and since when somebody is pinned, while nothing is being learned.
    pub(super) fn settled(&self) -> Option<(Authority, Option<u64>)> {
        self.authority.filter(|_| self.working.is_none()).map(|authority| (authority, self.since_ms))
    }

    /// Why that is not known, or not to the end.
    pub(super) fn why_not(&self) -> Option<String> {
        self.why_not.clone()
    }

    fn lack(&self) -> Lack {
        match (&self.why_not, &self.working) {
            // Only what never failed is waited for: a verifier that cannot show what it speaks of is told so.
            (Some(why), _) => Lack::Because(why.clone()),
            (None, Some(_)) => Lack::Asking,
            (None, None) => Lack::Nothing,
        }
    }

    /// Takes up what was learned, and whether that is more than before.
    fn take_up(&mut self, (pin, outcome): Learned) -> bool {
        self.working = None;
        let before = self.authority;
        match pin {
            Some(pin) => self.holds(pin),
            // It died with whoever learned. What is on the disk holds, and the next reply has it go on from there.
            None => {
                self.load();
                if self.pin.is_none() {
                    return false;
                }
            }
        }
        match outcome {
            Ok(()) => self.why_not = None,
            Err(error) => {
                let why = in_a_line(&error);
                if self.why_not.as_ref() == Some(&why) {
                    tracing::debug!(%why, "who decides about policies was not learned again");
                } else {
                    tracing::warn!(%why, "who decides about policies was not learned; it is tried again with the next reply");
                }
                self.why_not = Some(why);
            }
        }
        if before != self.authority
            && let Some(Authority { number, roster, rules, .. }) = &self.authority
        {
            tracing::info!(number, roster = roster.hex(), rules = rules.hex(), "who decides about policies is pinned");
        }
        before != self.authority
    }

    /// Ends what is being done.
    pub(super) async fn stop(mut self) {
        if let Some(working) = self.working.take() {
            working.abort();
            let _ = working.await;
        }
    }
}

/// What learning comes to, also when it dies of a fault of its own: somebody waits for it. Ends with whoever awaits it.
pub(super) async fn whatever_becomes_of<Came: Send + 'static>(
    learning: impl Future<Output = Came> + Send + 'static,
    died: impl FnOnce() -> Came,
) -> Came {
    let mut tasks = JoinSet::new();
    tasks.spawn(learning);
    match tasks.join_next().await {
        Some(Ok(came)) => came,
        Some(Err(_)) | None => died(),
    }
}

/// Learning that died.
const fn died() -> Learned {
    (None, Err(LearnError::Interrupted))
}

impl Agent {
    /// Whom this host believes about plans; `None` before it is enrolled.
    pub(super) fn trust(&self) -> Option<Trust> {
        let Stage::Enrolled { exchange, .. } = &self.linking.stage else { return None };
        let (host, deployment) = (exchange.identity.host(), exchange.identity.deployment());
        let Learning { authority: pin, since_ms, .. } = self.learning;
        let (lack, heard) = (self.learning.lack(), self.hearing.decisions());
        Some(Trust { host, deployment, pin, since_ms, lack, heard })
    }

    /// Begins to learn what a reply says that there is more of, unless that is being done.
    pub(super) fn learn_if_behind(&mut self, told: Option<u64>) {
        let Stage::Enrolled { exchange, .. } = &self.linking.stage else { return };
        let Some(pin) = self.learning.pin.take_if(|pin| told.is_some_and(|number| pin.is_behind(number))) else {
            return;
        };
        let (client, host) = (exchange.client.clone(), exchange.identity.host());
        let done = self.learning.done.clone();
        self.learning.working = Some(tokio::spawn(async move {
            let learned = whatever_becomes_of(async move { learn(&client, &host, pin).await }, died).await;
            // The loop is gone: the next start learns it.
            let _ = done.send(learned).await;
        }));
    }

    /// Takes up what was learned.
    pub(super) fn learned(&mut self, learned: Learned) {
        if self.learning.take_up(learned) {
            // Plans that wait for it are given again with the next reply.
            self.schedule.soon(clock::boottime_ms());
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::authority::tests::fixture::{World, deployment, state};
    use crate::enforce::tests::root_key;

    fn pin(state: &StateDir) -> Pin {
        Pin::load(state.clone(), root_key().public(), deployment()).unwrap()
    }

    #[tokio::test]
    async fn what_was_learned_is_believed_and_what_failed_is_told_until_it_is_mended() {
        let (_temp, state) = state();
        let mut learning = Learning { pin: Some(pin(&state)), ..Learning::default() };
        assert_eq!((learning.lack(), learning.why_not()), (Lack::Nothing, None));
        let away = learning.pin.take().unwrap();
        learning.working = Some(tokio::spawn(async {}));
        assert_eq!(learning.lack(), Lack::Asking);
        assert!(!learning.take_up((Some(away), Err(LearnError::Other(3)))));
        let why = learning.why_not().unwrap();
        assert!(why.contains("another authority 3"), "{why}");
        assert_eq!((learning.lack(), learning.pinned()), (Lack::Because(why), None));
        let mut learned = learning.pin.take().unwrap();
        // While it is tried again it has failed still: who asks is told that.
        learning.working = Some(tokio::spawn(async {}));
        assert!(matches!(learning.lack(), Lack::Because(_)));
        learned.advance(World::new().pin(), 1).unwrap();
        assert!(learning.take_up((Some(learned), Ok(()))));
        assert_eq!((learning.lack(), learning.pinned()), (Lack::Nothing, Some(&World::new().pin())));
        let same = learning.pin.take();
        assert!(!learning.take_up((same, Ok(()))), "nothing new");
        learning.stop().await;
    }

    #[tokio::test]
    async fn who_dies_while_learning_has_the_pin_loaded_again_so_that_the_next_reply_teaches() {
        let (_temp, state) = state();
        pin(&state).advance(World::new().pin(), 1).unwrap();
        let kept = Some((state.clone(), root_key().public(), deployment()));
        let mut learning = Learning { kept, ..Learning::default() };
        learning.load();
        let away = learning.pin.take().unwrap();
        learning.working = Some(tokio::spawn(async {}));
        let dies = async move {
            let _away = away;
            // A fault of its own.
            Vec::<Learned>::new().pop().unwrap()
        };
        assert!(!learning.take_up(whatever_becomes_of(dies, died).await));
        assert_eq!(learning.pinned(), Some(&World::new().pin()));
        assert!(learning.pin.as_ref().is_some_and(|pin| pin.is_behind(1)), "it can be learned with again");
        assert!(learning.why_not().unwrap().contains("broke off") && learning.working.is_none());
        let pin = learning.pin.take();
        learning.take_up((pin, Ok(())));
        assert_eq!(learning.lack(), Lack::Nothing);
        // Where the file has been damaged meanwhile, that is told, and nothing is learned in its place.
        std::fs::write(state.file(crate::authority::PIN_FILE), b"\xa0\x00").unwrap();
        learning.pin = None;
        learning.take_up((None, Err(LearnError::Interrupted)));
        assert!(learning.pin.is_none() && learning.why_not().unwrap().contains("damaged"));
    }
}
