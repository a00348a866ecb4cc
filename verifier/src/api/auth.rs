//! Rights: who a caller is, by the route's right and nothing else.

use std::sync::Arc;

use quotary_common::id::{Digest, TokenId};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::token::{operator, token_id};
use quotary_common::wire::Right;
use quotary_decide::registry::check_operator;

use super::App;
use crate::core::HostSnapshot;

/// What a request shows of its sender.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    /// SHA-256 of the SPKI of the connection's client key.
    pub(super) tls_key: Option<Digest>,
    /// The bearer token.
    pub(super) bearer: Option<String>,
}

/// A caller whose right holds.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Somebody with a client key; the join token stands in the body.
    Joiner(Digest),
    /// An enrolled host over its own key.
    Host(Arc<HostSnapshot>, Digest),
    /// A person, by the token that they hold.
    Operator(TokenId),
}

fn unauthorised(detail: &str) -> Refusal {
    Refusal::new(Reason::Unauthorised, detail)
}

/// Checks the route's right. `host` is what the path names, for the host's own routes.
///
/// # Errors
/// `unauthorised`, `forbidden`, `unknown-host` or `tls-key`.
pub(super) fn check(app: &App, right: Right, host: Option<&str>, credentials: &Credentials) -> Result<Caller, Refusal> {
    match right {
        Right::Join => client_key(credentials).map(Caller::Joiner),
        Right::Host => {
            let key = client_key(credentials)?;
            let named = host.and_then(|host| app.view.host_named(host));
            let snapshot =
                named.ok_or_else(|| Refusal::new(Reason::UnknownHost, "no such host: enrol it with a join token"))?;
            if snapshot.host.record.tls_key != key {
                let detail = "the connection's key is not the one that the host enrolled, or it was replaced since";
                return Err(Refusal::new(Reason::TlsKey, detail));
            }
            Ok(Caller::Host(snapshot, key))
        }
        Right::Read | Right::Audit | Right::Admin | Right::Change => {
            let text = credentials
                .bearer
                .as_deref()
                .ok_or_else(|| unauthorised("an operator token is needed: use `quotary login`"))?;
            let secret = operator::parse(text).map_err(|_| unauthorised("the bearer token is no operator token"))?;
            // Found by its hash: how long the look-up takes tells nothing of the secret.
            let id = token_id(&secret);
            let record = app.view.token(&id);
            check_operator(record.as_ref(), right, app.clock.now_ms()).map(|_| Caller::Operator(id))
        }
        Right::Peer => Err(Refusal::new(Reason::Forbidden, "this is a route of the agent's local socket")),
    }
}

fn client_key(credentials: &Credentials) -> Result<Digest, Refusal> {
    credentials.tls_key.ok_or_else(|| unauthorised("a TLS client certificate is needed"))
}
