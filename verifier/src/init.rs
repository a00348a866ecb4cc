//! Makes a deployment: root, CA, the verifier's keys, and the first operator's token (wire.md, first operator).
//!
//! What must be kept offline (root key and CA key) goes to a directory of its own; the verifier never reads it.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use quotary_common::cbor::Text;
use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{DeploymentId, Digest};
use quotary_common::keys::{KeyCertificate, deployment_of};
use quotary_common::leaf::{Decision, Genesis, Leaf, TokenMade};
use quotary_common::quorum::authority::Authority;
use quotary_common::sign::{PublicKey, SigningKey};
use quotary_common::token::{operator, token_id};
use quotary_decide::registry::{TokenRecord, TokenScope};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use zeroize::Zeroizing;

use crate::authority::{self, AuthorityError, Documents};
use crate::core::tables;
use crate::keyring::file;
use crate::store::{Partition, SqliteStore, Store as _, StoreError};

/// What to make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the verifier's keys and store go; must not hold any yet.
    pub data_dir: PathBuf,
    /// Where root and CA keys go.
    pub offline_dir: PathBuf,
    /// The verifier's name.
    pub name: Name,
    /// How it is reached: `https://host:port`.
    pub url: String,
    /// Names and addresses in its TLS certificate.
    pub tls_names: Vec<String>,
    /// Now, Unix ms.
    pub now_ms: u64,
    /// How long the key certificate and the first token hold, ms.
    pub valid_for_ms: u64,
    /// SHA-256 of the configuration in force.
    pub configuration: Digest,
    /// Who decides about changes from the beginning.
    pub authority: Option<Documents>,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The deployment.
    pub deployment: DeploymentId,
    /// SHA-256 of the CA's SPKI.
    pub ca_spki: Digest,
    /// The public half of the deployment's root key.
    pub root: PublicKey,
    /// Where it is kept.
    pub root_file: PathBuf,
    /// Where the operator's credentials are.
    pub operator_file: PathBuf,
}

impl Made {
    /// What its operator is told, line by line: whose it is, and how people log in.
    pub fn told(&self, plan: &Plan) -> Vec<String> {
        let (url, pin, root) = (&plan.url, self.ca_spki.hex(), self.root.hex());
        let others = format!("quotary login --verifier {url} --ca-pin {pin} --root-key {root} --token-file FILE");
        vec![
            format!("deployment       {}", self.deployment),
            format!("CA pin           {pin}"),
            format!("root key         {root} (public; also in {})", self.root_file.display()),
            format!("operator         {0} (then delete it): quotary login --from {0}", self.operator_file.display()),
            format!("everybody else   {others}"),
            "                 (`quotary token operator` makes the token; pin and root key from here, not from the net)"
                .to_owned(),
            format!("take offline     {}", plan.offline_dir.display()),
        ]
    }
}

/// A deployment that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("{} exists already: a deployment is made once; choose another directory", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// A certificate could not be made.
    #[error("cannot make the TLS certificate: are the --tls-name values DNS names or addresses?")]
    Certificate(#[source] rcgen::Error),
    /// A key that was just made does not read.
    #[error("a new key does not read")]
    Key(#[source] quotary_common::sign::SignedError),
    /// The store failed.
    #[error("cannot begin the store")]
    Store(#[source] StoreError),
    /// The roster or the rules.
    #[error("the roster and the quorum rules cannot be put in force")]
    Authority(#[source] AuthorityError),
    /// The store refused its first batch.
    #[error("the store is not empty")]
    NotEmpty,
}

/// Makes the deployment.
///
/// # Errors
/// [`InitError`]; nothing that exists is overwritten.
pub fn init(plan: &Plan) -> Result<Made, InitError> {
    for path in [plan.data_dir.join(file::ROOT_PUBLIC), plan.offline_dir.join("root.pk8")] {
        if path.exists() {
            return Err(InitError::Exists(path));
        }
    }
    for dir in [&plan.data_dir, &plan.offline_dir, &plan.data_dir.join("keys"), &plan.data_dir.join("tls")] {
        private_dir(dir)?;
    }
    let root = new_key(&plan.offline_dir.join("root.pk8"))?;
    let deployment = deployment_of(&root.public());
    let ca_spki = make_tls(plan)?;
    let certificate = root.sign(&KeyCertificate {
        version: Version,
        deployment,
        verifier: plan.name.clone(),
        grant_key: new_key(&plan.data_dir.join(file::GRANT))?.public(),
        log_key: new_key(&plan.data_dir.join(file::LOG))?.public(),
        not_after_ms: plan.now_ms.saturating_add(plan.valid_for_ms),
        result_key: new_key(&plan.data_dir.join(file::RESULT))?.public(),
    });
    write(&plan.data_dir.join(file::CERTIFICATE), &certificate.to_bytes(), 0o600)?;
    write(&plan.data_dir.join(file::NONCE), random()?.as_slice(), 0o600)?;
    let secret = random()?;
    begin_store(plan, &root, &secret)?;
    let operator_file = plan.data_dir.join("operator.toml");
    let text = Zeroizing::new(format!(
        "# The first operator's credentials: `quotary login --from` this file, then delete it.\n\
         verifier = \"{}\"\nca_spki = \"{}\"\nroot_key = \"{}\"\ntoken = \"{}\"\n",
        plan.url,
        ca_spki.hex(),
        root.public().hex(),
        *operator::to_text(&secret),
    ));
    write(&operator_file, text.as_bytes(), 0o600)?;
    // Last: its presence says that the rest is whole.
    let root_file = plan.data_dir.join(file::ROOT_PUBLIC);
    write(&root_file, root.public().hex().as_bytes(), 0o644)?;
    Ok(Made { deployment, ca_spki, root: root.public(), root_file, operator_file })
}

/// Puts the first roster and quorum rules in force in a deployment that has run without any, or `again` in place of those in force; with the
/// verifier stopped.
///
/// # Errors
/// [`AuthorityError`]; then nothing was changed.
pub fn adopt(
    data_dir: &Path,
    root_key: &Path,
    (documents, again): (&Documents, bool),
) -> Result<Authority, AuthorityError> {
    let mut store = SqliteStore::open(data_dir).map_err(AuthorityError::Store)?;
    authority::adopt(&mut store, data_dir, root_key, (documents, again))
}

/// Leaf 0, and the first operator's token.
fn begin_store(plan: &Plan, root: &SigningKey, secret: &[u8; 32]) -> Result<(), InitError> {
    let rights = ["read", "audit", "admin"].map(Name::lossy).to_vec();
    let record = TokenRecord {
        version: Version,
        id: token_id(secret),
        made_at_ms: plan.now_ms,
        not_after_ms: plan.now_ms.saturating_add(plan.valid_for_ms),
        scope: TokenScope::Operator { name: Name::lossy("first operator"), rights: Bounded::truncating(rights).0 },
    };
    let leaf =
        |decision| Leaf { version: Version, at_ms: plan.now_ms, actor: Text::lossy("init"), decision }.to_bytes();
    let signed = plan.authority.as_ref().map(|documents| documents.signed(root)).transpose();
    let (authority, rows) = signed.map_err(InitError::Authority)?.unzip();
    let genesis = Decision::Genesis(Genesis { root: root.public(), configuration: plan.configuration, authority });
    let made = Decision::TokenMade(TokenMade {
        token: record.id,
        what: Text::lossy("operator"),
        scope: Text::lossy("first operator: read, audit, admin"),
        not_after_ms: record.not_after_ms,
    });
    let batch = rows
        .unwrap_or_default()
        .put(tables::TOKENS, Partition::Deployment, *record.id.as_bytes(), quotary_common::cbor::to_bytes(&record))
        .leaf(leaf(genesis))
        .leaf(leaf(made));
    let mut store = SqliteStore::open(&plan.data_dir).map_err(InitError::Store)?;
    let outcomes = store.commit(&[batch]).map_err(InitError::Store)?;
    if outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|committed| committed.first_leaf == 0)) {
        Ok(())
    } else {
        Err(InitError::NotEmpty)
    }
}

fn make_tls(plan: &Plan) -> Result<Digest, InitError> {
    let ca_key = KeyPair::generate().map_err(InitError::Certificate)?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, format!("Quotary CA of {}", plan.name));
    let ca_certificate = ca.self_signed(&ca_key).map_err(InitError::Certificate)?;
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let key = KeyPair::generate().map_err(InitError::Certificate)?;
    let mut leaf = CertificateParams::new(plan.tls_names.clone()).map_err(InitError::Certificate)?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.distinguished_name.push(DnType::CommonName, plan.name.as_str());
    let certificate = leaf.signed_by(&key, &issuer).map_err(InitError::Certificate)?;
    write(&plan.offline_dir.join("ca.key.pem"), Zeroizing::new(ca_key.serialize_pem()).as_bytes(), 0o600)?;
    write(&plan.offline_dir.join("ca.pem"), ca_certificate.pem().as_bytes(), 0o644)?;
    write(&plan.data_dir.join(file::TLS_KEY), Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
    let chain = format!("{}{}", certificate.pem(), ca_certificate.pem());
    write(&plan.data_dir.join(file::TLS_CHAIN), chain.as_bytes(), 0o644)?;
    Ok(Digest::of(&[&crate::tls::spki_of(ca_certificate.der()).ok_or(InitError::Random)?]))
}

fn random() -> Result<Zeroizing<[u8; 32]>, InitError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| InitError::Random)?;
    Ok(bytes)
}

fn new_key(path: &Path) -> Result<SigningKey, InitError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| InitError::Random)?;
    let document = Zeroizing::new(document.as_ref().to_vec());
    write(path, &document, 0o600)?;
    SigningKey::from_pkcs8(&document).map_err(InitError::Key)
}

fn private_dir(path: &Path) -> Result<(), InitError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| InitError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InitError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| InitError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn who_makes_a_deployment_is_told_its_root_key_and_how_others_log_in() {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan {
            data_dir: directory.path().join("data"),
            offline_dir: directory.path().join("offline"),
            name: Name::lossy("v1"),
            url: "https://localhost:7443".to_owned(),
            tls_names: vec!["localhost".to_owned()],
            now_ms: 1_790_000_000_000,
            valid_for_ms: 1_000,
            configuration: Digest::of(&[]),
            authority: None,
        };
        let made = init(&plan).unwrap();
        let told = made.told(&plan).join("\n");
        let root = std::fs::read_to_string(&made.root_file).unwrap();
        let login = format!(
            "quotary login --verifier https://localhost:7443 --ca-pin {} --root-key {root} --token-file",
            made.ca_spki.hex()
        );
        assert!(told.contains(&login) && told.contains(&made.root_file.display().to_string()), "{told}");
        let key = SigningKey::from_pkcs8(&std::fs::read(plan.offline_dir.join("root.pk8")).unwrap()).unwrap();
        assert_eq!((key.public().hex(), deployment_of(&key.public())), (root, made.deployment));
    }
}
