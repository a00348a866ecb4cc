//! The quorum decision that travels in a plan: all that an agent needs to see for itself that people approved it.

use minicbor::{Decode, Encode};

use super::authority::Authority;
use super::change::{Change, ChangeText, TextFault};
use super::decide::{Case, CaseFault, Moment, Outcome, Proposed, Under, decide};
use super::document::{Faults, digest_of};
use super::roster::Roster;
use super::rules::Rules;
use super::vote::{SignatureCache, Vote, VoteFault, check};
use crate::cbor::{self, Bounded, BoundedBytes, CborError, Version};
use crate::id::{DeploymentId, Digest};
use crate::limits::{CHANGE_BYTES_MAX, DECISION_BYTES_MAX, DECISION_VOTES_MAX, DOCUMENT_BYTES_MAX};

/// A document's exact bytes.
pub type DocumentBytes = BoundedBytes<DOCUMENT_BYTES_MAX>;

/// A decision as it is sent: claimed until [`verify`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct QuorumDecision {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The text of the change.
    #[n(1)]
    pub text: BoundedBytes<CHANGE_BYTES_MAX>,
    /// The votes for it.
    #[n(2)]
    pub votes: Bounded<Vote, DECISION_VOTES_MAX>,
    /// The roster in force.
    #[n(3)]
    pub roster: DocumentBytes,
    /// The rules in force.
    #[n(4)]
    pub rules: DocumentBytes,
    /// The roster at creation, where it is another.
    #[n(5)]
    pub roster_at_creation: Option<DocumentBytes>,
    /// The rules at creation, where they are others.
    #[n(6)]
    pub rules_at_creation: Option<DocumentBytes>,
    /// When the verifier took it for approved, Unix ms.
    #[n(7)]
    pub approved_at_ms: u64,
}

/// Why a decision does not hold.
#[derive(Debug, thiserror::Error)]
pub enum DecisionFault {
    /// Not the form, or too large.
    #[error("the quorum decision does not read")]
    Form(#[source] CborError),
    /// The roster or rules that it calls those in force are not those that are pinned.
    #[error("its {0} is not the pinned one")]
    NotPinned(&'static str),
    /// The text does not read.
    #[error("the text of its change does not read")]
    Text(#[source] TextFault),
    /// The text is of another deployment.
    #[error("its change is of another deployment")]
    Deployment,
    /// A document does not read.
    #[error("its {0} does not read")]
    Document(&'static str, #[source] Faults),
    /// The documents are not those that its text names.
    #[error("its documents do not belong to its change")]
    Case(#[source] CaseFault),
    /// A vote that travels does not hold.
    #[error("a vote of `{person}` does not hold")]
    Vote {
        /// Whose it claims to be.
        person: String,
        /// Why.
        #[source]
        source: VoteFault,
    },
    /// The votes do not make a quorum now.
    #[error("the change is not approved: {}", .0.explain().join("; "))]
    NotApproved(Outcome),
    /// It is said to be approved before it was proposed.
    #[error("it is said to be approved before it was proposed")]
    BeforeProposed,
}

impl QuorumDecision {
    /// A decision from what the verifier holds: the votes that were counted (`Ballot::counted`), and the documents.
    ///
    /// `None` when there are more votes than travel, or it would be larger than [`DECISION_BYTES_MAX`].
    pub fn new(
        text: &ChangeText,
        votes: Vec<Vote>,
        (current, at_creation): (Under<'_>, Under<'_>),
        approved_at_ms: u64,
    ) -> Option<Self> {
        let bytes = |bytes: &[u8]| BoundedBytes::new(bytes.to_vec());
        let if_other = |then: (Digest, &[u8]), now: Digest| (then.0 != now).then(|| bytes(then.1));
        let (roster, rules) = (at_creation.roster, at_creation.rules);
        let decision = Self {
            version: Version,
            text: BoundedBytes::new(text.bytes().to_vec())?,
            votes: Bounded::new(votes)?,
            roster: bytes(current.roster.bytes())?,
            rules: bytes(current.rules.bytes())?,
            roster_at_creation: if_other((roster.digest(), roster.bytes()), current.roster.digest()).flatten(),
            rules_at_creation: if_other((rules.digest(), rules.bytes()), current.rules.digest()).flatten(),
            approved_at_ms,
        };
        (decision.to_bytes().len() <= DECISION_BYTES_MAX).then_some(decision)
    }

    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
}

/// A decision whose documents were read and are the pinned ones; not yet decided.
pub(super) struct OpenDecision {
    decision: QuorumDecision,
    text: ChangeText,
    current: (Roster, Rules),
    roster_at_creation: Option<Roster>,
    rules_at_creation: Option<Rules>,
    proposed: Option<Proposed>,
}

impl OpenDecision {
    /// Bounds, then digests against the pin, then parsing: what is not pinned is not even read.
    pub(super) fn open(bytes: &[u8], pinned: &Authority, deployment: &DeploymentId) -> Result<Self, DecisionFault> {
        let decision: QuorumDecision = cbor::from_bytes(bytes, DECISION_BYTES_MAX).map_err(DecisionFault::Form)?;
        if digest_of(&decision.roster) != pinned.roster {
            return Err(DecisionFault::NotPinned("roster"));
        }
        if digest_of(&decision.rules) != pinned.rules {
            return Err(DecisionFault::NotPinned("quorum rules"));
        }
        let text = ChangeText::parse(&decision.text).map_err(DecisionFault::Text)?;
        let change = text.change();
        if change.deployment != *deployment || pinned.deployment != *deployment {
            return Err(DecisionFault::Deployment);
        }
        if decision.approved_at_ms < change.proposed_ms {
            return Err(DecisionFault::BeforeProposed);
        }
        let roster = |bytes: &[u8]| Roster::parse(bytes).map_err(|faults| DecisionFault::Document("roster", faults));
        let rules =
            |bytes: &[u8]| Rules::parse(bytes).map_err(|faults| DecisionFault::Document("quorum rules", faults));
        let current = (roster(&decision.roster)?, rules(&decision.rules)?);
        let roster_at_creation = decision.roster_at_creation.as_ref().map(|bytes| roster(bytes)).transpose()?;
        let rules_at_creation = decision.rules_at_creation.as_ref().map(|bytes| rules(bytes)).transpose()?;
        let proposed = Proposed::of(&text).map_err(|faults| DecisionFault::Document("proposed document", faults))?;
        Ok(Self { decision, text, current, roster_at_creation, rules_at_creation, proposed })
    }

    pub(super) fn text(&self) -> &ChangeText {
        &self.text
    }

    pub(super) fn approved_at_ms(&self) -> u64 {
        self.decision.approved_at_ms
    }

    /// Signatures, then the quorum at a moment, with keys that are valid then or at another instant.
    pub(super) fn decide(
        self,
        moment: Moment,
        (now_ms, keys_at_ms): (u64, u64),
    ) -> Result<VerifiedDecision, DecisionFault> {
        let (roster, rules) = (&self.current.0, &self.current.1);
        let at_creation = Under {
            roster: self.roster_at_creation.as_ref().unwrap_or(roster),
            rules: self.rules_at_creation.as_ref().unwrap_or(rules),
        };
        let mut rosters = vec![roster];
        if let Some(Proposed::Roster(next)) = &self.proposed {
            rosters.push(next);
        }
        let mut cache = SignatureCache::default();
        let mut votes = Vec::with_capacity(self.decision.votes.len());
        for vote in self.decision.votes.iter() {
            let checked = check(vote, &self.text, &rosters, &mut cache);
            votes.push(checked.map_err(|source| DecisionFault::Vote { person: vote.person.to_string(), source })?);
        }
        let under = (Under { roster, rules }, at_creation);
        let case = Case::new(&self.text, &votes, under, self.proposed.as_ref(), (moment, now_ms));
        let outcome = decide(&case.map_err(DecisionFault::Case)?.with_keys_at(keys_at_ms));
        if !outcome.is_approved() {
            return Err(DecisionFault::NotApproved(outcome));
        }
        Ok(VerifiedDecision { text: self.text, outcome, approved_at_ms: self.decision.approved_at_ms })
    }
}

/// A decision that holds: made only by [`verify`] (and by a link of the authority).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDecision {
    text: ChangeText,
    outcome: Outcome,
    approved_at_ms: u64,
}

impl VerifiedDecision {
    /// What was approved.
    pub fn change(&self) -> &Change {
        self.text.change()
    }
    /// The text that people signed.
    pub fn text(&self) -> &ChangeText {
        &self.text
    }
    /// Whose votes were counted.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
    /// When the verifier took it for approved, Unix ms: its word alone, held against the clocks of the text.
    pub fn approved_at_ms(&self) -> u64 {
        self.approved_at_ms
    }
}

/// Does everything that an agent must before it acts on a decision: bounds, digests against the pin, parsing,
/// signatures, and the quorum at the moment of applying.
///
/// `now_ms` is when the decision is applied first, Unix ms: whoever looks at one again that he has applied already gives
/// the same instant again, since its apply-by time is past some day while it is in force.
///
/// # Errors
/// [`DecisionFault`].
pub fn verify(
    bytes: &[u8],
    pinned: &Authority,
    deployment: &DeploymentId,
    now_ms: u64,
) -> Result<VerifiedDecision, DecisionFault> {
    verify_as_of(bytes, pinned, deployment, (now_ms, now_ms))
}

/// As [`verify`], of what took effect at `as_of_ms` already: its clocks are held against that instant, and its keys must be valid at `now_ms` (Unix
/// ms) all the same, so that nobody decides of the past with a key whose time is over.
///
/// # Errors
/// [`DecisionFault`].
pub fn verify_as_of(
    bytes: &[u8],
    pinned: &Authority,
    deployment: &DeploymentId,
    (as_of_ms, now_ms): (u64, u64),
) -> Result<VerifiedDecision, DecisionFault> {
    let open = OpenDecision::open(bytes, pinned, deployment)?;
    let approved_at_ms = open.approved_at_ms();
    open.decide(Moment::Apply { approved_at_ms }, (as_of_ms, now_ms))
}
