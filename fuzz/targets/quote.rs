//! `TPMS_ATTEST`: what parses is the one encoding of what it says, and no changed quote verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quotary_common::limits::ATTEST_BYTES_MAX;
use quotary_common::tpm::{GENERATED_VALUE, Quote, TYPE_QUOTE};
use quotary_decide::inspect::{InspectQuote, quote};

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/attestation/tpm2-tools/ecdsa-p256/", $name))
    };
}

fuzz_target!(|data: &[u8]| {
    let Ok(read) = Quote::parse(data) else { return };
    assert!(data.len() <= ATTEST_BYTES_MAX);
    assert_eq!(encode(&read), data, "a quote has one encoding");
    let files = InspectQuote {
        ak: vector!("ak.tpm2b"),
        message: data,
        signature: vector!("quote.sig"),
        pcrs: Some(vector!("quote.pcrs")),
        nonce: Some(read.extra_data).filter(|nonce| !nonce.is_empty()),
        envelope: None,
    };
    let report = quote(&files).expect("the sizes are those that are possible");
    assert_eq!(report.verified, data == vector!("quote.msg"), "{report:?}");
    assert_eq!(report.verified, report.reasons.is_empty());
    assert!(report.verified || report.pcrs.is_empty(), "no value is told that no signature covers");
});

fn encode(quote: &Quote<'_>) -> Vec<u8> {
    let mut out = GENERATED_VALUE.to_be_bytes().to_vec();
    out.extend_from_slice(&TYPE_QUOTE.to_be_bytes());
    sized(&mut out, quote.qualified_signer);
    sized(&mut out, quote.extra_data);
    out.extend_from_slice(&quote.clock.clock_ms.to_be_bytes());
    out.extend_from_slice(&quote.clock.reset_count.to_be_bytes());
    out.extend_from_slice(&quote.clock.restart_count.to_be_bytes());
    out.push(u8::from(quote.clock.safe));
    out.extend_from_slice(&quote.firmware_version.to_be_bytes());
    let banks = quote.selection.banks();
    out.extend_from_slice(&u32::try_from(banks.len()).expect("at most 16").to_be_bytes());
    for bank in banks {
        out.extend_from_slice(&bank.hash_alg.to_be_bytes());
        let mut select = [0_u8; 3];
        for index in bank.indices() {
            select[usize::from(index / 8)] |= 1 << (index % 8);
        }
        out.push(3);
        out.extend_from_slice(&select);
    }
    sized(&mut out, quote.pcr_digest);
    out
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).expect("at most 66").to_be_bytes());
    out.extend_from_slice(bytes);
}
