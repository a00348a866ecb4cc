//! What was stolen: a host's TLS client key, the CA's key, the verifier's grant key.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use minicbor::{Decode, Encode};
use quotary_client::{Client, ClientConfig, Identity};
use quotary_common::cbor::{self, Version};
use quotary_common::id::Digest;
use quotary_common::sign::SigningKey;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::world::PATIENCE;

const KEY_BYTES_MAX: usize = 64 * 1024;

/// A TLS client key and its certificate: a host's, copied, or the attacker's own.
#[derive(Clone)]
pub struct StolenKey {
    certificate_der: Vec<u8>,
    key_pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for StolenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StolenKey({} bytes of certificate)", self.certificate_der.len())
    }
}

/// The agent's file, read as anybody who knows its form would.
#[derive(Encode, Decode)]
#[cbor(map)]
struct AgentsTlsFile {
    #[n(0)]
    version: Version<1>,
    #[cbor(n(1), with = "minicbor::bytes")]
    certificate_der: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    key_pkcs8: Vec<u8>,
    #[n(3)]
    spki: Digest,
}

impl StolenKey {
    /// Copies the key from an agent's state directory.
    ///
    /// # Errors
    /// When it is not there or not readable.
    pub fn copied_from(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("tls.cbor");
        let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let file: AgentsTlsFile = cbor::from_bytes(&bytes, KEY_BYTES_MAX)?;
        Ok(Self { certificate_der: file.certificate_der, key_pkcs8: Zeroizing::new(file.key_pkcs8) })
    }

    /// A key of the attacker's own, of the same kind.
    ///
    /// # Errors
    /// When none can be made.
    pub fn of_ones_own() -> Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?;
        Ok(Self { certificate_der: certificate.der().to_vec(), key_pkcs8: Zeroizing::new(key.serialize_der()) })
    }

    /// A client of the verifier that is known by this key.
    ///
    /// # Errors
    /// When the address or the key cannot be used.
    pub fn client(&self, verifier_url: &str, ca_pin: Digest) -> Result<Client> {
        let identity = Identity { certificate_der: self.certificate_der.clone(), key_pkcs8: self.key_pkcs8.clone() };
        let config = ClientConfig {
            base_url: verifier_url.to_owned(),
            ca_pin,
            identity: Some(identity),
            bearer: None,
            timeout: PATIENCE,
        };
        Ok(Client::new(config)?)
    }
}

/// The key with which the verifier signs grant sets and plans, from its data directory.
///
/// # Errors
/// When it is not there or not readable.
pub fn stolen_grant_key(data_dir: &Path) -> Result<SigningKey> {
    let path = data_dir.join("keys/grant.pk8");
    let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(SigningKey::from_pkcs8(&Zeroizing::new(bytes))?)
}

/// The key of the CA that the verifier's TLS certificate chains to, from the operator's offline directory.
#[derive(Debug)]
pub struct StolenCa {
    certificate_der: Vec<u8>,
    name: String,
    key: KeyPair,
}

impl StolenCa {
    /// Copies it.
    ///
    /// # Errors
    /// When it is not there or not readable.
    pub fn copied_from(offline_dir: &Path) -> Result<Self> {
        let certificate_der = CertificateDer::from_pem_file(offline_dir.join("ca.pem")).context("ca.pem")?.to_vec();
        let key = std::fs::read_to_string(offline_dir.join("ca.key.pem")).context("ca.key.pem")?;
        let (_, certificate) = X509Certificate::from_der(&certificate_der).context("ca.pem is no certificate")?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.context("the CA has no name")?.to_owned();
        Ok(Self { key: KeyPair::from_pem(&key)?, name, certificate_der })
    }

    /// SHA-256 of its public key: what agents pin.
    pub fn pin(&self) -> Digest {
        Digest::of(&[&self.key.subject_public_key_info()])
    }

    /// A server certificate for this machine that every agent of the deployment takes for the verifier's, with the CA's,
    /// and its key.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn certify_server(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, self.name.as_str());
        let issuer = Issuer::from_params(&ca, &self.key);
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()])?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&key, &issuer)?;
        let chain = vec![certificate.der().clone(), CertificateDer::from(self.certificate_der.clone())];
        Ok((chain, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }
}
