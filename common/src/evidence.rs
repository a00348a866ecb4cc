//! Evidence: an envelope and the TPM quote that covers it, as they travel and as they are kept.

use minicbor::{Decode, Encode};

use crate::cbor::{self, Bounded, CborError, Version};
use crate::id::{Digest, sha256};
use crate::limits::{EVIDENCE_BYTES_MAX, PCR_BANKS_MAX, PCR_COUNT};
use crate::nonce::Nonce;

/// What the quote's `extraData` must be: `SHA-256("quotary-evidence-v1" ‖ nonce ‖ SHA-256(envelope))`.
pub fn extra_data(nonce: &Nonce, envelope: &Digest) -> [u8; 32] {
    sha256(&[b"quotary-evidence-v1", nonce.as_bytes(), envelope.as_bytes()])
}

/// Evidence, version 1: claimed until `quotary-decide` has verified it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The nonce that the quote covers (32 bytes).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// Canonical bytes of the envelope.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub envelope: Vec<u8>,
    /// `TPMS_ATTEST` exactly as the TPM signed it, without a size prefix.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE` over it.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub signature: Vec<u8>,
    /// PCR values as claimed: they hold only when the signed digest is theirs.
    #[n(5)]
    pub pcr_values: Bounded<PcrValue, { PCR_BANKS_MAX * PCR_COUNT }>,
}

/// A PCR's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct PcrValue {
    /// TCG algorithm id of the bank (0x000B is SHA-256).
    #[n(0)]
    pub hash_alg: u16,
    /// Index, 0..23.
    #[n(1)]
    pub index: u8,
    /// The value.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

impl Evidence {
    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`CborError`] when they are too many or not the canonical form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_bytes(bytes, EVIDENCE_BYTES_MAX)
    }
    /// Digest of the kept bytes: the name under which evidence is stored.
    pub fn digest(bytes: &[u8]) -> Digest {
        Digest::of(&[bytes])
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::envelope::ClaimedEnvelope;
    use crate::limits::ENVELOPE_BYTES_MAX;

    fn golden(name: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
        let text: String = std::fs::read_to_string(path).unwrap().split_whitespace().collect();
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// Golden bytes, some of which are changed, left out or put in; or any bytes.
    fn near(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..8_u8), 0..4);
        let edited = edits.prop_map(move |edits| {
            let mut bytes = golden(name);
            for (at, value, kind) in edits {
                let at = at.index(bytes.len());
                match kind {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, value),
                    2 => bytes[at] = bytes[at].wrapping_add(1),
                    _ => bytes[at] = value,
                }
            }
            bytes
        });
        prop_oneof![8 => edited, 1 => prop::collection::vec(any::<u8>(), 0..600)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn an_envelope_that_reads_has_one_encoding(bytes in near("envelope-v1.hex")) {
            if let Ok(read) = ClaimedEnvelope::parse(bytes.clone()) {
                prop_assert_eq!((read.bytes(), read.digest()), (&bytes[..], Digest::of(&[&bytes])));
                prop_assert_eq!(read.claims().clone().seal().unwrap(), read);
            }
        }

        #[test]
        fn evidence_that_reads_has_one_encoding(bytes in near("evidence-v1.hex")) {
            if let Ok(read) = Evidence::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_golden_forms_read_and_larger_ones_are_refused_unread() {
        let envelope = golden("envelope-v1.hex");
        assert!(ClaimedEnvelope::parse(envelope.clone()).is_ok());
        assert!(Evidence::from_bytes(&golden("evidence-v1.hex")).is_ok());
        let large = [envelope, vec![0; ENVELOPE_BYTES_MAX]].concat();
        assert!(matches!(ClaimedEnvelope::parse(large), Err(CborError::TooLarge { .. })));
        let large = [golden("evidence-v1.hex"), vec![0; EVIDENCE_BYTES_MAX]].concat();
        assert!(matches!(Evidence::from_bytes(&large), Err(CborError::TooLarge { .. })));
    }
}
