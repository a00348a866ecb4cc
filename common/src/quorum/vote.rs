//! Votes: a person's signature over exactly the text of a change, in a namespace that says what for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::change::{ChangeText, Way};
use super::decide::{Outcome, VoteNote};
use super::roster::{Roster, Word};
use super::ssh::{Fingerprint, Shown, SshFault, SshSignature};
use crate::cbor::{Bounded, BoundedBytes, Version};
use crate::id::{DeploymentId, Digest};
use crate::limits::{
    BALLOT_VOTES_MAX, SIGNATURE_CACHE_MAX, SSH_SIGNATURE_BYTES_MAX, VOTES_OF_KEY_MAX, VOTES_OF_PERSON_MAX,
};

/// What a vote says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Let it be so.
    #[n(1)]
    Approval,
    /// Let it not be so.
    #[n(2)]
    Rejection,
    /// What I signed before for this text shall not count.
    #[n(3)]
    Withdrawal,
    /// Let it be so at once: an emergency.
    #[n(4)]
    BreakGlass,
    /// I have looked at what was done in an emergency.
    #[n(5)]
    Review,
}

impl Verb {
    /// All.
    pub const ALL: [Self; 5] = [Self::Approval, Self::Rejection, Self::Withdrawal, Self::BreakGlass, Self::Review];

    /// The name in namespaces and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Rejection => "rejection",
            Self::Withdrawal => "withdrawal",
            Self::BreakGlass => "break-glass",
            Self::Review => "review",
        }
    }

    /// Whether a change of this way is decided, or reviewed, by such votes.
    pub const fn is_taken_by(self, way: Way) -> bool {
        match way {
            Way::Quorum => matches!(self, Self::Approval | Self::Rejection | Self::Withdrawal),
            Way::BreakGlass => matches!(self, Self::BreakGlass | Self::Rejection | Self::Withdrawal | Self::Review),
            // What one operator may do at once, another one cannot hold up.
            Way::Freeze => matches!(self, Self::Approval | Self::Withdrawal | Self::Review),
        }
    }

    /// The SSH namespace: a signature for one verb, or for one deployment, never stands for another.
    pub fn namespace(self, deployment: &DeploymentId) -> String {
        format!("quotary-{}-v1@{}", self.name(), deployment.hex().get(..16).unwrap_or_default())
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A vote as it is kept and sent: claimed until [`check`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Vote {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// Who says so.
    #[n(1)]
    pub person: Word,
    /// With which key.
    #[n(2)]
    pub key: Fingerprint,
    /// What.
    #[n(3)]
    pub verb: Verb,
    /// The text that it was given for: SHA-256 of its bytes.
    #[n(4)]
    pub text: Digest,
    /// When the verifier took it, Unix ms.
    #[n(5)]
    pub cast_at_ms: u64,
    /// The SSH signature without its armour.
    #[n(6)]
    pub signature: BoundedBytes<SSH_SIGNATURE_BYTES_MAX>,
}

impl Vote {
    /// A vote from what a person sent: who it is follows from the key.
    ///
    /// # Errors
    /// [`VoteFault`] when the change is not decided by such a vote, the signature does not read or is over 3 KiB, or
    /// nobody on the roster has its key.
    pub fn from_armoured(
        armoured: &str,
        verb: Verb,
        text: &ChangeText,
        roster: &Roster,
        cast_at_ms: u64,
    ) -> Result<Self, VoteFault> {
        if !verb.is_taken_by(text.change().way) {
            return Err(VoteFault::OtherVerb(verb));
        }
        let signature = SshSignature::parse(armoured)?;
        let key = signature.key().fingerprint();
        let (person, _) = roster.holder(&key).ok_or(VoteFault::UnknownKey(key))?;
        let bytes = BoundedBytes::new(signature.bytes().to_vec()).ok_or(SshFault::TooLarge)?;
        let (person, text) = (person.name.clone(), text.digest());
        Ok(Self { version: Version, person, key, verb, text, cast_at_ms, signature: bytes })
    }

    /// Which vote it is: SHA-256 of its text's digest, its key, its verb and its signature.
    fn name(&self) -> Digest {
        Digest::of(&[self.text.as_bytes(), self.key.0.as_bytes(), &[self.verb as u8], &self.signature])
    }

    /// The signature with its armour, for `ssh-keygen -Y verify`.
    ///
    /// # Errors
    /// [`SshFault`] when it does not read.
    pub fn armoured(&self) -> Result<String, SshFault> {
        Ok(SshSignature::from_bytes(&self.signature)?.armoured())
    }
}

/// Why a vote is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoteFault {
    /// The signature does not hold.
    #[error("the signature {0}")]
    Signature(#[from] SshFault),
    /// Nobody on the roster has the key.
    #[error("nobody on the roster has the key {0}")]
    UnknownKey(Fingerprint),
    /// The key that it names is not the signature's.
    #[error("the vote names another key than its signature's")]
    OtherKey,
    /// The text that it names is not this one.
    #[error("the vote is for another text of the change")]
    OtherText,
    /// No change of this way is decided, or reviewed, by such a vote.
    #[error("such a change takes no {0}")]
    OtherVerb(Verb),
    /// The person that it names does not hold the key.
    #[error("the key is not one of `{0}`")]
    OtherPerson(Word),
}

/// A vote whose signature was checked: made only by [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedVote {
    name: Digest,
    person: Word,
    verb: Verb,
    text: Digest,
    cast_at_ms: u64,
    shown: Shown,
}

impl CheckedVote {
    /// Which vote it is: SHA-256 of its text's digest, its key, its verb and its signature.
    pub fn name(&self) -> Digest {
        self.name
    }
    /// Who says so, by the roster that it was checked with.
    pub fn person(&self) -> &Word {
        &self.person
    }
    /// What.
    pub fn verb(&self) -> Verb {
        self.verb
    }
    /// For which text.
    pub fn text(&self) -> Digest {
        self.text
    }
    /// When the verifier took it, Unix ms.
    pub fn cast_at_ms(&self) -> u64 {
        self.cast_at_ms
    }
    /// With which key.
    pub fn key(&self) -> Fingerprint {
        self.shown.key
    }
    /// Whether a security key made it and says that somebody touched it.
    pub fn is_user_present(&self) -> bool {
        self.shown.is_user_present
    }

    /// A vote that no signature stands behind, for tests of what is decided of votes.
    #[cfg(test)]
    pub(super) fn unsigned(
        person: &Word,
        verb: Verb,
        text: Digest,
        cast_at_ms: u64,
        (key, is_user_present): (Fingerprint, bool),
    ) -> Self {
        let at = cast_at_ms.to_be_bytes();
        let name = Digest::of(&[text.as_bytes(), key.0.as_bytes(), &[verb as u8, u8::from(is_user_present)], &at]);
        Self { name, person: person.clone(), verb, text, cast_at_ms, shown: Shown { key, is_user_present } }
    }
}

/// Signature checks that held, so that none is made twice. Only what held is kept, and only so much of it.
#[derive(Debug, Default)]
pub struct SignatureCache {
    held: BTreeMap<Digest, Shown>,
    order: VecDeque<Digest>,
}

impl SignatureCache {
    fn keep(&mut self, name: Digest, shown: Shown) {
        if self.held.insert(name, shown).is_some() {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > SIGNATURE_CACHE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.held.remove(&oldest);
        }
    }

    /// How many checks are kept, at most [`SIGNATURE_CACHE_MAX`].
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Checks a vote's signature over the text, in its verb's namespace of the text's deployment.
///
/// One of `rosters` must know the key, as one of the person that the vote names: that is asked before anything costs.
/// Whether the vote counts is for [`super::decide`] to say.
///
/// # Errors
/// [`VoteFault`].
pub fn check(
    vote: &Vote,
    text: &ChangeText,
    rosters: &[&Roster],
    cache: &mut SignatureCache,
) -> Result<CheckedVote, VoteFault> {
    if vote.text != text.digest() {
        return Err(VoteFault::OtherText);
    }
    let mut holders = rosters.iter().filter_map(|roster| roster.holder(&vote.key)).peekable();
    if holders.peek().is_none() {
        return Err(VoteFault::UnknownKey(vote.key));
    }
    if !holders.any(|(holder, _)| holder.name == vote.person) {
        return Err(VoteFault::OtherPerson(vote.person.clone()));
    }
    let name = vote.name();
    let shown = match cache.held.get(&name) {
        Some(shown) => *shown,
        None => {
            let signature = SshSignature::from_bytes(&vote.signature)?;
            if signature.key().fingerprint() != vote.key {
                return Err(VoteFault::OtherKey);
            }
            let shown = signature.verify(&vote.verb.namespace(&text.change().deployment), text.hashes())?;
            cache.keep(name, shown);
            shown
        }
    };
    let Vote { person, verb, text, cast_at_ms, .. } = vote;
    Ok(CheckedVote { name, person: person.clone(), verb: *verb, text: *text, cast_at_ms: *cast_at_ms, shown })
}

/// The votes of one change, bounded: few for each person, verb, text and key. Votes for earlier texts stay, dismissed,
/// until their room is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Ballot {
    /// Form version.
    #[n(0)]
    version: Version<1>,
    /// In the order in which they came.
    #[n(1)]
    votes: Bounded<Vote, BALLOT_VOTES_MAX>,
}

/// What became of a vote that was cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// It is kept.
    Kept,
    /// The same signature is kept already, so that sending it again alters nothing; or the key, or the person, has said
    /// so often enough.
    Again,
    /// There is no room for more votes on this text.
    Full,
}

impl Ballot {
    /// The votes, in the order in which they came.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// What casting a vote would lead to: asked before its signature is checked.
    pub fn would(&self, vote: &Vote) -> Cast {
        let of = |vote: &Vote| (vote.person.clone(), vote.verb, vote.text, vote.key);
        let named = of(vote);
        let same: Vec<&Vote> = self.votes.iter().filter(|other| of(other) == named).collect();
        let of_person = self
            .votes
            .iter()
            .filter(|other| (&other.person, other.verb, other.text) == (&vote.person, vote.verb, vote.text));
        let is_full = || self.votes.len() >= BALLOT_VOTES_MAX && self.votes.iter().all(|other| other.text == vote.text);
        let has_said_so = same.len() >= VOTES_OF_KEY_MAX || of_person.count() >= VOTES_OF_PERSON_MAX;
        if has_said_so || same.iter().any(|other| other.signature == vote.signature) {
            Cast::Again
        } else if is_full() {
            Cast::Full
        } else {
            Cast::Kept
        }
    }

    /// Keeps a vote that [`check`] let pass. The oldest one for another text makes room where there is none.
    pub fn cast(&mut self, vote: Vote) -> Cast {
        let would = self.would(&vote);
        if would == Cast::Kept {
            let mut votes = std::mem::take(&mut self.votes).into_vec();
            if votes.len() >= BALLOT_VOTES_MAX
                && let Some(oldest) = votes.iter().position(|other| other.text != vote.text)
            {
                votes.remove(oldest);
            }
            votes.push(vote);
            self.votes = Bounded::truncating(votes).0;
        }
        would
    }

    /// The votes that travel with the decision: the very ones that let `text` pass. Nothing else may, since who
    /// receives them refuses a decision with a vote that does not hold: one by a key that left the roster, say.
    pub fn counted(&self, text: &ChangeText, outcome: &Outcome) -> Vec<Vote> {
        let passes = |note: &&VoteNote| note.counted.is_ok() && matches!(note.verb, Verb::Approval | Verb::BreakGlass);
        let names: BTreeSet<Digest> = outcome.votes.iter().filter(passes).map(|note| note.name).collect();
        let is_counted = |vote: &&Vote| vote.text == text.digest() && names.contains(&vote.name());
        self.votes.iter().filter(is_counted).cloned().collect()
    }

    /// Those of its votes whose signatures hold over `text`, and those that do not with the reason.
    pub fn checked(
        &self,
        text: &ChangeText,
        rosters: &[&Roster],
        cache: &mut SignatureCache,
    ) -> (Vec<CheckedVote>, Vec<(Vote, VoteFault)>) {
        let (mut held, mut failed) = (Vec::new(), Vec::new());
        for vote in self.votes.iter() {
            match check(vote, text, rosters, cache) {
                Ok(vote) => held.push(vote),
                Err(fault) => failed.push((vote.clone(), fault)),
            }
        }
        (held, failed)
    }
}
