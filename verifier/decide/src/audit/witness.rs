//! What hosts state, under their quotes, of the log they have seen: each quote witnesses the log (design §11).

use std::cell::RefCell;
use std::collections::BTreeMap;

use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::id::{Digest, HostId};

use super::report::AuditReport;
use super::tile::Tile;
use super::tree::{AllTiles, TiledTree, TreeError, root_at};

/// Most different checkpoints that are kept to be checked.
const WITNESSED_MAX: usize = 100_000;

/// Checkpoints that were stated, each with the first leaf and host that stated it.
#[derive(Default)]
pub(super) struct Witnesses {
    stated: BTreeMap<(u64, Digest), (u64, Option<HostId>)>,
    left_out: u64,
}

impl Witnesses {
    pub(super) fn add(&mut self, leaf: u64, host: Option<HostId>, checkpoint: WitnessedCheckpoint) {
        let key = (checkpoint.size, checkpoint.root);
        if self.stated.contains_key(&key) {
            return;
        }
        if self.stated.len() < WITNESSED_MAX {
            self.stated.insert(key, (leaf, host));
        } else {
            self.left_out += 1;
        }
    }

    /// How many were not kept.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Compares what was stated with the tree; `leaf_hashes` gives level 0 tiles.
    ///
    /// # Errors
    /// What `leaf_hashes` says.
    pub(super) fn compare<E>(
        &self,
        tree: &TiledTree,
        leaf_hashes: impl Fn(Tile) -> Result<Vec<Digest>, E>,
        report: &mut AuditReport,
    ) -> Result<(), E> {
        // Sizes ascend, so that neighbours share the tile at their right edge.
        let last: RefCell<Option<(Tile, Vec<Digest>)>> = RefCell::new(None);
        let cached = |tile: Tile| {
            if let Some((_, hashes)) = last.borrow().as_ref().filter(|(kept, _)| *kept == tile) {
                return Ok(hashes.clone());
            }
            let hashes = leaf_hashes(tile)?;
            *last.borrow_mut() = Some((tile, hashes.clone()));
            Ok(hashes)
        };
        let tiles = AllTiles { tree, leaf_hashes: cached };
        for ((size, root), (leaf, host)) in &self.stated {
            let by = host.map_or_else(|| "the verifier".to_owned(), |host| host.to_string());
            let own = match root_at(&tiles, tree.size(), *size) {
                Ok(own) if size <= leaf => Some(own),
                Err(TreeError::Source { source, .. }) => return Err(source),
                _ => None,
            };
            match own {
                Some(own) if own == *root => report.witnesses_agreeing += 1,
                Some(own) => report.witness_conflict(
                    *leaf,
                    format!("{by} saw root {} at size {size}, this log had {}", root.hex(), own.hex()),
                ),
                None => report.witness_conflict(*leaf, format!("{by} saw size {size}, which this log had not reached")),
            }
        }
        Ok(())
    }
}
