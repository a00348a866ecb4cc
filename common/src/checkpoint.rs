//! Checkpoints of the audit log: C2SP tlog-checkpoint in a signed note (c2sp.org/tlog-checkpoint, /signed-note).
//!
//! The text is what other log tools read: three lines (origin, size, root), an empty line, and a signature
//! line for each key that signed. Signatures by keys that we do not look for (witnesses) are passed over.

use data_encoding::{BASE64, HEXLOWER};

use crate::envelope::WitnessedCheckpoint;
use crate::id::{DeploymentId, Digest, sha256};
use crate::sign::{PublicKey, SigningKey, verify_bare};

/// Largest note in bytes: a checkpoint and its signatures.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// Most signature lines in a note.
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// Signature type of signed-note: Ed25519.
const ED25519_TYPE: u8 = 0x01;

/// The origin (and key name) of a deployment's log: `quotary.log/<deployment, 64 hexadecimal characters>`.
pub fn origin_of(deployment: &DeploymentId) -> String {
    format!("quotary.log/{}", deployment.hex())
}

/// The state of a log: so many leaves have this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name ([`origin_of`]).
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root hash (RFC 6962).
    pub root: Digest,
}

/// A checkpoint that its log's key has signed: made only by [`parse_and_verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint(Checkpoint);

impl VerifiedCheckpoint {
    /// What was signed.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.0
    }
    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.0.size
    }
    /// Root hash.
    pub const fn root(&self) -> Digest {
        self.0.root
    }
    /// What an envelope says of it.
    pub const fn witnessed(&self) -> WitnessedCheckpoint {
        WitnessedCheckpoint { size: self.0.size, root: self.0.root }
    }
}

/// A checkpoint that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// More bytes or signature lines than a note may have.
    #[error("the note is larger than a checkpoint may be ({NOTE_BYTES_MAX} bytes, {NOTE_SIGNATURES_MAX} signatures)")]
    TooLarge,
    /// Not a signed note.
    #[error("not a signed note: {0}")]
    Note(&'static str),
    /// No signature by the key that was asked for.
    #[error("the checkpoint carries no signature by {name} with key {key}")]
    Unsigned {
        /// The key's name.
        name: String,
        /// The key, in hexadecimal.
        key: String,
    },
    /// A signature line names the key, but the signature does not hold.
    #[error(
        "the signature by {name} does not hold under key {key}: the checkpoint was changed, or another key signed it"
    )]
    Signature {
        /// The key's name.
        name: String,
        /// The key, in hexadecimal.
        key: String,
    },
    /// The signed text is not a checkpoint.
    #[error("the signed text is not a checkpoint: {0}")]
    Body(&'static str),
    /// For another log.
    #[error("the checkpoint is of another log than {expected}")]
    Origin {
        /// The log that it should be of.
        expected: String,
    },
}

/// A key's id in signature lines: `SHA-256(name ‖ "\n" ‖ 0x01 ‖ key)[..4]`.
fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[ED25519_TYPE], &key.0]);
    [a, b, c, d]
}

/// The verifier key as other tools take it: `<origin>+<key id>+<base64(0x01 ‖ key)>`.
pub fn vkey(origin: &str, key: &PublicKey) -> String {
    let typed = [&[ED25519_TYPE], key.0.as_slice()].concat();
    format!("{origin}+{}+{}", HEXLOWER.encode(&key_id(origin, key)), BASE64.encode(&typed))
}

/// Reads a verifier key.
///
/// # Errors
/// [`CheckpointError::Note`] when it is not `<name>+<key id>+<base64>` of an Ed25519 key, or its id is wrong.
pub fn parse_vkey(text: &str) -> Result<(String, PublicKey), CheckpointError> {
    let not_a_key = CheckpointError::Note("a verifier key is <name>+<key id>+<base64 of type and Ed25519 key>");
    let read = || {
        let text = text.trim();
        let mut parts = text.splitn(3, '+').filter(|_| text.len() <= NOTE_BYTES_MAX);
        let (name, id, encoded) = (parts.next()?, parts.next()?, parts.next()?);
        let typed = BASE64.decode(encoded.as_bytes()).ok()?;
        let key = PublicKey(typed.strip_prefix(&[ED25519_TYPE])?.try_into().ok()?);
        (is_name(name) && HEXLOWER.encode(&key_id(name, &key)) == id).then(|| (name.to_owned(), key))
    };
    read().ok_or(not_a_key)
}

/// Whether a key may have this name (signed-note: not empty, no space, no plus).
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

impl Checkpoint {
    /// The text that is signed.
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// The signed note; the key's name is the origin.
    pub fn sign(&self, key: &SigningKey) -> String {
        let body = self.body();
        let signed = [key_id(&self.origin, &key.public()).as_slice(), &key.sign_bare(body.as_bytes())].concat();
        format!("{body}\n\u{2014} {} {}\n", self.origin, BASE64.encode(&signed))
    }

    /// Reads the signed text; extension lines after the root are allowed and passed over.
    fn parse_body(body: &str, origin: &str) -> Result<Self, CheckpointError> {
        let mut lines = body.split_terminator('\n');
        let mut next = |what| lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Body(what));
        if next("it has no origin")? != origin {
            return Err(CheckpointError::Origin { expected: origin.to_owned() });
        }
        let size_text = next("it has no size")?;
        let size: u64 = size_text.parse().map_err(|_| CheckpointError::Body("its size is not a number"))?;
        if size.to_string() != size_text {
            return Err(CheckpointError::Body("its size has leading characters"));
        }
        let root = BASE64.decode(next("it has no root")?.as_bytes()).ok();
        let root = root.and_then(|root| <[u8; 32]>::try_from(root).ok());
        let root = Digest::new(root.ok_or(CheckpointError::Body("its root is not the base64 of 32 bytes"))?);
        if lines.any(str::is_empty) {
            return Err(CheckpointError::Body("it has an empty line"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// Checks a note's signature by the key named `name`; returns the signed text.
fn open_note<'a>(note: &'a str, name: &str, key: &PublicKey) -> Result<&'a str, CheckpointError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(CheckpointError::TooLarge);
    }
    if note.contains(|c: char| c.is_control() && c != '\n') {
        return Err(CheckpointError::Note("it has control characters"));
    }
    // The text ends at the last empty line and keeps its own line end.
    let at = note.rfind("\n\n").ok_or(CheckpointError::Note("it has no signatures"))?;
    let (body, signatures) = note.split_at_checked(at + 1).ok_or(CheckpointError::Note("it has no text"))?;
    let signatures = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    let signatures = signatures.ok_or(CheckpointError::Note("its last line does not end"))?;
    if signatures.split('\n').count() > NOTE_SIGNATURES_MAX {
        return Err(CheckpointError::TooLarge);
    }
    let (text_name, text_key) = (name.to_owned(), key.hex());
    let mut found = false;
    for line in signatures.split('\n') {
        let malformed = CheckpointError::Note("a signature line is not `\u{2014} <name> <base64>`");
        let parts = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' '));
        let (signer, encoded) = parts.filter(|(signer, _)| is_name(signer)).ok_or(malformed.clone())?;
        let signed = BASE64.decode(encoded.as_bytes()).map_err(|_| malformed.clone())?;
        let (id, signature) = signed.split_first_chunk::<4>().ok_or(malformed)?;
        // Another key's signature is nothing to us, and one that shares name and id must hold.
        if signer != name || *id != key_id(name, key) {
            continue;
        }
        if !verify_bare(key, body.as_bytes(), signature) {
            return Err(CheckpointError::Signature { name: text_name, key: text_key });
        }
        found = true;
    }
    if found { Ok(body) } else { Err(CheckpointError::Unsigned { name: text_name, key: text_key }) }
}

/// Checks that `note` is a checkpoint of the log `origin`, signed by its `key`.
///
/// # Errors
/// [`CheckpointError`] naming the first thing that fails; the signature is checked before the text is read.
pub fn parse_and_verify(note: &str, origin: &str, key: &PublicKey) -> Result<VerifiedCheckpoint, CheckpointError> {
    Checkpoint::parse_body(open_note(note, origin, key)?, origin).map(VerifiedCheckpoint)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Made with `openssl pkeyutl -sign -rawin` and `openssl dgst`, not by this code; ORIGIN stands for the origin.
    const GOLDEN: &str = "ORIGIN\n20852163\nSBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n\n\u{2014} ORIGIN \
         cx7D/5Ok5xrS0W0+1p19mCrjr4tDAkJa34fphFex9w2X70sAaqIVGIFDaV1uukEtNCwxoK4FlYIsBi4t+QWwj33Q5gc=\n";

    /// PKCS#8 v1 of an Ed25519 seed.
    fn key(seed: u8) -> SigningKey {
        let head = HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
        SigningKey::from_pkcs8(&[head, vec![seed; 32]].concat()).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: origin_of(&DeploymentId::new([1; 32])), size: 20_852_163, root: Digest::of(&[b"root"]) }
    }

    fn signed_by(key: &SigningKey, name: &str, body: &str) -> String {
        let signed = [key_id(name, &key.public()).as_slice(), &key.sign_bare(body.as_bytes())].concat();
        format!("{body}\n\u{2014} {name} {}\n", BASE64.encode(&signed))
    }

    #[test]
    fn the_note_is_frozen() {
        let origin = "quotary.log/0101010101010101010101010101010101010101010101010101010101010101";
        let note = checkpoint().sign(&key(7));
        assert_eq!(note, GOLDEN.replace("ORIGIN", origin));
        assert_eq!(
            vkey(origin, &key(7).public()),
            format!("{origin}+731ec3ff+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs")
        );
        assert_eq!(parse_and_verify(&note, origin, &key(7).public()).unwrap().checkpoint(), &checkpoint());
    }

    /// The example of Go's `golang.org/x/mod/sumdb/note`, the origin of the format.
    #[test]
    fn a_note_of_another_implementation_verifies() {
        let (name, key) = parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let body =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let note = format!(
            "{body}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        );
        assert_eq!(open_note(&note, &name, &key).unwrap(), body);
        assert_eq!(parse_vkey(&vkey(&name, &key)).unwrap(), (name, key));
    }

    #[test]
    fn no_byte_of_a_checkpoint_can_change() {
        let (good, origin) = (checkpoint().sign(&key(7)), checkpoint().origin);
        for at in 0..good.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                assert!(parse_and_verify(&text, &origin, &key(7).public()).is_err(), "byte {at}: {text}");
            }
            let cut = good.get(..at).unwrap_or_default();
            assert!(parse_and_verify(cut, &origin, &key(7).public()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn only_the_logs_own_key_counts_and_witnesses_may_sign_too() {
        let (good, origin) = (checkpoint().sign(&key(7)), checkpoint().origin);
        let other = key(8).public();
        assert!(matches!(parse_and_verify(&good, &origin, &other), Err(CheckpointError::Unsigned { .. })));
        assert!(parse_and_verify(&good, "quotary.log/other", &key(7).public()).is_err());
        let witness = signed_by(&key(8), "witness.example", &checkpoint().body());
        let line = witness.rsplit("\n\n").next().unwrap();
        let both = format!("{good}{line}");
        assert_eq!(parse_and_verify(&both, &origin, &key(7).public()).unwrap().size(), 20_852_163);
        let forged = good.replace(&BASE64.encode(checkpoint().root.as_bytes()), &BASE64.encode(&[0; 32]));
        assert!(matches!(parse_and_verify(&forged, &origin, &key(7).public()), Err(CheckpointError::Signature { .. })));
    }

    #[test]
    fn a_signed_text_that_is_no_checkpoint_is_refused() {
        let root = BASE64.encode(&[0; 32]);
        let open = |body: &str| parse_and_verify(&signed_by(&key(7), "log", body), "log", &key(7).public());
        assert!(open(&format!("log\n5\n{root}\n")).is_ok());
        assert!(open(&format!("log\n5\n{root}\nan extension\n")).is_ok());
        for body in [
            format!("log\n05\n{root}\n"),
            format!("log\n+5\n{root}\n"),
            format!("log\n-5\n{root}\n"),
            format!("log\n18446744073709551616\n{root}\n"),
            format!("log\n5\n{root}"),
            format!("log\n5\n{root}\n\nmore\n"),
            format!("log\n5\n{}\n", BASE64.encode(&[0; 31])),
            "log\n5\n".to_owned(),
            "log\n".to_owned(),
            format!("other\n5\n{root}\n"),
        ] {
            assert!(open(&body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_note_is_bounded_before_it_is_read() {
        let good = checkpoint().sign(&key(7));
        let open = |text: &str| parse_and_verify(text, &checkpoint().origin, &key(7).public());
        let line = good.rsplit("\n\n").next().unwrap();
        assert_eq!(open(&format!("{good}{}", line.repeat(NOTE_SIGNATURES_MAX))), Err(CheckpointError::TooLarge));
        assert_eq!(open(&"x".repeat(NOTE_BYTES_MAX + 1)), Err(CheckpointError::TooLarge));
    }
}
