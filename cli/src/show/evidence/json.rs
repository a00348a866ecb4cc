//! Evidence as JSON: the canonical forms are CBOR, so their names in JSON stand here.

use quotary_common::envelope::{ClaimedEnvelope, Envelope};
use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::tpm::Quote;
use serde_json::{Value, json};

/// All of it as JSON; digests and raw structures as hexadecimal text.
pub(super) fn whole(name: Digest, evidence: &Evidence, envelope: &ClaimedEnvelope, quote: &Quote<'_>) -> Value {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let pcrs = evidence.pcr_values.iter();
    json!({
        "evidence": name,
        "nonce": hex(&evidence.nonce),
        "attest": hex(&evidence.attest),
        "signature": hex(&evidence.signature),
        "quote": {
            "qualified_signer": hex(quote.qualified_signer),
            "extra_data": hex(quote.extra_data),
            "clock_ms": quote.clock.clock_ms,
            "reset_count": quote.clock.reset_count,
            "restart_count": quote.clock.restart_count,
            "safe": quote.clock.safe,
            "firmware_version": quote.firmware_version,
            "pcr_digest": hex(quote.pcr_digest),
        },
        "pcr_values": pcrs.map(|p| json!({"hash_alg": p.hash_alg, "index": p.index, "value": hex(&p.value)}))
            .collect::<Vec<_>>(),
        "envelope_digest": envelope.digest(),
        "envelope": claims(envelope.claims()),
    })
}

pub(super) fn claims(claims: &Envelope) -> Value {
    let controls = claims.backend.controls.iter();
    let mut all = json!({
        "deployment": claims.deployment,
        "host": claims.host,
        "boot_id": claims.boot_id,
        "sequence": claims.sequence,
        "predecessor": claims.predecessor,
        "tls_key": claims.tls_key,
        "checkpoint": claims.checkpoint,
        "agent_version": claims.agent_version,
        "built_at_ms": claims.built_at_ms,
        "backend": {
            "kind": claims.backend.kind,
            "mode": claims.backend.mode,
            "hierarchy": claims.backend.hierarchy,
            "controls": controls.map(|c| json!({"control": c.control, "support": c.support})).collect::<Vec<_>>(),
        },
        "facts": {
            "hostname": claims.facts.hostname,
            "kernel": claims.facts.kernel,
            "cpu_millicores": claims.facts.cpu_millicores,
            "memory_bytes": claims.facts.memory_bytes,
            "os": claims.facts.os,
        },
        "host_windows": claims.host_windows.to_vec(),
        "held": claims.held.to_vec(),
    });
    if let Value::Object(map) = &mut all {
        map.extend(lists(claims));
    }
    all
}

fn lists(claims: &Envelope) -> [(String, Value); 4] {
    let applications: Vec<Value> = claims
        .applications
        .iter()
        .map(|a| {
            json!({"cgroup": a.cgroup, "unit": a.unit, "uid": a.uid, "grant": a.grant, "windows": a.windows.to_vec()})
        })
        .collect();
    let events: Vec<Value> = claims
        .events
        .iter()
        .map(|e| json!({"kind": e.kind, "cgroup": e.cgroup, "count": e.count, "at_ms": e.at_ms}))
        .collect();
    let writes: Vec<Value> = claims
        .writes
        .iter()
        .map(|w| {
            json!({
                "plan": w.plan, "grant": w.grant, "cgroup": w.cgroup, "backend": w.backend, "control": w.control,
                "before": w.before, "after": w.after, "actual": w.actual, "effective": w.effective,
                "at_ms": w.at_ms, "dry_run": w.dry_run,
            })
        })
        .collect();
    let requests: Vec<Value> = claims
        .requests
        .iter()
        .map(|r| {
            json!({
                "id": r.id, "uid": r.uid, "gid": r.gid, "pid": r.pid, "start_time_ticks": r.start_time_ticks,
                "cgroup": r.cgroup, "unit": r.unit, "name": r.name, "class": r.class, "resources": r.resources,
            })
        })
        .collect();
    [("applications", applications), ("events", events), ("writes", writes), ("requests", requests)]
        .map(|(name, list)| (name.to_owned(), Value::Array(list)))
}
