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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::Name;
    use quotary_common::id::{GrantId, RequestId};
    use quotary_common::units::{Class, Resources};
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

    #[test]
    fn what_is_no_evidence_or_grant_set_is_told() {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(document.as_ref()).unwrap();
        assert!(altered(b"\xa0").is_err());
        assert!(forged(b"\xa0", &key).is_err());
    }
}
