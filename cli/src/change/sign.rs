//! Signing, by the OpenSSH that people have: passphrases, agents and hardware keys work as they do elsewhere.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quotary_common::limits::SSH_SIGNATURE_BYTES_MAX;
use quotary_common::quorum::change::ChangeText;
use quotary_common::quorum::ssh::{Fingerprint, SshKey, SshSignature};
use quotary_common::quorum::vote::Verb;

use crate::exit::{Code, Failure};
use crate::input;

/// The program that signs.
const SSH_KEYGEN: &str = "ssh-keygen";
/// Largest file of a signature with its armour, in bytes.
const ARMOURED_BYTES_MAX: usize = SSH_SIGNATURE_BYTES_MAX * 3 / 2;

/// What signs.
#[derive(Debug)]
pub(super) enum Signer {
    /// A key file, private or public.
    File(PathBuf),
    /// A key of the agent.
    Agent(SshKey),
}

/// A signature over a text, checked here.
#[derive(Debug)]
pub(super) struct Signed {
    /// With its armour.
    pub(super) armoured: String,
    /// Whose.
    pub(super) key: Fingerprint,
}

/// Has `ssh-keygen` sign the text, and checks what it signed.
///
/// # Errors
/// `ssh-keygen` is not there, does not sign, or signs something else.
pub(super) fn sign(text: &ChangeText, verb: Verb, signer: &Signer) -> Result<Signed, Failure> {
    let failed =
        |error: io::Error| Failure::new(Code::Unreadable, format!("cannot prepare what is to be signed: {error}"));
    // For its owner alone, and gone afterwards. Not standard input: that stays the terminal, where a passphrase is asked for.
    let directory = tempfile::Builder::new().prefix("quotary-sign-").tempdir().map_err(failed)?;
    let file = directory.path().join("change.txt");
    private(&file, text.bytes()).map_err(failed)?;
    let key = match signer {
        Signer::File(path) => path.clone(),
        Signer::Agent(key) => {
            let path = directory.path().join("key.pub");
            private(&path, format!("{}\n", key.line()).as_bytes()).map_err(failed)?;
            path
        }
    };
    let mut command = Command::new(SSH_KEYGEN);
    command.args(["-q", "-Y", "sign", "-n", &verb.namespace(&text.change().deployment), "-f"]);
    let status =
        command.arg(&key).arg(&file).stdout(Stdio::null()).status().map_err(|error| missing(SSH_KEYGEN, &error))?;
    if !status.success() {
        let what = format!("{SSH_KEYGEN} did not sign ({status}): what it said stands above; nothing was handed in");
        return Err(Failure::new(Code::Refused, what));
    }
    taken(&directory.path().join("change.txt.sig"), text, verb)
}

/// A signature from a file, checked.
///
/// # Errors
/// It does not read, is over other bytes, or for another verb or deployment.
pub(super) fn taken(path: &Path, text: &ChangeText, verb: Verb) -> Result<Signed, Failure> {
    let bytes = input::read(path, ARMOURED_BYTES_MAX)?;
    let armoured = String::from_utf8(bytes).map_err(|error| input::unreadable(path, &error))?;
    let namespace = verb.namespace(&text.change().deployment);
    let signature = SshSignature::parse(&armoured).map_err(|fault| refused(path, &format!("{fault}")))?;
    let shown = signature.verify(&namespace, text.hashes()).map_err(|fault| {
        let id = text.change().id;
        refused(path, &format!("{fault}; it must be made over exactly what `quotary change export {id} FILE` writes, with -n {namespace}"))
    })?;
    Ok(Signed { armoured, key: shown.key })
}

fn refused(path: &Path, what: &str) -> Failure {
    Failure::new(Code::Refused, format!("the signature in {} {what}", path.display()))
}

/// Writes a file for its owner alone.
fn private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)
}

/// A program of OpenSSH that cannot be started.
pub(super) fn missing(program: &str, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{program} is not there: install OpenSSH's client (Debian: openssh-client, Fedora: openssh-clients), or sign \
             elsewhere: `quotary change export`, then --signature"
        ),
        _ => format!("cannot start {program}: {error}"),
    };
    Failure::new(Code::Unavailable, what)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::fixture::{id, text};
    use super::*;

    /// A key file of this kind without a passphrase; `None` where OpenSSH is not installed and `QUOTARY_WITHOUT_OPENSSH=1` says that it may be missing.
    fn key(directory: &Path, kind: &str) -> Option<PathBuf> {
        let path = directory.join(kind);
        let mut command = Command::new(SSH_KEYGEN);
        command.args(["-q", "-N", "", "-C", "somebody", "-t", kind, "-f"]).arg(&path).stdin(Stdio::null());
        match command.status() {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                let may_be_missing = std::env::var_os("QUOTARY_WITHOUT_OPENSSH").is_some_and(|value| value == "1");
                let why = missing(SSH_KEYGEN, &error);
                assert!(
                    may_be_missing,
                    "{}; `tools/install-packages` does; QUOTARY_WITHOUT_OPENSSH=1 does without these tests",
                    why.message()
                );
                return None;
            }
        }
        Some(path)
    }

    #[test]
    fn what_is_signed_here_ssh_keygen_verifies_and_over_other_bytes_it_does_not() {
        let directory = tempfile::tempdir().unwrap();
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let Some(path) = key(directory.path(), kind) else { return };
            let text = text(id("one"));
            let signed = sign(&text, Verb::Approval, &Signer::File(path.clone())).unwrap();
            let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            assert_eq!(SshKey::parse(public.trim_end()).unwrap().fingerprint(), signed.key);
            let namespace = Verb::Approval.namespace(&text.change().deployment);
            let roster =
                format!("version = 1\n[[people]]\nname = 'alice'\n[[people.keys]]\nkey = '{}'\n", public.trim_end());
            let roster = quotary_common::quorum::roster::Roster::parse(roster.as_bytes()).unwrap();
            let at = |name: &str| directory.path().join(name);
            std::fs::write(at("allowed"), roster.allowed_signers(&text.change().deployment)).unwrap();
            std::fs::write(at("vote.sig"), &signed.armoured).unwrap();
            let verifies = |namespace: &str, bytes: &[u8]| {
                std::fs::write(at("text"), bytes).unwrap();
                let mut command = Command::new(SSH_KEYGEN);
                command.args(["-Y", "verify", "-I", "alice", "-n", namespace, "-f"]).arg(at("allowed"));
                command.arg("-s").arg(at("vote.sig")).stdin(std::fs::File::open(at("text")).unwrap());
                command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
            };
            assert!(verifies(&namespace, text.bytes()), "{kind}");
            assert!(!verifies(&namespace, &[text.bytes(), b"\n"].concat()), "{kind}");
            assert!(!verifies(&Verb::Rejection.namespace(&text.change().deployment), text.bytes()), "{kind}");
        }
    }

    #[test]
    fn a_signature_from_elsewhere_is_taken_over_this_text_and_for_this_verb_alone() {
        let directory = tempfile::tempdir().unwrap();
        let Some(path) = key(directory.path(), "ed25519") else { return };
        let text = text(id("one"));
        let signed = sign(&text, Verb::Approval, &Signer::File(path)).unwrap();
        let file = directory.path().join("vote.sig");
        std::fs::write(&file, &signed.armoured).unwrap();
        assert_eq!(taken(&file, &text, Verb::Approval).unwrap().key, signed.key);
        let told = taken(&file, &text, Verb::Rejection).unwrap_err();
        assert!(told.code() == 1 && told.message().contains("another namespace"), "{}", told.message());
        let told = taken(&file, &super::super::fixture::text(id("two")), Verb::Approval).unwrap_err();
        assert!(told.message().contains("does not hold over these bytes"), "{}", told.message());
        assert!(told.message().contains("quotary change export"), "{}", told.message());
        std::fs::write(&file, "-----BEGIN SSH SIGNATURE-----\n").unwrap();
        assert_eq!(taken(&file, &text, Verb::Approval).unwrap_err().code(), 1);
    }

    #[test]
    fn a_key_that_is_not_there_is_told_and_nothing_signs() {
        let directory = tempfile::tempdir().unwrap();
        if key(directory.path(), "ed25519").is_none() {
            return;
        }
        let refused = sign(&text(id("one")), Verb::Approval, &Signer::File(directory.path().join("none"))).unwrap_err();
        assert!(refused.code() == 1 && refused.message().contains("nothing was handed in"), "{}", refused.message());
    }

    #[test]
    fn where_openssh_is_missing_it_is_said_what_to_install() {
        let told = missing(SSH_KEYGEN, &io::ErrorKind::NotFound.into());
        assert!(told.code() == 69 && told.message().contains("openssh-client"), "{}", told.message());
    }
}
