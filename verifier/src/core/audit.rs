//! The audit log as it is served: tree, tiles, checkpoints, and proofs for witnesses.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};

use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::id::{DeploymentId, Digest};
use quotary_common::sign::SigningKey;
use quotary_decide::audit::{AllTiles, Bundle, TILE_WIDTH, Tile, TilePath, TiledTree, consistency, leaf_hash};

use crate::store::{Reader, StoreError};

/// Level 0 tiles whose hashes are kept at hand: the newest ones, which every proof touches.
const RECENT_TILES: usize = 64;
/// Proofs that are kept: many witnesses share an old size.
const PROOFS_KEPT: usize = 256;
/// What witnesses are shown moves at most this often, ms.
const SHOWN_MS: u64 = 1_000;

#[derive(Debug)]
struct Log {
    tree: TiledTree,
    /// Leaf hashes of the newest level 0 tiles, by tile index.
    recent: BTreeMap<u64, Vec<Digest>>,
    note: String,
    /// What witnesses are shown: it moves once a second, so that many of them share one proof.
    shown: Shown,
}

#[derive(Debug, Default)]
struct Shown {
    size: u64,
    note: String,
    at_ms: u64,
}

/// The log as it is served.
#[derive(Debug)]
pub struct AuditLog {
    origin: String,
    key: SigningKey,
    log: RwLock<Log>,
    proofs: Mutex<BTreeMap<(u64, u64), Vec<Digest>>>,
    reader: Mutex<Box<dyn Reader>>,
}

/// A tile that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// The log does not have it.
    #[error("the log has no such tile")]
    Absent,
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl std::fmt::Debug for Box<dyn Reader> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl AuditLog {
    /// The log of all leaves that `reader` has.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn rebuild(deployment: &DeploymentId, key: SigningKey, reader: Box<dyn Reader>) -> Result<Self, StoreError> {
        let log = Log { tree: TiledTree::new(), recent: BTreeMap::new(), note: String::new(), shown: Shown::default() };
        let audit = Self {
            origin: origin_of(deployment),
            key,
            log: RwLock::new(log),
            proofs: Mutex::default(),
            reader: Mutex::new(reader),
        };
        loop {
            let size = audit.checkpoint().size;
            let leaves = audit.reader.lock().unwrap_or_else(PoisonError::into_inner).leaves(size, 4096)?;
            if leaves.is_empty() {
                audit.append(&[], SHOWN_MS);
                return Ok(audit);
            }
            audit.append(&leaves, 0);
        }
    }

    /// Appends committed leaves and signs a new checkpoint; none at `now_ms` lets witnesses see the newest.
    pub(super) fn append(&self, leaves: &[Vec<u8>], now_ms: u64) {
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        for leaf in leaves {
            let hash = leaf_hash(leaf);
            let index = log.tree.size() / TILE_WIDTH;
            log.tree.append(hash);
            log.recent.entry(index).or_default().push(hash);
        }
        while log.recent.len() > RECENT_TILES {
            log.recent.pop_first();
        }
        let size = log.tree.size();
        if !leaves.is_empty() || log.note.is_empty() {
            let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: log.tree.root() };
            log.note = checkpoint.sign(&self.key);
        }
        if size > log.shown.size && now_ms.saturating_sub(log.shown.at_ms) >= SHOWN_MS {
            log.shown = Shown { size, note: log.note.clone(), at_ms: now_ms };
        }
    }

    /// Size and root.
    pub fn checkpoint(&self) -> WitnessedCheckpoint {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        WitnessedCheckpoint { size: log.tree.size(), root: log.tree.root() }
    }

    /// The newest signed checkpoint.
    pub fn note(&self) -> String {
        self.log.read().unwrap_or_else(PoisonError::into_inner).note.clone()
    }

    /// A signed checkpoint for a witness of `old_size` leaves, and the proof that it extends the one of that size.
    /// No proof where nothing was witnessed; an old size beyond the log (a fork, or a restore) has none either.
    ///
    /// `None` when the store fails: an empty proof would look like a fork.
    pub fn note_since(&self, old_size: u64) -> Option<(String, Vec<Digest>)> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let size = log.shown.size;
        if old_size == 0 || old_size >= size {
            return Some((log.shown.note.clone(), Vec::new()));
        }
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proof) = proofs.get(&(size, old_size)) {
            return Some((log.shown.note.clone(), proof.clone()));
        }
        let tiles = AllTiles { tree: &log.tree, leaf_hashes: |tile: Tile| self.leaf_hashes(&log, tile) };
        let proof = match consistency(&tiles, log.tree.size(), old_size, size) {
            Ok(proof) => proof,
            Err(error) => {
                tracing::error!(%error, old_size, size, "no consistency proof could be made");
                return None;
            }
        };
        while proofs.len() >= PROOFS_KEPT {
            proofs.pop_first();
        }
        proofs.insert((size, old_size), proof.clone());
        Some((log.shown.note.clone(), proof))
    }

    fn leaf_hashes(&self, log: &Log, tile: Tile) -> Result<Vec<Digest>, StoreError> {
        let width = usize::from(tile.width());
        if let Some(hashes) = log.recent.get(&tile.index()).and_then(|hashes| hashes.get(..width)) {
            return Ok(hashes.to_vec());
        }
        let leaves = self.read(tile.index() * TILE_WIDTH, width)?;
        Ok(Bundle::hashes(&leaves))
    }

    /// Exactly `count` leaves, or as many as there are.
    fn read(&self, first: u64, count: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut leaves = Vec::new();
        while leaves.len() < count {
            let more = reader.leaves(first + leaves.len() as u64, count - leaves.len())?;
            if more.is_empty() {
                break;
            }
            leaves.extend(more);
        }
        Ok(leaves)
    }

    /// The bytes of a tile or entry bundle, for a path below `tile/`.
    ///
    /// # Errors
    /// [`TileError::Absent`] when the path is none of this log's, [`TileError::Store`] when the store fails.
    pub fn tile(&self, path: &str) -> Result<Vec<u8>, TileError> {
        let path = TilePath::parse(path).map_err(|_| TileError::Absent)?;
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let size = log.tree.size();
        match path {
            TilePath::Tile(tile) => {
                let has =
                    Tile::in_tree(tile.level(), tile.index(), size).is_some_and(|own| own.width() >= tile.width());
                if !has {
                    return Err(TileError::Absent);
                }
                let hashes = match tile.level() {
                    0 => self.leaf_hashes(&log, tile).map_err(TileError::Store)?,
                    _ => log.tree.upper_tile(tile).ok_or(TileError::Absent)?,
                };
                Ok(Tile::encode(&hashes))
            }
            TilePath::Bundle(bundle) => {
                let has = Bundle::in_tree(bundle.index(), size).is_some_and(|own| own.width() >= bundle.width());
                if !has {
                    return Err(TileError::Absent);
                }
                drop(log);
                let leaves = self.read(bundle.first_leaf(), usize::from(bundle.width())).map_err(TileError::Store)?;
                Bundle::encode(&leaves).map_err(|_| TileError::Absent)
            }
        }
    }

    /// One leaf, if the published log has it.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn leaf(&self, number: u64) -> Result<Vec<u8>, TileError> {
        if number >= self.checkpoint().size {
            return Err(TileError::Absent);
        }
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.leaf(number).map_err(TileError::Store)?.ok_or(TileError::Absent)
    }
}
