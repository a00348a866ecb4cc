//! Who decides, as an agent holds it: the digests of roster and rules that the deployment root signed at genesis, moved
//! on only by decisions that those in force *and* those to come approved (as TUF rotates its root).

use minicbor::{Decode, Encode};

use super::change::Kind;
use super::decide::Moment;
use super::decision::{DecisionFault, OpenDecision};
use crate::cbor::Version;
use crate::id::{DeploymentId, Digest};
use crate::sign::{PublicKey, Signed, SignedError, SignedForm};

/// What the deployment root signs at genesis, and what an agent keeps pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Authority {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The deployment.
    #[n(1)]
    pub deployment: DeploymentId,
    /// One more for each link: never goes back.
    #[n(2)]
    pub number: u64,
    /// The roster's digest.
    #[n(3)]
    pub roster: Digest,
    /// The rules' digest.
    #[n(4)]
    pub rules: Digest,
}

impl SignedForm for Authority {
    const FORM: &'static str = "authority";
}

/// Why a pin is not set or moved.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFault {
    /// The root did not sign it.
    #[error("the authority is not signed by the deployment root")]
    Root(#[source] SignedError),
    /// It is of another deployment.
    #[error("the authority is of another deployment")]
    Deployment,
    /// The decision does not hold.
    #[error("the decision that would move the authority does not hold")]
    Decision(#[source] DecisionFault),
    /// The decision is over a policy.
    #[error("the decision is not over a roster or rules")]
    Kind,
    /// Its effective time is to come.
    #[error("the decision is not in force before {0} (Unix ms)")]
    NotYet(u64),
    /// It is said to be approved after now.
    #[error("the decision is said to be approved in the future")]
    Future,
}

impl Authority {
    /// What the root signed at genesis, or once more after all keys were lost.
    ///
    /// # Errors
    /// [`AuthorityFault::Root`] and [`AuthorityFault::Deployment`].
    pub fn genesis(signed: &Signed, root: &PublicKey, deployment: &DeploymentId) -> Result<Self, AuthorityFault> {
        let authority: Self = signed.verify(root).map_err(AuthorityFault::Root)?;
        if authority.deployment == *deployment { Ok(authority) } else { Err(AuthorityFault::Deployment) }
    }

    /// The authority after a link: the decision over another roster or other rules, in its canonical bytes.
    ///
    /// A host that was away walks all links, so a link is held against its own time (when it was approved), and is taken
    /// once its effective time has come. What it takes the place of must be what is pinned, so none can be left out,
    /// come twice, or lead back.
    ///
    /// # Errors
    /// [`AuthorityFault`].
    pub fn advance(&self, decision: &[u8], now_ms: u64) -> Result<Self, AuthorityFault> {
        let open = OpenDecision::open(decision, self, &self.deployment).map_err(AuthorityFault::Decision)?;
        let change = open.text().change();
        let (kind, effective_ms, approved_at_ms) = (change.kind, change.effective_ms, open.approved_at_ms());
        if !kind.is_of_authority() {
            return Err(AuthorityFault::Kind);
        }
        if approved_at_ms > now_ms {
            return Err(AuthorityFault::Future);
        }
        if effective_ms > now_ms {
            return Err(AuthorityFault::NotYet(effective_ms));
        }
        let document = Digest::of(&[change.document.as_bytes()]);
        open.decide(Moment::Apply { approved_at_ms }, (approved_at_ms, approved_at_ms))
            .map_err(AuthorityFault::Decision)?;
        let (roster, rules) = if kind == Kind::Roster { (document, self.rules) } else { (self.roster, document) };
        Ok(Self { number: self.number.saturating_add(1), roster, rules, ..*self })
    }
}
