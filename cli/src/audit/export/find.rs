//! Which leaves an export rests on: a verdict, and the enrolment before it that states the key.

use quotary_common::id::HostId;
use quotary_common::leaf::{Decision, Enrolled, Leaf, Verdict};
use quotary_common::sign::PublicKey;
use quotary_decide::audit::{Bundle, TILE_WIDTH, TilePath};

use crate::audit::copy::{LogSource, verdicts};
use crate::audit::key;
use crate::exit::{Code, Failure};

/// What is looked for: 32 bytes, which are a host's id or an evidence's digest. Both are hashes, so no host is named
/// as an evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted(pub(super) [u8; 32]);

impl Wanted {
    fn is(&self, verdict: &Verdict) -> bool {
        self.0 == *verdict.host.as_bytes() || self.0 == *verdict.evidence.as_bytes()
    }
}

/// Both leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) verdict_leaf: u64,
    pub(super) enrolled: Enrolled,
    pub(super) enrolled_leaf: u64,
}

/// Looks from the newest leaf back: the first verdict that is wanted, then the enrolment that was in force for it.
pub(super) async fn find<S: LogSource>(
    from: &S,
    pinned: Option<&PublicKey>,
    wanted: Wanted,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Found, Failure> {
    let size = key::open(&from.checkpoint().await?, pinned)?.checkpoint.size();
    let mut verdict: Option<(u64, Verdict)> = None;
    for index in (0..size.div_ceil(TILE_WIDTH)).rev() {
        for (number, leaf) in leaves(from, index, size).await?.into_iter().rev() {
            if verdict.is_none() {
                let named = verdicts(&leaf.decision).iter().rev().find(|verdict| wanted.is(verdict));
                verdict = named.map(|verdict| (number, verdict.clone()));
            }
            match (&verdict, leaf.decision) {
                (Some((verdict_leaf, verdict)), Decision::Enrolled(enrolled)) if enrolled.host == verdict.host => {
                    let (verdict, verdict_leaf) = (verdict.clone(), *verdict_leaf);
                    return Ok(Found { verdict, verdict_leaf, enrolled, enrolled_leaf: number });
                }
                _ => {}
            }
        }
        progress(size.saturating_sub(index * TILE_WIDTH), size);
    }
    let what = match verdict {
        None => "the log names no accepted evidence of it: see `quotary host list` and `quotary audit list`".to_owned(),
        Some((number, verdict)) => {
            format!("leaf {number} names {}, and no leaf before it enrols that host", verdict.host)
        }
    };
    Err(Failure::new(Code::Refused, what))
}

/// The hosts that the log enrols, each once.
pub(super) async fn hosts<S: LogSource>(from: &S, pinned: Option<&PublicKey>) -> Result<Vec<HostId>, Failure> {
    let size = key::open(&from.checkpoint().await?, pinned)?.checkpoint.size();
    let mut hosts = std::collections::BTreeSet::new();
    for index in 0..size.div_ceil(TILE_WIDTH) {
        for (_, leaf) in leaves(from, index, size).await? {
            if let Decision::Enrolled(enrolled) = leaf.decision {
                hosts.insert(enrolled.host);
            }
        }
    }
    Ok(hosts.into_iter().collect())
}

/// The leaves of a bundle with their numbers; those that do not read are the check's business.
async fn leaves<S: LogSource>(from: &S, index: u64, size: u64) -> Result<Vec<(u64, Leaf)>, Failure> {
    let Some(bundle) = Bundle::in_tree(index, size) else { return Ok(Vec::new()) };
    let bytes = from.tile(TilePath::Bundle(bundle)).await?;
    let entries = bundle.parse(&bytes).map_err(|error| Failure::of(Code::Unreadable, &error))?;
    let numbered = (bundle.first_leaf()..).zip(entries);
    Ok(numbered.filter_map(|(number, leaf)| Some((number, Leaf::from_bytes(leaf).ok()?))).collect())
}
