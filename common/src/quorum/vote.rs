//! Votes: a person's signature over exactly the text of a change, in a namespace that says what for.

use std::collections::{BTreeMap, VecDeque};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::change::ChangeText;
use super::decide::{Outcome, VoteNote};
use super::roster::{Roster, Word};
use super::ssh::{Fingerprint, Shown, SshFault, SshSignature};
use crate::cbor::{Bounded, BoundedBytes, Version};
use crate::id::{DeploymentId, Digest};
use crate::limits::{BALLOT_VOTES_MAX, SIGNATURE_CACHE_MAX, SSH_SIGNATURE_BYTES_MAX, VOTES_OF_KEY_MAX};

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
    /// [`VoteFault`] when the signature does not read, is over 3 KiB, or nobody on the roster has its key.
    pub fn from_armoured(
        armoured: &str,
        verb: Verb,
        text: &ChangeText,
        roster: &Roster,
        cast_at_ms: u64,
    ) -> Result<Self, VoteFault> {
        let signature = SshSignature::parse(armoured)?;
        let key = signature.key().fingerprint();
        let (person, _) = roster.holder(&key).ok_or(VoteFault::UnknownKey(key))?;
        let bytes = BoundedBytes::new(signature.bytes().to_vec()).ok_or(SshFault::TooLarge)?;
        let (person, text) = (person.name.clone(), text.digest());
        Ok(Self { version: Version, person, key, verb, text, cast_at_ms, signature: bytes })
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
    /// The person that it names does not hold the key.
    #[error("the key is not one of `{0}`")]
    OtherPerson(Word),
}

/// A vote whose signature was checked: made only by [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedVote {
    person: Word,
    verb: Verb,
    text: Digest,
    cast_at_ms: u64,
    shown: Shown,
}

impl CheckedVote {
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
        Self { person: person.clone(), verb, text, cast_at_ms, shown: Shown { key, is_user_present } }
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
    let verb = [vote.verb as u8];
    let name = Digest::of(&[text.digest().as_bytes(), vote.key.0.as_bytes(), &verb, &vote.signature]);
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
    Ok(CheckedVote { person: person.clone(), verb: *verb, text: *text, cast_at_ms: *cast_at_ms, shown })
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
    /// The same signature is kept already, so that sending it again alters nothing; or the key has said so often enough.
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
        let is_full = || self.votes.len() >= BALLOT_VOTES_MAX && self.votes.iter().all(|other| other.text == vote.text);
        if same.len() >= VOTES_OF_KEY_MAX || same.iter().any(|other| other.signature == vote.signature) {
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

    /// The votes that travel with the decision: those for `text` that let it pass. Nothing else may, since who receives
    /// them refuses a decision with a vote that does not hold.
    pub fn counted(&self, text: &ChangeText, outcome: &Outcome) -> Vec<Vote> {
        let passes = |note: &VoteNote| note.counted.is_ok() && matches!(note.verb, Verb::Approval | Verb::BreakGlass);
        let counted = |vote: &&Vote| {
            let is_of = |note: &VoteNote| passes(note) && (&note.person, note.verb) == (&vote.person, vote.verb);
            vote.text == text.digest() && outcome.votes.iter().any(is_of)
        };
        self.votes.iter().filter(counted).cloned().collect()
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
