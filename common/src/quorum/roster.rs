//! The roster: people, their roles and their keys.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Faults, Table, digest_of, read};
use super::ssh::{Fingerprint, SshKey};
use super::vote::Verb;
use crate::cbor::Text;
use crate::id::{DeploymentId, Digest};
use crate::instant::rfc3339;
use crate::limits::{KEYS_MAX, PEOPLE_MAX, PERSON_BYTES_MAX, ROLES_MAX, SSH_KEY_BYTES_MAX};

/// The name of a person or a role: small letters, digits, `.`, `_`, `-`, `@`, beginning with a letter or digit.
pub type Word = Text<PERSON_BYTES_MAX>;

/// Who applies a change when no person does.
pub const VERIFIER: &str = "verifier";

/// Whether a text can be the name of a person or a role.
pub fn is_word(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= PERSON_BYTES_MAX
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|c| plain(c) || b"._-@".contains(&c))
}

/// Reads a name, or tells what is wrong with it.
pub(super) fn word(table: &mut Table<'_>, field: &'static str) -> Option<Word> {
    let text = table.text(field, PERSON_BYTES_MAX);
    let text = table.required(field, text)?;
    if !is_word(text) {
        table.fault(field, "must be small letters, digits, `.`, `_`, `-` and `@`, beginning with a letter or digit");
        return None;
    }
    Word::new(text)
}

/// Reads a list of names, or tells what is wrong with them.
pub(super) fn words(table: &mut Table<'_>, field: &'static str, items_max: usize) -> BTreeSet<Word> {
    let mut found = BTreeSet::new();
    for item in table.texts(field, items_max, PERSON_BYTES_MAX) {
        match Word::new(item.text).filter(|word| is_word(word.as_str())) {
            Some(word) => {
                found.insert(word);
            }
            None => table.fault_of(&item, "is not a name: small letters, digits, `.`, `_`, `-` and `@`"),
        }
    }
    found
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: Word,
    /// What the person may speak for.
    pub roles: BTreeSet<Word>,
    /// The keys, in the document's order.
    pub keys: Vec<PersonKey>,
}

/// A key of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonKey {
    /// The key.
    pub key: SshKey,
    /// From when on it counts, Unix ms.
    pub valid_from_ms: Option<u64>,
    /// Until when it counts, Unix ms; from then on it does not.
    pub valid_until_ms: Option<u64>,
}

impl PersonKey {
    /// Whether it counts at an instant, Unix ms.
    pub fn is_valid_at(&self, at_ms: u64) -> bool {
        self.valid_from_ms.is_none_or(|from_ms| from_ms <= at_ms)
            && self.valid_until_ms.is_none_or(|until_ms| at_ms < until_ms)
    }
}

/// A roster that holds together: made only by [`Roster::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    bytes: Vec<u8>,
    digest: Digest,
    version: u64,
    people: BTreeMap<Word, Person>,
    holders: BTreeMap<Fingerprint, (Word, usize)>,
}

impl Roster {
    /// Reads `roster.toml`.
    ///
    /// # Errors
    /// All [`Faults`] at once.
    pub fn parse(bytes: &[u8]) -> Result<Self, Faults> {
        let (version, people, holders) = read(bytes, |root| {
            let version = version(root);
            let (people, holders) = read_people(root);
            Some((version?, people, holders))
        })?;
        Ok(Self { bytes: bytes.to_vec(), digest: digest_of(bytes), version, people, holders })
    }

    /// The document's exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Its identity.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// Its number, greater than that of the roster before.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// All people, by name.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }
    /// A person.
    pub fn person(&self, name: &Word) -> Option<&Person> {
        self.people.get(name)
    }
    /// Who holds a key, and the key.
    pub fn holder(&self, key: &Fingerprint) -> Option<(&Person, &PersonKey)> {
        let (name, index) = self.holders.get(key)?;
        let person = self.people.get(name)?;
        Some((person, person.keys.get(*index)?))
    }
    /// Who has a role.
    pub fn members_of<'r>(&'r self, role: &'r Word) -> impl Iterator<Item = &'r Person> {
        self.people().filter(move |person| person.roles.contains(role))
    }

    /// The keys as `ssh-keygen -Y verify -f` reads them (ALLOWED SIGNERS in ssh-keygen(1)), times in UTC.
    pub fn allowed_signers(&self, deployment: &DeploymentId) -> String {
        let namespaces = Verb::ALL.map(|verb| verb.namespace(deployment)).join(",");
        let mut text = String::new();
        for (person, key) in self.people().flat_map(|person| person.keys.iter().map(move |key| (person, key))) {
            text.push_str(&format!("{} namespaces=\"{namespaces}\"", person.name));
            if let Some(from_ms) = key.valid_from_ms {
                text.push_str(&format!(",valid-after=\"{}\"", signers_time(from_ms.div_ceil(1000))));
            }
            if let Some(until_ms) = key.valid_until_ms {
                // Ours ends before the instant, theirs with it.
                text.push_str(&format!(",valid-before=\"{}\"", signers_time(until_ms.saturating_sub(1) / 1000)));
            }
            text.push_str(&format!(" {}\n", key.key.line()));
        }
        text
    }
}

/// `YYYYMMDDHHMMSSZ`.
fn signers_time(at_s: u64) -> String {
    rfc3339(at_s.saturating_mul(1000)).chars().filter(|c| c.is_ascii_digit()).chain(['Z']).collect()
}

/// A document's number.
pub(super) fn version(root: &mut Table<'_>) -> Option<u64> {
    let version = root.integer("version", 1..=u64::from(u32::MAX));
    root.required("version", version)
}

type People = BTreeMap<Word, Person>;
type Holders = BTreeMap<Fingerprint, (Word, usize)>;

fn read_people(root: &mut Table<'_>) -> (People, Holders) {
    let (mut people, mut holders) = (People::new(), Holders::new());
    let mut materials = BTreeMap::new();
    if !root.has("people") {
        root.fault("people", "is missing: a roster has one person at least");
    }
    for mut table in root.tables("people", PEOPLE_MAX) {
        let name = word(&mut table, "name");
        let roles = words(&mut table, "roles", ROLES_MAX);
        let keys = read_keys(&mut table, name.as_ref(), &mut materials);
        let Some(name) = name else { continue };
        if name.as_str() == VERIFIER {
            table.fault("name", "is the name that stands for no person at all");
        } else if people.contains_key(&name) {
            table.fault("name", format!("`{name}` stands there twice: a person has one entry with all keys"));
        } else {
            let numbered = keys.iter().enumerate();
            holders.extend(numbered.map(|(index, key)| (key.key.fingerprint(), (name.clone(), index))));
            people.insert(name.clone(), Person { name, roles, keys });
        }
    }
    let roles: BTreeSet<&Word> = people.values().flat_map(|person: &Person| &person.roles).collect();
    if let Some(both) = people.keys().find(|name| roles.contains(name)) {
        root.fault("people", format!("`{both}` is both a person and a role"));
    }
    (people, holders)
}

fn read_keys(person: &mut Table<'_>, name: Option<&Word>, materials: &mut BTreeMap<Digest, String>) -> Vec<PersonKey> {
    let mut keys = Vec::new();
    for mut table in person.tables("keys", KEYS_MAX) {
        let line = table.text("key", SSH_KEY_BYTES_MAX);
        let line = table.required("key", line);
        let (valid_from_ms, valid_until_ms) = (table.instant_ms("valid_from"), table.instant_ms("valid_until"));
        if let (Some(from_ms), Some(until_ms)) = (valid_from_ms, valid_until_ms)
            && until_ms <= from_ms
        {
            table.fault("valid_until", "must be after valid_from");
        }
        let Some(line) = line else { continue };
        let key = match SshKey::parse(line) {
            Ok(key) => key,
            Err(fault) => {
                table.fault("key", fault.to_string());
                continue;
            }
        };
        let holder = name.map_or_else(|| "somebody".to_owned(), Word::to_string);
        if let Some(other) = materials.insert(key.material(), holder) {
            table.fault("key", format!("{} is a key of `{other}` already", key.fingerprint()));
        }
        keys.push(PersonKey { key, valid_from_ms, valid_until_ms });
    }
    keys
}
