//! What a freeze says: in the place of a policy's document it names the change that it holds where it is.

use super::change::{Change, Kind, Way};
use crate::id::ChangeId;

/// The document of a freeze of this change.
pub fn document(held: &ChangeId) -> String {
    format!("freeze = \"{}\"\n", held.hex())
}

/// Which change a change holds; `None`: it is no freeze.
pub fn held_by(change: &Change) -> Option<ChangeId> {
    let id = change.document.strip_prefix("freeze = \"")?.strip_suffix("\"\n")?.parse().ok()?;
    let is_canonical = document(&id) == change.document;
    (is_canonical && change.way == Way::Freeze && change.kind == Kind::AlterPolicy).then_some(id)
}
