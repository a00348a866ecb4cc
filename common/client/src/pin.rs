//! Trust in one CA, named by the SHA-256 of its SubjectPublicKeyInfo (design §5, Bootstrap of trust).
//!
//! The pin names a key, so the certificate that carries it may be renewed. Whoever holds that key may issue
//! for the verifier; nobody else may, whatever the machine's own store says.

use std::sync::Arc;

use quotary_common::id::Digest;
use quotary_common::limits::{CERTIFICATE_BYTES_MAX, EK_CHAIN_MAX};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most certificates that a server may present; the same bound as for EK chains.
const CHAIN_MAX: usize = EK_CHAIN_MAX;

/// Accepts a server whose certificate was issued under the CA with this key, for the name asked.
#[derive(Debug)]
pub struct PinnedCa {
    pin: Digest,
    provider: Arc<CryptoProvider>,
}

/// Why a chain has nothing to do with the pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinFault {
    /// More or larger certificates than a verifier has.
    #[error("it presents more or larger certificates than a verifier has")]
    TooLarge,
    /// No CA with the pinned key is among those presented.
    #[error("no CA with the pinned key (SPKI SHA-256 {}) is among the certificates that it presents: it is another deployment's, someone is in between, or its chain lacks the CA", .pin.hex())]
    NotPinned {
        /// The pin.
        pin: Digest,
    },
}

impl From<PinFault> for rustls::Error {
    fn from(fault: PinFault) -> Self {
        CertificateError::Other(OtherError(Arc::new(fault))).into()
    }
}

impl PinnedCa {
    /// Trusts the CA whose SubjectPublicKeyInfo (DER) has this SHA-256, with the algorithms of `provider`.
    pub fn new(pin: Digest, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }

    /// The presented certificate that is the pinned CA's. The leaf is never looked at: a server's own
    /// certificate cannot be its own authority.
    fn pinned<'a>(&self, presented: &'a [CertificateDer<'a>]) -> Result<&'a CertificateDer<'a>, PinFault> {
        if presented.len() >= CHAIN_MAX || presented.iter().any(|c| c.len() > CERTIFICATE_BYTES_MAX) {
            return Err(PinFault::TooLarge);
        }
        presented
            .iter()
            .find(|certificate| is_ca_with_key(certificate, &self.pin))
            .ok_or(PinFault::NotPinned { pin: self.pin })
    }
}

/// Whether the certificate is a CA's that may sign certificates, and its key is the pinned one.
fn is_ca_with_key(der: &CertificateDer<'_>, pin: &Digest) -> bool {
    let Ok((rest, certificate)) = X509Certificate::from_der(der) else { return false };
    let may_sign = match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    rest.is_empty()
        && certificate.is_ca()
        && may_sign
        && Digest::of(&[certificate.tbs_certificate.subject_pki.raw]) == *pin
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.len() > CERTIFICATE_BYTES_MAX {
            return Err(PinFault::TooLarge.into());
        }
        let mut anchors = RootCertStore::empty();
        anchors.add(self.pinned(intermediates)?.clone().into_owned())?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &anchors, intermediates, now, algorithms)?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
