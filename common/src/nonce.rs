//! Nonces that any verifier of the deployment checks without storage (design §5).
//!
//! `nonce = expiry_ms[8] ‖ random[8] ‖ HMAC-SHA256(key, deployment[32] ‖ host[32] ‖ sequence[8] ‖ expiry_ms[8] ‖ random[8])[..16]`
//! where `sequence` is the host's last committed one: when the next commits, the nonce is dead.

use ring::hmac;
use subtle::ConstantTimeEq;

use crate::id::{DeploymentId, HostId};

/// 32 bytes that a quote must cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

/// What a nonce is bound to.
#[derive(Debug, Clone, Copy)]
pub struct NonceScope {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The host.
    pub host: HostId,
    /// The host's last committed sequence number.
    pub committed_sequence: u64,
}

/// Why a nonce does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceFault {
    /// Not made by this deployment for this host at this sequence.
    Unknown,
    /// Made by us, but too old.
    Expired,
}

/// The MAC key; zeroised by `ring` is not promised, so it lives as long as the process.
pub struct NonceKey(hmac::Key);

impl NonceKey {
    /// From 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn mac(&self, scope: &NonceScope, head: &[u8]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(scope.deployment.as_bytes());
        context.update(scope.host.as_bytes());
        context.update(&scope.committed_sequence.to_be_bytes());
        context.update(head);
        let mut out = [0; 16];
        out.copy_from_slice(&context.sign().as_ref()[..16]);
        out
    }

    /// Makes a nonce that holds until `expiry_ms` (Unix time).
    pub fn mint(&self, scope: &NonceScope, expiry_ms: u64, random: [u8; 8]) -> Nonce {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&expiry_ms.to_be_bytes());
        bytes[8..16].copy_from_slice(&random);
        let mac = self.mac(scope, &bytes[..16]);
        bytes[16..].copy_from_slice(&mac);
        Nonce(bytes)
    }

    /// Whether the nonce is ours for this scope and still holds at `now_ms` (Unix time).
    ///
    /// # Errors
    /// [`NonceFault::Unknown`] before [`NonceFault::Expired`]: an unproven expiry says nothing.
    pub fn check(&self, scope: &NonceScope, nonce: &Nonce, now_ms: u64) -> Result<(), NonceFault> {
        let mac = self.mac(scope, &nonce.0[..16]);
        if !bool::from(mac.ct_eq(&nonce.0[16..])) {
            return Err(NonceFault::Unknown);
        }
        if nonce.expiry_ms() < now_ms { Err(NonceFault::Expired) } else { Ok(()) }
    }
}

impl std::fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKey(secret)")
    }
}

impl Nonce {
    /// Wraps 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Until when it holds, Unix ms, as it says itself.
    pub fn expiry_ms(&self) -> u64 {
        self.0[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(host: &[u8], committed_sequence: u64) -> NonceScope {
        NonceScope { deployment: DeploymentId::of(&[b"d"]), host: HostId::of(&[host]), committed_sequence }
    }

    #[test]
    fn a_nonce_holds_for_its_host_and_sequence_until_it_expires() {
        let key = NonceKey::new(&[7; 32]);
        let nonce = key.mint(&scope(b"a", 3), 1000, [9; 8]);
        assert_eq!(key.check(&scope(b"a", 3), &nonce, 1000), Ok(()));
        assert_eq!(key.check(&scope(b"a", 3), &nonce, 1001), Err(NonceFault::Expired));
        assert_eq!(key.check(&scope(b"a", 4), &nonce, 1000), Err(NonceFault::Unknown));
        assert_eq!(key.check(&scope(b"b", 3), &nonce, 1000), Err(NonceFault::Unknown));
        assert_eq!(NonceKey::new(&[8; 32]).check(&scope(b"a", 3), &nonce, 1000), Err(NonceFault::Unknown));
    }

    #[test]
    fn no_bit_of_a_nonce_can_change() {
        let key = NonceKey::new(&[7; 32]);
        let nonce = key.mint(&scope(b"a", 3), 1000, [9; 8]);
        for bit in 0..256 {
            let mut bytes = *nonce.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.check(&scope(b"a", 3), &Nonce::new(bytes), 0), Err(NonceFault::Unknown), "bit {bit}");
        }
    }
}
