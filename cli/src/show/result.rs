//! `quotary host result` and `quotary host revoke`

use data_encoding::BASE64URL_NOPAD;
use quotary_common::wire::{RevocationRequest, RevokeHost, ShowResult};

use crate::exit::{Code, Failure};
use crate::present;
use crate::session::Session;

/// Shows a host's attestation result: the JWT, and what it claims.
pub(crate) async fn one(session: &Session, host: &str, json: bool) -> Result<(), Failure> {
    let id = session.host(host).await?;
    let reply = session.ask::<ShowResult>(&[&id.hex()]).await?;
    if json {
        return present::json(&reply);
    }
    let claims = claims(&reply.ear)
        .ok_or_else(|| Failure::new(Code::Unreadable, "the verifier's attestation result is no JWT"))?;
    present::print(&present::outline(&claims))?;
    present::print(&format!("\n{}\n", present::clean(&reply.ear)))
}

/// The claims of a JWT, not checked: who needs them checked asks for the keys.
fn claims(jwt: &str) -> Option<serde_json::Value> {
    let payload = jwt.split('.').nth(1)?;
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?).ok()
}

/// Ends a host's trust.
pub(crate) async fn revoke(session: &Session, host: &str, why: String, json: bool) -> Result<(), Failure> {
    let id = session.host(host).await?;
    let reply = session.call::<RevokeHost>(&[&id.hex()], &RevocationRequest { why }).await?;
    if json {
        return present::json(&reply);
    }
    present::print(&format!(
        "{id} is revoked: its epoch is {}, its grants have ended. It may enrol again with a new join token.\n",
        reply.epoch
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_are_the_second_part() {
        let payload = BASE64URL_NOPAD.encode(br#"{"iat":1}"#);
        assert_eq!(claims(&format!("e30.{payload}.c2ln")), Some(serde_json::json!({ "iat": 1 })));
        assert_eq!(claims("nothing"), None);
    }
}
