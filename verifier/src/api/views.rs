//! What operators see, and the tokens that they make.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::Name;
use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::sign::PublicKey;
use quotary_common::token::{JoinToken, operator, token_id};
use quotary_common::units::{ResourceKind, Resources};
use quotary_common::wire::{
    self, Base64, CheckpointView, EvidenceView, GrantView, HostView, Inventory, LeafView, Right, StatusView, TokenReply,
};
use quotary_decide::allocate::Entry;
use quotary_decide::registry::{TokenRecord, TokenScope};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::App;
use super::auth::Caller;
use super::mount::Call;
use crate::core::{Command, HostSnapshot, TileError, tables};
use crate::store::Partition;

pub(super) fn no_host(text: &str) -> Refusal {
    let shown: String = text.chars().take(80).collect();
    Refusal::new(Reason::NotFound, format!("no host `{shown}`: `quotary host list` shows them"))
}

pub(super) async fn hosts(call: Call<wire::ListHosts>) -> Result<Vec<HostView>, Refusal> {
    Ok(call.app.view.hosts().iter().map(|snapshot| host_view(&call.app, snapshot)).collect())
}

pub(super) async fn host(call: Call<wire::ShowHost>) -> Result<HostView, Refusal> {
    let name = call.path.first().map(String::as_str).unwrap_or_default();
    call.app.view.host_named(name).map(|snapshot| host_view(&call.app, &snapshot)).ok_or_else(|| no_host(name))
}

fn host_view(app: &App, snapshot: &HostSnapshot) -> HostView {
    let (record, progress) = (&snapshot.host.record, &snapshot.host.progress);
    let trusted = snapshot.host.is_trusted(app.clock.now_ms());
    let seen = progress.seen.as_ref();
    let warning = super::anomalies::warning(app, &record.host, app.clock.now_ms()).map(|warning| warning.code);
    let mut granted = Resources::default();
    for kind in ResourceKind::ALL {
        let amounts: Vec<u64> =
            snapshot.grants.iter().filter_map(|entry| entry.record.grant.resources.get(kind)).collect();
        granted.set(kind, (!amounts.is_empty()).then(|| amounts.iter().sum()));
    }
    HostView {
        host: record.host,
        id: record.host.to_string(),
        hostname: seen.map(|seen| seen.hostname.as_str().to_owned()),
        zone: progress.zone.as_ref().filter(|_| trusted).map(|zone| zone.as_str().to_owned()),
        zone_best: record.zone_best.as_str().to_owned(),
        tpm: snapshot.host.tpm().to_owned(),
        trusted,
        valid_until_ms: trusted.then_some(progress.valid_until_ms),
        sequence: progress.sequence,
        evidence: progress.evidence,
        evidence_at_ms: progress.evidence.map(|_| progress.committed_at_ms),
        epoch: progress.epoch,
        boot_id: seen.map(|seen| seen.boot_id),
        last_refusal: snapshot.tally.last_refusal(),
        findings: progress.findings.iter().map(|finding| finding.as_str().to_owned()).chain(warning).collect(),
        mode: seen.map(|seen| seen.mode),
        backend: seen.map(|seen| seen.backend),
        hierarchy: seen.map(|seen| seen.hierarchy),
        agent_version: seen.map(|seen| seen.agent_version.as_str().to_owned()),
        inventory: Inventory {
            labels: record.labels.iter().map(|(k, v)| (k.as_str().to_owned(), v.as_str().to_owned())).collect(),
            capacity: record.capacity,
        },
        granted,
        accepted: snapshot.tally.accepted.load(Ordering::Relaxed),
        refused: snapshot.tally.refused.load(Ordering::Relaxed),
    }
}

pub(super) async fn evidence(call: Call<wire::ShowEvidence>) -> Result<EvidenceView, Refusal> {
    let mut path = call.path.iter().map(String::as_str);
    let (name, digest) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
    let snapshot = call.app.view.host_named(name).ok_or_else(|| no_host(name))?;
    let host = snapshot.host.record.host;
    let digest = match digest {
        "latest" => snapshot.host.progress.evidence,
        text => text.parse::<Digest>().ok(),
    };
    let absent = || Refusal::new(Reason::NotFound, format!("no such evidence of {host} is kept"));
    let digest = digest.ok_or_else(absent)?;
    let reader = call.app.reader.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = reader
        .get(tables::EVIDENCE, Partition::of_host(&host), digest.as_bytes())
        .map_err(|error| store_failed(&error))?
        .ok_or_else(absent)?;
    let of_host = quotary_common::evidence::Evidence::from_bytes(&bytes)
        .ok()
        .and_then(|evidence| quotary_common::envelope::ClaimedEnvelope::parse(evidence.envelope).ok())
        .is_some_and(|envelope| envelope.claims().host == host);
    if !of_host {
        return Err(absent());
    }
    Ok(EvidenceView { digest, host, evidence: Base64(bytes) })
}

fn store_failed(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(%error, "a read failed");
    Refusal::new(Reason::Unavailable, "the store cannot be read now")
}

pub(super) async fn grants(call: Call<wire::ListGrants>) -> Result<Vec<GrantView>, Refusal> {
    let lease_ms = call.app.timing.lease_ms;
    let hosts = call.app.view.hosts();
    let views = hosts.iter().flat_map(|snapshot| {
        snapshot.grants.iter().map(move |Entry { record, fenced_until_ms }| GrantView {
            grant: record.grant.id,
            id: record.grant.id.to_string(),
            host: record.host,
            application: record.grant.application.as_str().to_owned(),
            tenant: record.grant.tenant.as_str().to_owned(),
            class: record.grant.class,
            resources: record.grant.resources,
            requested: record.requested,
            lease_ms,
            held_until_ms: fenced_until_ms.unwrap_or(snapshot.held_until_ms),
            revoked: fenced_until_ms.is_some(),
            epoch: record.epoch,
            why: record.why.as_str().to_owned(),
        })
    });
    Ok(views.collect())
}

pub(super) async fn status(call: Call<wire::ShowStatus>) -> Result<StatusView, Refusal> {
    let app = &call.app;
    let (now_ms, hosts, (accepted, refused)) = (app.clock.now_ms(), app.view.hosts(), app.view.counts());
    let hold_ms = app.timing.lease_ms.saturating_add(app.timing.lease_margin_ms);
    Ok(StatusView {
        deployment: app.deployment,
        verifier: app.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: app.clock.started_ms(),
        now_ms,
        hosts: hosts.len() as u64,
        hosts_trusted: hosts.iter().filter(|snapshot| snapshot.host.is_trusted(now_ms)).count() as u64,
        grants: hosts.iter().map(|snapshot| snapshot.grants.len() as u64).sum(),
        accepted,
        refused,
        audit: app.audit.checkpoint(),
        witnessed: app.view.witnessed(),
        model: super::models::forecasting(app),
        holds_until_ms: app.clock.started_ms().saturating_add(hold_ms),
        event_streams: app.streams.open() as u64,
        webhooks: app.webhooks.iter().map(|webhook| webhook.view(now_ms)).collect(),
    })
}

/// The longest that a token may hold: a year.
const TOKEN_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

fn malformed(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

fn name(what: &str, text: &str) -> Result<Name, Refusal> {
    Name::new(text)
        .filter(|name| !name.as_str().is_empty())
        .ok_or_else(|| malformed(format!("{what} must have 1 to 128 characters")))
}

async fn make(
    app: &App,
    caller: &Caller,
    valid_for_ms: u64,
    scope: TokenScope,
) -> Result<(Zeroizing<[u8; 32]>, TokenRecord), Refusal> {
    if !(1..=TOKEN_MS_MAX).contains(&valid_for_ms) {
        return Err(malformed(format!("valid_for_ms must be between 1 and {TOKEN_MS_MAX}")));
    }
    let Caller::Operator(maker) = caller else {
        return Err(Refusal::new(Reason::Forbidden, "tokens are made by operators"));
    };
    let mut secret = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(secret.as_mut())
        .map_err(|_| Refusal::new(Reason::Unavailable, "the random source failed"))?;
    let made_at_ms = app.clock.now_ms();
    let not_after_ms = made_at_ms.saturating_add(valid_for_ms);
    let record = TokenRecord { version: Version, id: token_id(&secret), made_at_ms, not_after_ms, scope };
    let (kept, actor) = (Box::new(record.clone()), format!("token {maker}"));
    app.queue.ask(|answer| Command::MakeToken { record: kept, actor, answer }).await?;
    Ok((secret, record))
}

pub(super) async fn join_token(call: Call<wire::MakeJoinToken>) -> Result<TokenReply, Refusal> {
    let (app, body) = (&call.app, &call.body);
    if !app.zones.contains(&body.zone) {
        return Err(malformed(format!("zone must be one of: {}", app.zones.join(", "))));
    }
    let labels = body.inventory.labels.iter().map(|(k, v)| Ok((name("a label", k)?, name("a label's value", v)?)));
    let labels = labels.collect::<Result<Vec<_>, Refusal>>()?;
    let scope = TokenScope::Join {
        zone_best: name("zone", &body.zone)?,
        labels: Bounded::new(labels).ok_or_else(|| malformed("at most 64 labels are allowed"))?,
        capacity: body.inventory.capacity,
        used_by: None,
    };
    let (secret, record) = make(app, &call.caller, body.valid_for_ms, scope).await?;
    let url = quotary_common::cbor::Text::new(&app.url)
        .ok_or_else(|| Refusal::new(Reason::Unavailable, "the verifier's url is too long"))?;
    let token = JoinToken {
        version: Version,
        verifier: url,
        ca_spki: app.ca_spki,
        root: PublicKey(app.root.0),
        secret: *secret,
    };
    Ok(TokenReply { id: record.id, token: token.to_text().to_string(), not_after_ms: record.not_after_ms })
}

pub(super) async fn operator_token(call: Call<wire::MakeOperatorToken>) -> Result<TokenReply, Refusal> {
    let body = &call.body;
    if body.rights.is_empty()
        || body.rights.iter().any(|right| !matches!(right, Right::Read | Right::Audit | Right::Admin | Right::Change))
    {
        return Err(malformed("rights must be among read, audit, admin, change, and at least one"));
    }
    let rights = body.rights.iter().map(|right| Name::lossy(right.name())).collect();
    let scope = TokenScope::Operator {
        name: name("name", &body.name)?,
        rights: Bounded::new(rights).ok_or_else(|| malformed("each right once"))?,
    };
    let (secret, record) = make(&call.app, &call.caller, body.valid_for_ms, scope).await?;
    Ok(TokenReply { id: record.id, token: operator::to_text(&secret).to_string(), not_after_ms: record.not_after_ms })
}

pub(super) async fn checkpoint(call: Call<wire::ShowCheckpoint>) -> Result<CheckpointView, Refusal> {
    let app = &call.app;
    Ok(CheckpointView { note: app.audit.note(), keys: Base64(app.certificate.clone()), root_key: app.root.hex() })
}

fn tile_refusal(error: &TileError) -> Refusal {
    match error {
        TileError::Absent => Refusal::new(Reason::NotFound, "the log does not have it (yet)"),
        TileError::Store(error) => store_failed(error),
    }
}

pub(super) async fn tile(call: Call<wire::ShowTile>) -> Result<Base64, Refusal> {
    let path = call.path.first().map(String::as_str).unwrap_or_default();
    // Tools ask below `tile/`; the parser wants the whole path.
    let path = format!("tile/{path}");
    call.app.audit.tile(&path).map(Base64).map_err(|error| tile_refusal(&error))
}

pub(super) async fn leaf(call: Call<wire::ShowLeaf>) -> Result<LeafView, Refusal> {
    let text = call.path.first().map(String::as_str).unwrap_or_default();
    let n = text.parse::<u64>().map_err(|_| malformed("a leaf has a number"))?;
    let leaf = call.app.audit.leaf(n).map_err(|error| tile_refusal(&error))?;
    Ok(LeafView { n, leaf: Base64(leaf) })
}
