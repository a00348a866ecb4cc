//! Enrolment: from a join token to an identity (design §5).
//!
//! The token pins the verifier's CA and the deployment root; whatever the verifier answers is checked against
//! both, and the host id against this TPM's own endorsement key, before anything is kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quotary_client::ClientError;
use quotary_common::cbor::{CborError, Text, Version};
use quotary_common::id::{DeploymentId, HostId};
use quotary_common::keys::{KeysError, deployment_of};
use quotary_common::limits::EK_CHAIN_MAX;
use quotary_common::sign::Signed;
use quotary_common::token::{JoinToken, TokenError};
use quotary_common::tpm::TpmPublic;
use quotary_common::wire::{
    ActivateEnrolment, ActivationRequest, Base64, BeginEnrolment, EnrolmentReply, EnrolmentRequest,
};

use crate::clock;
use crate::evidence::{Chain, ChainError};
use crate::identity::{Identity, IdentityError, IdentityRecord, TlsIdentity};
use crate::state::StateDir;
use crate::tpm::{TpmError, TpmHandle, TpmIdentity};

const TOKEN_FILE_BYTES_MAX: usize = 4096;

/// An enrolment that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No token is configured.
    #[error("the host is not enrolled: set join_token_file to a token that `quotary token join` printed")]
    NoToken,
    /// The token cannot be read.
    #[error("the host is not enrolled, and the join token {} cannot be read: put there what `quotary token join` printed", path.display())]
    ReadToken {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds no token.
    #[error("the host is not enrolled, and {} holds no join token", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TokenError,
    },
    /// The TPM did not serve.
    #[error("enrolment failed at the TPM")]
    Tpm(#[from] TpmError),
    /// The EK is of a kind that makes no host id.
    #[error("the endorsement key is not one that a host id can be made of")]
    EndorsementKey(#[source] quotary_common::tpm::TpmError),
    /// The verifier did not answer, or refused.
    #[error("enrolment failed at the verifier")]
    Verifier(#[from] ClientError),
    /// The verifier answers for another deployment than the token's.
    #[error("the verifier says it is of deployment {said}, the join token is for {pinned}: nothing was kept")]
    Deployment {
        /// What it says.
        said: DeploymentId,
        /// What the token's root key stands for.
        pinned: DeploymentId,
    },
    /// The verifier gives another host id than this TPM's endorsement key has.
    #[error("the verifier says this host is {said}, its endorsement key says {own}: nothing was kept")]
    Host {
        /// What it says.
        said: HostId,
        /// What the EK gives.
        own: HostId,
    },
    /// The verifier's key certificate is not readable.
    #[error("the verifier's key certificate is not readable: nothing was kept")]
    Certificate(#[source] CborError),
    /// The verifier's key certificate does not hold under the token's root key.
    #[error("the verifier's keys do not hold under the join token's root key: nothing was kept")]
    Keys(#[source] KeysError),
    /// The chain cannot be kept.
    #[error("enrolment cannot be kept")]
    Chain(#[from] ChainError),
    /// The identity cannot be kept.
    #[error("enrolment cannot be kept")]
    Identity(#[from] IdentityError),
}

impl EnrolError {
    /// Whether only a person can change the outcome, so that trying soon again is of no use.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Verifier(error) => !error.may_retry(),
            Self::Tpm(_) | Self::Chain(_) | Self::Identity(_) => false,
            _ => true,
        }
    }
}

/// Reads the join token from its file, which must be the operator's alone to write.
///
/// # Errors
/// [`EnrolError::NoToken`], [`EnrolError::ReadToken`] or [`EnrolError::Token`].
pub fn read_token(file: Option<&Path>) -> Result<JoinToken, EnrolError> {
    let path = file.ok_or(EnrolError::NoToken)?;
    let read = |source| EnrolError::ReadToken { path: path.to_path_buf(), source };
    let text = std::fs::File::open(path)
        .and_then(|file| {
            let mut text = zeroize::Zeroizing::new(String::new());
            std::io::Read::read_to_string(&mut std::io::Read::take(file, TOKEN_FILE_BYTES_MAX as u64), &mut text)?;
            Ok(text)
        })
        .map_err(read)?;
    JoinToken::parse(&text).map_err(|source| EnrolError::Token { path: path.to_path_buf(), source })
}

/// The host id that this TPM's endorsement key gives.
///
/// # Errors
/// [`EnrolError::EndorsementKey`] when the key is of an unknown kind.
pub fn host_of(tpm: &TpmIdentity) -> Result<HostId, EnrolError> {
    let public = TpmPublic::parse(&tpm.ek_public).map_err(EnrolError::EndorsementKey)?;
    Ok(HostId::of(&[&public.spki_der()]))
}

/// Enrols this host with `token`; `claim` is the id that it had before, if any. Keeps the fresh chain first and
/// the identity last, so that a crash in between finds a host that is not enrolled.
///
/// # Errors
/// [`EnrolError`] naming the step; nothing is kept then but the TLS key.
pub async fn enrol(
    state: &StateDir,
    tpm: &TpmHandle,
    token: &JoinToken,
    claim: Option<HostId>,
    timeout: Duration,
) -> Result<(Identity, Chain), EnrolError> {
    let tls = TlsIdentity::open(state)?;
    let client = tls.client(token.verifier.as_str(), token.ca_spki, timeout)?;
    let facts = tpm.identity().await?;
    let own = host_of(&facts)?;
    let request = EnrolmentRequest {
        join_secret: Base64(token.secret.to_vec()),
        ek_public: Base64(facts.ek_public.clone()),
        ek_certificates: facts.ek_certificates.iter().take(EK_CHAIN_MAX).cloned().map(Base64).collect(),
        ak_public: Base64(facts.ak_public.clone()),
        // Another TPM than before is another host: it must not claim the old id.
        host: claim.filter(|claim| *claim == own),
    };
    let challenge = client.call::<BeginEnrolment>(&[], &request).await?;
    let secret = tpm.activate(&challenge.credential_blob.0, &challenge.encrypted_secret.0).await?;
    let request = ActivationRequest { secret: Base64(secret.to_vec()) };
    let reply = client.call::<ActivateEnrolment>(&[&challenge.enrolment.hex()], &request).await?;
    let (epoch, identity) = check(reply, token, own, facts.ak_name, clock::unix_ms())?;
    let chain = Chain::begin(identity.deployment(), identity.host(), epoch);
    chain.store(state)?;
    identity.store(state)?;
    Ok((identity, chain))
}

/// Checks the verifier's last word against what the token pins and what the TPM says.
fn check(
    reply: EnrolmentReply,
    token: &JoinToken,
    own: HostId,
    ak_name: Vec<u8>,
    now_ms: u64,
) -> Result<(u64, Identity), EnrolError> {
    let pinned = deployment_of(&token.root);
    if reply.deployment != pinned {
        return Err(EnrolError::Deployment { said: reply.deployment, pinned });
    }
    if reply.host != own {
        return Err(EnrolError::Host { said: reply.host, own });
    }
    let keys = Signed::from_bytes(&reply.keys.0).map_err(EnrolError::Certificate)?;
    let record = IdentityRecord {
        version: Version,
        deployment: reply.deployment,
        host: reply.host,
        root: token.root,
        keys,
        verifier: Text::lossy(token.verifier.as_str()),
        ca_spki: token.ca_spki,
        window_ms: reply.timing.window_ms,
        evidence_ms: reply.timing.evidence_ms,
        lease_ms: reply.timing.lease_ms,
        ak_name,
    };
    Ok((reply.epoch, Identity::check(record, now_ms).map_err(EnrolError::Keys)?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::Name;
    use quotary_common::id::Digest;
    use quotary_common::keys::KeyCertificate;
    use quotary_common::sign::SigningKey;
    use quotary_common::wire::Timing;

    use super::*;

    fn key() -> SigningKey {
        let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    fn token(root: &SigningKey) -> JoinToken {
        JoinToken {
            version: Version,
            verifier: Text::lossy("https://127.0.0.1:1"),
            ca_spki: Digest::of(&[b"ca"]),
            root: root.public(),
            secret: [1; 32],
        }
    }

    fn reply(root: &SigningKey, deployment: DeploymentId, not_after_ms: u64) -> EnrolmentReply {
        let certificate = KeyCertificate {
            version: Version,
            deployment,
            verifier: Name::lossy("v"),
            grant_key: key().public(),
            log_key: key().public(),
            result_key: key().public(),
            not_after_ms,
        };
        EnrolmentReply {
            host: HostId::of(&[b"ek"]),
            deployment,
            keys: Base64(root.sign(&certificate).to_bytes()),
            epoch: 3,
            timing: Timing { window_ms: 15_000, evidence_ms: 30_000, lease_ms: 300_000 },
        }
    }

    #[test]
    fn only_what_the_tokens_root_certified_for_this_tpm_is_kept() {
        let (root, own) = (key(), HostId::of(&[b"ek"]));
        let deployment = deployment_of(&root.public());
        let (epoch, identity) = check(reply(&root, deployment, 10), &token(&root), own, vec![1], 10).unwrap();
        assert_eq!((epoch, identity.host(), identity.deployment()), (3, own, deployment));
        assert!(identity.keys(10).is_ok() && identity.keys(11).is_err());

        let tried = |reply| check(reply, &token(&root), own, vec![1], 10).unwrap_err();
        let other = key();
        assert!(matches!(tried(reply(&other, deployment, 10)), EnrolError::Keys(KeysError::Root(_))));
        let theirs = deployment_of(&other.public());
        assert!(matches!(tried(reply(&other, theirs, 10)), EnrolError::Deployment { .. }));
        assert!(matches!(tried(reply(&root, deployment, 9)), EnrolError::Keys(KeysError::Expired { .. })));
        let mut another_host = reply(&root, deployment, 10);
        another_host.host = HostId::of(&[b"victim"]);
        assert!(matches!(tried(another_host), EnrolError::Host { .. }));
        let mut unreadable = reply(&root, deployment, 10);
        unreadable.keys.0.pop();
        assert!(matches!(tried(unreadable), EnrolError::Certificate(_)));
    }

    #[test]
    fn a_token_file_is_read_with_its_line_end_and_anything_else_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("token");
        assert!(matches!(read_token(None), Err(EnrolError::NoToken)));
        assert!(matches!(read_token(Some(&path)), Err(EnrolError::ReadToken { .. })));
        let token = token(&key());
        std::fs::write(&path, format!("{}\n", *token.to_text())).unwrap();
        assert_eq!(read_token(Some(&path)).unwrap().id(), token.id());
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        assert!(matches!(read_token(Some(&path)), Err(EnrolError::Token { .. })));
    }
}
