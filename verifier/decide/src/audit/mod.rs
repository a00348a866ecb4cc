//! The audit log's deciding part: the Merkle tree over the leaves, its tiles and proofs.
//!
//! Does: hashes leaves and nodes (RFC 6962), grows the tree, makes and checks proofs (RFC 9162), names, writes
//! and reads tiles and entry bundles (C2SP tlog-tiles).
//! May assume: nothing about tiles, bundles, paths and proofs, which may come from anybody.
//! Promises: bounded memory (32 bytes per 255 leaves, and what one tile needs), no recursion, no panic; a
//! proof that verifies holds unless SHA-256 is broken.
//! Must never: read a file or a clock itself.

mod hash;
mod proof;
mod tile;
mod tree;

pub use hash::{empty_root, leaf_hash, node_hash};
pub use proof::{PROOF_HASHES_MAX, consistency, inclusion, verify_consistency, verify_inclusion};
pub use tile::{BUNDLE_BYTES_MAX, Bundle, TILE_LEVEL_MAX, TILE_WIDTH, Tile, TileError, TilePath};
pub use tree::{AllTiles, Node, TileSource, TiledTree, Tree, TreeError, root_at};
