//! Plans that a reply brings: held against the grant set that names them.

use super::{CheckedPlan, Plan, check};
use crate::grant::VerifiedGrantSet;
use crate::id::Digest;
use crate::keys::VerifiedKeys;
use crate::lease::Lease;
use crate::limits::PLANS_MAX;
use crate::reason::{Reason, Refusal};
use crate::sign::Signed;

/// A plan that holds for this host until its lease ends: made only by [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPlan {
    plan: CheckedPlan,
    lease: Lease,
}

impl VerifiedPlan {
    /// The plan.
    pub fn checked(&self) -> &CheckedPlan {
        &self.plan
    }
    /// Until when it holds: the grant set's lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// What a grant set says of the plans that come with it: SHA-256 over their signed forms' digests, in order.
///
/// `None` for no plans: then a grant set says nothing of them.
pub fn digest_of(plans: &[impl AsRef<[u8]>]) -> Option<Digest> {
    let digests: Vec<Digest> = plans.iter().map(|plan| Digest::of(&[plan.as_ref()])).collect();
    let parts: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    (!parts.is_empty()).then(|| Digest::of(&parts))
}

/// Checks the plans that came with a grant set: these, all of them, in this order, and each holds together.
///
/// So nobody between verifier and agent can keep a plan back, or bring one that was cancelled.
///
/// # Errors
/// A [`Refusal`]: `grant-signature` when they are not the ones that the grant set names, one is not signed by this
/// deployment's verifier or not for this host, `epoch` when one is older than the set's epoch, `malformed` when one
/// does not hold together.
pub fn verify(
    plans: &[impl AsRef<[u8]>],
    keys: &VerifiedKeys,
    set: &VerifiedGrantSet,
) -> Result<Vec<VerifiedPlan>, Refusal> {
    let refuse = |why: String| Refusal::new(Reason::GrantSignature, why);
    if plans.len() > PLANS_MAX {
        return Err(Refusal::new(Reason::TooLarge, format!("{} plans, at most {PLANS_MAX} are taken", plans.len())));
    }
    if digest_of(plans) != set.set().plans {
        return Err(refuse("the plans are not those that the grant set names".to_owned()));
    }
    plans
        .iter()
        .map(|bytes| {
            let signed = Signed::from_bytes(bytes.as_ref()).map_err(|error| refuse(error.to_string()))?;
            let plan: Plan = signed.verify(&keys.certificate().grant_key).map_err(|error| refuse(error.to_string()))?;
            if plan.deployment != set.set().deployment || plan.host != set.set().host {
                return Err(refuse(format!("plan {} is for another host", plan.id)));
            }
            if plan.epoch != set.set().epoch {
                let detail = format!("plan {} is of epoch {}, the set of {}", plan.id, plan.epoch, set.set().epoch);
                return Err(Refusal::new(Reason::Epoch, detail));
            }
            let id = plan.id;
            let plan = check(plan).map_err(|fault| {
                Refusal::new(Reason::Malformed, format!("plan {id} does not hold together: {fault}"))
            })?;
            Ok(VerifiedPlan { plan, lease: *set.lease() })
        })
        .collect()
}
