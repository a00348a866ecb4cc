#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;

use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::id::TokenId;
use quotary_common::keys::{KeyCertificate, deployment_of};
use quotary_common::leaf::{Genesis, TokenMade, Verdicts};
use quotary_common::sign::SigningKey;
use quotary_common::wire::Base64;
use quotary_decide::audit::TiledTree;

use super::*;
use crate::audit::check::{Root, RootFrom, check};

pub(in crate::audit) fn signing_key(seed: u8) -> SigningKey {
    let head = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
    SigningKey::from_pkcs8(&[head, vec![seed; 32]].concat()).unwrap()
}

pub(in crate::audit) const ROOT: u8 = 1;
const LOG: u8 = 2;

/// A verifier's log in memory; notes what was asked.
#[derive(Default)]
pub(in crate::audit) struct Log {
    leaves: Vec<Vec<u8>>,
    evidence: Vec<Vec<u8>>,
    asked: RefCell<Vec<String>>,
}

impl Log {
    /// A log of so many leaves without any verdict.
    pub(in crate::audit) fn of(size: u64) -> Self {
        let mut log = Self::default();
        let root = signing_key(ROOT).public();
        log.push(Decision::Genesis(Genesis { root, configuration: Digest::of(&[]), authority: None }));
        for number in 1..size {
            log.push(Decision::TokenMade(TokenMade {
                token: TokenId::of(&[&number.to_be_bytes()]),
                what: Text::lossy("join"),
                scope: Text::lossy("lab"),
                not_after_ms: number,
            }));
        }
        log
    }

    pub(in crate::audit) fn push(&mut self, decision: Decision) {
        let leaf = Leaf { version: Version, at_ms: 1_000, actor: Text::lossy("verifier"), decision };
        self.leaves.push(leaf.to_bytes());
    }

    /// Accepts this as evidence; nobody checks it here.
    fn accept(&mut self, evidence: &[u8], kept: bool) {
        self.accept_of(HostId::of(&[b"h"]), evidence, kept);
    }

    /// Likewise, of this host.
    pub(in crate::audit) fn accept_of(&mut self, host: HostId, evidence: &[u8], kept: bool) {
        let verdict = Verdict { host, sequence: 1, evidence: Evidence::digest(evidence) };
        self.push(Decision::Verdicts(Verdicts { accepted: Bounded::new(vec![verdict]).unwrap() }));
        if kept {
            self.evidence.push(evidence.to_vec());
        }
    }

    /// What its leaves decide.
    pub(in crate::audit) fn into_decisions(self) -> Vec<Decision> {
        self.leaves.iter().map(|leaf| Leaf::from_bytes(leaf).unwrap().decision).collect()
    }

    fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    fn tree(&self) -> TiledTree {
        let mut tree = TiledTree::new();
        Bundle::hashes(&self.leaves).into_iter().for_each(|hash| tree.append(hash));
        tree
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.borrow_mut())
    }
}

impl LogSource for Log {
    async fn checkpoint(&self) -> Result<CheckpointView, Failure> {
        let (root, log) = (signing_key(ROOT), signing_key(LOG));
        let deployment = deployment_of(&root.public());
        let certificate = KeyCertificate {
            version: Version,
            deployment,
            verifier: Text::lossy("v1"),
            grant_key: signing_key(3).public(),
            log_key: log.public(),
            not_after_ms: 5_000,
            result_key: signing_key(4).public(),
        };
        let checkpoint = Checkpoint { origin: origin_of(&deployment), size: self.size(), root: self.tree().root() };
        Ok(CheckpointView {
            note: checkpoint.sign(&log),
            keys: Base64(root.sign(&certificate).to_bytes()),
            root_key: root.public().hex(),
        })
    }

    async fn tile(&self, path: TilePath) -> Result<Vec<u8>, Failure> {
        self.asked.borrow_mut().push(path.path());
        let part = |index: u64, width: u16| {
            let from = usize::try_from(index * TILE_WIDTH).unwrap();
            &self.leaves[from..from + usize::from(width)]
        };
        Ok(match path {
            TilePath::Bundle(bundle) => Bundle::encode(part(bundle.index(), bundle.width())).unwrap(),
            TilePath::Tile(tile) if tile.level() == 0 => {
                Tile::encode(&Bundle::hashes(part(tile.index(), tile.width())))
            }
            TilePath::Tile(tile) => Tile::encode(&self.tree().upper_tile(tile).unwrap()),
        })
    }

    async fn evidence(&self, _: &HostId, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        self.asked.borrow_mut().push(evidence_path(digest));
        Ok(self.evidence.iter().find(|bytes| Evidence::digest(bytes) == *digest).cloned())
    }
}

pub(in crate::audit) async fn copied(log: &Log, to: &Directory) -> Copied {
    copy(log, to, Some(&signing_key(ROOT).public()), &mut |_, _| ()).await.unwrap()
}

fn pinned(seed: u8) -> Option<Root> {
    Some(Root { key: signing_key(seed).public(), from: RootFrom::CommandLine })
}

#[tokio::test]
async fn a_copy_holds_what_checking_needs() {
    let temporary = tempfile::tempdir().unwrap();
    let to = Directory::create(temporary.path()).unwrap();
    let log = Log::of(700);
    let done = copied(&log, &to).await;
    assert_eq!((done.size, done.evidence, done.evidence_missing), (700, 0, 0));
    let outcome = check(&to, pinned(ROOT), 1_000, &mut |_, _| ()).unwrap();
    assert!(outcome.holds(false), "{}", outcome.text());
    assert!(
        outcome.text().contains("700 leaves")
            && outcome.text().ends_with("VERIFIED: the log and every evidence behind it hold\n")
    );
    let json = serde_json::to_value(&outcome).unwrap();
    assert_eq!(
        (&json["verified"], &json["size"], &json["root_key_from"]),
        (&true.into(), &700.into(), &"command-line".into())
    );
    // Under the copy's own root key it holds too, but says what that is worth.
    let own = check(&to, None, 6_000, &mut |_, _| ()).unwrap();
    assert!(own.holds(false) && own.text().contains("the copy's own"));
    assert!(own.text().contains("certificate ended at 1970-01-01T00:00:05Z"));
}

#[tokio::test]
async fn a_copy_goes_on_where_it_stopped_and_grows_with_the_log() {
    let temporary = tempfile::tempdir().unwrap();
    let to = Directory::create(temporary.path()).unwrap();
    let mut log = Log::of(300);
    log.accept(b"evidence", true);
    copied(&log, &to).await;
    assert_eq!(log.asked().len(), 6, "two bundles, three tiles, one evidence");
    let again = copied(&log, &to).await;
    assert_eq!((again.files_new, again.files_known), (0, 6));
    assert!(log.asked().is_empty());
    for leaf in Log::of(400).leaves.into_iter().skip(1) {
        log.leaves.push(leaf);
    }
    let grown = copied(&log, &to).await;
    assert_eq!(grown.files_known, 3, "the full bundle, its tile, the evidence");
    assert!(log.asked().iter().all(|path| path != "tile/entries/000" && !path.starts_with("evidence")));
}

#[tokio::test]
async fn a_damaged_file_is_fetched_again_if_it_shows_and_found_by_the_check_if_not() {
    let temporary = tempfile::tempdir().unwrap();
    let to = Directory::create(temporary.path()).unwrap();
    let log = Log::of(300);
    copied(&log, &to).await;
    to.write("tile/entries/000", b"short").unwrap();
    assert_eq!(copied(&log, &to).await.files_new, 1);
    let mut bundle = to.get("tile/entries/000", BUNDLE_BYTES_MAX).unwrap().unwrap();
    let last = bundle.len() - 1;
    bundle[last] ^= 1;
    to.write("tile/entries/000", &bundle).unwrap();
    let outcome = check(&to, pinned(ROOT), 1_000, &mut |_, _| ()).unwrap();
    assert!(!outcome.holds(true) && outcome.text().contains("FAULTS"), "{}", outcome.text());
    assert!(outcome.text().ends_with("NOT VERIFIED\n"));
}

#[tokio::test]
async fn evidence_that_is_not_kept_is_counted_and_other_bytes_are_not_taken_for_it() {
    let temporary = tempfile::tempdir().unwrap();
    let to = Directory::create(temporary.path()).unwrap();
    let mut log = Log::of(2);
    log.accept(b"kept", true);
    log.accept(b"pruned", false);
    let done = copied(&log, &to).await;
    assert_eq!((done.evidence, done.evidence_missing), (1, 1));
    let path = evidence_path(&Evidence::digest(b"kept"));
    assert_eq!(to.get(&path, 100).unwrap().unwrap(), b"kept");
    to.write(&path, b"swapped").unwrap();
    assert_eq!(copied(&log, &to).await.evidence, 1);
    assert_eq!(to.get(&path, 100).unwrap().unwrap(), b"kept");
}

#[tokio::test]
async fn another_root_key_is_refused_before_and_after_copying() {
    let temporary = tempfile::tempdir().unwrap();
    let to = Directory::create(temporary.path()).unwrap();
    let log = Log::of(3);
    let other = signing_key(9).public();
    let refused = copy(&log, &to, Some(&other), &mut |_, _| ()).await.unwrap_err();
    assert_eq!(refused.code(), 1);
    assert!(log.asked().is_empty(), "nothing is copied of a stranger's log");
    copied(&log, &to).await;
    let refused = check(&to, pinned(9), 1_000, &mut |_, _| ()).unwrap_err();
    assert!(refused.code() == 1 && refused.message().contains(&other.hex()));
}
