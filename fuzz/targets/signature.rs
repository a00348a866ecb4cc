//! `TPMT_SIGNATURE`: what parses is the one encoding of what it says, and no other signature than the real one holds.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quotary_common::limits::SIGNATURE_BYTES_MAX;
use quotary_common::tpm::{AkKey, HashAlg, Signature};

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/attestation/tpm2-tools/", $name))
    };
}

/// Real keys, a message of each, and the signature over it.
static REAL: LazyLock<Vec<(AkKey, &[u8], &[u8])>> = LazyLock::new(|| {
    // A `TPM2B_PUBLIC` starts with its length.
    let key = |bytes: &[u8]| AkKey::from_public_bytes(&bytes[2..]).expect("a real key");
    vec![
        (key(vector!("ecdsa-p256/ak.tpm2b")), vector!("ecdsa-p256/quote.msg"), vector!("ecdsa-p256/quote.sig")),
        (key(vector!("ecdsa-p384/ak.tpm2b")), vector!("ecdsa-p384/quote.msg"), vector!("ecdsa-p384/quote.sig")),
        (key(vector!("rsapss-2048/ak.tpm2b")), vector!("rsapss-2048/quote.msg"), vector!("rsapss-2048/quote.sig")),
        (
            key(vector!("rsassa-sha384/ak.tpm2b")),
            vector!("rsassa-sha384/quote.msg"),
            vector!("rsassa-sha384/quote.sig"),
        ),
    ]
});

fuzz_target!(|data: &[u8]| {
    let Ok(read) = Signature::parse(data) else {
        assert!(REAL.iter().all(|(_, _, real)| *real != data), "a real signature does not parse");
        return;
    };
    assert!(data.len() <= SIGNATURE_BYTES_MAX);
    assert_eq!(encode(&read), data, "a signature has one encoding");
    for (key, message, real) in REAL.iter() {
        let held = key.verify(message, data).is_ok();
        let real_read = Signature::parse(real).expect("a real signature");
        assert_eq!(held, is_same(&read, &real_read), "{read:?}");
    }
});

/// Whether both are one signature: coordinates are numbers, so zeros before them say nothing.
fn is_same(one: &Signature<'_>, other: &Signature<'_>) -> bool {
    match (one, other) {
        (Signature::Ecdsa { hash, r, s }, Signature::Ecdsa { hash: other_hash, r: other_r, s: other_s }) => {
            // A coordinate longer than the curve's is refused, whatever its value.
            let fits = r.len() <= other_r.len() && s.len() <= other_s.len();
            hash == other_hash && fits && number(r) == number(other_r) && number(s) == number(other_s)
        }
        _ => one == other,
    }
}

fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn encode(signature: &Signature<'_>) -> Vec<u8> {
    let (alg, hash, parts): (u16, &HashAlg, Vec<&[u8]>) = match signature {
        Signature::RsaSsa { hash, bytes } => (0x0014, hash, vec![bytes]),
        Signature::RsaPss { hash, bytes } => (0x0016, hash, vec![bytes]),
        Signature::Ecdsa { hash, r, s } => (0x0018, hash, vec![r, s]),
    };
    let mut out = [alg.to_be_bytes(), hash.id().to_be_bytes()].concat();
    for part in parts {
        out.extend_from_slice(&u16::try_from(part.len()).expect("at most 512").to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}
