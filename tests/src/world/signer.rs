//! People who decide, with nothing but `ssh-keygen`: keys, and signatures over files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::succeed;

const SSH_KEYGEN: &str = "ssh-keygen";

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// RSA of 3072 bits.
    Rsa3072,
}

impl KeyKind {
    /// As `ssh-keygen -t` takes it.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["ed25519"],
            Self::P256 => &["ecdsa", "-b", "256"],
            Self::Rsa3072 => &["rsa", "-b", "3072"],
        }
    }
}

/// A person's key in a file, without a passphrase.
#[derive(Debug, Clone)]
pub struct Signer {
    file: PathBuf,
    public: String,
}

impl Signer {
    /// Makes a key in `directory`, in files of this name.
    ///
    /// # Errors
    /// When `ssh-keygen` is not there or fails.
    pub fn make(directory: &Path, name: &str, kind: KeyKind) -> Result<Self> {
        let file = directory.join(name);
        let mut command = Command::new(SSH_KEYGEN);
        command.args(["-q", "-N", "", "-C", name, "-f"]).arg(&file).arg("-t").args(kind.options());
        succeed(command.stdin(Stdio::null()))?;
        let path = beside(&file, ".pub");
        let public = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self { file, public: public.trim_end().to_owned() })
    }

    /// Where the private half is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The public half in one line, as it stands in a roster.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// `ssh-keygen -Y sign` over a file; where the signature is.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn sign(&self, namespace: &str, file: &Path) -> Result<PathBuf> {
        let signature = beside(file, ".sig");
        // It asks before it writes over one that is there.
        if signature.exists() {
            std::fs::remove_file(&signature).with_context(|| format!("{} stays", signature.display()))?;
        }
        let mut command = Command::new(SSH_KEYGEN);
        command.args(["-Y", "sign", "-q", "-f"]).arg(&self.file).args(["-n", namespace]).arg(file);
        succeed(command.stdin(Stdio::null()))?;
        Ok(signature)
    }

    /// Whether `ssh-keygen -Y verify` takes a signature over a file for `person`'s, by a list of allowed signers.
    ///
    /// # Errors
    /// When `ssh-keygen` cannot be run.
    pub fn verifies(person: &str, namespace: &str, allowed: &Path, (file, signature): (&Path, &Path)) -> Result<bool> {
        let mut command = Command::new(SSH_KEYGEN);
        command.args(["-Y", "verify", "-f"]).arg(allowed).args(["-I", person, "-n", namespace, "-s"]).arg(signature);
        let input = std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let status = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Ok(status.with_context(|| format!("{SSH_KEYGEN} cannot be run"))?.success())
    }
}

/// The file whose name has an ending more.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_verifies_for_this_person_file_and_purpose_alone() {
        let temp = tempfile::tempdir().unwrap();
        let signer = Signer::make(temp.path(), "alice", KeyKind::Ed25519).unwrap();
        assert!(signer.public().starts_with("ssh-ed25519 ") && signer.public().ends_with(" alice"));
        let (text, other, allowed) = (temp.path().join("text"), temp.path().join("other"), temp.path().join("allowed"));
        std::fs::write(&text, "one").unwrap();
        std::fs::write(&other, "two").unwrap();
        std::fs::write(&allowed, format!("alice {}\n", signer.public())).unwrap();
        // Twice: one that is there is written over.
        signer.sign("a", &other).unwrap();
        let signature = signer.sign("a", &text).unwrap();
        assert_eq!(signer.sign("a", &text).unwrap(), signature);
        let verifies =
            |person, namespace, file: &Path| Signer::verifies(person, namespace, &allowed, (file, &signature)).unwrap();
        assert!(verifies("alice", "a", &text));
        assert!(!verifies("bob", "a", &text));
        assert!(!verifies("alice", "b", &text));
        assert!(!verifies("alice", "a", &other));
    }
}
