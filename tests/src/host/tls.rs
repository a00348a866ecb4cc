//! TLS client keys that tests hold in the open.

use std::time::Duration;

use anyhow::Result;
use quotary_client::{Client, ClientConfig, Identity};
use quotary_common::id::Digest;
use rcgen::PublicKeyData as _;

/// How long one call may take: machines that test may be slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A TLS client key with its self-signed certificate.
#[derive(Clone)]
pub struct TlsKey {
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The key, PKCS#8 DER.
    pub key_pkcs8: Vec<u8>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest,
}

impl TlsKey {
    /// A new key.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn make() -> Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "a driven host");
        Ok(Self {
            certificate_der: parameters.self_signed(&key)?.der().to_vec(),
            spki: Digest::of(&[&key.subject_public_key_info()]),
            key_pkcs8: key.serialize_der(),
        })
    }

    /// A client of `url` that is known by this key.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn client(&self, url: &str, ca_pin: Digest) -> Result<Client> {
        let identity =
            Identity { certificate_der: self.certificate_der.clone(), key_pkcs8: self.key_pkcs8.clone().into() };
        client(url, ca_pin, Some(identity), None)
    }
}

/// A client of `url`, as a host, an operator, or nobody.
pub(super) fn client(url: &str, ca_pin: Digest, identity: Option<Identity>, bearer: Option<String>) -> Result<Client> {
    let bearer = bearer.map(Into::into);
    Ok(Client::new(ClientConfig { base_url: url.to_owned(), ca_pin, identity, bearer, timeout: TIMEOUT })?)
}
