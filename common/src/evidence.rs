//! Evidence: an envelope and the TPM quote that covers it, as they travel and as they are kept.
//!
//! Logs travel beside the envelope: the quote covers them by the PCRs that they must replay to, not by `extraData`.

use minicbor::{Decode, Encode};

use crate::cbor::{self, Bounded, BoundedBytes, CborError};
use crate::id::{Digest, sha256};
use crate::limits::{
    BOOT_LOG_BYTES_MAX, EVIDENCE_BYTES_MAX, IMA_INCREMENT_BYTES_MAX, MEASURE_LOG_BYTES_MAX, PCR_BANKS_MAX, PCR_COUNT,
};
use crate::nonce::Nonce;

/// What the quote's `extraData` must be: `SHA-256("quotary-evidence-v1" ‖ nonce ‖ SHA-256(envelope))`.
pub fn extra_data(nonce: &Nonce, envelope: &Digest) -> [u8; 32] {
    sha256(&[b"quotary-evidence-v1", nonce.as_bytes(), envelope.as_bytes()])
}

/// Versions of the form. Evidence with a measure log is version 3, with other logs only version 2, without any version 1:
/// one value has one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum EvidenceVersion {
    /// Envelope, quote and PCR values.
    #[n(1)]
    WithoutLogs,
    /// The same with a boot log, a part of an IMA list, or both.
    #[n(2)]
    WithLogs,
    /// The same with a measure log, beside other logs or alone.
    #[n(3)]
    WithMeasureLog,
}

/// Which of the kernel's binary IMA lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ImaForm {
    /// Template hashes in SHA-1 (`binary_runtime_measurements`).
    #[n(1)]
    BinarySha1,
    /// Template hashes in SHA-256 (`binary_runtime_measurements_sha256`).
    #[n(2)]
    BinarySha256,
}

/// A part of an IMA measurement list, read after the quote: what was measured in between is more than the quote covers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ImaIncrement {
    /// Its form.
    #[n(0)]
    pub form: ImaForm,
    /// Where it starts, in bytes from the start of the list.
    #[n(1)]
    pub offset_bytes: u64,
    /// Its bytes; the last entry may be cut.
    #[n(2)]
    pub bytes: BoundedBytes<IMA_INCREMENT_BYTES_MAX>,
    /// Whether the list went on beyond what one evidence carries.
    #[n(3)]
    pub has_more: bool,
}

/// Evidence, version 1 to 3: claimed until `quotary-decide` has verified it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// Form version.
    #[n(0)]
    pub version: EvidenceVersion,
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
    /// The UEFI event log of this boot, as the kernel gives it.
    #[n(6)]
    pub boot_log: Option<BoundedBytes<BOOT_LOG_BYTES_MAX>>,
    /// A part of the IMA list.
    #[n(7)]
    pub ima: Option<ImaIncrement>,
    /// systemd's log of what the running system measured, whole, as it was after the quote.
    #[n(8)]
    pub measure_log: Option<BoundedBytes<MEASURE_LOG_BYTES_MAX>>,
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

impl EvidenceVersion {
    /// The version of evidence with or without a boot log or IMA list, and with or without a measure log: the lowest that
    /// can hold them.
    pub const fn of(has_logs: bool, has_measure_log: bool) -> Self {
        match (has_logs, has_measure_log) {
            (_, true) => Self::WithMeasureLog,
            (true, false) => Self::WithLogs,
            (false, false) => Self::WithoutLogs,
        }
    }
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
        let evidence: Self = cbor::from_bytes(bytes, EVIDENCE_BYTES_MAX)?;
        let has_logs = evidence.boot_log.is_some() || evidence.ima.is_some();
        if evidence.version != EvidenceVersion::of(has_logs, evidence.measure_log.is_some()) {
            return Err(CborError::NotCanonical);
        }
        Ok(evidence)
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
        fn an_envelope_that_reads_has_one_encoding(
            bytes in prop_oneof![near("envelope-v1.hex"), near("envelope-v2.hex")],
        ) {
            if let Ok(read) = ClaimedEnvelope::parse(bytes.clone()) {
                prop_assert_eq!((read.bytes(), read.digest()), (&bytes[..], Digest::of(&[&bytes])));
                prop_assert_eq!(read.claims().clone().seal().unwrap(), read);
            }
        }

        #[test]
        fn evidence_that_reads_has_one_encoding(bytes in prop_oneof![near("evidence-v1.hex"), near("evidence-v3.hex")]) {
            if let Ok(read) = Evidence::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    fn evidence(boot_log: Option<&[u8]>, measure_log: Option<&[u8]>) -> Evidence {
        let boot_log = boot_log.and_then(|log| BoundedBytes::new(log.to_vec()));
        let measure_log = measure_log.and_then(|log| BoundedBytes::new(log.to_vec()));
        Evidence {
            version: EvidenceVersion::of(boot_log.is_some(), measure_log.is_some()),
            nonce: [1; 32],
            envelope: vec![2],
            attest: vec![3],
            signature: vec![4],
            pcr_values: Bounded::default(),
            boot_log,
            ima: None,
            measure_log,
        }
    }

    #[test]
    fn the_version_says_which_logs_there_are() {
        use EvidenceVersion::{WithLogs, WithMeasureLog, WithoutLogs};
        let log = Some(b"log".as_slice());
        for (one, version) in [
            (evidence(None, None), WithoutLogs),
            (evidence(log, None), WithLogs),
            (evidence(log, log), WithMeasureLog),
            (evidence(None, log), WithMeasureLog),
        ] {
            assert_eq!(one.version, version);
            assert_eq!(Evidence::from_bytes(&one.to_bytes()).unwrap(), one);
            for other in [WithoutLogs, WithLogs, WithMeasureLog].into_iter().filter(|other| *other != version) {
                assert!(Evidence::from_bytes(&Evidence { version: other, ..one.clone() }.to_bytes()).is_err());
            }
        }
    }

    #[test]
    fn the_golden_forms_read_and_larger_ones_are_refused_unread() {
        let envelope = golden("envelope-v2.hex");
        assert!(ClaimedEnvelope::parse(golden("envelope-v1.hex")).is_ok());
        assert!(ClaimedEnvelope::parse(envelope.clone()).is_ok());
        assert!(Evidence::from_bytes(&golden("evidence-v1.hex")).is_ok());
        let large = [envelope, vec![0; ENVELOPE_BYTES_MAX]].concat();
        assert!(matches!(ClaimedEnvelope::parse(large), Err(CborError::TooLarge { .. })));
        let large = [golden("evidence-v1.hex"), vec![0; EVIDENCE_BYTES_MAX]].concat();
        assert!(matches!(Evidence::from_bytes(&large), Err(CborError::TooLarge { .. })));
    }
}
