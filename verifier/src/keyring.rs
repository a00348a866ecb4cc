//! The verifier's keys, one for each purpose, read from its data directory.

use std::path::{Path, PathBuf};

use quotary_common::id::DeploymentId;
use quotary_common::keys::{self, KeysError};
use quotary_common::nonce::NonceKey;
use quotary_common::sign::{PublicKey, Signed, SignedError, SigningKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Names of the files in the data directory.
pub(crate) mod file {
    pub(crate) const ROOT_PUBLIC: &str = "root.pub";
    pub(crate) const GRANT: &str = "keys/grant.pk8";
    pub(crate) const LOG: &str = "keys/log.pk8";
    pub(crate) const RESULT: &str = "keys/result.pk8";
    pub(crate) const NONCE: &str = "keys/nonce.key";
    pub(crate) const CERTIFICATE: &str = "keys/certificate.cbor";
    pub(crate) const TLS_CHAIN: &str = "tls/chain.pem";
    pub(crate) const TLS_KEY: &str = "tls/key.pem";
}

/// All keys.
#[derive(Debug)]
pub struct Keyring {
    /// The deployment root's public key.
    pub root: PublicKey,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Signs grant sets and plans.
    pub grant: SigningKey,
    /// Signs checkpoints.
    pub log: SigningKey,
    /// Signs attestation results.
    pub result: SigningKey,
    /// MACs nonces.
    pub nonce: NonceKey,
    /// What the root says of these keys, as it is handed out.
    pub certificate: Signed,
    /// TLS certificate, then its CA.
    pub tls_chain: Vec<CertificateDer<'static>>,
    /// TLS private key.
    pub tls_key: PrivateKeyDer<'static>,
}

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file is not there or not readable.
    #[error("cannot read {}: make a deployment with `quotary-verifier init` first", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that others may read holds a secret.
    #[error("{} is a secret, but its mode {mode:o} lets others read it: chmod 600 it", .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold {what}", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A signing key is none.
    #[error("{} does not hold a signing key", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SignedError,
    },
    /// The certificate does not hold.
    #[error("the key certificate in the data directory does not hold")]
    Certificate(#[source] KeysError),
    /// The certificate names other keys than those in the files.
    #[error("the key certificate names another {0} key than the one in the data directory")]
    Other(&'static str),
}

/// Reads all keys of `data_dir` and checks that they belong together at `now_ms` (Unix time).
///
/// # Errors
/// [`KeyringError`] naming the file.
pub fn load(data_dir: &Path, now_ms: u64) -> Result<Keyring, KeyringError> {
    let at = |name: &str| data_dir.join(name);
    let root = PublicKey(hex32(&at(file::ROOT_PUBLIC))?);
    let grant = signing_key(&at(file::GRANT))?;
    let log = signing_key(&at(file::LOG))?;
    let result = signing_key(&at(file::RESULT))?;
    let nonce_path = at(file::NONCE);
    let nonce_bytes = secret(&nonce_path)?;
    let nonce = <[u8; 32]>::try_from(nonce_bytes.as_slice())
        .map_err(|_| KeyringError::Form { path: nonce_path, what: "32 secret bytes" })?;
    let certificate_path = at(file::CERTIFICATE);
    let certificate = Signed::from_bytes(&read(&certificate_path)?)
        .map_err(|_| KeyringError::Form { path: certificate_path, what: "a key certificate" })?;
    let verified = keys::verify(&certificate, &root, now_ms).map_err(KeyringError::Certificate)?;
    let named = verified.certificate();
    for (what, certified, own) in
        [("grant", named.grant_key, &grant), ("log", named.log_key, &log), ("result", named.result_key, &result)]
    {
        if certified != own.public() {
            return Err(KeyringError::Other(what));
        }
    }
    let chain_path = at(file::TLS_CHAIN);
    let tls_chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&chain_path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| KeyringError::Form { path: chain_path, what: "certificates in PEM" })?;
    let key_path = at(file::TLS_KEY);
    let tls_key = PrivateKeyDer::from_pem_slice(&secret(&key_path)?)
        .map_err(|_| KeyringError::Form { path: key_path, what: "a private key in PEM" })?;
    Ok(Keyring {
        deployment: keys::deployment_of(&root),
        root,
        grant,
        log,
        result,
        nonce: NonceKey::new(&nonce),
        certificate,
        tls_chain,
        tls_key,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, KeyringError> {
    std::fs::read(path).map_err(|source| KeyringError::Read { path: path.to_owned(), source })
}

/// Reads a file that only its owner may read.
pub(crate) fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).map_err(|source| KeyringError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyringError::Mode { path: path.to_owned(), mode });
    }
    read(path).map(Zeroizing::new)
}

fn signing_key(path: &Path) -> Result<SigningKey, KeyringError> {
    SigningKey::from_pkcs8(&secret(path)?).map_err(|source| KeyringError::Key { path: path.to_owned(), source })
}

fn hex32(path: &Path) -> Result<[u8; 32], KeyringError> {
    let text = read(path)?;
    let text = std::str::from_utf8(&text).unwrap_or_default().trim();
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| KeyringError::Form { path: path.to_owned(), what: "64 hexadecimal characters" })
}
