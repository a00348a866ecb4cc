//! A host on its way into a deployment, step by step.

use anyhow::{Context as _, Result};
use quotary_client::{Client, ClientError};
use quotary_common::keys;
use quotary_common::sign::Signed;
use quotary_common::token::JoinToken;
use quotary_common::wire::{
    ActivateEnrolment, ActivationRequest, Base64, BeginEnrolment, EnrolmentChallenge, EnrolmentReply, EnrolmentRequest,
};

use super::driven::DrivenHost;
use super::{SoftTpm, TlsKey};

/// A TPM, a TLS key and a join token: what a host has before it is enrolled.
pub struct Candidate {
    /// The token.
    pub token: JoinToken,
    /// Its TLS key.
    pub tls: TlsKey,
    /// Its TPM.
    pub tpm: SoftTpm,
    /// Speaks to the verifier with the TLS key.
    pub client: Client,
}

impl Candidate {
    /// A host with this TPM and a new TLS key.
    ///
    /// # Errors
    /// When its TLS key cannot be made.
    pub fn new(tpm: SoftTpm, token: JoinToken) -> Result<Self> {
        let tls = TlsKey::make()?;
        let client = tls.client(token.verifier.as_str(), token.ca_spki)?;
        Ok(Self { token, tls, tpm, client })
    }

    /// What an honest agent asks; to be altered where a test is not honest.
    ///
    /// # Errors
    /// When the TPM does not serve.
    pub async fn request(&mut self) -> Result<EnrolmentRequest> {
        let identity = self.tpm.handle().await?.identity().await?;
        Ok(EnrolmentRequest {
            join_secret: Base64(self.token.secret.to_vec()),
            ek_public: Base64(identity.ek_public),
            ek_certificates: identity.ek_certificates.into_iter().map(Base64).collect(),
            ak_public: Base64(identity.ak_public),
            host: None,
        })
    }

    /// Asks for the challenge.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn begin(&self, request: &EnrolmentRequest) -> Result<EnrolmentChallenge, ClientError> {
        self.client.call::<BeginEnrolment>(&[], request).await
    }

    /// Opens the challenge in the TPM.
    ///
    /// # Errors
    /// What the TPM says.
    pub async fn answer(&mut self, challenge: &EnrolmentChallenge) -> Result<Vec<u8>> {
        let handle = self.tpm.handle().await?;
        Ok(handle.activate(&challenge.credential_blob.0, &challenge.encrypted_secret.0).await?.to_vec())
    }

    /// Answers the challenge.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn activate(
        &self,
        challenge: &EnrolmentChallenge,
        secret: Vec<u8>,
    ) -> Result<EnrolmentReply, ClientError> {
        let request = ActivationRequest { secret: Base64(secret) };
        self.client.call::<ActivateEnrolment>(&[&challenge.enrolment.hex()], &request).await
    }

    /// The whole way.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn enrol(mut self) -> Result<DrivenHost> {
        let request = self.request().await?;
        let challenge = self.begin(&request).await.context("the enrolment was not begun")?;
        let secret = self.answer(&challenge).await?;
        let reply = self.activate(&challenge, secret).await.context("the enrolment was not activated")?;
        self.into_host(&reply)
    }

    /// The host that an activation made of it.
    ///
    /// # Errors
    /// When the verifier's keys do not hold under the token's root.
    pub fn into_host(self, reply: &EnrolmentReply) -> Result<DrivenHost> {
        let keys = keys::verify(&Signed::from_bytes(&reply.keys.0)?, &self.token.root, 0)?;
        DrivenHost::new(self, reply, keys)
    }
}
