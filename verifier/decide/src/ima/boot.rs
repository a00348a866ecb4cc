//! The boot aggregate: the first entry of a list ties it to the boot that the other PCRs record.

use quotary_common::id::Digest;
use ring::digest;

/// The expected digest of the first entry, from PCRs 0 to 9 of the SHA-256 bank (`ima_calc_boot_aggregate_tfm`, Linux 5.8).
/// A TPM without event log has the same formula.
pub fn boot_aggregate_sha256(pcrs: &[Digest; 10]) -> Digest {
    let parts: [&[u8]; 10] = std::array::from_fn(|index| &pcrs[index].as_bytes()[..]);
    Digest::of(&parts)
}

/// The same over PCRs 0 to 7 of the SHA-1 bank, as kernels write it whose IMA hash is SHA-1. For inspection: SHA-1 proves
/// nothing.
pub fn boot_aggregate_sha1(pcrs: &[[u8; 20]; 8]) -> [u8; 20] {
    sha1(&pcrs.concat())
}

/// SHA-1, which stands in lists and key ids; nothing is trusted for it.
pub(super) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    out
}
