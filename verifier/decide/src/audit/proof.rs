//! Inclusion and consistency proofs (RFC 9162 §2.1.3 and §2.1.4): made from tiles, checked from hashes alone.

use quotary_common::id::Digest;

use super::hash::node_hash;
use super::tree::{Subtrees, TileSource, TreeError};

/// Most hashes in a proof: a tree of 2^64 leaves is 64 deep, and a consistency proof has one more.
pub const PROOF_HASHES_MAX: usize = 65;

/// Largest power of two below `n`, for `n` ≥ 2.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The hashes that lead from leaf `index` to the root over the first `size` leaves of a tree of `full_size`.
///
/// # Errors
/// [`TreeError`] when a tile cannot be had, or the leaf lies outside the tree.
pub fn inclusion<S: TileSource>(
    source: &S,
    full_size: u64,
    index: u64,
    size: u64,
) -> Result<Vec<Digest>, TreeError<S::Error>> {
    if index >= size || size > full_size {
        return Err(TreeError::Range { asked: index.max(size), size: full_size });
    }
    let subtrees = Subtrees { source, size: full_size };
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(subtrees.range(middle, to)?);
            to = middle;
        } else {
            proof.push(subtrees.range(from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that show that the first `old` leaves are the beginning of the first `new` ones.
///
/// # Errors
/// [`TreeError`] when a tile cannot be had, or the sizes lie outside the tree.
pub fn consistency<S: TileSource>(
    source: &S,
    full_size: u64,
    old: u64,
    new: u64,
) -> Result<Vec<Digest>, TreeError<S::Error>> {
    if old > new || new > full_size {
        return Err(TreeError::Range { asked: old.max(new), size: full_size });
    }
    let subtrees = Subtrees { source, size: full_size };
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut from, mut to, mut known) = (0, new, true);
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(subtrees.range(middle, to)?);
            to = middle;
        } else {
            proof.push(subtrees.range(from, middle)?);
            from = middle;
            known = false;
        }
    }
    if !known {
        proof.push(subtrees.range(from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` leads from the leaf hash at `index` to `root` over `size` leaves (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size || proof.len() > PROOF_HASHES_MAX {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}
