//! Names of TPM objects (TPM 2.0 Library, Part 1, "Names") and the qualified signer of a quote.

use super::HashAlg;

/// The handle of the endorsement hierarchy, which is its own name (`TPM_RH_ENDORSEMENT`).
const ENDORSEMENT_HIERARCHY: [u8; 4] = 0x4000_000B_u32.to_be_bytes();

/// An object's name, `nameAlg ‖ digest under nameAlg`: made only from a public area or from other names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TpmName {
    alg: HashAlg,
    bytes: Vec<u8>,
}

impl TpmName {
    pub(super) fn of(alg: HashAlg, parts: [&[u8]; 2]) -> Self {
        let mut bytes = Vec::with_capacity(2 + alg.length());
        bytes.extend_from_slice(&alg.id().to_be_bytes());
        bytes.extend_from_slice(alg.digest(parts).as_ref());
        Self { alg, bytes }
    }
    /// The algorithm of the name.
    pub fn alg(&self) -> HashAlg {
        self.alg
    }
    /// The bytes: two of algorithm id, then the digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for TpmName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.bytes))
    }
}

/// What `qualifiedSigner` must be in every quote by an AK that is a child of an EK in the endorsement hierarchy:
/// `H(H(0x4000000B ‖ Name(EK)) ‖ Name(AK))`, each `H` under that object's own name algorithm (wire.md, Forms).
pub fn qualified_signer(ek: &TpmName, ak: &TpmName) -> TpmName {
    let qualified_ek = TpmName::of(ek.alg, [&ENDORSEMENT_HIERARCHY, &ek.bytes]);
    TpmName::of(ak.alg, [&qualified_ek.bytes, &ak.bytes])
}
