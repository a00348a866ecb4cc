//! What the attackers make of what they have: pure.

use anyhow::{Context as _, Result};
use quotary_common::cbor::{self, Bounded};
use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::Evidence;
use quotary_common::grant::{Grant, GrantSet};
use quotary_common::limits::SIGNED_BYTES_MAX;
use quotary_common::sign::{Signed, SigningKey};

/// The same evidence, whose envelope was altered after the TPM quoted it: canonical, and of the same form, but the
/// host now says it has twice the memory.
///
/// # Errors
/// When it is no evidence.
pub fn altered(evidence: &[u8]) -> Result<Vec<u8>> {
    let mut evidence = Evidence::from_bytes(evidence).context("not evidence")?;
    let mut envelope = ClaimedEnvelope::parse(&evidence.envelope).context("not an envelope")?.claims().clone();
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
    let larger = |amount: Option<u64>| amount.map(|amount| amount.saturating_mul(10));
    let grants: Vec<Grant> = set
        .grants
        .iter()
        .cloned()
        .map(|mut grant| {
            grant.resources.cpu_millicores = larger(grant.resources.cpu_millicores);
            grant.resources.memory_bytes = larger(grant.resources.memory_bytes);
            grant
        })
        .collect();
    set.grants = Bounded::truncating(grants).0;
    Ok(key.sign(&set).to_bytes())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::cbor::Version;
    use quotary_common::envelope::Name;
    use quotary_common::id::{BootId, DeploymentId, Digest, GrantId, HostId, RequestId};
    use quotary_common::units::{Class, Resources};
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;

    use super::*;

    fn key() -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    #[test]
    fn a_forged_grant_set_is_well_formed_larger_and_under_the_forgers_key() {
        let resources = Resources { cpu_millicores: Some(100), memory_bytes: Some(7), ..Resources::default() };
        let grant = Grant {
            id: GrantId::new([1; 32]),
            request: RequestId::new([2; 32]),
            application: Name::lossy("web"),
            tenant: Name::lossy("shop"),
            class: Class::Burstable,
            resources,
        };
        let set = GrantSet {
            version: Version,
            deployment: DeploymentId::new([3; 32]),
            host: HostId::new([4; 32]),
            boot_id: BootId::new([5; 16]),
            sequence: 6,
            envelope: Digest::new([7; 32]),
            epoch: 8,
            generation: 9,
            lease_ms: 10,
            grants: Bounded::new(vec![grant]).unwrap(),
            refusals: Bounded::default(),
        };
        let (real, own) = (key(), key());
        let bytes = forged(&real.sign(&set).to_bytes(), &own).unwrap();
        let signed = Signed::from_bytes(&bytes).unwrap();
        assert!(signed.verify::<GrantSet>(&real.public()).is_err());
        let set = signed.verify::<GrantSet>(&own.public()).unwrap();
        let amounts = set.grants[0].resources;
        assert_eq!((amounts.cpu_millicores, amounts.memory_bytes, set.sequence), (Some(1000), Some(70), 6));
    }

    #[test]
    fn what_is_no_evidence_is_not_altered() {
        assert!(altered(b"\xa0").is_err());
        assert!(forged(b"\xa0", &key()).is_err());
    }
}
