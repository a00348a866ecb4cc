//! Tiles and entry bundles as C2SP tlog-tiles fixes them: names of files, and what stands in them.
//!
//! A hash tile of level L holds up to 256 hashes, each the root over `256^L` leaves; an entry bundle holds up
//! to 256 leaves, each behind a 16-bit big-endian length. A partial one carries its width in its name:
//! `tile/<L>/<N>[.p/<W>]`, `tile/entries/<N>[.p/<W>]`, with N in groups of three digits, `x001/x234/067`.

use quotary_common::id::Digest;

use super::hash::leaf_hash;

/// Hashes in a full tile, leaves in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Highest tile level (a tree of 2^64 leaves has no more).
pub const TILE_LEVEL_MAX: u8 = 7;
/// Largest entry bundle in bytes: 256 leaves of 65,535 bytes with their lengths.
pub const BUNDLE_BYTES_MAX: usize = 256 * (2 + 65_535);

/// A hash tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

/// An entry bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bundle {
    index: u64,
    width: u16,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TilePath {
    /// A hash tile.
    Tile(Tile),
    /// An entry bundle.
    Bundle(Bundle),
}

/// A path, tile or bundle that is not in the form of C2SP tlog-tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not a path of a tile or bundle.
    #[error("`{given}` names no tile: expected tile/<level>/<number>[.p/<width>] or tile/entries/<number>[.p/<width>]")]
    Path {
        /// What was given, cut short.
        given: String,
    },
    /// A tile of another length.
    #[error("a tile of {hashes} hashes has {expected} bytes, not {bytes}")]
    TileLength {
        /// How many hashes it should have.
        hashes: u16,
        /// How many bytes these take.
        expected: usize,
        /// How many bytes there are.
        bytes: usize,
    },
    /// A bundle that ends within an entry, or has another number of entries.
    #[error("an entry bundle of {bytes} bytes does not hold {entries} entries: it fails at entry {at}")]
    Bundle {
        /// How many entries it should have.
        entries: u16,
        /// How many bytes there are.
        bytes: usize,
        /// Where it fails.
        at: u16,
    },
    /// A leaf that does not fit behind a 16-bit length.
    #[error("a leaf of {bytes} bytes does not fit into an entry bundle (at most 65535)")]
    Leaf {
        /// Its size.
        bytes: usize,
    },
}

/// Width of the `index`-th group of 256 among `count`, if it has any.
fn width_of(index: u64, count: u64) -> Option<u16> {
    let before = index.checked_mul(TILE_WIDTH)?;
    let width = count.checked_sub(before)?.min(TILE_WIDTH);
    u16::try_from(width).ok().filter(|width| *width > 0)
}

impl Tile {
    /// The tile of this level and index in a tree of `size` leaves, as wide as that tree makes it.
    pub fn in_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let count = if level > TILE_LEVEL_MAX { 0 } else { size >> (8 * u32::from(level)) };
        width_of(index, count).map(|width| Self { level, index, width })
    }
    /// Its level: each hash covers `256^level` leaves.
    pub const fn level(self) -> u8 {
        self.level
    }
    /// Its place among the tiles of its level.
    pub const fn index(self) -> u64 {
        self.index
    }
    /// How many hashes it has, 1..=256.
    pub const fn width(self) -> u16 {
        self.width
    }
    /// The full tile at the same place: it replaces a partial one as the tree grows.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { width: 256, ..self }
    }
    /// This tile, then the wider ones at the same place that replace it as the tree grows.
    pub fn or_wider(self) -> impl Iterator<Item = Self> {
        (self.width..=256).map(move |width| Self { width, ..self })
    }
    /// Its path.
    pub fn path(self) -> String {
        format!("tile/{}/{}", self.level, place(self.index, self.width))
    }
    /// Reads its content: `width` hashes.
    ///
    /// # Errors
    /// [`TileError::TileLength`].
    pub fn parse(self, bytes: &[u8]) -> Result<Vec<Digest>, TileError> {
        let expected = usize::from(self.width) * 32;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if bytes.len() != expected || !rest.is_empty() {
            return Err(TileError::TileLength { hashes: self.width, expected, bytes: bytes.len() });
        }
        Ok(hashes.iter().map(|hash| Digest::new(*hash)).collect())
    }
    /// Bytes of a tile's hashes.
    pub fn encode(hashes: &[Digest]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }
}

impl Bundle {
    /// The bundle of this index in a tree of `size` leaves.
    pub fn in_tree(index: u64, size: u64) -> Option<Self> {
        width_of(index, size).map(|width| Self { index, width })
    }
    /// Its place.
    pub const fn index(self) -> u64 {
        self.index
    }
    /// How many leaves it has, 1..=256.
    pub const fn width(self) -> u16 {
        self.width
    }
    /// Number of its first leaf.
    pub const fn first_leaf(self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH)
    }
    /// The full bundle at the same place.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { width: 256, ..self }
    }
    /// This bundle, then the wider ones at the same place that replace it as the tree grows.
    pub fn or_wider(self) -> impl Iterator<Item = Self> {
        (self.width..=256).map(move |width| Self { width, ..self })
    }
    /// Its path.
    pub fn path(self) -> String {
        format!("tile/entries/{}", place(self.index, self.width))
    }
    /// Reads its content: `width` leaves.
    ///
    /// # Errors
    /// [`TileError::Bundle`].
    pub fn parse(self, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
        let fault = |at| TileError::Bundle { entries: self.width, bytes: bytes.len(), at };
        let mut leaves = Vec::with_capacity(usize::from(self.width));
        let mut rest = bytes;
        for at in 0..self.width {
            let (length, after) = rest.split_first_chunk::<2>().ok_or_else(|| fault(at))?;
            let (leaf, after) =
                after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(|| fault(at))?;
            leaves.push(leaf);
            rest = after;
        }
        if rest.is_empty() { Ok(leaves) } else { Err(fault(self.width)) }
    }
    /// Bytes of a bundle of leaves.
    ///
    /// # Errors
    /// [`TileError::Leaf`] when one is too long.
    pub fn encode(leaves: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, TileError> {
        let mut out = Vec::new();
        for leaf in leaves.iter().map(AsRef::as_ref) {
            let length = u16::try_from(leaf.len()).map_err(|_| TileError::Leaf { bytes: leaf.len() })?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(leaf);
        }
        Ok(out)
    }
    /// The hashes of leaves: the content of the level 0 tile beside their bundle.
    pub fn hashes(leaves: &[impl AsRef<[u8]>]) -> Vec<Digest> {
        leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect()
    }
}

/// `x001/x234/067[.p/W]`.
fn place(index: u64, width: u16) -> String {
    let mut groups = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    groups.reverse();
    let partial = if u64::from(width) < TILE_WIDTH { format!(".p/{width}") } else { String::new() };
    groups.join("/") + &partial
}

impl TilePath {
    /// Reads a path; only the one form that [`TilePath::path`] writes is accepted.
    ///
    /// # Errors
    /// [`TileError::Path`].
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let read = || {
            // The longest: 20 digits in seven groups, a level, a width.
            let rest = path.strip_prefix("tile/").filter(|_| path.len() <= 64)?;
            let (kind, rest) = rest.split_once('/')?;
            let (groups, width) = match rest.split_once(".p/") {
                Some((groups, width)) => (groups, width.parse::<u16>().ok().filter(|w| (1..256).contains(w))?),
                None => (rest, 256),
            };
            let mut index = 0_u64;
            for group in groups.split('/') {
                let digits = group.strip_prefix('x').unwrap_or(group);
                let number = digits.parse::<u64>().ok().filter(|n| *n < 1000)?;
                index = index.checked_mul(1000)?.checked_add(number)?;
            }
            let found = match kind {
                "entries" => Self::Bundle(Bundle { index, width }),
                level => Self::Tile(Tile { level: level.parse().ok().filter(|l| *l <= TILE_LEVEL_MAX)?, index, width }),
            };
            (found.path() == path).then_some(found)
        };
        read().ok_or_else(|| TileError::Path { given: path.chars().take(80).collect() })
    }
    /// The path.
    pub fn path(self) -> String {
        match self {
            Self::Tile(tile) => tile.path(),
            Self::Bundle(bundle) => bundle.path(),
        }
    }
}
