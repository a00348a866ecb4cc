//! Documents: policies, rosters and quorum rules, each read by the code that decides.

use std::path::Path;

use quotary_common::id::Digest;
use quotary_common::limits::DOCUMENT_BYTES_MAX;
use quotary_common::quorum::document::Faults;
use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::rules::Rules;
use quotary_decide::policy::{self, Policy};
use toml::de::DeTable;

use crate::args::DocumentKind;
use crate::exit::{Code, Failure};
use crate::{input, present};

/// A document without a fault.
#[derive(Debug)]
pub(crate) enum Document {
    /// What applications must and may have.
    Policy(Box<Policy>),
    /// Who they are that decide.
    Roster(Box<Roster>),
    /// How many of them it takes.
    Rules(Box<Rules>),
}

impl Document {
    /// Reads one.
    ///
    /// # Errors
    /// All [`Faults`] at once.
    pub(crate) fn parse(bytes: &[u8], kind: DocumentKind) -> Result<Self, Faults> {
        Ok(match kind {
            DocumentKind::Policy => Self::Policy(Box::new(policy::read(bytes, None)?)),
            DocumentKind::Roster => Self::Roster(Box::new(Roster::parse(bytes)?)),
            DocumentKind::Rules => Self::Rules(Box::new(Rules::parse(bytes)?)),
        })
    }

    /// What it is.
    pub(crate) const fn kind(&self) -> DocumentKind {
        match self {
            Self::Policy(_) => DocumentKind::Policy,
            Self::Roster(_) => DocumentKind::Roster,
            Self::Rules(_) => DocumentKind::Rules,
        }
    }

    /// The policy's name; `roster` or `rules`.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Policy(policy) => policy.name.as_str(),
            Self::Roster(_) | Self::Rules(_) => self.kind().name(),
        }
    }

    /// Its own number.
    pub(crate) fn version(&self) -> u64 {
        match self {
            Self::Policy(policy) => policy.version,
            Self::Roster(roster) => roster.version(),
            Self::Rules(rules) => rules.version(),
        }
    }

    /// SHA-256 of its bytes.
    pub(crate) fn sha256(&self) -> Digest {
        match self {
            Self::Policy(policy) => policy.digest(),
            Self::Roster(roster) => roster.digest(),
            Self::Rules(rules) => rules.digest(),
        }
    }

    /// What it is and its name: `policy gold`, `roster`, `rules`.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Policy(policy) => format!("policy {}", policy.name),
            Self::Roster(_) | Self::Rules(_) => self.kind().name().to_owned(),
        }
    }
}

/// What bytes look like: a roster has people, quorum rules have criticalities, all else is a policy.
pub(crate) fn kind_of(bytes: &[u8]) -> DocumentKind {
    let looked_at = bytes.get(..DOCUMENT_BYTES_MAX).unwrap_or(bytes);
    let Ok(text) = std::str::from_utf8(looked_at) else { return DocumentKind::Policy };
    // What is broken still shows its other fields.
    let (root, _) = DeTable::parse_recoverable(text);
    let root = root.get_ref();
    if root.get("people").is_some() {
        DocumentKind::Roster
    } else if root.get("criticality").is_some_and(|value| value.get_ref().is_table()) {
        DocumentKind::Rules
    } else {
        DocumentKind::Policy
    }
}

/// The bytes of a document's file: one byte more than is allowed is a fault of the document, not of the file.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    input::read(path, 2 * DOCUMENT_BYTES_MAX)
}

/// Reads a document that must have no fault, with its text.
///
/// # Errors
/// The file cannot be read, or has faults: all of them, a line each.
pub(crate) fn read(path: &Path, kind: Option<DocumentKind>) -> Result<(Document, String), Failure> {
    let bytes = bytes_of(path)?;
    let kind = kind.unwrap_or_else(|| kind_of(&bytes));
    let document = Document::parse(&bytes, kind).map_err(|faults| {
        let told: String = lines(path, &faults).iter().map(|line| format!("\n{line}")).collect();
        Failure::new(Code::Unreadable, format!("{} is no {} document:{told}", path.display(), kind.name()))
    })?;
    // It was read as text.
    Ok((document, String::from_utf8(bytes).unwrap_or_default()))
}

/// Faults as compilers tell them: `FILE:LINE: FIELD: REASON`.
pub(crate) fn lines(path: &Path, faults: &Faults) -> Vec<String> {
    let line = |fault: &quotary_common::quorum::document::Fault| {
        present::clean(&format!("{}:{}: {}: {}", path.display(), fault.line, fault.field, fault.reason))
    };
    faults.0.iter().map(line).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;

    pub(crate) const POLICY: &str = "name = 'gold'\nversion = 3\ncriticality = 'high'\n[select]\ntenant = 'shop'\n\
                                     [limit]\nmemory_bytes = 536_870_912\n";
    pub(crate) const RULES: &str = "version = 2\n[criticality.critical]\napprovals = 2\napprovers = ['operator']\n\
                                    approve_within_s = 3600\napply_within_s = 7200\n";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI";

    /// A roster of people with a role and keys made of their names.
    pub(crate) fn roster(version: u64, people: &[(&str, &str)]) -> String {
        let key = |name: &str| {
            let public = Digest::of(&[name.as_bytes()]);
            let blob = [&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 32], public.as_bytes()];
            format!("ssh-ed25519 {}", data_encoding::BASE64.encode(&blob.concat()))
        };
        let person = |(name, role): &(&str, &str)| {
            format!("[[people]]\nname = '{name}'\nroles = ['{role}']\n[[people.keys]]\nkey = '{}'\n", key(name))
        };
        format!("version = {version}\n{}", people.iter().map(person).collect::<String>())
    }

    #[test]
    fn a_document_is_known_by_what_stands_in_it_even_where_it_is_broken() {
        assert_eq!(kind_of(POLICY.as_bytes()), DocumentKind::Policy);
        assert_eq!(kind_of(RULES.as_bytes()), DocumentKind::Rules);
        assert_eq!(kind_of(roster(1, &[("a", "b")]).as_bytes()), DocumentKind::Roster);
        assert_eq!(kind_of(b"[[people]]\nname = 'a'\nroles = [\n"), DocumentKind::Roster);
        for none in [&b""[..], b"\xff", b"people", b"criticality = 'high'"] {
            assert_eq!(kind_of(none), DocumentKind::Policy);
        }
    }

    #[test]
    fn every_kind_says_its_name_version_and_digest() {
        for (text, title, version) in [
            (POLICY.to_owned(), "policy gold", 3),
            (RULES.to_owned(), "rules", 2),
            (roster(7, &[("a", "b")]), "roster", 7),
        ] {
            let document = Document::parse(text.as_bytes(), kind_of(text.as_bytes())).unwrap();
            assert_eq!((document.title().as_str(), document.version()), (title, version));
            assert_eq!(document.sha256(), Digest::of(&[text.as_bytes()]));
        }
    }

    #[test]
    fn a_document_with_faults_is_refused_with_file_line_field_and_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.toml");
        std::fs::write(&path, format!("version = 0\n[[people]]\nname = 'Ada'\n[[people.keys]]\nkey = '{KEY}'\n"))
            .unwrap();
        let refused = read(&path, None).unwrap_err();
        assert_eq!(refused.code(), 2);
        let told = refused.message();
        assert!(told.contains("is no roster document:\n"), "{told}");
        for part in ["r.toml:1: version: ", "r.toml:3: people[0].name: ", "r.toml:5: people[0].keys[0].key: "] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn a_field_that_moves_the_cursor_does_not_reach_the_terminal() {
        let faults = Document::parse(b"\"a\\u001b[2J\" = 1\n", DocumentKind::Policy).unwrap_err();
        let told = lines(Path::new("p.toml"), &faults).concat();
        assert!(told.contains("a?[2J") && !told.contains('\u{1b}'), "{told}");
    }
}
