//! Copies the log: bundles, tiles and evidence first, then the checkpoint that covers them.
//!
//! Every file is immutable under its name (a partial tile carries its width, evidence its digest), so what is
//! there and reads well is not asked for again, and an interrupted copy goes on where it stopped.

use quotary_client::ClientError;
use quotary_common::checkpoint::NOTE_BYTES_MAX;
use quotary_common::evidence::Evidence;
use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::{Decision, Leaf, Verdict};
use quotary_common::limits::{EVIDENCE_BYTES_MAX, SIGNED_BYTES_MAX};
use quotary_common::reason::Reason;
use quotary_common::sign::PublicKey;
use quotary_common::wire::{Base64, CheckpointView, ShowCheckpoint, ShowEvidence, ShowTile};
use quotary_decide::audit::{
    BUNDLE_BYTES_MAX, Bundle, CHECKPOINT_PATH, TILE_LEVEL_MAX, TILE_WIDTH, Tile, TilePath, evidence_path,
};
use serde::Serialize;

use super::files::{Directory, KEYS_PATH, ROOT_KEY_PATH};
use super::key;
use crate::exit::{Code, Failure};
use crate::session::Session;

/// Where a log comes from.
pub(super) trait LogSource {
    /// The newest checkpoint with the keys to check it.
    async fn checkpoint(&self) -> Result<CheckpointView, Failure>;
    /// A tile or bundle.
    async fn tile(&self, path: TilePath) -> Result<Vec<u8>, Failure>;
    /// Kept evidence, `None` when it is not kept any more.
    async fn evidence(&self, host: &HostId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure>;
}

impl LogSource for Session {
    async fn checkpoint(&self) -> Result<CheckpointView, Failure> {
        self.ask::<ShowCheckpoint>(&[]).await
    }
    async fn tile(&self, path: TilePath) -> Result<Vec<u8>, Failure> {
        let path = path.path();
        // The route has the prefix in its own path.
        let rest = path.strip_prefix("tile/").unwrap_or(&path);
        Ok(self.ask::<ShowTile>(&[rest]).await?.0)
    }
    async fn evidence(&self, host: &HostId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        match self.try_ask::<ShowEvidence>(&[&host.hex(), &digest.hex()]).await {
            Ok(view) => Ok(Some(view.evidence.0)),
            Err(ClientError::Refused { error, .. }) if error.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A copy is a source too: what it lacks is told as missing.
impl LogSource for Directory {
    async fn checkpoint(&self) -> Result<CheckpointView, Failure> {
        let text = |path: &str, bytes| {
            String::from_utf8(bytes)
                .map_err(|_| Failure::new(Code::Unreadable, format!("`{path}` of the copy is no text")))
        };
        let note = text(CHECKPOINT_PATH, self.needed(CHECKPOINT_PATH, NOTE_BYTES_MAX)?)?;
        let root_key = text(ROOT_KEY_PATH, self.needed(ROOT_KEY_PATH, SIGNED_BYTES_MAX)?)?;
        let keys = Base64(self.needed(KEYS_PATH, SIGNED_BYTES_MAX)?);
        Ok(CheckpointView { note, keys, root_key: root_key.trim().to_owned() })
    }
    async fn tile(&self, path: TilePath) -> Result<Vec<u8>, Failure> {
        self.needed(&path.path(), BUNDLE_BYTES_MAX)
    }
    async fn evidence(&self, _: &HostId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        self.get(&evidence_path(digest), EVIDENCE_BYTES_MAX)
    }
}

/// What a copy holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Copied {
    /// Leaves.
    pub(super) size: u64,
    /// Files that were written.
    pub(super) files_new: u64,
    /// Files that were there before.
    pub(super) files_known: u64,
    /// Evidence that is there.
    pub(super) evidence: u64,
    /// Evidence that the verifier does not keep any more, or answered wrongly.
    pub(super) evidence_missing: u64,
}

/// Copies the log into `to`; `progress` is told how many leaves of how many are done.
pub(super) async fn copy<S: LogSource>(
    from: &S,
    to: &Directory,
    pinned: Option<&PublicKey>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, Failure> {
    let view = from.checkpoint().await?;
    let opened = key::open(&view, pinned)?;
    let size = opened.checkpoint.size();
    let mut copying = Copying { from, to, last: None, copied: Copied { size, ..Copied::default() } };
    for index in 0..size.div_ceil(TILE_WIDTH) {
        let Some(bundle) = Bundle::in_tree(index, size) else { break };
        copying.bundle(bundle).await?;
        if let Some(tile) = Tile::in_tree(0, index, size) {
            copying.tile(tile).await?;
        }
        progress(bundle.first_leaf() + u64::from(bundle.width()), size);
    }
    for level in 1..=TILE_LEVEL_MAX {
        let mut index = 0;
        while let Some(tile) = Tile::in_tree(level, index, size) {
            copying.tile(tile).await?;
            index += 1;
        }
    }
    let copied = copying.copied;
    to.write(KEYS_PATH, &view.keys.0)?;
    to.write(ROOT_KEY_PATH, format!("{}\n", opened.root.hex()).as_bytes())?;
    // Last: a copy with a checkpoint is whole.
    to.write(CHECKPOINT_PATH, view.note.as_bytes())?;
    Ok(copied)
}

struct Copying<'a, S> {
    from: &'a S,
    to: &'a Directory,
    /// The evidence that was copied last.
    last: Option<Digest>,
    copied: Copied,
}

impl<S: LogSource> Copying<'_, S> {
    /// A bundle, and the evidence behind its verdicts.
    async fn bundle(&mut self, bundle: Bundle) -> Result<(), Failure> {
        let reads = |bytes: &[u8]| bundle.parse(bytes).map(drop).map_err(|e| e.to_string());
        let bytes = self.file(TilePath::Bundle(bundle), BUNDLE_BYTES_MAX, reads).await?;
        let leaves = bundle.parse(&bytes).map_err(|e| Failure::of(Code::Unreadable, &e))?;
        for leaf in leaves {
            // A leaf that does not read is copied all the same: checking tells it.
            let Ok(leaf) = Leaf::from_bytes(leaf) else { continue };
            for verdict in verdicts(&leaf.decision) {
                self.evidence(verdict).await?;
            }
        }
        Ok(())
    }

    async fn tile(&mut self, tile: Tile) -> Result<(), Failure> {
        let reads = |bytes: &[u8]| tile.parse(bytes).map(drop).map_err(|e| e.to_string());
        self.file(TilePath::Tile(tile), 256 * 32, reads).await.map(drop)
    }

    /// A file of the log: from the directory if it is there and reads, else from the source.
    async fn file(
        &mut self,
        path: TilePath,
        bytes_max: usize,
        reads: impl Fn(&[u8]) -> Result<(), String>,
    ) -> Result<Vec<u8>, Failure> {
        let name = path.path();
        if let Some(bytes) = self.to.get(&name, bytes_max)?.filter(|bytes| reads(bytes).is_ok()) {
            self.copied.files_known += 1;
            return Ok(bytes);
        }
        let bytes = self.from.tile(path).await?;
        reads(&bytes)
            .map_err(|why| Failure::new(Code::Unreadable, format!("the verifier answered no {name}: {why}")))?;
        self.to.write(&name, &bytes)?;
        self.copied.files_new += 1;
        Ok(bytes)
    }

    async fn evidence(&mut self, verdict: &Verdict) -> Result<(), Failure> {
        // What teaches a zone and what changes a verdict are two leaves about one evidence.
        if self.last.replace(verdict.evidence) == Some(verdict.evidence) {
            return Ok(());
        }
        let name = evidence_path(&verdict.evidence);
        let is_it = |bytes: &Vec<u8>| Evidence::digest(bytes) == verdict.evidence;
        if self.to.get(&name, EVIDENCE_BYTES_MAX)?.as_ref().is_some_and(is_it) {
            self.copied.files_known += 1;
            self.copied.evidence += 1;
            return Ok(());
        }
        match self.from.evidence(&verdict.host, &verdict.evidence).await?.filter(is_it) {
            Some(bytes) => {
                self.to.write(&name, &bytes)?;
                self.copied.files_new += 1;
                self.copied.evidence += 1;
            }
            None => self.copied.evidence_missing += 1,
        }
        Ok(())
    }
}

/// The verdicts that a decision rests on.
pub(super) fn verdicts(decision: &Decision) -> &[Verdict] {
    match decision {
        Decision::Verdicts(verdicts) => &verdicts.accepted,
        Decision::VerdictChanged(changed) => std::slice::from_ref(&changed.verdict),
        Decision::ZoneLearned(learned) => std::slice::from_ref(&learned.verdict),
        Decision::Genesis(_)
        | Decision::Enrolled(_)
        | Decision::Refused(_)
        | Decision::Granted(_)
        | Decision::EpochRaised(_)
        | Decision::TokenMade(_)
        | Decision::Planned(_)
        | Decision::Anomaly(_)
        | Decision::ModelChanged(_)
        | Decision::ChangeMoved(_)
        | Decision::VoteCast(_)
        | Decision::AuthoritySet(_)
        | Decision::PolicyWatched(_)
        | Decision::Started(_) => &[],
    }
}

#[cfg(test)]
pub(super) mod tests;
