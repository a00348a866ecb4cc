//! The quorum decisions that this host has acted on, from one start to the next: which policies are in force here.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Bounded, BoundedBytes, Version};
use quotary_common::id::{DeploymentId, Digest};
use quotary_common::limits::{DECISION_BYTES_MAX, DECISIONS_KEPT_BYTES_MAX, DECISIONS_KEPT_MAX};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::change::{Change, Kind, Way};
use quotary_common::quorum::decision::{VerifiedDecision, verify};
use quotary_common::quorum::roster::Word;

use super::{AuthorityError, Heard};
use crate::state::StateDir;

/// The file of the decisions in the state directory.
pub const DECISIONS_FILE: &str = "decisions.cbor";

/// After so long a host has heard what is in force, ms: some replies, and as much as it may be silent without losing its grants.
const HEARD_WITHIN_MS: u64 = 300_000;

/// A decision as kept: with all that it takes to verify it again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct DecisionRecord {
    /// Its canonical bytes.
    #[n(0)]
    decision: BoundedBytes<DECISION_BYTES_MAX>,
    /// The instant that it was held against, Unix ms: its apply-by time was to come.
    #[n(1)]
    applied_at_ms: u64,
    /// Under whom it held: who decides may have changed since, and what they decided stands.
    #[n(2)]
    under: Authority,
    /// Whether the verifier said, at its effective time or later, that it is in force, and it held then.
    #[n(3)]
    is_in_force: bool,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct DecisionsRecord {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    decisions: Bounded<DecisionRecord, DECISIONS_KEPT_MAX>,
}

#[derive(Debug, Clone)]
struct KeptDecision {
    record: DecisionRecord,
    /// Whether it was in force when the agent started.
    was_in_force: bool,
    verified: VerifiedDecision,
}

impl KeptDecision {
    fn change(&self) -> &Change {
        self.verified.change()
    }
    /// Of two over one policy the later has the greater rank.
    fn rank(&self) -> (u64, u64) {
        rank(self.change())
    }
    fn is_emergency(&self) -> bool {
        self.change().way != Way::Quorum
    }
    fn is_revocation(&self) -> bool {
        self.change().kind == Kind::RevokePolicy
    }
    fn stands_under(&self, pin: &Authority) -> bool {
        self.record.is_in_force || pin.number <= self.record.under.number
    }
}

/// Whether a host that was there may still take a change: until its apply-by time, and the while that a host takes to hear that it is in force, which
/// may be by a moment before.
pub(super) fn is_in_time(change: &Change, now_ms: u64) -> bool {
    now_ms <= change.apply_by_ms.saturating_add(HEARD_WITHIN_MS)
}

fn rank(change: &Change) -> (u64, u64) {
    (change.effective_ms, change.proposed_ms)
}

/// The decisions that are kept, by the digest of the text that people signed: votes alone make no other decision of it.
///
/// A decision comes into force here when the verifier says that it is, at its effective time or later, and it holds then: a
/// change that was taken back before, or is held where it is, leaves what was in force before it, whatever plans of it
/// there were. From then on it is in force until a later one over the same policy is, with or without plans, whatever the
/// verifier says; an emergency until its end, and what it stood before holds again.
#[derive(Debug)]
pub struct Kept {
    state: StateDir,
    decisions: BTreeMap<Digest, KeptDecision>,
    /// What the file lacks of this.
    is_unkept: bool,
}

impl Kept {
    /// Reads them, and verifies each again as of when it was acted on first.
    ///
    /// # Errors
    /// [`AuthorityError::Decisions`], [`AuthorityError::DecisionsForm`] and [`AuthorityError::DecisionsFault`] when the
    /// file does not read or is not what was written: it stays.
    pub fn load(state: StateDir) -> Result<Self, AuthorityError> {
        let mut kept = Self { state, decisions: BTreeMap::new(), is_unkept: false };
        let read = kept.state.read(DECISIONS_FILE, DECISIONS_KEPT_BYTES_MAX).map_err(AuthorityError::Decisions)?;
        let Some(bytes) = read else { return Ok(kept) };
        let path = || kept.state.file(DECISIONS_FILE);
        let record: DecisionsRecord = cbor::from_bytes(&bytes, DECISIONS_KEPT_BYTES_MAX)
            .map_err(|source| AuthorityError::DecisionsForm { path: path(), source })?;
        for record in record.decisions.into_vec() {
            let verified = verify(&record.decision, &record.under, &record.under.deployment, record.applied_at_ms)
                .map_err(|source| AuthorityError::DecisionsFault { path: path(), source })?;
            let was_in_force = record.is_in_force;
            kept.decisions.insert(verified.text().digest(), KeptDecision { record, was_in_force, verified });
        }
        Ok(kept)
    }

    /// Lets go of what was decided in another deployment.
    pub fn belong_to(&mut self, deployment: &DeploymentId) {
        let before = self.decisions.len();
        self.decisions.retain(|_, kept| kept.change().deployment == *deployment);
        self.is_unkept |= before != self.decisions.len();
    }

    /// The decision over this text, if it was acted on.
    pub fn find(&self, text: &Digest) -> Option<&VerifiedDecision> {
        self.decisions.get(text).map(|kept| &kept.verified)
    }

    /// Whether the decision over this text was in force when the agent started.
    pub fn was_in_force(&self, text: &Digest) -> bool {
        self.decisions.get(text).is_some_and(|kept| kept.was_in_force)
    }

    /// The decision over this text, if it was acted on and stands under `pin` at `now_ms` (Unix ms): it is in force, or
    /// nobody has come to decide since it was held against those who do, and its apply-by time is not over.
    pub fn find_under(&self, text: &Digest, pin: &Authority, now_ms: u64) -> Option<&VerifiedDecision> {
        let stands = |kept: &&KeptDecision| {
            kept.stands_under(pin) && (kept.record.is_in_force || is_in_time(kept.change(), now_ms))
        };
        self.decisions.get(text).filter(stands).map(|kept| &kept.verified)
    }

    /// The texts of those that are in force, or were until another took their place that has not ended yet.
    pub fn texts_in_force(&self) -> BTreeSet<Digest> {
        let in_force = self.decisions.iter().filter(|(_, kept)| kept.record.is_in_force);
        in_force.map(|(text, _)| *text).collect()
    }

    /// What is in force over each policy at `now_ms` (Unix ms), emergencies before what they stand before: the newest
    /// first.
    pub fn in_force(&self, now_ms: u64) -> Vec<&VerifiedDecision> {
        let mut newest: BTreeMap<&Word, &KeptDecision> = BTreeMap::new();
        for kept in self.decisions.values().filter(|kept| kept.record.is_in_force && !is_over(kept, now_ms)) {
            let of_policy = newest.entry(&kept.change().name).or_insert(kept);
            if (of_policy.is_emergency(), of_policy.rank()) < (kept.is_emergency(), kept.rank()) {
                *of_policy = kept;
            }
        }
        let mut newest: Vec<&KeptDecision> = newest.into_values().collect();
        newest.sort_by_key(|kept| std::cmp::Reverse((kept.is_emergency(), kept.rank())));
        newest.into_iter().map(|kept| &kept.verified).collect()
    }

    /// Whether a later decision over the same policy is in force: what came before it is not acted on any more.
    pub fn is_superseded(&self, change: &Change) -> bool {
        change.way == Way::Quorum && self.newest_in_force(&change.name).is_some_and(|newest| rank(change) < newest)
    }

    fn newest_in_force(&self, policy: &Word) -> Option<(u64, u64)> {
        let of_policy = self.decisions.values().filter(|kept| kept.change().name == *policy);
        of_policy.filter(|kept| kept.record.is_in_force && !kept.is_emergency()).map(KeptDecision::rank).max()
    }

    /// Keeps a decision that held under `under` at `now_ms` (Unix ms), before a plan moves anything by it; whether that is
    /// new. One that is kept stays, but for one to come that was held against earlier people.
    ///
    /// # Errors
    /// [`AuthorityError::TooMany`] and [`AuthorityError::Decisions`]: then nothing may move by it.
    pub fn keep(
        &mut self,
        bytes: &[u8],
        verified: &VerifiedDecision,
        under: Authority,
        now_ms: u64,
    ) -> Result<bool, AuthorityError> {
        let text = verified.text().digest();
        if self.decisions.get(&text).is_some_and(|kept| kept.stands_under(&under)) {
            return Ok(false);
        }
        self.insert((bytes, verified), (under, now_ms)).map(|()| true)
    }

    /// Puts decisions in force that the verifier says are, at `now_ms` (Unix ms), by one write; those that are new come back.
    /// One whose effective time has not come by this host's clock waits, and one after which a later one came into force
    /// over its policy is not taken.
    ///
    /// # Errors
    /// [`AuthorityError::TooMany`] and [`AuthorityError::Decisions`]: none of them is in force here.
    pub fn put_in_force<'h>(
        &mut self,
        heard: impl Iterator<Item = &'h Heard>,
        now_ms: u64,
    ) -> Result<Vec<&'h Change>, AuthorityError> {
        let is_new = |kept: &Self, heard: &Heard| {
            let change = heard.verified.change();
            let is_over = change.until_ms.is_some_and(|until_ms| until_ms <= now_ms);
            let is_known = kept.decisions.get(&heard.text()).is_some_and(|kept| kept.record.is_in_force);
            !is_known && !is_over && change.effective_ms <= now_ms && !kept.is_superseded(change)
        };
        let heard: Vec<&Heard> = heard.filter(|heard| is_new(self, heard)).collect();
        let Some(first) = heard.first() else { return Ok(Vec::new()) };
        let too_many = || AuthorityError::TooMany(first.verified.change().name.clone());
        let before = self.decisions.clone();
        for heard in &heard {
            let decision = BoundedBytes::new(heard.bytes.clone()).ok_or_else(too_many)?;
            let record =
                DecisionRecord { decision, applied_at_ms: heard.as_of_ms, under: heard.under, is_in_force: true };
            let kept = KeptDecision { record, was_in_force: false, verified: heard.verified.clone() };
            self.decisions.insert(heard.text(), kept);
        }
        self.tidy(now_ms);
        let written = self.make_room(None).ok_or_else(too_many).and_then(|bytes| self.write(&bytes));
        if let Err(error) = written {
            self.decisions = before;
            return Err(error);
        }
        Ok(heard.into_iter().map(|heard| heard.verified.change()).collect())
    }

    fn insert(
        &mut self,
        (bytes, verified): (&[u8], &VerifiedDecision),
        (under, now_ms): (Authority, u64),
    ) -> Result<(), AuthorityError> {
        let (text, change) = (verified.text().digest(), verified.change());
        let too_many = || AuthorityError::TooMany(change.name.clone());
        let decision = BoundedBytes::new(bytes.to_vec()).ok_or_else(too_many)?;
        let record = DecisionRecord { decision, applied_at_ms: now_ms, under, is_in_force: false };
        let before = self.decisions.clone();
        self.decisions.insert(text, KeptDecision { record, was_in_force: false, verified: verified.clone() });
        self.tidy(now_ms);
        let written = self.make_room(Some(&text)).ok_or_else(too_many).and_then(|bytes| self.write(&bytes));
        if written.is_err() {
            self.decisions = before;
        }
        written
    }

    /// What a reply tells of them: `carried` are the texts of the decisions that its plans carry. What is not in force and is
    /// carried no more was taken back.
    pub fn settle(&mut self, carried: &BTreeSet<Digest>, now_ms: u64) {
        let before = self.decisions.len();
        self.decisions.retain(|text, kept| kept.record.is_in_force || carried.contains(text));
        self.is_unkept |= before != self.decisions.len();
        self.tidy(now_ms);
        // Nothing was added, so that there is room.
        if self.is_unkept
            && let Some(bytes) = self.file()
            && let Err(error) = self.write(&bytes)
        {
            // Tried again with the next reply; until then a restart would know what was kept before.
            tracing::error!(error = &error as &dyn std::error::Error, "which policies are in force is not kept");
        }
    }

    /// Lets go of what is over: emergencies past their end, and what was superseded. A revocation stays, so that nothing
    /// from before it comes back.
    fn tidy(&mut self, now_ms: u64) {
        let policies: BTreeSet<Word> = self.decisions.values().map(|kept| kept.change().name.clone()).collect();
        let newest: BTreeMap<Word, (u64, u64)> =
            policies.into_iter().filter_map(|policy| Some((policy.clone(), self.newest_in_force(&policy)?))).collect();
        let before = self.decisions.len();
        self.decisions.retain(|_, kept| {
            let is_before = newest.get(&kept.change().name).is_some_and(|newest| kept.rank() < *newest);
            !is_over(kept, now_ms) && (kept.is_emergency() || !is_before)
        });
        self.is_unkept |= before != self.decisions.len();
    }

    /// The file's bytes with room for all; revocations go first, the oldest before the others. `None`: there is no room.
    fn make_room(&mut self, new: Option<&Digest>) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = self.file() {
                return Some(bytes);
            }
            let revocations = self.decisions.iter().filter(|(text, kept)| Some(*text) != new && kept.is_revocation());
            let oldest = revocations.min_by_key(|(_, kept)| kept.rank()).map(|(text, _)| *text)?;
            self.decisions.remove(&oldest);
        }
    }

    fn file(&self) -> Option<Vec<u8>> {
        let decisions = Bounded::new(self.decisions.values().map(|kept| kept.record.clone()).collect())?;
        let bytes = cbor::to_bytes(&DecisionsRecord { version: Version, decisions });
        (bytes.len() <= DECISIONS_KEPT_BYTES_MAX).then_some(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AuthorityError> {
        self.is_unkept = true;
        self.state.write(DECISIONS_FILE, bytes).map_err(AuthorityError::Decisions)?;
        self.is_unkept = false;
        Ok(())
    }
}

fn is_over(kept: &KeptDecision, now_ms: u64) -> bool {
    kept.change().until_ms.is_some_and(|until_ms| until_ms <= now_ms)
}
