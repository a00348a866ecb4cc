//! Enrolling a host: a new one, or the same with a new attestation key.

use quotary_common::cbor::Text;
use quotary_common::id::{Digest, TokenId};
use quotary_common::leaf::{Decision, Enrolled};
use quotary_common::reason::{Reason, Refusal};
use quotary_decide::attest::CheckedEnrolment;
use quotary_decide::registry::{Host, HostProgress, HostRecord, TokenScope, check_join};

use super::command::Answer;
use super::state::{Pending, State, Step};
use super::tables;
use crate::store::{Expect, Partition};

impl State {
    /// Enrols an activated host under its token (wire.md, settled question 1).
    pub(super) fn enrol(
        &mut self,
        checked: &CheckedEnrolment,
        token: TokenId,
        answer: Answer<u64>,
        now_ms: u64,
    ) -> Step {
        match self.try_enrol(checked, token, now_ms) {
            Ok((mut step, epoch)) => {
                step.pending = Some(Pending::Enrolled(answer, Ok(epoch)));
                step
            }
            Err(refusal) => {
                let input = Digest::of(&[checked.ek_public(), checked.ak_public()]);
                let mut step = self.refused(Some(checked.host_id()), "enrolment", &refusal, input, 1, now_ms);
                step.pending = Some(Pending::Enrolled(answer, Err(refusal)));
                step
            }
        }
    }

    fn try_enrol(&mut self, checked: &CheckedEnrolment, token: TokenId, now_ms: u64) -> Result<(Step, u64), Refusal> {
        let id = checked.host_id();
        check_join(self.tokens.get(&token), Some(&id), now_ms)?;
        let Some(mut token_record) = self.tokens.get(&token).cloned() else {
            return Err(Refusal::new(Reason::JoinToken, "the join token is not known"));
        };
        let TokenScope::Join { zone_best, labels, capacity, used_by } = &mut token_record.scope else {
            return Err(Refusal::new(Reason::JoinToken, "the token is not a join token"));
        };
        *used_by = Some(id);
        let record = HostRecord::of(checked, token, (zone_best, labels, capacity), now_ms);
        let before = self.hosts.get(&id);
        let revoked = before.and_then(|host| host.progress.revoked.as_ref());
        if revoked.is_some_and(|(at_ms, _)| token_record.made_at_ms <= *at_ms) {
            let detail = "the host was revoked after this token was made: it needs a new one";
            return Err(Refusal::new(Reason::Revoked, detail));
        }
        let same_ak = before.is_some_and(|host| host.record.ak_public == record.ak_public);
        let progress = before.map_or_else(HostProgress::first, |host| host.progress.anew(same_ak));
        let epoch = progress.epoch;
        let known = before.is_some();
        let host = Host::new(record, progress, &self.settings.admission)
            .map_err(|error| Refusal::new(Reason::AkAttributes, error.to_string()))?;
        let mut step = self.record_enrolment(&host, checked, (known, known && !same_ak), now_ms);
        step.put(tables::TOKENS, Partition::Deployment, token.as_bytes(), &token_record);
        step.tokens.push(token);
        self.tokens.insert(token, token_record);
        self.book.set_capacity(id, host.record.capacity);
        self.replies.remove(&id);
        self.hosts.insert(id, host);
        step.hosts.push(id);
        Ok((step, epoch))
    }

    fn record_enrolment(
        &mut self,
        host: &Host,
        checked: &CheckedEnrolment,
        (known, replaced): (bool, bool),
        now_ms: u64,
    ) -> Step {
        let id = host.record.host;
        let partition = Partition::of_host(&id);
        let mut step = Step::default();
        step.put(tables::HOSTS, partition, id.as_bytes(), &host.record);
        step.put(tables::PROGRESS, partition, id.as_bytes(), &host.progress);
        let batch = std::mem::take(&mut step.batch);
        step.batch = batch.expect(
            tables::HOSTS,
            partition,
            *id.as_bytes(),
            if known { Expect::Present } else { Expect::Absent },
        );
        step.delete(tables::REPLIES, partition, id.as_bytes().to_vec());
        let enrolled = Enrolled {
            host: id,
            ek_public: checked.ek_public().to_vec(),
            ak_public: checked.ak_public().to_vec(),
            tls_key: checked.tls_key(),
            ek_issuer: checked.certified_by().map(|by| Text::lossy(&by.issuer)),
            token: host.record.token,
            replaced,
            epoch: host.progress.epoch,
        };
        step.leaf(now_ms, &format!("host {id}"), Decision::Enrolled(enrolled));
        if known {
            self.revoke_grants(&mut step, &id, Digest::of(&[checked.ak_public()]), now_ms);
            self.void_plans(&mut step, &id, host.progress.epoch, now_ms);
        }
        step
    }
}
