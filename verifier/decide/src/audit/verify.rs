//! The offline audit: from files alone, with the log's public key, no network and no secret.
//!
//! Order: the checkpoint's signature → every entry bundle → every tile → the root → every leaf's form → the evidence
//! behind every verdict, with the keys of that host's last enrolment before it → the checkpoints that quotes witness.

use std::error::Error;

use quotary_common::checkpoint::{NOTE_BYTES_MAX, origin_of, parse_and_verify};
use quotary_common::id::Digest;
use quotary_common::keys::deployment_of;
use quotary_common::leaf::{Decision, Leaf, Verdict};
use quotary_common::limits::EVIDENCE_BYTES_MAX;
use quotary_common::sign::PublicKey;

use super::hosts::{COMMIT_GRACE_MS, Checked, Hosts};
use super::report::{AuditReport, MissingEvidence, kind_of};
use super::tile::{BUNDLE_BYTES_MAX, Bundle, TILE_WIDTH, Tile};
use super::tree::TiledTree;
use super::witness::Witnesses;

/// Where the checkpoint stands.
pub const CHECKPOINT_PATH: &str = "checkpoint";
/// Bytes of a full tile.
const TILE_BYTES_MAX: usize = 256 * 32;

/// Where an evidence stands: `evidence/<64 hexadecimal characters>`.
pub fn evidence_path(evidence: &Digest) -> String {
    format!("evidence/{}", evidence.hex())
}

/// The log's files: paths as in C2SP tlog-tiles, and [`evidence_path`].
pub trait AuditFiles {
    /// Why a file that is there could not be read.
    type Error: Error + 'static;
    /// The file's bytes, `None` if it is not there. Of a file longer than `bytes_max`, at least one byte more than
    /// that and no more than is convenient.
    ///
    /// # Errors
    /// What the source says.
    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// A file that could not be read: the audit says nothing then.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}` of the log")]
pub struct AuditError<E: Error + 'static> {
    /// The file.
    pub path: String,
    /// Why not.
    #[source]
    pub source: E,
}

type Step<F> = Result<(), AuditError<<F as AuditFiles>::Error>>;

/// Audits the log named `origin` with its key (`quotary_common::checkpoint::parse_vkey` gives both). `progress` is
/// told, after each bundle, how many leaves are done and how many there are.
///
/// # Errors
/// [`AuditError`] when a file cannot be read. Whatever is *wrong* stands in the report.
pub fn verify<F: AuditFiles>(
    files: &F,
    origin: &str,
    log_key: &PublicKey,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<AuditReport, AuditError<F::Error>> {
    let mut audit = Audit {
        files,
        report: AuditReport::new(origin),
        size: 0,
        tree: TiledTree::new(),
        hosts: Hosts::new(),
        witnesses: Witnesses::default(),
    };
    let Some(root) = audit.checkpoint(log_key)? else { return Ok(audit.report) };
    for index in 0..audit.size.div_ceil(TILE_WIDTH) {
        let Some(bundle) = Bundle::in_tree(index, audit.size) else { break };
        if !audit.bundle(bundle)? {
            break;
        }
        progress(audit.tree.size(), audit.size);
    }
    if audit.tree.size() == audit.size {
        audit.whole_tree(root)?;
    }
    Ok(audit.conclude())
}

/// A bundle's leaves, or what is wrong with its file.
type Leaves = Result<Vec<Vec<u8>>, String>;

fn read<F: AuditFiles>(files: &F, path: String, bytes_max: usize) -> Result<Option<Vec<u8>>, AuditError<F::Error>> {
    files.read(&path, bytes_max).map_err(|source| AuditError { path, source })
}

/// From the file of the bundle's own width, else from a wider one that replaced it as the log grew.
fn read_leaves<F: AuditFiles>(files: &F, bundle: Bundle) -> Result<Leaves, AuditError<F::Error>> {
    for found in bundle.or_wider() {
        let Some(bytes) = read(files, found.path(), BUNDLE_BYTES_MAX)? else { continue };
        let parsed = found.parse(&bytes).map_err(|error| format!("{}: {error}", found.path()));
        let wanted = usize::from(bundle.width());
        return Ok(parsed.map(|leaves| leaves.into_iter().take(wanted).map(<[u8]>::to_vec).collect()));
    }
    Ok(Err(format!("{} is missing: the log is cut short", bundle.path())))
}

struct Audit<'a, F> {
    files: &'a F,
    report: AuditReport,
    size: u64,
    tree: TiledTree,
    hosts: Hosts,
    witnesses: Witnesses,
}

impl<F: AuditFiles> Audit<'_, F> {
    fn read(&self, path: String, bytes_max: usize) -> Result<Option<Vec<u8>>, AuditError<F::Error>> {
        read(self.files, path, bytes_max)
    }

    /// The signed root, if a checkpoint holds.
    fn checkpoint(&mut self, log_key: &PublicKey) -> Result<Option<Digest>, AuditError<F::Error>> {
        let Some(note) = self.read(CHECKPOINT_PATH.to_owned(), NOTE_BYTES_MAX)? else {
            self.report.fault(None, "there is no checkpoint: without it nothing says what the log should hold");
            return Ok(None);
        };
        let verified = match std::str::from_utf8(&note) {
            Ok(note) => parse_and_verify(note, &self.report.origin, log_key).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match verified {
            Ok(checkpoint) => {
                self.size = checkpoint.size();
                self.report.size = checkpoint.size();
                self.report.root = Some(checkpoint.root());
                Ok(Some(checkpoint.root()))
            }
            Err(why) => {
                self.report.fault(None, format!("the checkpoint does not hold: {why}"));
                Ok(None)
            }
        }
    }

    /// Takes a bundle's leaves into the tree and checks them; says whether the audit can go on.
    fn bundle(&mut self, bundle: Bundle) -> Result<bool, AuditError<F::Error>> {
        let leaves = match read_leaves(self.files, bundle)? {
            Ok(leaves) => leaves,
            Err(what) => {
                self.report.fault(Some(bundle.first_leaf()), what);
                return Ok(false);
            }
        };
        let hashes = Bundle::hashes(&leaves);
        for hash in &hashes {
            self.tree.append(*hash);
        }
        if let Some(tile) = Tile::in_tree(0, bundle.index(), self.size) {
            self.tile(tile, &hashes)?;
        }
        for (number, leaf) in (bundle.first_leaf()..).zip(&leaves) {
            self.leaf(number, leaf)?;
        }
        Ok(true)
    }

    /// Compares a tile's file with the hashes that the leaves give.
    fn tile(&mut self, tile: Tile, own: &[Digest]) -> Step<F> {
        let first_leaf = (tile.level() == 0).then(|| tile.index() * TILE_WIDTH);
        for found in tile.or_wider() {
            let Some(bytes) = self.read(found.path(), TILE_BYTES_MAX)? else { continue };
            match found.parse(&bytes) {
                Err(error) => self.report.fault(first_leaf, format!("{}: {error}", found.path())),
                Ok(hashes) => {
                    for (place, _) in own.iter().zip(&hashes).enumerate().filter(|(_, (own, kept))| own != kept) {
                        let leaf = first_leaf.map(|first| first + place as u64);
                        self.report.fault(leaf, format!("hash {place} of {} is not that of the leaves", found.path()));
                    }
                }
            }
            return Ok(());
        }
        self.report.fault(first_leaf, format!("{} is missing", tile.path()));
        Ok(())
    }

    fn leaf(&mut self, number: u64, bytes: &[u8]) -> Step<F> {
        let leaf = match Leaf::from_bytes(bytes) {
            Ok(leaf) => leaf,
            Err(error) => {
                self.report.fault(Some(number), format!("the leaf does not read: {error}"));
                return Ok(());
            }
        };
        *self.report.leaves_by_kind.entry(kind_of(&leaf.decision)).or_default() += 1;
        if (number == 0) != matches!(leaf.decision, Decision::Genesis(_)) {
            self.report.fault(Some(number), "leaf 0 and no other must be the log's beginning (genesis)");
        }
        let at_ms = leaf.at_ms;
        let checked = match &leaf.decision {
            Decision::Genesis(genesis) if number == 0 => {
                let deployment = deployment_of(&genesis.root);
                self.hosts.belong_to(deployment);
                if origin_of(&deployment) == self.report.origin {
                    Ok(())
                } else {
                    Err(format!("the log is of {}, not of deployment {deployment}", self.report.origin))
                }
            }
            Decision::Enrolled(enrolled) => self.hosts.enrol(enrolled),
            Decision::EpochRaised(raised) => self.hosts.raise_epoch(raised),
            Decision::Verdicts(verdicts) => {
                return verdicts.accepted.iter().try_for_each(|verdict| self.verdict(number, at_ms, verdict));
            }
            Decision::VerdictChanged(changed) => return self.verdict(number, at_ms, &changed.verdict),
            Decision::ZoneLearned(learned) => return self.verdict(number, at_ms, &learned.verdict),
            Decision::Started(started) => {
                if let Some(witnessed) = started.witnessed {
                    self.witnesses.add(number, None, witnessed);
                }
                Ok(())
            }
            Decision::Genesis(_)
            | Decision::Refused(_)
            | Decision::Granted(_)
            | Decision::TokenMade(_)
            | Decision::Planned(_)
            | Decision::Anomaly(_)
            | Decision::ModelChanged(_)
            | Decision::ChangeMoved(_)
            | Decision::VoteCast(_)
            | Decision::AuthoritySet(_)
            | Decision::PolicyWatched(_) => Ok(()),
        };
        if let Err(what) = checked {
            self.report.fault(Some(number), what);
        }
        Ok(())
    }

    fn verdict(&mut self, number: u64, at_ms: u64, verdict: &Verdict) -> Step<F> {
        if self.hosts.is_done(verdict) {
            return Ok(());
        }
        let bytes = self.read(evidence_path(&verdict.evidence), EVIDENCE_BYTES_MAX)?;
        match self.hosts.check(verdict, at_ms, bytes.as_deref()) {
            Ok(Checked::Holds(witnessed)) => {
                self.report.evidence_verified += 1;
                if let Some(witnessed) = witnessed {
                    self.witnesses.add(number, Some(verdict.host), witnessed);
                }
            }
            Ok(Checked::Missing) => self.report.missing(MissingEvidence {
                leaf: number,
                host: verdict.host,
                sequence: verdict.sequence,
                evidence: verdict.evidence,
            }),
            Err(what) => {
                self.report.fault(Some(number), format!("evidence {} of {}: {what}", verdict.sequence, verdict.host));
            }
        }
        Ok(())
    }

    /// What only the whole tree can show: the root, the tiles above level 0, the checkpoints that quotes witness.
    fn whole_tree(&mut self, root: Digest) -> Step<F> {
        if self.tree.root() != root {
            let what = format!("the leaves give root {}, signed is {}", self.tree.root().hex(), root.hex());
            self.report.fault(None, what);
        }
        let upper: Vec<Tile> = self.tree.tiles_since(0).filter(|tile| tile.level() > 0).collect();
        for tile in upper {
            let own = self.tree.upper_tile(tile).unwrap_or_default();
            self.tile(tile, &own)?;
        }
        let (files, size) = (self.files, self.size);
        let leaf_hashes = |tile: Tile| {
            let Some(bundle) = Bundle::in_tree(tile.index(), size) else { return Ok(Vec::new()) };
            // They were read before: should they have changed meanwhile, the width of the tile tells.
            Ok(read_leaves(files, bundle)?.map(|leaves| Bundle::hashes(&leaves)).unwrap_or_default())
        };
        self.witnesses.compare(&self.tree, leaf_hashes, &mut self.report)
    }

    fn conclude(mut self) -> AuditReport {
        let read = self.tree.size();
        if read != self.size {
            self.report.fault(None, format!("{read} of {} leaves could be read", self.size));
        }
        let report = &mut self.report;
        report.complete = read == self.size && report.evidence_missing == 0 && self.witnesses.left_out() == 0;
        report.verified = report.fault_count == 0;
        report.notes.push(format!(
            "the nonce key is the verifier's secret: that a nonce was the verifier's own is taken on its word; that it \
             had not expired when its evidence was committed was checked against the leaf's time (with {COMMIT_GRACE_MS} ms grace)"
        ));
        report.notes.push(
            "EK certificates are not in the log: that an endorsement key is a manufacturer's is taken on the verifier's word"
                .to_owned(),
        );
        report.notes.push(
            "what was decided on verified evidence (trust zones, their learned values, grants and their sizes, why an \
             epoch rose) is read as it was logged, and not decided again"
                .to_owned(),
        );
        for selection in self.hosts.selections() {
            report.notes.push(format!("quotes cover the PCRs {selection}"));
        }
        if let Some(refused) = report.leaves_by_kind.get("refused") {
            report
                .notes
                .push(format!("{refused} refusals: refused input is logged by its digest and not checked again"));
        }
        if self.witnesses.left_out() > 0 {
            let left_out = self.witnesses.left_out();
            report.notes.push(format!("{left_out} witnessed checkpoints were too many to be compared"));
        }
        self.report
    }
}
