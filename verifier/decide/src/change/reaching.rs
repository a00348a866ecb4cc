//! Which quorum decisions in force may reach which hosts.
//!
//! Hosts are told of them whether anything of theirs runs there yet or not: what starts later is under its policy from its first moment, and a
//! host that is given no plan any more hears of a revocation all the same.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::{ChangeId, Digest, HostId, sha256};
use quotary_common::quorum::change::Kind;

use super::book::{Book, Kept};
use crate::policy::life::State;

/// Texts of the decisions in force, with the changes that they are of.
type Texts = BTreeMap<Digest, ChangeId>;

/// What is in force, by whom it may reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Reaching {
    /// What may reach every host.
    everywhere: Texts,
    /// What may reach single hosts only.
    on_hosts: BTreeMap<HostId, Texts>,
    /// Stands for what may reach every host.
    name: Option<Digest>,
}

impl Reaching {
    /// As the book stands: the policies in force, and the revocations after which none of their name came.
    pub(super) fn of(book: &Book) -> Self {
        let is_revocation = |kept: &Kept| kept.record.kind == Kind::RevokePolicy && kept.record.state == State::InForce;
        let revocations = book.changes.iter().filter(|(_, kept)| is_revocation(kept)).map(|(id, _)| *id);
        let in_force: BTreeSet<ChangeId> = book.policies.values().map(|held| held.change).chain(revocations).collect();
        let mut reaching = Self::default();
        for id in in_force {
            let Some(kept) = book.changes.get(&id).filter(|kept| kept.decision.is_some()) else { continue };
            let (covers, text) = (&kept.text.change().covers, kept.text.digest());
            if covers.iter().any(|cover| cover.host.is_none()) {
                reaching.everywhere.insert(text, id);
                continue;
            }
            for host in covers.iter().filter_map(|cover| cover.host) {
                reaching.on_hosts.entry(host).or_default().insert(text, id);
            }
        }
        reaching.name = (!reaching.everywhere.is_empty()).then(|| name_of(None, &reaching.everywhere));
        reaching
    }

    /// Stands for what may reach a host, and changes with it; `None`: nothing does.
    fn name(&self, host: &HostId) -> Option<Digest> {
        match self.on_hosts.get(host) {
            Some(own) => Some(name_of(self.name, own)),
            None => self.name,
        }
    }
}

fn name_of(before: Option<Digest>, texts: &Texts) -> Digest {
    let mut parts: Vec<&[u8]> = vec![b"quotary quorum decisions in force v1"];
    parts.extend(before.iter().map(|before| &before.as_bytes()[..]));
    parts.extend(texts.keys().map(|text| &text.as_bytes()[..]));
    Digest::new(sha256(&parts))
}

impl Book {
    /// Stands for the quorum decisions in force that may reach a host, and changes with them; `None`: none do.
    pub fn in_force_name(&self, host: &HostId) -> Option<Digest> {
        self.reaching.name(host)
    }

    /// The texts of the quorum decisions in force that may reach a host, by their SHA-256. Of a revocation a host that has
    /// not heard until its apply-by time never will: after it (`now_ms`, Unix ms) it is left out.
    pub fn in_force_for(&self, host: &HostId, now_ms: u64) -> Vec<Digest> {
        let own = self.reaching.on_hosts.get(host);
        let texts = self.reaching.everywhere.iter().chain(own.into_iter().flatten());
        let can_be_taken = |id: &ChangeId| {
            self.changes
                .get(id)
                .is_some_and(|kept| kept.record.kind != Kind::RevokePolicy || now_ms <= kept.record.times.apply_by_ms)
        };
        texts.filter(|(_, id)| can_be_taken(id)).map(|(text, _)| *text).collect()
    }

    /// One of them as it travels, by the SHA-256 of its text: canonical bytes.
    pub fn in_force_by(&self, host: &HostId, text: &Digest) -> Option<&[u8]> {
        let own = self.reaching.on_hosts.get(host).and_then(|own| own.get(text));
        let id = own.or_else(|| self.reaching.everywhere.get(text))?;
        self.changes.get(id)?.decision()
    }
}
