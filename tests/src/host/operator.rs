//! The operator of a world, over the routes: what the verifier says, and the tokens that tests need.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use quotary_agent::tpm::EkAlgorithm;
use quotary_client::Client;
use quotary_common::id::{Digest, HostId};
use quotary_common::leaf::Leaf;
use quotary_common::token::JoinToken;
use quotary_common::units::Resources;
use quotary_common::wire::{
    GrantView, HostView, Inventory, JoinTokenRequest, ListGrants, ListHosts, MakeJoinToken, MakeOperatorToken, Nothing,
    OperatorTokenRequest, Right, ShowLeaf, ShowStatus, StatusView,
};
use serde::Deserialize;

use super::tls::client;
use super::{Candidate, DrivenHost, SoftTpm, TlsKey};
use crate::world::{World, ZONE_MEASURED};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The first operator of a world (read, audit, admin), and where driven hosts of that world stand.
pub struct Operator {
    /// Where the verifier listens.
    pub address: SocketAddr,
    /// SHA-256 of its CA's SPKI.
    pub ca_pin: Digest,
    /// Speaks to the verifier with the first operator's token.
    pub client: Client,
    /// That token.
    pub token: String,
    url: String,
    setup_config: PathBuf,
    dir: PathBuf,
}

/// What `quotary-verifier init` leaves for the first operator.
#[derive(Deserialize)]
struct OperatorFile {
    verifier: String,
    ca_spki: String,
    token: String,
}

impl Operator {
    /// The operator of this world.
    ///
    /// # Errors
    /// When the world has no credentials of one.
    pub fn of(world: &World) -> Result<Self> {
        let path = world.path("verifier/operator.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
        let file: OperatorFile = toml::from_str(&text)?;
        let ca_pin: Digest = file.ca_spki.parse()?;
        Ok(Self {
            address: world.verifier_address(),
            ca_pin,
            client: client(&file.verifier, ca_pin, None, Some(file.token.clone()))?,
            token: file.token,
            url: file.verifier,
            setup_config: world.path("site-ca/swtpm_setup.conf"),
            dir: world.path("driven"),
        })
    }

    /// A client with another token, or none.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_token(&self, token: Option<&str>) -> Result<Client> {
        client(&self.url, self.ca_pin, None, token.map(str::to_owned))
    }

    /// A client known by `key`.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_key(&self, key: &TlsKey) -> Result<Client> {
        key.client(&self.url, self.ca_pin)
    }

    /// A join token for the best zone, for a host of 4 cores and 8 GiB.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn join_token(&self) -> Result<JoinToken> {
        let capacity = Resources { cpu_millicores: Some(4000), memory_bytes: Some(8 << 30), ..Resources::default() };
        let request = JoinTokenRequest {
            zone: ZONE_MEASURED.to_owned(),
            inventory: Inventory { labels: Default::default(), capacity },
            valid_for_ms: DAY_MS,
        };
        let reply = self.client.call::<MakeJoinToken>(&[], &request).await?;
        Ok(JoinToken::parse(&reply.token)?)
    }

    /// An operator token's text.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn operator_token(&self, rights: &[Right], valid_for_ms: u64) -> Result<String> {
        let request = OperatorTokenRequest { name: "test".to_owned(), rights: rights.to_vec(), valid_for_ms };
        Ok(self.client.call::<MakeOperatorToken>(&[], &request).await?.token)
    }

    /// A TPM of the site, in a directory of this name.
    pub fn tpm(&self, name: &str, ek: EkAlgorithm) -> SoftTpm {
        SoftTpm::new(&self.dir.join(name), &self.setup_config, ek)
    }

    /// A host that wants to join, with a certified EK; its files stand in a directory of this name.
    ///
    /// # Errors
    /// When its token or key cannot be made.
    pub async fn candidate(&self, name: &str) -> Result<Candidate> {
        Candidate::new(self.tpm(name, EkAlgorithm::Rsa2048), self.join_token().await?)
    }

    /// An enrolled host.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn host(&self, name: &str) -> Result<DrivenHost> {
        self.candidate(name).await?.enrol().await
    }

    /// The verifier's status.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn status(&self) -> Result<StatusView> {
        Ok(self.client.call::<ShowStatus>(&[], &Nothing {}).await?)
    }

    /// All hosts.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn hosts(&self) -> Result<Vec<HostView>> {
        Ok(self.client.call::<ListHosts>(&[], &Nothing {}).await?)
    }

    /// One host.
    ///
    /// # Errors
    /// When there is no such host.
    pub async fn view(&self, id: &HostId) -> Result<HostView> {
        self.hosts().await?.into_iter().find(|view| view.host == *id).context("no such host")
    }

    /// All grants.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub async fn grants(&self) -> Result<Vec<GrantView>> {
        Ok(self.client.call::<ListGrants>(&[], &Nothing {}).await?)
    }

    /// The leaves from number `first` on.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn leaves(&self, first: u64) -> Result<Vec<Leaf>> {
        let mut leaves = Vec::new();
        for n in first..self.status().await?.audit.size {
            let view = self.client.call::<ShowLeaf>(&[&n.to_string()], &Nothing {}).await?;
            leaves.push(Leaf::from_bytes(&view.leaf.0)?);
        }
        Ok(leaves)
    }
}
