//! What the sockets ask, answered or passed on.

use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{AgentView, GaugeStatement, GaugesHeld};

use super::agent::Agent;
use super::enforcement::Order;
use super::requests::Waiting;
use super::view;
use crate::clock;
use crate::socket::{Ask, GrantName, Peer, Reply};

impl Agent {
    /// Answers, or passes on to who will.
    pub(super) fn answer(&mut self, ask: Ask) {
        let now_ms = clock::boottime_ms();
        match ask {
            Ask::Request { peer, id, request, arrived_us, reply } => {
                if let Some(why) = self.why_halted() {
                    let _ = reply.send(Err(Refusal::new(Reason::Unavailable, why)));
                    return;
                }
                let (uid, per_uid_max) = (peer.uid, self.config.requests_per_uid_max);
                let (held, held_max) =
                    (self.grants.count_of(uid) + self.requests.count_of(uid), self.config.grants_per_uid_max);
                if held >= held_max {
                    let detail =
                        format!("uid {uid} holds or waits for {held} grants, {held_max} are possible: release some");
                    let _ = reply.send(Err(Refusal::new(Reason::Quota, detail)));
                    return;
                }
                let waiting = Waiting { peer, request, arrived_us, reply };
                if self.requests.take_in(id, waiting, per_uid_max) {
                    self.schedule.requested(uid, now_ms);
                }
            }
            Ask::Show { peer, grant, reply } => {
                let shown = self.own(&peer, &grant).and_then(|id| self.grants.show(&id, now_ms).ok_or_else(unknown));
                let _ = reply.send(shown);
            }
            Ask::Watch { peer, grant, reply } => {
                let watched = self.own(&peer, &grant).and_then(|id| self.grants.watch(&id, now_ms).ok_or_else(unknown));
                let _ = reply.send(watched);
            }
            Ask::Release { peer, grant, reply } => match self.own(&peer, &grant) {
                Ok(id) => self.release(vec![id], Some(reply)),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Ask::Enter { peer, grant, reply } => self.enter(&peer, &grant, reply),
            Ask::StateGauges { peer, grant, gauges, reply } => {
                let _ = reply.send(self.state_gauges(&peer, &grant, &gauges, now_ms));
            }
            Ask::ShowAgent { reply } => self.show_agent(reply, now_ms),
            Ask::RestoreAll { reply } => match self.enforcement.order(Order::RestoreAll { reply }) {
                Ok(()) => {
                    self.is_restored = true;
                    self.changing += 1;
                    self.requests.refuse_all(&Refusal::new(Reason::Unavailable, "root is putting everything back"));
                }
                Err(Order::RestoreAll { reply }) => {
                    let _ = reply.send(Err(Refusal::new(Reason::Busy, "enforcement is busy: try again")));
                }
                Err(_) => {}
            },
        }
    }

    /// The grant of that name, if it is the peer's. Another's is as unknown as one that is not there.
    fn own(&self, peer: &Peer, name: &GrantName) -> Result<quotary_common::id::GrantId, Refusal> {
        self.grants.find(name.as_str(), peer.uid).ok_or_else(unknown)
    }

    /// Takes what the peer states of itself. It must run in the cgroup of its own grant: of two applications of one user
    /// neither speaks for the other.
    fn state_gauges(
        &mut self,
        peer: &Peer,
        name: &GrantName,
        gauges: &GaugeStatement,
        now_ms: u64,
    ) -> Result<GaugesHeld, Refusal> {
        let grant = self.own(peer, name)?;
        let Some(group) = self.grants.cgroup(&grant) else {
            let detail = "the grant has no cgroup, since nothing is enforced here: its gauges would be nobody's series";
            return Err(Refusal::new(Reason::Unavailable, detail));
        };
        if !is_within(peer.cgroup.as_str(), group.as_str()) {
            let detail = format!("gauges are stated from within the grant's cgroup {group}, not from {}", peer.cgroup);
            return Err(Refusal::new(Reason::NotOwner, detail));
        }
        self.gauges.state(grant, gauges, now_ms).map_err(|wait_ms| {
            let detail = format!("gauges are sampled once a second: state them again in {wait_ms} ms");
            Refusal::new(Reason::Busy, detail)
        })
    }

    fn enter(&mut self, peer: &Peer, name: &GrantName, reply: Reply<quotary_common::wire::LocalGrant>) {
        let grant = match self.own(peer, name) {
            Ok(grant) => grant,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let Peer { pid, start_time_ticks, uid, .. } = *peer;
        let order = Order::Enter { grant, pid, start_time_ticks, uid, reply };
        if let Err(Order::Enter { reply, .. }) = self.enforcement.order(order) {
            let _ = reply.send(Err(Refusal::new(Reason::Busy, "enforcement is busy: try again")));
        }
    }

    fn show_agent(&self, reply: Reply<AgentView>, now_ms: u64) {
        let host = self.linking.host();
        let figures = &self.figures;
        let why_not: Vec<String> =
            [self.enforcement_facts.why_not.clone(), self.why_halted().map(str::to_owned), figures.alarm.clone()]
                .into_iter()
                .flatten()
                .collect();
        let backend = self.backend();
        let mut view = AgentView {
            host,
            id: host.map(|host| host.to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: backend.mode,
            why_not: (!why_not.is_empty()).then(|| why_not.join("; ")),
            backend: backend.kind,
            hierarchy: backend.hierarchy,
            sequence: figures.sequence,
            last_accepted_ms_ago: figures.accepted_at_ms.map(|at_ms| now_ms.saturating_sub(at_ms)),
            last_refusal: figures.last_refusal.clone(),
            tpm_in_lockout: false,
            tpm_manufacturer: String::new(),
            tpm_child_pid: None,
            quote_us: figures.quote_us.to_vec(),
            request_to_enforced_us: figures.request_to_enforced_us.to_vec(),
            grants: self.grants.show_all(now_ms),
            targets: self.holding.shaped.targets.iter().map(view::shaped).collect(),
            not_followed: self.holding.shaped.not_followed.iter().map(view::not_followed).collect(),
            authority: self.learning.pinned().map(view::pinned),
            authority_why_not: self.learning.why_not(),
            unsupported: self.enforcement_facts.can.unsupported.iter().map(view::unsupported).collect(),
        };
        let tpm = self.linking.tpm();
        // The TPM may take its time.
        self.tasks.spawn(async move {
            if let Some(tpm) = tpm {
                match tpm.status().await {
                    Ok(status) => {
                        view.tpm_in_lockout = status.in_lockout;
                        view.tpm_manufacturer = status.manufacturer;
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the TPM does not say how it is")
                    }
                }
                view.tpm_child_pid = tpm.software_child_pid();
            }
            let _ = reply.send(Ok(view));
        });
    }
}

/// Whether a cgroup is the group, or lies below it.
fn is_within(cgroup: &str, group: &str) -> bool {
    let group = group.trim_end_matches('/');
    !group.is_empty() && cgroup.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn unknown() -> Refusal {
    Refusal::new(Reason::NotFound, "you hold no such grant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_what_is_in_it_or_below_it_and_nothing_beside_it() {
        for inside in ["/quotary/run-a", "/quotary/run-a/worker", "/quotary/run-a/b/c"] {
            assert!(is_within(inside, "/quotary/run-a"), "{inside}");
        }
        for outside in ["/", "/quotary", "/quotary/run-ab", "/quotary/run-b", "/x/quotary/run-a", ""] {
            assert!(!is_within(outside, "/quotary/run-a"), "{outside}");
        }
        assert!(!is_within("/quotary/run-a", "/") && !is_within("/a", ""), "the root is no grant's group");
    }
}
