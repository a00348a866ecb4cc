//! Who this agent is within a deployment, as kept on disk: what enrolment gave, and the TLS key it is known by.

use minicbor::{Decode, Encode};
use quotary_client::{Client, ClientConfig, ClientError};
use quotary_common::cbor::{self, CborError, Text, Version};
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::keys::{self, KeysError, VerifiedKeys};
use quotary_common::limits::SIGNED_BYTES_MAX;
use quotary_common::sign::{PublicKey, Signed};
use quotary_common::wire::Timing;
use rcgen::PublicKeyData;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

use crate::state::{StateDir, StateError};

/// The file of what enrolment gave.
pub const IDENTITY_FILE: &str = "identity.cbor";
/// The file of the TLS client key.
pub const TLS_FILE: &str = "tls.cbor";
const IDENTITY_BYTES_MAX: usize = SIGNED_BYTES_MAX + 8192;
/// Largest reply of the verifier that is read, in bytes.
const REPLY_BYTES_MAX: usize = 2 << 20;
const TLS_BYTES_MAX: usize = 16 * 1024;

/// An identity that cannot be read, made, or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read or written.
    #[error("the agent's identity is not kept")]
    State(#[from] StateError),
    /// A file that is not what it should be.
    #[error("{file} in the state directory is damaged: remove it and enrol the host again")]
    Damaged {
        /// Which.
        file: &'static str,
        /// Why.
        #[source]
        source: CborError,
    },
    /// The verifier's keys do not hold (any more).
    #[error("the verifier's keys do not hold: enrol the host again")]
    Keys(#[from] KeysError),
    /// The TLS key or its certificate cannot be made.
    #[error("cannot make the TLS client key")]
    Tls(#[from] rcgen::Error),
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct TlsRecord {
    #[n(0)]
    version: Version<1>,
    #[cbor(n(1), with = "minicbor::bytes")]
    certificate_der: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    key_pkcs8: Vec<u8>,
    #[n(3)]
    spki: Digest,
}

impl Drop for TlsRecord {
    fn drop(&mut self) {
        self.key_pkcs8.zeroize();
    }
}

/// The TLS client key: ECDSA P-256, with a certificate that it signed itself; the verifier pins the key.
#[derive(Clone)]
pub struct TlsIdentity {
    certificate_der: Vec<u8>,
    key_pkcs8: Zeroizing<Vec<u8>>,
    spki: Digest,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsIdentity({}, secret key)", self.spki)
    }
}

impl TlsIdentity {
    /// The kept key, or a new one, which is kept first.
    ///
    /// # Errors
    /// [`IdentityError`] when it can be neither read nor made.
    pub fn open(state: &StateDir) -> Result<Self, IdentityError> {
        if let Some(bytes) = state.read(TLS_FILE, TLS_BYTES_MAX)?.map(Zeroizing::new) {
            let record: TlsRecord = cbor::from_bytes(&bytes, TLS_BYTES_MAX)
                .map_err(|source| IdentityError::Damaged { file: TLS_FILE, source })?;
            return Ok(Self::of(&record));
        }
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "quotary agent");
        parameters.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        let record = TlsRecord {
            version: Version,
            certificate_der: parameters.self_signed(&key)?.der().to_vec(),
            spki: Digest::of(&[&key.subject_public_key_info()]),
            key_pkcs8: key.serialize_der(),
        };
        state.write(TLS_FILE, &Zeroizing::new(cbor::to_bytes(&record)))?;
        Ok(Self::of(&record))
    }

    fn of(record: &TlsRecord) -> Self {
        Self {
            certificate_der: record.certificate_der.clone(),
            key_pkcs8: Zeroizing::new(record.key_pkcs8.clone()),
            spki: record.spki,
        }
    }

    /// SHA-256 of its SubjectPublicKeyInfo: what envelopes state and the verifier pins.
    pub fn spki(&self) -> Digest {
        self.spki
    }

    /// A client of the verifier that is known by this key and trusts only the pinned CA.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn client(&self, verifier: &str, ca_pin: Digest, timeout: Duration) -> Result<Client, ClientError> {
        Client::new(ClientConfig {
            base_url: verifier.to_owned(),
            ca_pin,
            identity: Some(quotary_client::Identity {
                certificate_der: self.certificate_der.clone(),
                key_pkcs8: self.key_pkcs8.clone(),
            }),
            bearer: None,
            timeout,
        })
        // What a verifier that was taken over can make the agent hold in memory.
        .map(|client| client.with_reply_bytes_max(REPLY_BYTES_MAX))
    }
}

/// What enrolment gave, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct IdentityRecord {
    #[n(0)]
    pub(crate) version: Version<1>,
    #[n(1)]
    pub(crate) deployment: DeploymentId,
    #[n(2)]
    pub(crate) host: HostId,
    #[n(3)]
    pub(crate) root: PublicKey,
    #[n(4)]
    pub(crate) keys: Signed,
    #[n(5)]
    pub(crate) verifier: Text<256>,
    #[n(6)]
    pub(crate) ca_spki: Digest,
    #[n(7)]
    pub(crate) window_ms: u64,
    #[n(8)]
    pub(crate) evidence_ms: u64,
    #[n(9)]
    pub(crate) lease_ms: u64,
    #[cbor(n(10), with = "minicbor::bytes")]
    pub(crate) ak_name: Vec<u8>,
}

/// An enrolled host's identity, whose verifier keys hold under the pinned root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    record: IdentityRecord,
    keys: VerifiedKeys,
}

impl Identity {
    /// Checks the verifier's keys under the pinned root at `now_ms` (Unix time).
    pub(crate) fn check(record: IdentityRecord, now_ms: u64) -> Result<Self, KeysError> {
        let keys = keys::verify(&record.keys, &record.root, now_ms)?;
        Ok(Self { record, keys })
    }

    /// The kept identity, if the host is enrolled.
    ///
    /// # Errors
    /// [`IdentityError`] when it cannot be read, is damaged, or its keys have ended.
    pub fn load(state: &StateDir, now_ms: u64) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = state.read(IDENTITY_FILE, IDENTITY_BYTES_MAX)? else { return Ok(None) };
        let record: IdentityRecord = cbor::from_bytes(&bytes, IDENTITY_BYTES_MAX)
            .map_err(|source| IdentityError::Damaged { file: IDENTITY_FILE, source })?;
        Ok(Some(Self::check(record, now_ms)?))
    }

    /// Keeps it: from then on the host is enrolled.
    ///
    /// # Errors
    /// [`IdentityError::State`] when it could not be written.
    pub fn store(&self, state: &StateDir) -> Result<(), IdentityError> {
        Ok(state.write(IDENTITY_FILE, &cbor::to_bytes(&self.record))?)
    }

    /// The deployment.
    pub fn deployment(&self) -> DeploymentId {
        self.record.deployment
    }

    /// The host.
    pub fn host(&self) -> HostId {
        self.record.host
    }

    /// The deployment root's key, as the join token gave it.
    pub fn root(&self) -> PublicKey {
        self.record.root
    }

    /// The verifier's address.
    pub fn verifier(&self) -> &str {
        self.record.verifier.as_str()
    }

    /// The pin of its CA.
    pub fn ca_spki(&self) -> Digest {
        self.record.ca_spki
    }

    /// The name of the attestation key that was enrolled.
    pub fn ak_name(&self) -> &[u8] {
        &self.record.ak_name
    }

    /// How often things happen, as the verifier wants them.
    pub fn timing(&self) -> Timing {
        let IdentityRecord { window_ms, evidence_ms, lease_ms, .. } = self.record;
        Timing { window_ms, evidence_ms, lease_ms }
    }

    /// The verifier's keys, if they still hold at `now_ms` (Unix time).
    ///
    /// # Errors
    /// [`KeysError::Expired`] when they ended since they were checked.
    pub fn keys(&self, now_ms: u64) -> Result<&VerifiedKeys, KeysError> {
        let not_after_ms = self.keys.certificate().not_after_ms;
        if not_after_ms < now_ms { Err(KeysError::Expired { not_after_ms, now_ms }) } else { Ok(&self.keys) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_tls_key_is_made_once_and_kept_from_others() {
        use std::os::unix::fs::MetadataExt;
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path().join("state")).unwrap();
        let first = TlsIdentity::open(&state).unwrap();
        let again = TlsIdentity::open(&state).unwrap();
        assert_eq!((first.spki(), &first.certificate_der), (again.spki(), &again.certificate_der));
        assert_eq!(std::fs::metadata(state.file(TLS_FILE)).unwrap().mode() & 0o777, 0o600);
        let (_, certificate) = x509_parser::parse_x509_certificate(&first.certificate_der).unwrap();
        assert_eq!(Digest::of(&[certificate.tbs_certificate.subject_pki.raw]), first.spki());
        assert!(first.client("https://127.0.0.1:1", Digest::of(&[b"ca"]), Duration::from_secs(1)).is_ok());
        assert!(!format!("{first:?}").contains(&format!("{:?}", first.key_pkcs8)));
    }

    #[test]
    fn a_damaged_identity_is_told_and_a_missing_one_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path().join("state")).unwrap();
        assert_eq!(Identity::load(&state, 0).unwrap(), None);
        std::fs::write(state.file(IDENTITY_FILE), b"\xa0").unwrap();
        assert!(matches!(Identity::load(&state, 0), Err(IdentityError::Damaged { .. })));
    }
}
