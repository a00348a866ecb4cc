//! Requests that wait for the verifier's answer. Pure but for the channel on which the answer goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::envelope::PendingRequest;
use quotary_common::id::RequestId;
use quotary_common::limits::REQUESTS_MAX;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{GrantRequest, RequestReply};

use crate::socket::{Peer, Reply};

/// One that waits. Whoever asked is gone when `reply` is closed: then it is withdrawn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) peer: Arc<Peer>,
    pub(super) request: GrantRequest,
    pub(super) arrived_us: u64,
    pub(super) reply: Reply<RequestReply>,
}

/// All that wait, by id.
#[derive(Debug, Default)]
pub(super) struct Requests(BTreeMap<RequestId, Waiting>);

impl Requests {
    /// Takes a request in, or answers it: too many of that uid, or of all.
    pub(super) fn take_in(&mut self, id: RequestId, waiting: Waiting, per_uid_max: usize) -> bool {
        self.forget_withdrawn();
        if self.count_of(waiting.peer.uid) >= per_uid_max || self.0.len() >= REQUESTS_MAX {
            let detail = "too many of your requests wait for an answer: come back when some have theirs";
            let _ = waiting.reply.send(Err(Refusal::new(Reason::Busy, detail)));
            return false;
        }
        self.0.insert(id, waiting);
        true
    }

    /// How many of one uid wait.
    pub(super) fn count_of(&self, uid: u32) -> usize {
        self.0.values().filter(|waiting| waiting.peer.uid == uid).count()
    }

    /// Drops requests whose asker is gone.
    pub(super) fn forget_withdrawn(&mut self) {
        self.0.retain(|_, waiting| !waiting.reply.is_closed());
    }

    /// Those that wait, as an envelope states them.
    pub(super) fn pending(&mut self) -> Vec<PendingRequest> {
        self.forget_withdrawn();
        let stated = |(id, waiting): (&RequestId, &Waiting)| PendingRequest {
            id: *id,
            uid: waiting.peer.uid,
            gid: waiting.peer.gid,
            pid: waiting.peer.pid,
            start_time_ticks: waiting.peer.start_time_ticks,
            cgroup: waiting.peer.cgroup.clone(),
            unit: waiting.peer.unit.clone(),
            name: waiting.request.name.clone(),
            class: waiting.request.class,
            resources: waiting.request.resources,
        };
        self.0.iter().map(stated).collect()
    }

    /// Takes one out that has its answer; `None` when its asker is gone.
    pub(super) fn answered(&mut self, id: &RequestId) -> Option<Waiting> {
        self.0.remove(id).filter(|waiting| !waiting.reply.is_closed())
    }

    /// Answers all.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for (_, waiting) in std::mem::take(&mut self.0) {
            let _ = waiting.reply.send(Err(refusal.clone()));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::CgroupPath;
    use quotary_common::units::{Class, Resources};
    use tokio::sync::oneshot;

    use super::*;

    fn waiting(uid: u32) -> (Waiting, oneshot::Receiver<Result<RequestReply, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        let peer = Peer { uid, gid: 0, pid: 1, start_time_ticks: 1, cgroup: CgroupPath::lossy("/"), unit: None };
        let request = GrantRequest { resources: Resources::default(), class: Class::Burstable, name: None, wait_ms: 1 };
        (Waiting { peer: Arc::new(peer), request, arrived_us: 0, reply }, answer)
    }

    #[test]
    fn a_uid_has_its_places_and_those_of_the_gone_are_free() {
        let mut requests = Requests::default();
        let mut answers = Vec::new();
        for n in 0..2u8 {
            let (one, answer) = waiting(7);
            assert!(requests.take_in(RequestId::new([n; 32]), one, 2));
            answers.push(answer);
        }
        let (one, mut refused) = waiting(7);
        assert!(!requests.take_in(RequestId::new([2; 32]), one, 2));
        assert_eq!(refused.try_recv().unwrap().unwrap_err().reason, Reason::Busy);
        let (other, _answer) = waiting(8);
        assert!(requests.take_in(RequestId::new([3; 32]), other, 2), "another uid has its own");
        assert_eq!(requests.pending().len(), 3);
        answers.remove(0);
        assert_eq!(requests.pending().len(), 2, "who is gone is not stated");
        assert!(requests.answered(&RequestId::new([0; 32])).is_none());
        assert!(requests.answered(&RequestId::new([1; 32])).is_some());
    }

    #[test]
    fn all_uids_together_fit_one_envelope() {
        let mut requests = Requests::default();
        let mut answers = Vec::new();
        for n in 0..300u32 {
            let (one, answer) = waiting(n);
            requests.take_in(RequestId::of(&[&n.to_be_bytes()]), one, 2);
            answers.push(answer);
        }
        assert_eq!(requests.pending().len(), REQUESTS_MAX);
    }
}
