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
