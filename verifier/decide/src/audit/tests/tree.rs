//! The tree and its proofs against the definitions of RFC 6962, the known vectors, and every kind of forgery.

use proptest::prelude::*;
use quotary_common::consistency::is_prefix;
use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::id::Digest;

use crate::audit::{
    AllTiles, Bundle, Tile, TiledTree, Tree, consistency, empty_root, inclusion, leaf_hash, node_hash, root_at,
    verify_inclusion,
};

/// The check that agents run, against the proofs that are made here.
fn verify_consistency(old: u64, new: u64, proof: &[Digest], old_root: &Digest, new_root: &Digest) -> bool {
    let at = |size, root: &Digest| WitnessedCheckpoint { size, root: *root };
    is_prefix(&at(old, old_root), &at(new, new_root), proof)
}

/// MTH of RFC 6962 §2.1, word for word.
fn definition(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let k = 1 << (leaves.len() - 1).ilog2();
            node_hash(&definition(&leaves[..k]), &definition(&leaves[k..]))
        }
    }
}

fn hashes(count: u64) -> Vec<Digest> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn tree_of(leaves: &[Digest]) -> TiledTree {
    let mut tree = TiledTree::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    tree
}

type LeafTiles<'a> = AllTiles<'a, Box<dyn Fn(Tile) -> Result<Vec<Digest>, std::convert::Infallible> + 'a>>;

fn tiles<'a>(tree: &'a TiledTree, leaves: &'a [Digest]) -> LeafTiles<'a> {
    let leaf_hashes = Box::new(|tile: Tile| {
        let first = usize::try_from(tile.index() * 256).unwrap();
        Ok(leaves[first..first + usize::from(tile.width())].to_vec())
    });
    AllTiles { tree, leaf_hashes }
}

/// The eight entries of the Certificate Transparency reference tests, and the root after each.
#[test]
fn roots_are_those_of_the_reference_tests() {
    let entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    assert_eq!(empty_root().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let mut tree = Tree::new();
    let mut leaves = Vec::new();
    for (entry, root) in entries.iter().zip(roots) {
        let leaf = leaf_hash(&data_encoding::HEXLOWER.decode(entry.as_bytes()).unwrap());
        leaves.push(leaf);
        tree.append(leaf);
        assert_eq!(tree.root().hex(), root);
    }
    let tree = tree_of(&leaves);
    let hex = |proof: Vec<Digest>| proof.iter().map(Digest::hex).collect::<Vec<_>>();
    assert_eq!(
        hex(inclusion(&tiles(&tree, &leaves), 8, 0, 8).unwrap()),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        hex(consistency(&tiles(&tree, &leaves), 8, 6, 8).unwrap()),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
}

#[test]
fn every_root_is_that_of_the_recursive_definition() {
    let leaves = hashes(600);
    let full = tree_of(&leaves);
    let source = tiles(&full, &leaves);
    let mut tree = Tree::new();
    for size in 0..=600_u64 {
        let expected = definition(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!((tree.size(), tree.root()), (size, expected));
        assert_eq!(root_at(&source, 600, size).unwrap(), expected, "size {size} out of tiles");
        if let Some(leaf) = leaves.get(usize::try_from(size).unwrap()) {
            tree.append(*leaf);
        }
    }
    assert!(root_at(&source, 600, 601).is_err());
}

#[test]
fn an_append_returns_each_completed_subtree_once() {
    let leaves = hashes(64);
    let mut tree = Tree::new();
    let nodes: Vec<_> = leaves.iter().flat_map(|leaf| tree.append(*leaf)).collect();
    assert_eq!(nodes.len(), 127);
    for node in nodes {
        let (from, to) = (node.index << node.level, (node.index + 1) << node.level);
        let covered = &leaves[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
        assert_eq!(node.hash, definition(covered), "level {} index {}", node.level, node.index);
    }
}

#[test]
fn a_tree_of_three_tile_levels_serves_every_tile_and_old_roots() {
    let leaves = hashes(66_000);
    let tree = tree_of(&leaves);
    assert_eq!(tree.root(), definition(&leaves));
    let source = tiles(&tree, &leaves);
    for size in [1, 255, 256, 257, 65_535, 65_536, 65_537, 65_792, 65_999] {
        assert_eq!(root_at(&source, 66_000, size).unwrap(), definition(&leaves[..usize::try_from(size).unwrap()]));
    }
    let all: Vec<Tile> = tree.tiles_since(0).collect();
    let per_level = |level| all.iter().filter(|tile| tile.level() == level).count();
    assert_eq!((per_level(0), per_level(1), per_level(2), per_level(3)), (258, 2, 1, 0));
    for tile in all.iter().filter(|tile| tile.level() > 0) {
        assert_eq!(tree.upper_tile(*tile).unwrap().len(), usize::from(tile.width()), "{}", tile.path());
    }
    assert_eq!(tree.tiles_since(66_000).count(), 0);
    let grown: Vec<String> = tree.tiles_since(65_900).map(Tile::path).collect();
    assert_eq!(grown, ["tile/0/257.p/208"]);
    assert_eq!(tree.upper_tile(Tile::in_tree(1, 1, 70_000).unwrap()), None, "wider than this tree");
}

#[test]
fn proofs_of_all_small_trees_hold_and_for_nothing_else() {
    let leaves = hashes(70);
    let tree = tree_of(&leaves);
    let source = tiles(&tree, &leaves);
    let roots: Vec<Digest> = (0..=70).map(|size| root_at(&source, 70, size).unwrap()).collect();
    let root = |size: u64| roots[usize::try_from(size).unwrap()];
    for size in 1..=70 {
        for index in 0..size {
            let proof = inclusion(&source, 70, index, size).unwrap();
            let leaf = leaves[usize::try_from(index).unwrap()];
            for other in 0..=size {
                let holds = verify_inclusion(&leaf, other, size, &proof, &root(size));
                assert_eq!(holds, other == index, "leaf {index} as {other} of {size}");
            }
            assert!(!verify_inclusion(&leaf, index, size, &proof, &root(size - 1)));
        }
        for old in 0..=size {
            let proof = consistency(&source, 70, old, size).unwrap();
            assert!(verify_consistency(old, size, &proof, &root(old), &root(size)), "{old} of {size}");
            if old > 0 && old < size {
                assert!(!verify_consistency(old, size, &proof, &root(old - 1), &root(size)));
                assert!(!verify_consistency(old, size, &proof, &root(old), &root(size - 1)));
                assert!(!verify_consistency(old, size, &proof[1..], &root(old), &root(size)));
            }
        }
    }
    assert!(inclusion(&source, 70, 70, 70).is_err() && inclusion(&source, 70, 0, 71).is_err());
    assert!(consistency(&source, 70, 5, 4).is_err() && consistency(&source, 70, 5, 71).is_err());
    assert!(!verify_consistency(0, 5, &[], &root(1), &root(5)), "an empty tree has one root");
    assert!(!verify_inclusion(&leaves[0], 0, 0, &[], &empty_root()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_change_breaks_a_proof(size in 1_u64..600, index in any::<u64>(), bit in 0_usize..256, place in any::<usize>()) {
        let leaves = hashes(size);
        let tree = tree_of(&leaves);
        let source = tiles(&tree, &leaves);
        let index = index % size;
        let leaf = leaves[usize::try_from(index).unwrap()];
        let proof = inclusion(&source, size, index, size).unwrap();
        let root = tree.root();
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root));
        let flipped = |hash: Digest| {
            let mut bytes = *hash.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Digest::new(bytes)
        };
        prop_assert!(!verify_inclusion(&flipped(leaf), index, size, &proof, &root));
        prop_assert!(!verify_inclusion(&leaf, index, size, &proof, &flipped(root)));
        prop_assert!(!verify_inclusion(&leaf, (index + 1) % size.max(2), size, &proof, &root));
        if let Some(at) = place.checked_rem(proof.len()) {
            let mut changed = proof.clone();
            changed[at] = flipped(changed[at]);
            prop_assert!(!verify_inclusion(&leaf, index, size, &changed, &root));
            prop_assert!(!verify_inclusion(&leaf, index, size, &proof[1..], &root));
        }
        let old = index + 1;
        let old_root = root_at(&source, size, old).unwrap();
        let proof = consistency(&source, size, old, size).unwrap();
        prop_assert!(verify_consistency(old, size, &proof, &old_root, &root));
        prop_assert!(!verify_consistency(old, size, &proof, &flipped(old_root), &root));
        prop_assert!(!verify_consistency(old, size, &proof, &old_root, &flipped(root)));
        if let Some(at) = place.checked_rem(proof.len()) {
            let mut changed = proof.clone();
            changed[at] = flipped(changed[at]);
            prop_assert!(!verify_consistency(old, size, &changed, &old_root, &root));
        }
    }

    #[test]
    fn checking_is_total(a in any::<u64>(), b in any::<u64>(), proof in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
        let proof: Vec<Digest> = proof.into_iter().map(Digest::new).collect();
        let hash = leaf_hash(b"x");
        prop_assert!(a == 0 && b == 1 || !verify_inclusion(&hash, a, b, &proof, &empty_root()));
        prop_assert!(!verify_consistency(a, b, &proof, &hash, &empty_root()));
    }
}

#[test]
fn leaves_of_a_bundle_hash_to_the_tile_beside_it() {
    let leaves = [b"one".as_slice(), b"", b"three"];
    let tile = Tile::in_tree(0, 0, 3).unwrap();
    let bytes = Tile::encode(&Bundle::hashes(&leaves));
    assert_eq!(tile.parse(&bytes).unwrap(), leaves.map(leaf_hash));
    assert!(tile.parse(&bytes[1..]).is_err() && tile.parse(&[bytes.as_slice(), &[0; 32]].concat()).is_err());
}
