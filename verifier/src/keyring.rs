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

/// Reads all keys of `data_dir` and checks that they belong together at `now_ms` (Unix time). A private key that the
/// service manager gives in `credentials` (systemd.exec(5)) counts in place of the data directory's: it has the file's
/// name, and `tls-key.pem` the TLS key.
///
/// # Errors
/// [`KeyringError`] naming the file.
pub fn load(data_dir: &Path, credentials: Option<&Path>, now_ms: u64) -> Result<Keyring, KeyringError> {
    let at = |name: &str| data_dir.join(name);
    let private = |name: &str| {
        let own_name = name.strip_prefix("keys/").map_or_else(|| name.replace('/', "-"), str::to_owned);
        let given = credentials.map(|directory| directory.join(own_name)).filter(|path| path.is_file());
        given.map_or_else(|| PrivateFile::own(at(name)), PrivateFile::given)
    };
    let root = PublicKey(hex32(&at(file::ROOT_PUBLIC))?);
    let grant = private(file::GRANT).signing_key()?;
    let log = private(file::LOG).signing_key()?;
    let result = private(file::RESULT).signing_key()?;
    let nonce_file = private(file::NONCE);
    let nonce_bytes = nonce_file.read()?;
    let nonce = <[u8; 32]>::try_from(nonce_bytes.as_slice())
        .map_err(|_| KeyringError::Form { path: nonce_file.path, what: "32 secret bytes" })?;
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
    let key_file = private(file::TLS_KEY);
    let tls_key = PrivateKeyDer::from_pem_slice(&key_file.read()?)
        .map_err(|_| KeyringError::Form { path: key_file.path, what: "a private key in PEM" })?;
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

/// A file with a private key.
struct PrivateFile {
    path: PathBuf,
    /// Mode bits that it must not have.
    banned: u32,
}

impl PrivateFile {
    /// One in the data directory: its owner's alone.
    fn own(path: PathBuf) -> Self {
        Self { path, banned: 0o077 }
    }

    /// One that the service manager gives. It may let this user in by an access control list, whose mask stands where the
    /// group's bits are.
    fn given(path: PathBuf) -> Self {
        Self { path, banned: 0o007 }
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |source| KeyringError::Read { path: self.path.clone(), source };
        let mode = std::fs::metadata(&self.path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & self.banned != 0 {
            return Err(KeyringError::Mode { path: self.path.clone(), mode });
        }
        read(&self.path).map(Zeroizing::new)
    }

    fn signing_key(&self) -> Result<SigningKey, KeyringError> {
        SigningKey::from_pkcs8(&self.read()?).map_err(|source| KeyringError::Key { path: self.path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyringError> {
    std::fs::read(path).map_err(|source| KeyringError::Read { path: path.to_owned(), source })
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
