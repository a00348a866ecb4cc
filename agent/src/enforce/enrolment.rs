//! Epochs count within one enrolment: what a new one, or one that a crash cut off, does to what is held.

use quotary_common::id::{DeploymentId, GrantId};

use super::decide;
use super::enforcer::{Enforcer, Outcome};
use super::record::{EndReason, Record};

impl Enforcer {
    /// The host was enrolled anew, beginning with `epoch`: all that is held ends, and the epoch is that of this
    /// enrolment from now on, even where it is lower (another deployment, a verifier restored from a backup).
    pub fn begin_enrolment(&mut self, deployment: DeploymentId, epoch: u64, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let running: Vec<GrantId> = decide::running(self.journal.held()).map(|(id, _)| *id).collect();
        for grant in running {
            outcome.append(self.end(grant, EndReason::EnrolledAnew, now_ms));
        }
        // Last: a crash before it is told at the next start by the epoch that is too high, or the other deployment.
        self.journal.announce_undo(&[Record::Enrolled { deployment, epoch }]);
        outcome
    }

    /// The host is enrolled with `deployment`, which accepted sets up to `epoch`, as kept from an earlier run. A
    /// journal that does not fit is of another enrolment: a crash came before [`Enforcer::begin_enrolment`].
    pub fn resume_enrolment(&mut self, deployment: DeploymentId, epoch: u64, now_ms: u64) -> Outcome {
        let held = self.journal.held();
        let is_other = held.deployment.is_some_and(|known| known != deployment);
        if is_other || held.epoch > epoch {
            return self.begin_enrolment(deployment, epoch, now_ms);
        }
        if held.deployment.is_none() {
            let epoch = held.epoch;
            self.journal.announce_undo(&[Record::Enrolled { deployment, epoch }]);
        }
        Outcome::default()
    }
}
