//! A directory with its project, its limits, and where it is mounted. Pure.

use minicbor::{Decode, Encode};

/// The least and the greatest project id: 0 is everybody's, the greatest is none.
pub const PROJECTS: std::ops::RangeInclusive<u32> = 1..=u32::MAX - 1;
/// Most bytes of a directory's path.
const PATH_BYTES_MAX: usize = 1024;

/// A directory tree whose files are of one project.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Directory {
    /// Where it stands.
    #[n(0)]
    pub path: String,
    /// Its project.
    #[n(1)]
    pub project: u32,
}

/// What a project uses and may use, KiB and files; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Limits {
    /// What it uses, KiB.
    #[n(0)]
    pub used_kib: u64,
    /// Above which the grace time runs, KiB.
    #[n(1)]
    pub soft_kib: u64,
    /// Above which nothing is written, KiB.
    #[n(2)]
    pub hard_kib: u64,
    /// The same for files.
    #[n(3)]
    pub soft_files: u64,
    /// The same for files.
    #[n(4)]
    pub hard_files: u64,
    /// Whether the file system says nothing of the project: none of its files is there, and nothing was ever set.
    #[n(5)]
    pub is_new: bool,
}

/// Most values that may have been written last.
pub(super) const WRITTEN_MAX: usize = 4;

/// A soft limit that is put back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PutBack {
    /// Which project, and where its directory once stood.
    #[n(0)]
    pub directory: Directory,
    /// What stood there before, KiB; 0: none.
    #[n(1)]
    pub soft_kib: u64,
    /// Where its file system was mounted, where that is known.
    #[n(2)]
    pub mount_point: Option<String>,
    /// What was mounted there.
    #[n(3)]
    pub device: Option<String>,
    /// What was written last, KiB: anything else that stands there is another writer's, and stays.
    #[n(4)]
    pub written_kib: Vec<u64>,
}

/// Whether a path can be a tool's argument and a line of its output: absolute, plain, without links' detours.
pub fn is_directory(path: &str) -> bool {
    let is_plain = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    path.len() <= PATH_BYTES_MAX && path.starts_with('/') && is_plain && !path.chars().any(char::is_control)
}

/// Where a path is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) point: String,
    pub(super) kind: String,
    /// The source that was mounted.
    pub(super) device: String,
    pub(super) options: Vec<String>,
}

impl Mounted {
    /// Why projects have no limits there; `None` where they have.
    pub(super) fn why_not(&self) -> Option<String> {
        let Self { point, kind, options, .. } = self;
        let has = |word: &str| options.iter().any(|option| option == word);
        match kind.as_str() {
            "ext4" | "f2fs" if has("prjquota") => None,
            "xfs" if has("prjquota") || has("pquota") => None,
            "ext4" | "f2fs" | "xfs" => Some(format!("{point} ({kind}) is mounted without project quotas (prjquota)")),
            _ => Some(format!("{point} is {kind}, which has no project quotas here")),
        }
    }
}
