//! Where the verifier is, how to know it, and the token: one small TOML file of mode 0600.
//!
//! The same form is written by `quotary-verifier init` (`operator.toml`) and kept by `quotary login`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use quotary_common::id::Digest;
use quotary_common::sign::PublicKey;
use quotary_common::token::operator;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::exit::{Code, Failure};

/// Largest file that is read, bytes.
const BYTES_MAX: u64 = 16 * 1024;

/// The file as it stands on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    verifier: String,
    ca_spki: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root_key: Option<String>,
    token: String,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// What it takes to ask the verifier.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// `https://host:port`
    pub(crate) verifier: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its CA.
    pub(crate) ca_pin: Digest,
    /// The deployment root key, if it was pinned.
    pub(crate) root_key: Option<PublicKey>,
    /// The operator token.
    pub(crate) token: Zeroizing<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, pin {}, secret token)", self.verifier, self.ca_pin.hex())
    }
}

/// Credentials that cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// Neither `$XDG_CONFIG_HOME` nor `$HOME` is set.
    #[error("no place for credentials: set HOME, XDG_CONFIG_HOME or QUOTARY_CREDENTIALS")]
    NoHome,
    /// Nobody has logged in.
    #[error("not logged in ({} does not exist): run `quotary login`", .path.display())]
    Missing { path: PathBuf },
    /// Others may read the secret.
    #[error("others may read {}, which holds a secret: chmod 600 it, and make a new token if they may have", .path.display())]
    Exposed { path: PathBuf },
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not the form.
    #[error("{} is not a credentials file: {what}", .path.display())]
    Form { path: PathBuf, what: String },
    /// A root key that is none.
    #[error("`{given}` is not a root key: expected 64 hexadecimal characters")]
    RootKey { given: String },
    /// A token that is none.
    #[error("that is not an operator token: expected `qot1.` and 43 characters, as `quotary token operator` prints it")]
    Token,
    /// It cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        let code = match &error {
            CredentialsError::NoHome | CredentialsError::RootKey { .. } => Code::Usage,
            CredentialsError::Missing { .. } | CredentialsError::Exposed { .. } => Code::NoPermission,
            CredentialsError::Read { source, .. } | CredentialsError::Write { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Code::NoPermission
            }
            _ => Code::Unreadable,
        };
        Self::of(code, &error)
    }
}

/// Where the credentials are, unless the command line says.
pub(crate) fn default_path(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, CredentialsError> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let base = match (set("XDG_CONFIG_HOME"), set("HOME")) {
        (Some(config), _) => PathBuf::from(config),
        (None, Some(home)) => PathBuf::from(home).join(".config"),
        (None, None) => return Err(CredentialsError::NoHome),
    };
    Ok(base.join("quotary").join("credentials.toml"))
}

/// Reads a root key.
pub(crate) fn root_key(text: &str) -> Result<PublicKey, CredentialsError> {
    let given = || CredentialsError::RootKey { given: text.chars().take(80).collect() };
    // A digest has the same written form.
    text.trim().parse::<Digest>().map(|key| PublicKey(*key.as_bytes())).map_err(|_| given())
}

impl Credentials {
    /// From their parts; the token is checked for its form.
    pub(crate) fn new(
        verifier: String,
        ca_pin: Digest,
        root_key: Option<PublicKey>,
        token: &str,
    ) -> Result<Self, CredentialsError> {
        operator::parse(token).map_err(|_| CredentialsError::Token)?;
        Ok(Self { verifier, ca_pin, root_key, token: Zeroizing::new(token.trim().to_owned()) })
    }

    /// Reads the kept file; one that others may read is not used.
    pub(crate) fn load(path: &Path) -> Result<Self, CredentialsError> {
        let at = || path.to_owned();
        let file = std::fs::File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CredentialsError::Missing { path: at() },
            _ => CredentialsError::Read { path: at(), source },
        })?;
        let mode =
            file.metadata().map_err(|source| CredentialsError::Read { path: at(), source })?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CredentialsError::Exposed { path: at() });
        }
        Self::read(path, file)
    }

    /// Reads a file that is handed over, such as `operator.toml`.
    pub(crate) fn import(path: &Path) -> Result<Self, CredentialsError> {
        let file =
            std::fs::File::open(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
        Self::read(path, file)
    }

    fn read(path: &Path, file: std::fs::File) -> Result<Self, CredentialsError> {
        let mut text = Zeroizing::new(String::new());
        file.take(BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
        let form = |what: &str| CredentialsError::Form { path: path.to_owned(), what: what.to_owned() };
        // The parser's message quotes the file, which holds a secret: only the first line of it is told.
        let raw: Raw = toml::from_str(&text).map_err(|e| form(e.message()))?;
        let ca_pin = raw.ca_spki.parse().map_err(|_| form("ca_spki is not 64 hexadecimal characters"))?;
        let root = raw.root_key.as_deref().map(root_key).transpose()?;
        Self::new(raw.verifier.clone(), ca_pin, root, &raw.token).map_err(|_| form("token is not an operator token"))
    }

    /// Keeps them: mode 0600, whole or not at all.
    pub(crate) fn store(&self, path: &Path) -> Result<(), CredentialsError> {
        let write = |source| CredentialsError::Write { path: path.to_owned(), source };
        let raw = Raw {
            verifier: self.verifier.clone(),
            ca_spki: self.ca_pin.hex(),
            root_key: self.root_key.map(|key| key.hex()),
            token: self.token.to_string(),
        };
        let text = toml::to_string(&raw).map_err(|e| write(io::Error::other(e)))?;
        let text = Zeroizing::new(text);
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(parent).map_err(write)?;
        // A temporary file has mode 0600 from its creation.
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(write)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(write)?;
        file.persist(path).map_err(|e| write(e.error))?;
        Ok(())
    }
}

/// Writes a secret to a new file of mode 0600; an existing file is never written over.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<(), CredentialsError> {
    let write = |source| CredentialsError::Write { path: path.to_owned(), source };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(write)?;
    writeln!(file, "{secret}").and_then(|()| file.sync_all()).map_err(write)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        let root = PublicKey([7; 32]);
        Credentials::new("https://v:1".to_owned(), Digest::of(&[b"ca"]), Some(root), &operator::to_text(&[3; 32]))
            .unwrap()
    }

    #[test]
    fn what_is_stored_is_loaded_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/credentials.toml");
        credentials().store(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = Credentials::load(&path).unwrap();
        assert_eq!((loaded.verifier.as_str(), loaded.root_key), ("https://v:1", Some(PublicKey([7; 32]))));
        assert_eq!(*loaded.token, *operator::to_text(&[3; 32]));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Credentials::load(&path), Err(CredentialsError::Exposed { .. })));
        assert!(Credentials::import(&path).is_ok());
    }

    #[test]
    fn a_missing_file_says_log_in_and_a_wrong_one_does_not_tell_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let missing = Credentials::load(&path).unwrap_err();
        assert!(missing.to_string().contains("quotary login"));
        let token = operator::to_text(&[3; 32]).to_string();
        for text in [
            format!("verifier = 'https://v'\nca_spki = 'x'\ntoken = '{token}'\n"),
            format!("verifier = 'https://v'\ntoken = '{token}'\n"),
            format!("verifier = 'https://v'\nca_spki = '{}'\ntoken = '{token}\n", "a".repeat(64)),
            format!("verifier = 'https://v'\nca_spki = '{}'\ntoken = 'qot1.no'\n", "a".repeat(64)),
            "\u{0}".to_owned(),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = Credentials::load(&path).unwrap_err();
            assert!(matches!(error, CredentialsError::Form { .. }), "{error:?}");
            assert!(!crate::exit::with_causes(&error).contains(&token[5..]), "{error}");
        }
    }

    #[test]
    fn the_place_follows_xdg() {
        let variables = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let path = default_path(variables(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")])).unwrap();
        assert_eq!(path, Path::new("/x/quotary/credentials.toml"));
        let path = default_path(variables(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "")])).unwrap();
        assert_eq!(path, Path::new("/h/.config/quotary/credentials.toml"));
        assert!(matches!(default_path(|_| None), Err(CredentialsError::NoHome)));
    }

    #[test]
    fn a_secret_is_never_written_over_an_existing_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        write_secret(&path, "one").unwrap();
        assert!(write_secret(&path, "two").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
