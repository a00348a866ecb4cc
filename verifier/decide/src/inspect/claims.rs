//! An envelope's claims as JSON: the canonical form is CBOR with numbers for keys, so the names stand here, once.

use quotary_common::envelope::Envelope;
use serde_json::{Map, Value, json};

/// The claims under their names. Keys are only ever added; digests and ids are hexadecimal text.
pub fn claims_json(claims: &Envelope) -> Map<String, Value> {
    let controls = claims.backend.controls.iter();
    let all = json!({
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
    let mut map = if let Value::Object(map) = all { map } else { Map::new() };
    map.extend(lists(claims));
    map
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
