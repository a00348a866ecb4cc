//! Consistency of two checkpoints of the audit log (RFC 9162 §2.1.4.2): is the older one a prefix of the newer?
//!
//! Here, since every witness must be able to tell: agents do so for each checkpoint before they state it in an
//! envelope.

use crate::envelope::WitnessedCheckpoint;
use crate::id::Digest;

/// Most hashes in a consistency proof between trees of at most 2^64 leaves.
pub const PROOF_HASHES_MAX: usize = 66;

/// Hash of an inner node (RFC 9162 §2.1.1).
fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// Whether `proof` shows that the log at `newer` begins with the log at `older`.
pub fn is_prefix(older: &WitnessedCheckpoint, newer: &WitnessedCheckpoint, proof: &[Digest]) -> bool {
    if older.size > newer.size || proof.len() > PROOF_HASHES_MAX {
        return false;
    }
    if older.size == newer.size {
        return proof.is_empty() && older.root == newer.root && (older.size != 0 || older.root == Digest::of(&[]));
    }
    if older.size == 0 {
        return proof.is_empty() && older.root == Digest::of(&[]);
    }
    // A perfect older tree is itself the first hash, and the proof leaves it out.
    let (first, rest) = match proof.split_first() {
        _ if older.size.is_power_of_two() => (older.root, proof),
        Some((first, rest)) => (*first, rest),
        None => return false,
    };
    let (mut place, mut last) = (older.size - 1, newer.size - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut older_root, mut newer_root) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            older_root = node(sibling, &older_root);
            newer_root = node(sibling, &newer_root);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            newer_root = node(&newer_root, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && older_root == older.root && newer_root == newer.root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root and proof by the definitions of RFC 9162 §2.1.1 and §2.1.4.1, written down as they stand there.
    fn root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(&[]),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node(&root(left), &root(right))
            }
        }
    }
    fn split(len: usize) -> usize {
        len.next_power_of_two() / 2
    }
    fn proof(older: usize, leaves: &[Digest], is_whole: bool) -> Vec<Digest> {
        if older == leaves.len() {
            return if is_whole { Vec::new() } else { vec![root(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut out, other) = if older <= left.len() {
            (proof(older, left, is_whole), root(right))
        } else {
            (proof(older - left.len(), right, false), root(left))
        };
        out.push(other);
        out
    }
    fn leaves() -> Vec<Digest> {
        (0..33u8).map(|n| Digest::of(&[&[0], &[n]])).collect()
    }
    fn at(leaves: &[Digest]) -> WitnessedCheckpoint {
        WitnessedCheckpoint { size: leaves.len() as u64, root: root(leaves) }
    }

    #[test]
    fn every_prefix_of_a_log_is_shown_to_be_one() {
        let leaves = leaves();
        for newer in 1..=leaves.len() {
            for older in 1..=newer {
                let proof = proof(older, &leaves[..newer], true);
                assert!(is_prefix(&at(&leaves[..older]), &at(&leaves[..newer]), &proof), "{older} of {newer}");
            }
            assert!(is_prefix(&at(&[]), &at(&leaves[..newer]), &[]));
        }
    }

    #[test]
    fn a_fork_a_shrunk_log_and_a_changed_proof_are_refused() {
        let leaves = leaves();
        for newer in 2..=leaves.len() {
            for older in 1..newer {
                let good = proof(older, &leaves[..newer], true);
                let mut forked = leaves[..older].to_vec();
                forked[older - 1] = Digest::of(&[b"another"]);
                assert!(!is_prefix(&at(&forked), &at(&leaves[..newer]), &good), "fork {older} of {newer}");
                assert!(!is_prefix(&at(&leaves[..newer]), &at(&leaves[..older]), &good), "shrunk {older} of {newer}");
                for i in 0..good.len() {
                    let mut bad = good.clone();
                    bad[i] = Digest::of(&[b"another"]);
                    assert!(!is_prefix(&at(&leaves[..older]), &at(&leaves[..newer]), &bad), "changed {i}");
                    bad.remove(i);
                    assert!(!is_prefix(&at(&leaves[..older]), &at(&leaves[..newer]), &bad), "short {i}");
                }
            }
        }
    }
}
