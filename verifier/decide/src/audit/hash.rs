//! The two hashes of the tree (RFC 6962 §2.1, RFC 9162 §2.1.1): a prefix byte keeps leaf and node apart.

use quotary_common::id::Digest;

/// Hash of a leaf's bytes: `SHA-256(0x00 ‖ leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::of(&[&[0x00], leaf])
}

/// Hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[0x01], left.as_bytes(), right.as_bytes()])
}

/// Root of the empty tree: `SHA-256("")`.
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// Folds subtree roots that stand side by side, largest first, into the root over them.
pub(crate) fn fold(peaks: &[Digest]) -> Option<Digest> {
    let (last, rest) = peaks.split_last()?;
    Some(rest.iter().rev().fold(*last, |right, left| node_hash(left, &right)))
}

/// Folds `2^n` neighbouring hashes into the root over them; `None` for any other number of them.
pub(crate) fn fold_perfect(hashes: &[Digest]) -> Option<Digest> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    row.first().copied()
}
