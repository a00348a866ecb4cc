//! The append-only tree in little memory.
//!
//! [`Tree`] keeps the roots of the perfect subtrees that cover the leaves (at most 64), enough to append and
//! to name the root. [`TiledTree`] also keeps the hashes of every full tile from level 1 up (32 bytes per 255
//! leaves), so that any tile, older root or proof can be had; level 0 it asks from a [`TileSource`].

use quotary_common::id::Digest;

use super::hash::{empty_root, fold, fold_perfect, node_hash};
use super::tile::{TILE_WIDTH, Tile};

/// The tree's frontier: append and root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the perfect subtrees, largest first: one per set bit of `size`.
    peaks: Vec<Digest>,
}

/// A perfect subtree that an append completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// It covers `2^level` leaves; 0 is a leaf.
    pub level: u8,
    /// Its place among those of its level: it covers leaves from `index << level` on.
    pub index: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Tree {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }
    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }
    /// Root over all leaves.
    pub fn root(&self) -> Digest {
        fold(&self.peaks).unwrap_or_else(empty_root)
    }
    /// Appends a leaf by its hash; returns the nodes that it completed, the leaf itself first.
    pub fn append(&mut self, leaf: Digest) -> Vec<Node> {
        let mut node = Node { level: 0, index: self.size, hash: leaf };
        let mut completed = vec![node];
        while node.index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            node = Node { level: node.level + 1, index: node.index >> 1, hash: node_hash(&left, &node.hash) };
            completed.push(node);
        }
        self.peaks.push(node.hash);
        self.size += 1;
        completed
    }
}

/// Where tiles come from: the store's leaves, files, a server.
pub trait TileSource {
    /// Why a tile could not be had.
    type Error;
    /// The hashes of a tile, exactly [`Tile::width`] of them, left to right.
    ///
    /// # Errors
    /// What the source says.
    fn tile(&self, tile: Tile) -> Result<Vec<Digest>, Self::Error>;
}

/// A tile that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E> {
    /// The source failed.
    #[error("tile {} cannot be read", .tile.path())]
    Source {
        /// Which tile.
        tile: Tile,
        /// Why.
        #[source]
        source: E,
    },
    /// The source gave another number of hashes than asked.
    #[error("tile {} has {found} hashes", .tile.path())]
    Width {
        /// Which tile.
        tile: Tile,
        /// How many came.
        found: usize,
    },
    /// What was asked lies outside the tree.
    #[error("{asked} lies outside a tree of {size} leaves")]
    Range {
        /// The leaf or size that was asked for.
        asked: u64,
        /// The tree's size.
        size: u64,
    },
}

/// Reads hashes of perfect subtrees out of tiles, for one tree size.
pub(crate) struct Subtrees<'a, S> {
    pub(crate) source: &'a S,
    /// Number of leaves of the tree whose tiles the source has.
    pub(crate) size: u64,
}

impl<S: TileSource> Subtrees<'_, S> {
    /// Hash of the perfect subtree of `2^level` leaves from `index << level` on.
    fn perfect(&self, level: u32, index: u64) -> Result<Digest, TreeError<S::Error>> {
        let outside = || TreeError::Range { asked: index, size: self.size };
        let (tile_level, inside) = (u8::try_from(level / 8).map_err(|_| outside())?, level % 8);
        let first = index << inside;
        let tile = Tile::in_tree(tile_level, first / TILE_WIDTH, self.size).ok_or_else(outside)?;
        let hashes = self.source.tile(tile).map_err(|source| TreeError::Source { tile, source })?;
        if hashes.len() != usize::from(tile.width()) {
            return Err(TreeError::Width { tile, found: hashes.len() });
        }
        let from = usize::try_from(first % TILE_WIDTH).map_err(|_| outside())?;
        hashes.get(from..from + (1 << inside)).and_then(fold_perfect).ok_or_else(outside)
    }

    /// Hash over the leaves `from..to`, where `from` is a multiple of the power of two that covers the range.
    pub(crate) fn range(&self, from: u64, to: u64) -> Result<Digest, TreeError<S::Error>> {
        let mut peaks = Vec::new();
        let mut at = from;
        while at < to {
            let level = (to - at).ilog2();
            peaks.push(self.perfect(level, at >> level)?);
            at += 1 << level;
        }
        fold(&peaks).ok_or(TreeError::Range { asked: from, size: self.size })
    }
}

/// Root of the first `size` leaves of a tree of `full_size` whose tiles `source` has.
///
/// # Errors
/// [`TreeError`] when a tile cannot be had or `size` is larger than the tree.
pub fn root_at<S: TileSource>(source: &S, full_size: u64, size: u64) -> Result<Digest, TreeError<S::Error>> {
    match size {
        0 => Ok(empty_root()),
        _ if size > full_size => Err(TreeError::Range { asked: size, size: full_size }),
        _ => Subtrees { source, size: full_size }.range(0, size),
    }
}

/// The tree with what is needed to serve every tile above level 0.
#[derive(Debug, Clone, Default)]
pub struct TiledTree {
    tree: Tree,
    /// `levels[0]` holds the hashes of tile level 1, and so on.
    levels: Vec<Vec<Digest>>,
}

impl TiledTree {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { tree: Tree::new(), levels: Vec::new() }
    }
    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }
    /// Root over all leaves.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }
    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: Digest) {
        for node in self.tree.append(leaf) {
            if node.level >= 8 && node.level % 8 == 0 {
                let place = usize::from(node.level / 8) - 1;
                if self.levels.len() == place {
                    self.levels.push(Vec::new());
                }
                if let Some(level) = self.levels.get_mut(place) {
                    level.push(node.hash);
                }
            }
        }
    }
    /// The hashes of a tile from level 1 up; `None` if this tree does not have it (or it is of level 0).
    pub fn upper_tile(&self, tile: Tile) -> Option<Vec<Digest>> {
        let level = self.levels.get(usize::from(tile.level()).checked_sub(1)?)?;
        let from = usize::try_from(tile.index().checked_mul(TILE_WIDTH)?).ok()?;
        level.get(from..from.checked_add(usize::from(tile.width()))?).map(<[Digest]>::to_vec)
    }
    /// All tiles of this tree from `old_size` to its size that are new or wider, level by level.
    pub fn tiles_since(&self, old_size: u64) -> impl Iterator<Item = Tile> + '_ {
        let size = self.size();
        (0..=u8::try_from(self.levels.len()).unwrap_or(u8::MAX)).flat_map(move |level| {
            let shift = 8 * u32::from(level);
            let (before, now) = (old_size.checked_shr(shift).unwrap_or(0), size.checked_shr(shift).unwrap_or(0));
            let tiles = if now > before { before / TILE_WIDTH..now.div_ceil(TILE_WIDTH) } else { 0..0 };
            tiles.filter_map(move |index| Tile::in_tree(level, index, size))
        })
    }
}

/// A [`TiledTree`] together with whoever has the leaf hashes of level 0: all tiles.
pub struct AllTiles<'a, F> {
    /// The tree.
    pub tree: &'a TiledTree,
    /// Gives the leaf hashes `first..first + width` of a level 0 tile.
    pub leaf_hashes: F,
}

impl<E, F: Fn(Tile) -> Result<Vec<Digest>, E>> TileSource for AllTiles<'_, F> {
    type Error = E;
    fn tile(&self, tile: Tile) -> Result<Vec<Digest>, E> {
        match tile.level() {
            0 => (self.leaf_hashes)(tile),
            // A tile that the tree lacks comes back empty, and the width check names it.
            _ => Ok(self.tree.upper_tile(tile).unwrap_or_default()),
        }
    }
}
