//! A leaf of the audit log as one line, and as JSON.

use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::leaf::{AuthoritySet, Decision, GrantChange, Granted, Leaf, Refused, Verdict};
use quotary_common::wire::AnomalyFindingView;
use quotary_decide::audit::kind_of;
use serde_json::{Value, json};

use crate::present;

/// What was decided, in a line.
pub(crate) fn summary(leaf: &Leaf) -> String {
    match &leaf.decision {
        Decision::Genesis(genesis) => format!("the log begins under root key {}", genesis.root.hex()),
        Decision::Enrolled(enrolled) => {
            let what = if enrolled.replaced { "enrolled again, with another attestation key" } else { "enrolled" };
            let issuer = enrolled.ek_issuer.as_ref().map_or("no EK certificate", |issuer| issuer.as_str());
            format!("{} {what}; {issuer}", enrolled.host)
        }
        Decision::Refused(refused) => refusal(refused),
        Decision::VerdictChanged(changed) => {
            let zone = |zone: &Option<_>| zone.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            let findings: Vec<&str> = changed.findings.iter().map(|reason| reason.code()).collect();
            let because = if findings.is_empty() { String::new() } else { format!(" ({})", findings.join(", ")) };
            format!("{}: zone {} → {}{because}", changed.verdict.host, zone(&changed.from), zone(&changed.to))
        }
        Decision::Verdicts(verdicts) => format!("{} evidences accepted, verdicts unchanged", verdicts.accepted.len()),
        Decision::Granted(granted) => grant(granted),
        Decision::EpochRaised(raised) => format!("{}: epoch {} ({})", raised.host, raised.epoch, raised.refusal),
        Decision::TokenMade(made) => format!("{} token {}: {}", made.what, made.token, made.scope),
        Decision::ZoneLearned(learned) => {
            format!("zone {} learned {} PCR values from {}", learned.zone, learned.values.len(), learned.verdict.host)
        }
        Decision::Started(started) => format!("verifier {} started", started.version),
        Decision::Planned(planned) => {
            let what = planned.what.as_ref().map(|what| format!(": {what}")).unwrap_or_default();
            format!("{} {}, {} of {}{what}", planned.plan, planned.change.name(), planned.target, planned.host)
        }
        Decision::Anomaly(anomaly) => super::anomalies::leaf(anomaly),
        Decision::ModelChanged(m) => format!("model {} {}: {}", m.name, m.change.name(), m.why),
        Decision::ChangeMoved(moved) => {
            let why = moved.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{}, {}: {}{why}", moved.change, subject(moved.what.as_str(), moved.name.as_str()), moved.state)
        }
        Decision::VoteCast(cast) => format!("{} of {} on {}", cast.verb, cast.person, cast.change),
        Decision::AuthoritySet(set) => {
            let authority = &set.authority;
            format!("roster {} and quorum rules {} are in force", authority.roster, authority.rules)
        }
        Decision::PolicyWatched(watched) => format!("{} of policy {}: {}", watched.what, watched.policy, watched.why),
    }
}

/// What a change is about: `alter policy gold`, `alter roster`.
pub(crate) fn subject(what: &str, name: &str) -> String {
    if what.ends_with(name) { what.to_owned() } else { format!("{what} {name}") }
}

fn refusal(refused: &Refused) -> String {
    let host = refused.host.map(|host| format!(" of {host}")).unwrap_or_default();
    let alike = if refused.count > 1 { format!(" ({} alike)", refused.count) } else { String::new() };
    format!("{}{host} refused: {}{alike}", refused.what, refused.refusal)
}

fn grant(granted: &Granted) -> String {
    let size = match granted.change {
        GrantChange::Given | GrantChange::Resized => format!(": {}", present::resources(&granted.resources)),
        GrantChange::Released | GrantChange::Expired | GrantChange::Revoked => String::new(),
    };
    format!("{} {}, {} of {}{size}", granted.grant, change(granted.change), granted.application, granted.tenant)
}

const fn change(change: GrantChange) -> &'static str {
    match change {
        GrantChange::Given => "given",
        GrantChange::Resized => "resized",
        GrantChange::Released => "released",
        GrantChange::Expired => "expired",
        GrantChange::Revoked => "revoked",
    }
}

/// The whole leaf.
pub(crate) fn json(number: u64, leaf: &Leaf) -> Value {
    json!({
        "leaf": number,
        "at_ms": leaf.at_ms,
        "at": present::time(leaf.at_ms),
        "actor": leaf.actor,
        "kind": kind_of(&leaf.decision),
        "decision": decision(&leaf.decision),
    })
}

fn decision(decision: &Decision) -> Value {
    match decision {
        Decision::Genesis(g) => json!({
            "root": g.root.hex(), "configuration": g.configuration, "authority": g.authority.as_ref().map(authority),
        }),
        Decision::Enrolled(e) => json!({
            "host": e.host, "ek_public": hex(&e.ek_public), "ak_public": hex(&e.ak_public), "tls_key": e.tls_key,
            "ek_issuer": e.ek_issuer, "token": e.token, "replaced": e.replaced, "epoch": e.epoch,
        }),
        Decision::Refused(r) => json!({
            "host": r.host, "what": r.what, "reason": r.refusal.reason, "detail": r.refusal.detail,
            "input": r.input, "request": r.request, "count": r.count,
        }),
        Decision::VerdictChanged(c) => json!({
            "verdict": verdict(&c.verdict), "from": c.from, "to": c.to, "findings": c.findings.to_vec(),
        }),
        Decision::Verdicts(v) => json!({"accepted": v.accepted.iter().map(verdict).collect::<Vec<_>>()}),
        Decision::Granted(g) => json!({
            "host": g.host, "grant": g.grant, "change": change(g.change), "application": g.application,
            "tenant": g.tenant, "class": g.class, "resources": g.resources, "input": g.input, "why": g.why, "model": g.model,
        }),
        Decision::EpochRaised(e) => json!({
            "host": e.host, "epoch": e.epoch, "reason": e.refusal.reason, "detail": e.refusal.detail, "input": e.input,
        }),
        Decision::TokenMade(t) => json!({
            "token": t.token, "what": t.what, "scope": t.scope, "not_after_ms": t.not_after_ms,
        }),
        Decision::ZoneLearned(z) => json!({
            "zone": z.zone, "verdict": verdict(&z.verdict),
            "values": z.values.iter().map(|v| json!({"hash_alg": v.hash_alg, "index": v.index, "value": hex(&v.value)}))
                .collect::<Vec<_>>(),
        }),
        Decision::Started(s) => json!({
            "version": s.version, "configuration": s.configuration, "witnessed": s.witnessed.as_ref().map(witnessed),
        }),
        Decision::Planned(p) => json!({
            "host": p.host, "plan": p.plan, "change": p.change, "target": p.target, "input": p.input, "what": p.what,
        }),
        Decision::Anomaly(a) => json!({
            "host": a.host, "sum": a.sum, "at_ms": a.at_ms, "continues": a.continues, "beyond": a.beyond, "input": a.input,
            "findings": a.findings.iter().map(AnomalyFindingView::from).collect::<Vec<_>>(),
        }),
        Decision::ModelChanged(m) => json!({
            "change": m.change.name(), "model": m.model, "name": m.name, "champion": m.champion, "input": m.input, "why": m.why,
        }),
        Decision::ChangeMoved(m) => json!({
            "change": m.change, "what": m.what, "name": m.name, "state": m.state, "text": m.text, "why": m.why,
        }),
        Decision::VoteCast(v) => json!({
            "change": v.change, "person": v.person, "verb": v.verb, "key": v.key, "text": v.text, "input": v.input,
        }),
        Decision::AuthoritySet(s) => authority(s),
        Decision::PolicyWatched(w) => json!({
            "policy": w.policy, "version": w.version, "what": w.what, "why": w.why, "draft": w.draft,
        }),
    }
}

fn verdict(verdict: &Verdict) -> Value {
    json!({"host": verdict.host, "sequence": verdict.sequence, "evidence": verdict.evidence})
}

fn witnessed(checkpoint: &WitnessedCheckpoint) -> Value {
    json!({"size": checkpoint.size, "root": checkpoint.root})
}

fn authority(set: &AuthoritySet) -> Value {
    let authority = &set.authority;
    json!({"number": authority.number, "roster": authority.roster, "rules": authority.rules, "input": set.input})
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use quotary_common::cbor::{Bounded, Text, Version};
    use quotary_common::id::{ChangeId, DeploymentId, Digest, GrantId, HostId};
    use quotary_common::leaf::{ChangeMoved, Genesis, VoteCast};
    use quotary_common::quorum::authority::Authority;
    use quotary_common::quorum::vote::Verb;
    use quotary_common::reason::{Reason, Refusal};
    use quotary_common::sign::PublicKey;
    use quotary_common::units::{Class, Resources};

    fn leaf(decision: Decision) -> Leaf {
        Leaf { version: Version, at_ms: 1_000, actor: Text::lossy("verifier"), decision }
    }

    #[test]
    fn a_refusal_names_host_reason_and_how_many() {
        let refused = Refused {
            host: Some(HostId::of(&[b"h"])),
            what: Text::lossy("evidence"),
            refusal: Refusal::new(Reason::NonceExpired, "too old"),
            input: Digest::of(&[]),
            request: None,
            count: 3,
        };
        let leaf = leaf(Decision::Refused(refused));
        let line = summary(&leaf);
        assert!(
            line.starts_with("evidence of h-") && line.ends_with("refused: nonce-expired: too old (3 alike)"),
            "{line}"
        );
        let json = json(7, &leaf);
        assert_eq!((&json["leaf"], &json["kind"]), (&Value::from(7), &Value::from("refused")));
        assert_eq!(json["decision"]["reason"], "nonce-expired");
    }

    #[test]
    fn a_grants_end_shows_no_size() {
        let mut granted = Granted {
            host: HostId::of(&[b"h"]),
            grant: GrantId::of(&[b"g"]),
            change: GrantChange::Given,
            application: Text::lossy("web"),
            tenant: Text::lossy("shop"),
            class: Class::Burstable,
            resources: Resources { cpu_millicores: Some(500), ..Resources::default() },
            input: Digest::of(&[]),
            why: None,
            model: None,
        };
        assert!(summary(&leaf(Decision::Granted(granted.clone()))).ends_with("given, web of shop: cpu 500m"));
        granted.change = GrantChange::Released;
        assert!(summary(&leaf(Decision::Granted(granted))).ends_with("released, web of shop"));
    }

    #[test]
    fn a_change_that_moved_says_what_it_does_where_it_stands_and_why() {
        let mut moved = ChangeMoved {
            change: ChangeId::of(&[b"c"]),
            what: Text::lossy("alter policy"),
            name: Text::lossy("gold"),
            state: Text::lossy("rejected"),
            text: Digest::of(&[b"text"]),
            why: Some(Text::lossy("by carol")),
        };
        let leaf_of = |moved: &ChangeMoved| leaf(Decision::ChangeMoved(moved.clone()));
        let line = summary(&leaf_of(&moved));
        assert_eq!(line, format!("{}, alter policy gold: rejected: by carol", moved.change));
        let json = json(3, &leaf_of(&moved));
        assert_eq!((&json["kind"], &json["decision"]["state"]), (&"change-moved".into(), &"rejected".into()));
        assert_eq!(json["decision"]["text"], moved.text.hex());
        (moved.what, moved.name, moved.why) = (Text::lossy("alter roster"), Text::lossy("roster"), None);
        assert_eq!(summary(&leaf_of(&moved)), format!("{}, alter roster: rejected", moved.change));
    }

    #[test]
    fn a_vote_says_whose_it_is_and_on_what() {
        let cast = VoteCast {
            change: ChangeId::of(&[b"c"]),
            person: Text::lossy("alice"),
            verb: Verb::BreakGlass,
            key: Digest::of(&[b"key"]),
            text: Digest::of(&[b"text"]),
            input: Digest::of(&[b"signature"]),
        };
        let leaf = leaf(Decision::VoteCast(cast.clone()));
        assert_eq!(summary(&leaf), format!("break-glass of alice on {}", cast.change));
        let json = json(4, &leaf);
        assert_eq!((&json["kind"], &json["decision"]["verb"]), (&"vote-cast".into(), &"break-glass".into()));
        assert_eq!(
            (&json["decision"]["key"], &json["decision"]["input"]),
            (&cast.key.hex().into(), &cast.input.hex().into())
        );
    }

    #[test]
    fn who_decides_is_named_by_digests_in_genesis_and_in_a_leaf_of_its_own() {
        let set = AuthoritySet {
            authority: Authority {
                version: Version,
                deployment: DeploymentId::of(&[b"d"]),
                number: 2,
                roster: Digest::of(&[b"roster"]),
                rules: Digest::of(&[b"rules"]),
            },
            input: Digest::of(&[b"signed"]),
        };
        let own = leaf(Decision::AuthoritySet(set.clone()));
        let line = summary(&own);
        assert!(line.starts_with("roster x-") && line.ends_with(" are in force"), "{line}");
        let told = json(5, &own);
        assert_eq!((&told["kind"], &told["decision"]["number"]), (&"authority-set".into(), &2.into()));
        assert_eq!(told["decision"]["roster"], set.authority.roster.hex());
        let root = PublicKey([7; 32]);
        let genesis = Genesis { root, configuration: Digest::of(&[b"c"]), authority: Some(set.clone()) };
        let told = json(0, &leaf(Decision::Genesis(genesis)));
        assert_eq!(told["decision"]["authority"]["rules"], set.authority.rules.hex());
    }

    #[test]
    fn a_batch_is_counted_and_listed_whole_in_json() {
        let one = Verdict { host: HostId::of(&[b"h"]), sequence: 4, evidence: Digest::of(&[b"e"]) };
        let leaf = leaf(Decision::Verdicts(quotary_common::leaf::Verdicts {
            accepted: Bounded::new(vec![one.clone(), one]).unwrap(),
        }));
        assert!(summary(&leaf).starts_with("2 evidences"));
        assert_eq!(json(0, &leaf)["decision"]["accepted"][1]["sequence"], 4);
    }
}
