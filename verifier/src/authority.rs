//! Puts the first roster and quorum rules in force: signed by the deployment's root, at the start of a deployment or later; and once more, when
//! those who decide cannot any more.
//!
//! The root key is kept offline: whoever puts them in force brings it for as long as this takes, with the verifier stopped.

use std::path::{Path, PathBuf};

use quotary_common::cbor::{Text, Version};
use quotary_common::id::Digest;
use quotary_common::keys::deployment_of;
use quotary_common::leaf::{AuthoritySet, Decision, Leaf};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::decide::Under;
use quotary_common::quorum::document::Faults;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::rules::Rules;
use quotary_common::sign::{SignedError, SigningKey};
use quotary_decide::change::{Governing, GoverningFault, Unmeetable, unmeetable};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::core::{LoadError, governing, tables};
use crate::store::{Batch, Expect, Partition, Store, StoreError};

/// The two documents, which were read without a fault.
#[derive(Debug, Clone)]
pub struct Documents {
    roster: Roster,
    rules: Rules,
}

/// Why nobody was put in force.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A document has faults.
    #[error("{}: {faults}", .path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// All of them.
        faults: Faults,
    },
    /// Each is well, and both together ask for more than there is.
    #[error("{} asks for what nobody of {} can meet:{}", .rules.display(), .roster.display(), told(.all))]
    Unmeetable {
        /// The roster's file.
        roster: PathBuf,
        /// The rules' file.
        rules: PathBuf,
        /// All of it.
        all: Vec<Unmeetable>,
    },
    /// The root key does not read.
    #[error("the root key does not read")]
    Key(#[source] SignedError),
    /// The root key is of another deployment.
    #[error("the root key is not this deployment's")]
    OtherRoot,
    /// The store failed.
    #[error("the store cannot be used: is the verifier stopped?")]
    Store(#[source] StoreError),
    /// A roster is in force.
    #[error(
        "a roster is in force already: propose another one as a change (`quotary change propose`); `--again` only when too few of \
         those who decide have their keys"
    )]
    InForce,
    /// None is.
    #[error("no roster is in force: leave `--again` out")]
    NotInForce,
    /// Who decides cannot be read.
    #[error("who decides cannot be read")]
    Load(#[source] LoadError),
    /// What was signed does not hold.
    #[error("what was signed does not hold")]
    Signed(#[from] GoverningFault),
}

fn told(all: &[Unmeetable]) -> String {
    all.iter().map(|one| format!("\n  {one}")).collect()
}

impl Documents {
    /// Reads both, each with all its faults. What nobody could ever approve from `now_ms` (Unix ms) on is refused, as a change is.
    ///
    /// # Errors
    /// [`AuthorityError::Read`], [`AuthorityError::Document`] and [`AuthorityError::Unmeetable`].
    pub fn read(roster: &Path, rules: &Path, now_ms: u64) -> Result<Self, AuthorityError> {
        let bytes =
            |path: &Path| std::fs::read(path).map_err(|source| AuthorityError::Read { path: path.to_owned(), source });
        let fault = |path: &Path| {
            let path = path.to_owned();
            |faults| AuthorityError::Document { path, faults }
        };
        let (roster_bytes, rules_bytes) = (bytes(roster)?, bytes(rules)?);
        let read = Self {
            roster: Roster::parse(&roster_bytes).map_err(fault(roster))?,
            rules: Rules::parse(&rules_bytes).map_err(fault(rules))?,
        };
        let all = unmeetable(Under { roster: &read.roster, rules: &read.rules }, now_ms);
        if !all.is_empty() {
            let (roster, rules) = (roster.to_owned(), rules.to_owned());
            return Err(AuthorityError::Unmeetable { roster, rules, all });
        }
        Ok(read)
    }

    /// What the root signs, with its leaf's content and the rows that hold it.
    ///
    /// # Errors
    /// [`AuthorityError::Signed`].
    pub(crate) fn signed(&self, root: &SigningKey) -> Result<(AuthoritySet, Batch), AuthorityError> {
        self.signed_after(None, root)
    }

    /// The same, with the number after that of who decides now.
    fn signed_after(
        &self,
        now: Option<&Governing>,
        root: &SigningKey,
    ) -> Result<(AuthoritySet, Batch), AuthorityError> {
        let deployment = deployment_of(&root.public());
        let (roster, rules) = (self.roster.digest(), self.rules.digest());
        let number = now.map_or(0, |now| now.pin().number.saturating_add(1));
        let authority = Authority { version: Version, deployment, number, roster, rules };
        let signed = root.sign(&authority).to_bytes();
        let (documents, public) = ((self.roster.bytes(), self.rules.bytes()), root.public());
        let (governing, before) = match now {
            None => (Governing::genesis(&signed, documents, (&public, &deployment))?, Expect::Absent),
            Some(now) => (now.begun_anew(&signed, documents, (&public, &deployment))?, Expect::value(&now.to_row())),
        };
        let set = AuthoritySet { authority, input: Digest::of(&[&signed]) };
        let rows = Batch::default()
            .put(tables::AUTHORITY, Partition::Deployment, tables::AUTHORITY_NOW, governing.to_row())
            .expect(tables::AUTHORITY, Partition::Deployment, tables::AUTHORITY_NOW, before);
        Ok((set, rows))
    }
}

/// Puts the documents in force in a deployment that has run without any; or, `again`, in place of those in force. The policies in force stay, and
/// so does all that led to those who decided before. Open changes need those who decide from then on too.
///
/// # Errors
/// [`AuthorityError`]; then nothing was changed.
pub fn adopt(
    store: &mut dyn Store,
    data_dir: &Path,
    root_key: &Path,
    (documents, again): (&Documents, bool),
) -> Result<Authority, AuthorityError> {
    let read = |source| AuthorityError::Read { path: root_key.to_owned(), source };
    let document = Zeroizing::new(std::fs::read(root_key).map_err(read)?);
    let root = SigningKey::from_pkcs8(&document).map_err(AuthorityError::Key)?;
    let public = data_dir.join(crate::keyring::file::ROOT_PUBLIC);
    let kept = std::fs::read_to_string(&public).map_err(|source| AuthorityError::Read { path: public, source })?;
    if kept.trim() != root.public().hex() {
        return Err(AuthorityError::OtherRoot);
    }
    let now = governing(store).map_err(AuthorityError::Load)?;
    match (&now, again) {
        (Some(_), false) => return Err(AuthorityError::InForce),
        (None, true) => return Err(AuthorityError::NotInForce),
        _ => {}
    }
    let (set, rows) = documents.signed_after(now.as_ref(), &root)?;
    let authority = set.authority;
    let leaf = Leaf {
        version: Version,
        at_ms: Clock::system(0).now_ms(),
        actor: Text::lossy("root"),
        decision: Decision::AuthoritySet(set),
    };
    let outcomes = store.commit(&[rows.leaf(leaf.to_bytes())]).map_err(AuthorityError::Store)?;
    if outcomes.iter().all(Result::is_ok) { Ok(authority) } else { Err(AuthorityError::InForce) }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
