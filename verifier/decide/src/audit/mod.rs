//! The audit log's deciding part: the Merkle tree over the leaves, its tiles and proofs, and the offline audit.
//!
//! Does: hashes leaves and nodes (RFC 6962), grows the tree, makes and checks proofs (RFC 9162), names, writes
//! and reads tiles and entry bundles (C2SP tlog-tiles); audits a log from its files alone: checkpoint, tree, every
//! leaf, and the quote behind every verdict; says which leaves tell an event, and which one.
//! May assume: nothing about files, tiles, bundles, paths and proofs, which may come from anybody.
//! Promises: bounded memory (32 bytes per 255 leaves, what one bundle and one evidence need, and one record per
//! enrolled host), no recursion, no panic; a proof that verifies holds unless SHA-256 is broken; an audit that says
//! `verified` has checked everything that it does not list as missing or note as taken on trust.
//! Must never: read a file or a clock itself; pass over missing evidence in silence.

mod event;
mod hash;
mod hosts;
mod proof;
mod report;
#[cfg(test)]
mod tests;
mod tile;
mod tree;
mod verify;
mod witness;

pub use event::event_of;
pub use hash::{empty_root, leaf_hash, node_hash};
pub use hosts::COMMIT_GRACE_MS;
pub use proof::{PROOF_HASHES_MAX, consistency, inclusion, verify_inclusion};
pub use report::{AuditReport, Fault, LISTED_MAX, MissingEvidence, kind_of};
pub use tile::{BUNDLE_BYTES_MAX, Bundle, TILE_LEVEL_MAX, TILE_WIDTH, Tile, TileError, TilePath};
pub use tree::{AllTiles, Node, TileSource, TiledTree, Tree, TreeError, root_at};
pub use verify::{AuditError, AuditFiles, CHECKPOINT_PATH, evidence_path, verify};
