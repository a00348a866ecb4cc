//! CBOR: an envelope or evidence that decodes encodes to the same bytes, and evidence that nobody signed proves nothing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::limits::{ENVELOPE_BYTES_MAX, EVIDENCE_BYTES_MAX};
use quotary_common::tpm::{AkKey, PcrSelection, Quote};
use quotary_decide::attest::{Signer, prove_quote};
use quotary_decide::inspect::envelope;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/attestation/swtpm/p384/", $name))
    };
}

static AK: LazyLock<AkKey> = LazyLock::new(|| AkKey::from_public_bytes(vector!("ak.public")).expect("a real key"));

fuzz_target!(|data: &[u8]| {
    check_envelope(data);
    let Ok(evidence) = Evidence::from_bytes(data) else { return };
    assert!(data.len() <= EVIDENCE_BYTES_MAX);
    assert_eq!(evidence.to_bytes(), data, "evidence has one encoding");
    check_envelope(&evidence.envelope);
    let quote = Quote::parse(vector!("quote.msg")).expect("a real quote");
    let signer = Signer { ak: &AK, qualified_signer: quote.qualified_signer };
    let digest = Digest::of(&[&evidence.envelope]);
    let proven = prove_quote(evidence, &digest, signer, &PcrSelection::firmware());
    assert!(proven.is_err(), "this key signed no evidence");
});

fn check_envelope(data: &[u8]) {
    let Ok(read) = ClaimedEnvelope::parse(data) else {
        assert!(envelope(data).is_err());
        return;
    };
    assert!(data.len() <= ENVELOPE_BYTES_MAX);
    assert_eq!((read.bytes(), read.digest()), (data, Digest::of(&[data])));
    let again = read.claims().clone().seal().expect("it was small enough");
    assert_eq!(again, read, "an envelope has one encoding");
    let report = envelope(data).expect("it parsed");
    assert_eq!((report.bytes, report.digest), (data.len(), read.digest()));
    assert_eq!(report.claims.get("sequence").and_then(|value| value.as_u64()), Some(read.claims().sequence));
}
