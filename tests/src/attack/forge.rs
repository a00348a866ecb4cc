//! What the attackers make of what they have: pure.

use anyhow::{Context as _, Result};
use quotary_common::cbor::{self, Bounded, Version};
use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::Evidence;
use quotary_common::grant::{Grant, GrantSet, GrantSetVersion};
use quotary_common::id::PlanId;
use quotary_common::limits::SIGNED_BYTES_MAX;
use quotary_common::plan::{Course, OnPressure, Plan, Setpoint, ShapedControl, Target, digest_of};
use quotary_common::sign::{Signed, SigningKey};
use quotary_common::wire::{Base64, EvidenceReply};

/// The same evidence, whose envelope was altered after the TPM quoted it: canonical, and of the same form, but the
/// host now says it has twice the memory.
///
/// # Errors
/// When it is no evidence.
pub fn altered(evidence: &[u8]) -> Result<Vec<u8>> {
    let mut evidence = Evidence::from_bytes(evidence).context("not evidence")?;
    let mut envelope =
        ClaimedEnvelope::parse(evidence.envelope.as_slice()).context("not an envelope")?.claims().clone();
    envelope.facts.memory_bytes = envelope.facts.memory_bytes.saturating_mul(2);
    evidence.envelope = envelope.seal()?.bytes().to_vec();
    Ok(evidence.to_bytes())
}

/// The same grant set, in which every amount of CPU and memory is ten times as large, signed with `key`.
///
/// # Errors
/// When it is no grant set.
pub fn forged(grant_set: &[u8], key: &SigningKey) -> Result<Vec<u8>> {
    let signed = Signed::from_bytes(grant_set).context("not a signed form")?;
    let mut set: GrantSet = cbor::from_bytes(&signed.bytes, SIGNED_BYTES_MAX).context("not a grant set")?;
    set.grants = Bounded::truncating(set.grants.iter().cloned().map(ten_times).collect()).0;
    Ok(key.sign(&set).to_bytes())
}

fn ten_times(mut grant: Grant) -> Grant {
    let larger = |amount: Option<u64>| amount.map(|amount| amount.saturating_mul(10));
    grant.resources.cpu_millicores = larger(grant.resources.cpu_millicores);
    grant.resources.memory_bytes = larger(grant.resources.memory_bytes);
    grant
}

/// What somebody with the verifier's grant key would do to a target, without anybody's approval of it.
#[derive(Debug, Clone)]
pub struct Squeeze {
    /// The plan's id.
    pub plan: PlanId,
    /// What it moves.
    pub target: Target,
    /// Which control of it.
    pub control: ShapedControl,
    /// To which value, at once.
    pub value: u64,
    /// A quorum decision that she has got hold of: people decided it, and not this.
    pub decision: Option<Vec<u8>>,
    /// The plan's generation is above this one, too.
    pub above_generation: u64,
}

/// The same reply with one plan more, newer than any other for its target, which carries the squeeze's quorum decision or none. Plan and grant set are
/// signed with `key`: with the verifier's grant key nothing about the reply is wrong but that nobody decided so.
///
/// # Errors
/// When the reply holds no grant set or no plans.
pub fn squeezed(reply: &EvidenceReply, squeeze: &Squeeze, key: &SigningKey, now_ms: u64) -> Result<EvidenceReply> {
    let signed = Signed::from_bytes(&reply.grant_set.0).context("not a signed form")?;
    let mut set: GrantSet = cbor::from_bytes(&signed.bytes, SIGNED_BYTES_MAX).context("not a grant set")?;
    let mut generation = squeeze.above_generation;
    for plan in &reply.plans {
        let signed = Signed::from_bytes(&plan.0).context("not a signed form")?;
        let plan: Plan = cbor::from_bytes(&signed.bytes, SIGNED_BYTES_MAX).context("not a plan")?;
        if plan.target == squeeze.target {
            generation = generation.max(plan.generation);
        }
    }
    let setpoints = Bounded::new(vec![Setpoint { at_ms: now_ms, value: squeeze.value }]);
    let course = Course { control: squeeze.control, setpoints: setpoints.context("one setpoint")? };
    let plan = Plan {
        version: Version,
        deployment: set.deployment,
        host: set.host,
        id: squeeze.plan,
        epoch: set.epoch,
        target: squeeze.target.clone(),
        generation: generation + 1,
        starts_at_ms: now_ms,
        effective_at_ms: now_ms,
        ends_at_ms: None,
        not_after_ms: u64::MAX,
        courses: Bounded::new(vec![course]).context("one course")?,
        on_pressure: OnPressure::Proceed,
        hold_ms_max: 0,
        overrides: true,
        decision: squeeze.decision.clone(),
    };
    let mut plans = reply.plans.clone();
    plans.push(Base64(key.sign(&plan).to_bytes()));
    set.plans = digest_of(&plans.iter().map(|plan| &plan.0).collect::<Vec<_>>());
    set.version = GrantSetVersion::naming(set.plans.as_ref());
    Ok(EvidenceReply { grant_set: Base64(key.sign(&set).to_bytes()), plans, ..reply.clone() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::{CgroupPath, Name};
    use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, HostId, RequestId};
    use quotary_common::units::{Class, Resources};
    use quotary_common::wire::{LogsWanted, NonceReply};
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;

    use super::*;

    #[test]
    fn a_forged_grant_is_another_only_in_its_size() {
        let resources = Resources { cpu_millicores: Some(100), memory_bytes: Some(7), ..Resources::default() };
        let grant = Grant {
            id: GrantId::new([1; 32]),
            request: RequestId::new([2; 32]),
            application: Name::lossy("web"),
            tenant: Name::lossy("shop"),
            class: Class::Burstable,
            resources,
        };
        let larger = ten_times(grant.clone());
        assert_eq!((larger.resources.cpu_millicores, larger.resources.memory_bytes), (Some(1000), Some(70)));
        assert_eq!(Grant { resources, ..larger }, grant);
    }

    fn key() -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    #[test]
    fn a_squeeze_is_the_newest_plan_of_a_reply_that_names_it() {
        let key = key();
        let digest = Digest::of(&[b"any"]);
        let set = GrantSet {
            version: GrantSetVersion::GrantsAlone,
            deployment: DeploymentId::new([1; 32]),
            host: HostId::new([2; 32]),
            boot_id: BootId::new([3; 16]),
            sequence: 4,
            envelope: digest,
            epoch: 5,
            generation: 6,
            lease_ms: 7,
            grants: Bounded::default(),
            refusals: Bounded::default(),
            evidence: digest,
            plans: None,
        };
        let grant_set = Base64(key.sign(&set).to_bytes());
        let next = NonceReply {
            nonce: Base64(vec![0; 32]),
            pcr_selection: Vec::new(),
            next_sequence: 5,
            predecessor: digest,
            checkpoint: String::new(),
            consistency: Vec::new(),
            logs: LogsWanted::default(),
        };
        let reply = EvidenceReply {
            evidence: digest,
            zone: "measured".to_owned(),
            findings: Vec::new(),
            valid_until_ms: 1,
            grant_set,
            plans: Vec::new(),
            authority: Some(0),
            quorum_decisions: None,
            next,
        };
        let squeeze = Squeeze {
            plan: PlanId::new([9; 32]),
            target: Target::Cgroup(CgroupPath::lossy("/a/b")),
            control: ShapedControl::MemoryHigh,
            value: 16 << 20,
            decision: None,
            above_generation: 0,
        };
        let once = squeezed(&reply, &squeeze, &key, 1_000).unwrap();
        let again = squeezed(&once, &squeeze, &key, 2_000).unwrap();
        let plans: Vec<Plan> = again
            .plans
            .iter()
            .map(|plan| Signed::from_bytes(&plan.0).unwrap().verify(&key.public()).unwrap())
            .collect();
        assert_eq!(plans.iter().map(|plan| (plan.epoch, plan.generation)).collect::<Vec<_>>(), [(5, 1), (5, 2)]);
        assert!(plans.iter().all(|plan| plan.decision.is_none() && plan.host == set.host && plan.id == squeeze.plan));
        let with_decision = Squeeze { decision: Some(vec![0xa0]), above_generation: 7, ..squeeze };
        let reply = squeezed(&reply, &with_decision, &key, 3_000).unwrap();
        let plan: Plan = Signed::from_bytes(&reply.plans[0].0).unwrap().verify(&key.public()).unwrap();
        assert_eq!((plan.generation, plan.decision.as_deref()), (8, Some(&[0xa0][..])));
        let signed = Signed::from_bytes(&again.grant_set.0).unwrap();
        let named: GrantSet = signed.verify(&key.public()).unwrap();
        assert_eq!(named.plans, digest_of(&again.plans.iter().map(|plan| &plan.0).collect::<Vec<_>>()));
        assert_eq!(GrantSet { plans: None, version: GrantSetVersion::GrantsAlone, ..named }, set);
        for plan in plans {
            assert!(quotary_common::plan::check(plan).is_ok(), "nothing is wrong with its form");
        }
    }

    #[test]
    fn what_is_no_evidence_or_grant_set_is_told() {
        let key = key();
        assert!(altered(b"\xa0").is_err());
        assert!(forged(b"\xa0", &key).is_err());
    }
}
