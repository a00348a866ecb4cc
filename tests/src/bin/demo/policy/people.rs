//! The people of the story, each at a terminal of their own: keys by `ssh-keygen`, a token, the `quotary` command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use quotary_common::wire::ChangeView;
use quotary_tests::world::{KeyKind, Signer, World};
use serde::de::DeserializeOwned;

use super::documents::{PEOPLE, Person, roster};

/// Everybody, with their keys.
#[derive(Debug)]
pub(super) struct People {
    /// Keys and credentials; gone with it.
    directory: tempfile::TempDir,
    keys: Vec<(&'static Person, Vec<Signer>)>,
}

impl People {
    /// Makes everybody's keys.
    pub(super) fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("quotary-people-").tempdir()?;
        let keys = |person: &'static Person| -> Result<_> {
            let name = |number: usize| format!("{}-{}", person.name, number + 1);
            let make = |number| Signer::make(directory.path(), &name(number), KeyKind::Ed25519);
            Ok((person, (0..person.keys).map(make).collect::<Result<_>>()?))
        };
        let keys = PEOPLE.iter().map(keys).collect::<Result<_>>()?;
        Ok(Self { directory, keys })
    }

    /// The roster that names them all.
    pub(super) fn roster(&self) -> String {
        roster(self.keys.iter().map(|(person, keys)| (*person, keys.iter().map(Signer::public).collect())))
    }

    /// A file of this name among theirs.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A person's key, counted from 0.
    pub(super) fn key(&self, person: &str, number: usize) -> Result<&Signer> {
        let mut all = self.keys.iter().filter(|(one, _)| one.name == person);
        let keys = all.next().map(|(_, keys)| keys).with_context(|| format!("nobody is called {person}"))?;
        keys.get(number).with_context(|| format!("{person} has no key {number}"))
    }

    /// The operator makes a token for everybody: to read, and to ask for changes and vote on them.
    pub(super) fn log_in(&self, world: &World) -> Result<()> {
        let path = world.path("verifier/operator.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        for person in &PEOPLE {
            let verb = ["token", "operator", "--right", "change", "--right", "read", "--name", person.name];
            let token = world.cli_ok(&verb)?;
            self.keep(person.name, &credentials(&text, token.trim())?)?;
        }
        Ok(())
    }

    fn keep(&self, person: &str, credentials: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.credentials(person);
        std::fs::write(&path, credentials).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?)
    }

    fn credentials(&self, person: &str) -> PathBuf {
        self.path(&format!("{person}.toml"))
    }

    /// A person's `quotary`.
    fn command(&self, world: &World, person: &str) -> Command {
        let mut command = world.cli_command();
        command.env("QUOTARY_CREDENTIALS", self.credentials(person));
        command
    }

    /// Runs a person's `quotary`, whatever comes of it.
    pub(super) fn run(&self, world: &World, person: &str, arguments: &[&str]) -> Result<Output> {
        self.command(world, person).args(arguments).output().context("quotary cannot be run")
    }

    /// Runs a person's `quotary`, which must succeed; what it printed.
    pub(super) fn ok(&self, world: &World, person: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(world, person, arguments)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{person}: quotary {arguments:?} ended with {}: {}", output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a person's `quotary --json` printed.
    pub(super) fn json<T: DeserializeOwned>(&self, world: &World, person: &str, arguments: &[&str]) -> Result<T> {
        let printed = self.ok(world, person, &[&["--json"], arguments].concat())?;
        serde_json::from_str(&printed).with_context(|| format!("quotary {arguments:?} printed: {printed}"))
    }

    /// A person votes for a change with a key of theirs, by `quotary change approve --key`: it says that it was taken, or why not.
    pub(super) fn approve(&self, world: &World, (person, key): (&str, usize), id: &str) -> Result<Output> {
        let key = text(self.key(person, key)?.file())?;
        self.run(world, person, &["change", "approve", id, "--key", key, "--yes"])
    }

    /// The same by plain `ssh-keygen -Y sign` over the exported text, which is handed in afterwards.
    pub(super) fn approve_with_ssh_keygen(&self, world: &World, person: &str, view: &ChangeView) -> Result<()> {
        let id = view.summary.id.as_str();
        let file = self.path(&format!("{person}-{id}.txt"));
        self.ok(world, person, &["change", "export", id, text(&file)?])?;
        let exported = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        if exported != view.text.as_bytes() {
            bail!("`quotary change export` wrote other bytes than the text that is shown");
        }
        let signature = self.key(person, 0)?.sign(&approval(&view.namespace), &file)?;
        let arguments = ["change", "approve", id, "--signature", text(&signature)?];
        self.ok(world, person, &arguments).map(drop)
    }
}

/// The namespace of approvals.
pub(super) fn approval(namespace: &str) -> String {
    format!("quotary-approval-v1@{namespace}")
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary directory's path is not text")
}

/// The operator's credentials with another token.
fn credentials(of_operator: &str, token: &str) -> Result<String> {
    let mut table: toml::Table = of_operator.parse().context("operator.toml")?;
    table.insert("token".to_owned(), token.into()).context("operator.toml names no token")?;
    Ok(toml::to_string(&table)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::quorum::roster::Roster;
    use quotary_common::quorum::ssh::SshKey;

    use super::*;
    use crate::policy::documents::{ALICE, BOB};

    #[test]
    fn everybody_stands_on_the_roster_with_the_keys_that_they_sign_with() {
        let people = People::new().unwrap();
        let roster = Roster::parse(people.roster().as_bytes()).unwrap();
        assert_eq!(roster.people().count(), PEOPLE.len());
        for (person, number) in [(ALICE, 0), (BOB, 0), (BOB, 1)] {
            let key = SshKey::parse(people.key(person, number).unwrap().public()).unwrap();
            assert_eq!(roster.holder(&key.fingerprint()).unwrap().0.name.as_str(), person);
        }
        assert!(people.key(ALICE, 1).is_err() && people.key("mallory", 0).is_err());
    }

    #[test]
    fn a_persons_credentials_are_the_operators_with_another_token() {
        let mine = credentials("verifier = \"https://v\"\nca_spki = \"00\"\ntoken = \"old\"\n", "new").unwrap();
        let table: toml::Table = mine.parse().unwrap();
        assert_eq!((table["token"].as_str(), table["verifier"].as_str()), (Some("new"), Some("https://v")));
        assert!(credentials("verifier = \"https://v\"\n", "new").is_err());
    }
}
