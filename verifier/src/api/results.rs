//! Appraisals, attestation results and their keys, and the end of trust by an operator.

use data_encoding::BASE64URL_NOPAD;
use quotary_common::cbor::Text;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, AppraisalView, JwkSet, ResultReply, RevocationReply};
use quotary_decide::registry::Host;
use quotary_decide::result::{Issuer, ear_claims};
use serde_json::json;

use super::App;
use super::auth::Caller;
use super::mount::Call;
use super::views::no_host;
use crate::core::Command;

pub(super) async fn appraisal(call: Call<wire::ShowAppraisal>) -> Result<AppraisalView, Refusal> {
    let name = call.path.first().map(String::as_str).unwrap_or_default();
    let snapshot = call.app.view.host_named(name).ok_or_else(|| no_host(name))?;
    if let Some((at_ms, why)) = &snapshot.host.progress.revoked {
        return Ok(revoked(&snapshot.host, *at_ms, why.as_str()));
    }
    let none = "no evidence of this host was appraised since the verifier started: wait for its next";
    let view = snapshot.tally.appraisal().ok_or_else(|| Refusal::new(Reason::NotFound, none))?;
    let warning = super::anomalies::warning(&call.app, &snapshot.host.record.host, call.app.clock.now_ms());
    Ok(AppraisalView { findings: view.findings.into_iter().chain(warning).collect(), ..view })
}

/// What is to be said of a host that an operator revoked, whatever its last evidence showed.
fn revoked(host: &Host, at_ms: u64, why: &str) -> AppraisalView {
    let refusal = Refusal::new(
        Reason::Revoked,
        format!("an operator revoked the host: {why}; enrol it again with a new join token when it is sound"),
    );
    AppraisalView {
        host: host.record.host,
        at_ms,
        zone: None,
        zone_best: host.record.zone_best.as_str().to_owned(),
        failed: vec![(&refusal).into()],
        secure_boot: None,
        boot_log_evidence: None,
        ima_entries: None,
        ima_findings: None,
        findings: Vec::new(),
    }
}

pub(super) async fn result(call: Call<wire::ShowResult>) -> Result<ResultReply, Refusal> {
    let name = call.path.first().map(String::as_str).unwrap_or_default();
    let (app, snapshot) = (&call.app, call.app.view.host_named(name).ok_or_else(|| no_host(name))?);
    let issuer = Issuer { verifier: &app.name, version: env!("CARGO_PKG_VERSION"), now_ms: app.clock.now_ms() };
    let warning = super::anomalies::warning(app, &snapshot.host.record.host, issuer.now_ms);
    let warnings: Vec<&str> = warning.iter().map(|warning| warning.code.as_str()).collect();
    Ok(ResultReply { ear: signed_jwt(app, &ear_claims(&snapshot.host, &warnings, issuer)) })
}

/// A JWT in compact serialisation (RFC 7519, RFC 8037).
fn signed_jwt(app: &App, claims: &serde_json::Value) -> String {
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": key_id(app) });
    let part = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = app.result_key.sign_bare(signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// The key's thumbprint (RFC 7638): SHA-256 of its required members in lexicographic order.
fn key_id(app: &App) -> String {
    let x = BASE64URL_NOPAD.encode(&app.result_key.public().0);
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64URL_NOPAD.encode(&quotary_common::id::sha256(&[members.as_bytes()]))
}

pub(super) async fn keys(call: Call<wire::ShowResultKeys>) -> Result<JwkSet, Refusal> {
    let x = BASE64URL_NOPAD.encode(&call.app.result_key.public().0);
    let kid = key_id(&call.app);
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x });
    Ok(JwkSet { keys: vec![key] })
}

pub(super) async fn revoke(call: Call<wire::RevokeHost>) -> Result<RevocationReply, Refusal> {
    let name = call.path.first().map(String::as_str).unwrap_or_default();
    let snapshot = call.app.view.host_named(name).ok_or_else(|| no_host(name))?;
    let host = snapshot.host.record.host;
    let why = Text::new(&call.body.why).filter(|why| !why.as_str().trim().is_empty());
    let why = why.ok_or_else(|| Refusal::new(Reason::Malformed, "why must have 1 to 256 printable characters"))?;
    let Caller::Operator(token) = call.caller else {
        return Err(Refusal::new(Reason::Forbidden, "hosts are revoked by operators"));
    };
    let actor = format!("token {token}");
    let epoch = call.app.queue.ask(|answer| Command::Revoke { host, why, actor, answer }).await?;
    tracing::warn!(%host, epoch, "the host was revoked by an operator");
    Ok(RevocationReply { epoch })
}
