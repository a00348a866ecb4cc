//! A logged-in conversation with the verifier.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quotary_client::{Client, ClientConfig, ClientError, ToldStream};
use quotary_common::id::HostId;
use quotary_common::wire::{ListHosts, Nothing, Route};

use crate::credentials::{Credentials, default_path};
use crate::exit::{Code, Failure};
use crate::present;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);
/// After how long a person is told that we wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The verifier, and who we are to it.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    credentials: Credentials,
}

/// Runs one task to its end on this thread.
pub(crate) fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Code::Unavailable, format!("cannot start: {e}")))?;
    runtime.block_on(task)
}

/// Where the credentials are: as the command line says, or in the usual place.
pub(crate) fn credentials_path(given: Option<&Path>) -> Result<PathBuf, Failure> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => Ok(default_path(|name| std::env::var(name).ok())?),
    }
}

impl Session {
    /// With the kept credentials.
    pub(crate) fn open(credentials: Option<&Path>) -> Result<Self, Failure> {
        Self::with(Credentials::load(&credentials_path(credentials)?)?)
    }

    /// With these credentials.
    pub(crate) fn with(credentials: Credentials) -> Result<Self, Failure> {
        let client = Client::new(ClientConfig {
            base_url: credentials.verifier.clone(),
            ca_pin: credentials.ca_pin,
            identity: None,
            bearer: Some(credentials.token.clone()),
            timeout: CALL,
        })?;
        Ok(Self { client, credentials })
    }

    /// Who we are.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Calls a route; says on a terminal that it waits when that takes over a second.
    pub(crate) async fn call<R: Route>(&self, values: &[&str], request: &R::Request) -> Result<R::Reply, Failure> {
        let call = self.client.call::<R>(values, request);
        tokio::pin!(call);
        let reply = tokio::select! {
            reply = &mut call => reply,
            () = tokio::time::sleep(PATIENCE) => {
                let waiting = present::Status::show(&format!("waiting for {} …", self.client.base_url()));
                let reply = call.await;
                drop(waiting);
                reply
            }
        };
        Ok(reply?)
    }

    /// Calls a route that takes no body, for a caller who can do something about a refusal.
    pub(crate) async fn try_ask<R: Route<Request = Nothing>>(&self, values: &[&str]) -> Result<R::Reply, ClientError> {
        self.client.call::<R>(values, &Nothing {}).await
    }

    /// Opens a route's stream of events, for a caller who resumes it.
    pub(crate) async fn watch<R: Route<Request = Nothing>>(
        &self,
        values: &[&str],
        last_id: Option<u64>,
        patience: Duration,
    ) -> Result<ToldStream<R>, ClientError> {
        self.client.watch::<R>(values, last_id, patience).await
    }

    /// Calls a route that takes no body.
    pub(crate) async fn ask<R: Route<Request = Nothing>>(&self, values: &[&str]) -> Result<R::Reply, Failure> {
        self.call::<R>(values, &Nothing {}).await
    }

    /// The host that a person means: all 64 hexadecimal characters, or a beginning of its id.
    pub(crate) async fn host(&self, text: &str) -> Result<HostId, Failure> {
        if let Ok(id) = text.parse::<HostId>() {
            return Ok(id);
        }
        let hosts: Vec<HostId> = self.ask::<ListHosts>(&[]).await?.iter().map(|view| view.host).collect();
        named(&hosts, text).map_err(|what| Failure::new(Code::Refused, what))
    }
}

/// The one host whose short form or hexadecimal id begins with `text`. Names that hosts give themselves do not
/// count: a host could take another's.
pub(crate) fn named(hosts: &[HostId], text: &str) -> Result<HostId, String> {
    let text = text.to_ascii_lowercase();
    let short = if text.starts_with("h-") { text.clone() } else { format!("h-{text}") };
    let is_meant = |host: &HostId| host.to_string().starts_with(&short) || host.hex().starts_with(&text);
    let found: Vec<HostId> = hosts.iter().copied().filter(is_meant).collect();
    match found.as_slice() {
        _ if text.is_empty() || text == "h-" => Err("an empty host id: see `quotary host list`".to_owned()),
        [one] => Ok(*one),
        [] => Err(format!("no host's id begins with `{}`: see `quotary host list`", present::clean(&text))),
        several => {
            let names: Vec<String> = several.iter().take(4).map(ToString::to_string).collect();
            Err(format!("{} hosts' ids begin so ({}): give more of it", several.len(), names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::hosts::tests::host;

    #[test]
    fn a_host_is_named_by_a_beginning_that_only_it_has() {
        let hosts: Vec<HostId> = (0..40_u8).map(|n| host(n).host).collect();
        let first = hosts[0];
        assert_eq!(named(&hosts, &first.to_string()), Ok(first));
        assert_eq!(named(&hosts, &first.to_string()[2..12]), Ok(first));
        assert_eq!(named(&hosts, &first.to_string()[..12].to_uppercase()), Ok(first));
        assert_eq!(named(&hosts, &first.hex()[..20]), Ok(first));
        assert!(named(&hosts, "h-").is_err() && named(&hosts, "").is_err());
        assert!(named(&hosts, "h-0").is_err(), "0 is no base32 digit");
        // Forty ids share 32 first characters, so some beginning is not unique.
        let shared = hosts.iter().map(|h| h.to_string()[..3].to_owned());
        assert!(shared.into_iter().any(|text| named(&hosts, &text).is_err_and(|e| e.contains("give more"))));
    }
}
